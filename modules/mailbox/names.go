package mailbox

import (
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"
)

// Limits of an account. They bound what one user can make the server keep and
// look through.
const (
	maxNameLength = 500  // bytes
	maxDepth      = 20   // levels
	maxMailboxes  = 5000 // an account

	// Copies cost a client nothing, so that their number has limits. Mail is
	// delivered beyond them: it must not be lost for them, and comes one by one.
	maxMessages        = 2_000_000 // a mailbox, by COPY, MOVE and APPEND
	maxAccountMessages = 5_000_000 // an account, by COPY
)

const inbox = "INBOX"

// normalName gives the normal form of a name: NFC (RFC 9051 section 5.1), with
// INBOX in capitals at the top. It does not tell whether the name may be used.
func normalName(name string) string {
	name = norm.NFC.String(name)
	if len(name) >= len(inbox) && strings.EqualFold(name[:len(inbox)], inbox) &&
		(len(name) == len(inbox) || name[len(inbox)] == Delimiter) {
		return inbox + name[len(inbox):]
	}
	return name
}

// newName gives the normal form of a name that a mailbox may get.
func newName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", refuse(imap.ResponseCodeCannot, "The mailbox name is not UTF-8")
	}
	name = normalName(strings.TrimSuffix(name, string(Delimiter)))
	switch {
	case len(name) > maxNameLength:
		return "", refuse(imap.ResponseCodeLimit, "The mailbox name is longer than %d bytes; use a shorter one", maxNameLength)
	case strings.Count(name, string(Delimiter)) >= maxDepth:
		return "", refuse(imap.ResponseCodeLimit, "The mailbox name has more than %d levels; use fewer", maxDepth)
	case strings.HasPrefix(name, "#"):
		return "", refuse(imap.ResponseCodeCannot, "The mailbox name %q begins with #, which is kept for other namespaces", name)
	}
	for level := range strings.SplitSeq(name, string(Delimiter)) {
		if strings.TrimSpace(level) == "" {
			return "", refuse(imap.ResponseCodeCannot, "The mailbox name %q has an empty level", name)
		}
	}
	for _, r := range name {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '*' || r == '%' {
			return "", refuse(imap.ResponseCodeCannot, "The mailbox name %q has the character %q, which names cannot have", name, r)
		}
	}
	return name, nil
}

// parents lists the names above a name, from the top.
func parents(name string) []string {
	var list []string
	for i := range len(name) {
		if name[i] == Delimiter {
			list = append(list, name[:i])
		}
	}
	return list
}

// below tells whether a name is in the hierarchy below another.
func below(name, parent string) bool {
	return len(name) > len(parent) && name[len(parent)] == Delimiter && name[:len(parent)] == parent
}

// matchName tells whether a name matches a pattern of LIST: * is anything, %
// anything within one level. Its time is bounded by the product of the lengths.
func matchName(pattern, name string) bool {
	// reached[i] tells that the name so far may end before pattern[i].
	reached := make([]bool, len(pattern)+1)
	reached[0] = true
	skipWildcards(pattern, reached)
	for i := range len(name) {
		alive := false
		for p := len(pattern); p > 0; p-- {
			c := pattern[p-1]
			wild := c == '*' || c == '%' && name[i] != Delimiter
			// Ending before p means: a wildcard before p took this byte too, or
			// the byte before p is this one.
			reached[p] = wild && reached[p] || c != '*' && c != '%' && c == name[i] && reached[p-1]
			alive = alive || reached[p]
		}
		reached[0] = false
		if !alive {
			return false
		}
		skipWildcards(pattern, reached)
	}
	return reached[len(pattern)]
}

// skipWildcards lets wildcards match nothing.
func skipWildcards(pattern string, reached []bool) {
	for p := range len(pattern) {
		if reached[p] && (pattern[p] == '*' || pattern[p] == '%') {
			reached[p+1] = true
		}
	}
}
