package core

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/tuning"
)

// view is what the database sets while chains are made: what is in force, but for
// one domain that is changed.
type view struct {
	tuned    *tuned
	domain   string
	fresh    given
	overlays map[string]*overlay
}

// overlay is the settings of a domain as a text of blocks.
type overlay struct {
	text   *config.Overlay
	blocks map[string]*config.Block // by handler
	ds     config.Diagnostics
}

func (t *tuned) view(domain string, fresh given) *view {
	return &view{tuned: t, domain: domain, fresh: fresh, overlays: make(map[string]*overlay)}
}

func (v *view) given(domain string) given {
	if domain == v.domain {
		return v.fresh
	}
	return v.tuned.inForce(domain)
}

// overlayName is what diagnostics and traces call the settings of a domain.
func overlayName(domain string) string { return "database: domain " + domain }

// overlay writes the settings of a domain down, once they are needed.
func (v *view) overlay(domain string) *overlay {
	if o := v.overlays[domain]; o != nil {
		return o
	}
	o := &overlay{text: v.tuned.gen.settings.file.NewOverlay(overlayName(domain)), blocks: make(map[string]*config.Block)}
	all := v.given(domain)
	for _, handler := range slices.Sorted(maps.Keys(all)) {
		block, ds := o.text.Block("settings", handler, all[handler])
		o.blocks[handler] = block
		o.ds.Append(ds)
	}
	v.overlays[domain] = o
	return o
}

// sources gives the texts into which diagnostics point.
func (v *view) sources() map[string][]byte {
	all := maps.Clone(v.tuned.gen.settings.file.Sources)
	for domain, o := range v.overlays {
		all[overlayName(domain)] = o.text.Text()
	}
	return all
}

// checkHandlers finds settings that cannot be read, and those for handlers that the
// domain does not have.
func (v *view) checkHandlers(r tuning.Request) config.Diagnostics {
	var ds config.Diagnostics
	names := v.tuned.handlers(r.Domain)
	o := v.overlay(r.Domain)
	ds.Append(o.ds)
	for _, c := range r.Changes {
		if c.Value == nil {
			continue
		}
		if slices.Contains(names, c.Handler) {
			moved := v.given(r.Domain).has(tuning.Key{Handler: c.Handler, Attribute: "stage"})
			if !moved && !v.tuned.hasEffect(r.Domain, c.Handler) {
				noEffect(&ds, o.blocks[c.Handler], c.Handler)
			}
			continue
		}
		d := ds.Errorf(o.blocks[c.Handler].LabelRange(0), "domain/unknown-handler", "no chain that holds for %s has a handler %q", r.Domain, c.Handler)
		if d.Detail = handlerHint(c.Handler, names); len(names) > 0 && config.Suggest(c.Handler, names) == "" {
			d.WithDetail("Its handlers are: %s.", list(names))
		}
	}
	return ds
}

// hasEffect tells whether a handler of that name acts anywhere once it is known
// whose settings hold.
func (t *tuned) hasEffect(domain, handler string) bool {
	return slices.ContainsFunc(t.listeners, func(l *tunedListener) bool {
		return slices.ContainsFunc(flat(l.of(domain)), func(s *step) bool {
			return s.Name == handler && s.Stages&domainKnown(l.feeds) != 0
		})
	})
}

// layers gives the layers for a domain, the weakest first.
func (v *view) layers(domain *Domain) []layer {
	database := func(source tuning.Source, name string) layer {
		return layer{source: source, place: overlayName(name), name: name, given: v.given(name), view: v}
	}
	domains := v.tuned.gen.settings.domains
	list := make([]layer, 0, 4)
	if domains.template != nil {
		list = append(list, layer{source: tuning.FromFileTemplate, domain: domains.template})
	}
	if !v.isAloof(domain.Name) {
		list = append(list, database(tuning.FromDatabaseTemplate, tuning.Template))
	}
	if domain.Name != tuning.Template {
		list = append(list, layer{source: tuning.FromFile, domain: domain}, database(tuning.FromDatabase, domain.Name))
	}
	return list
}

