package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// Receiver is a listener that can tell in a trial what it says to mail itself,
// beside its chain.
type Receiver interface {
	// Receive takes in a message as a client would send it, line ends and all. It
	// stops when the message is refused anyway. The caller closes the result.
	Receive(content io.Reader) (Reception, error)
	// Encrypts tells that a client comes over TLS whatever it would like, given
	// whether it has logged in.
	Encrypts(loggedIn bool) bool
}

// Reception is a message on trial. The zero Verdict says that the listener has
// nothing against it. It is used by one goroutine.
type Reception interface {
	// Size is the length of what came in, in bytes.
	Size() int64
	// Mail judges a transaction that begins, Rcpt its next recipient.
	Mail(tx *mail.Transaction) mail.Verdict
	Rcpt(tx *mail.Transaction) mail.Verdict
	// Data judges the message, makes it that of the transaction, and adds the
	// listener's own header fields. It can be called for several transactions, one
	// after the other.
	Data(tx *mail.Transaction) mail.Verdict
	Close() error
}

// TrialOptions replace what a trial would have from the host.
type TrialOptions struct {
	// Now is the clock; nil means the host's.
	Now func() time.Time
	// Resolver makes what answers questions to the DNS, once the trial has its place;
	// nil means the host's. The trial closes it.
	Resolver func(ctx context.Context) (*dns.Resolver, error)
	// Domains are those whose settings in the database hold, beside those of the
	// template; nil means all. In normal form.
	Domains []string
}

// Trial is the configuration of a host once more, to be asked what it would say:
// handlers of its own, which look at the store and the services of the host, and make
// themselves known to none of them (Context.Trial). Of what generations share it takes
// what is there, and adds nothing. Of what is logged only errors are. Transactions that
// run in it have Trial set.
type Trial struct {
	gen      *generation
	resolver *dns.Resolver // its own, nil if it has the host's
	stop     context.CancelFunc
	done     func()
	base     context.Context //nolint:containedctx // ends with the host
}

// NewTrial makes a trial of the configuration in force: of a server, that which it
// runs, else that of the file. At most two are there at a time for a host, others
// wait. A file with errors gives ErrInvalid, see TrialReport; errors of o.Resolver are
// given as they are.
func NewTrial(ctx context.Context, h Host, o TrialOptions) (*Trial, error) {
	host, ok := h.(interface{ inTrial() *settings })
	if !ok {
		return nil, fmt.Errorf("try configuration: a %T has none", h)
	}
	r := h.host()
	done, err := r.trials.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("try configuration: %w", err)
	}
	t := &Trial{done: done}
	t.base, t.stop = r.trials.context()
	s := host.inTrial()
	if err = errStopped; s != nil {
		bound, release := t.Bound(ctx)
		err = t.start(bound, r, s, o)
		release()
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// start makes the handlers and starts them, with what they use of the blocks of
// domains. Listeners and certificates are made, since the handlers stand in them, and
// not started.
func (t *Trial) start(ctx context.Context, host *runtime, s *settings, o TrialOptions) error {
	if o.Resolver != nil {
		var err error
		if t.resolver, err = o.Resolver(ctx); err != nil {
			return err
		}
	}
	r := host.forTrial(o.Now, t.resolver)
	gen, ds := buildGeneration(r, s)
	if gen == nil {
		return &fileError{ds: ds.Unique(), sources: s.file.Sources}
	}
	t.gen = gen
	var asked []*instance
	for _, i := range gen.modules {
		if namespace := i.module.Module().Namespace(); namespace == "domain" || namespace == "handler" {
			asked = append(asked, i)
		}
	}
	err := context.Cause(ctx) // a large file takes a while
	if err == nil {
		err = startAll(ctx, r, asked)
	}
	if err == nil {
		err = t.tune(ctx, r.tuning, o.Domains)
	}
	if err != nil {
		return fmt.Errorf("try configuration: %w", err)
	}
	return nil
}

// tune makes what the database sets for domains; nil means all of them.
func (t *Trial) tune(ctx context.Context, table *tuning.Table, domains []string) error {
	t.gen.tuned = newTuned(t.gen, false)
	if domains == nil {
		return t.gen.tuned.load(ctx, table)
	}
	t.gen.tuned.only = make(map[string]bool, len(domains))
	rows, err := table.Of(ctx, tuning.Template)
	for _, domain := range slices.Compact(slices.Sorted(slices.Values(domains))) {
		if err != nil {
			return err
		}
		t.gen.tuned.only[domain] = true
		var more []tuning.Setting
		more, err = table.Of(ctx, domain)
		rows = append(rows, more...)
	}
	if err == nil {
		t.gen.tuned.loadRows(rows)
		err = context.Cause(ctx)
	}
	return err
}

// TrialReport gives what is wrong with the file, if that is why NewTrial failed.
func TrialReport(err error) (config.Diagnostics, map[string][]byte) {
	if file, ok := errors.AsType[*fileError](err); ok {
		return file.ds, file.sources
	}
	return nil, nil
}

// TrialListener is a listener of a trial.
type TrialListener struct {
	// Kind is the protocol.
	Kind string
	// Module is the listener, which does not serve.
	Module Listener
	// Chains are its chains.
	Chains *chain.Set
}

// Listener finds a listener by its name.
func (t *Trial) Listener(name string) (TrialListener, bool) {
	for _, l := range t.gen.listeners {
		if l.name != name {
			continue
		}
		for _, c := range t.gen.chains {
			if c.listener == name {
				return TrialListener{Kind: l.block.Label(0), Module: l.module, Chains: c.set}, true
			}
		}
	}
	return TrialListener{}, false
}

// Listeners lists the names of the listeners in the order of the file.
func (t *Trial) Listeners() []string {
	var names []string
	for _, l := range t.gen.listeners {
		names = append(names, l.name)
	}
	return names
}

// Hostname is the name by which the server calls itself.
func (t *Trial) Hostname() string { return t.gen.settings.Server.Hostname }

// Now gives the time by the clock of the trial.
func (t *Trial) Now() time.Time { return t.gen.runtime.now() }

// Bound gives a context that ends with ctx and when the host is closed.
func (t *Trial) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.base, func() { cancel(errStopped) })
	return ctx, func() { stop(); cancel(nil) }
}

