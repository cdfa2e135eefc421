package core

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/tuning"
)

// tuned is what the settings of domains in the database make of a generation: for
// each domain that has some, chains with instances of their own. The file's chains
// stay as they are beside it, and hold again where settings are removed.
//
// An instance is shared by the domains whose settings for it are the same. It is
// cleaned up when the last run of the last chain that has it is over.
type tuned struct {
	gen *generation
	// dry says that nothing is started, since no server runs.
	dry bool
	// only are the domains for which chains are made, nil for all. The template is.
	only      map[string]bool
	listeners []*tunedListener
	closing   chan struct{}
	closed    sync.Once
	retiring  sync.WaitGroup // chains that wait for their last run

	mu sync.Mutex
	// given are the settings in force by domain, aloof the domains for which those of
	// the template are not, and problems why other settings are not. They are guarded
	// by mu, and changed by who has the server's turn.
	given    map[string]given
	aloof    map[string]bool
	problems map[string]map[tuning.Key]string
}

// given are settings by the name of their handler, sorted by attribute.
type given map[string][]config.Given

// tunedListener is the part of one listener.
type tunedListener struct {
	*listenerChains
	log       *zap.Logger
	names     map[string]bool                // of the handlers of domains without a chain of their own
	mu        *sync.Mutex                    // of tuned
	instances map[instanceKey]*tunedInstance // guarded by mu
	tuned     map[string]*tunedChain         // by domain; of who has the turn
}

// tunedChain is the chain of a domain, and the instances that it has beside those
// of the file.
type tunedChain struct {
	chain *chain.Chain
	uses  []*tunedInstance
}

func newTuned(gen *generation, dry bool) *tuned {
	t := &tuned{
		gen: gen, dry: dry, closing: make(chan struct{}),
		given: make(map[string]given), aloof: make(map[string]bool), problems: make(map[string]map[tuning.Key]string),
	}
	for _, l := range gen.chains {
		names := make(map[string]bool)
		for _, s := range flat(l.template) {
			names[s.Name] = true
		}
		t.listeners = append(t.listeners, &tunedListener{
			listenerChains: l, log: gen.runtime.log.Named(l.listener), names: names, mu: &t.mu,
			instances: make(map[instanceKey]*tunedInstance), tuned: make(map[string]*tunedChain),
		})
	}
	return t
}

// has tells whether some of the settings are for a handler of a domain that has no
// chain of its own.
func (l *tunedListener) has(g given) bool {
	for handler := range g {
		if l.names[handler] {
			return true
		}
	}
	return false
}

// with gives the settings with a change of one, which was made at that time. What
// is so already is not set anew.
func (g given) with(c tuning.Change, at time.Time) given {
	out := make(given, len(g)+1)
	maps.Copy(out, g)
	for _, s := range g[c.Handler] {
		if s.Name == c.Attribute && c.Value != nil && s.Value == *c.Value {
			return out
		}
	}
	list := slices.DeleteFunc(slices.Clone(g[c.Handler]), func(s config.Given) bool { return s.Name == c.Attribute })
	if c.Value != nil {
		list = append(list, config.Given{Name: c.Attribute, Value: *c.Value, Since: at})
		slices.SortFunc(list, func(a, b config.Given) int { return strings.Compare(a.Name, b.Name) })
	}
	if len(list) == 0 {
		delete(out, c.Handler)
	} else {
		out[c.Handler] = list
	}
	return out
}

func (g given) count() (n int) {
	for _, list := range g {
		n += len(list)
	}
	return n
}

// has tells whether a setting is among them.
func (g given) has(k tuning.Key) bool {
	return slices.ContainsFunc(g[k.Handler], func(s config.Given) bool { return s.Name == k.Attribute })
}

// inForce gives the settings of a domain that are in force.
func (t *tuned) inForce(domain string) given {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.given[domain]
}

// domain finds a domain of the file; the template is one.
func (t *tuned) domain(name string) (*Domain, bool) {
	domains := t.gen.settings.domains
	switch {
	case name != tuning.Template:
		return domains.Find(name)
	case domains.template != nil:
		return domains.template, true
	default:
		return &Domain{Name: name, block: &config.Block{Type: "domain", Labels: []string{name}}}, true
	}
}

