package chain_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// handler is a handler whose answer the test writes.
type handler func(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error)

func (h handler) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	return h(ctx, tx)
}

func says(v mail.Verdict) handler {
	return func(context.Context, *mail.Transaction) (mail.Verdict, error) { return v, nil }
}

func fails(err error) handler {
	return func(context.Context, *mail.Transaction) (mail.Verdict, error) { return mail.Verdict{}, err }
}

// target takes every recipient and delivers.
func target(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage == mail.StageData {
		for _, r := range tx.Envelope.Recipients {
			r.Delivered = true
		}
	}
	return mail.Accept("taken"), nil
}

func step(name string, stages mail.Stages, h chain.Handler) *chain.Step {
	return &chain.Step{Name: name, Position: "test.hcl:1", Stages: stages, Handler: h}
}

func deliver() *chain.Step {
	s := step("deliver", mail.AtRcpt|mail.AtData, handler(target))
	s.Target = true
	return s
}

func newTransaction() *mail.Transaction {
	session := &mail.Session{ID: "s1", Protocol: mail.ProtocolSMTP, Listener: "mx", RemoteAddr: netip.MustParseAddrPort("192.0.2.1:1234")}
	return mail.NewTransaction("t1", session, time.Unix(0, 0))
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// handlers lists who was asked.
func handlers(tx *mail.Transaction) []string {
	var names []string
	for _, e := range tx.Entries {
		name := e.Handler
		if e.Note != "" {
			name += " " + e.Note
		}
		names = append(names, name)
	}
	return names
}

func TestRunVerdicts(t *testing.T) {
	t.Parallel()
	reject := mail.Reject(mail.NewReply(550, 7, 1, "No"), "bad")
	later := mail.Defer(mail.NewReply(451, 7, 1, "Later"), "greylisted")
	broken := errors.New("backend is down")
	with := func(s *chain.Step, change func(*chain.Step)) *chain.Step { change(s); return s }
	tests := map[string]struct {
		steps   []*chain.Step
		action  mail.Action
		handler string
		asked   []string
		code    int
	}{
		"all continue":      {[]*chain.Step{step("a", mail.AtMail, says(mail.Continue("")))}, mail.ActionContinue, "", []string{"a"}, 0},
		"order of the file": {[]*chain.Step{step("b", mail.AtMail, says(mail.Continue(""))), step("a", mail.AtMail, says(mail.Continue("")))}, mail.ActionContinue, "", []string{"b", "a"}, 0},
		"other stages":      {[]*chain.Step{step("a", mail.AtRcpt, says(reject))}, mail.ActionContinue, "", nil, 0},
		"reject ends":       {[]*chain.Step{step("a", mail.AtMail, says(reject)), step("b", mail.AtMail, says(mail.Continue("")))}, mail.ActionReject, "a", []string{"a"}, 550},
		"defer ends":        {[]*chain.Step{step("a", mail.AtMail, says(later)), step("b", mail.AtMail, says(reject))}, mail.ActionDefer, "a", []string{"a"}, 451},
		"accept skips":      {[]*chain.Step{step("a", mail.AtMail, says(mail.Accept("known"))), step("b", mail.AtMail, says(reject))}, mail.ActionAccept, "a", []string{"a"}, 0},
		"usual reply":       {[]*chain.Step{step("a", mail.AtMail, says(mail.Verdict{Action: mail.ActionReject}))}, mail.ActionReject, "a", []string{"a"}, 550},
		"fails open":        {[]*chain.Step{step("a", mail.AtMail, fails(broken)), step("b", mail.AtMail, says(mail.Continue("")))}, mail.ActionContinue, "", []string{"a error", "b"}, 0},
		"on_error defer": {
			[]*chain.Step{with(step("a", mail.AtMail, fails(broken)), func(s *chain.Step) { s.OnError = chain.PolicyDefer })},
			mail.ActionDefer, "a",
			[]string{"a error"},
			451,
		},
		"on_error reject": {
			[]*chain.Step{with(step("a", mail.AtMail, fails(broken)), func(s *chain.Step) { s.OnError = chain.PolicyReject })},
			mail.ActionReject, "a",
			[]string{"a error"},
			550,
		},
		"panic is an error": {
			[]*chain.Step{step("a", mail.AtMail, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) { panic("oh") }))},
			mail.ActionContinue, "",
			[]string{"a error"},
			0,
		},
		"monitor": {
			[]*chain.Step{with(step("a", mail.AtMail, says(reject)), func(s *chain.Step) { s.Monitor = true }), step("b", mail.AtMail, says(mail.Continue("")))},
			mail.ActionContinue, "",
			[]string{"a monitor", "b"},
			0,
		},
		"monitored error": {
			[]*chain.Step{with(step("a", mail.AtMail, fails(broken)), func(s *chain.Step) { s.Monitor, s.OnError = true, chain.PolicyReject })},
			mail.ActionContinue, "",
			[]string{"a error"},
			0,
		},
		"when false": {[]*chain.Step{with(step("a", mail.AtMail, says(reject)), func(s *chain.Step) {
			s.When = func(*mail.Transaction) (bool, error) { return false, nil }
		})}, mail.ActionContinue, "", []string{"a skipped"}, 0},
		"when fails": {[]*chain.Step{with(step("a", mail.AtMail, says(reject)), func(s *chain.Step) {
			s.When, s.OnError = func(*mail.Transaction) (bool, error) { return false, broken }, chain.PolicyDefer
		})}, mail.ActionDefer, "a", []string{"a error"}, 451},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := newTransaction()
			o := chain.New(tt.steps, chain.Options{}).Run(t.Context(), mail.StageMail, tx)
			if o.Action != tt.action || o.Handler != tt.handler || o.Reply.Code != tt.code {
				t.Errorf("got %v by %q with %d, want %v by %q with %d", o.Action, o.Handler, o.Reply.Code, tt.action, tt.handler, tt.code)
			}
			if diff := cmp.Diff(tt.asked, handlers(tx)); diff != "" {
				t.Errorf("handlers asked (-want +got):\n%s", diff)
			}
		})
	}
}

