package smtp

import (
	"slices"

	gosmtp "github.com/emersion/go-smtp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Mail implements gosmtp.Session: MAIL FROM. The parameters are go-smtp's, the
// path is read anew.
func (s *session) Mail(_ string, o *gosmtp.MailOptions) error {
	if s.tx != nil {
		return smtpError(mail.NewReply(503, 5, 1, "A message is open already, finish it or send RSET"))
	}
	if s.listener.Auth == authRequired && s.mail.User == "" {
		return s.refuseSender(loginFirst, "auth is required, and the client has not logged in")
	}
	path, _ := pathOf(s.command)
	var reverse mail.Address
	if len(path) > 0 {
		var err error
		if reverse, err = mail.ParseAddress(string(path)); err != nil {
			return s.refuseSender(mail.NewReply(501, 1, 7, "Sender: "+err.Error()), "the reverse-path is no address: "+err.Error())
		}
	}
	if !o.UTF8 && !isASCII(path) {
		return s.refuseSender(mail.NewReply(553, 6, 7, "This sender needs the parameter SMTPUTF8"), "the reverse-path has characters beyond US-ASCII, and MAIL has no SMTPUTF8")
	}
	now := s.listener.now()
	tx := mail.NewTransaction(mail.NewID(now), &s.mail, now)
	tx.Envelope = mail.Envelope{ReversePath: reverse, Size: o.Size, SMTPUTF8: o.UTF8}
	// What was decided at connect and helo is part of the message's story, and a
	// quarantine there, say, holds for every message.
	tx.Merge(s.whole)
	s.tx = tx
	if s.ended.Stage == mail.StageMail {
		s.ended = mail.Outcome{} // the client knows better now
	}
	outcome := s.run(mail.StageMail, tx)
	if outcome.Refused() {
		s.finish(outcome)
		return smtpError(outcome.Refusal(tx.ID))
	}
	return nil
}

// refuseSender refuses a MAIL by the listener's own rules. There is no message yet:
// the session's trace says so, unless a later MAIL is taken.
func (s *session) refuseSender(r mail.Reply, reason string) error {
	s.ended = mail.Outcome{Stage: mail.StageMail, Verdict: mail.Reject(r, reason)}
	return smtpError(s.ended.Refusal(s.mail.ID))
}

// finish ends the open transaction with a line in the log and a trace.
func (s *session) finish(outcome mail.Outcome) {
	tx := s.tx
	s.report(tx, outcome)
	s.told = true
	s.listener.traces.Add(trace.NewRecord(trace.KindMessage, tx, outcome, s.listener.now()))
	s.forget()
}

// forget closes the open transaction.
func (s *session) forget() {
	s.tx, s.refused = nil, mail.Outcome{}
	if s.chunks != nil {
		s.chunks.close()
		s.chunks = nil
	}
}

// closeTransaction ends a transaction that has come to no message. If that is
// because every recipient was refused, it leaves a trace.
func (s *session) closeTransaction() {
	switch {
	case s.tx == nil:
	case s.refused.Refused() && len(s.tx.Envelope.Recipients) == 0:
		s.finish(s.refused)
	default:
		s.forget()
	}
}

// recipientsOf gives those whom the message is for; where all were refused, whom
// it was for.
func recipientsOf(tx *mail.Transaction) []string {
	list := make([]string, 0, len(tx.Envelope.Recipients))
	for _, r := range tx.Envelope.Recipients {
		list = append(list, r.Address.String())
	}
	if len(list) > 0 {
		return list
	}
	for _, e := range tx.Entries {
		if e.Recipient != "" && !slices.Contains(list, e.Recipient) && len(list) < maxLogRecipients {
			list = append(list, e.Recipient)
		}
	}
	return list
}

// report writes the one line that the log has about a message.
func (s *session) report(tx *mail.Transaction, outcome mail.Outcome) {
	text, code := "message accepted", 250
	switch {
	case outcome.Refused():
		text, code = "message refused", outcome.Reply.Code
	case tx.Discarded():
		text = "message discarded"
	case tx.Quarantined() != "":
		text = "message quarantined"
	}
	ce := s.log.Check(zap.InfoLevel, text)
	if ce == nil {
		return
	}
	var size int64
	if tx.Message != nil {
		size = tx.Message.Size
	}
	ce.Write(zap.String(logkey.Message, tx.ID), zap.String(logkey.Listener, s.mail.Listener), zap.Stringer(logkey.RemoteIP, s.mail.RemoteAddr.Addr()),
		zap.String(logkey.Helo, mail.Printable(s.mail.Helo, maxLogName)), zap.String(logkey.User, s.mail.User), zap.Stringer(logkey.ReversePath, tx.Envelope.ReversePath),
		zap.Strings(logkey.Recipient, recipientsOf(tx)), zap.Int64(logkey.Size, size), zap.Stringer(logkey.Verdict, outcome.Action),
		zap.Int(logkey.ReplyCode, code), zap.String(logkey.Handler, outcome.Handler), zap.String(logkey.Reason, mail.Printable(outcome.Reason, maxLogReason)),
		zap.Duration(logkey.Duration, s.listener.now().Sub(tx.Started)))
}
