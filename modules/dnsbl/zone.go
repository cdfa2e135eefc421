package dnsbl

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
)

const (
	// restAfter failures in a row a zone is not asked for restFor, as long as another
	// one can be asked. When there is none it is asked again after restAlone, so that
	// no more than that is missed once the DNS is back.
	restAfter = 5
	restFor   = time.Minute
	restAlone = 5 * time.Second
	// tellAgain is how long a failing zone is not told of again.
	tellAgain = time.Hour
)

// zones is what is known of all zones. It outlives the handlers and is safe for
// concurrent use.
type zones struct {
	log                   *zap.Logger
	asked, hits, failures atomic.Uint64

	mu     sync.Mutex
	byName map[string]*zone // as many as the configurations have named
}

func newZones(log *zap.Logger) *zones { return &zones{log: log, byName: make(map[string]*zone)} }

// Close does nothing; it lets the zones be shared between configurations.
func (*zones) Close() error { return nil }

// of finds the zone of that name.
func (z *zones) of(name string) *zone {
	name = strings.ToLower(name)
	z.mu.Lock()
	defer z.mu.Unlock()
	one := z.byName[name]
	if one == nil {
		one = &zone{name: name, all: z}
		z.byName[name] = one
	}
	return one
}

func (z *zones) measure(now time.Time) []core.Figure {
	resting := 0
	z.mu.Lock()
	for _, one := range z.byName {
		if !one.ready(now) {
			resting++
		}
	}
	z.mu.Unlock()
	return []core.Figure{
		{Name: "questions_total", Help: "Questions that lists were asked.", Value: float64(z.asked.Load())},
		{Name: "listings_total", Help: "Answers that say that something is listed.", Value: float64(z.hits.Load())},
		{Name: "errors_total", Help: "Questions without an answer that can be used.", Value: float64(z.failures.Load())},
		{Name: "zones_resting", Help: "Lists that keep failing, and are not asked as long as others answer.", Value: float64(resting)},
	}
}

// zone is the state of one zone.
type zone struct {
	name string
	all  *zones

	mu       sync.Mutex
	failures int       // in a row
	cause    error     // of the last of them
	tried    time.Time // when the last of them came, or a try since then began
	rests    time.Time
	told     time.Time
}

// ask tells why the zone is not to be asked now; nil means that it is. alone says
// that no other zone can be asked instead.
func (z *zone) ask(now time.Time, alone bool) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if !now.Before(z.rests) {
		return nil
	}
	if since := now.Sub(z.tried); !alone || since >= 0 && since < restAlone {
		return fmt.Errorf("%w: %w", errResting, z.cause)
	}
	z.tried = now
	return nil
}

// ready tells whether the zone does not rest. After its rest one failure more lets
// it rest again.
func (z *zone) ready(now time.Time) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return !now.Before(z.rests)
}

// answered notes an answer that can be used.
func (z *zone) answered(listed bool) {
	z.all.asked.Add(1)
	if listed {
		z.all.hits.Add(1)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.failures, z.cause, z.rests = 0, nil, time.Time{}
}

// failed notes that there was none, and tells it once.
func (z *zone) failed(err error, now time.Time) {
	z.all.asked.Add(1)
	z.all.failures.Add(1)
	z.mu.Lock()
	z.failures++
	z.cause, z.tried = err, now
	if z.failures >= restAfter {
		z.rests = now.Add(restFor)
	}
	tell := z.told.IsZero() || now.Sub(z.told) >= tellAgain
	if tell {
		z.told = now
	}
	z.mu.Unlock()
	if tell {
		z.all.log.Warn("list gives no answer that can be used, and is passed over", zap.Error(fmt.Errorf("ask list %s: %w", z.name, err)))
	}
}