// What no handler has refused must still have somebody who takes it.
func TestRunRefusesWhatNobodyTakes(t *testing.T) {
	t.Parallel()
	t.Run("recipient without target", func(t *testing.T) {
		t.Parallel()
		tx := newTransaction()
		tx.Recipient = &mail.Recipient{Address: address(t, "a@example.net")}
		o := chain.New([]*chain.Step{step("a", mail.AtRcpt, says(mail.Accept("")))}, chain.Options{}).Run(t.Context(), mail.StageRcpt, tx)
		if o.Reply.String() != "550 5.7.1 Relaying denied" {
			t.Errorf("got %v", o.Reply)
		}
	})
	t.Run("login that nobody vouches for", func(t *testing.T) {
		t.Parallel()
		o := chain.New(nil, chain.Options{}).Run(t.Context(), mail.StageAuth, newTransaction())
		if o.Reply.Code != 535 {
			t.Errorf("got %v", o.Reply)
		}
	})
	t.Run("message that a target forgot", func(t *testing.T) {
		t.Parallel()
		s := deliver()
		s.Handler = says(mail.Accept("I forgot"))
		tx := newTransaction()
		tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "deliver"}}
		o := chain.New([]*chain.Step{s}, chain.Options{}).Run(t.Context(), mail.StageData, tx)
		if o.Action != mail.ActionDefer || o.Reply.Code != 451 {
			t.Errorf("got %v %v", o.Action, o.Reply)
		}
	})
	t.Run("target that fails", func(t *testing.T) {
		t.Parallel()
		s := deliver()
		s.Handler = fails(&mail.ReplyError{Reply: mail.NewReply(452, 3, 1, "Full"), Cause: errors.New("no space left")})
		tx := newTransaction()
		tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "deliver"}}
		o := chain.New([]*chain.Step{s}, chain.Options{}).Run(t.Context(), mail.StageData, tx)
		if o.Reply.Code != 452 || !o.Refused() {
			t.Errorf("got %v %v", o.Action, o.Reply)
		}
	})
}

func TestRunDiscard(t *testing.T) {
	t.Parallel()
	tx := newTransaction()
	tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "deliver"}}
	c := chain.New([]*chain.Step{step("sink", mail.AtData, says(mail.Discard("a trap"))), deliver()}, chain.Options{})
	o := c.Run(t.Context(), mail.StageData, tx)
	if o.Action != mail.ActionDiscard || o.Refused() || !tx.Discarded() {
		t.Errorf("got %v, refused %v, discarded %v", o.Action, o.Refused(), tx.Discarded())
	}
	if diff := cmp.Diff([]string{"sink"}, handlers(tx)); diff != "" {
		t.Errorf("handlers asked (-want +got):\n%s", diff)
	}
}

