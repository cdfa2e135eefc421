package bruteforce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// What is known outlives a restart: failures, known networks, locks, and how
// often there was a block.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), coretest.NewClock(start)
	s := serve(t, options{dir: dir, clock: c})
	restart := func() {
		t.Helper()
		s.flush()
		s.stop()
		s = serve(t, options{dir: dir, clock: c})
	}
	s.want(0, atHome, alice, right)
	for i := range 19 {
		s.want(535, bot(i), alice, wrong)
	}
	s.fails(4, attacker, bob)
	c.Add(time.Second)
	restart()
	s.want(535, attacker, bob, wrong)
	s.want(421, attacker, bob, wrong)
	s.want(535, bot(19), alice, wrong)
	s.want(535, cafe, alice, right) // locked
	restart()
	s.want(421, attacker, bob, wrong)
	s.want(535, cafe, alice, right)
	s.want(0, atHome, alice, right)
	if locks := s.locks(); len(locks) != 1 || locks[0].Account != alice || locks[0].Evidence == "" {
		t.Errorf("locks after a restart: %+v", locks)
	}
	c.Add(time.Hour)
	restart()
	// The failures that led to the block count no more, but the next is longer.
	s.fails(5, attacker, bob)
	if b := s.why(attacker); len(b) != 1 || b[0].Expires.Sub(c.Now()) != 2*time.Hour {
		t.Errorf("second block: %+v", b)
	}
	s.want(0, cafe, alice, right)
	c.Add(30 * 24 * time.Hour)
	restart()
	if !s.service.known.empty(alice, seconds(c.Now())) {
		t.Error("a network is known after 30 days")
	}
}

// judge answers at the auth stage with what a test wants.
type judge struct {
	verdict mail.Verdict
	err     error
}

func (j judge) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return j.verdict, j.err
}

// Only a handler that finds credentials wrong makes a failure.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	reply := func(code int) mail.Verdict { return mail.Reject(mail.NewReply(code, 7, 8, "No"), "") }
	tests := map[string]struct {
		judge   judge
		onError chain.Policy
		addr    string
		when    func(*mail.Transaction) (bool, error)
		want    bool
	}{
		"wrong credentials":        {judge: judge{verdict: reply(535)}, want: true},
		"wrong second factor":      {judge: judge{verdict: reply(535)}, want: true},
		"deferred":                 {judge: judge{verdict: mail.Defer(mail.NewReply(454, 7, 0, "Later"), "")}},
		"too many logins":          {judge: judge{verdict: mail.Defer(mail.NewReply(421, 7, 0, "Later"), "")}},
		"blocked by another":       {judge: judge{verdict: reply(554)}},
		"second factor is needed":  {judge: judge{verdict: reply(534)}},
		"broken, passed over":      {judge: judge{err: errors.New("broken")}},
		"broken, deferred":         {judge: judge{err: errors.New("broken")}, onError: chain.PolicyDefer},
		"broken, rejected":         {judge: judge{err: errors.New("broken")}, onError: chain.PolicyReject},
		"nobody vouches":           {judge: judge{}},
		"exempt":                   {judge: judge{verdict: reply(535)}, addr: "192.0.2.99"},
		"no address":               {judge: judge{verdict: reply(535)}, addr: "none"},
		"handler is skipped":       {judge: judge{verdict: reply(535)}, when: func(*mail.Transaction) (bool, error) { return false, nil }},
		"exempt, in form of IPv6":  {judge: judge{verdict: reply(535)}, addr: "::ffff:192.0.2.99"},
		"counted, in form of IPv6": {judge: judge{verdict: reply(535)}, addr: "::ffff:198.51.100.66", want: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, options{settings: `exempt = ["192.0.2.96/28"]`})
			s.steps[0].When = tt.when
			s.steps[1] = &chain.Step{Name: "judge", Handler: tt.judge, Stages: mail.AtAuth, OnError: tt.onError}
			s.chain = chain.New(s.steps, chain.Options{})
			addr := tt.addr
			switch addr {
			case "":
				addr = attacker
			case "none":
				addr = ""
			}
			for range 6 {
				s.auth(addr, alice, wrong)
			}
			single, _, err := s.blocks.Blocks(t.Context(), control.Page{})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(single) == 1; got != tt.want {
				t.Errorf("blocked: %v, want %v", got, tt.want)
			}
			for n, src := range s.service.failures.sources {
				if src.pending != 0 || !tt.want {
					t.Errorf("%s is left with %d events and %d pending", n, len(src.events), src.pending)
				}
			}
		})
	}
}

