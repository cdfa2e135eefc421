// Package chain runs handlers: in the order of the file, at each stage of a
// session, until one ends the stage. What an error means, how long a handler
// may take, whether its verdict counts and whether it is asked at all is decided
// here, in one place, for every module.
//
// The engine knows neither SMTP nor IMAP; both feed it a mail.Transaction. A
// Chain is immutable and safe for concurrent use.
package chain

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// Notes say in a trace what the chain did with a handler, beside its verdict.
const (
	NoteMonitor    = "monitor"     // the verdict was recorded, and not acted on
	NoteSkipped    = "skipped"     // when was false
	NoteError      = "error"       // there was no verdict: on_error held
	NoteTimeout    = "timeout"     // there was no verdict in time: on_timeout held
	NoteResting    = "resting"     // the circuit breaker kept it from being asked: what the last error means held
	NoteOtherChain = "other-chain" // the recipient's settings differ from the others'
)

// Handler judges. An error is not a verdict: OnError says what it means. Handle
// is called from many goroutines at once and honours ctx.
type Handler interface {
	Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error)
}

// Observer is told how a stage ended that it took part in, also when an earlier
// handler ended it.
type Observer interface {
	Observe(ctx context.Context, tx *mail.Transaction, outcome mail.Outcome)
}

// Policy is what an error of a handler means.
type Policy uint8

// The policies. Fail open is the default: a broken scanner does not stop mail.
const (
	PolicyContinue Policy = iota // as if the handler were not there
	PolicyDefer                  // 451, the client comes back
	PolicyReject                 // 554
)

// PolicyNames are the values of on_error and on_timeout, in the order of the policies.
var PolicyNames = [...]string{"continue", "defer", "reject"}

// Step is one handler at its place in a chain, or a parallel block of several.
type Step struct {
	// Name is what log, trace and settings call the handler.
	Name string
	// Module is the name of its module.
	Module string
	// Position is where it stands, "file:line".
	Position string
	// Handler is nil for a parallel block.
	Handler Handler
	// Stages are those at which it acts here.
	Stages mail.Stages
	// When is asked before each call; nil means always.
	When func(*mail.Transaction) (bool, error)
	// OnError is what its errors mean.
	OnError Policy
	// OnTimeout is what it means that no answer came in time; nil means the same as
	// OnError.
	OnTimeout *Policy
	// Timeout bounds each call; 0 leaves the stage's own deadline.
	Timeout time.Duration
	// Monitor records verdicts without acting on them.
	Monitor bool
	// Target marks a handler that delivers.
	Target bool
	// Breaker rests the handler while its backend keeps failing.
	Breaker *Breaker
	// Tally counts what it says; nil means nobody does.
	Tally *Tally
	// Settings are what it was made by, for the trace; nil if nobody knows.
	Settings *mail.Settings
	// Parallel holds the handlers of a parallel block.
	Parallel []*Step
}

