package authres

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// claims tells whether the value of a field says that it is by the server of an
// authserv-id, to a reader who is strict or one who is not: comments part words or
// vanish, and what cannot be read for sure claims it.
func claims(value, id string) bool {
	if strings.ContainsFunc(value, isControl) || !utf8.ValidString(value) {
		return true
	}
	id = normal(id)
	for _, in := range []string{" ", ""} {
		text, ok := withoutComments(value, in)
		if !ok {
			return true
		}
		name, rest, ok := firstValue(text)
		if !ok || !endsID(rest) || normal(name) == id {
			return true
		}
	}
	return false
}

// endsID tells whether an authserv-id is over where a text begins: a version may
// follow, and the results (RFC 8601 section 2.2). Some write results without any
// authserv-id, whose first word nobody can take for one.
func endsID(text string) bool {
	if strings.HasPrefix(text, "=") {
		return true
	}
	version := strings.TrimLeft(text, " \t")
	after := strings.TrimLeft(version, "0123456789")
	if after != version && version == text {
		return false
	}
	after = strings.TrimLeft(after, " \t")
	return after == "" || after[0] == ';'
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// maxNormal bounds what is made into A-labels, in bytes: that takes long for what is
// long, and no name is.
const maxNormal = 256

// normal gives an authserv-id in the form in which it is compared: lower case,
// A-labels, no final dots (RFC 8601 section 2.5).
func normal(name string) string {
	name = strings.TrimRight(strings.ToLower(name), ".")
	if isASCII(name) || len(name) > maxNormal {
		return name
	}
	if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		return ascii
	}
	return name
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// withoutComments puts a text in place of each comment outside of quoted strings
// (RFC 5322 section 3.2.2); false if a comment or a quoted string is open.
func withoutComments(value, in string) (string, bool) {
	var b strings.Builder
	b.Grow(len(value))
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		c := value[i]
		keep := depth == 0
		switch {
		case c == '\\' && (quoted || depth > 0):
			if i++; i == len(value) {
				return "", false
			}
			if keep {
				b.WriteByte(c)
				c = value[i]
			}
		case quoted:
			quoted = c != '"'
		case c == '(':
			depth++
			keep = false
		case c == ')' && depth > 0:
			if depth--; depth == 0 {
				b.WriteString(in)
			}
		case c == '"' && depth == 0:
			quoted = true
		}
		if keep {
			b.WriteByte(c)
		}
	}
	return b.String(), depth == 0 && !quoted
}

// firstValue reads the value (RFC 2045 section 5.1) that a text without comments
// begins with, and gives what follows; false if there is none.
func firstValue(text string) (value, rest string, ok bool) {
	text = strings.TrimLeft(text, " \t")
	if strings.HasPrefix(text, `"`) {
		var b strings.Builder
		i := 1
		for ; text[i] != '"'; i++ { // withoutComments has seen it
			if text[i] == '\\' {
				i++
			}
			b.WriteByte(text[i])
		}
		return strings.Trim(b.String(), " \t"), text[i+1:], true
	}
	end := 0
	for end < len(text) && isTokenByte(text[end]) {
		end++
	}
	return text[:end], text[end:], end > 0
}

// isTokenByte tells the bytes of a token, those of UTF-8 included (RFC 2045 section
// 5.1, RFC 6532 section 3.2).
func isTokenByte(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isValue tells whether s can be a token of US-ASCII.
func isValue(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) || s[i] >= 0x80 {
			return false
		}
	}
	return s != ""
}
