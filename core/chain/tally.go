package chain

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// numActions is how many actions a verdict can have.
const numActions = int(mail.ActionReject) + 1

// Buckets are the upper bounds of the durations that a Tally tells apart; what
// takes longer is in none of them.
var Buckets = [...]time.Duration{
	10 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 10 * time.Second, time.Minute,
}

// Tally counts what one handler of a listener said, by all its instances: those
// of domains that tune it, and those of the configurations before. It is safe
// for concurrent use.
type Tally struct {
	// Listener and Handler are the names that log and trace have.
	Listener, Handler string
	// Module is the name of the handler's module.
	Module string

	log      *zap.Logger
	verdicts [mail.NumStages][numActions]atomic.Uint64
	errors   atomic.Uint64
	passed   atomic.Uint64
	buckets  [len(Buckets)]atomic.Uint64
	nanos    atomic.Uint64

	failing atomic.Bool // from an error to the next verdict

	mu     sync.Mutex
	health Health    // guarded by mu
	logged time.Time // guarded by mu, when the last error was logged
	told   bool      // guarded by mu, whether one of these errors in a row was
	since  uint64    // guarded by mu, errors when it began to fail
}

// NewTally makes the tally of a handler. The first error of several in a row is
// logged, and the end of them; nil means no log.
func NewTally(listener, handler, module string, log *zap.Logger) *Tally {
	if log == nil {
		log = zap.NewNop()
	}
	return &Tally{Listener: listener, Handler: handler, Module: module, log: log}
}

// Close does nothing; it lets a tally be shared between configurations.
func (t *Tally) Close() error { return nil }

// Health tells whether a handler answers.
type Health struct {
	// Failing is set from an error to the next verdict.
	Failing bool
	// Since is when it began to fail.
	Since time.Time
	// LastError is the newest error and LastErrorAt its time, also when all is well
	// again.
	LastError   string
	LastErrorAt time.Time
}

// Counts are the numbers of a Tally.
type Counts struct {
	// Verdicts are by stage and action.
	Verdicts [mail.NumStages][numActions]uint64
	// Errors is how often there was none, and Passed how often that let a client or a
	// message pass (on_error = "continue").
	Errors, Passed uint64
	// Buckets are the calls that took at most so long, each by the first bound that
	// holds; Calls are all, and Duration what they took together.
	Buckets  [len(Buckets)]uint64
	Calls    uint64
	Duration time.Duration
}

// Counts gives the numbers as they are now.
func (t *Tally) Counts() Counts {
	c := Counts{Errors: t.errors.Load(), Passed: t.passed.Load(), Duration: time.Duration(t.nanos.Load())}
	c.Calls = c.Errors
	for stage := range t.verdicts {
		for action := range t.verdicts[stage] {
			n := t.verdicts[stage][action].Load()
			c.Verdicts[stage][action] = n
			c.Calls += n
		}
	}
	for i := range t.buckets {
		c.Buckets[i] = t.buckets[i].Load()
	}
	return c
}

// Health tells whether the handler answers.
func (t *Tally) Health() Health {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.health
}

// said counts a verdict.
func (t *Tally) said(stage mail.Stage, action mail.Action, took time.Duration, now time.Time) {
	if t == nil {
		return
	}
	t.verdicts[stage][action].Add(1)
	t.time(took)
	if t.failing.Load() {
		t.recovered(now)
	}
}

func (t *Tally) time(took time.Duration) {
	t.nanos.Add(uint64(max(0, took)))
	for i, bound := range Buckets {
		if took <= bound {
			t.buckets[i].Add(1)
			return
		}
	}
}

// maxError bounds the text of an error that is kept, in bytes.
const maxError = 500

// quiet is how long a handler that fails again and again is not logged again.
const quiet = time.Minute

// failed counts an error and tells whether it shall be logged: one of several in a
// row, the first unless a minute has not passed since another was.
func (t *Tally) failed(err error, passed bool, took time.Duration, now time.Time) bool {
	if t == nil {
		return true
	}
	before := t.errors.Add(1) - 1
	if passed {
		t.passed.Add(1)
	}
	t.time(took)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !isResting(err) || t.health.LastError == "" {
		t.health.LastError, t.health.LastErrorAt = mail.Printable(err.Error(), maxError), now
	}
	if !t.health.Failing {
		t.health.Failing, t.health.Since, t.since, t.told = true, now, before, false
		t.failing.Store(true)
	}
	since := now.Sub(t.logged)
	if t.told || !t.logged.IsZero() && since >= 0 && since < quiet {
		return false
	}
	t.told = true
	t.logged = now
	return true
}

// recovered ends a time of errors.
func (t *Tally) recovered(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.health.Failing {
		return
	}
	t.health.Failing = false
	t.failing.Store(false)
	if !t.told {
		return // its beginning was not logged either
	}
	t.log.Info("handler answers again", zap.String(logkey.Listener, t.Listener), zap.String(logkey.Handler, t.Handler),
		zap.Uint64("errors", t.errors.Load()-t.since), zap.Duration(logkey.Duration, now.Sub(t.health.Since)))
}