// In monitor mode the trace says what would be, and nothing is in force.
func TestMonitor(t *testing.T) {
	t.Parallel()
	s := serve(t, options{monitor: true})
	s.want(0, atHome, alice, right)
	s.fails(30, attacker, alice)
	for i := range 30 {
		s.want(535, bot(i), alice, wrong)
	}
	got := s.auth(attacker, alice, right)
	if got.Refused() || !strings.Contains(got.own(), "198.51.100.66/32 is blocked until 2026-11-20T13:00:00Z: 5 failed logins") {
		t.Errorf("blocked network: %v, %q", got.Reply, got.own())
	}
	if got := s.auth("198.51.100.77", alice, wrong); got.Handler != "password" || !strings.Contains(got.own(), "is locked until") {
		t.Errorf("locked account: %q, %q", got.Handler, got.own())
	}
	if got := s.auth(atHome, alice, right); got.Refused() || got.own() != "no failed logins from 192.0.2.10/32 in 15m, the limit is 15; no lock of account alice@example.test holds there" {
		t.Errorf("owner: %v, %q", got.Reply, got.own())
	}
	if len(s.why(attacker)) != 0 || len(s.locks()) != 0 || s.rows("blocklist") != 0 || s.rows("bruteforce_lock") != 0 {
		t.Errorf("in force: blocks %+v, locks %+v", s.why(attacker), s.locks())
	}
	if n := s.rows("bruteforce_offence"); n != 0 {
		t.Errorf("%d offences are on record", n)
	}
}

// A block that cannot be written is tried again, and the log has it once.
func TestBlockCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	broken := &brokenBlocks{blocker: s.handler.blocks}
	s.handler.blocks = broken
	s.fails(5, attacker, alice)
	if broken.calls != 1 || !s.handler.unwritten.Load() {
		t.Errorf("%d calls, unwritten %v", broken.calls, s.handler.unwritten.Load())
	}
	s.want(454, attacker, alice, right) // the failures in memory suffice
	s.clock.Add(15 * time.Minute)
	s.handler.blocks = broken.blocker
	s.fails(5, attacker, alice)
	if len(s.why(attacker)) != 1 || s.handler.unwritten.Load() {
		t.Errorf("after the repair: %+v", s.why(attacker))
	}
}

type brokenBlocks struct {
	blocker
	calls int
}

func (b *brokenBlocks) AddBlock(context.Context, control.Block) error {
	b.calls++
	return errors.New("disk is full")
}

// A flood of failures from elsewhere does not make the server forget those of an
// attacker, nor what is known of an owner.
func TestFloodForgetsNobody(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	const limit = 1000
	s.service.failures.max = limit
	s.want(0, atHome, alice, right)
	s.fails(4, attacker, bob)
	for i := range 50 * limit {
		a := attempt{account: fmt.Sprintf("user%d@example.test", i), network: networkOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32, 64)}
		s.service.failures.add(a.network, event{account: a.account, at: seconds(s.clock.Now())})
	}
	if n, m := len(s.service.failures.sources), len(s.service.failures.targets); n > limit || m > limit {
		t.Errorf("%d networks and %d accounts are kept, the limit is %d", n, m, limit)
	}
	s.want(535, attacker, bob, wrong)
	if len(s.why(attacker)) != 1 {
		t.Error("the flood has washed the attacker clean")
	}
	s.want(0, atHome, alice, right)
	// Once they are a day old, new ones push them out.
	s.clock.Add(day)
	for i := range limit {
		s.service.failures.add(networkOf(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 32, 64), event{account: alice, at: seconds(s.clock.Now())})
	}
	old := 0
	for _, src := range s.service.failures.sources {
		if src.weight(seconds(s.clock.Now())) == 0 {
			old++
		}
	}
	if old > limit/100 {
		t.Errorf("%d entries of yesterday are kept", old)
	}
}

