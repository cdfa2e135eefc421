package deliver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

const postmaster = "postmaster"

// Limits of what one address may stand for.
const (
	maxAccounts = 100
	maxDepth    = 10 // of aliases of aliases
)

var errTooMany = fmt.Errorf("the address stands for more than %d accounts, or its aliases for each other more than %d deep", maxAccounts, maxDepth)

// readAliases brings the aliases of the domains into the form in which they are
// looked up, and collects what is wrong with them.
func (d *Deliver) readAliases() {
	d.aliases, d.catchAll, d.problems = make(map[string]map[string][]mail.Address), make(map[string]mail.Address), nil
	for _, domain := range d.domains.All() {
		aliases := make(map[string][]mail.Address, len(domain.Aliases))
		for _, name := range slices.Sorted(maps.Keys(domain.Aliases)) {
			local := strings.ToLower(name)
			for _, target := range domain.Aliases[name] {
				if a, ok := d.target(domain, target, "aliases", "alias "+name); ok {
					aliases[local] = append(aliases[local], a)
				}
			}
		}
		d.aliases[domain.Name] = aliases
		if domain.CatchAll != "" {
			if a, ok := d.target(domain, domain.CatchAll, "catch_all", "catch_all"); ok {
				d.catchAll[domain.Name] = a
			}
		}
	}
	looped := make(map[mail.Address]bool)
	for _, domain := range d.domains.All() {
		for _, local := range slices.Sorted(maps.Keys(d.aliases[domain.Name])) {
			if start := (mail.Address{LocalPart: local, Domain: domain.Name}); !looped[start] {
				d.checkLoop(start, looped)
			}
		}
	}
}

// target reads what an alias or catch_all points to: a local-part of the domain,
// or an address of a domain that lives here.
func (d *Deliver) target(domain *core.Domain, text, attribute, what string) (mail.Address, bool) {
	if !strings.Contains(text, "@") {
		text += "@" + domain.Name
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		d.problem(domain, attribute, "%s of domain %s: %q is not a local-part or an address: %v", what, domain.Name, text, err)
		return a, false
	}
	if _, ok := d.domains.Find(a.Domain); !ok {
		d.problem(domain, attribute, "%s of domain %s leads to %s, but %s does not live here; name an address of a domain of this server",
			what, domain.Name, a, a.Domain)
		return a, false
	}
	return a.Fold(), true
}

// problem notes a mistake in a domain's block.
func (d *Deliver) problem(domain *core.Domain, attribute, format string, args ...any) {
	d.problems = append(d.problems, core.Problem{
		Block: domain.Block(), Attribute: attribute, Code: "domain/" + attribute, Message: fmt.Sprintf(format, args...),
	})
}

// checkLoop finds out whether an alias leads back to itself by way of others. One
// that names itself stands for the account of that name too, so that two may
// well have each other's mail. Those that stand on the way are put into looped: the
// loop is told of once.
func (d *Deliver) checkLoop(start mail.Address, looped map[mail.Address]bool) {
	if slices.Contains(d.aliases[start.Domain][start.LocalPart], start) {
		return
	}
	seen := map[mail.Address]bool{start: true}
	var walk func(a mail.Address) bool
	walk = func(a mail.Address) bool {
		for _, next := range d.aliases[a.Domain][a.LocalPart] {
			if next == start {
				domain, _ := d.domains.Find(start.Domain)
				d.problem(domain, "aliases", "alias %s of domain %s leads back to itself by way of %s; take one of the two out", start.LocalPart, start.Domain, a)
				return true
			}
			if !seen[next] {
				seen[next] = true
				if walk(next) {
					looped[next] = true
					return true
				}
			}
		}
		return false
	}
	walk(start)
}

// resolver finds the accounts that an address stands for.
type resolver struct {
	*Deliver
	found   []string
	missing []string              // what an alias or catch_all leads to in vain
	seen    map[mail.Address]bool // aliases that are expanded already
	depth   int
}

// resolve finds the accounts of an address of this server, in lower case.
func (r *resolver) resolve(ctx context.Context, a mail.Address) error {
	base := a.Base()
	ok, err := r.named(ctx, a)
	if !ok && err == nil && base != a {
		ok, err = r.named(ctx, base)
	}
	switch {
	case err != nil:
		return err
	case base.LocalPart == postmaster && len(r.found) == 0:
		return r.postmaster(ctx, a.Domain)
	case ok:
		return nil
	}
	if target, ok := r.catchAll[a.Domain]; ok {
		ok, err := r.named(ctx, target)
		if !ok {
			r.missing = append(r.missing, target.String())
		}
		return err
	}
	return nil
}

// named finds what has that very name: an alias, else an account.
func (r *resolver) named(ctx context.Context, a mail.Address) (bool, error) {
	targets := r.aliases[a.Domain][a.LocalPart]
	if len(targets) == 0 || r.seen[a] {
		return r.account(ctx, a.String())
	}
	if r.depth++; r.depth > maxDepth {
		return false, errTooMany
	}
	defer func() { r.depth-- }()
	if r.seen == nil {
		r.seen = make(map[mail.Address]bool)
	}
	r.seen[a] = true
	for _, target := range targets {
		ok, err := r.named(ctx, target)
		if base := target.Base(); err == nil && !ok && base != target {
			ok, err = r.named(ctx, base)
		}
		if err != nil {
			return false, err
		}
		if !ok {
			r.missing = append(r.missing, target.String())
		}
	}
	return true, nil
}

// account adds an account, if there is one of that address.
func (r *resolver) account(ctx context.Context, address string) (bool, error) {
	if slices.Contains(r.found, address) {
		return true, nil
	}
	exists, err := r.accounts.Exists(ctx, address)
	if err != nil {
		return false, fmt.Errorf("find account %s: %w", address, err)
	}
	if !exists {
		return false, nil
	}
	if len(r.found) == maxAccounts {
		return false, errTooMany
	}
	r.found = append(r.found, address)
	return true, nil
}

// postmaster finds who reads the mail to the postmaster of a domain that has
// neither an alias nor an account of that name: the server's postmaster, else
// the oldest account of the domain, else that of any other.
func (r *resolver) postmaster(ctx context.Context, domain string) error {
	if text := r.domains.Postmaster(); text != "" {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return errors.Join(errors.New("read the server's postmaster"), err)
		}
		if ok, err := r.named(ctx, a.Fold()); err != nil || ok && len(r.found) > 0 {
			return err
		}
	}
	names := []string{domain}
	for _, other := range r.domains.All() {
		names = append(names, other.Name)
	}
	for _, name := range names {
		first, err := r.accounts.First(ctx, name)
		if err != nil {
			return fmt.Errorf("find the oldest account of %s: %w", name, err)
		}
		if first != "" {
			_, err := r.account(ctx, first)
			return err
		}
	}
	return nil
}
