package core

import (
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// check holds a whole chain against the rules that concern several handlers.
func (b *chainBuilder) check(steps []*step, body *config.Block) {
	seen := make(map[string]*step)
	for _, s := range flat(steps) {
		if first, ok := seen[s.Name]; ok {
			b.ds.Errorf(s.block.DefRange, "chain/duplicate-name", "two handlers of this chain have the name %q", s.Name).
				WithDetail("Give one of them a name of its own: %s \"NAME\" { … }.", s.block.Type).
				WithRelated(first.block.DefRange, "the first one stands here")
		}
		seen[s.Name] = s
	}
	steps = active(steps)
	var target *step
	b.checkNeeds(steps)
	b.checkParallel(steps)
	for _, s := range flat(steps) {
		switch {
		case s.Target:
			target = s
		case target != nil:
			b.ds.Errorf(s.block.DefRange, "chain/after-target", "%s stands behind the target %s and would never be asked", s.Name, target.Name).
				WithDetail("Move it in front of %s.", target.Name).
				WithRelated(target.block.DefRange, "the target stands here")
		}
		b.checkRuns(s)
	}
	b.checkPlaces(steps)
	b.checkSigned(steps)
	b.checkLogin(steps, body)
	if b.feeds.Has(mail.StageRcpt) && target == nil && !b.incomplete {
		b.ds.Errorf(endOf(body), "chain/no-target", "this chain ends without a target").
			WithDetail("Without one no recipient is accepted. Write deliver {} at its end.")
	}
}

// checkPlaces asks the handlers whether they stand where they can do their work.
func (b *chainBuilder) checkPlaces(steps []*step) {
	all := flat(steps)
	b.checkNames(all)
	for i, s := range all {
		v, ok := s.Handler.(PlaceValidator)
		if !ok {
			continue
		}
		var front, behind []string
		for j, other := range all {
			switch {
			case j < i || j > i && other.Stages&s.Stages == 0 && earlier(other.Stages, s.Stages):
				front = append(front, other.info.Name())
			case j > i:
				behind = append(behind, other.info.Name())
			}
		}
		modules := slices.Concat(front, []string{s.info.Name()}, behind)
		b.ds.Append(v.ValidatePlace(modules, len(front)).Diagnostics(s.block, "chain/order"))
	}
}

// checkNames asks the handlers whether those that they name are there. A handler that
// could not be made may be one of them.
func (b *chainBuilder) checkNames(all []*step) {
	var known []string
	for _, s := range all {
		v, ok := s.Handler.(NameValidator)
		if !ok || b.incomplete {
			continue
		}
		if known == nil {
			for _, other := range all {
				known = append(known, other.Name)
			}
			for _, info := range b.gen.runtime.registry.Modules("handler") {
				known = append(known, info.Name())
			}
		}
		b.ds.Append(v.ValidateNames(known).Diagnostics(s.block, s.info.ID))
	}
}

// checkSigned finds handlers that change what one in front of them has signed.
func (b *chainBuilder) checkSigned(steps []*step) {
	var signer *step
	for _, s := range flat(steps) {
		if signer != nil && (s.info.Edits || s.info.Rewrites) && !s.info.Signs && s.Stages.Has(mail.StageData) {
			b.ds.Warnf(s.block.DefRange, "chain/signed", "%s changes the message behind %s, which has signed it", s.Name, signer.Name).
				WithDetail("Move %s behind it, so that the signature holds for what leaves the server.", signer.Name).
				WithRelated(signer.block.DefRange, "it is signed here")
		}
		if s.info.Signs {
			signer = s
		}
	}
}

// checkParallel finds handlers in parallel that do not act at the same stages.
func (b *chainBuilder) checkParallel(steps []*step) {
	for _, s := range steps {
		for _, p := range s.parallel {
			if p.info.Rewrites || p.info.Holds {
				b.ds.Errorf(p.block.DefRange, "chain/parallel", "%s may change what becomes of the message and cannot stand in parallel", p.Name).
					WithDetail("Move it in front of the parallel block, or behind it.")
			}
			if first := s.parallel[0]; p.Stages != first.Stages {
				b.ds.Errorf(p.block.DefRange, "chain/parallel", "handlers in parallel act at the same stage, but %s acts at %s", p.Name, list(p.Stages.Names())).
					WithDetail("Write it behind the parallel block, or into one of its own.").
					WithRelated(first.block.DefRange, "this one acts at %s", list(first.Stages.Names()))
			}
		}
	}
}

// checkNeeds finds conditions that ask for what no handler in front of them has
// found out at that time: those of the same parallel block run beside them.
func (b *chainBuilder) checkNeeds(steps []*step) {
	if !slices.ContainsFunc(flat(steps), func(s *step) bool { return s.needs != nil }) {
		return
	}
	found := make(map[string]mail.Stages)
	for _, top := range steps {
		for _, s := range flat([]*step{top}) {
			for _, need := range s.needs {
				if known := found[need.Module]; known != 0 && !earlier(s.Stages, known) || b.incomplete {
					continue
				}
				b.ds.Errorf(need.Range, "expr/not-yet-known", "%s is not yet known to %s at listener %q", need.Name, s.Name, b.listener).
					WithDetail("It is found out by the handler %s: write one in front of this handler, at the same stage or an earlier one.", need.Module)
			}
		}
		for _, s := range flat([]*step{top}) {
			found[s.info.Name()] |= s.Stages
		}
	}
}

// earlier tells whether a handler that acts at stages acts before any of known.
func earlier(stages, known mail.Stages) bool {
	for s := range mail.Stage(mail.NumStages) {
		switch {
		case known.Has(s):
			return false
		case stages.Has(s):
			return true
		}
	}
	return false
}

// checkRuns finds a handler that the listener never has act.
func (b *chainBuilder) checkRuns(s *step) {
	way := "Remove it, or move it into the chain of another listener."
	h, ok := s.Handler.(LoginHandler)
	needsLogin := ok && h.NeedsLogin()
	if needsLogin || s.Stages.Has(mail.StageAuth) {
		way = "Let clients log in there, or remove it."
	}
	if s.info.Conditional && s.When == nil && !b.incomplete {
		b.ds.Warnf(s.block.DefRange, "chain/unconditional", "%s says the same about everything, since it has no when", s.Name).
			WithDetail("Write when = EXPRESSION into it, such as when = tx.from_domain == \"example.net\", or remove it.")
	}
	switch {
	case s.Stages&b.feeds == 0:
		b.ds.Warnf(s.block.DefRange, "chain/never-runs", "%s acts at %s, which listener %q never has", s.Name, list(s.Stages.Names()), b.listener).
			WithDetail("%s", way)
	case needsLogin && !b.feeds.Has(mail.StageAuth):
		b.ds.Warnf(s.block.DefRange, "chain/never-runs", "%s is for clients that have logged in, and nobody can at listener %q", s.Name, b.listener).
			WithDetail("%s", way)
	}
}

// checkLogin finds a listener at which clients may log in and nobody can. block
// is the chain, or the listener that has none.
func (b *chainBuilder) checkLogin(steps []*step, block *config.Block) {
	if !b.needsLogin || b.incomplete || knowsUsers(steps) {
		return
	}
	who := "nobody"
	if b.domain != nil {
		who = "nobody of domain " + b.domain.Name
	}
	way := "Write password {} into the chain."
	switch block.Type {
	case "listener":
		way = "Write into it:\nchain {\n  password {}\n}"
	case "domain":
		way = "Its settings switch off what knows passwords, or let it act at other stages."
	}
	b.ds.Warnf(block.DefRange, "chain/no-login", "%s can log in at listener %q", who, b.listener).WithDetail("%s", way)
}

// knowsUsers tells whether one of the handlers can let somebody in.
func knowsUsers(steps []*step) bool {
	return slices.ContainsFunc(flat(steps), func(s *step) bool { return s.info.Authenticates && s.Stages.Has(mail.StageAuth) })
}

// endOf is the place of the closing brace, where a target is missing.
func endOf(body *config.Block) hcl.Range {
	r := body.Body.EndRange
	r.Start.Column--
	r.Start.Byte--
	return r
}