// Many connections at once do not get more passwords checked than a few times the
// limit, and there is one block.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.accounts.wait, s.accounts.settled = make(chan struct{}), make(chan struct{}, 400)
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := make(map[int]int)
	for range 200 {
		wg.Go(func() {
			a := s.auth(attacker, alice, wrong)
			mu.Lock()
			codes[a.Reply.Code]++
			mu.Unlock()
			s.accounts.settled <- struct{}{}
		})
	}
	for range 200 { // each is refused, or waits for its check
		<-s.accounts.settled
	}
	close(s.accounts.wait)
	wg.Wait()
	if diff := cmp.Diff(map[int]int{535: 20, 454: 180}, codes); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if n := s.rows("bruteforce_offence"); n != 1 || len(s.why(attacker)) != 1 {
		t.Errorf("%d offences, blocks %+v", n, s.why(attacker))
	}
	if src := s.service.failures.sources[networkOf(netip.MustParseAddr(attacker), 32, 64)]; src != nil && src.pending != 0 {
		t.Errorf("%d logins are pending in the end", src.pending)
	}
}

// Everything at once, for the race detector; the owners get in all the time.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := serve(t, options{dir: t.TempDir()})
	s.want(0, atHome, alice, right)
	s.want(0, cafe, bob, right)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				s.login(bot(w*50+i), alice, wrong)
				s.login(attacker, fmt.Sprintf("user%d@example.test", i), wrong)
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if code := s.login(atHome, alice, right); code != 0 {
				t.Errorf("alice at home: %d", code)
			}
			if code := s.login(cafe, bob, right); code != 0 {
				t.Errorf("bob in the cafe: %d", code)
			}
			s.service.Measure()
			s.locks()
		}
	})
	wg.Wait()
	if len(s.locks()) != 1 || len(s.why(attacker)) != 1 {
		t.Errorf("locks %+v, blocks %+v", s.locks(), s.why(attacker))
	}
}

func TestUnlock(t *testing.T) {
	t.Parallel()
	s := serve(t, options{dir: t.TempDir()})
	for _, user := range []string{alice, bob} {
		s.want(0, atHome, user, right)
		for i := range 20 {
			s.want(535, bot(i), user, wrong)
		}
		s.clock.Add(time.Minute)
	}
	var names []string
	for p := (control.Page{Limit: 1}); ; {
		list, next, err := s.service.Locks(t.Context(), p)
		if err != nil || len(list) > 1 {
			t.Fatalf("%d locks, %v", len(list), err)
		}
		for _, l := range list {
			names = append(names, l.Account)
		}
		if p.After = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{alice, bob}, names); diff != "" {
		t.Errorf("locked (-want +got):\n%s", diff)
	}
	s.want(535, cafe, alice, right)
	if err := s.service.Unlock(t.Context(), "Alice@Example.Test"); err != nil {
		t.Fatal(err)
	}
	s.want(0, cafe, alice, right)
	s.want(535, cafe, bob, right)
	if err := s.service.Unlock(t.Context(), alice); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unlock of an open account: %v", err)
	}
	for i := range 20 {
		s.want(535, bot(100+i), alice, wrong)
	}
	for _, l := range s.locks() {
		if l.Account == alice && l.Expires.Sub(s.clock.Now()) != time.Hour {
			t.Errorf("lock after an unlock: %+v", l)
		}
	}
	s.clock.Add(time.Hour)
	if locks := s.locks(); len(locks) != 0 {
		t.Errorf("locks after their end: %+v", locks)
	}
}