// isAloof tells whether the database's template does not hold for a domain, since
// they did not fit when they were read. A change of the template tries again.
func (v *view) isAloof(domain string) bool {
	v.tuned.mu.Lock()
	defer v.tuned.mu.Unlock()
	return v.tuned.aloof[domain] && v.domain != tuning.Template
}

// plan is the chains of one domain as they will be, by listener; nil where it has
// none of its own.
type plan struct {
	tuned  *tuned
	view   *view
	domain string
	layers []layer
	aloof  bool // the template does not hold for it
	chains []*tunedChain
	uses   []*tunedInstance // of all of them
	ds     config.Diagnostics
}

// plan makes the chains of a domain. What it made is to be committed or released.
func (t *tuned) plan(v *view, domain string) *plan {
	p := &plan{tuned: t, view: v, domain: domain}
	d, ok := t.domain(domain)
	if !ok {
		p.chains = make([]*tunedChain, len(t.listeners))
		return p
	}
	p.layers, p.aloof = v.layers(d), v.isAloof(domain)
	for _, l := range t.listeners {
		p.chains = append(p.chains, p.chain(l, d))
	}
	return p
}

// chain makes the chain of one listener, nil if the domain has none of its own.
func (p *plan) chain(l *tunedListener, d *Domain) *tunedChain {
	base := l.of(d.Name)
	own := p.view.given(d.Name)
	if d.Name != tuning.Template && l.domains[d.Name] == nil && !l.has(own) && !p.aloof {
		return nil // what holds for all others holds for it
	}
	before := len(p.uses)
	steps := p.steps(l, d, base)
	if slices.Equal(steps, base) {
		return nil
	}
	cb := p.builder(l, d, p.tuned.gen)
	cb.checkTuned(steps, base, d.block)
	p.ds.Append(cb.ds)
	return &tunedChain{chain: cb.compile(steps), uses: slices.Clone(p.uses[before:])}
}

// builder gives what checks and compiles chains, and makes handlers for gen.
func (p *plan) builder(l *tunedListener, d *Domain, gen *generation) *chainBuilder {
	return &chainBuilder{
		builder: &builder{gen: gen}, listener: l.listener, feeds: l.feeds, needsLogin: l.needsLogin, incomplete: l.incomplete,
		domain: d, layers: p.layers, log: l.log,
	}
}

func (p *plan) steps(l *tunedListener, d *Domain, base []*step) []*step {
	out := make([]*step, 0, len(base))
	for _, s := range base {
		if s.parallel != nil {
			out = append(out, s.withParallel(p.steps(l, d, s.parallel)))
			continue
		}
		out = append(out, p.step(l, d, s))
	}
	return out
}

// step gives the step itself, or one with another instance if the database has
// settings for it.
func (p *plan) step(l *tunedListener, d *Domain, s *step) *step {
	place, tuned := "", false
	at := builder{gen: p.tuned.gen}
	for n := range p.layers {
		y := &p.layers[n]
		switch {
		case len(y.given[s.Name]) > 0:
			place, tuned = y.place, true
		case y.domain != nil && y.domain.settingsFor(s.Name) != nil:
			place = at.position(y.domain.settingsFor(s.Name))
		}
	}
	if !tuned {
		return s
	}
	position := tunedAt(at.position(s.plain), place)
	key := p.key(s)
	if key.text == "" {
		return s // the file's own settings are stronger
	}
	i := l.take(key)
	if i == nil {
		if i = p.make(l, d, s, key.scope()); i == nil {
			return s
		}
		l.keep(key, i)
	}
	p.uses = append(p.uses, i)
	if i.placed != nil && i.placed.Position == position && i.placed.origin.same(p.layers) {
		return i.placed
	}
	fresh := *i.step
	fresh.Position = position
	at.comesFrom(&fresh, s.plain, p.layers)
	i.placed = &fresh
	return &fresh
}

