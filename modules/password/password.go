// Package password is handler.password: it checks what a client logs in with, a
// password, an app password or a SCRAM proof, against the accounts of this
// server.
//
// A right one makes the client the account's user, unless a later handler of the
// auth stage (a second factor) refuses. A wrong one ends the stage with 535
// 5.7.8 (RFC 4954 section 6) and the same text whatever is wrong; what it was is
// in the trace. A refusal takes the same time too, also when the password was
// right and a later handler has refused it.
package password

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
)

func init() { core.Register(&Password{}) }

// Password is the handler. It has no settings.
type Password struct {
	accounts verifier
	log      *zap.Logger
}

// verifier is the service that knows the accounts.
type verifier interface {
	// Verify tells whether the credentials of a session are right.
	Verify(ctx context.Context, s *mail.Session, c *mail.Credentials) (accounts.Answer, error)
	// Spend takes the time of a wrong password.
	Spend(ctx context.Context, s *mail.Session) error
}

// answerKey is where a transaction keeps the accounts.Answer.
type answerKey struct{}

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
	service, err := core.Service[verifier](c)
	if err != nil {
		return fmt.Errorf("password needs the accounts of this server: %w", err)
	}
	p.accounts, p.log = service, c.Logger()
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
	c := tx.Credentials
	if c == nil {
		return mail.Verdict{}, errNoCredentials
	}
	found, err := tx.Once(answerKey{}, func() (any, error) { return p.accounts.Verify(ctx, tx.Session, c) })
	if err != nil {
		level := zap.ErrorLevel
		if ctx.Err() != nil { // its turn to be hashed came too late, or the client left
			level = zap.DebugLevel
		}
		p.log.Log(level, "cannot check password", zap.String(logkey.Session, tx.Session.ID), zap.Error(err))
		return mail.Defer(temporary, mail.Printable(err.Error(), maxReason)), nil
	}
	answer := found.(accounts.Answer)
	more := ""
	if answer.Reason != "" {
		more = ": " + answer.Reason
	}
	switch user := answer.Address; {
	case user == "":
		return mail.Reject(refused, "unknown user"+more), nil
	case !answer.OK && c.Proof != nil:
		return mail.Reject(refused, "wrong proof for "+user+more), nil
	case !answer.OK:
		return mail.Reject(refused, "wrong password for "+user+more), nil
	default:
		tx.Authenticate(user)
		return mail.Continue(c.Mechanism + " login of " + user + more), nil
	}
}

// maxReason bounds the reason of an error, in bytes.
const maxReason = 400

// Observe tells the accounts of a login that was accepted. It takes the time of a
// wrong password before the client is told that a later handler refused it, if its
// password was found right in less.
func (p *Password) Observe(ctx context.Context, tx *mail.Transaction, outcome mail.Outcome) {
	found, err := tx.Once(answerKey{}, func() (any, error) { return accounts.Answer{}, nil })
	answer, ok := found.(accounts.Answer)
	if err != nil || !ok {
		return
	}
	switch refused := outcome.Refused(); {
	case !refused && answer.Accepted != nil:
		answer.Accepted(ctx)
	case refused && answer.Quick:
		if err := p.accounts.Spend(ctx, tx.Session); err != nil {
			p.log.Debug("refusal was quicker than that of a wrong password", zap.String(logkey.Session, tx.Session.ID), zap.Error(err))
		}
	}
}

var (
	_ core.Provisioner = (*Password)(nil)
	_ core.Handler     = (*Password)(nil)
	_ core.Observer    = (*Password)(nil)
)
