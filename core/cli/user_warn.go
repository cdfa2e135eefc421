package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// warnUnreached says why mail does not come to an account: its domain does not
// live here, or an alias of its name, which wins, leads elsewhere.
func warnUnreached(s Streams, domains []control.Domain, account mail.Address) {
	i := slices.IndexFunc(domains, func(d control.Domain) bool { return d.Name == account.Domain })
	if i < 0 {
		warn(s, "the configuration has no domain %q: the account gets no mail until it has", account.Domain)
		return
	}
	for name, targets := range domains[i].Aliases {
		leads := func(target string) bool { return leadsTo(target, account.Domain, account) }
		if strings.ToLower(name) == account.LocalPart && len(targets) > 0 && !slices.ContainsFunc(targets, leads) {
			warn(s, "domain %s has an alias %q, which wins: mail to %s goes to %s, and not to the account", account.Domain, name, account, strings.Join(targets, ", "))
		}
	}
}

// warnLeftovers says what still leads to an account that is gone.
func warnLeftovers(s Streams, domains []control.Domain, account mail.Address) {
	for _, d := range domains {
		leads := func(target string) bool { return leadsTo(target, d.Name, account) }
		for _, name := range slices.Sorted(maps.Keys(d.Aliases)) {
			if slices.ContainsFunc(d.Aliases[name], leads) {
				warn(s, "the alias %q of domain %s still leads to %s", name, d.Name, account)
			}
		}
		if d.CatchAll != "" && leads(d.CatchAll) {
			warn(s, "the catch_all of domain %s still leads to %s", d.Name, account)
		}
	}
}

// leadsTo tells whether the target of an alias is an account: a local-part of the
// alias's domain, or an address.
func leadsTo(target, domain string, account mail.Address) bool {
	if !strings.Contains(target, "@") {
		target += "@" + domain
	}
	a, err := mail.ParseAddress(target)
	return err == nil && (a.Fold() == account || a.Fold().Base() == account)
}

func warn(s Streams, format string, args ...any) {
	fmt.Fprintf(s.Err, "mox-like: warning: %s\n", harmless(fmt.Sprintf(format, args...)))
}
