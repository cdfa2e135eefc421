package dmarc

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what From fields may hold.
const (
	maxFrom    = 16 << 10 // bytes
	maxAuthors = 8        // domains
	maxDepth   = 20       // comments in comments
	maxDomain  = 1024     // bytes of a domain before it is made into A-labels
)

// The errors of authorDomains.
var (
	errNoFrom      = errors.New("the message has no From field")
	errFromLong    = errors.New("the From fields have more than 16384 bytes")
	errFromSyntax  = errors.New("the From field has an open quote, comment or bracket")
	errNoAuthor    = errors.New("the From field has no address")
	errManyAuthors = errors.New("the From fields have addresses of more than 8 domains")
	errDomain      = errors.New("the From field has an address without a domain of the DNS")
)

// authorDomains gives the domains of all addresses in the From fields of a message
// in A-labels, each once. Whatever a mail client could show as the author's address
// counts: those in angle brackets, and bare ones beside them, but not what is
// quoted or a comment (RFC 5322 section 3.4, with the obsolete syntax).
func authorDomains(h mail.HeaderSection) (domains []string, fields int, err error) {
	size := 0
	for f := range h.All("From") {
		fields++
		if size += len(f.Raw); size > maxFrom {
			return nil, fields, errFromLong
		}
		names, err := parseFrom(f.Value())
		if err != nil {
			return nil, fields, err
		}
		for _, name := range names {
			if slices.Contains(domains, name) {
				continue
			}
			if domains = append(domains, name); len(domains) > maxAuthors {
				return nil, fields, errManyAuthors
			}
		}
	}
	switch {
	case fields == 0:
		return nil, 0, errNoFrom
	case len(domains) == 0:
		return nil, fields, errNoAuthor
	}
	return domains, fields, nil
}

// parseFrom gives the domains of the addresses in the body of a From field. Beside
// an address in brackets, a bare @ counts only if a name with a dot follows it.
func parseFrom(value string) ([]string, error) {
	words, err := split(value)
	if err != nil {
		return nil, err
	}
	var domains, weak []string
	var wrong error
	bracket := false
	for i, w := range words {
		if w == "<" || w == ">" {
			bracket = w == "<"
		}
		// A route (RFC 5322 section 4.4) has its @ behind a bracket or a comma.
		if w != "@" || i == 0 || isDelimiter(words[i-1]) && words[i-1] != `"` {
			continue
		}
		domain, err := domainAfter(words[i+1:])
		switch {
		case err != nil && bracket:
			return nil, err
		case err != nil:
			wrong = err
		case bracket || strings.Contains(domain, "."):
			domains = append(domains, domain)
		default:
			weak = append(weak, domain)
		}
	}
	if len(domains) > 0 {
		return domains, nil
	}
	return weak, wrong
}

// domainAfter reads the domain in front of the next delimiter. Spaces and comments
// around its dots are gone already.
func domainAfter(words []string) (string, error) {
	name := ""
	for _, w := range words {
		if isDelimiter(w) {
			break
		}
		if name != "" && !strings.HasPrefix(w, ".") && !strings.HasSuffix(name, ".") {
			break
		}
		if name += w; len(name) > maxDomain {
			return "", errDomain
		}
	}
	name = strings.TrimSuffix(name, ".")
	domain, err := mail.ParseDomain(name)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", errDomain
	}
	if isASCII(domain) {
		return domain, nil
	}
	if domain, err = idna.Lookup.ToASCII(domain); err != nil {
		return "", errDomain
	}
	return domain, nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// isDelimiter tells the words that end an address, and the one that stands for a
// quoted string.
func isDelimiter(w string) bool {
	return len(w) == 1 && strings.Contains(`@,;:<>"`, w)
}

// split makes words of a field: delimiters, `"` for a quoted string, a domain
// literal, and runs of anything else. Comments and spaces part them.
func split(value string) ([]string, error) {
	var words []string
	for i := 0; i < len(value); {
		end := i + 1
		switch c := value[i]; c {
		case ' ', '\t', '\r', '\n':
			i = end
			continue
		case '(':
			if end = commentEnd(value, i); end < 0 {
				return nil, errFromSyntax
			}
			i = end
			continue
		case '"', '[':
			closing := c
			if c == '[' {
				closing = ']'
			}
			if end = closed(value, i, closing); end < 0 {
				return nil, errFromSyntax
			}
			if c == '"' {
				words = append(words, `"`)
			} else {
				words = append(words, value[i:end])
			}
			i = end
			continue
		case '@', ',', ';', ':', '<', '>':
		default:
			for end < len(value) && strings.IndexByte(" \t\r\n(\"[@,;:<>", value[end]) < 0 {
				end++
			}
		}
		words = append(words, value[i:end])
		i = end
	}
	return words, nil
}

// closed gives the offset behind the byte that closes what opens at i, -1 if there
// is none. A backslash takes the meaning of the next byte.
func closed(value string, i int, closing byte) int {
	for i++; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case closing:
			return i + 1
		}
	}
	return -1
}

// commentEnd gives the offset behind the comment that opens at i, -1 if there is
// none or it nests too deep.
func commentEnd(value string, i int) int {
	depth := 0
	for ; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '(':
			if depth++; depth > maxDepth {
				return -1
			}
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
