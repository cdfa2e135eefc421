package chain_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// TestTally: a backend that is away for a hundred messages is logged when it goes
// and when it comes back, and each message is counted.
func TestTally(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	log := zap.New(core)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	away := false
	s := step("scan", mail.AtData, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) {
		now = now.Add(3 * time.Millisecond)
		if away {
			return mail.Verdict{}, errors.New("dial 192.0.2.1:3310: connection refused")
		}
		return mail.Continue("clean"), nil
	}))
	s.Tally = chain.NewTally("mx", "scan", "clamav", log)
	c := chain.New([]*chain.Step{s}, chain.Options{Logger: log, Now: func() time.Time { return now }})
	run := func(n int, isAway bool) {
		away = isAway
		for range n {
			c.Run(t.Context(), mail.StageData, newTransaction())
		}
	}
	run(10, false)
	run(100, true)
	h := s.Tally.Health()
	if !h.Failing || h.LastError == "" || h.Since.IsZero() {
		t.Errorf("while it is away the health is %+v", h)
	}
	run(5, false)
	run(3, true) // soon after: not logged again
	run(1, false)
	if got := logs.FilterMessage("handler gave no verdict").Len(); got != 1 {
		t.Errorf("%d lines about errors, want 1", got)
	}
	if got := logs.FilterMessage("handler answers again").All(); len(got) != 1 || got[0].ContextMap()["errors"] != uint64(100) {
		t.Errorf("lines about the return: %v", got)
	}
	got := s.Tally.Counts()
	if got.Errors != 103 || got.Passed != 103 || got.Calls != 119 || got.Verdicts[mail.StageData][mail.ActionContinue] != 16 {
		t.Errorf("counts are %+v", got)
	}
	if got.Buckets[3] != 119 || got.Duration != 119*3*time.Millisecond {
		t.Errorf("times are %v, %s in all", got.Buckets, got.Duration)
	}
	if h := s.Tally.Health(); h.Failing || h.LastError == "" {
		t.Errorf("when all is well again the health is %+v", h)
	}
}

// TestTallyOfALongOutage: an outage that begins soon after another has its line
// too, once it is no flapping any more.
func TestTallyOfALongOutage(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	log := zap.New(core)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	away := true
	s := step("scan", mail.AtData, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) {
		now = now.Add(time.Second)
		if away {
			return mail.Verdict{}, errors.New("away")
		}
		return mail.Continue("clean"), nil
	}))
	s.Tally = chain.NewTally("mx", "scan", "clamav", log)
	c := chain.New([]*chain.Step{s}, chain.Options{Logger: log, Now: func() time.Time { return now }})
	for i := range 1000 {
		away = i < 3 || i > 5
		c.Run(t.Context(), mail.StageData, newTransaction())
	}
	if got := logs.FilterMessage("handler gave no verdict").Len(); got != 2 {
		t.Errorf("%d lines about two outages, want 2", got)
	}
	away = false
	c.Run(t.Context(), mail.StageData, newTransaction())
	if got := logs.FilterMessage("handler answers again").Len(); got != 2 {
		t.Errorf("%d lines about their ends, want 2", got)
	}
}
