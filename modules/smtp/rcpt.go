package smtp

import (
	"bytes"
	"fmt"

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
	if n := len(tx.Envelope.Recipients); n >= s.listener.MaxRecipients {
		return s.refuseRecipient(mail.Defer(tooMany, fmt.Sprintf("the message has %d recipients already, see max_recipients", n)))
	}
	address, verdict := s.recipient()
	if verdict.Action != mail.ActionContinue {
		return s.refuseRecipient(verdict)
	}
	tx.Recipient = &mail.Recipient{Address: address}
	outcome := s.run(mail.StageRcpt, tx)
	recipient := tx.Recipient
	tx.Recipient = nil
	if outcome.Refused() {
		s.refused = outcome
		return smtpError(outcome.Refusal(tx.ID))
	}
	tx.Envelope.Recipients = append(tx.Envelope.Recipients, recipient)
	return nil
}

// recipient reads the forward-path of the command. A verdict is against it.
func (s *session) recipient() (mail.Address, mail.Verdict) {
	if s.bare {
		return mail.Address{LocalPart: "postmaster"}, mail.Verdict{}
	}
	path, _ := pathOf(s.command)
	if !s.tx.Envelope.SMTPUTF8 && !isASCII(path) {
		return mail.Address{}, mail.Reject(mail.NewReply(553, 6, 7, "This recipient needs the parameter SMTPUTF8 of MAIL"),
			"the recipient has characters beyond US-ASCII, and MAIL had no SMTPUTF8")
	}
	address, err := mail.ParseAddress(string(path))
	if err != nil {
		return mail.Address{}, mail.Reject(mail.NewReply(501, 1, 3, "Recipient: "+err.Error()), "the recipient is no address: "+err.Error())
	}
	return address, mail.Verdict{}
}

// refuseRecipient refuses a recipient by the listener's own rules, which no handler
// stands for. The message's trace says so.
func (s *session) refuseRecipient(v mail.Verdict) error {
	path, _ := pathOf(s.command)
	s.tx.Entries = append(s.tx.Entries, mail.Entry{
		Stage: mail.StageRcpt, Recipient: mail.Printable(string(path), maxLogName), Action: v.Action, Reason: v.Reason, Reply: v.Reply,
	})
	s.refused = mail.Outcome{Stage: mail.StageRcpt, Verdict: v}
	return smtpError(s.refused.Refusal(s.tx.ID))
}
