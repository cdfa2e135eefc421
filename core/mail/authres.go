package mail

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	// maxAuthLine is where lines are folded if they can be (RFC 5322 section 2.1.1).
	maxAuthLine = 78
	// maxAuthValue bounds a value and a reason, in bytes, so that no line is too long
	// for SMTP.
	maxAuthValue = 400
)

// FormatAuthResults makes the body of a field Authentication-Results (RFC 8601 section
// 2.2), folded, for the server of an authserv-id. column is how many bytes stand in
// front of it in its line. What is no word of the grammar is left out, and what a value
// cannot hold is made into question marks: most of it comes from strangers.
func FormatAuthResults(column int, authservID string, results []AuthResult) string {
	w := authWriter{column: column}
	var whole [][]string
	for _, r := range results {
		if isKeyword(r.Method) && isKeyword(r.Result) {
			whole = append(whole, r.words())
		}
	}
	if len(whole) == 0 {
		whole = [][]string{{"none"}}
	}
	w.word(authValue(authservID) + ";")
	for i, list := range whole {
		if i+1 < len(whole) {
			list[len(list)-1] += ";"
		}
		for _, word := range list {
			w.word(word)
		}
	}
	return strings.TrimPrefix(w.text.String(), " ")
}

// words gives a result in parts between which a line can be folded.
func (r AuthResult) words() []string {
	list := []string{r.Method + "=" + r.Result}
	if reason := strings.Join(strings.Fields(strings.Map(toASCII, r.Reason)), " "); reason != "" {
		list = append(list, strings.Split("reason="+quotedString(cleanAuth(reason)), " ")...)
	}
	for _, p := range r.Properties {
		if isKeyword(p.Type) && isKeyword(p.Name) {
			list = append(list, p.Type+"."+p.Name+"="+authValue(p.Value))
		}
	}
	return list
}

// toASCII keeps a reason, which is for people, fit for any message.
func toASCII(r rune) rune {
	if r >= utf8.RuneSelf {
		return '?'
	}
	return r
}

// authWriter puts words behind each other with a space, or a fold, in front.
type authWriter struct {
	text   strings.Builder
	column int
}

func (w *authWriter) word(s string) {
	if w.column+1+len(s) > maxAuthLine && w.text.Len() > 0 {
		w.text.WriteString("\r\n")
		w.column = 0
	}
	w.text.WriteString(" " + s)
	w.column += 1 + len(s)
}

// isKeyword tells whether s is a Keyword (RFC 5321 section 4.1.2).
func isKeyword(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && s[i] != '-' {
			return false
		}
	}
	return s != "" && s[len(s)-1] != '-' && len(s) <= maxAuthValue/4
}

// authValue writes a value, or an address with a plain local-part, as it is, and anything
// else as a quoted string. Domains are written in A-labels.
func authValue(s string) string {
	s = cleanAuth(s)
	if local, domain, ok := strings.Cut(s, "@"); !isASCII(s) && ok && !strings.Contains(domain, "@") {
		s = local + "@" + asciiDomain(domain)
	} else if !isASCII(s) {
		s = asciiDomain(s)
	}
	local, domain, ok := strings.Cut(s, "@")
	if isToken(s) || ok && isToken(domain) && (local == "" || isToken(local)) {
		return s
	}
	return quotedString(s)
}

func asciiDomain(domain string) string {
	if name, err := idna.Lookup.ToASCII(domain); err == nil {
		return name
	}
	return domain
}

// isToken tells whether s can be a token.
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) || s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return s != ""
}

// cleanAuth bounds a text and puts question marks where it is neither printable US-ASCII
// nor UTF-8.
func cleanAuth(s string) string {
	return strings.TrimSuffix(Printable(strings.ToValidUTF8(s, "?"), maxAuthValue), "…")
}

// quotedString gives a text without control characters as a quoted string.
func quotedString(s string) string {
	return `"` + authQuoter.Replace(s) + `"`
}

var authQuoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// isTokenByte tells the bytes of a token, those of UTF-8 included (RFC 2045 section
// 5.1, RFC 6532 section 3.2).
func isTokenByte(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