// make makes an instance, nil where there were errors.
func (p *plan) make(l *tunedListener, d *Domain, s *step, scope string) *tunedInstance {
	part := &generation{runtime: p.tuned.gen.runtime, settings: p.tuned.gen.settings, sources: p.tuned.gen.sources, domainModules: p.tuned.gen.domainModules}
	cb := p.builder(l, d, part)
	cb.tuning, cb.handlers, cb.broken = make(map[*config.Block]bool), make(map[string]bool), make(map[string]bool)
	cb.scope = scope
	for n := range p.layers {
		y := &p.layers[n]
		if len(y.given[s.Name]) > 0 {
			p.ds.Append(p.view.overlay(y.name).ds)
		}
	}
	made := cb.handler(s.plain)
	if made != nil && !cb.ds.HasErrors() && !p.tuned.dry {
		if err := startModules(part.modules); err != nil {
			cb.ds.Errorf(made.block.DefRange, "module/start", "%v", err)
		}
	}
	p.ds.Append(cb.ds)
	if made != nil && !p.ds.HasErrors() {
		return &tunedInstance{listener: l, part: part, step: made}
	}
	if err := part.close(); err != nil {
		p.ds.Errorf(s.plain.DefRange, "module/cleanup", "%v", err)
	}
	return nil
}

// instanceKey tells instances of one listener apart: the handler's block, the
// settings of the file, and the text of those of the database.
type instanceKey struct {
	plain, template, file *config.Block
	text                  string
}

// key gives the key of the instance that a step shall have.
func (p *plan) key(s *step) instanceKey {
	key := instanceKey{plain: s.plain}
	var values []config.Given
	for n := range p.layers {
		y := &p.layers[n]
		values = over(values, y.given[s.Name])
		switch y.source {
		case tuning.FromFileTemplate:
			key.template = y.settings(s.Name)
		case tuning.FromFile:
			if key.file = y.settings(s.Name); key.file != nil {
				values = slices.DeleteFunc(slices.Clone(values), func(g config.Given) bool {
					_, ok := key.file.Attribute(g.Name)
					return ok
				})
			}
		default:
		}
	}
	size := 0
	for _, g := range values {
		size += len(g.Name) + len(g.Value) + 2
	}
	text := make([]byte, 0, size)
	for _, g := range values {
		text = append(append(append(append(text, g.Name...), '='), g.Value...), '\n')
	}
	key.text = string(text)
	return key
}

// scope names what the instances of a key have together beside the listener's own:
// their circuit breaker. Domains may come to the same settings and part again.
func (k instanceKey) scope() string {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(k.text))
	return fmt.Sprintf("%p %p %p %x", k.plain, k.template, k.file, hash.Sum64())
}

// over lays settings over others, both sorted by name.
func over(below, above []config.Given) []config.Given {
	if len(below) == 0 {
		return above
	}
	if len(above) == 0 {
		return below
	}
	out := slices.DeleteFunc(slices.Clone(below), func(g config.Given) bool {
		return slices.ContainsFunc(above, func(o config.Given) bool { return o.Name == g.Name })
	})
	out = append(out, above...)
	slices.SortFunc(out, func(a, b config.Given) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// tunedInstance is one instance of a handler.
type tunedInstance struct {
	listener *tunedListener
	key      instanceKey
	// part owns the module and what it shares.
	part *generation
	step *step
	// placed is the step as a chain had it last; of who has the turn.
	placed *step
	refs   int // of chains, guarded by tuned's mu
}

// take gives the instance of that key, nil if there is none, and counts the use.
func (l *tunedListener) take(key instanceKey) *tunedInstance {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.instances[key]
	if i != nil {
		i.refs++
	}
	return i
}

// keep takes an instance in, with one use.
func (l *tunedListener) keep(key instanceKey, i *tunedInstance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.key, i.refs = key, 1
	l.instances[key] = i
}

// release ends uses of instances and cleans up those that have no more.
func (t *tuned) release(uses []*tunedInstance) error {
	var unused []*tunedInstance
	t.mu.Lock()
	for _, i := range uses {
		if i.refs--; i.refs == 0 {
			delete(i.listener.instances, i.key)
			unused = append(unused, i)
		}
	}
	t.mu.Unlock()
	var all error
	for _, i := range unused {
		all = errors.Join(all, i.part.close())
	}
	return all
}
