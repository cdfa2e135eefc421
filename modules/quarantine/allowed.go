package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// errNoAuthor is returned when a message has no author who could be allowed.
var errNoAuthor = errors.New("the message has not one author; say by --sender which address or domain is allowed")

// normalSender reads what an operator allows: an address or a domain.
func normalSender(text string) (string, error) {
	if address, err := mail.ParseAddress(text); err == nil && address.Domain != "" {
		return address.Fold().String(), nil
	}
	if domain, err := mail.ParseDomain(text); err == nil && !strings.HasPrefix(domain, "[") {
		return domain, nil
	}
	return "", control.Invalid(fmt.Errorf("%q is no mail address (bob@example.org) or domain (example.org)", text))
}

// allowable is normalSender for who is to be allowed. Under a public suffix anybody
// can have a domain.
func allowable(text string) (string, error) {
	sender, err := normalSender(text)
	if err == nil && !strings.Contains(sender, "@") && labels(sender) <= suffixLabels(sender) {
		err = control.Invalid(fmt.Errorf("anybody can have a domain under %q: name the sender's own domain, or an address", text))
	}
	return sender, err
}

// AllowHeld releases a message, and remembers its author in the same transaction.
func (s *Service) AllowHeld(ctx context.Context, a control.AllowAuthor) (done control.AllowedHeld, err error) {
	if a.Sender != "" {
		if a.Sender, err = allowable(a.Sender); err != nil {
			return done, fmt.Errorf("allow author: %w", err)
		}
	}
	done.Accounts, err = s.release(ctx, a.ID, a.User, func(tx *store.Tx, m row, list []shareRow) error {
		done.Allowed, done.Authenticated = nil, m.authenticated
		sender := a.Sender
		if sender == "" {
			sender = m.author
		}
		if sender == "" {
			return control.Invalid(errNoAuthor)
		}
		for _, scope := range scopes(a.Scope, list) {
			created := s.now().UTC()
			if _, err := tx.Exec(`INSERT INTO quarantine_allowed (scope, sender, created) VALUES (?, ?, ?) ON CONFLICT (scope, sender) DO NOTHING`,
				scope, sender, created); err != nil {
				return err
			}
			done.Allowed = append(done.Allowed, control.AllowedAuthor{Scope: shownScope(scope), Sender: sender, Created: created})
		}
		return nil
	})
	if err != nil {
		return control.AllowedHeld{}, wrapped("allow author of message", a.ID, err)
	}
	return done, nil
}

// everybody is the scope of authors who are allowed for all, as a row has it.
const everybody = "*"

// shownScope is a row's scope as operators have it.
func shownScope(scope string) string {
	if scope == everybody {
		return control.ScopeAll
	}
	return scope
}

// scopes gives for whom an author is allowed, each once.
func scopes(scope string, list []shareRow) []string {
	if scope == control.ScopeAll {
		return []string{everybody}
	}
	var names []string
	seen := make(map[string]bool)
	for _, one := range list {
		name := one.account
		if scope == control.ScopeDomain {
			name = one.domain
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// allowing gives those of the accounts for which an author is allowed. Strangers
// choose the author's name and how many accounts there are: only names that somebody
// is allowed by are looked for among the accounts, by one query each.
func (s *Service) allowing(ctx context.Context, author mail.Address, accounts []string) (map[string]bool, error) {
	scopes := make(map[string]bool)
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		clear(scopes)
		var asked []byte
		for _, sender := range senders(author) {
			known, err := has(sn, `SELECT 1 FROM quarantine_allowed WHERE sender = ? LIMIT 1`, sender)
			if err != nil {
				return err
			}
			if !known {
				continue
			}
			if asked == nil {
				if asked, err = json.Marshal(scopesOf(accounts)); err != nil {
					return err
				}
			}
			if err := readScopes(sn, sender, string(asked), scopes); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find allowed authors: %w", err)
	}
	allowed := make(map[string]bool)
	if len(scopes) == 0 {
		return allowed, nil
	}
	for _, account := range accounts {
		if scopes[everybody] || scopes[account] || scopes[share{account: account}.domain()] {
			allowed[account] = true
		}
	}
	return allowed, nil
}

// readScopes adds those of the asked scopes, a JSON list, for which a sender is
// allowed.
func readScopes(q store.Querier, sender, asked string, scopes map[string]bool) error {
	rows, err := q.Query(`SELECT value FROM json_each(?) AS s WHERE EXISTS (SELECT 1 FROM quarantine_allowed WHERE sender = ? AND scope = s.value)`, asked, sender)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var scope string
		if err := rows.Scan(&scope); err != nil {
			return err
		}
		scopes[scope] = true
	}
	return rows.Err()
}

// scopesOf gives the scopes that the accounts are in, each once.
func scopesOf(accounts []string) []string {
	list := []string{everybody}
	seen := make(map[string]bool)
	for _, account := range accounts {
		for _, scope := range [...]string{account, share{account: account}.domain()} {
			if !seen[scope] {
				seen[scope] = true
				list = append(list, scope)
			}
		}
	}
	return list
}

// AllowedAuthors lists them by scope and sender. next is the After of the page that
// follows, "" if none does.
func (s *Service) AllowedAuthors(ctx context.Context, p control.Page) (list []control.AllowedAuthor, next string, err error) {
	limit := pageLimit(p)
	scope, sender, _ := strings.Cut(p.After, "\t")
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		list = nil
		rows, err := sn.Query(`SELECT scope, sender, created FROM quarantine_allowed WHERE (scope, sender) > (?, ?) ORDER BY scope, sender LIMIT ?`, scope, sender, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a control.AllowedAuthor
			if err := rows.Scan(&a.Scope, &a.Sender, &a.Created); err != nil {
				return err
			}
			list = append(list, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, "", fmt.Errorf("list allowed authors: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].Scope + "\t" + list[limit-1].Sender
	}
	for i := range list {
		list[i].Scope = shownScope(list[i].Scope)
	}
	return list, next, nil
}

// DisallowAuthor takes one back: scope is an account, a domain, or control.ScopeAll.
// store.ErrNotFound if it is not there.
func (s *Service) DisallowAuthor(ctx context.Context, scope, sender string) error {
	sender, err := normalSender(sender)
	if err != nil {
		return fmt.Errorf("disallow author: %w", err)
	}
	switch scope {
	case control.ScopeAll, everybody:
		scope = everybody
	case control.ScopeUser, control.ScopeDomain:
		return control.Invalid(fmt.Errorf("disallow author: write the account or the domain for which the author is allowed, not the word %q", scope))
	default:
		if scope, err = normalSender(scope); err != nil {
			return fmt.Errorf("disallow author: the scope is an account, a domain, or all: %w", err)
		}
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`DELETE FROM quarantine_allowed WHERE scope = ? AND sender = ?`, scope, sender)
		if err == nil && result.RowsAffected == 0 {
			err = store.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("disallow author %s for %s: %w", sender, shownScope(scope), err)
	}
	return nil
}

// pageLimit is how many entries a page has.
func pageLimit(p control.Page) int {
	if p.Limit <= 0 || p.Limit > control.MaxPage {
		return control.MaxPage
	}
	return p.Limit
}
