package backend

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var network = netip.MustParsePrefix("192.0.2.1/32")

// TestGateTakesTurns: one client's many messages do not keep the others waiting.
func TestGateTakesTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("clamd", 1)
		if err := g.Enter(t.Context(), network); err != nil {
			t.Fatal(err)
		}
		other, gone := netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("192.0.2.3/32")
		cancelled, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var order []string
		for _, from := range []netip.Prefix{network, network, gone, network, other} {
			wg.Go(func() {
				ctx := t.Context()
				if from == gone {
					ctx = cancelled
				}
				if err := g.Enter(ctx, from); err != nil {
					if from != gone || !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v", from, err)
					}
					return
				}
				order = append(order, from.Addr().String())
				time.Sleep(time.Second) //nolint:forbidigo // the clock is synctest's
				g.Leave()
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		g.Leave()
		wg.Wait()
		if diff := cmp.Diff([]string{"192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.1"}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if g.taken != 0 || len(g.turns) != 0 || len(g.waiting) != 0 {
			t.Errorf("left behind: %d slots, turns %v, waiting %v", g.taken, g.turns, g.waiting)
		}
	})
}

// TestBusy: who waits for longer than a quarter of his time is told who is busy.
func TestBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("clamd", 1)
		if err := g.Enter(t.Context(), network); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		began := time.Now()
		err := g.Enter(ctx, network)
		if took := time.Since(began); !errors.Is(err, ErrBusy) || took != 10*time.Second || !strings.HasPrefix(err.Error(), "clamd is busy: none of its 1 connections") {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Address{
		"unix:/run/clamd.ctl": {"unix", "/run/clamd.ctl"},
		"tcp:127.0.0.1:3310":  {"tcp", "127.0.0.1:3310"},
		"tcp:[::1]:783":       {"tcp", "[::1]:783"},
		"unix:":               {},
		"tcp:127.0.0.1":       {},
		"tcp::783":            {},
		"udp:127.0.0.1:1":     {},
		"":                    {},
	} {
		var got Address
		err := got.UnmarshalText([]byte(text))
		if got != want || (err == nil) != (want != Address{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if err == nil && got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
	long := Address{"unix", "/" + strings.Repeat("x", 107)}
	if long.Fault() == "" || (Address{"unix", "/x"}).Fault() != "" {
		t.Error("a socket path of 108 bytes is taken, or a short one is not")
	}
	relative := Address{"unix", "clamd.ctl"}
	relative.Resolve(func(p string) string { return "/etc/" + p })
	if relative.Name != "/etc/clamd.ctl" {
		t.Errorf("resolved to %s", relative)
	}
}
