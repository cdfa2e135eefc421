package bruteforce

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// An owner who has mistyped too often is let in again by the operator, for good.
func TestUnlockEndsTheWait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, options{dir: dir})
	s.want(0, atHome, alice, right)
	s.want(0, atHome, bob, right)
	s.fails(15, atHome, alice)
	s.fails(15, atHome, bob)
	s.want(454, atHome, alice, right)
	if err := s.service.Unlock(t.Context(), "Alice@Example.Test"); err != nil {
		t.Fatal(err)
	}
	if err := s.service.Unlock(t.Context(), alice); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unlocked again: %v", err)
	}
	s.stop()
	s = serve(t, options{dir: dir, clock: s.clock})
	s.want(0, atHome, alice, right)
	s.want(454, atHome, bob, right)
	// What has failed longer ago than counts is no reason to find anything.
	s.clock.Add(25 * time.Hour)
	if err := s.service.Unlock(t.Context(), bob); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unlocked a day later: %v", err)
	}
}

// What was forgotten of an account counts for no lock either.
func TestUnlockForgetsEveryNetwork(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	for i := range 19 {
		s.want(535, bot(i), alice, wrong)
	}
	if err := s.service.Unlock(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	for i := range 19 {
		s.want(535, bot(i), alice, wrong)
	}
	s.want(0, cafe, alice, right)
	if n := s.rows("bruteforce_failure"); n != 19 {
		t.Errorf("%d failures are kept, want 19", n)
	}
}

// A network that waits is shown, and waits no more once it is taken from the
// blocklist.
func TestNetworkThatWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, options{dir: dir, settings: "ipv6_prefix = 56\nusernames = 250"})
	const home, network = "2001:db8::1", "2001:db8::/56"
	s.want(0, home, alice, right)
	for range 15 {
		s.want(535, home, alice, wrong)
		s.clock.Add(10 * time.Second)
	}
	list := s.why("2001:db8::77")
	if len(list) != 1 || list[0].Network.String() != network || !list[0].Expires.Equal(start.Add(15*time.Minute)) {
		t.Fatalf("waits: %+v", list)
	}
	if list := s.why("2001:db8:0:1::1"); len(list) != 0 {
		t.Errorf("another home in the same network waits: %+v", list)
	}
	s.want(454, home, alice, right)
	if _, err := s.blocks.RemoveBlock(t.Context(), netip.MustParsePrefix("2001:db8::/64")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another network removed: %v", err)
	}
	if n, err := s.blocks.RemoveBlock(t.Context(), netip.MustParsePrefix(network)); n != 0 || err != nil {
		t.Fatalf("%d blocks removed, %v", n, err)
	}
	if list := s.why(home); len(list) != 0 {
		t.Errorf("waits still: %+v", list)
	}
	s.stop()
	s = serve(t, options{dir: dir, clock: s.clock})
	s.want(0, home, alice, right)
}

// Who waits is shown as long as the handler that lets him wait is started, and
// acts.
func TestWaitsAsTheHandlersSay(t *testing.T) {
	t.Parallel()
	s := serve(t, options{settings: `exempt = ["192.0.2.10"]`})
	s.want(0, cafe, alice, right)
	for range 2 { // as another listener would count
		for range 8 {
			s.service.failed(attempt{account: alice, network: networkOf(netip.MustParseAddr(cafe), 32, 64), home: homeOf(netip.MustParseAddr(cafe))}, s.handler.limits, false, start)
		}
	}
	if list := s.why(cafe); len(list) != 1 || list[0].Reason != "16 failed logins of alice@example.test in 15m, the limit is 15" {
		t.Errorf("waits: %+v", list)
	}
	if list := s.why(atHome); len(list) != 0 {
		t.Errorf("an exempt network waits: %+v", list)
	}
	s.handler.monitor.Store(true)
	if list := s.why(cafe); len(list) != 0 {
		t.Errorf("waits for a handler in monitor mode: %+v", list)
	}
	s.handler.monitor.Store(false)
	if err := s.handler.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if list := s.why(cafe); len(list) != 0 {
		t.Errorf("waits for a handler that has gone: %+v", list)
	}
}

// An app password cannot be guessed, so that the owner's programs get in from a
// network of his where he has mistyped his own too often. Nobody else gains by it.
func TestAppPasswordsWhileTheOwnerWaits(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	s.want(0, atHome, bob, right)
	s.fails(15, atHome, alice)
	s.want(454, atHome, alice, right)
	s.want(454, atHome, alice, wrong)
	s.want(535, atHome, alice, "mlx-guess")
	for range 3 { // whose logins do not give a guesser beside it more attempts
		s.want(0, atHome, alice, phone)
		s.want(454, atHome, alice, right)
	}
	s.clock.Add(time.Hour)
	s.fails(1, atHome, alice)
	s.want(0, atHome, alice, right)

	// Strangers wait, whatever their passwords look like.
	s.fails(5, attacker, bob)
	s.want(421, attacker, alice, phone)
	if got := s.auth(attacker, alice, phone); got.Reply.Code != 454 {
		t.Errorf("app password from a blocked network: %v", got.Reply)
	}

	// Guesses of that form end as well.
	codes := make(map[int]int)
	for range 100 {
		codes[s.auth(atHome, alice, "mlx-guess").Reply.Code]++
	}
	if diff := cmp.Diff(map[int]int{535: 60, 454: 40}, codes); diff != "" {
		t.Errorf("answers to guesses (-want +got)\n%s", diff)
	}
	// A proof shows no form.
	s.clock.Add(time.Hour)
	s.fails(15, atHome, alice)
	proof := &mail.Credentials{Mechanism: "SCRAM-SHA-256", Username: alice, Password: phone, Proof: goodProof{}}
	if got := s.run(mail.StageAuth, atHome, proof); got.Reply.Code != 454 {
		t.Errorf("proof: %v", got.Reply)
	}
}
