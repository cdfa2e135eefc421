package core

import (
	"maps"
	"slices"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// layer is one of the layers of settings that lie over the handlers of a domain's
// chains.
type layer struct {
	source tuning.Source
	// domain is the one of the file whose settings these are.
	domain *Domain
	// given are those of a layer of the database instead, name is their domain, place
	// what traces call it, and view writes them down as blocks.
	given       given
	name, place string
	view        *view
}

// settings gives the block for a handler, nil if there is none.
func (l *layer) settings(handler string) *config.Block {
	if l.view != nil {
		return l.view.overlay(l.name).blocks[handler]
	}
	return l.domain.settingsFor(handler)
}

// settingsFor gives the block that tunes a handler, nil if there is none.
func (d *Domain) settingsFor(handler string) *config.Block {
	for _, settings := range d.Settings {
		if settings.Label(0) == handler {
			return settings
		}
	}
	return nil
}

// fileLayers gives the layers of the file for a domain, the weakest first.
func (d *Domains) fileLayers(domain *Domain) []layer {
	var list []layer
	if d.template != nil {
		list = append(list, layer{source: tuning.FromFileTemplate, domain: d.template})
	}
	if domain != d.template {
		list = append(list, layer{source: tuning.FromFile, domain: domain})
	}
	return list
}

// listenerChains are the handlers of one listener as the file has them, from which
// those of domains with settings in the database are made.
type listenerChains struct {
	listener string
	// info, module and block are the listener's; module is nil where its settings
	// have errors.
	info       Info
	module     Module
	block      *config.Block
	feeds      mail.Stages
	needsLogin bool
	incomplete bool
	// steps are those of the listener's chain, template the same with what the file
	// sets for all domains.
	steps, template []*step
	// domains are the steps of the domains that have a chain of their own or
	// settings in the file.
	domains map[string][]*step
	// chains are made of them. Where the file has settings for all domains, each
	// domain has one.
	chains map[string]*chain.Chain
	set    *chain.Set
}

// of gives the steps that the file has for a domain.
func (l *listenerChains) of(domain string) []*step {
	if steps, ok := l.domains[domain]; ok {
		return steps
	}
	return l.template
}

// domainChains makes the chains of the domains by the file.
func (b *chainBuilder) domainChains(steps []*step) *listenerChains {
	l := &listenerChains{
		listener: b.listener, feeds: b.feeds, needsLogin: b.needsLogin, incomplete: b.incomplete, steps: steps, template: steps,
		domains: make(map[string][]*step), chains: make(map[string]*chain.Chain),
	}
	domains := b.gen.settings.domains
	var shared *chain.Chain
	if domains.template != nil {
		own := *b
		own.domain, own.layers = domains.template, domains.fileLayers(domains.template)
		if tuned := own.tunedAll(steps); !slices.Equal(tuned, steps) {
			own.checkTuned(tuned, steps, domains.template.block)
			l.template, shared = tuned, own.compile(tuned)
		}
	}
	for _, domain := range domains.list {
		own := *b
		own.domain, own.layers, own.inherited = domain, domains.fileLayers(domain), l.template
		own.applied = len(own.layers) - 1
		if made := own.domainSteps(domain); made != nil {
			l.domains[domain.Name], l.chains[domain.Name] = made, own.compile(made)
		} else if shared != nil {
			l.chains[domain.Name] = shared
		}
	}
	l.set = chain.NewSet(b.compile(steps), maps.Clone(l.chains))
	l.set.SetTunable(l.tunable())
	return l
}

// tunable gives the stages at which the handlers can act by other settings.
func (l *listenerChains) tunable() mail.Stages {
	var stages mail.Stages
	for _, list := range l.domains {
		for _, s := range flat(list) {
			stages |= s.info.Stages
		}
	}
	for _, s := range flat(l.steps) {
		stages |= s.info.Stages
	}
	return stages & l.feeds
}

// domainSteps makes the handlers of a domain that has a chain of its own for this
// listener or tunes one of its handlers; nil if the same hold as for others.
func (b *chainBuilder) domainSteps(domain *Domain) []*step {
	if body := domain.chainFor(b.listener); body != nil {
		steps := b.steps(body, nil)
		b.check(steps, body)
		return steps
	}
	steps := b.tunedAll(b.inherited)
	if slices.Equal(steps, b.inherited) {
		return nil
	}
	b.checkTuned(steps, b.inherited, domain.block)
	return steps
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

func (b *chainBuilder) tunedAll(steps []*step) []*step {
	list := make([]*step, 0, len(steps))
	for _, s := range steps {
		list = append(list, b.tuned(s))
	}
	return list
}

// tuned gives the step itself, or a fresh instance of it if the domain has
// settings for it that are not applied in it yet.
func (b *chainBuilder) tuned(s *step) *step {
	if s.parallel != nil {
		return b.tunedParallel(s)
	}
	if !b.tunes(s.Name) {
		return s
	}
	if fresh := b.handler(s.plain); fresh != nil {
		return fresh
	}
	return s
}

// tunes tells whether a layer that is not applied yet has settings for a handler.
func (b *chainBuilder) tunes(handler string) bool {
	return slices.ContainsFunc(b.layers[b.applied:], func(l layer) bool { return l.settings(handler) != nil })
}

func (b *chainBuilder) tunedParallel(s *step) *step {
	return s.withParallel(b.tunedAll(s.parallel))
}

// withParallel gives a parallel step with other handlers, or the step itself if they
// are the same.
func (s *step) withParallel(list []*step) *step {
	if slices.Equal(list, s.parallel) {
		return s
	}
	fresh := &step{block: s.block, Step: s.Step, parallel: list}
	fresh.Parallel = nil
	for _, p := range list {
		fresh.Parallel = append(fresh.Parallel, &p.Step)
	}
	return fresh
}

// lay lays the layers over the block of a handler, and says where the strongest
// stands.
func (b *chainBuilder) lay(handler string, block *config.Block) (merged *config.Block, position string) {
	merged, position = block, b.position(block)
	for i := range b.layers {
		l := &b.layers[i]
		settings := l.settings(handler)
		if settings == nil {
			continue
		}
		if _, ok := b.tuning[settings]; !ok {
			b.tuning[settings] = false // it is used; whether to any effect, handler finds out
		}
		merged = merged.Merge(settings)
		place := l.place
		if place == "" {
			place = b.position(settings)
		}
		position = tunedAt(b.position(block), place)
	}
	return merged, position
}

// tunedAt says for traces where a handler stands, and where the strongest of the
// settings that tune it.
func tunedAt(position, place string) string { return position + ", tuned by " + place }

// checkTuned holds a chain whose handlers a domain tunes against the rules that
// settings can break; base is the chain without them, block where the domain is.
func (b *chainBuilder) checkTuned(steps, base []*step, block *config.Block) {
	steps = active(steps)
	b.checkNeeds(steps)
	b.checkParallel(steps)
	if b.needsLogin && knowsUsers(active(base)) {
		b.checkLogin(steps, block)
	}
}

// checkSettings finds settings that no chain has a handler for.
func (b *builder) checkSettings() {
	domains := b.gen.settings.domains.list
	if t := b.gen.settings.domains.template; t != nil {
		domains = append([]*Domain{t}, domains...)
	}
	for _, domain := range domains {
		first := make(map[string]*config.Block)
		for _, settings := range domain.Settings {
			name := settings.Label(0)
			if !b.labelled(settings, first, "HANDLER") || b.broken[name] || b.unsure {
				continue
			}
			if effect, used := b.tuning[settings]; used {
				if !effect {
					noEffect(&b.ds, settings, name)
				}
				continue
			}
			d := b.ds.Errorf(settings.LabelRange(0), "domain/unknown-handler", "no chain that holds for %s has a handler %q", domain.Name, name)
			d.Detail = handlerHint(name, slices.Sorted(maps.Keys(b.handlers)))
		}
	}
}

// domainKnown are the stages at which a listener knows whose settings hold: those
// of the user who logs in or has, else those of the recipient.
func domainKnown(feeds mail.Stages) mail.Stages {
	known := mail.AtAuth | mail.AtRcpt | mail.AtData
	if feeds.Has(mail.StageAuth) {
		known |= mail.AtMail
	}
	return known & feeds
}

// noEffect warns of settings for a handler that acts before it is known whose
// settings hold.
func noEffect(ds *config.Diagnostics, settings *config.Block, handler string) {
	ds.Warnf(settings.DefRange, "domain/no-effect", "settings of %s have no effect for one domain", handler).
		WithDetail("It acts only before the recipient or the user is known. Write them into its own block in the chain.")
}

// handlerHint says what to do about the name of a handler that is not there.
func handlerHint(name string, handlers []string) string {
	if near := config.Suggest(name, handlers); near != "" && near != name {
		return "Did you mean \"" + near + "\"?"
	}
	return "settings names a handler of a chain, by its label if it has one."
}
