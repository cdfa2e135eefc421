// Package sasl holds the server side of the SASL mechanisms that SMTP and IMAP
// offer: PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login-00, obsolete, for
// old clients) and SCRAM-SHA-256 (RFC 5802, RFC 7677).
//
// A mechanism reads what the client sends and makes credentials of it; it
// judges nothing but SCRAM's form. Whether the credentials are right is decided
// by the auth stage of the listener's chain, which sees the same mail.Credentials
// whatever the mechanism. There is no channel binding (the -PLUS mechanisms) and
// nobody can act for another: an authorization identity is the user or absent.
package sasl

import (
	"errors"
	"fmt"

	gosasl "github.com/emersion/go-sasl"

	"github.com/mox-like/mox-like/core/mail"
)

// The names of the mechanisms.
const (
	Plain       = "PLAIN"
	Login       = "LOGIN"
	ScramSHA256 = "SCRAM-SHA-256"
)

// MaxResponse bounds one response of a client, in bytes after base64. Real ones
// stay below 1 KB.
const MaxResponse = 4096

// MaxUsername bounds a user name, in bytes: that of an address (RFC 5321 section
// 4.5.3.1), 64 for the local part and 255 for the domain.
const MaxUsername = 320

var (
	// ErrMechanism is returned when there is no server for a mechanism.
	ErrMechanism = errors.New("no such authentication mechanism")
	// ErrMalformed is returned when a response breaks the mechanism's grammar or
	// comes after its end.
	ErrMalformed = errors.New("malformed response")
	// ErrChannelBinding is returned when a client insists on channel binding.
	ErrChannelBinding = errors.New("channel binding is not supported")
	// ErrIdentity is returned when a client wants to act for another user.
	ErrIdentity = errors.New("authorization identity differs from the user")
	// ErrUsername is returned when a user name is longer than any can be.
	ErrUsername = errors.New("user name is too long")
	// ErrUnproved is returned when login let a client in whose SCRAM proof
	// nobody has checked.
	ErrUnproved = errors.New("no handler checked the proof")
)

// Mechanisms lists the names to advertise, the strongest first.
func Mechanisms(scram bool) []string {
	if scram {
		return []string{ScramSHA256, Plain, Login}
	}
	return []string{Plain, Login}
}

// NewServer begins an exchange of a mechanism, whose name is in upper case. keys
// gives a user's SCRAM keys; nil means that SCRAM is not offered. login is
// called at most once, with what the client has given, and returns nil when it
// is let in; its error is given back by Next as it is. The client is in when
// Next says that the exchange is done and not before: with SCRAM one message
// follows after login.
//
// Errors of the exchange itself are *mail.ReplyError: what the client may be
// told, and one of this package's errors as the cause. A server serves one
// exchange and is not safe for concurrent use.
func NewServer(mechanism string, keys func(username string) (mail.ScramKeys, error), login func(*mail.Credentials) error) (gosasl.Server, error) {
	limited := func(c *mail.Credentials) error {
		if err := CheckUsername(c.Username); err != nil {
			return err
		}
		return login(c)
	}
	var next step
	switch {
	case mechanism == Plain:
		next = plain(limited)
	case mechanism == Login:
		next = loginUsername(limited)
	case mechanism == ScramSHA256 && keys != nil:
		next = scramFirst(keys, limited)
	default:
		return nil, refuse(mail.NewReply(504, 5, 4, "Unrecognized authentication mechanism"), ErrMechanism, "begin %.40q", mechanism)
	}
	return &server{next: next}, nil
}

// CheckUsername refuses a user name of more than MaxUsername bytes as a wrong
// password is refused, so that no log and no trace has to hold it. NewServer does
// so before it calls login.
func CheckUsername(username string) error {
	if len(username) <= MaxUsername {
		return nil
	}
	return refuse(mail.NewReply(535, 7, 8, "Authentication credentials invalid"), ErrUsername, "read %d bytes", len(username))
}

// step handles one response and gives what handles the next one; nil ends the
// exchange in favour of the client. A nil response stands for an initial
// response that is not there.
type step func(response []byte) (challenge []byte, next step, err error)

// server runs the steps of one exchange.
type server struct {
	next step
}

// Next implements the server of package go-sasl.
func (s *server) Next(response []byte) (challenge []byte, done bool, err error) {
	now := s.next
	s.next = nil
	if now == nil {
		return nil, false, malformed("response after the end")
	}
	if len(response) > MaxResponse {
		return nil, false, malformed("response of %d bytes, at most %d", len(response), MaxResponse)
	}
	challenge, s.next, err = now(response)
	if err != nil {
		s.next = nil
		return nil, false, err
	}
	return challenge, s.next == nil, nil
}

// malformed is the error of a response that cannot be read. The format must not
// show what the client sent, which may be a password.
func malformed(format string, args ...any) error {
	return refuse(mail.NewReply(501, 5, 2, "Cannot read the authentication response"), ErrMalformed, format, args...)
}

func refuse(reply mail.Reply, cause error, format string, args ...any) error {
	return &mail.ReplyError{Reply: reply, Cause: fmt.Errorf(format+": %w", append(args, cause)...)}
}
