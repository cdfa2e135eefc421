package dns

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Outage is a time in which no server answers.
type Outage struct {
	// Since is when it began; the zero time means that all is well.
	Since time.Time
	// Error is why the first question failed.
	Error string
}

// A domain whose own servers are silent makes one question fail, or two, and
// strangers can have us ask about such domains: an outage is when so many
// different questions in a row have failed over so long a time.
const (
	outageQuestions = 3
	outageAfter     = 10 * time.Second
)

// outage notices when all servers are silent, and when one answers again. Both
// are logged once, however many questions fail.
type outage struct {
	log *zap.Logger

	mu      sync.Mutex
	current Outage // guarded by mu
	failed  uint64 // guarded by mu, questions since the last answer
	first   Outage // guarded by mu, the first of them
	last    string // guarded by mu, the name of the last
}

// failure is called for a question that no server answered. The same name again
// says nothing new.
func (o *outage) failure(now time.Time, name string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed > 0 && name == o.last {
		return
	}
	o.last = name
	if o.failed++; o.failed == 1 {
		o.first = Outage{Since: now, Error: err.Error()}
	}
	if !o.current.Since.IsZero() || o.failed < outageQuestions || now.Sub(o.first.Since) < outageAfter {
		return
	}
	o.current = o.first
	o.log.Warn("no name server answers", zap.Error(err), zap.Uint64("failed", o.failed))
}

// answered is called for each answer of a server, whatever it says.
func (o *outage) answered(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.current.Since.IsZero() {
		o.log.Info("a name server answers again", zap.Uint64("failed", o.failed), zap.Duration("duration", now.Sub(o.current.Since)))
	}
	o.current, o.failed = Outage{}, 0
}

func (o *outage) get() Outage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current
}
