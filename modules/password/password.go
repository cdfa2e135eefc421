// Package password is handler.password: it checks what a client logs in with, a
// password or a SCRAM proof, against the accounts of this server.
//
// A right one makes the client the account's user, unless a later handler of the
// auth stage (a second factor) refuses. A wrong one ends the stage with 535
// 5.7.8 (RFC 4954 section 6) and the same text whatever is wrong; what it was is
// in the trace.
package password

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&Password{}) }

// Password is the handler. It has no settings.
type Password struct {
	accounts verifier
	log      *zap.Logger
}

// verifier is the service that knows the accounts.
type verifier interface {
	// Verify tells whether credentials are right. The address is the account's,
	// "" if there is none.
	Verify(ctx context.Context, c *mail.Credentials) (address string, ok bool, err error)
}

var (
	refused   = mail.NewReply(535, 7, 8, "Authentication credentials invalid")
	temporary = mail.NewReply(454, 7, 0, "Temporary authentication failure, try again later")
)

var errNoCredentials = errors.New("check password: the login has no credentials")

// Module describes the handler.
func (*Password) Module() core.Info {
	return core.Info{
		ID:            "handler.password",
		Stages:        mail.AtAuth,
		Authenticates: true,
		New:           func() core.Module { return new(Password) },
	}
}

// Provision finds the accounts.
func (p *Password) Provision(c *core.Context) error {
	accounts, err := core.Service[verifier](c)
	if err != nil {
		return fmt.Errorf("password needs the accounts of this server: %w", err)
	}
	p.accounts, p.log = accounts, c.Logger()
	return nil
}

// Handle checks the credentials. A client for which an earlier handler has
// vouched, by a password that is no account's own, needs no check.
//
// When the accounts cannot be asked, the client must not be told that its
// password is wrong, since it would ask its user for another: whatever on_error
// is, the answer is 454.
func (p *Password) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if user := tx.Authenticated(); user != "" {
		return mail.Continue("an earlier handler vouched for " + user), nil
	}
	if tx.Credentials == nil {
		return mail.Verdict{}, errNoCredentials
	}
	user, ok, err := p.accounts.Verify(ctx, tx.Credentials)
	switch {
	case err != nil:
		p.log.Error("cannot check password", zap.String("session_id", tx.Session.ID), zap.Error(err))
		return mail.Defer(temporary, err.Error()), nil
	case user == "":
		return mail.Reject(refused, "unknown user"), nil
	case !ok && tx.Credentials.Proof != nil:
		return mail.Reject(refused, "wrong proof for "+user), nil
	case !ok:
		return mail.Reject(refused, "wrong password for "+user), nil
	}
	tx.Authenticate(user)
	return mail.Continue(tx.Credentials.Mechanism + " login of " + user), nil
}

var (
	_ core.Provisioner = (*Password)(nil)
	_ core.Handler     = (*Password)(nil)
)
