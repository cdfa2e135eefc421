package spf

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// maxPath is room for the longest reverse-path, 64 octets of local-part and 255
// of domain, with the quotes and escapes of the first.
const maxPath = 2*64 + 2 + 1 + 255

// receivedSPF makes the value of a Received-SPF field (RFC 7208 section 9.1).
// Most of it comes from strangers: each part is bounded, and quoted or escaped
// where it is no plain word.
func receivedSPF(hostname string, tx *mail.Transaction, id *identity) string {
	name := header(tx, id.name)
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s: %s)\r\n\treceiver=%s; identity=mailfrom; client-ip=%s", id.Result,
		escapeComment(hostname), escapeComment(comment(id.Result, name, id.ip)), word(hostname), word(id.ip.String()))
	fmt.Fprintf(&b, ";\r\n\tenvelope-from=%s;\r\n\thelo=%s", quoted(name), word(oneLine(asciiDomain(tx.Session.Helo), maxName)))
	if id.Term != "" {
		fmt.Fprintf(&b, ";\r\n\tmechanism=%s", word(oneLine(id.Term, maxExplanation)))
	}
	if id.Problem != "" {
		fmt.Fprintf(&b, ";\r\n\tproblem=%s", quoted(oneLine(id.Problem, maxExplanation)))
	}
	return b.String()
}

// comment says what a result means.
func comment(r Result, name string, ip netip.Addr) string {
	switch r {
	case Pass:
		return fmt.Sprintf("domain of %s designates %s as permitted sender", name, ip)
	case Fail:
		return fmt.Sprintf("domain of %s does not designate %s as permitted sender", name, ip)
	case SoftFail:
		return fmt.Sprintf("domain of %s probably does not designate %s as permitted sender", name, ip)
	case Neutral:
		return fmt.Sprintf("domain of %s says nothing about %s", name, ip)
	case TempError:
		return fmt.Sprintf("policy of the domain of %s cannot be looked up for %s", name, ip)
	case PermError:
		return fmt.Sprintf("policy of the domain of %s cannot be evaluated for %s", name, ip)
	default:
		return fmt.Sprintf("domain of %s has no policy for %s", name, ip)
	}
}

// header makes an address fit for a header section, which has UTF-8 only in
// messages of RFC 6532.
func header(tx *mail.Transaction, address string) string {
	address = mail.Printable(address, maxPath)
	if tx.Envelope.SMTPUTF8 {
		return address
	}
	return asciiOnly(address)
}

// word gives a value as dot-atom, or as quoted-string if it is none.
func word(s string) string {
	if isDotAtom(s) {
		return s
	}
	return quoted(s)
}

// isDotAtom tells whether s is a dot-atom (RFC 5322 section 3.2.3).
func isDotAtom(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isAlpha(c) && !isDigit(c) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}

// quoted gives a printable text as quoted-string (RFC 5322 section 3.2.4).
func quoted(s string) string { return `"` + escape(s, `\"`) + `"` }

// escapeComment makes a printable text fit for a comment (RFC 5322 section
// 3.2.2).
func escapeComment(s string) string { return escape(s, `\()`) }

// escape puts a backslash in front of the bytes of set.
func escape(s, set string) string {
	if !strings.ContainsAny(s, set) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
