package effective

import (
	"maps"
	"slices"

	"github.com/mox-like/mox-like/core/tuning"
)

// domains compares the domains by their names.
func (c *comparison) domains(a, b *Config) {
	before, after := newSide(a), newSide(b)
	pairs(a.Domains, b.Domains, func(d *Domain) string { return d.Name }, func(old, now *Domain) {
		if name := nameOf(old, now); name == tuning.Template {
			c.settings(before, after, old, now)
			return
		}
		switch {
		case old == nil:
			c.add(Change{Kind: KindDomain, What: Added, Domains: []string{now.Name}, Place: now.Place})
		case now == nil:
			c.add(Change{Kind: KindDomain, What: Removed, Domains: []string{old.Name}, Place: old.Place})
		default:
			about := Change{Domains: []string{now.Name}}
			c.values(about, old.Values, now.Values)
			c.blocks(about, old.Blocks, now.Blocks)
			c.settings(before, after, old, now)
			c.chains(about, old.Chains, now.Chains)
		}
	})
}

func nameOf(a, b *Domain) string {
	if a != nil {
		return a.Name
	}
	return b.Name
}

// chains compares a domain's own chains.
func (c *comparison) chains(about Change, a, b []DomainChain) {
	pairs(a, b, func(d *DomainChain) string { return d.Listener }, func(old, now *DomainChain) {
		one := about
		one.Kind = KindChain
		switch {
		case old == nil:
			one.What, one.Listener, one.Place = Added, now.Listener, now.Place
			c.add(one)
		case now == nil:
			one.What, one.Listener, one.Place = Removed, old.Listener, old.Place
			c.add(one)
		default:
			one.Kind, one.Listener = "", now.Listener
			c.chain(one, old.Chain, now.Chain)
		}
	})
}

// side is one of the two configurations, with its listeners' handlers by name.
type side struct {
	listeners map[string]map[string]*Step
	template  *Domain
}

func newSide(c *Config) *side {
	s := &side{listeners: make(map[string]map[string]*Step)}
	for i := range c.Listeners {
		s.listeners[c.Listeners[i].Name()] = byName(c.Listeners[i].Chain)
	}
	for i := range c.Domains {
		if c.Domains[i].Name == tuning.Template {
			s.template = &c.Domains[i]
		}
	}
	return s
}

func byName(chain []Step) map[string]*Step {
	out := make(map[string]*Step)
	for _, s := range Handlers(chain) {
		out[s.Name] = &s
	}
	return out
}

// handler finds a handler as it stands in the chain that a domain has for a
// listener, without settings over it; nil if it is not there.
func (s *side) handler(d *Domain, listener, name string) *Step {
	if d != nil {
		for i := range d.Chains {
			own := &d.Chains[i]
			if own.Listener != listener {
				continue
			}
			if step := byName(own.Chain)[name]; step != nil {
				return step
			}
			if !slices.ContainsFunc(own.Chain, func(s Step) bool { return s.Inherit }) {
				return nil
			}
		}
	}
	return s.listeners[listener][name]
}

// set is a value of a handler that settings change: below them and with them.
type set struct {
	there       bool // the handler is in the chain
	below, with *Value
}

// value gives a value of a handler for a domain, or for all of them.
func (s *side) value(d *Domain, listener, handler, attribute string) set {
	step := s.handler(d, listener, handler)
	if step == nil {
		return set{}
	}
	out := set{there: true, below: pick(step.Block.Values, attribute)}
	if template := d == nil || d.Name == tuning.Template; !template {
		if v := settingOf(s.template, handler, attribute); v != nil && (!d.Apart || v.Source != tuning.FromDatabaseTemplate) {
			out.below = v
		}
	}
	out.with = out.below
	if v := settingOf(d, handler, attribute); v != nil {
		out.with = v
	}
	return out
}

// settings compares what holds by the settings of a domain. What changes for it as
// for all others is told there.
func (c *comparison) settings(before, after *side, old, now *Domain) {
	name := nameOf(old, now)
	for _, k := range keys(old, now) {
		for _, listener := range listenersOf(before, after) {
			a, b := before.value(old, listener, k.handler, k.attribute), after.value(now, listener, k.handler, k.attribute)
			if !a.there || !b.there || a.with.same(b.with) || a.with.same(a.below) && b.with.same(b.below) {
				continue
			}
			c.value(Change{Listener: listener, Domains: []string{name}, Block: k.handler, Attribute: k.attribute}, a.with, b.with)
		}
	}
	c.settingBlocks(old, now)
}

// settingBlocks compares the blocks that settings hold.
func (c *comparison) settingBlocks(old, now *Domain) {
	nested := func(d *Domain) map[string][]Block {
		out := make(map[string][]Block)
		if d != nil {
			for _, s := range d.Settings {
				out[s.Labels[0]] = s.Blocks
			}
		}
		return out
	}
	a, b := nested(old), nested(now)
	names := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(names)
	for _, handler := range slices.Compact(names) {
		c.blocks(Change{Domains: []string{nameOf(old, now)}, Block: handler}, a[handler], b[handler])
	}
}

// key names a setting.
type key struct{ handler, attribute string }

// keys lists the settings that either of two domains has, in order.
func keys(domains ...*Domain) []key {
	var list []key
	for _, d := range domains {
		if d == nil {
			continue
		}
		for _, s := range d.Settings {
			for _, v := range s.Values {
				if k := (key{s.Labels[0], v.Name}); !slices.Contains(list, k) {
					list = append(list, k)
				}
			}
		}
	}
	return list
}

// listenersOf lists the listeners that both have, in the order of their names.
func listenersOf(a, b *side) []string {
	var names []string
	for name := range a.listeners {
		if b.listeners[name] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func settingOf(d *Domain, handler, attribute string) *Value {
	if d == nil {
		return nil
	}
	for i := range d.Settings {
		if d.Settings[i].Labels[0] == handler {
			if v := pick(d.Settings[i].Values, attribute); v != nil {
				return v
			}
		}
	}
	return nil
}

func pick(list []Value, name string) *Value {
	if i := slices.IndexFunc(list, func(v Value) bool { return v.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}
