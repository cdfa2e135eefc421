package core

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/core/tuning"
)

// runtime is what outlives a configuration: the store, the traces, the services,
// and what generations share.
type runtime struct {
	registry *Registry
	store    *store.Store
	traces   *trace.Log
	resolver *dns.Resolver
	log      *zap.Logger
	now      func() time.Time
	services []Module
	started  []*instance
	tuning   *tuning.Table // set by start
	trials   *trials
	lender   *runtime // of a trial: whose shared values it takes

	mu     sync.Mutex
	shared map[string]*sharedValue // guarded by mu
}

type closer interface{ Close() error }

// sharedValue is counted by references.
type sharedValue struct {
	value closer
	refs  int
	// giveBack ends the use of a value that was lent; nil for one's own.
	giveBack func() error
}

// newRuntime makes the services of the build on a store, which it takes over.
// They are not started.
func newRuntime(registry *Registry, st *store.Store, s *settings, log *zap.Logger, now func() time.Time) (*runtime, error) {
	r := &runtime{
		registry: registry, store: st, log: log, now: now, shared: make(map[string]*sharedValue), trials: newTrials(),
		resolver: dns.New(*s.DNS, dns.Options{Now: now, Logger: log.Named("dns")}),
	}
	traces, err := trace.New(st, trace.Options{
		Keep: s.Trace.Keep, MaxSize: int64(s.Trace.MaxSize), Now: now, Logger: log.Named("trace"),
	})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	r.traces = traces
	for _, info := range registry.Modules("service") {
		m := info.New()
		r.services = append(r.services, m)
		r.started = append(r.started, &instance{module: m, name: info.Name()})
	}
	for _, i := range r.started {
		p, ok := i.module.(Provisioner)
		if !ok {
			continue
		}
		c := &Context{runtime: r, settings: s, name: i.name, log: log.Named(i.name)}
		if err := i.guard("provision", func() error { return p.Provision(c) }); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, nil
}

// openRuntime opens the store in the data directory and starts the services.
func openRuntime(ctx context.Context, registry *Registry, s *settings, log *zap.Logger, now func() time.Time) (*runtime, error) {
	st, err := store.Open(ctx, s.Server.DataDir, store.Options{Logger: log.Named("store"), Now: now, BodyLimit: int64(s.Store.BodyLimit)})
	if err != nil {
		return nil, err
	}
	r, err := newRuntime(registry, st, s, log, now)
	if err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *runtime) start(ctx context.Context) error {
	var err error
	if r.tuning, err = tuning.Open(ctx, r.store, r.now); err != nil {
		return err
	}
	if err := startAll(ctx, r, r.started); err != nil {
		return err
	}
	r.traces.Start()
	return nil
}

// close ends the services, the traces and the store.
func (r *runtime) close() error {
	r.trials.close()
	err := cleanupAll(r.started)
	return errors.Join(err, r.resolver.Close(), r.traces.Close(), r.store.Close())
}

// acquire gives the shared value of that name and counts the reference; the
// first caller's make makes it.
func (r *runtime) acquire(name string, make func() (closer, error)) (closer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shared[name]
	if s == nil {
		var err error
		if s, err = r.firstUse(name, make); err != nil {
			return nil, err
		}
		r.shared[name] = s
	}
	s.refs++
	return s.value, nil
}

// firstUse takes a value from the lender, or has it made.
func (r *runtime) firstUse(name string, make func() (closer, error)) (*sharedValue, error) {
	if r.lender != nil {
		if value, ok := r.lender.lend(name); ok {
			return &sharedValue{value: value, giveBack: func() error { return r.lender.release(name) }}, nil
		}
	}
	value, err := make()
	if err != nil {
		return nil, fmt.Errorf("make shared value %q: %w", name, err)
	}
	return &sharedValue{value: value}, nil
}

// sharedValues gives what is shared now, by name.
func (r *runtime) sharedValues() map[string]closer {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := make(map[string]closer, len(r.shared))
	for name, s := range r.shared {
		values[name] = s.value
	}
	return values
}

// release lets go of a shared value and closes it after the last reference.
func (r *runtime) release(name string) error {
	r.mu.Lock()
	s := r.shared[name]
	s.refs--
	last := s.refs == 0
	if last {
		delete(r.shared, name)
	}
	r.mu.Unlock()
	if !last {
		return nil
	}
	end := s.value.Close
	if s.giveBack != nil {
		end = s.giveBack
	}
	if err := end(); err != nil {
		return fmt.Errorf("close shared value %q: %w", name, err)
	}
	return nil
}
