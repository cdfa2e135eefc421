package core

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// builder makes a generation of a decoded file. It collects every mistake and
// goes on.
type builder struct {
	gen    *generation
	ds     config.Diagnostics
	chains map[string]*config.Block // named chains
	used   map[string]bool
}

// buildGeneration makes the modules and chains of a file. What it made is
// cleaned up when there are errors; the generation is nil then.
func buildGeneration(r *runtime, s *settings) (*generation, config.Diagnostics) {
	b := &builder{
		gen:    &generation{runtime: r, settings: s},
		chains: make(map[string]*config.Block),
		used:   make(map[string]bool),
	}
	b.tlsSources()
	b.namedChains()
	b.listeners()
	for _, name := range b.unusedChains() {
		b.ds.Warnf(b.chains[name].DefRange, "chain/unused", "no chain uses %q", name).
			WithDetail("Splice it in with use %q {}, or remove it.", name)
	}
	if !b.ds.HasErrors() {
		return b.gen, b.ds
	}
	if err := b.gen.close(); err != nil {
		b.ds.Errorf(hcl.Range{Filename: s.file.Name}, "module/cleanup", "%v", err)
	}
	return nil, b.ds
}

// one makes a module of a block: New, decode, Provision, Validate. The further
// structs take the attributes that the module does not know. The result is nil
// where there were errors.
func (b *builder) one(info Info, block *config.Block, c *Context, also ...any) Module {
	m := info.New()
	ds := config.Decode(block, append([]any{m}, also...)...)
	b.ds.Append(ds)
	if ds.HasErrors() {
		return nil
	}
	i := &instance{module: m, name: c.name, block: block}
	b.gen.modules = append(b.gen.modules, i)
	if p, ok := m.(Provisioner); ok {
		if err := i.guard("set up", func() error { return p.Provision(c) }); err != nil {
			b.ds.Errorf(block.DefRange, "module/provision", "%v", err)
			return nil
		}
	}
	if v, ok := m.(Validator); ok {
		found := v.Validate().Diagnostics(block, info.ID)
		b.ds.Append(found)
		if found.HasErrors() {
			return nil
		}
	}
	return m
}

// find looks a module up and says what there is when it is not there.
func (b *builder) find(namespace, name string, place hcl.Range) (Info, bool) {
	info, ok := b.gen.runtime.registry.Find(namespace + "." + name)
	if ok {
		return info, true
	}
	var names []string
	for _, m := range b.gen.runtime.registry.Modules(namespace) {
		names = append(names, m.Name())
	}
	d := b.ds.Errorf(place, "config/unknown-"+namespace, "this build has no %s %q", namespace, name)
	if near := config.Suggest(name, names); near != "" {
		d.WithDetail("Did you mean %q?", near)
	} else {
		d.WithDetail("It has: %s.", list(names))
	}
	return Info{}, false
}

func (b *builder) context(name, listener string) *Context {
	log := b.gen.runtime.log.Named(name)
	if listener != "" && listener != name {
		log = b.gen.runtime.log.Named(listener + "." + name)
	}
	return &Context{runtime: b.gen.runtime, settings: b.gen.settings, generation: b.gen, name: name, listener: listener, log: log}
}

func (b *builder) tlsSources() {
	first := make(map[string]*config.Block)
	for _, block := range b.gen.settings.TLS {
		info, ok := b.find("tls", block.Label(0), block.LabelRange(0))
		if !ok {
			continue
		}
		labels := new(tlsLabels)
		name := block.Label(0)
		if block.Label(1) != "" {
			name = block.Label(1)
		}
		if other, ok := first[name]; ok {
			b.ds.Errorf(block.DefRange, "tls/duplicate", "two tls blocks have the name %q", name).
				WithDetail("Give one of them a name of its own: tls %q \"NAME\" { … }.", block.Label(0)).
				WithRelated(other.DefRange, "the first one stands here")
			continue
		}
		first[name] = block
		if source, ok := b.one(info, block, b.context(name, ""), labels).(TLSSource); ok {
			b.gen.sources = append(b.gen.sources, source)
		}
	}
}

