package core

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

// Configuration describes the configuration in force, or where no server runs the
// one that would be. An error that is tuning.ErrRequest says that it has no such
// domain or listener.
func (t *Tuning) Configuration(ctx context.Context, q effective.Query) (*effective.Config, error) {
	held, err := t.host.tuned(ctx)
	if err != nil {
		return nil, err
	}
	return held.configuration(q)
}

// Configuration describes the configuration of a file with settings of domains over
// it, those that fit. Nothing outside is touched. The description is nil where the
// file has errors, and where the error is tuning.ErrRequest.
func Configuration(o Options, q effective.Query, rows []tuning.Setting) (c *effective.Config, ds config.Diagnostics, sources map[string][]byte, err error) {
	s, ds, sources := o.settings()
	if s == nil {
		return nil, ds, sources, nil
	}
	st, err := store.OpenMemory(store.Options{Now: o.now()})
	if err != nil {
		return nil, ds, sources, err
	}
	r, err := newRuntime(o.registry(), st, s, zap.NewNop(), o.now())
	if err != nil {
		return nil, ds, sources, errors.Join(err, st.Close())
	}
	gen, found := buildGeneration(r, s)
	ds.Append(found)
	if gen != nil {
		if !ds.HasErrors() {
			gen.tuned = newTuned(gen, true)
			gen.tuned.loadRows(rows)
			c, err = gen.tuned.configuration(q)
		}
		err = errors.Join(err, gen.close())
	}
	return c, ds.Unique(), sources, errors.Join(err, r.close())
}

// configuration describes what is in force.
func (t *tuned) configuration(q effective.Query) (*effective.Config, error) {
	d := &describer{
		tuned: t, settings: t.gen.settings, at: &builder{gen: t.gen}, salt: q.Salt,
		variables: t.gen.settings.file.VariableDefaults(),
		view:      t.view("", nil),
	}
	if q.Domain != "" {
		name, err := normalDomain(q.Domain)
		if err != nil {
			return nil, err
		}
		domain, ok := t.domain(name)
		if !ok {
			return nil, requestError("the domain %s does not live here", name)
		}
		d.domain = domain
	}
	return d.config(q)
}

// describer makes the description of a configuration.
type describer struct {
	tuned     *tuned
	settings  *settings
	at        *builder
	salt      string
	variables map[string]hcl.Range
	view      *view
	domain    *Domain // for which the chains are, nil for the listeners' own
	sources   map[string][]byte
}

func (d *describer) config(q effective.Query) (*effective.Config, error) {
	c := &effective.Config{Files: d.settings.file.Names()}
	for _, domain := range d.settings.domains.list {
		for _, l := range d.view.layers(domain) {
			if l.view != nil {
				d.view.overlay(l.name)
			}
		}
	}
	d.view.overlay(tuning.Template)
	d.sources = d.view.sources()
	c.Blocks = d.top()
	var names []string
	for _, block := range d.settings.Listener {
		names = append(names, block.Label(1))
		if q.Listener == "" || q.Listener == block.Label(1) {
			c.Listeners = append(c.Listeners, d.listener(block))
		}
	}
	if q.Listener != "" && len(c.Listeners) == 0 {
		return nil, requestError("there is no listener %q; the listeners are: %s", q.Listener, list(names))
	}
	if d.domain != nil {
		c.Domain = d.domain.Name
		if c.Domain != tuning.Template {
			c.Domains = []effective.Domain{d.ownDomain(d.domain, false)}
		}
		return c, nil
	}
	if template, ok := d.template(); ok {
		c.Domains = append(c.Domains, template)
	}
	for _, domain := range d.settings.domains.list {
		c.Domains = append(c.Domains, d.ownDomain(domain, true))
	}
	return c, nil
}

// template describes what holds for all domains, if there is something.
func (d *describer) template() (effective.Domain, bool) {
	domain, _ := d.tuned.domain(tuning.Template)
	out := d.ownDomain(domain, true)
	return out, out.Place != "" || len(out.Settings) > 0
}

// listener describes a listener with its chain.
func (d *describer) listener(block *config.Block) effective.Listener {
	out := effective.Listener{}
	info, ok := d.settingsRegistry().Find("listener." + block.Label(0))
	if !ok {
		return out
	}
	out.Block = d.block(block, moduleType(info))
	for _, l := range d.tuned.listeners {
		if l.listener != block.Label(1) {
			continue
		}
		out.Stages = l.feeds.Names()
		body, steps := (*config.Block)(nil), l.steps
		if bodies := block.Blocks("chain"); len(bodies) > 0 {
			body = bodies[0]
		}
		w := &chainWalk{describer: d, listener: l}
		if d.domain != nil {
			w.layers, steps = d.view.layers(d.domain), l.of(d.domain.Name)
			if own := d.domain.chainFor(l.listener); own != nil {
				w.base, body, out.Own = body, own, true
			}
		}
		if body != nil {
			w.index(steps)
			w.index(l.steps)
			out.Chain = w.chain(body, nil)
		}
	}
	return out
}

