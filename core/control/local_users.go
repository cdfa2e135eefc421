package control

import (
	"context"
	"fmt"

	"github.com/mox-like/mox-like/core/mail"
)

// accounts is the service that knows the accounts.
type accounts interface {
	Exists(ctx context.Context, address string) (bool, error)
	Add(ctx context.Context, address string, password mail.Secret) error
	SetPassword(ctx context.Context, address string, password mail.Secret) error
	Remove(ctx context.Context, address string) error
	List(ctx context.Context) ([]mail.Account, error)
}

// AddUser makes an account.
func (l *Local) AddUser(ctx context.Context, address string, password mail.Secret) error {
	service, user, err := l.account("add account", address)
	if err != nil {
		return err
	}
	return l.audited(ctx, AuditEntry{Operation: "add-user", Object: user}, nil, func() (any, error) {
		err := service.Add(ctx, user, password)
		if err == nil {
			return struct{}{}, nil
		}
		if exists, _ := service.Exists(ctx, user); exists {
			return nil, &kindError{kind: ErrExists, err: err}
		}
		return nil, err
	})
}

// SetPassword replaces an account's password.
func (l *Local) SetPassword(ctx context.Context, address string, password mail.Secret) error {
	service, user, err := l.account("set password", address)
	if err != nil {
		return err
	}
	return l.audited(ctx, AuditEntry{Operation: "set-password", Object: user}, nil, func() (any, error) {
		return nil, service.SetPassword(ctx, user, password)
	})
}

// RemoveUser deletes an account and its mail.
func (l *Local) RemoveUser(ctx context.Context, address string) error {
	service, user, err := l.account("remove account", address)
	if err != nil {
		return err
	}
	return l.audited(ctx, AuditEntry{Operation: "remove-user", Object: user}, struct{}{}, func() (any, error) {
		return nil, service.Remove(ctx, user)
	})
}

// Users lists the accounts.
func (l *Local) Users(ctx context.Context) ([]mail.Account, error) {
	service, err := service[accounts](l, "list accounts")
	if err != nil {
		return nil, err
	}
	return service.List(ctx)
}

// account finds the service and brings an address into normal form. what is for
// the error.
func (l *Local) account(what, address string) (accounts, string, error) {
	service, err := service[accounts](l, what)
	if err != nil {
		return nil, "", err
	}
	user, err := normal(address)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", what, err)
	}
	return service, user, nil
}

// existing gives the normal form of the address of an account that is there.
func (l *Local) existing(ctx context.Context, what, address string) (user string, err error) {
	service, user, err := l.account(what, address)
	if err != nil {
		return "", err
	}
	exists, err := service.Exists(ctx, user)
	if err == nil && !exists {
		err = &kindError{kind: ErrNotFound, err: fmt.Errorf("%s of account %q: no account has this address", what, user)}
	}
	return user, err
}
