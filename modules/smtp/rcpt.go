package smtp

import (
	"bytes"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/mox-like/mox-like/core/mail"
)

// qualify gives go-smtp a domain for the bare <postmaster> of RFC 5321 section
// 4.5.1, which it would not take. Rcpt reads the path as the client sent it.
func (s *session) qualify(line []byte) []byte {
	path, rest := pathOf(line)
	if s.bare = bytes.EqualFold(path, []byte("postmaster")); !s.bare {
		return line
	}
	s.line = append(append(append(s.line[:0], "RCPT TO:<postmaster@postmaster.invalid>"...), rest...), crlf...)
	return s.line
}

// Rcpt implements gosmtp.Session: RCPT TO.
func (s *session) Rcpt(string, *gosmtp.RcptOptions) error {
	tx := s.tx
	if len(tx.Envelope.Recipients) >= s.listener.MaxRecipients {
		return smtpError(mail.NewReply(452, 5, 3, "Too many recipients, send the message again to the others"))
	}
	address, err := s.recipient()
	if err != nil {
		return err
	}
	tx.Recipient = &mail.Recipient{Address: address}
	outcome := s.run(mail.StageRcpt, tx)
	recipient := tx.Recipient
	tx.Recipient = nil
	if outcome.Refused() {
		s.refused = outcome
		return smtpError(refusal(outcome, tx.ID))
	}
	tx.Envelope.Recipients = append(tx.Envelope.Recipients, recipient)
	return nil
}

// recipient reads the forward-path of the command.
func (s *session) recipient() (mail.Address, error) {
	if s.bare {
		return mail.Address{LocalPart: "postmaster"}, nil
	}
	path, _ := pathOf(s.command)
	if !s.tx.Envelope.SMTPUTF8 && !isASCII(path) {
		return mail.Address{}, smtpError(mail.NewReply(553, 6, 7, "This recipient needs the parameter SMTPUTF8 of MAIL"))
	}
	address, err := mail.ParseAddress(string(path))
	if err != nil {
		return mail.Address{}, smtpError(mail.NewReply(501, 1, 3, "Recipient: "+err.Error()))
	}
	return address, nil
}
