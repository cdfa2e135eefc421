package imap

import (
	"context"
	"errors"
	"strings"

	"github.com/emersion/go-imap/v2"
	gosasl "github.com/emersion/go-sasl"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/sasl"
	"github.com/mox-like/mox-like/core/trace"
)

// Login serves the LOGIN command.
func (s *session) Login(username, password string) error {
	if err := sasl.CheckUsername(username); err != nil {
		return refusedLogin(err)
	}
	user, err := s.authenticate(&mail.Credentials{Mechanism: "LOGIN", Username: username, Password: mail.Secret(password)})
	if err != nil {
		return refusedLogin(err)
	}
	return s.enter(user)
}

// AuthenticateMechanisms lists the mechanisms of AUTHENTICATE.
func (s *session) AuthenticateMechanisms() []string { return s.conn.listener.caps.mechanisms }

// Authenticate begins a SASL exchange.
func (s *session) Authenticate(mechanism string) (gosasl.Server, error) {
	e := &exchange{session: s}
	var keys func(string) (mail.ScramKeys, error)
	if scram := s.conn.listener.scram; scram != nil {
		keys = func(username string) (mail.ScramKeys, error) { return scram.ScramKeys(s.conn.ctx, username) }
	}
	server, err := sasl.NewServer(strings.ToUpper(mechanism), keys, func(c *mail.Credentials) (err error) {
		e.user, err = s.authenticate(c)
		return err
	})
	if err != nil {
		return nil, no(imap.ResponseCodeCannot, "There is no such authentication mechanism here")
	}
	e.server = server
	return e, nil
}

// exchange is a SASL exchange that lets the client in at its end.
type exchange struct {
	session *session
	server  gosasl.Server
	user    string
}

// Next handles a response of the client.
func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = e.server.Next(response)
	if err != nil {
		return nil, false, refusedLogin(err)
	}
	if done {
		return nil, true, e.session.enter(e.user)
	}
	return challenge, false, nil
}

// authenticate runs the auth stage and gives the user who is in.
func (s *session) authenticate(c *mail.Credentials) (user string, err error) {
	l := s.conn.listener
	tx := mail.NewTransaction(mail.NewID(l.now()), s.conn.session, l.now())
	tx.Credentials = c
	ctx, cancel := context.WithTimeout(s.conn.ctx, l.Timeouts.Stage)
	defer cancel()
	outcome := l.chains.Run(ctx, mail.StageAuth, tx)
	now := l.now()
	l.traces.Add(trace.NewRecord(trace.KindLogin, tx, outcome, now))
	fields := []zap.Field{
		zap.String(logkey.Message, tx.ID),
		zap.String(logkey.User, mail.Printable(c.Username, maxLogText)), zap.String(logkey.Mechanism, c.Mechanism), zap.String(logkey.Handler, outcome.Handler),
		zap.Stringer(logkey.Verdict, outcome.Action), zap.String(logkey.Reason, mail.Printable(outcome.Reason, maxLogText)), zap.Duration(logkey.Duration, now.Sub(tx.Started)),
	}
	if outcome.Refused() {
		s.conn.log.Info("login refused", fields...)
		return "", &mail.ReplyError{Reply: outcome.Reply, Cause: errors.New(outcome.Reason)}
	}
	s.conn.log.Info("login accepted", fields...)
	return tx.Authenticated(), nil
}

// refusedLogin gives what the client is told. The texts for a wrong password and
// for an unknown user are the chain's one text. The fence counts the failures.
func refusedLogin(err error) error {
	reply := mail.ReplyOf(err)
	text := oneLine(reply.Text)
	switch {
	case reply.Code == 501:
		return bad(text)
	case reply.Code < 500:
		return no(imap.ResponseCodeUnavailable, text)
	default:
		return no(imap.ResponseCodeAuthenticationFailed, text)
	}
}

// enter makes user the session's, once the whole exchange has ended well.
func (s *session) enter(user string) error {
	err := s.do("login", func(ctx context.Context) (err error) {
		s.account, err = s.conn.listener.mailboxes.Open(ctx, user)
		return err
	})
	if err != nil {
		return err
	}
	s.conn.session.User = user
	s.conn.fence.authed = true
	return nil
}
