package core

import (
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// Plan is what a configuration comes to: its listeners with the handlers of their
// chains. It is for rules that reason about the whole, see core/lint. The modules in
// it have their settings, and are not to be called: they are cleaned up.
type Plan struct {
	// Root is the whole file.
	Root *config.Block
	// Listeners are in the order of the file.
	Listeners []PlannedListener
	// Domains are those that live here, Parts the blocks of modules in theirs, such
	// as dkim, by the domain's name.
	Domains *Domains
	Parts   map[string][]*config.Block
	// Unasked are the blocks whose modules an offline check did not ask.
	Unasked []*config.Block
	// Whole says that all of it could be read.
	Whole bool
}

// PlannedListener is a listener and its chains.
type PlannedListener struct {
	Name  string
	Info  Info
	Block *config.Block
	// Module is nil where the settings have errors.
	Module Module
	// Stages are those that it has; without logins it has no auth.
	Stages mail.Stages
	// Chain is its own, in the order of the file. Domains are the chains that differ
	// from it, by the domain's name, "*" for all domains that have none of their own.
	Chain   []PlannedHandler
	Domains map[string][]PlannedHandler
	// Whole says that all handlers could be made.
	Whole bool
}

// PlannedHandler is a handler in a chain. Those that are disabled are not in it.
type PlannedHandler struct {
	Name string
	Info Info
	// Module has the settings that hold; Block is where they stand, with those of
	// a domain laid over it, Own what the chain has.
	Module     Module
	Block, Own *config.Block
	Stages     mail.Stages
	// Timeout bounds a call, 0 where the file and the module have none.
	Timeout time.Duration
	// Conditional says that when decides whether it acts, Monitor that its verdict
	// does not count.
	Conditional, Monitor bool
	// Group is the number of the parallel block that it stands in, from 1, else 0.
	Group int
}

// Examine is Validate, and gives what the file comes to as well: nil where it
// could not be read.
func Examine(o Options) (*Plan, config.Diagnostics, map[string][]byte) {
	_, plan, ds, sources := examine(&o)
	return plan, ds, sources
}

func examine(o *Options) (*settings, *Plan, config.Diagnostics, map[string][]byte) {
	o.Config.Offline = o.Config.Offline || o.Offline
	s, ds, sources := o.settings()
	var plan *Plan
	if s != nil {
		if !s.offline {
			ds.Append(s.findUser(), s.checkDataDir(), s.checkLog())
		}
		made, found := dryRun(o, s)
		plan = made
		ds.Append(found)
	}
	return s, plan, ds.Unique(), sources
}

// outside tells whether an offline check leaves a module alone: it would look at
// files, or some of its values are not known.
func (b *builder) outside(info Info, block *config.Block) bool {
	if !b.gen.settings.offline {
		return false
	}
	for _, name := range info.Looks {
		if _, ok := block.Attribute(name); ok || name == "" || len(block.Blocks(name)) > 0 {
			return true
		}
	}
	return !block.Known()
}

// plan describes what was built.
func (b *builder) plan() *Plan {
	p := &Plan{
		Root: b.gen.settings.file.Root, Domains: b.gen.settings.domains, Parts: make(map[string][]*config.Block),
		Unasked: b.unasked, Whole: !b.unsure && len(b.broken) == 0 && !b.gen.settings.file.Partial,
	}
	for _, d := range p.Domains.list {
		if len(d.Modules) > 0 {
			p.Parts[d.Name] = d.Modules
		}
	}
	for _, l := range b.gen.chains {
		one := PlannedListener{
			Name: l.listener, Info: l.info, Module: l.module, Block: l.block, Stages: l.feeds,
			Chain: planned(l.steps), Domains: make(map[string][]PlannedHandler), Whole: !l.incomplete,
		}
		if p.Domains.template != nil && !slices.Equal(l.template, l.steps) {
			one.Domains[p.Domains.template.Name] = planned(l.template)
		}
		for domain, steps := range l.domains {
			one.Domains[domain] = planned(steps)
		}
		p.Listeners = append(p.Listeners, one)
	}
	return p
}

// planned describes the handlers of a chain.
func planned(steps []*step) []PlannedHandler {
	list := make([]PlannedHandler, 0, len(steps))
	add := func(s *step, group int) {
		list = append(list, PlannedHandler{
			Name: s.Name, Info: s.info, Module: s.Handler.(Module), Block: s.block, Own: s.plain, Stages: s.Stages,
			Timeout: s.Timeout, Conditional: s.When != nil, Monitor: s.Monitor, Group: group,
		})
	}
	for i, s := range active(steps) {
		if s.parallel == nil {
			add(s, 0)
			continue
		}
		for _, p := range s.parallel {
			add(p, i+1)
		}
	}
	return list
}
