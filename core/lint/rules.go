package lint

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// rules are what this package finds by itself. What runs would refuse too is not
// among them: that the core and the modules find.
var rules = []func(*finder){
	// security
	noRateLimit, noBruteforce, noSenderLogin, loginAt25, optionalTLS, secondFactorBypass, monitoredFactor,
	rejectsPermerror, everybodyExempt, proxyFromAnywhere, blocksProxy, openSecret,
	// order
	scannerFirst, twice, idleGreylist, scoreOfNothing,
	// what the settings come to
	timeouts, unscanned, portTLS, maybeNoTarget, domainsDiffer, keysWithoutSigner,
}

// finder is one run of the rules.
type finder struct {
	plan    *core.Plan
	offline bool
	ds      config.Diagnostics
}

// chain is a chain of a listener: its own, or that of a domain.
type chain struct {
	listener *core.PlannedListener
	// domain is "" for the listener's own chain.
	domain   string
	handlers []core.PlannedHandler
}

// listeners gives those whose chains could be read whole.
func (f *finder) listeners() []*core.PlannedListener {
	var list []*core.PlannedListener
	for i := range f.plan.Listeners {
		if l := &f.plan.Listeners[i]; l.Whole && l.Module != nil {
			list = append(list, l)
		}
	}
	return list
}

// chains gives the listener's own, and those of the domains.
func chains(l *core.PlannedListener) []chain {
	list := []chain{{listener: l, handlers: l.Chain}}
	for _, domain := range slices.Sorted(maps.Keys(l.Domains)) {
		list = append(list, chain{listener: l, domain: domain, handlers: l.Domains[domain]})
	}
	return list
}

// each calls see for every handler of every chain, once for those that domains have
// from the listener.
func (f *finder) each(see func(c chain, h *core.PlannedHandler)) {
	for _, l := range f.listeners() {
		seen := make(map[core.Module]bool)
		for _, c := range chains(l) {
			for i := range c.handlers {
				if h := &c.handlers[i]; !seen[h.Module] {
					seen[h.Module] = true
					see(c, h)
				}
			}
		}
	}
}

// find gives the first handler of a module.
func (c *chain) find(module string) *core.PlannedHandler {
	i := slices.IndexFunc(c.handlers, func(h core.PlannedHandler) bool { return h.Info.Name() == module })
	if i < 0 {
		return nil
	}
	return &c.handlers[i]
}

// has tells whether one of the modules is in the listener's own chain.
func has(l *core.PlannedListener, modules ...string) bool {
	return slices.ContainsFunc(l.Chain, func(h core.PlannedHandler) bool { return slices.Contains(modules, h.Info.Name()) })
}

// takesMail tells whether mail comes in at a listener.
func takesMail(l *core.PlannedListener) bool { return l.Stages.Has(mail.StageRcpt) }

// takesLogins tells whether clients can log in at a listener.
func takesLogins(l *core.PlannedListener) bool {
	return l.Stages.Has(mail.StageAuth) && slices.ContainsFunc(l.Chain, func(h core.PlannedHandler) bool { return h.Info.Authenticates })
}

// ports gives the TCP ports of a listener, and whether one of its addresses can be
// reached from the internet.
func ports(l *core.PlannedListener) (list []string, world bool) {
	addresses, _ := setting[[]string](l.Module, "address")
	for _, text := range addresses {
		if strings.HasPrefix(text, "unix:") {
			continue
		}
		i := strings.LastIndexByte(text, ':')
		if i < 0 {
			continue
		}
		host := strings.Trim(text[:i], "[]")
		list = append(list, text[i+1:])
		addr, err := netip.ParseAddr(host)
		world = world || host == "" || err == nil && (addr.IsUnspecified() || addr.IsGlobalUnicast() && !addr.IsPrivate())
	}
	return list, world
}

// everywhere tells whether networks hold the whole internet, or one half of it: all
// of IPv4 or IPv6.
func everywhere(networks []netip.Prefix) (int, bool) {
	i := slices.IndexFunc(networks, func(n netip.Prefix) bool { return n.IsValid() && n.Bits() == 0 })
	return i, i >= 0
}