func TestRunQuarantineGoesOn(t *testing.T) {
	t.Parallel()
	tx := newTransaction()
	tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "deliver"}}
	c := chain.New([]*chain.Step{step("spam", mail.AtData, says(mail.Quarantine("scores 7"))), deliver()}, chain.Options{})
	if o := c.Run(t.Context(), mail.StageData, tx); o.Refused() || tx.Quarantined() != "scores 7" {
		t.Errorf("got %v, quarantined %q", o, tx.Quarantined())
	}
}

// A module that gives no reason quarantines all the same.
func TestRunQuarantineWithoutReason(t *testing.T) {
	t.Parallel()
	tx := newTransaction()
	tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "deliver"}}
	c := chain.New([]*chain.Step{step("spam", mail.AtData, says(mail.Quarantine(""))), deliver()}, chain.Options{})
	if o := c.Run(t.Context(), mail.StageData, tx); o.Refused() || tx.Quarantined() == "" {
		t.Errorf("got %v, quarantined %q", o, tx.Quarantined())
	}
}

// The first by file order wins, however long each takes.
func TestParallelIsDeterministic(t *testing.T) {
	t.Parallel()
	second := make(chan struct{})
	slow := handler(func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		<-second
		tx.AddHeaderField("X-Slow", "1")
		return mail.Reject(mail.NewReply(550, 7, 1, "Slow"), ""), nil
	})
	quick := handler(func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		defer close(second)
		tx.AddHeaderField("X-Quick", "1")
		return mail.Defer(mail.NewReply(451, 7, 1, "Quick"), ""), nil
	})
	block := &chain.Step{Parallel: []*chain.Step{step("slow", mail.AtData, slow), step("quick", mail.AtData, quick)}}
	tx := newTransaction()
	o := chain.New([]*chain.Step{block}, chain.Options{}).Run(t.Context(), mail.StageData, tx)
	if o.Handler != "slow" || o.Reply.Text != "Slow" {
		t.Errorf("won by %q: %v", o.Handler, o.Reply)
	}
	if diff := cmp.Diff([]string{"slow", "quick"}, handlers(tx)); diff != "" {
		t.Errorf("handlers asked (-want +got):\n%s", diff)
	}
}

func TestTimeoutReachesTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := step("slow", mail.AtData, handler(func(ctx context.Context, _ *mail.Transaction) (mail.Verdict, error) {
			<-ctx.Done()
			return mail.Verdict{}, ctx.Err()
		}))
		s.Timeout, s.OnError = 3*time.Second, chain.PolicyDefer
		began := time.Now()
		o := chain.New([]*chain.Step{s}, chain.Options{}).Run(t.Context(), mail.StageData, newTransaction())
		if took := time.Since(began); took != 3*time.Second || o.Reply.Code != 451 {
			t.Errorf("took %v, got %v", took, o.Reply)
		}
	})
}

func TestBreakerRestsAndTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var down atomic.Bool
		down.Store(true)
		s := step("clamav", mail.AtData, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) {
			calls.Add(1)
			if down.Load() {
				return mail.Verdict{}, errors.New("connection refused")
			}
			return mail.Continue("clean"), nil
		}))
		s.OnError, s.Breaker = chain.PolicyDefer, chain.NewBreaker("clamav", nil)
		c := chain.New([]*chain.Step{s}, chain.Options{})
		run := func() (mail.Outcome, mail.Entry) {
			tx := newTransaction()
			o := c.Run(t.Context(), mail.StageData, tx)
			return o, tx.Entries[0]
		}
		for range 20 {
			if o, _ := run(); o.Action != mail.ActionDefer {
				t.Fatalf("got %v while the backend is down", o.Action)
			}
		}
		if n := calls.Load(); n != 5 {
			t.Errorf("the handler was asked %d times before it rests, want 5", n)
		}
		if _, e := run(); e.Note != chain.NoteResting || !strings.Contains(e.Reason, "resting") {
			t.Errorf("trace says %q %q", e.Note, e.Reason)
		}
		down.Store(false)
		time.Sleep(11 * time.Second) //nolint:forbidigo // the clock is synctest's
		if o, e := run(); o.Action != mail.ActionContinue || e.Reason != "clean" {
			t.Errorf("after the rest: %v %q", o.Action, e.Reason)
		}
	})
}

