package authres

import (
	"strings"

	"golang.org/x/net/idna"
)

// claims tells whether the value of a field says that it is by the server of an
// authserv-id, to a reader who is strict or one who is not: comments part words or
// vanish, and what cannot be read claims it if it has the name anywhere.
func claims(value, id string) bool {
	id = normal(id)
	named := strings.Contains(strings.ToLower(value), id) || strings.Contains(normal(value), id)
	for _, in := range []string{" ", ""} {
		text, ok := withoutComments(value, in)
		name := ""
		if ok && !strings.ContainsFunc(value, isControl) {
			name, ok = firstValue(text)
		}
		if name == "" && named || ok && normal(name) == id {
			return true
		}
	}
	return false
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// maxNormal bounds what is made into A-labels, in bytes: that takes long for what is
// long, and no name is.
const maxNormal = 1024

// normal gives an authserv-id in the form in which it is compared: lower case,
// A-labels, no final dot (RFC 8601 section 2.5).
func normal(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
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
// begins with; false if there is none.
func firstValue(text string) (string, bool) {
	text = strings.TrimLeft(text, " \t")
	if strings.HasPrefix(text, `"`) {
		var b strings.Builder
		for i := 1; i < len(text) && text[i] != '"'; i++ {
			if text[i] == '\\' {
				i++
			}
			b.WriteByte(text[i])
		}
		return strings.Trim(b.String(), " \t"), true
	}
	end := 0
	for end < len(text) && isTokenByte(text[end]) {
		end++
	}
	return text[:end], end > 0
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
