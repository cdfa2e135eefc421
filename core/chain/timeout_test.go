package chain_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// hangs answers nothing until it has to end.
func hangs(ctx context.Context, _ *mail.Transaction) (mail.Verdict, error) {
	<-ctx.Done()
	return mail.Verdict{}, fmt.Errorf("scan: %w", ctx.Err())
}

// opaque ends with an error that does not tell why.
func opaque(ctx context.Context, _ *mail.Transaction) (mail.Verdict, error) {
	<-ctx.Done()
	return mail.Verdict{}, errors.New("connection closed")
}

// TestNoAnswerInTime tells what is broken from what hangs, each of which has a
// setting of its own.
func TestNoAnswerInTime(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	connecting := fmt.Errorf("connect: %w", context.DeadlineExceeded)
	reading := fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	tests := map[string]struct {
		handler   handler
		onError   chain.Policy
		onTimeout *chain.Policy
		monitor   bool
		target    bool
		note      string
		action    mail.Action
	}{
		"hangs, as on_error":               {hangs, chain.PolicyDefer, nil, false, false, chain.NoteTimeout, mail.ActionDefer},
		"hangs, continue":                  {hangs, chain.PolicyReject, new(chain.PolicyContinue), false, false, chain.NoteTimeout, mail.ActionContinue},
		"hangs, defer":                     {hangs, chain.PolicyContinue, new(chain.PolicyDefer), false, false, chain.NoteTimeout, mail.ActionDefer},
		"hangs, reject":                    {hangs, chain.PolicyContinue, new(chain.PolicyReject), false, false, chain.NoteTimeout, mail.ActionReject},
		"does not say that its time is up": {opaque, chain.PolicyContinue, new(chain.PolicyDefer), false, false, chain.NoteTimeout, mail.ActionDefer},
		"broken":                           {fails(refused), chain.PolicyContinue, new(chain.PolicyReject), false, false, chain.NoteError, mail.ActionContinue},
		"broken, strict":                   {fails(refused), chain.PolicyDefer, new(chain.PolicyContinue), false, false, chain.NoteError, mail.ActionDefer},
		"a limit of its own":               {fails(connecting), chain.PolicyContinue, new(chain.PolicyDefer), false, false, chain.NoteTimeout, mail.ActionDefer},
		"a limit of a connection":          {fails(reading), chain.PolicyContinue, new(chain.PolicyDefer), false, false, chain.NoteTimeout, mail.ActionDefer},
		"monitored":                        {hangs, chain.PolicyReject, new(chain.PolicyReject), true, false, chain.NoteTimeout, mail.ActionContinue},
		"a target is never passed over":    {hangs, chain.PolicyDefer, new(chain.PolicyContinue), false, true, chain.NoteTimeout, mail.ActionDefer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := step("a", mail.AtMail, tt.handler)
				s.Timeout, s.OnError, s.OnTimeout = 3*time.Second, tt.onError, tt.onTimeout
				s.Monitor, s.Target = tt.monitor, tt.target
				tx := newTransaction()
				o := chain.New([]*chain.Step{s}, chain.Options{}).Run(t.Context(), mail.StageMail, tx)
				if e := tx.Entries[0]; o.Action != tt.action || e.Note != tt.note || e.Action != tt.action || e.Reason == "" {
					t.Errorf("got %v and the entry %+v, want %v with the note %q", o.Action, e, tt.action, tt.note)
				}
			})
		})
	}
}

// The deadline of the stage counts as the handler's own; a client that hangs up is
// no timeout, also when the handler would have had more time.
func TestWhoseTimeIsUp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		note string
	}{
		"stage": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, chain.NoteTimeout},
		"client": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, chain.NoteError},
	}
	for name, tt := range tests {
		for kind, h := range map[string]handler{"plain": hangs, "opaque": opaque} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := tt.ctx(t.Context())
					defer cancel()
					s := step("a", mail.AtMail, h)
					s.Timeout, s.OnTimeout = time.Minute, new(chain.PolicyReject)
					tx := newTransaction()
					chain.New([]*chain.Step{s}, chain.Options{}).Run(ctx, mail.StageMail, tx)
					if e := tx.Entries[0]; e.Note != tt.note {
						t.Errorf("the entry is %+v, want the note %q", e, tt.note)
					}
				})
			})
		}
	}
}

// TestRestAfterTimeouts holds what the last error before the rest means, so that a
// handler which hangs does not let pass what on_timeout holds, and the other way round.
func TestRestAfterTimeouts(t *testing.T) {
	t.Parallel()
	refused := fails(errors.New("connection refused"))
	tests := map[string]struct {
		first, last handler
		want        mail.Action
		setting     string
	}{
		"hangs":             {hangs, hangs, mail.ActionReject, "on_timeout"},
		"broken":            {refused, refused, mail.ActionDefer, "on_error"},
		"hangs at last":     {refused, hangs, mail.ActionReject, "on_timeout"},
		"is gone at last":   {hangs, refused, mail.ActionDefer, "on_error"},
		"client in between": {hangs, fails(context.Canceled), mail.ActionReject, "on_timeout"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answer := tt.first
				s := step("clamav", mail.AtData, handler(func(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) { return answer(ctx, tx) }))
				s.Timeout, s.OnError, s.OnTimeout = time.Second, chain.PolicyDefer, new(chain.PolicyReject)
				s.Breaker = chain.NewBreaker("clamav", nil)
				core, log := observer.New(zap.DebugLevel)
				c := chain.New([]*chain.Step{s}, chain.Options{Logger: zap.New(core)})
				run := func() (mail.Action, mail.Entry) {
					tx := newTransaction()
					o := c.Run(t.Context(), mail.StageData, tx)
					return o.Action, tx.Entries[0]
				}
				for range 4 {
					run()
				}
				answer = tt.last
				run()
				answer = tt.first
				for !s.Breaker.Resting() {
					run()
				}
				action, e := run()
				if action != tt.want || e.Note != chain.NoteResting || !strings.HasPrefix(e.Reason, "resting after repeated errors") {
					t.Errorf("at rest it means %v: %+v, want %v", action, e, tt.want)
				}
				last := log.All()[log.Len()-1].ContextMap()
				if diff := cmp.Diff(map[bool]string{true: "reject", false: "defer"}[tt.setting == "on_timeout"], last[tt.setting]); diff != "" {
					t.Errorf("the log has %v", last)
				}
			})
		})
	}
}
