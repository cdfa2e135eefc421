package dkim

import (
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what a result says, in bytes.
const (
	maxResultReason = 256
	maxAUID         = 320
	// minB is how much of b= a result has at least (RFC 6008 section 3).
	minB = 8
)

// authResults gives the result of each signature, for the other handlers and the
// field Authentication-Results (RFC 8601 section 2.7.1): header.d, header.i,
// header.s, header.a and header.b, as far as they could be read.
func (j *judgement) authResults() []mail.AuthResult {
	if len(j.findings) == 0 {
		return []mail.AuthResult{{Method: "dkim", Result: resultNone}}
	}
	all := make([]mail.AuthResult, 0, len(j.findings))
	for i := range j.findings {
		f := &j.findings[i]
		r := mail.AuthResult{
			Method: "dkim", Result: f.result, Reason: asciiOnly(mail.Printable(f.reason, maxResultReason)),
			Properties: make([]mail.Property, 0, 5),
		}
		for _, p := range []struct{ name, value string }{
			{"d", f.domain}, {"i", mail.Printable(f.auid, maxAUID)}, {"s", f.selector}, {"a", f.algorithm}, {"b", j.b(i)},
		} {
			if p.value != "" {
				r.Properties = append(r.Properties, mail.Property{Type: "header", Name: p.name, Value: p.value})
			}
		}
		all = append(all, r)
	}
	return all
}

// b gives the beginning of a signature's b=, long enough to tell it from the
// others (RFC 6008 section 4); "" if it could not be read.
func (j *judgement) b(i int) string {
	text := j.findings[i].text
	if !isBase64(text) {
		return ""
	}
	n := min(minB, len(text))
	for k := range j.findings {
		other := j.findings[k].text
		for k != i && n < len(text) && other != text && strings.HasPrefix(other, text[:n]) {
			n++
		}
	}
	return text[:n]
}

func isBase64(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && !isDigit(c) && strings.IndexByte("+/=", c) < 0 {
			return false
		}
	}
	return true
}