// Options configure New.
type Options struct {
	// Logger takes errors and the changes of breakers; nil means none.
	Logger *zap.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Chain is a compiled list of steps.
type Chain struct {
	steps  []*Step
	stages [mail.NumStages][]*Step
	log    *zap.Logger
	now    func() time.Time
	lease  lease
}

// New compiles steps, which are not changed afterwards.
func New(steps []*Step, o Options) *Chain {
	c := &Chain{steps: steps, log: o.Logger, now: o.Now}
	if c.log == nil {
		c.log = zap.NewNop()
	}
	if c.now == nil {
		c.now = time.Now
	}
	for stage := range mail.Stage(mail.NumStages) {
		for _, s := range steps {
			if s.at(stage) {
				c.stages[stage] = append(c.stages[stage], s)
			}
		}
	}
	return c
}

// Steps gives the steps in the order of the file.
func (c *Chain) Steps() []*Step { return c.steps }

// Acts tells whether any handler acts at the stage.
func (c *Chain) Acts(stage mail.Stage) bool { return len(c.stages[stage]) > 0 }

func (s *Step) at(stage mail.Stage) bool {
	for _, p := range s.Parallel {
		if p.at(stage) {
			return true
		}
	}
	return s.Stages.Has(stage)
}

// Run asks the handlers of a stage in order and gives how it ended. Each answer
// is appended to tx.Entries. A recipient that no target took, a login that no
// handler vouched for and a message that no target made durable are refused
// here, whatever the handlers said.
func (c *Chain) Run(ctx context.Context, stage mail.Stage, tx *mail.Transaction) mail.Outcome {
	tx.Stage = stage
	outcome := mail.Outcome{Stage: stage}
	var before mail.Judgement
	if stage == mail.StageRcpt {
		before = tx.Judgement()
	}
	for _, s := range c.stages[stage] {
		if outcome.Action != mail.ActionContinue && (!s.Target || outcome.Action != mail.ActionAccept) {
			break
		}
		if s.Target && !s.wanted(tx) {
			continue
		}
		if s.Parallel != nil {
			c.parallel(ctx, s, tx, &outcome)
			continue
		}
		c.apply(&outcome, s, tx, c.call(ctx, s, tx))
		if stage == mail.StageData && !outcome.Refused() {
			c.addRecipients(ctx, s, tx, &outcome)
		}
	}
	c.finish(&outcome, tx)
	if !tx.Trial {
		c.observe(ctx, tx, outcome)
	}
	if stage == mail.StageRcpt && outcome.Refused() {
		tx.SetJudgement(before)
	}
	return outcome
}

// wanted tells whether a target has anything to do: at the rcpt stage the
// recipient is still free, at the data stage one of the recipients is its own.
func (s *Step) wanted(tx *mail.Transaction) bool {
	switch tx.Stage {
	case mail.StageRcpt:
		return tx.Recipient != nil && tx.Recipient.Target == ""
	case mail.StageData:
		for _, r := range tx.Envelope.Recipients {
			if r.Target == s.Name {
				return true
			}
		}
		return false
	default:
		return true
	}
}

// apply lets a verdict act on the transaction and the outcome.
func (c *Chain) apply(outcome *mail.Outcome, s *Step, tx *mail.Transaction, v mail.Verdict) {
	switch v.Action {
	case mail.ActionContinue:
	case mail.ActionQuarantine:
		tx.SetQuarantine(cmp.Or(v.Reason, "no reason given"))
	case mail.ActionDiscard:
		tx.SetDiscard()
		takeAll(tx, s.Name)
		*outcome = mail.Outcome{Stage: tx.Stage, Verdict: v, Handler: s.Name}
	case mail.ActionAccept:
		if s.Target && tx.Stage == mail.StageRcpt {
			tx.Recipient.Target = s.Name
		}
		if outcome.Action == mail.ActionContinue {
			*outcome = mail.Outcome{Stage: tx.Stage, Verdict: v, Handler: s.Name}
		}
	case mail.ActionDefer, mail.ActionReject:
		*outcome = mail.Outcome{Stage: tx.Stage, Verdict: v, Handler: s.Name}
	}
}

// takeAll makes the discarding handler the one in charge of the recipients.
func takeAll(tx *mail.Transaction, name string) {
	if tx.Stage == mail.StageRcpt && tx.Recipient != nil {
		tx.Recipient.Target = name
	}
	if tx.Stage == mail.StageData {
		for _, r := range tx.Envelope.Recipients {
			r.Delivered = true
		}
	}
}

// finish refuses what must not pass although no handler refused it.
func (c *Chain) finish(outcome *mail.Outcome, tx *mail.Transaction) {
	if outcome.Refused() {
		return
	}
	switch outcome.Stage {
	case mail.StageAuth:
		if tx.Authenticated() == "" {
			outcome.Verdict = mail.Reject(replyFor(mail.StageAuth, mail.ActionReject), "no handler vouched for the user")
		}
	case mail.StageRcpt:
		if tx.Recipient != nil && tx.Recipient.Target == "" {
			outcome.Verdict = mail.Reject(mail.NewReply(550, 7, 1, "Relaying denied"), "no target takes this recipient")
		}
	case mail.StageData:
		for _, r := range tx.Envelope.Recipients {
			if !r.Delivered && !tx.Discarded() {
				c.log.Error("target left a recipient undelivered", zap.String(logkey.Message, tx.ID), zap.Stringer(logkey.Recipient, r.Address))
				outcome.Verdict = mail.Defer(replyFor(mail.StageData, mail.ActionDefer), "not delivered to every recipient")
				return
			}
		}
	case mail.StageConnect, mail.StageHelo, mail.StageMail:
	}
}

// observe tells those who took part how the stage ended.
func (c *Chain) observe(ctx context.Context, tx *mail.Transaction, outcome mail.Outcome) {
	for _, s := range c.stages[outcome.Stage] {
		c.tell(ctx, s, tx, outcome)
		for _, p := range s.Parallel {
			c.tell(ctx, p, tx, outcome)
		}
	}
}

func (c *Chain) tell(ctx context.Context, s *Step, tx *mail.Transaction, outcome mail.Outcome) {
	o, ok := s.Handler.(Observer)
	if !ok || !s.Stages.Has(outcome.Stage) {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("observer panicked", zap.String(logkey.Handler, s.Name), zap.Any(logkey.Error, r), zap.ByteString(logkey.Stack, debug.Stack()))
		}
	}()
	o.Observe(ctx, tx, outcome)
}

