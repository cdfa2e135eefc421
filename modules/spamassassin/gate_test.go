package spamassassin

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

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// TestCongestionIsNoFailure: messages that wait too long are deferred, whatever
// on_error is, and do not rest the handler.
func TestCongestionIsNoFailure(t *testing.T) {
	t.Parallel()
	s := newHandler(fake(t, respond(answerOf("1.0"))), func(s *SpamAssassin) { s.MaxConnections = 1 })
	step := &chain.Step{
		Name: "spamassassin", Handler: s, Stages: mail.AtData, Timeout: 2 * time.Second, Breaker: chain.NewBreaker("spamassassin", nil),
	}
	chained := chain.New([]*chain.Step{step}, chain.Options{})
	if err := s.client.gate.enter(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			o := chained.Run(t.Context(), mail.StageData, newTransaction(t, letter))
			if want := mail.NewReply(451, 3, 2, "Spam filter is busy, try again later"); o.Reply != want || !strings.Contains(o.Reason, "max_connections") {
				t.Errorf("got %v, %q; want %v", o.Reply, o.Reason, want)
			}
		})
	}
	wg.Wait()
	s.client.gate.leave()
	tx := newTransaction(t, letter)
	chained.Run(t.Context(), mail.StageData, tx)
	if e := tx.Entries[0]; e.Note != "" || !strings.HasPrefix(e.Reason, "score 1") {
		t.Errorf("after the crowd: %+v", e)
	}
	if g := s.client.gate; g.taken != 0 || len(g.turns) != 0 || len(g.waiting) != 0 {
		t.Errorf("left behind: %d slots, turns %v, waiting %v", g.taken, g.turns, g.waiting)
	}
}

// TestGateTakesTurns: one client's many messages do not keep the others waiting.
func TestGateTakesTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		if err := g.enter(t.Context(), network); err != nil {
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
				if err := g.enter(ctx, from); err != nil {
					if from != gone || !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v", from, err)
					}
					return
				}
				order = append(order, from.Addr().String())
				time.Sleep(time.Second) //nolint:forbidigo // the clock is synctest's
				g.leave()
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		g.leave()
		wg.Wait()
		if diff := cmp.Diff([]string{"192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.1"}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if g.taken != 0 || len(g.turns) != 0 || len(g.waiting) != 0 {
			t.Errorf("left behind: %d slots, turns %v, waiting %v", g.taken, g.turns, g.waiting)
		}
	})
}