// A client that hangs up says nothing about the backend.
func TestBreakerIgnoresCancelledCalls(t *testing.T) {
	t.Parallel()
	var calls int
	s := step("clamav", mail.AtData, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) {
		calls++
		return mail.Verdict{}, context.Canceled
	}))
	s.Breaker = chain.NewBreaker("clamav", nil)
	c := chain.New([]*chain.Step{s}, chain.Options{})
	for range 20 {
		c.Run(t.Context(), mail.StageData, newTransaction())
	}
	if calls != 20 {
		t.Errorf("asked %d times, want 20", calls)
	}
}

// A handler that defers has perhaps not asked its backend: that neither rests it
// nor ends its rest.
func TestBreakerIgnoresDefers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls int
		answer := fails(errors.New("connection refused"))
		s := step("clamav", mail.AtData, handler(func(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
			calls++
			return answer(ctx, tx)
		}))
		s.Breaker = chain.NewBreaker("clamav", nil)
		c := chain.New([]*chain.Step{s}, chain.Options{})
		run := func(times int, h handler) (o mail.Outcome) {
			answer = h
			for range times {
				o = c.Run(t.Context(), mail.StageData, newTransaction())
			}
			return o
		}
		busy, broken := says(mail.Defer(mail.NewReply(451, 3, 2, "Busy"), "busy")), answer
		run(4, broken)
		if o := run(10, busy); o.Reply.Text != "Busy" {
			t.Errorf("got %v, want that of the handler", o.Reply)
		}
		if run(5, broken); calls != 15 {
			t.Errorf("asked %d times, want that the fifth error is the last", calls)
		}
		time.Sleep(11 * time.Second) //nolint:forbidigo // the clock is synctest's
		run(1, busy)
		if run(5, broken); calls != 17 {
			t.Errorf("asked %d times, want one more trial after the one that was deferred", calls)
		}
	})
}

// A condition that panics is an error of its handler, in a goroutine of its own
// too.
func TestWhenThatPanics(t *testing.T) {
	t.Parallel()
	s := step("odd", mail.AtData, says(mail.Continue("")))
	s.When, s.OnError = func(*mail.Transaction) (bool, error) { panic("no such recipient") }, chain.PolicyDefer
	for name, steps := range map[string][]*chain.Step{"alone": {s}, "in parallel": {{Parallel: []*chain.Step{s}}}} {
		tx := newTransaction()
		o := chain.New(steps, chain.Options{}).Run(t.Context(), mail.StageData, tx)
		if o.Action != mail.ActionDefer || !strings.Contains(o.Reason, "no such recipient") {
			t.Errorf("%s: got %v %q", name, o.Action, o.Reason)
		}
	}
}

type watcher struct {
	handler
	seen []mail.Outcome
}

func (w *watcher) Observe(_ context.Context, _ *mail.Transaction, o mail.Outcome) {
	w.seen = append(w.seen, o)
}

func TestObserversAreToldOfTheEnd(t *testing.T) {
	t.Parallel()
	w := &watcher{handler: says(mail.Continue(""))}
	c := chain.New([]*chain.Step{step("bruteforce", mail.AtAuth, w), step("password", mail.AtAuth, says(mail.Reject(mail.Reply{}, "wrong password")))}, chain.Options{})
	c.Run(t.Context(), mail.StageAuth, newTransaction())
	if len(w.seen) != 1 || w.seen[0].Handler != "password" || !w.seen[0].Refused() {
		t.Errorf("observed %+v", w.seen)
	}
}

