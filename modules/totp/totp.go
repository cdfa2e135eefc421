// Package totp is handler.totp and service.totp: second factors by time-based
// codes of six digits (RFC 6238), as authenticator apps show them.
//
// Mail programs cannot ask for a code. So a user who has a second factor gives
// them app passwords, which the accounts service keeps, and the account's own
// password is no longer good by itself. Who asks for it can send the code behind
// that password; each code is good once. So is each of ten recovery codes, which
// are accepted wherever a code is.
//
// What is refused here looks to the client as a wrong password does, by its text
// and, with the password handler in front, by its time.
//
// The service keeps the shared secrets, encrypted by AES-256-GCM with the account
// as associated data. The key is that of the environment variable
// MOX_LIKE_TOTP_KEY, 32 bytes in hexadecimal or base64, or else the file totp.key
// in the data directory, which the first enrolment makes. Without the key nobody
// who has a second factor gets in by a code: back the file up, apart from the
// database. There is no rotation: another key needs another enrolment.
package totp

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

func init() {
	core.Register(&TOTP{})
	core.Register(&Service{})
}

// The values of enforce.
const (
	enforceOff = "off"
	enforceAll = "all"
)

// TOTP is the handler and its settings. It stands behind password.
type TOTP struct {
	// Enforce says whose own password is not enough to log in: off, nobody's;
	// enrolled, that of users who have a second factor; all, everybody's. App
	// passwords are always enough.
	Enforce string `config:"enforce" default:"enrolled" values:"off,enrolled,all"`
	// Drift is how many steps of 30 seconds the clock of a user's device may be ahead
	// or behind.
	Drift int `config:"drift" default:"1" min:"0" max:"10"`
	// AppendCode lets users in who send the code behind their password, if they have
	// asked for that. Without it only app passwords are good for who has a second
	// factor.
	AppendCode bool `config:"append_code" default:"true"`

	service *Service
	log     *zap.Logger
}

// What a client is told. The first is word for word what the password handler
// says to a wrong password.
var (
	refused   = mail.NewReply(535, 7, 8, "Authentication credentials invalid")
	temporary = mail.NewReply(454, 7, 0, "Temporary authentication failure, try again later")
)

// Module describes the handler.
func (*TOTP) Module() core.Info {
	return core.Info{
		ID:     "handler.totp",
		Stages: mail.AtAuth,
		New:    func() core.Module { return new(TOTP) },
	}
}

// Provision finds the service.
func (t *TOTP) Provision(c *core.Context) error {
	service, err := core.Service[*Service](c)
	if err != nil {
		return fmt.Errorf("find the service of totp: %w", err)
	}
	t.service, t.log = service, c.Logger()
	return nil
}

// Handle asks for the second factor of the user for whom an earlier handler has
// vouched. What cannot be checked is refused whatever on_error is: a second factor
// never fails open.
func (t *TOTP) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if t.Enforce == enforceOff {
		return mail.Continue("no second factor is asked for: enforce is off"), nil
	}
	user, c := tx.Authenticated(), tx.Credentials
	switch {
	case user == "" || c == nil:
		return mail.Defer(temporary, "no handler has vouched for the client yet: write totp behind password"), nil
	case c.AppPassword != "":
		return mail.Continue("an app password needs no second factor"), nil
	case !t.service.isOn(user) && t.Enforce == enforceAll:
		return mail.Reject(refused, "enforce is all, and "+user+" has no second factor: the account's own password is not enough, an app password is"), nil
	case !t.service.isOn(user):
		return mail.Continue(user + " has no second factor"), nil
	case c.Code == "":
		return mail.Reject(refused, user+" has a second factor: the account's own password is not enough, an app password is"), nil
	case !t.AppendCode:
		return mail.Reject(refused, user+" sent a code behind the password, and append_code is false"), nil
	}
	verify := t.service.check
	if tx.Trial {
		verify = t.service.try
	}
	result, err := verify(ctx, user, c.Code, t.Drift)
	if err != nil {
		t.log.Error("cannot check second factor", zap.String(logkey.Session, tx.Session.ID), zap.String(logkey.User, user), zap.Error(err))
		return mail.Defer(temporary, mail.Printable(err.Error(), maxReason)), nil
	}
	if !result.ok {
		return mail.Reject(refused, "second factor of "+user+": "+result.reason), nil
	}
	return mail.Continue("second factor of " + user + ": " + result.reason), nil
}

// maxReason bounds the reason of an error, in bytes.
const maxReason = 400

var (
	_ core.Provisioner = (*TOTP)(nil)
	_ core.Handler     = (*TOTP)(nil)
)
