package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// macro is a macro-expand of the form %{…} (RFC 7208 section 7.1).
type macro struct {
	letter byte // in lower case
	// escape tells that the letter was upper case: the value is URL-escaped.
	escape bool
	// parts is how many right-hand parts stay, 0 for all.
	parts      int
	reverse    bool
	delimiters string // "" stands for "."
}

// What macro letters there are; those of expLetters only in explanations.
const (
	macroLetters = "slodiphv"
	expLetters   = "crt"
	delimiters   = ".-+,/_="
	// allParts is more parts than a value can have.
	allParts = 1 << 10
	// maxMacros bounds what a domain-spec or an explanation costs to expand: five
	// bytes of it can stand for 320, and be split into as many parts. Those in use
	// have at most some ten.
	maxMacros = 32
)

var (
	errMacro      = errors.New("a % that begins no macro")
	errLetter     = errors.New("a macro letter that is not known here")
	errZeroParts  = errors.New("a macro that keeps 0 parts")
	errNotLiteral = errors.New("a character that is not allowed")
	errDomainEnd  = errors.New("a domain that ends neither in a top-level label nor in a macro")
	errManyMacros = fmt.Errorf("more than %d macros", maxMacros)
)

// cutMacro reads the macro-expand at the beginning of s, which is a %. For %%,
// %_ and %- it gives the text that these stand for, and the zero macro.
func cutMacro(s string, letters string) (m macro, text, rest string, err error) {
	switch {
	case len(s) < 2:
		return m, "", "", errMacro
	case s[1] == '%':
		return m, "%", s[2:], nil
	case s[1] == '_':
		return m, " ", s[2:], nil
	case s[1] == '-':
		return m, "%20", s[2:], nil
	}
	inner, rest, ok := strings.Cut(s[1:], "}")
	if !ok || len(inner) < 2 || inner[0] != '{' {
		return m, "", "", errMacro
	}
	m.letter = inner[1] | 0x20
	m.escape = inner[1] != m.letter
	if strings.IndexByte(letters, m.letter) < 0 {
		return m, "", "", errLetter
	}
	return m, "", rest, m.transform(inner[2:])
}

// transform reads the transformers and delimiters.
func (m *macro) transform(s string) error {
	digits := 0
	for digits < len(s) && isDigit(s[digits]) {
		m.parts = min(m.parts*10+int(s[digits]-'0'), allParts)
		digits++
	}
	if digits > 0 && m.parts == 0 {
		return errZeroParts
	}
	s = s[digits:]
	if s != "" && s[0]|0x20 == 'r' {
		m.reverse, s = true, s[1:]
	}
	if strings.Trim(s, delimiters) != "" {
		return errMacro
	}
	m.delimiters = s
	return nil
}

// checkMacros holds a macro-string against its syntax and gives the literal text
// after its last macro, and whether there is one before that. letters are those
// that are allowed.
func checkMacros(s, letters string, spaces bool) (tail string, macros bool, err error) {
	tail = s
	count := 0
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '%':
			m, _, rest, err := cutMacro(s[i:], letters)
			if err != nil {
				return "", false, err
			}
			if m.letter != 0 {
				count++
			}
			if count > maxMacros {
				return "", false, errManyMacros
			}
			i, tail, macros = len(s)-len(rest), rest, true
		case c > ' ' && c < 0x7f || c == ' ' && spaces:
			i++
		default:
			return "", false, errNotLiteral
		}
	}
	return tail, macros, nil
}

// checkDomainSpec holds a domain-spec against its syntax (RFC 7208 section 7.1).
func checkDomainSpec(s string) error {
	tail, macros, err := checkMacros(s, macroLetters, false)
	if err != nil {
		return err
	}
	if tail == "" && macros {
		return nil
	}
	tail = strings.TrimSuffix(tail, ".")
	dot := strings.LastIndexByte(tail, '.')
	if dot < 0 || !isTopLabel(tail[dot+1:]) {
		return errDomainEnd
	}
	return nil
}

// isTopLabel tells whether s is a toplabel: letters, digits and hyphens, with a
// letter or digit at both ends, and not digits alone.
func isTopLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	word := false
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c):
		case c == '-' || isAlpha(c):
			word = true
		default:
			return false
		}
	}
	return word
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// values gives what a macro letter stands for.
type values func(letter byte) string

// expand replaces the macros of a string whose syntax has been checked.
func expand(s string, value values) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for s != "" {
		literal, _, found := strings.Cut(s, "%")
		b.WriteString(literal)
		if !found {
			break
		}
		m, text, rest, err := cutMacro(s[len(literal):], macroLetters+expLetters)
		if err != nil {
			break
		}
		if m.letter != 0 {
			text = m.apply(value(m.letter))
		}
		b.WriteString(text)
		s = rest
	}
	return b.String()
}

// apply splits, reverses, shortens and escapes a value.
func (m macro) apply(value string) string {
	if m.parts > 0 || m.reverse || m.delimiters != "" {
		at := m.delimiters
		if at == "" {
			at = "."
		}
		parts := splitAny(value, at)
		if m.reverse {
			slices.Reverse(parts)
		}
		if m.parts > 0 && m.parts < len(parts) {
			parts = parts[len(parts)-m.parts:]
		}
		value = strings.Join(parts, ".")
	}
	if m.escape {
		return escapeURL(value)
	}
	return value
}

// splitAny splits at each of the bytes of set; empty parts count.
func splitAny(s, set string) []string {
	count := 1
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			count++
		}
	}
	parts, start := make([]string, 0, count), 0
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// escapeURL escapes all but the unreserved characters (RFC 3986 section 2.3).
func escapeURL(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// dotted gives an address for %{i}: dotted quads, or hexadecimal nibbles with
// dots between.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	const digits = "0123456789ABCDEF"
	var text [63]byte
	for i, b := range ip.As16() {
		if i > 0 {
			text[4*i-1] = '.'
		}
		text[4*i], text[4*i+1], text[4*i+2] = digits[b>>4], '.', digits[b&15]
	}
	return string(text[:])
}

// value gives what a letter stands for in a domain's record. names are the
// validated names of the client, which only %{p} asks for.
func (q *Query) value(letter byte, domain string, names func() []string) string {
	switch letter {
	case 's':
		return q.local + "@" + q.domain
	case 'l':
		return q.local
	case 'o':
		return q.domain
	case 'd':
		return domain
	case 'i':
		return dotted(q.IP)
	case 'p':
		return preferred(names(), domain)
	case 'v':
		if q.IP.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return q.helo
	case 'c':
		return q.IP.String()
	case 'r':
		return q.Receiver
	case 't':
		return strconv.FormatInt(q.Now.Unix(), 10)
	default:
		return ""
	}
}

// preferred chooses among the names of a client: the domain itself, else one
// below it, else any (RFC 7208 section 7.3).
func preferred(names []string, domain string) string {
	best := "unknown"
	for i, name := range names {
		switch {
		case strings.EqualFold(name, domain):
			return name
		case i == 0 || isBelow(name, domain) && !isBelow(best, domain):
			best = name
		}
	}
	return best
}

// isBelow tells whether name is a subdomain of domain.
func isBelow(name, domain string) bool {
	n := len(name) - len(domain) - 1
	return n > 0 && name[n] == '.' && strings.EqualFold(name[n+1:], domain)
}
