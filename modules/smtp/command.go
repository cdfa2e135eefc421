package smtp

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

const (
	// maxCommandLine leaves room for the parameters of all extensions (RFC 5321
	// section 4.5.3.1.4 and those that add to it).
	maxCommandLine = 4 << 10
	// maxAuthLine is the limit of RFC 4954 section 4 for SASL responses.
	maxAuthLine = 12288
)

// screen looks at a command before go-smtp does. It answers what go-smtp would
// not answer as it should, and gives the line that go-smtp is to handle, nil if
// there is none.
func (s *session) screen(line []byte) []byte {
	if s.commands++; s.commands > s.listener.Limits.Commands {
		s.end(mail.NewReply(421, 7, 0, "Too many commands, closing the connection"), "too many commands")
		return nil
	}
	line = trimLine(line)
	verb, arg, _ := bytes.Cut(line[:len(line)-2], []byte{' '})
	name := strings.ToUpper(string(verb[:min(len(verb), len("STARTTLS")+1)]))
	if reply := s.check(name, line); reply.Code != 0 {
		s.refuse(name, reply)
		return nil
	}
	// What is no command may be a password in the wrong place.
	if ce := s.log.Check(zap.DebugLevel, "command"); ce != nil {
		ce.Write(zap.String(logkey.Command, name))
	}
	switch name {
	case "EHLO", "HELO":
		return s.greeted(line, name == "EHLO", arg)
	case "RCPT":
		return s.qualify(line)
	case "BDAT":
		return s.bdat(arg)
	case "STARTTLS":
		s.startTLS(arg)
		return nil
	case "HELP":
		s.say(mail.NewReply(214, 0, 0, "This server speaks RFC 5321"))
		return nil
	default:
		return line
	}
}

// refuse answers a command that is not looked at further. The chunk of a BDAT
// comes all the same, and must not be taken for commands.
func (s *session) refuse(name string, r mail.Reply) {
	if name == "BDAT" {
		s.end(r, "BDAT refused")
		return
	}
	s.say(r)
}

// trimLine takes spaces off the end, which go-smtp counts as an error, and leaves
// the line in its place.
func trimLine(line []byte) []byte {
	end := len(bytes.TrimRight(line, " \t\r\n"))
	return append(line[:end:len(line)], "\r\n"...)
}

// check refuses what is not allowed whatever the arguments are. The zero Reply
// means that nothing is wrong.
func (s *session) check(name string, line []byte) mail.Reply {
	switch name {
	case "EHLO", "HELO", "NOOP", "QUIT", "STARTTLS":
	case "MAIL", "RCPT", "DATA", "BDAT", "AUTH", "RSET", "VRFY", "HELP":
		if s.listener.TLS == tlsRequired && s.mail.TLS == nil {
			return tlsFirst
		}
	case "EXPN", "TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML":
		return mail.NewReply(502, 5, 1, "Command not implemented")
	default:
		return mail.NewReply(500, 5, 1, "Command not recognized")
	}
	switch name {
	case "MAIL", "RCPT", "VRFY":
		if !utf8.Valid(line) {
			return mail.NewReply(501, 5, 2, "Not valid UTF-8")
		}
	default:
		if !isASCII(line) {
			return mail.NewReply(501, 5, 2, "Only US-ASCII is allowed here")
		}
	}
	if s.chunks != nil && (name == "MAIL" || name == "RCPT" || name == "DATA") {
		return mail.NewReply(503, 5, 1, "Send the rest of the message by BDAT, or RSET")
	}
	return mail.Reply{}
}

// greeted runs the helo stage for EHLO and HELO, each time. One that is refused
// leaves everything as it was.
func (s *session) greeted(line []byte, esmtp bool, arg []byte) []byte {
	host, _, _ := bytes.Cut(bytes.TrimLeft(arg, " \t"), []byte{' '})
	if len(host) == 0 || len(host) > 255 || bytes.IndexFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }) >= 0 {
		s.say(mail.NewReply(501, 5, 4, "Syntax: EHLO hostname"))
		return nil
	}
	before := s.mail.Helo
	s.mail.Helo = string(host)
	outcome := s.run(mail.StageHelo, s.whole)
	if outcome.Refused() {
		s.ended = outcome
		s.say(outcome.Refusal(s.mail.ID))
		if before != "" {
			s.mail.Helo = before
		}
		return nil
	}
	s.esmtp, s.ended = esmtp, mail.Outcome{}
	return line
}

// startTLS answers STARTTLS. What the client sent behind it was in the clear and
// may be someone else's: it is forgotten (RFC 3207 section 4.2).
func (s *session) startTLS(arg []byte) {
	switch {
	case len(arg) > 0:
		s.say(mail.NewReply(501, 5, 4, "Syntax: STARTTLS"))
	case s.mail.TLS != nil:
		s.say(mail.NewReply(503, 5, 1, "TLS is already in use"))
	case s.listener.TLS == tlsOff || s.listener.tls == nil:
		s.say(mail.NewReply(502, 5, 1, "TLS is not available"))
	default:
		s.say(mail.NewReply(220, 0, 0, "Ready to start TLS"))
		if err := s.wire.flush(); err != nil {
			s.done = true
			return
		}
		s.closeTransaction()
		s.wire.discard()
		s.wire.conn = s.wire.raw
		s.starttls = true
	}
}
