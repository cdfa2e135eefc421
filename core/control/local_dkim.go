package control

import (
	"context"
	"fmt"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// DKIMKeys are the operations on the keys that domains sign their mail with. Domains
// need not be in normal form; one that does not live here is ErrNotFound.
type DKIMKeys interface {
	// DKIMKeys lists the keys of a domain: those in files, then those that the server
	// manages, retired ones too, in the order in which they were made.
	DKIMKeys(ctx context.Context, domain string) ([]DKIMKey, error)
	// MakeDKIMKeys makes keys that the server manages. They sign at once if no key of
	// the kind does, and else wait for RotateDKIM. ErrExists if such keys wait already
	// or the selector is taken, ErrInvalid if the domain's keys are not managed.
	MakeDKIMKeys(ctx context.Context, domain string, n NewDKIMKeys) (*DKIMStep, error)
	// RotateDKIM does the next safe step of replacing the keys that the server manages.
	// With force it waits neither for the DNS nor for the end of an overlap.
	RotateDKIM(ctx context.Context, domain string, force bool) (*DKIMStep, error)
	// CheckDKIM asks the DNS for every key of a domain.
	CheckDKIM(ctx context.Context, domain string) (*DKIMReport, error)
}

// dkimService is the service that keeps keys.
type dkimService interface {
	Keys(ctx context.Context, d DKIMDomain) ([]DKIMKey, error)
	Make(ctx context.Context, d DKIMDomain, n NewDKIMKeys) (*DKIMStep, error)
	Rotate(ctx context.Context, d DKIMDomain, force bool) (*DKIMStep, error)
	Check(ctx context.Context, d DKIMDomain) (*DKIMReport, error)
}

// dkimBlock is a module that is a block dkim of a domain.
type dkimBlock interface{ DKIMBlock() DKIMBlock }

// dkim finds the service and what the file says of the domain.
func (l *Local) dkim(ctx context.Context, what, domain string) (dkimService, DKIMDomain, error) {
	none := DKIMDomain{}
	s, err := service[dkimService](l, what)
	if err != nil {
		return nil, none, err
	}
	name, err := mail.ParseDomain(domain)
	if err != nil {
		return nil, none, Invalid(fmt.Errorf("%s: %q is no domain", what, domain))
	}
	d, ok := l.host.Domains().Find(name)
	if !ok {
		err := fmt.Errorf("%s: the domain %s does not live here: write domain %q {} into the file", what, name, name)
		var names []string
		for _, d := range l.host.Domains().All() {
			names = append(names, d.Name)
		}
		if near := config.Suggest(name, names); near != "" {
			err = fmt.Errorf("%s: the domain %s does not live here; did you mean %s?", what, name, near)
		}
		return nil, none, &kindError{kind: ErrNotFound, err: err}
	}
	blocks, err := core.DomainModulesOf[dkimBlock](ctx, l.host, d.Name)
	if err != nil {
		return nil, none, &kindError{kind: ErrRefused, err: fmt.Errorf("%s: %w", what, err)}
	}
	dd := DKIMDomain{Name: d.Name}
	for _, b := range blocks {
		dd.Blocks = append(dd.Blocks, b.DKIMBlock())
	}
	return s, dd, nil
}

// DKIMKeys lists the keys of a domain.
func (l *Local) DKIMKeys(ctx context.Context, domain string) ([]DKIMKey, error) {
	s, d, err := l.dkim(ctx, "list DKIM keys", domain)
	if err != nil {
		return nil, err
	}
	return s.Keys(ctx, d)
}

// MakeDKIMKeys makes keys that the server manages.
func (l *Local) MakeDKIMKeys(ctx context.Context, domain string, n NewDKIMKeys) (step *DKIMStep, err error) {
	s, d, err := l.dkim(ctx, "make DKIM keys", domain)
	if err != nil {
		return nil, err
	}
	return l.dkimStep(ctx, s, d, "make-dkim-keys", func() (*DKIMStep, error) { return s.Make(ctx, d, n) })
}

// RotateDKIM does the next safe step of replacing keys.
func (l *Local) RotateDKIM(ctx context.Context, domain string, force bool) (*DKIMStep, error) {
	s, d, err := l.dkim(ctx, "rotate DKIM keys", domain)
	if err != nil {
		return nil, err
	}
	return l.dkimStep(ctx, s, d, "rotate-dkim", func() (*DKIMStep, error) { return s.Rotate(ctx, d, force) })
}

// dkimStep makes a change to the keys of a domain, with what there was before and
// after.
func (l *Local) dkimStep(ctx context.Context, s dkimService, d DKIMDomain, operation string, do func() (*DKIMStep, error)) (step *DKIMStep, err error) {
	before, err := s.Keys(ctx, d)
	if err != nil {
		return nil, err
	}
	err = l.audited(ctx, AuditEntry{Operation: operation, Object: d.Name}, before, func() (any, error) {
		if step, err = do(); err != nil {
			return nil, err
		}
		after, err := s.Keys(ctx, d)
		if err != nil {
			return struct{}{}, nil //nolint:nilerr // the change is made, whether or not it can be read again
		}
		return after, nil
	})
	return step, err
}

// CheckDKIM asks the DNS for every key of a domain.
func (l *Local) CheckDKIM(ctx context.Context, domain string) (*DKIMReport, error) {
	s, d, err := l.dkim(ctx, "check DKIM keys", domain)
	if err != nil {
		return nil, err
	}
	return s.Check(ctx, d)
}