// parallel runs the handlers of a block side by side. The first by file order
// that does not continue wins, so the result is that of a sequence.
func (c *Chain) parallel(ctx context.Context, block *Step, tx *mail.Transaction, outcome *mail.Outcome) {
	type branch struct {
		tx      *mail.Transaction
		verdict mail.Verdict
	}
	branches := make([]branch, len(block.Parallel))
	var wg sync.WaitGroup
	for i, s := range block.Parallel {
		if !s.at(tx.Stage) {
			continue
		}
		branches[i].tx = tx.Fork()
		wg.Go(func() { branches[i].verdict = c.call(ctx, s, branches[i].tx) })
	}
	wg.Wait()
	for i, b := range branches {
		if b.tx == nil {
			continue
		}
		tx.Merge(b.tx)
		if outcome.Action == mail.ActionContinue {
			c.apply(outcome, block.Parallel[i], tx, b.verdict)
		}
	}
}

// call asks one handler and records the answer.
func (c *Chain) call(ctx context.Context, s *Step, tx *mail.Transaction) mail.Verdict {
	if s.When != nil {
		yes, err := c.asked(s, tx)
		if err != nil {
			return c.failed(s, tx, 0, fmt.Errorf("evaluate when: %w", err))
		}
		if !yes {
			c.record(s, tx, mail.Verdict{Reason: "when is false"}, NoteSkipped, 0)
			return mail.Verdict{}
		}
	}
	if s.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		ctx = limited
	}
	began := c.now()
	if s.Monitor {
		// What it says is not acted on, and so it must not rewrite either.
		defer func(before mail.Content) {
			tx.SetContent(before)
			tx.Monitored = false
		}(tx.Content())
		tx.Monitored = true
	}
	verdict, err := c.guarded(ctx, s, tx)
	took := c.now().Sub(began)
	if err != nil {
		return c.failed(s, tx, took, err)
	}
	if (verdict.Action == mail.ActionDefer || verdict.Action == mail.ActionReject) && verdict.Reply.Code == 0 {
		verdict.Reply = replyFor(tx.Stage, verdict.Action)
	}
	if !tx.Trial {
		s.Tally.said(tx.Stage, verdict.Action, took, began)
	}
	if s.Monitor {
		c.record(s, tx, verdict, NoteMonitor, took)
		return mail.Verdict{}
	}
	c.record(s, tx, verdict, "", took)
	return verdict
}

// asked evaluates when and turns a panic into an error.
func (c *Chain) asked(s *Step, tx *mail.Transaction) (yes bool, err error) {
	defer c.recovered(s, tx, &err)
	return s.When(tx)
}

