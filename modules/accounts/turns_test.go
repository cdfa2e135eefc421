package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefix(t *testing.T, s string) netip.Prefix {
	t.Helper()
	return networkOf(netip.MustParseAddr(s))
}

// TestTurnsAreFair has many wait in one network and few in others: each line and in
// it each network has its turn.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		turns.welcome(prefix(t, "203.0.113.7"))
		for _, address := range []string{"203.0.113.8", "192.0.2.1", "198.51.100.1"} {
			turns.suspect(prefix(t, address))
		}
		if err := turns.take(t.Context(), netip.Prefix{}); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 16)
		wait := func(name, address string) {
			from := prefix(t, address)
			go func() {
				if err := turns.take(t.Context(), from); err != nil {
					t.Error(err)
				}
				order <- name
			}()
			synctest.Wait()
		}
		for i := range 4 {
			wait(fmt.Sprintf("a%d", i), fmt.Sprintf("192.0.2.%d", i))
		}
		wait("b0", "198.51.100.1")
		wait("b1", "198.51.100.2")
		wait("new", "2001:db8::1")
		wait("owner0", "203.0.113.7")
		wait("owner1", "203.0.113.200")
		var got []string
		for range 9 {
			turns.give()
			synctest.Wait()
			got = append(got, <-order)
		}
		want := []string{"owner0", "a0", "new", "owner1", "b0", "a1", "b1", "a2", "a3"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		turns.give()
		if turns.free != 1 || len(turns.lines[lineNew].networks)+len(turns.lines[lineGood].networks)+len(turns.lines[lineBad].networks) != 0 {
			t.Errorf("%d turns free, lines %+v", turns.free, turns.lines)
		}
	})
}

// TestTurnsOfThoseWhoLeft finds that whoever no longer waits neither takes a turn
// nor leaves anything behind.
func TestTurnsOfThoseWhoLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		if err := turns.take(t.Context(), netip.Prefix{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 8)
		for i := range cap(left) {
			go func() { left <- turns.take(ctx, prefix(t, fmt.Sprintf("192.0.%d.1", i%3))) }()
		}
		synctest.Wait()
		cancel()
		for range cap(left) {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}
		if l := turns.lines[0]; l.order.Len() != 0 || len(l.networks) != 0 {
			t.Errorf("%d networks wait, %d in order", len(l.networks), l.order.Len())
		}
		turns.give()
		if turns.free != 1 {
			t.Errorf("%d turns free", turns.free)
		}
	})
}

// TestTurnComesAsItsWaiterLeaves hands a turn to somebody whose time is over.
func TestTurnComesAsItsWaiterLeaves(t *testing.T) {
	t.Parallel()
	for range 200 {
		turns := newTurns(1)
		if err := turns.take(t.Context(), netip.Prefix{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() { got <- turns.take(ctx, netip.Prefix{}) }()
		go cancel()
		turns.give()
		if err := <-got; err == nil {
			turns.give()
		}
		if turns.free != 1 {
			t.Fatalf("%d turns free", turns.free)
		}
		cancel()
	}
}

func TestKnownIsBounded(t *testing.T) {
	t.Parallel()
	turns := newTurns(1)
	for i := range 2 * maxKnown {
		turns.welcome(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		turns.suspect(netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24))
	}
	if turns.lineOf(netip.Prefix{}) != lineGood || len(turns.known[lineGood]) != maxKnown || len(turns.known[lineBad]) != maxKnown || len(turns.known[lineNew]) != 0 {
		t.Errorf("%d good networks, %d bad, %d new", len(turns.known[lineGood]), len(turns.known[lineBad]), len(turns.known[lineNew]))
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	turns := newTurns(1)
	home, abroad := prefix(t, "192.0.2.1"), prefix(t, "2001:db8::1")
	turns.welcome(home)
	turns.suspect(home)
	turns.suspect(abroad)
	if turns.lineOf(home) != lineGood || turns.lineOf(abroad) != lineBad || turns.lineOf(prefix(t, "198.51.100.1")) != lineNew {
		t.Error("a network stands in the wrong line")
	}
	if turns.welcome(abroad); turns.lineOf(abroad) != lineGood {
		t.Error("a network stands in the wrong line after a login")
	}
}

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
	} {
		if got := networkOf(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if got := networkOf(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: %s", got)
	}
}

// TestTurnsRest finds that the share of the machine which guessing takes is bounded
// on machines of all sizes, and that accepted logins need no rest.
func TestTurnsRest(t *testing.T) {
	t.Parallel()
	for _, processors := range []int{1, 2, 3, 4, 7, 8, 64} {
		h := newHasher(cheap, processors)
		busy := float64(h.turns.free) / (1 + h.rest)
		if share := busy / float64(processors); share > maxWaste*1.001 {
			t.Errorf("%d processors: guessing takes %.2f of them", processors, share)
		}
		if h.turns.free > max(1, processors/2) {
			t.Errorf("%d processors: %d hash at a time", processors, h.turns.free)
		}
	}
	h := newHasher(cheap, 2)
	h.rest = float64(time.Hour) // times any time at all
	hash, err := h.hash(t.Context(), netip.Prefix{}, "right")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		found, err := h.verify(t.Context(), netip.Prefix{}, hash, "right")
		if !found.ok || err != nil {
			t.Fatal(found.ok, err)
		}
		found.release()
		found.release()
		if h.turns.free != 1 {
			t.Fatalf("%d turns free", h.turns.free)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, password := range []string{"right", "wrong"} {
		h.turns = newTurns(1)
		if found, err := h.verify(t.Context(), netip.Prefix{}, hash, password); found.ok != (password == "right") || err != nil {
			t.Fatal(found.ok, err)
		}
		if _, err := h.verify(ended, netip.Prefix{}, hash, "right"); !errors.Is(err, context.Canceled) {
			t.Errorf("there is a turn right after a %s password: error %v", password, err)
		}
	}
}
