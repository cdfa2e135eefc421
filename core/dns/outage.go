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

// outage notices when all servers are silent, and when one answers again. Both
// are logged once, however many questions fail.
type outage struct {
	log *zap.Logger

	mu      sync.Mutex
	current Outage // guarded by mu
	failed  uint64 // guarded by mu, questions since it began
}

// failure is called for a question that no server answered.
func (o *outage) failure(now time.Time, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed++
	if !o.current.Since.IsZero() {
		return
	}
	o.current, o.failed = Outage{Since: now, Error: err.Error()}, 1
	o.log.Warn("no name server answers", zap.Error(err))
}

// answered is called for each answer of a server, whatever it says.
func (o *outage) answered(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.current.Since.IsZero() {
		return
	}
	o.log.Info("a name server answers again", zap.Uint64("failed", o.failed), zap.Duration("duration", now.Sub(o.current.Since)))
	o.current = Outage{}
}

func (o *outage) get() Outage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current
}
