package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// TunedDomains lists the domains that have settings in the database.
func (l *Local) TunedDomains(ctx context.Context, p Page) (list []string, next string, err error) {
	limit, err := p.limit()
	if err != nil {
		return nil, "", fmt.Errorf("list tuned domains: %w", err)
	}
	list, err = l.host.Tuning().Domains(ctx, p.After, limit)
	if len(list) == limit {
		next = list[limit-1]
	}
	return list, next, tuned(err)
}

// DomainSettings lists what the database has for a domain.
func (l *Local) DomainSettings(ctx context.Context, domain string) ([]tuning.Setting, error) {
	list, err := l.host.Tuning().Settings(ctx, domain)
	return list, tuned(err)
}

// EffectiveSettings gives what holds for a domain.
func (l *Local) EffectiveSettings(ctx context.Context, domain, handler string) ([]tuning.Effective, error) {
	list, err := l.host.Tuning().Effective(ctx, domain, handler)
	return list, tuned(err)
}

// ChangeDomain changes the settings of a domain.
func (l *Local) ChangeDomain(ctx context.Context, domain string, changes []tuning.Change, note string) (*Report, error) {
	return l.tune(ctx, "change-domain-settings", domain, func() (config.Diagnostics, map[string][]byte, error) {
		return l.host.Tuning().Change(ctx, tuning.Request{Domain: domain, Changes: changes, Actor: actorOf(ctx).String(), Note: note})
	})
}

// RollbackDomain brings back what was.
func (l *Local) RollbackDomain(ctx context.Context, domain string, to int64) (*Report, error) {
	return l.tune(ctx, "rollback-domain-settings", domain, func() (config.Diagnostics, map[string][]byte, error) {
		return l.host.Tuning().Rollback(ctx, domain, to, actorOf(ctx).String())
	})
}

// tune changes the settings of a domain; the audit trail has all of them before
// and after, as they are shown: without secrets.
func (l *Local) tune(ctx context.Context, operation, domain string, do func() (config.Diagnostics, map[string][]byte, error)) (report *Report, err error) {
	if normal, err := mail.ParseDomain(domain); err == nil {
		domain = normal
	}
	before, err := l.values(ctx, domain)
	if err != nil {
		return nil, err
	}
	err = l.audited(ctx, AuditEntry{Operation: operation, Object: domain}, before, func() (any, error) {
		ds, sources, err := do()
		if err == nil || errors.Is(err, core.ErrInvalid) {
			report = &Report{Diagnostics: ds, Sources: sources}
		}
		if err != nil {
			return nil, tuned(err)
		}
		after, err := l.values(context.WithoutCancel(ctx), domain)
		if err != nil {
			return nil, nil //nolint:nilerr,nilnil // the change is made, whether it can be shown or not
		}
		return after, nil
	})
	return report, err
}

// values gives the settings of a domain by handler.attribute.
func (l *Local) values(ctx context.Context, domain string) (map[string]string, error) {
	list, err := l.DomainSettings(ctx, domain)
	values := make(map[string]string, len(list))
	for _, s := range list {
		values[s.Handler+"."+s.Attribute] = s.Value
	}
	return values, err
}

// DomainHistory lists what was changed.
func (l *Local) DomainHistory(ctx context.Context, domain string, p Page) (list []tuning.Revision, next string, err error) {
	limit, err := p.limit()
	if err != nil {
		return nil, "", fmt.Errorf("list history: %w", err)
	}
	var before int64
	if p.After != "" {
		if before, err = strconv.ParseInt(p.After, 10, 64); err != nil || before < 1 {
			return nil, "", Invalid(fmt.Errorf("list history: after is no revision: %q", p.After))
		}
	}
	list, err = l.host.Tuning().History(ctx, domain, before, limit)
	if len(list) == limit {
		next = strconv.FormatInt(list[limit-1].ID, 10)
	}
	return list, next, tuned(err)
}

// ExportConfig gives the files with the settings merged in.
func (l *Local) ExportConfig(ctx context.Context) (map[string][]byte, error) {
	files, err := l.host.Tuning().Export(ctx)
	return files, tuned(err)
}

// tuned gives an error of the settings the kind that callers compare.
func tuned(err error) error {
	switch {
	case errors.Is(err, core.ErrInvalid):
		return ErrRefused
	case errors.Is(err, tuning.ErrRequest):
		return Invalid(err)
	}
	return err
}
