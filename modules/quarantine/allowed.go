package quarantine

import (
	"context"
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

// AllowHeld releases a message, and remembers its author in the same transaction.
func (s *Service) AllowHeld(ctx context.Context, a control.AllowAuthor) (done control.AllowedHeld, err error) {
	if a.Sender != "" {
		if a.Sender, err = normalSender(a.Sender); err != nil {
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
			one := control.AllowedAuthor{Scope: scope, Sender: sender, Created: s.now().UTC()}
			if _, err := tx.Exec(`INSERT INTO quarantine_allowed (scope, sender, created) VALUES (?, ?, ?) ON CONFLICT (scope, sender) DO NOTHING`,
				one.Scope, one.Sender, one.Created); err != nil {
				return err
			}
			done.Allowed = append(done.Allowed, one)
		}
		return nil
	})
	if err != nil {
		return control.AllowedHeld{}, fmt.Errorf("allow author: %w", err)
	}
	return done, nil
}

// scopes gives for whom an author is allowed, each once.
func scopes(scope string, list []shareRow) []string {
	if scope == control.ScopeAll {
		return []string{control.ScopeEverybody}
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

// allowing gives those of the accounts for which an author is allowed.
func (s *Service) allowing(ctx context.Context, author mail.Address, accounts []string) (map[string]bool, error) {
	allowed := make(map[string]bool)
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		names := senders(author)
		known := make(map[string]bool)
		in := func(scope string) (bool, error) {
			if is, ok := known[scope]; ok {
				return is, nil
			}
			for _, sender := range names {
				is, err := has(sn, `SELECT 1 FROM quarantine_allowed WHERE scope = ? AND sender = ?`, scope, sender)
				if err != nil || is {
					known[scope] = is
					return is, err
				}
			}
			known[scope] = false
			return false, nil
		}
		for _, account := range accounts {
			for _, scope := range []string{control.ScopeEverybody, share{account: account}.domain(), account} {
				is, err := in(scope)
				if err != nil {
					return err
				}
				if is {
					allowed[account] = true
					break
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find allowed authors: %w", err)
	}
	return allowed, nil
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
	return list, next, nil
}

// DisallowAuthor takes one back: scope is an account, a domain, or
// control.ScopeEverybody.
// store.ErrNotFound if it is not there.
func (s *Service) DisallowAuthor(ctx context.Context, scope, sender string) error {
	sender, err := normalSender(sender)
	if err != nil {
		return fmt.Errorf("disallow author: %w", err)
	}
	if scope != control.ScopeEverybody {
		if scope, err = normalSender(scope); err != nil {
			return fmt.Errorf("disallow author: the scope is an account, a domain, or *: %w", err)
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
		return fmt.Errorf("disallow author %s for %s: %w", sender, scope, err)
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
