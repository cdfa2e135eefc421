package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Address is a mailbox address of the envelope: local-part@domain (RFC 5321
// section 4.1.2, RFC 6531 section 3.3). The zero Address is the null
// reverse-path. It is not an IMAP mailbox.
type Address struct {
	// LocalPart is unquoted: what the quotes of a quoted string enclose.
	LocalPart string
	// Domain is in lower case and in U-labels, or an address literal in
	// brackets; "" only for the bare <postmaster> of RFC 5321 section 4.1.1.3.
	Domain string
}

// Errors of ParseAddress. They say what is wrong without repeating the input.
var (
	// ErrAddressSyntax is returned for what is no address at all.
	ErrAddressSyntax = errors.New("not an address of the form local-part@domain")
	// ErrAddressLength is returned when a part exceeds RFC 5321 section 4.5.3.1:
	// 64 octets of local-part, 255 of domain.
	ErrAddressLength = errors.New("local-part over 64 octets or domain over 255")
	// ErrAddressDomain is returned when the domain is no host name.
	ErrAddressDomain = errors.New("the part after the @ is not a domain name")
)

// IsNull tells whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// String gives the address as it is written in a path, with the local-part
// quoted where it must be; "" for the null reverse-path.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	local := a.LocalPart
	if !isDotString(local) {
		local = quote(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// ASCII tells whether the address can be given to a server without SMTPUTF8.
func (a Address) ASCII() bool { return isASCII(a.LocalPart) && isASCII(a.Domain) }

// Base gives the address without its subaddress: alice+tag@… is alice@… (RFC
// 5233).
func (a Address) Base() Address {
	if i := strings.IndexByte(a.LocalPart, '+'); i > 0 {
		a.LocalPart = a.LocalPart[:i]
	}
	return a
}

// Fold gives the address with its local-part in lower case, the form under
// which this server compares local addresses. RFC 5321 leaves the meaning of
// the local-part to its host.
func (a Address) Fold() Address {
	a.LocalPart = strings.ToLower(a.LocalPart)
	return a
}

// ParseAddress reads local-part@domain without angle brackets. "postmaster"
// alone is an address too.
func ParseAddress(s string) (Address, error) {
	if strings.EqualFold(s, "postmaster") {
		return Address{LocalPart: s}, nil
	}
	if !utf8.ValidString(s) {
		return Address{}, ErrAddressSyntax
	}
	local, domain, err := splitAddress(s)
	if err != nil {
		return Address{}, err
	}
	if len(local) > 64 || len(domain) > 255 {
		return Address{}, ErrAddressLength
	}
	domain, err = ParseDomain(domain)
	if err != nil {
		return Address{}, err
	}
	return Address{LocalPart: local, Domain: domain}, nil
}

// splitAddress separates and unquotes the local-part.
func splitAddress(s string) (local, domain string, err error) {
	if strings.HasPrefix(s, `"`) {
		return splitQuoted(s)
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || !isDotString(local) {
		return "", "", ErrAddressSyntax
	}
	return local, domain, nil
}

// splitQuoted reads a Quoted-string local-part (RFC 5321 section 4.1.2).
func splitQuoted(s string) (local, domain string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			rest, ok := strings.CutPrefix(s[i+1:], "@")
			if local = b.String(); !ok || strings.ContainsFunc(local, isInvisible) {
				return "", "", ErrAddressSyntax
			}
			return local, rest, nil
		case c == '\\':
			if i++; i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", "", ErrAddressSyntax
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", "", ErrAddressSyntax
		default:
			b.WriteByte(c)
		}
	}
	return "", "", ErrAddressSyntax
}

// domainProfile maps case and width as a mail client's user expects and refuses
// what no registry gives out.
var domainProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// ParseDomain reads a domain name or an address literal ([192.0.2.1],
// [IPv6:2001:db8::1]) and gives its normal form: lower case, U-labels.
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	if isPlainDomain(s) {
		return s, nil
	}
	ascii, err := domainProfile.ToASCII(s)
	if err != nil || ascii == "" || strings.HasSuffix(ascii, ".") {
		return "", ErrAddressDomain
	}
	domain, err := domainProfile.ToUnicode(ascii)
	if err != nil {
		return "", ErrAddressDomain
	}
	return domain, nil
}

// isPlainDomain is the quick way for nearly all domains: letters, digits,
// hyphens and dots in lower case, no A-label.
func isPlainDomain(s string) bool {
	if len(s) == 0 || len(s) > 253 || strings.Contains(s, "xn--") {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			label++
		case c == '-' && label > 0 && i+1 < len(s) && s[i+1] != '.':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0 && !strings.Contains(s, "--")
}

func parseLiteral(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", ErrAddressDomain
	}
	v6 := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if v6 {
		inner = inner[5:]
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || addr.Zone() != "" || addr.Is6() != v6 {
		return "", ErrAddressDomain
	}
	if v6 {
		return "[IPv6:" + addr.String() + "]", nil
	}
	return "[" + addr.String() + "]", nil
}

// isDotString tells whether a local-part needs no quotes (RFC 5321 section
// 4.1.2, with the UTF-8 of RFC 6531).
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for _, r := range s {
		if r < utf8.RuneSelf && !isAtomChar(byte(r)) && r != '.' || r >= utf8.RuneSelf && isInvisible(r) {
			return false
		}
	}
	return true
}

func isAtomChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// UnmarshalText reads an address from a configuration.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return fmt.Errorf("read address %q: %w", text, err)
	}
	*a = parsed
	return nil
}

// MarshalText writes the address as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }
