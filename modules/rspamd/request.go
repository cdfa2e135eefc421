package rspamd

import (
	"crypto/tls"
	"net/http"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of a request's fields. Rspamd's parser takes 80 KB of them all.
const (
	maxPassword = 256
	maxValue    = 512
	maxRcpts    = 48 << 10
)

// fields tells rspamd what is known of a message beside its text. What is not known
// is left out: rspamd then finds out itself, or does without.
func (r *Rspamd) fields(tx *mail.Transaction) http.Header {
	h := make(http.Header, 16)
	set := func(name, value string) {
		if value = headerValue(value, maxValue); value != "" {
			h.Set(name, value)
		}
	}
	s := tx.Session
	set("Queue-Id", tx.ID)
	if addr := s.RemoteAddr.Addr(); addr.IsValid() {
		set("Ip", addr.Unmap().String())
	}
	set("Helo", s.Helo)
	set("Hostname", reverseName(tx))
	set("User", s.User)
	set("Mta-Name", r.host)
	set("From", path(tx.Envelope.ReversePath))
	rcpts := 0
	for _, rcpt := range tx.Envelope.Recipients {
		value := headerValue(path(rcpt.Address), maxValue)
		if rcpts += len(value); rcpts > maxRcpts {
			break
		}
		h.Add("Rcpt", value)
	}
	set("Deliver-To", deliverTo(tx.Envelope.Recipients))
	if s.TLS != nil {
		set("Tls-Version", strings.ReplaceAll(tls.VersionName(s.TLS.Version), " ", "v"))
		set("Tls-Cipher", tls.CipherSuiteName(s.TLS.CipherSuite))
	}
	if tx.Trial {
		set("Flags", "no_log,no_stat")
	}
	return h
}

// headerValue makes a text fit for a field of HTTP: what a client says there must
// not be an error, which might let its message pass unjudged.
func headerValue(text string, limit int) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return '?'
		}
		return c
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return strings.TrimSpace(text)
}

// path gives an address as SMTP writes it, the domain in ASCII if it has such a
// form.
func path(a mail.Address) string {
	if ascii, err := idna.Lookup.ToASCII(a.Domain); err == nil {
		a.Domain = ascii
	}
	return "<" + a.String() + ">"
}

// deliverTo gives the one mailbox that a message goes to, for rspamd's settings and
// statistics by user; "" if there are several.
func deliverTo(recipients []*mail.Recipient) string {
	one := ""
	for _, r := range recipients {
		to := strings.Trim(path(r.Address), "<>")
		if len(r.Accounts) > 0 {
			to = r.Accounts[0]
		}
		if len(r.Accounts) > 1 || one != "" && one != to {
			return ""
		}
		one = to
	}
	return one
}

// reverseName gives the client's name by its address that a handler has confirmed
// (the method iprev, RFC 8601 section 3), "" if none has.
func reverseName(tx *mail.Transaction) string {
	found, ok := tx.AuthResult("iprev")
	if !ok || found.Result != "pass" {
		return ""
	}
	name, err := mail.ParseDomain(found.Reason)
	if err != nil || name[0] == '[' {
		return ""
	}
	return name
}
