// Package senderlogin is handler.sender_login: who has logged in sends under his
// own addresses only.
//
// It holds the reverse-path of the envelope (RFC 5321) and the mailboxes in the
// fields From and Sender of the header section (RFC 5322) against the user: they
// must be his account's address, with or without a subaddress, an alias that
// leads to him, or what the setting allow lists. A domain's catch_all is nobody's
// address. Sessions in which nobody has logged in are left alone.
package senderlogin

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&SenderLogin{}) }

// SenderLogin makes sure that the sender address of a message belongs to the user
// who has logged in.
type SenderLogin struct {
	// Allow lists further addresses for users: the key is the user's address,
	// "@example.org" for all users of a domain, or "*" for all; the values are
	// addresses, "@example.net" for all addresses of a domain, or "*" for any.
	Allow map[string][]string `config:"allow"`
	// NullReversePath is what happens to the reverse-path <>, with which programs
	// send reports, such as that a message was read.
	NullReversePath string `config:"null_reverse_path" default:"accept" values:"accept,reject"`
	// HeaderFrom is what happens to a message whose fields From or Sender name
	// somebody else: reject, tag (the message gets the tag sender_login=fail), or
	// ignore, and they are not looked at. Unless they are ignored, a message without
	// one From field that can be read is rejected.
	HeaderFrom string `config:"header_from" default:"reject" values:"reject,tag,ignore"`

	domains  *core.Domains
	accounts accounts
	rules    rules
	problems core.Problems
	log      *zap.Logger
	// aliases are those of a domain, by local-part, as map[string][]mail.Address.
	// A domain's are read when they are first needed.
	aliases sync.Map
}

// accounts is the service that knows who lives here.
type accounts interface {
	// Exists tells whether there is an account of that address.
	Exists(ctx context.Context, address string) (bool, error)
}

var (
	wrongPath   = mail.NewReply(553, 7, 1, "This sender address does not belong to the user who has logged in")
	wrongNull   = mail.NewReply(553, 7, 1, "Users cannot send with the sender <>")
	wrongFrom   = mail.NewReply(550, 7, 1, "From or Sender in the header names an address that does not belong to the user who has logged in")
	unclearFrom = mail.NewReply(550, 7, 1, "The header must have one From field and at most one Sender field, with valid addresses")
	temporary   = mail.NewReply(451, 3, 0, "Local error in processing, try again later")
)

// tag marks messages of which a field names somebody else.
const tag = "sender_login=fail"

// Module describes the handler.
func (*SenderLogin) Module() core.Info {
	return core.Info{
		ID:     "handler.sender_login",
		Stages: mail.AtMail | mail.AtData,
		New:    func() core.Module { return new(SenderLogin) },
	}
}

// Provision finds the accounts and reads the rules.
func (s *SenderLogin) Provision(c *core.Context) error {
	var err error
	if s.accounts, err = core.Service[accounts](c); err != nil {
		return fmt.Errorf("sender_login needs the accounts of this server: %w", err)
	}
	s.domains, s.log = c.Domains(), c.Logger()
	s.rules, s.problems = parseRules(s.Allow)
	return nil
}

// Validate tells what is wrong with the rules.
func (s *SenderLogin) Validate() core.Problems { return s.problems }

// NeedsLogin tells that the handler serves only clients that have logged in.
func (*SenderLogin) NeedsLogin() bool { return true }

// Handle checks the reverse-path or, at the data stage, the header section.
func (s *SenderLogin) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Session.User == "" {
		return mail.Continue("nobody has logged in"), nil
	}
	var verdict mail.Verdict
	var err error
	if tx.Stage == mail.StageData {
		verdict, err = s.header(ctx, tx)
	} else {
		verdict, err = s.path(ctx, tx)
	}
	if err != nil {
		// Whatever on_error is: the check must not be passed because the server is in
		// trouble.
		s.log.Error("cannot check sender", zap.String(logkey.Message, tx.ID), zap.Error(err))
		return mail.Defer(temporary, err.Error()), nil
	}
	verdict.Reason = mail.Printable(verdict.Reason, maxReason)
	return verdict, nil
}

// path checks the reverse-path.
func (s *SenderLogin) path(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	user, path := tx.Session.User, tx.Envelope.ReversePath
	if path.IsNull() {
		if s.NullReversePath == "reject" {
			return mail.Reject(wrongNull, "null_reverse_path is reject, and "+user+" sends with <>"), nil
		}
		return mail.Continue("the null reverse-path"), nil
	}
	why, err := s.owns(ctx, user, path)
	switch {
	case err != nil:
		return mail.Verdict{}, err
	case why == "":
		return mail.Reject(wrongPath, fmt.Sprintf("%s may not send as %s", user, path)), nil
	}
	return mail.Continue(why), nil
}

// header checks the fields From and Sender.
func (s *SenderLogin) header(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if s.HeaderFrom == "ignore" {
		return mail.Continue("the header is ignored"), nil
	}
	if tx.Message == nil {
		return mail.Verdict{}, errNoMessage
	}
	user := tx.Session.User
	named, err := senders(tx.Message.Header)
	if err != nil {
		return mail.Reject(unclearFrom, fmt.Sprintf("header of %s: %v", user, err)), nil
	}
	for _, n := range named {
		why, err := s.owns(ctx, user, n.address)
		switch {
		case err != nil:
			return mail.Verdict{}, err
		case why != "":
			continue
		}
		reason := fmt.Sprintf("%s names %s, and %s may not send as that", n.field, n.address, user)
		if s.HeaderFrom == "tag" {
			tx.AddTag(tag)
			return mail.Continue(reason), nil
		}
		return mail.Reject(wrongFrom, reason), nil
	}
	return mail.Continue("From and Sender belong to " + user), nil
}

// maxReason bounds what a reason takes of a trace, in bytes.
const maxReason = 480

var errNoMessage = errors.New("check sender: there is no message at this stage")

var (
	_ core.Provisioner  = (*SenderLogin)(nil)
	_ core.Validator    = (*SenderLogin)(nil)
	_ core.Handler      = (*SenderLogin)(nil)
	_ core.LoginHandler = (*SenderLogin)(nil)
)