// tlsLabels are what every tls block has.
type tlsLabels struct {
	// Kind is where the certificates come from: the name of the module.
	Kind string `config:"kind,label"`
	// Name tells several blocks of one kind apart.
	Name string `config:"name,label,optional"`
}

func (b *builder) namedChains() {
	for _, block := range b.gen.settings.Chain {
		name := block.Label(0)
		if len(block.Labels) != 1 {
			b.ds.Errorf(block.DefRange, "chain/no-name", "a chain that others use has one name").
				WithDetail(`Write chain "NAME" { … } and splice it in with use "NAME" {}.`)
			continue
		}
		if first, ok := b.chains[name]; ok {
			b.ds.Errorf(block.LabelRange(0), "chain/duplicate", "two chains have the name %q", name).
				WithRelated(first.DefRange, "the first one stands here")
			continue
		}
		b.chains[name] = block
	}
}

func (b *builder) unusedChains() []string {
	var names []string
	for name := range b.chains {
		if !b.used[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// listenerSettings are what the core takes from a listener block.
type listenerSettings struct {
	// Kind is the protocol: the name of the listener's module.
	Kind string `config:"kind,label"`
	// Name is what domains, logs and traces call the listener.
	Name string `config:"name,label"`
	// Chain holds the handlers, in the order in which they are asked.
	Chain *config.Block `config:"chain,block"`
}

func (b *builder) listeners() {
	first := make(map[string]*config.Block)
	for _, block := range b.gen.settings.Listener {
		info, ok := b.find("listener", block.Label(0), block.LabelRange(0))
		if !ok {
			continue
		}
		name := block.Label(1)
		if other, ok := first[name]; ok && name != "" {
			b.ds.Errorf(block.LabelRange(1), "listener/duplicate", "two listeners have the name %q", name).
				WithRelated(other.DefRange, "the first one stands here")
			continue
		}
		first[name] = block
		b.listener(info, name, block)
	}
	b.checkDomains(first)
	b.checkSettings()
}

// listener makes the handlers first, since the listener's Provision takes the
// chains.
func (b *builder) listener(info Info, name string, block *config.Block) {
	c := b.context(name, name)
	cb := &chainBuilder{builder: b, listener: name, feeds: info.Stages}
	steps := []*step{}
	if bodies := block.Blocks("chain"); len(bodies) > 0 {
		steps = cb.steps(bodies[0], nil)
		cb.check(steps, bodies[0])
	} else if info.Stages.Has(mail.StageRcpt) {
		b.ds.Errorf(block.DefRange, "chain/missing", "%s has no chain", block.Header()).
			WithDetail("Write chain { deliver {} } into it, with the handlers that shall judge in front of deliver.")
	}
	domains := make(map[string]*chain.Chain)
	for _, domain := range b.gen.settings.domains.list {
		if own := cb.domainChain(domain, steps); own != nil {
			domains[domain.Name] = own
		}
	}
	c.chains = chain.NewSet(cb.compile(steps), domains)
	settings := new(listenerSettings)
	if m, ok := b.one(info, block, c, settings).(Listener); ok {
		b.gen.listeners = append(b.gen.listeners, &listener{name: name, module: m, block: block})
	}
}

// checkDomains finds domain blocks that name what is not there.
func (b *builder) checkDomains(listeners map[string]*config.Block) {
	var names []string
	for name := range listeners {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, domain := range b.gen.settings.domains.list {
		for _, c := range domain.Chain {
			if _, ok := listeners[c.Label(0)]; ok {
				continue
			}
			d := b.ds.Errorf(c.LabelRange(0), "domain/unknown-listener", "no listener has the name %q", c.Label(0))
			if near := config.Suggest(c.Label(0), names); near != "" {
				d.WithDetail("Did you mean %q?", near)
			} else {
				d.WithDetail("A domain's chain is named after the listener by which the mail comes in: %s.", list(names))
			}
		}
	}
}

// list joins names for a sentence.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// position says where a block stands, for traces: relative to the main file.
func (b *builder) position(block *config.Block) string {
	name := block.DefRange.Filename
	if relative, err := filepath.Rel(b.gen.settings.baseDir, name); err == nil {
		name = relative
	}
	return fmt.Sprintf("%s:%d", name, block.DefRange.Start.Line)
}