// ownDomain describes what a domain has of its own; tuned with what it changes of
// handlers, which the chains have otherwise.
func (d *describer) ownDomain(domain *Domain, tuned bool) effective.Domain {
	out := effective.Domain{Name: domain.Name, Place: d.place(domain.block.DefRange), Apart: d.view.isAloof(domain.Name)}
	if domain.Name != tuning.Template {
		out.Values = d.block(domain.block, domainType).Values
	}
	for _, module := range domain.Modules {
		if info, ok := d.settingsRegistry().Find("domain." + module.Type); ok {
			out.Blocks = append(out.Blocks, d.block(module, moduleType(info)))
		}
	}
	if !tuned {
		return out
	}
	out.Settings = d.domainSettings(domain)
	for _, own := range domain.Chain {
		l := d.tunedListener(own.Label(0))
		if l == nil {
			continue
		}
		w := &chainWalk{describer: d, listener: l}
		w.index(l.of(domain.Name))
		out.Chains = append(out.Chains, effective.DomainChain{Listener: l.listener, Place: d.at.position(own), Chain: w.chain(own, nil)})
	}
	return out
}

func (d *describer) tunedListener(name string) *tunedListener {
	i := slices.IndexFunc(d.tuned.listeners, func(l *tunedListener) bool { return l.listener == name })
	if i < 0 {
		return nil
	}
	return d.tuned.listeners[i]
}

func (d *describer) settingsRegistry() *Registry { return d.tuned.gen.runtime.registry }

// chainWalk describes a chain in the order of the file.
type chainWalk struct {
	*describer
	listener *tunedListener
	steps    map[hcl.Range]*step // by the header of their own block
	// layers are those of the domain for which the chain is, base the chain of the
	// listener that it inherits, and inherited says that this is being described.
	layers    []layer
	base      *config.Block
	inherited bool
}

// index takes in the steps from which a chain is put together.
func (w *chainWalk) index(steps []*step) {
	if w.steps == nil {
		w.steps = make(map[hcl.Range]*step)
	}
	for _, s := range flat(steps) {
		if _, ok := w.steps[s.plain.DefRange]; !ok {
			w.steps[s.plain.DefRange] = s
		}
	}
}

// chain describes the blocks of a chain's body; via are the uses that led here.
func (w *chainWalk) chain(body *config.Block, via []effective.Via) []effective.Step {
	list := []effective.Step{}
	for _, block := range body.Blocks() {
		switch block.Type {
		case "use":
			for _, named := range w.settings.Chain {
				if named.Label(0) == block.Label(0) {
					list = append(list, w.chain(named, append(slices.Clone(via), effective.Via{Chain: named.Label(0), Place: w.at.position(block)}))...)
				}
			}
		case "inherit":
			list = append(list, w.inherit(block, via)...)
		case "parallel":
			s := effective.Step{Block: effective.Block{Type: "parallel", Place: w.at.position(block)}, Via: via, Inherited: w.inherited}
			for _, nested := range block.Blocks() {
				s.Parallel = append(s.Parallel, w.handler(nested, via)...)
			}
			list = append(list, s)
		default:
			list = append(list, w.handler(block, via)...)
		}
	}
	return list
}

// inherit gives the word itself, or in a chain for a domain the handlers of the
// listener up to its targets.
func (w *chainWalk) inherit(block *config.Block, via []effective.Via) []effective.Step {
	if w.base == nil {
		return []effective.Step{{Block: effective.Block{Type: "inherit", Place: w.at.position(block)}, Via: via, Inherit: true}}
	}
	w.inherited = true
	all := w.chain(w.base, via)
	w.inherited = false
	return slices.DeleteFunc(all, func(s effective.Step) bool { return s.Target })
}

// handler describes a handler. What has not been made has no description.
func (w *chainWalk) handler(block *config.Block, via []effective.Via) []effective.Step {
	s, ok := w.steps[block.DefRange]
	if !ok {
		return nil
	}
	out := effective.Step{Name: s.Name, Target: s.Target, Via: via, Inherited: w.inherited}
	layers := w.layers
	if s.Stages&domainKnown(w.listener.feeds) == 0 {
		layers = nil // it acts before anybody knows the domain
	}
	out.Block = w.laid(block, s.info, layers)
	text := func(name string) string {
		i := slices.IndexFunc(out.Block.Values, func(v effective.Value) bool { return v.Name == name })
		if i < 0 {
			return ""
		}
		return out.Block.Values[i].Text
	}
	out.Disabled, out.Monitor = text("enabled") == "false", text("mode") == `"monitor"`
	if s.info.StageAttribute && text("stage") == "" {
		out.Block.Values = append(out.Block.Values, effective.Value{Name: "stage", Text: stageText(s.Stages), Source: tuning.FromDefault})
	}
	out.Stages = (s.Stages & w.listener.feeds).Names()
	if chosen := w.chosenStages(s, out.Block); chosen != 0 {
		out.Stages = (chosen & w.listener.feeds).Names()
	}
	return []effective.Step{out}
}

// stageText writes stages as the file has them.
func stageText(stages mail.Stages) string {
	var words []string
	for _, name := range stages.Names() {
		words = append(words, quote(name))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// chosenStages are those that the settings of the handler name, 0 if they name none.
func (w *chainWalk) chosenStages(s *step, b effective.Block) mail.Stages {
	if !s.info.StageAttribute {
		return 0
	}
	var stages mail.Stages
	for _, v := range b.Values {
		if v.Name != "stage" || v.Source == tuning.FromDefault {
			continue
		}
		for _, word := range quoted(v.Text) {
			if stage, ok := mail.ParseStage(word); ok {
				stages |= mail.At(stage)
			}
		}
	}
	return stages
}