// recovered is deferred around what a module or the file has written.
func (c *Chain) recovered(s *Step, tx *mail.Transaction, err *error) {
	if r := recover(); r != nil {
		c.log.Error("handler panicked", zap.String(logkey.Handler, s.Name), zap.String(logkey.Message, tx.ID),
			zap.Any(logkey.Error, r), zap.ByteString(logkey.Stack, debug.Stack()))
		*err = fmt.Errorf("handler panicked: %v", r)
	}
}

// guarded calls the handler by way of its breaker and turns a panic into an
// error.
func (c *Chain) guarded(ctx context.Context, s *Step, tx *mail.Transaction) (verdict mail.Verdict, err error) {
	defer c.recovered(s, tx, &err)
	if s.Breaker != nil && !tx.Trial {
		return s.Breaker.handle(ctx, s.Handler, tx)
	}
	return ask(ctx, s.Handler, tx)
}

// failed applies on_error, or on_timeout. Targets never fail open: an error of
// theirs means that the message is not stored, whatever the file says.
func (c *Chain) failed(s *Step, tx *mail.Transaction, took time.Duration, err error) mail.Verdict {
	policy, setting, note := s.OnError, logkey.OnError, NoteError
	if isLate(err) {
		setting, note = logkey.OnTimeout, NoteTimeout
		if s.OnTimeout != nil {
			policy = *s.OnTimeout
		}
	}
	if s.Target && policy == PolicyContinue {
		policy = PolicyDefer
	}
	level := zap.DebugLevel
	if !tx.Trial && !isClientGone(err) && s.Tally.failed(err, policy == PolicyContinue, took, c.now()) {
		level = zap.WarnLevel
	}
	c.log.Log(level, "handler gave no verdict", zap.String(logkey.Handler, s.Name), zap.String(logkey.Message, tx.ID),
		zap.Stringer(logkey.Stage, tx.Stage), zap.String(setting, PolicyNames[policy]), zap.Duration(logkey.Duration, took), zap.Error(err))
	var verdict mail.Verdict
	switch {
	case s.Target:
		verdict = mail.Defer(mail.ReplyOf(err), err.Error())
		if verdict.Reply.Code >= 500 {
			verdict.Action = mail.ActionReject
		}
	case policy == PolicyDefer:
		verdict = mail.Defer(mail.ReplyOf(err), err.Error())
	case policy == PolicyReject:
		verdict = mail.Reject(replyFor(tx.Stage, mail.ActionReject), err.Error())
	default:
		verdict.Reason = err.Error()
	}
	if isResting(err) {
		note = NoteResting
	}
	if s.Monitor && !s.Target {
		verdict = mail.Verdict{Reason: verdict.Reason}
	}
	c.record(s, tx, verdict, note, took)
	return verdict
}

func (c *Chain) record(s *Step, tx *mail.Transaction, v mail.Verdict, note string, took time.Duration) {
	e := mail.Entry{
		Stage: tx.Stage, Handler: s.Name, Module: s.Module, Position: s.Position,
		Action: v.Action, Reason: v.Reason, Note: note, Reply: v.Reply, Duration: took,
		Settings: s.Settings,
	}
	if tx.Stage == mail.StageRcpt && tx.Recipient != nil {
		e.Recipient = tx.Recipient.Address.String()
	}
	tx.Entries = append(tx.Entries, e)
}

// replyFor is what a client is told when a handler leaves it to the chain.
func replyFor(stage mail.Stage, action mail.Action) mail.Reply {
	if action == mail.ActionDefer {
		return mail.NewReply(451, 7, 1, "Try again later")
	}
	switch stage {
	case mail.StageConnect:
		return mail.NewReply(554, 7, 1, "No service for you")
	case mail.StageAuth:
		return mail.NewReply(535, 7, 8, "Authentication failed")
	default:
		return mail.NewReply(550, 7, 1, "Refused by local policy")
	}
}