// A removed block is over, and what led to it counts no more.
func TestBlockIsRemoved(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.fails(5, attacker, alice)
	s.want(421, attacker, alice, right)
	if _, err := s.blocks.RemoveBlock(t.Context(), netip.MustParsePrefix(attacker+"/32")); err != nil {
		t.Fatal(err)
	}
	s.fails(4, attacker, alice)
	s.want(0, attacker, alice, right)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := serve(t, options{dir: t.TempDir()})
	s.want(0, atHome, alice, right)
	for i := range 20 {
		s.want(535, bot(i), alice, wrong)
	}
	s.fails(5, attacker, bob)
	s.flush()
	sweep := func(after time.Duration) (removed int) {
		t.Helper()
		err := s.sandbox.Store().Write(t.Context(), func(tx *store.Tx) (err error) {
			for {
				n, err := s.service.Sweep(tx, start.Add(after), 7)
				if removed += n; err != nil || n < 7 {
					return err
				}
				if n > 7 {
					t.Fatalf("swept %d, the limit is 7", n)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	steps := []struct {
		after time.Duration
		want  int
		what  string
	}{
		{time.Minute, 0, "nothing"},
		{time.Hour, 1, "the lock"},
		{day, 25, "the failures"},
		{quiet + time.Hour, 2, "the offences"},
		{knownFor, 1, "the known network"},
		{knownFor, 0, "nothing"},
	}
	for _, step := range steps {
		if n := sweep(step.after); n != step.want {
			t.Errorf("after %s: swept %d rows, want %d: %s", step.after, n, step.want, step.what)
		}
	}
	if k := s.service.known; len(k.homes) != 0 || len(k.networks) != 0 || len(s.service.locks) != 0 {
		t.Errorf("in memory are %d homes, %d networks, %d locks", len(k.homes), len(k.networks), len(s.service.locks))
	}
}

// Of one account the newest networks are known.
func TestKnownIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	for i := range maxKnown + 5 {
		s.want(0, bot(i), alice, right)
		s.clock.Add(time.Minute)
	}
	if n := s.rows("bruteforce_known"); n != maxKnown || len(s.service.known.homes[alice]) != maxKnown {
		t.Errorf("%d rows, %d in memory, want %d", n, len(s.service.known.homes[alice]), maxKnown)
	}
	for i, want := range map[int]bool{0: false, 4: false, 5: true, maxKnown + 4: true} {
		if got := s.service.known.has(alice, homeOf(netip.MustParseAddr(bot(i))), seconds(s.clock.Now())); got != want {
			t.Errorf("network %d is known: %v, want %v", i, got, want)
		}
	}
}

// A network is known for 30 days from the last login on.
func TestKnownEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	s.clock.Add(knownFor - time.Hour)
	s.want(0, cafe, alice, right)
	lock := func() {
		t.Helper()
		for i := range 20 {
			s.want(535, bot(i), alice, wrong)
		}
		if len(s.locks()) != 1 {
			t.Fatal("the account is not locked")
		}
	}
	lock()
	s.clock.Add(time.Hour - time.Second)
	s.want(0, cafe, alice, right)
	s.clock.Add(time.Second)
	lock()
	s.want(535, atHome, alice, right)
	s.want(0, cafe, alice, right)
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	s := serve(t, options{settings: "ipv4_prefix = 24\nipv6_prefix = 48"})
	s.want(0, "198.51.100.1", alice, right)
	for i := range 5 {
		s.want(535, fmt.Sprintf("198.51.100.%d", 10+i), bob, wrong)
		s.want(535, fmt.Sprintf("2001:db8:1:%x::1", i), bob, wrong)
	}
	s.want(421, "198.51.100.200", bob, right)
	s.want(421, "2001:db8:1:ffff::1", bob, right)
	s.want(0, "198.51.100.1", alice, right)
	s.want(0, "198.51.101.1", bob, right)
	s.want(0, "2001:db8:2::1", bob, right)
}

// A lock holds for a proof as for a password, without a hash for it.
func TestLockedProof(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	for i := range 20 {
		s.want(535, bot(i), alice, wrong)
	}
	checks := s.accounts.checks.Load()
	got := s.run(mail.StageAuth, cafe, &mail.Credentials{Mechanism: "SCRAM-SHA-256", Username: alice, Proof: goodProof{}})
	if got.Reply.Code != 535 || s.accounts.checks.Load() != checks {
		t.Errorf("answer %v after %d checks", got.Reply, s.accounts.checks.Load()-checks)
	}
	if got := s.run(mail.StageAuth, atHome, &mail.Credentials{Mechanism: "SCRAM-SHA-256", Username: alice, Proof: goodProof{}}); got.Refused() {
		t.Errorf("proof from a known network: %v", got.Reply)
	}
	s.accounts.fail.Store(true)
	if got := s.auth(cafe, alice, right); got.Reply != temporary {
		t.Errorf("accounts that break down: %v, want what the check of a password says", got.Reply)
	}
}

type goodProof struct{}

func (goodProof) Verify(_, _ []byte) bool { return true }
