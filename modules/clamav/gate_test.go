package clamav

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
	c := newHandler(fake(t, respond("stream: OK\x00")), func(c *ClamAV) { c.MaxConnections = 1 })
	step := &chain.Step{
		Name: "clamav", Handler: c, Stages: mail.AtData, Timeout: 4 * time.Second, Breaker: chain.NewBreaker("clamav", nil),
	}
	chained := chain.New([]*chain.Step{step}, chain.Options{})
	if err := c.client.gate.Enter(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			o := chained.Run(t.Context(), mail.StageData, newTransaction(t, plain("Hello\r\n")))
			if want := mail.NewReply(451, 3, 2, "Virus scanner is busy, try again later"); o.Reply != want || !strings.Contains(o.Reason, "max_connections") {
				t.Errorf("got %v, %q; want %v", o.Reply, o.Reason, want)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("waited for %s, want a quarter of the time limit", took)
	}
	c.client.gate.Leave()
	tx := newTransaction(t, plain("Hello\r\n"))
	chained.Run(t.Context(), mail.StageData, tx)
	if e := tx.Entries[0]; e.Note != "" || !strings.HasPrefix(e.Reason, "clean") {
		t.Errorf("after the crowd: %+v", e)
	}
}
