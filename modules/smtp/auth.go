package smtp

import (
	"errors"
	"time"

	gosasl "github.com/emersion/go-sasl"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/sasl"
	"github.com/mox-like/mox-like/core/trace"
)

// AuthMechanisms implements gosmtp.AuthSession: what EHLO offers. A password
// never goes over a connection without TLS.
func (s *session) AuthMechanisms() []string {
	if s.listener.Auth == authOff || s.mail.TLS == nil || s.mail.User != "" {
		return nil
	}
	return sasl.Mechanisms(s.listener.scram != nil)
}

// Auth implements gosmtp.AuthSession: AUTH (RFC 4954 section 4).
func (s *session) Auth(mechanism string) (gosasl.Server, error) {
	switch {
	case s.listener.Auth == authOff:
		return nil, smtpError(mail.NewReply(503, 5, 1, "Authentication is not available here"))
	case s.mail.TLS == nil:
		return nil, smtpError(mail.NewReply(538, 7, 11, "Encryption required, send STARTTLS first"))
	case s.tx != nil:
		return nil, smtpError(mail.NewReply(503, 5, 1, "No authentication within a message"))
	}
	e := &exchange{session: s}
	server, err := sasl.NewServer(mechanism, s.keys(), e.login)
	if err != nil {
		return nil, authError(err)
	}
	e.server = server
	return e, nil
}

// keys gives what SCRAM needs to know before it knows whether the client is who
// it says; nil where the accounts have no such keys.
func (s *session) keys() func(string) (mail.ScramKeys, error) {
	if s.listener.scram == nil {
		return nil
	}
	return func(username string) (mail.ScramKeys, error) { return s.listener.scram.ScramKeys(s.ctx, username) }
}

// exchange is one attempt to log in. The user is the session's once the exchange
// is complete, which with SCRAM is one message after the login.
type exchange struct {
	session *session
	server  gosasl.Server
	user    string
}

// Next implements the server of package go-sasl.
func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = e.server.Next(response)
	if err != nil {
		e.session.denied = true
		return nil, false, authError(err)
	}
	if done {
		e.session.mail.User, e.session.useful = e.user, time.Now()
	}
	return challenge, done, nil
}

// authError makes the reply of an error. What is wrong inside is no news for the
// client.
func authError(err error) error {
	if reply, ok := errors.AsType[*mail.ReplyError](err); ok {
		return smtpError(reply.Reply)
	}
	return smtpError(mail.NewReply(454, 7, 0, "Temporary authentication failure, try again later"))
}

// login runs the auth stage.
func (e *exchange) login(c *mail.Credentials) error {
	s := e.session
	now := s.listener.now()
	tx := mail.NewTransaction(mail.NewID(now), &s.mail, now)
	tx.Credentials = c
	outcome := s.run(mail.StageAuth, tx)
	text := "login accepted"
	if outcome.Refused() {
		text = "login refused"
	}
	if ce := s.log.Check(zap.InfoLevel, text); ce != nil {
		ce.Write(zap.String(logkey.Message, tx.ID), zap.String(logkey.Listener, s.mail.Listener), zap.Stringer(logkey.RemoteIP, s.mail.RemoteAddr.Addr()),
			zap.String(logkey.User, mail.Printable(c.Username, maxLogName)), zap.String(logkey.Mechanism, c.Mechanism), zap.Stringer(logkey.Verdict, outcome.Action),
			zap.String(logkey.Handler, outcome.Handler), zap.String(logkey.Reason, mail.Printable(outcome.Reason, maxLogReason)),
			zap.Duration(logkey.Duration, s.listener.now().Sub(tx.Started)))
	}
	s.listener.traces.Add(trace.NewRecord(trace.KindLogin, tx, outcome, s.listener.now()))
	if outcome.Refused() {
		return &mail.ReplyError{Reply: outcome.Refusal(tx.ID), Cause: errRefused}
	}
	e.user = tx.Authenticated()
	return nil
}

var errRefused = errors.New("refused by the auth stage")
