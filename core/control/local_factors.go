package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/mox-like/mox-like/core/mail"
)

// appPasswords is the service that keeps the passwords of programs.
type appPasswords interface {
	AddAppPassword(ctx context.Context, p AppPassword) (mail.Secret, AppPassword, error)
	AppPasswords(ctx context.Context, account string) ([]AppPassword, error)
	RevokeAppPassword(ctx context.Context, account, id string) error
}

// AddAppPassword makes a password for a program of a user.
func (l *Local) AddAppPassword(ctx context.Context, p AppPassword) (password mail.Secret, made AppPassword, err error) {
	const what = "add app password"
	service, err := service[appPasswords](l, what)
	if err != nil {
		return "", AppPassword{}, err
	}
	if p.Account, err = l.existing(ctx, what, p.Account); err != nil {
		return "", AppPassword{}, err
	}
	err = l.audited(ctx, AuditEntry{Operation: "add-app-password", Object: p.Account}, nil, func() (any, error) {
		password, made, err = service.AddAppPassword(ctx, p)
		return made, err
	})
	if err != nil {
		return "", AppPassword{}, err
	}
	return password, made, nil
}

// AppPasswords lists those of an account.
func (l *Local) AppPasswords(ctx context.Context, address string) ([]AppPassword, error) {
	const what = "list app passwords"
	service, err := service[appPasswords](l, what)
	if err != nil {
		return nil, err
	}
	user, err := l.existing(ctx, what, address)
	if err != nil {
		return nil, err
	}
	return service.AppPasswords(ctx, user)
}

// RevokeAppPassword ends one.
func (l *Local) RevokeAppPassword(ctx context.Context, address, id string) error {
	const what = "revoke app password"
	service, err := service[appPasswords](l, what)
	if err != nil {
		return err
	}
	user, err := l.existing(ctx, what, address)
	if err != nil {
		return err
	}
	list, err := service.AppPasswords(ctx, user)
	if err != nil {
		return err
	}
	var before any
	for _, p := range list {
		if p.ID == id {
			before = p
		}
	}
	if before == nil {
		return fmt.Errorf("%s %q of account %q: %w", what, id, user, ErrNotFound)
	}
	return l.audited(ctx, AuditEntry{Operation: "revoke-app-password", Object: user}, before, func() (any, error) {
		return nil, service.RevokeAppPassword(ctx, user, id)
	})
}

// factors is the service that keeps second factors.
type factors interface {
	EnrolTOTP(ctx context.Context, account string) (Enrolment, error)
	ConfirmTOTP(ctx context.Context, account string, code mail.Secret) error
	RemoveTOTP(ctx context.Context, account string) error
	SecondFactor(ctx context.Context, account string) (SecondFactor, error)
	SetAppendCode(ctx context.Context, account string, on bool) error
	VerifyTOTP(ctx context.Context, account string, code mail.Secret) (ok bool, err error)
}

// factor finds the service and the account.
func (l *Local) factor(ctx context.Context, what, address string) (factors, string, error) {
	service, err := service[factors](l, what)
	if err != nil {
		return nil, "", err
	}
	user, err := l.existing(ctx, what, address)
	return service, user, err
}

// changeFactor changes the second factor of an account, with its state before and
// after in the audit trail.
func (l *Local) changeFactor(ctx context.Context, operation, what, address string, do func(s factors, user string) error) error {
	service, user, err := l.factor(ctx, what, address)
	if err != nil {
		return err
	}
	before, err := service.SecondFactor(ctx, user)
	if err != nil {
		return err
	}
	return l.audited(ctx, AuditEntry{Operation: operation, Object: user}, before, func() (any, error) {
		if err := do(service, user); err != nil {
			return nil, err
		}
		return service.SecondFactor(ctx, user)
	})
}

// EnrolTOTP gives an account a secret.
func (l *Local) EnrolTOTP(ctx context.Context, address string) (e Enrolment, err error) {
	err = l.changeFactor(ctx, "enrol-totp", "enrol second factor", address, func(s factors, user string) error {
		e, err = s.EnrolTOTP(ctx, user)
		return err
	})
	if err != nil {
		return Enrolment{}, err
	}
	return e, nil
}

// ConfirmTOTP puts the secret in force.
func (l *Local) ConfirmTOTP(ctx context.Context, address string, code mail.Secret) error {
	return l.changeFactor(ctx, "confirm-totp", "confirm second factor", address, func(s factors, user string) error {
		return s.ConfirmTOTP(ctx, user, code)
	})
}

// RemoveTOTP ends the second factor.
func (l *Local) RemoveTOTP(ctx context.Context, address string) error {
	return l.changeFactor(ctx, "remove-totp", "remove second factor", address, func(s factors, user string) error {
		return s.RemoveTOTP(ctx, user)
	})
}

// SetAppendCode lets clients send the code behind the password.
func (l *Local) SetAppendCode(ctx context.Context, address string, on bool) error {
	return l.changeFactor(ctx, "set-append-code", "set append code", address, func(s factors, user string) error {
		return s.SetAppendCode(ctx, user, on)
	})
}

// SecondFactor tells how an account stands.
func (l *Local) SecondFactor(ctx context.Context, address string) (SecondFactor, error) {
	service, user, err := l.factor(ctx, "find second factor", address)
	if err != nil {
		return SecondFactor{}, err
	}
	return service.SecondFactor(ctx, user)
}

// errWrongCode leaves no entry of a code that was wrong: strangers may try many.
var errWrongCode = errors.New("the code is wrong")

// VerifyTOTP tries a code. A right one is used up, which the audit trail has.
func (l *Local) VerifyTOTP(ctx context.Context, address string, code mail.Secret) (ok bool, err error) {
	service, user, err := l.factor(ctx, "verify code", address)
	if err != nil {
		return false, err
	}
	before, err := service.SecondFactor(ctx, user)
	if err != nil {
		return false, err
	}
	err = l.audited(ctx, AuditEntry{Operation: "verify-totp", Object: user}, before, func() (any, error) {
		if ok, err = service.VerifyTOTP(ctx, user, code); err != nil {
			return nil, err
		}
		if !ok {
			return nil, errWrongCode
		}
		after, _ := service.SecondFactor(context.WithoutCancel(ctx), user)
		return after, nil
	})
	if errors.Is(err, errWrongCode) {
		return false, nil
	}
	return ok, err
}
