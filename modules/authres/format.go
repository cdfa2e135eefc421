package authres

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/mail"
)

const (
	// maxLine is where lines are folded if they can be (RFC 5322 section 2.1.1).
	maxLine = 78
	// maxValue bounds a value and a reason, in bytes, so that no line is too long for
	// SMTP.
	maxValue = 400
)

// format makes the body of the field of that name (RFC 8601 section 2.2), folded. What
// is no word of the grammar is left out, and what a value cannot hold is made into
// question marks: most of it comes from strangers.
func format(field, id string, results []mail.AuthResult) string {
	w := writer{column: len(field) + len(":")}
	var whole [][]string
	for _, r := range results {
		if isKeyword(r.Method) && isKeyword(r.Result) {
			whole = append(whole, words(r))
		}
	}
	if len(whole) == 0 {
		whole = [][]string{{"none"}}
	}
	w.word(value(id) + ";")
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
func words(r mail.AuthResult) []string {
	list := []string{r.Method + "=" + r.Result}
	if reason := strings.Join(strings.Fields(strings.Map(toASCII, r.Reason)), " "); reason != "" {
		list = append(list, strings.Split("reason="+quoted(clean(reason)), " ")...)
	}
	for _, p := range r.Properties {
		if isKeyword(p.Type) && isKeyword(p.Name) {
			list = append(list, p.Type+"."+p.Name+"="+value(p.Value))
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

// writer puts words behind each other with a space, or a fold, in front.
type writer struct {
	text   strings.Builder
	column int
}

func (w *writer) word(s string) {
	if w.column+1+len(s) > maxLine && w.text.Len() > 0 {
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
	return s != "" && s[len(s)-1] != '-' && len(s) <= maxValue/4
}

// value writes a value, or an address with a plain local-part, as it is, and anything
// else as a quoted string. Domains are written in A-labels.
func value(s string) string {
	s = clean(s)
	if local, domain, ok := strings.Cut(s, "@"); !isASCII(s) && ok && !strings.Contains(domain, "@") {
		s = local + "@" + ascii(domain)
	} else if !isASCII(s) {
		s = ascii(s)
	}
	local, domain, ok := strings.Cut(s, "@")
	if isValue(s) || ok && isValue(domain) && (local == "" || isValue(local)) {
		return s
	}
	return quoted(s)
}

func ascii(domain string) string {
	if name, err := idna.Lookup.ToASCII(domain); err == nil {
		return name
	}
	return domain
}

// isValue tells whether s can be a token.
func isValue(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) || s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return s != ""
}

// clean bounds a text and puts question marks where it is neither printable US-ASCII
// nor UTF-8.
func clean(s string) string {
	return strings.TrimSuffix(mail.Printable(strings.ToValidUTF8(s, "?"), maxValue), "…")
}

// quoted gives a text without control characters as a quoted string.
func quoted(s string) string {
	return `"` + quoter.Replace(s) + `"`
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