// affected lists the domains whose chains a change of one concerns.
func (t *tuned) affected(domain string) []string {
	list := []string{domain}
	if domain != tuning.Template {
		return list
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.gen.settings.domains.list {
		if t.given[d.Name] != nil || t.ownSteps(d.Name) {
			list = append(list, d.Name)
		}
	}
	return list
}

// ownSteps tells whether the file has a chain or settings for a domain.
func (t *tuned) ownSteps(domain string) bool {
	return slices.ContainsFunc(t.listeners, func(l *tunedListener) bool { return l.domains[domain] != nil })
}

// handlers lists the names of the handlers that a domain can tune.
func (t *tuned) handlers(domain string) []string {
	var names []string
	add := func(steps []*step) {
		for _, s := range flat(steps) {
			names = append(names, s.Name)
		}
	}
	for _, l := range t.listeners {
		add(l.of(domain))
		if domain == tuning.Template {
			for _, steps := range l.domains {
				add(steps)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// put checks a change, makes it durable in table, and then puts it in force. Nothing
// has changed where there are errors.
func (t *tuned) put(ctx context.Context, table *tuning.Table, r tuning.Request) (config.Diagnostics, map[string][]byte, error) {
	fresh := t.inForce(r.Domain)
	r.At = t.gen.runtime.now()
	for _, c := range r.Changes {
		fresh = fresh.with(c, r.At)
	}
	if n := fresh.count(); n > tuning.MaxChanges {
		return nil, nil, requestError("%s would have %d settings, and %d is the most", r.Domain, n, tuning.MaxChanges)
	}
	v := t.view(r.Domain, fresh)
	ds := v.checkHandlers(r)
	var plans []*plan
	if !ds.HasErrors() {
		var more config.Diagnostics
		plans, more = t.plans(v, t.affected(r.Domain))
		ds.Append(more)
	}
	ds = ds.Unique()
	sources := v.sources()
	err := error(nil)
	if ds.HasErrors() {
		err = ErrInvalid
	} else {
		// Nobody must be told that nothing has changed while the rows are written.
		err = table.Apply(context.WithoutCancel(ctx), r)
	}
	if err != nil {
		return ds, sources, errors.Join(err, t.discard(plans))
	}
	t.note(r, fresh, plans)
	t.commit(plans)
	return ds, sources, nil
}

// plans makes the chains of several domains, until one cannot be made. Domains with
// which the template did not agree before do not keep it from being changed.
func (t *tuned) plans(v *view, domains []string) (list []*plan, ds config.Diagnostics) {
	for _, domain := range domains {
		p := t.plan(v, domain)
		if p.ds.HasErrors() && domain != v.domain && t.aloof[domain] {
			if err := t.release(p.uses); err != nil {
				ds.Errorf(v.tuned.gen.settings.file.Root.DefRange, "module/cleanup", "%v", err)
			}
			continue
		}
		list = append(list, p)
		if ds.Append(p.ds); ds.HasErrors() {
			break
		}
	}
	return list, ds
}

// discard cleans up what was made for nothing.
func (t *tuned) discard(plans []*plan) error {
	var all error
	for _, p := range plans {
		all = errors.Join(all, t.release(p.uses))
	}
	return all
}

// note remembers what is in force after a change.
func (t *tuned) note(r tuning.Request, fresh given, plans []*plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.given[r.Domain] = fresh
	if len(fresh) == 0 {
		delete(t.given, r.Domain)
	}
	for _, c := range r.Changes {
		delete(t.problems[r.Domain], c.Key)
	}
	if r.Domain == tuning.Template {
		for _, p := range plans {
			delete(t.aloof, p.domain)
		}
	}
}

// commit puts chains in force and retires those that they replace.
func (t *tuned) commit(plans []*plan) {
	var old []*tunedChain
	for i, l := range t.listeners {
		changes := make(map[string]*chain.Chain)
		for _, p := range plans {
			before := l.tuned[p.domain]
			if before != nil {
				old = append(old, before)
			}
			if p.chains[i] == nil {
				delete(l.tuned, p.domain)
			} else {
				l.tuned[p.domain] = p.chains[i]
			}
			if before != nil || p.chains[i] != nil {
				changes[p.domain] = nil
			}
		}
		if _, ok := changes[tuning.Template]; ok {
			delete(changes, tuning.Template)
			for _, d := range t.gen.settings.domains.list {
				changes[d.Name] = nil
			}
		}
		for domain := range changes {
			changes[domain] = t.holding(l, domain)
		}
		if len(changes) > 0 {
			l.set.Replace(changes)
		}
	}
	t.retire(old)
}

// holding gives the chain that holds for a domain, nil for the listener's.
func (t *tuned) holding(l *tunedListener, domain string) *chain.Chain {
	if c := l.tuned[domain]; c != nil {
		return c.chain
	}
	if l.domains[domain] == nil && !t.aloof[domain] {
		if c := l.tuned[tuning.Template]; c != nil {
			return c.chain
		}
	}
	return l.chains[domain]
}

// retire has the instances of chains that no set has any more cleaned up when
// their last runs are over.
func (t *tuned) retire(old []*tunedChain) {
	if len(old) == 0 {
		return
	}
	ended := make([]<-chan struct{}, 0, len(old))
	for _, c := range old {
		ended = append(ended, c.chain.Retire())
	}
	t.retiring.Go(func() {
		for i, c := range old {
			select {
			case <-ended[i]:
			case <-t.closing:
			}
			if err := t.release(c.uses); err != nil {
				t.gen.runtime.log.Error("clean up a handler of a domain", zap.Error(err))
			}
		}
	})
}

// close cleans everything up. No run goes on then.
func (t *tuned) close() (err error) {
	if t == nil {
		return nil
	}
	t.closed.Do(func() {
		close(t.closing)
		t.retiring.Wait()
		for _, l := range t.listeners {
			for _, c := range l.tuned {
				err = errors.Join(err, t.release(c.uses))
			}
			clear(l.tuned)
		}
	})
	return err
}