func TestSetChoosesWhoseSettingsHold(t *testing.T) {
	t.Parallel()
	mark := func(name string) *chain.Chain {
		return chain.New([]*chain.Step{
			step(name, mail.AtConnect|mail.AtAuth|mail.AtMail|mail.AtRcpt|mail.AtData, says(mail.Continue(""))), deliver(),
		}, chain.Options{})
	}
	set := chain.NewSet(mark("listener"), map[string]*chain.Chain{"own.test": mark("own"), "bücher.test": mark("idn")})
	tests := map[string]struct {
		stage mail.Stage
		user  string
		login string
		rcpt  string
		want  string
	}{
		"connect":                  {stage: mail.StageConnect, want: "listener"},
		"mail of a stranger":       {stage: mail.StageMail, want: "listener"},
		"recipient of the domain":  {stage: mail.StageRcpt, rcpt: "a@own.test", want: "own"},
		"recipient of another":     {stage: mail.StageRcpt, rcpt: "a@example.test", want: "listener"},
		"login of the domain":      {stage: mail.StageAuth, login: "a@OWN.test", want: "own"},
		"login in full width":      {stage: mail.StageAuth, login: "a@ｏｗｎ.test", want: "own"},
		"login in A-labels":        {stage: mail.StageAuth, login: "a@xn--bcher-kva.test", want: "idn"},
		"login without a domain":   {stage: mail.StageAuth, login: "a", want: "listener"},
		"mail of a user":           {stage: mail.StageMail, user: "a@own.test", want: "own"},
		"recipient of a user":      {stage: mail.StageRcpt, user: "a@example.test", rcpt: "a@own.test", want: "listener"},
		"recipient of a user (2.)": {stage: mail.StageRcpt, user: "a@own.test", rcpt: "a@example.test", want: "own"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := newTransaction()
			tx.Session.User = tt.user
			if tt.login != "" {
				tx.Credentials = &mail.Credentials{Username: tt.login}
			}
			if tt.rcpt != "" {
				tx.Recipient = &mail.Recipient{Address: address(t, tt.rcpt)}
			}
			set.Run(t.Context(), tt.stage, tx)
			if got := tx.Entries[0].Handler; got != tt.want {
				t.Errorf("the chain of %q ran, want %q", got, tt.want)
			}
		})
	}
}

func TestSetSeparatesRecipientsOfDifferentChains(t *testing.T) {
	t.Parallel()
	listener := chain.New([]*chain.Step{deliver()}, chain.Options{})
	own := chain.New([]*chain.Step{deliver()}, chain.Options{})
	set := chain.NewSet(listener, map[string]*chain.Chain{"own.test": own})
	tx := newTransaction()
	rcpt := func(s string) mail.Outcome {
		tx.Recipient = &mail.Recipient{Address: address(t, s)}
		o := set.Run(t.Context(), mail.StageRcpt, tx)
		if !o.Refused() {
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, tx.Recipient)
		}
		return o
	}
	if o := rcpt("a@example.test"); o.Refused() {
		t.Fatalf("first recipient: %v", o.Reply)
	}
	if o := rcpt("b@example.net"); o.Refused() {
		t.Fatalf("recipient of the same chain: %v", o.Reply)
	}
	o := rcpt("c@own.test")
	if o.Reply.Code != 452 || o.Reply.Enhanced != (mail.EnhancedCode{4, 5, 3}) {
		t.Errorf("recipient of another chain: %v", o.Reply)
	}
	last := tx.Entries[len(tx.Entries)-1]
	if last.Note != chain.NoteOtherChain || last.Recipient != "c@own.test" {
		t.Errorf("trace says %+v", last)
	}
}

func BenchmarkRunContinue(b *testing.B) {
	const n = 10
	var steps []*chain.Step
	for range n {
		s := step("a", mail.AtMail, says(mail.Continue("fine")))
		s.Breaker = chain.NewBreaker("a", nil)
		steps = append(steps, s)
	}
	c := chain.New(steps, chain.Options{})
	tx := newTransaction()
	b.ReportAllocs()
	for b.Loop() {
		tx.Entries = tx.Entries[:0]
		c.Run(b.Context(), mail.StageMail, tx)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/handler")
}

// TestRefusedRecipientLeavesNothing: what handlers say about a recipient who is
// refused does not concern the others.
func TestRefusedRecipientLeavesNothing(t *testing.T) {
	t.Parallel()
	judge := step("judge", mail.AtRcpt, handler(func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		tx.AddTag("for=" + tx.Recipient.Address.LocalPart)
		tx.SetScore("judge", 3)
		if tx.Recipient.Address.LocalPart == "bad" {
			return mail.Reject(mail.NewReply(550, 7, 1, "No"), "not this one"), nil
		}
		return mail.Continue("fine"), nil
	}))
	c := chain.New([]*chain.Step{judge, deliver()}, chain.Options{})
	tx := newTransaction()
	for _, to := range []struct {
		address string
		refused bool
		tags    int
	}{{"bad@example.test", true, 0}, {"good@example.test", false, 1}, {"bad@example.test", true, 1}} {
		tx.Recipient = &mail.Recipient{Address: address(t, to.address)}
		if o := c.Run(t.Context(), mail.StageRcpt, tx); o.Refused() != to.refused || len(tx.Tags()) != to.tags || tx.Score() != float64(3*to.tags) {
			t.Errorf("%s: %v, tags %q, %v points", to.address, o.Action, tx.Tags(), tx.Score())
		}
	}
}
