package core

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/dns"
)

// HandlerHealth tells how a handler of a listener does its work.
type HandlerHealth struct {
	// Listener, Handler and Module are the names in the file.
	Listener, Handler, Module string
	// Resting says that its circuit breaker keeps it from being asked, or that of a
	// domain that tunes it.
	Resting bool
	chain.Health
	chain.Counts
}

// Health tells how the handlers of all chains do, by listener and name.
func (s *Server) Health() []HandlerHealth {
	r := s.host()
	if r == nil {
		return nil
	}
	return r.health()
}

// Reports gives what the services have to say, those that have nothing left out, in the
// order of their names.
func (s *Server) Reports() []ModuleReport {
	r := s.host()
	if r == nil {
		return nil
	}
	var list []ModuleReport
	for _, i := range r.started {
		if m, ok := i.module.(Reporter); ok && !i.off {
			if text := m.Report(); text != "" {
				list = append(list, ModuleReport{Module: i.module.Module().ID, Text: text})
			}
		}
	}
	slices.SortFunc(list, func(a, b ModuleReport) int { return cmp.Compare(a.Module, b.Module) })
	return list
}

// ModuleReport is what a service says of itself, see Reporter.
type ModuleReport struct{ Module, Text string }

// DNS gives the figures of the resolver; none before Start.
func (s *Server) DNS() dns.Stats {
	r := s.host()
	if r == nil {
		return dns.Stats{}
	}
	return r.resolver.Stats()
}

func (r *runtime) health() []HandlerHealth {
	var list []HandlerHealth
	resting := make(map[string]bool) // whether any of its breakers is open
	for name, value := range r.sharedValues() {
		switch v := value.(type) {
		case *chain.Tally:
			list = append(list, HandlerHealth{Listener: v.Listener, Handler: v.Handler, Module: v.Module, Health: v.Health(), Counts: v.Counts()})
		case *chain.Breaker:
			of, _, _ := strings.Cut(name, breakerScope)
			resting[of] = resting[of] || v.Resting()
		}
	}
	for i := range list {
		h := &list[i]
		h.Resting = resting[breakerName(h.Listener, h.Handler, h.Module)]
	}
	slices.SortFunc(list, func(a, b HandlerHealth) int {
		return cmp.Or(cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Handler, b.Handler), cmp.Compare(a.Module, b.Module))
	})
	return list
}

// breakerName is the name under which a handler's circuit breaker is shared; those
// of domains have breakerScope and the domain behind it.
func breakerName(listener, handler, module string) string {
	return "breaker " + listener + "/" + handler + " " + module
}

const breakerScope = " of "
