package control

import (
	"context"
	"fmt"
	"io"

	"github.com/mox-like/mox-like/core/mail"
)

// quarantine is the service that holds messages.
type quarantine interface {
	Held(ctx context.Context, f HeldFilter, p Page) (list []Held, next string, err error)
	HeldMessage(ctx context.Context, id string) (HeldMessage, error)
	HeldContent(ctx context.Context, id string) (content io.ReadCloser, size int64, err error)
	ReleaseHeld(ctx context.Context, id, user string) (accounts []string, err error)
	AllowHeld(ctx context.Context, a AllowAuthor) (AllowedHeld, error)
	DeleteHeld(ctx context.Context, id, user string) (accounts []string, err error)
	AllowedAuthors(ctx context.Context, p Page) (list []AllowedAuthor, next string, err error)
	DisallowAuthor(ctx context.Context, scope, sender string) error
}

// Held lists the held messages that match.
func (l *Local) Held(ctx context.Context, f HeldFilter, p Page) ([]Held, string, error) {
	service, err := service[quarantine](l, "list quarantine")
	if err != nil {
		return nil, "", err
	}
	if p.Limit, err = p.limit(); err != nil {
		return nil, "", fmt.Errorf("list quarantine: %w", err)
	}
	switch {
	case f.User != "" && f.Domain != "":
		return nil, "", Invalid(fmt.Errorf("list quarantine: name a user or a domain, not both"))
	case f.User != "":
		f.User, err = l.existing(ctx, "list quarantine", f.User)
	case f.Domain != "":
		f.Domain, err = heldDomain(f.Domain)
	}
	if err != nil {
		return nil, "", err
	}
	list, next, err := service.Held(ctx, f, p)
	if err == nil && len(list) == 0 && next == "" && p.After == "" && f.Domain != "" {
		if _, ok := l.host.Domains().Find(f.Domain); !ok {
			err = &kindError{kind: ErrNotFound, err: fmt.Errorf("list quarantine: the domain %s does not live here", f.Domain)}
		}
	}
	return list, next, err
}

// heldDomain brings a domain into normal form.
func heldDomain(text string) (string, error) {
	domain, err := mail.ParseDomain(text)
	if err != nil {
		return "", Invalid(fmt.Errorf("%q: %w", text, err))
	}
	return domain, nil
}

// HeldMessage gives one message with its header section.
func (l *Local) HeldMessage(ctx context.Context, id string) (HeldMessage, error) {
	service, err := service[quarantine](l, "show held message")
	if err != nil {
		return HeldMessage{}, err
	}
	return service.HeldMessage(ctx, id)
}

// HeldContent gives the whole message.
func (l *Local) HeldContent(ctx context.Context, id string) (content io.ReadCloser, size int64, err error) {
	service, err := service[quarantine](l, "read held message")
	if err != nil {
		return nil, 0, err
	}
	return service.HeldContent(ctx, id)
}

// heldObject names a message, and the account if it is one alone, in the audit
// trail.
func heldObject(id, user string) string {
	if user == "" {
		return id
	}
	return id + " of " + user
}

// onHeld changes a message for a user, or for all that it is held for. do is the
// change.
func (l *Local) onHeld(ctx context.Context, operation, what, id, user string, do func(q quarantine, user string) (after any, err error)) error {
	service, err := service[quarantine](l, what)
	if err != nil {
		return err
	}
	if user != "" {
		if user, err = l.existing(ctx, what, user); err != nil {
			return err
		}
	}
	e := AuditEntry{Operation: operation, Object: heldObject(id, user)}
	return l.audited(ctx, e, nil, func() (any, error) { return do(service, user) })
}

// heldAudit is what the audit trail has of a change: the accounts, MaxHeldFor at most,
// and how many there are.
type heldAudit struct {
	Accounts []string `json:"accounts"`
	Count    int      `json:"count"`
}

func auditedAccounts(accounts []string) heldAudit {
	return heldAudit{accounts[:min(len(accounts), MaxHeldFor)], len(accounts)}
}

// auditedAllowed is that of AllowHeld.
type auditedAllowed struct {
	heldAudit

	Allowed       []AllowedAuthor `json:"allowed"`
	Authenticated string          `json:"authenticated,omitempty"`
}

// ActorText names who acts, for people: who made the request that the context is of.
func ActorText(ctx context.Context) string { return actorOf(ctx).String() }

// ReleaseHeld delivers a message after all.
func (l *Local) ReleaseHeld(ctx context.Context, id, user string) (accounts []string, err error) {
	err = l.onHeld(ctx, "release-held", "release held message", id, user, func(q quarantine, user string) (any, error) {
		accounts, err = q.ReleaseHeld(ctx, id, user)
		return auditedAccounts(accounts), err
	})
	return accounts, err
}

// AllowHeld releases a message and remembers its author.
func (l *Local) AllowHeld(ctx context.Context, a AllowAuthor) (allowed AllowedHeld, err error) {
	switch a.Scope {
	case "":
		a.Scope = ScopeUser
	case ScopeUser, ScopeDomain, ScopeAll:
	default:
		return AllowedHeld{}, Invalid(fmt.Errorf("allow author: the scope is user, domain or all, not %q", a.Scope))
	}
	err = l.onHeld(ctx, "allow-held", "allow author", a.ID, a.User, func(q quarantine, user string) (any, error) {
		a.User = user
		allowed, err = q.AllowHeld(ctx, a)
		return auditedAllowed{
			heldAudit: auditedAccounts(allowed.Accounts), Allowed: allowed.Allowed[:min(len(allowed.Allowed), MaxHeldFor)],
			Authenticated: allowed.Authenticated,
		}, err
	})
	return allowed, err
}

// DeleteHeld forgets a message.
func (l *Local) DeleteHeld(ctx context.Context, id, user string) (accounts []string, err error) {
	err = l.onHeld(ctx, "delete-held", "delete held message", id, user, func(q quarantine, user string) (any, error) {
		accounts, err = q.DeleteHeld(ctx, id, user)
		return auditedAccounts(accounts), err
	})
	return accounts, err
}

// AllowedAuthors lists who was allowed.
func (l *Local) AllowedAuthors(ctx context.Context, p Page) ([]AllowedAuthor, string, error) {
	service, err := service[quarantine](l, "list allowed authors")
	if err != nil {
		return nil, "", err
	}
	if p.Limit, err = p.limit(); err != nil {
		return nil, "", fmt.Errorf("list allowed authors: %w", err)
	}
	return service.AllowedAuthors(ctx, p)
}

// DisallowAuthor takes one back.
func (l *Local) DisallowAuthor(ctx context.Context, scope, sender string) error {
	service, err := service[quarantine](l, "disallow author")
	if err != nil {
		return err
	}
	e := AuditEntry{Operation: "disallow-author", Object: sender + " for " + scope}
	return l.audited(ctx, e, struct{}{}, func() (any, error) { return nil, service.DisallowAuthor(ctx, scope, sender) })
}
