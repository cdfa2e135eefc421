package core

import (
	"maps"
	"slices"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
)

// domainChain makes the chain of a domain that has one of its own for this listener
// or tunes one of its handlers; nil if the listener's holds.
func (b *chainBuilder) domainChain(domain *Domain, listeners []*step) *chain.Chain {
	own := *b
	own.domain, own.inherited = domain, listeners
	var steps []*step
	body := domain.chainFor(b.listener)
	if body != nil {
		steps = own.steps(body, nil)
		own.check(steps, body)
	} else {
		for _, s := range listeners {
			steps = append(steps, own.tuned(s))
		}
		if slices.Equal(steps, listeners) {
			return nil
		}
	}
	return own.compile(steps)
}

// chainFor gives the domain's chain block for a listener.
func (d *Domain) chainFor(listener string) *config.Block {
	for _, c := range d.Chain {
		if c.Label(0) == listener {
			return c
		}
	}
	return nil
}

// tuned gives the step itself, or a fresh instance of it if the domain has
// settings for it.
func (b *chainBuilder) tuned(s *step) *step {
	if s.parallel != nil {
		return b.tunedParallel(s)
	}
	for _, settings := range b.domain.Settings {
		if settings.Label(0) == s.Name {
			b.used[settingsKey(b.domain, settings)] = true
			if fresh := b.handler(s.block.Merge(settings)); fresh != nil {
				fresh.Position = b.position(settings)
				return fresh
			}
		}
	}
	return s
}

func (b *chainBuilder) tunedParallel(s *step) *step {
	fresh := &step{block: s.block, Step: s.Step}
	fresh.Parallel = nil
	for _, p := range s.parallel {
		t := b.tuned(p)
		fresh.parallel = append(fresh.parallel, t)
		fresh.Parallel = append(fresh.Parallel, &t.Step)
	}
	if slices.Equal(fresh.parallel, s.parallel) {
		return s
	}
	return fresh
}

// settingsKey names a settings block among what was used.
func settingsKey(d *Domain, settings *config.Block) string {
	return "settings " + d.Name + " " + settings.DefRange.String()
}

// checkSettings finds settings that no chain has a handler for.
func (b *builder) checkSettings() {
	for _, domain := range b.gen.settings.domains.list {
		first := make(map[string]*config.Block)
		for _, settings := range domain.Settings {
			name := settings.Label(0)
			if !b.labelled(settings, first, "HANDLER") || b.used[settingsKey(domain, settings)] || b.broken[name] || b.unsure {
				continue
			}
			d := b.ds.Errorf(settings.LabelRange(0), "domain/unknown-handler", "no chain that holds for %s has a handler %q", domain.Name, name)
			switch near := config.Suggest(name, slices.Sorted(maps.Keys(b.handlers))); near {
			case "", name:
				d.WithDetail("settings names a handler of a listener's chain, by its label if it has one.")
			default:
				d.WithDetail("Did you mean %q?", near)
			}
		}
	}
}
