package smtp

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// addFields puts on top of the message what this server has to say about it,
// below what the chain has found out already: the Received field and, at
// submission, the fields that RFC 6409 section 8 lets it add.
func (s *session) addFields(tx *mail.Transaction) {
	tx.AddFieldBelow("Received", s.received(tx))
	if !s.listener.submission() {
		return
	}
	if tx.Message.Header.Count("Message-ID") == 0 {
		tx.AddFieldBelow("Message-ID", "<"+tx.ID+"@"+s.listener.hostname+">")
	}
	if tx.Message.Header.Count("Date") == 0 {
		tx.AddFieldBelow("Date", tx.Started.Format(time.RFC1123Z))
	}
}

// received makes the value of the Received field (RFC 5321 section 4.4).
func (s *session) received(tx *mail.Transaction) string {
	var b strings.Builder
	b.Grow(320)
	b.WriteString("from ")
	b.WriteString(fieldSafe(s.mail.Helo))
	if ip := s.mail.RemoteAddr.Addr(); ip.IsValid() {
		b.WriteString(" (")
		if name := reverseName(tx); name != "" {
			b.WriteString(name)
			b.WriteByte(' ')
		}
		b.WriteByte('[')
		if ip.Is6() {
			b.WriteString("IPv6:")
		}
		b.WriteString(ip.WithZone("").String())
		b.WriteString("])")
	}
	b.WriteString("\r\n\tby ")
	b.WriteString(s.listener.hostname)
	b.WriteString(" with ")
	b.WriteString(s.with(tx.Envelope.SMTPUTF8))
	if s.mail.TLS != nil {
		b.WriteString(" (")
		b.WriteString(strings.ReplaceAll(tls.VersionName(s.mail.TLS.Version), " ", ""))
		b.WriteByte(' ')
		b.WriteString(tls.CipherSuiteName(s.mail.TLS.CipherSuite))
		b.WriteByte(')')
	}
	b.WriteString("\r\n\tid ")
	b.WriteString(tx.ID)
	if len(tx.Envelope.Recipients) == 1 {
		b.WriteString("\r\n\tfor <")
		b.WriteString(tx.Envelope.Recipients[0].Address.String())
		b.WriteByte('>')
	}
	b.WriteString(";\r\n\t")
	b.WriteString(tx.Started.Format(time.RFC1123Z))
	return b.String()
}

// reverseName gives the client's name that a handler has found by its address and
// confirmed (the method iprev, RFC 8601 section 3), "" if none has. Readers of the
// field, such as SpamAssassin, look for it there.
func reverseName(tx *mail.Transaction) string {
	r, ok := tx.AuthResult("iprev")
	if !ok || r.Result != "pass" {
		return ""
	}
	name, err := mail.ParseDomain(r.Reason)
	if err != nil || name[0] == '[' {
		return ""
	}
	return name
}

// with names the protocol (RFC 3848, RFC 6531 section 4.3).
func (s *session) with(utf8 bool) string {
	name := "SMTP"
	switch {
	case utf8:
		name = "UTF8SMTP"
	case s.esmtp:
		name = "ESMTP"
	default:
		return name
	}
	if s.mail.TLS != nil {
		name += "S"
	}
	if s.mail.User != "" {
		name += "A"
	}
	return name
}

// fieldSafe makes a client's name for itself fit for a header field: what a
// domain name or address literal has not becomes a question mark.
func fieldSafe(host string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(".-_:[]", r):
			return r
		}
		return '?'
	}, host)
}
