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
	errEncoded     = errors.New("the From field has an address with encoded words in it")
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

// atSigns are what a mail client may show for an @.
var atSigns = strings.NewReplacer("\uff20", "@", "\ufe6b", "@")

// parseFrom gives the domains of the addresses in the body of a From field. Beside
// an address in brackets, a bare @ counts only if a name with a dot follows it, and
// what is wrong with it does not if it is the name in front of a bracket.
func parseFrom(value string) ([]string, error) {
	words, err := split(atSigns.Replace(value))
	if err != nil {
		return nil, err
	}
	var domains, weak []string
	var wrong error
	follow := followers(words)
	open := -1 // of the bracket
	for i, w := range words {
		if w == "<" || w == ">" {
			open = -1
		}
		if w == "<" {
			open = i
		}
		if w != "@" {
			continue
		}
		domain, err := addressAt(words, i, open, follow[i])
		switch {
		case err != nil && (open >= 0 || !follow[i].bracket):
			return nil, err
		case err != nil:
			wrong = err
		case domain == "": // a route
		case open >= 0 || strings.Contains(domain, "."):
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

// follower is what follows a word.
type follower struct {
	// bracket tells that one opens before the address ends: the word is of a name.
	bracket bool
	// address tells that a colon with an @ behind it follows before a bracket closes.
	address bool
}

// followers gives what follows each of the words.
func followers(words []string) []follower {
	list := make([]follower, len(words))
	var next follower
	at := false
	for i := len(words) - 1; i >= 0; i-- {
		list[i] = next
		switch words[i] {
		case "@":
			at = true
		case "<":
			next.bracket = true
		case ",", ";":
			next.bracket = false
		case ":":
			next = follower{address: at}
		case ">":
			next, at = follower{}, false
		}
	}
	return list
}

// addressAt gives the domain of the address with the @ at i, in the bracket that opens
// at open, if there is one. It is "" for the @ of a route (RFC 5322 section 4.4), to
// which the colon and an address belong.
func addressAt(words []string, i, open int, behind follower) (string, error) {
	if i == 0 || isDelimiter(words[i-1]) && words[i-1] != `"` {
		if open < 0 || !behind.address {
			return "", errDomain
		}
		return "", nil
	}
	// RFC 2047 section 5 forbids them; some clients decode and show them.
	if slices.ContainsFunc(words[max(open, i-1):i], func(w string) bool { return strings.Contains(w, "=?") }) {
		return "", errEncoded
	}
	domain, rest, err := domainAfter(words[i+1:])
	if err == nil && open >= 0 && len(rest) > 0 && (rest[0] == `"` || !isDelimiter(rest[0])) {
		return "", errDomain
	}
	return domain, err
}

// domainAfter reads the domain in front of the next delimiter or word. Spaces and
// comments around its dots are gone already.
func domainAfter(words []string) (domain string, rest []string, err error) {
	name := ""
	rest = words
	for _, w := range words {
		if isDelimiter(w) {
			break
		}
		if name != "" && !strings.HasPrefix(w, ".") && !strings.HasSuffix(name, ".") {
			break
		}
		if name += w; len(name) > maxDomain {
			return "", nil, errDomain
		}
		rest = rest[1:]
	}
	domain, err = mail.ParseDomain(strings.TrimSuffix(name, "."))
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", nil, errDomain
	}
	if isASCII(domain) {
		return domain, rest, nil
	}
	if domain, err = idna.Lookup.ToASCII(domain); err != nil {
		return "", nil, errDomain
	}
	return domain, rest, nil
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
				if strings.Contains(value[i:end], "=?") && strings.HasPrefix(strings.TrimLeft(value[end:], " \t\r\n"), "@") {
					return nil, errEncoded
				}
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
