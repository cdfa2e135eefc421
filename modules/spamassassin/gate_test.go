package spamassassin

import (
	"strings"
	"sync"
	"testing"
	"time"

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
	if err := s.client.gate.Enter(t.Context(), network); err != nil {
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
	s.client.gate.Leave()
	tx := newTransaction(t, letter)
	chained.Run(t.Context(), mail.StageData, tx)
	if e := tx.Entries[0]; e.Note != "" || !strings.HasPrefix(e.Reason, "score 1") {
		t.Errorf("after the crowd: %+v", e)
	}
}
