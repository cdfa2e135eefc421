package senderlogin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// Limits of how far aliases are followed.
const (
	maxDepth  = 10
	maxVisits = 1000
)

const postmaster = "postmaster"

// pattern is what a rule is for: everything, a domain, or one address.
type pattern struct {
	any     bool
	domain  string
	address mail.Address
}

// rule lets users send as others.
type rule struct {
	users, senders pattern
}

// rules are those of the setting allow.
type rules []rule

// parseRules reads the setting, and collects what is wrong with it.
func parseRules(allow map[string][]string) (rules, core.Problems) {
	var list rules
	var problems core.Problems
	parse := func(text string) pattern {
		p, err := parsePattern(text)
		if err != nil {
			problems.Errorf("allow", "%q is neither an address, nor a domain such as \"@example.org\", nor \"*\": %v", text, err)
		}
		return p
	}
	for _, user := range slices.Sorted(maps.Keys(allow)) {
		users := parse(user)
		for _, sender := range allow[user] {
			list = append(list, rule{users, parse(sender)})
		}
	}
	return list, problems
}

func parsePattern(text string) (pattern, error) {
	if text == "*" {
		return pattern{any: true}, nil
	}
	if name, ok := strings.CutPrefix(text, "@"); ok {
		domain, err := mail.ParseDomain(name)
		return pattern{domain: domain}, err
	}
	a, err := mail.ParseAddress(text)
	if err == nil && a.Domain == "" {
		err = mail.ErrAddressSyntax
	}
	return pattern{address: a.Fold()}, err
}

// matches tells whether the pattern is for an address, which is folded. One with
// a subaddress is like the one without.
func (p pattern) matches(a mail.Address) bool {
	switch {
	case p.any:
		return true
	case p.domain != "":
		return a.Domain == p.domain
	default:
		return a == p.address || a.Base() == p.address
	}
}

// allow tells whether a rule lets a user send as an address.
func (rs rules) allow(user, a mail.Address) bool {
	return slices.ContainsFunc(rs, func(r rule) bool { return r.users.matches(user) && r.senders.matches(a) })
}

// owns tells why a user may send as an address, "" if he may not.
func (s *SenderLogin) owns(ctx context.Context, user string, a mail.Address) (why string, err error) {
	if a = a.Fold(); a.String() == user {
		return user + " is the user", nil
	}
	owner, err := mail.ParseAddress(user)
	if err != nil {
		return "", fmt.Errorf("read user %q: %w", user, err)
	}
	if s.rules.allow(owner, a) {
		return fmt.Sprintf("allow lets %s send as %s", user, a), nil
	}
	w := walk{SenderLogin: s, user: user}
	if err := w.resolve(ctx, a); err != nil || !w.found {
		return "", err
	}
	return a.String() + " leads to " + user, nil
}

// walk follows an address to the accounts that it stands for, as deliver does,
// and finds out whether the user's is among them.
type walk struct {
	*SenderLogin
	user   string
	found  bool
	some   bool // an account was found, of whomever
	seen   map[mail.Address]bool
	depth  int
	visits int
}

func (w *walk) resolve(ctx context.Context, a mail.Address) error {
	if _, ours := w.domains.Find(a.Domain); !ours {
		return nil
	}
	if _, err := w.either(ctx, a); err != nil || w.some || a.Base().LocalPart != postmaster || w.domains.Postmaster() == "" {
		return err
	}
	reader, err := mail.ParseAddress(w.domains.Postmaster())
	if err != nil {
		return fmt.Errorf("read the server's postmaster: %w", err)
	}
	_, err = w.named(ctx, reader.Fold())
	return err
}

// either follows an address or, if nothing has its name, that without the
// subaddress.
func (w *walk) either(ctx context.Context, a mail.Address) (bool, error) {
	ok, err := w.named(ctx, a)
	if base := a.Base(); err == nil && !ok && base != a {
		return w.named(ctx, base)
	}
	return ok, err
}

// named follows what has that very name, an alias or else an account, and tells
// whether there is such.
func (w *walk) named(ctx context.Context, a mail.Address) (bool, error) {
	if a.String() == w.user { // also where an alias of that name sends his mail to others
		w.found, w.some = true, true
		return true, nil
	}
	targets := w.aliasesOf(a.Domain)[a.LocalPart]
	if len(targets) == 0 || w.seen[a] {
		return w.account(ctx, a.String())
	}
	if w.depth == maxDepth {
		return true, nil
	}
	w.depth++
	defer func() { w.depth-- }()
	if w.seen == nil {
		w.seen = make(map[mail.Address]bool)
	}
	w.seen[a] = true
	for _, target := range targets {
		if w.visits++; w.found || w.visits > maxVisits {
			break
		}
		if _, err := w.either(ctx, target); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *walk) account(ctx context.Context, address string) (bool, error) {
	exists, err := w.accounts.Exists(ctx, address)
	if err != nil {
		return false, fmt.Errorf("find account %s: %w", address, err)
	}
	w.some = w.some || exists
	return exists, nil
}

// aliasesOf gives the aliases of a domain by local-part, in the form in which they
// are looked up. Those that make no sense are deliver's to complain about.
func (s *SenderLogin) aliasesOf(name string) map[string][]mail.Address {
	if known, ok := s.aliases.Load(name); ok {
		if aliases, ok := known.(map[string][]mail.Address); ok {
			return aliases
		}
	}
	domain, ok := s.domains.Find(name)
	if !ok {
		return nil
	}
	aliases := make(map[string][]mail.Address, len(domain.Aliases))
	for local, targets := range domain.Aliases {
		local = strings.ToLower(local)
		for _, target := range targets {
			if !strings.Contains(target, "@") {
				target += "@" + name
			}
			if a, err := mail.ParseAddress(target); err == nil {
				aliases[local] = append(aliases[local], a.Fold())
			}
		}
	}
	s.aliases.Store(name, aliases)
	return aliases
}
