package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

// How old rows go: soon after the start, then about every hour, not on all
// servers at the same minute, and in small writes with time for mail in between.
const (
	firstCleanUp  = time.Minute
	cleanUpEvery  = time.Hour
	cleanUpRows   = 500
	betweenWrites = 50 * time.Millisecond
)

// CleanUp tells when the old rows of a module were last removed.
type CleanUp struct {
	// Module is the module's ID, or trace.
	Module string
	// Last is when that was; the zero time means never since the start.
	Last time.Time
	// Removed is the number of rows that went then, Total that since the start.
	Removed, Total int64
	// Error is why it could not be done, "" if it could.
	Error string
}

// cleaning removes old rows while a server runs.
type cleaning struct {
	runtime *runtime
	modules func() []*instance // those of the configuration in force
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu   sync.Mutex
	done map[string]CleanUp // guarded by mu, by module
}

func startCleaning(r *runtime, modules func() []*instance) *cleaning {
	ctx, stop := context.WithCancel(context.Background())
	c := &cleaning{runtime: r, modules: modules, stop: stop, done: make(map[string]CleanUp)}
	c.ended.Go(func() { c.run(ctx) })
	return c
}

func (c *cleaning) close() {
	c.stop()
	c.ended.Wait()
}

func (c *cleaning) run(ctx context.Context) {
	wait := jitter(firstCleanUp)
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		c.round(ctx)
		wait = jitter(cleanUpEvery)
	}
}

// jitter gives a time about as long as d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // it only spreads the load
}

// round asks one instance of each module.
func (c *cleaning) round(ctx context.Context) {
	asked := make(map[string]bool)
	for _, i := range slices.Concat(c.runtime.started, c.modules()) {
		id := i.module.Module().ID
		s, ok := i.module.(Sweeper)
		if !ok || asked[id] || i.off {
			continue
		}
		asked[id] = true
		removed, err := c.sweep(ctx, i, s)
		if ctx.Err() != nil {
			return
		}
		c.note(id, removed, err)
	}
}

// sweep removes what is old, a small write after the other.
func (c *cleaning) sweep(ctx context.Context, i *instance, s Sweeper) (removed int64, err error) {
	for {
		n := 0
		err := c.runtime.store.Write(ctx, func(tx *store.Tx) error {
			return i.guard("clean up rows of", func() (err error) {
				n, err = s.Sweep(tx, c.runtime.now(), cleanUpRows)
				return err
			})
		})
		if err != nil {
			return removed, err
		}
		if removed += int64(n); n < cleanUpRows {
			return removed, nil
		}
		select {
		case <-time.After(betweenWrites):
		case <-ctx.Done():
			return removed, ctx.Err()
		}
	}
}

func (c *cleaning) note(id string, removed int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.done[id]
	d.Module, d.Last, d.Removed, d.Error = id, c.runtime.now(), removed, ""
	d.Total += removed
	if err != nil && !errors.Is(err, store.ErrClosed) {
		d.Error = err.Error()
		c.runtime.log.Error("old rows stay", zap.String("module", id), zap.Error(fmt.Errorf("remove old rows: %w", err)))
	}
	c.done[id] = d
}

func (c *cleaning) list() []CleanUp {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []CleanUp
	for _, d := range c.done {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b CleanUp) int { return cmp.Compare(a.Module, b.Module) })
	return list
}

// CleanUps tells when old rows were last removed, by module.
func (s *Server) CleanUps() []CleanUp {
	s.mu.Lock()
	c, r := s.cleaning, s.runtime
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	last, removed, total := r.traces.Removed()
	return append(c.list(), CleanUp{Module: "trace", Last: last, Removed: removed, Total: total})
}

// CleanUpNow removes old rows at once; it is for tests and for people who need
// the room.
func (s *Server) CleanUpNow(ctx context.Context) {
	s.mu.Lock()
	c := s.cleaning
	s.mu.Unlock()
	if c != nil {
		c.round(ctx)
	}
}