// Close cleans the handlers up.
func (t *Trial) Close() error {
	var err error
	if t.gen != nil {
		err = t.gen.close()
	}
	if t.resolver != nil {
		err = errors.Join(err, t.resolver.Close())
	}
	t.stop()
	t.done()
	return err
}

// inTrial gives what the server runs, nil if it does not.
func (s *Server) inTrial() *settings {
	if run := s.inForce(); run != nil {
		return run.settings
	}
	return nil
}

// inTrial gives what the file says.
func (o *Offline) inTrial() *settings { return o.settings }

// forTrial gives a runtime beside this one, with another clock and DNS unless they
// are nil.
func (r *runtime) forTrial(now func() time.Time, resolver *dns.Resolver) *runtime {
	t := &runtime{
		registry: r.registry, store: r.store, traces: r.traces, resolver: r.resolver, now: r.now,
		log:      r.log.Named("check").WithOptions(zap.IncreaseLevel(zapcore.ErrorLevel)),
		services: r.services, tuning: r.tuning, shared: make(map[string]*sharedValue), lender: r,
	}
	if now != nil {
		t.now = now
	}
	if resolver != nil {
		t.resolver = resolver
	}
	return t
}

// lend gives a shared value if it is there, and counts the reference.
func (r *runtime) lend(name string) (closer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shared[name]
	if s == nil {
		return nil, false
	}
	s.refs++
	return s.value, true
}

// maxTrials is how many trials there are at a time: each may hold as much as a
// configuration and a message.
const maxTrials = 2

// trials bounds the trials of a runtime, and ends them with it.
type trials struct {
	slots chan struct{}
	base  context.Context //nolint:containedctx // of all of them
	stop  context.CancelFunc

	mu      sync.Mutex
	running sync.WaitGroup // added to with mu held
	closed  bool           // guarded by mu
}

func newTrials() *trials {
	t := &trials{slots: make(chan struct{}, maxTrials)}
	t.base, t.stop = context.WithCancel(context.Background())
	return t
}

// enter waits for a place. What it gives is to be called to leave.
func (t *trials) enter(ctx context.Context) (leave func(), err error) {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d trials run: %w", maxTrials, ctx.Err())
	case <-t.base.Done():
		return nil, errStopped
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		<-t.slots
		return nil, errStopped
	}
	t.running.Add(1)
	return sync.OnceFunc(func() { <-t.slots; t.running.Done() }), nil
}

func (t *trials) context() (context.Context, context.CancelFunc) {
	return context.WithCancel(t.base)
}

// close ends the trials and waits for them.
func (t *trials) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.stop()
	t.running.Wait()
}

// inTrial gives the configuration of the sandbox.
func (s *Sandbox) inTrial() *settings { return s.settings }
