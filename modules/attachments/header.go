package attachments

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what is looked at of a header field.
const (
	maxParameters = 200 // of one field
	maxName       = 1 << 10
	maxBoundary   = 1000 // bytes; RFC 2046 allows 70
	maxFields     = 8    // of one name
)

// fields is what the header of a part says.
type fields struct {
	kind       kind
	names      []string
	boundaries []string
	encodings  []encoding
}

// kind is what a part is to the walker.
type kind uint8

const (
	kindLeaf kind = iota
	kindMultipart
	kindMessage
)

// readFields understands the header of a part. inDigest tells that a part without
// a type is a message (RFC 2046 section 5.1.5).
func readFields(h mail.HeaderSection, inDigest bool) (f fields, isDigest bool) {
	f.encodings = encodingsOf(h)
	if inDigest && h.Count("Content-Type") == 0 {
		f.kind = kindMessage
	}
	n := 0
	for field := range h.All("Content-Type") {
		if n++; n > maxFields {
			break
		}
		value := field.Value()
		word, _, _ := strings.Cut(value, ";")
		word = strings.ToLower(strings.TrimSpace(word))
		parameters := parseParameters(value)
		f.names = append(f.names, parameters.values("name")...)
		switch {
		case strings.HasPrefix(word, "multipart/"):
			f.kind = kindMultipart
			isDigest = isDigest || word == "multipart/digest"
			for _, b := range parameters.values("boundary") {
				b = strings.TrimRight(b, " \t")
				if b != "" && len(b) <= maxBoundary && !slices.Contains(f.boundaries, b) {
					f.boundaries = append(f.boundaries, b)
				}
			}
		case f.kind == kindLeaf && (word == "message/rfc822" || word == "message/global"):
			f.kind = kindMessage
		}
	}
	n = 0
	for field := range h.All("Content-Disposition") {
		if n++; n > maxFields {
			break
		}
		f.names = append(f.names, parseParameters(field.Value()).values("filename")...)
	}
	return f, isDigest
}

// parameter is one as it was written, without quotes.
type parameter struct{ name, value string }

// parameters are those of a field, in order.
type parameters []parameter

// parseParameters reads ";name=value" as often as it comes. It takes what broken
// programs write, too: values with spaces without quotes, quotes without an end.
func parseParameters(field string) parameters {
	var list parameters
	_, rest, ok := strings.Cut(field, ";")
	for ok && len(list) < maxParameters {
		var name, value string
		end := strings.IndexAny(rest, ";=")
		if end < 0 {
			break
		}
		if rest[end] == ';' {
			rest = rest[end+1:]
			continue
		}
		name, rest = strings.ToLower(strings.TrimSpace(rest[:end])), strings.TrimLeft(rest[end+1:], " \t")
		if strings.HasPrefix(rest, `"`) {
			value, rest = unquote(rest)
			_, rest, ok = strings.Cut(rest, ";")
		} else {
			value, rest, ok = strings.Cut(rest, ";")
			value = strings.TrimSpace(value)
			if i := strings.IndexAny(value, " \t("); i > 0 {
				list = append(list, parameter{name, value[:i]})
			}
		}
		list = append(list, parameter{name, value})
	}
	return list
}

// unquote reads a quoted string and gives what follows it.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
			// In names of files it is mostly meant as it stands.
			if s[i] != '"' && s[i] != '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

// values gives all values that a parameter has to one program or another: plain
// ones, those with encoded words in them, which RFC 2047 forbids and programs
// write and read, and those of RFC 2231.
func (list parameters) values(name string) []string {
	var values []string
	add := func(value string) {
		if value != "" && !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	type segment struct {
		number  int
		encoded bool
		text    string
	}
	var segments []segment
	for _, p := range list {
		rest, ok := strings.CutPrefix(p.name, name)
		switch {
		case !ok:
		case rest == "":
			add(p.value)
			add(decodeWords(p.value))
		case rest == "*":
			add(decodeExtended(p.value))
		case rest[0] == '*':
			digits, encoded := strings.CutSuffix(rest[1:], "*")
			if n, err := strconv.Atoi(digits); err == nil && n >= 0 {
				segments = append(segments, segment{n, encoded, p.value})
			}
		}
	}
	slices.SortStableFunc(segments, func(a, b segment) int { return a.number - b.number })
	var whole strings.Builder
	charset := ""
	for i, s := range segments {
		text := s.text
		if s.encoded {
			if i == 0 {
				charset, text = cutCharset(text)
			}
			text = unescape(text)
		}
		whole.WriteString(text)
	}
	add(toUTF8(charset, whole.String()))
	add(decodeWords(whole.String()))
	return values
}

// decodeExtended reads charset'language'value (RFC 2231 section 4).
func decodeExtended(value string) string {
	charset, text := cutCharset(value)
	return toUTF8(charset, unescape(text))
}

func cutCharset(value string) (charset, text string) {
	charset, rest, ok := strings.Cut(value, "'")
	if !ok {
		return "", value
	}
	_, text, ok = strings.Cut(rest, "'")
	if !ok {
		return "", value
	}
	return charset, text
}

// unescape decodes %XX.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	return unhex(s, '%')
}

// unhex decodes two digits behind a sign; what is no such stays.
func unhex(s string, sign byte) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == sign && i+2 < len(s) && hexValue(s[i+1]) < 16 && hexValue(s[i+2]) < 16 {
			b = append(b, hexValue(s[i+1])<<4|hexValue(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// decodeWords decodes the encoded words in a text (RFC 2047), also where they may
// not stand and broken ones, as mail programs do.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var b strings.Builder
	behind := false // a word, so that white space before another one goes
	end := strings.LastIndex(s, "?=")
	for left := len(s); s != ""; {
		i := strings.Index(s, "=?")
		// Behind the last end of a word there is none.
		if i < 0 || left-len(s)+i > end {
			break
		}
		text, rest, ok := cutWord(s[i:])
		if !ok {
			b.WriteString(s[:i+2])
			s, behind = s[i+2:], false
			continue
		}
		if between := s[:i]; !behind || strings.Trim(between, " \t\r\n") != "" {
			b.WriteString(between)
		}
		b.WriteString(text)
		s, behind = rest, true
	}
	b.WriteString(s)
	return b.String()
}

// cutWord decodes the encoded word that s begins with.
func cutWord(s string) (text, rest string, ok bool) {
	charset, rest, ok := strings.Cut(s[2:], "?")
	if !ok || len(charset) > 64 {
		return "", "", false
	}
	method, rest, ok := strings.Cut(rest, "?")
	if !ok || len(method) != 1 {
		return "", "", false
	}
	word, rest, ok := strings.Cut(rest, "?=")
	if !ok {
		return "", "", false
	}
	charset, _, _ = strings.Cut(charset, "*") // the language of RFC 2231 section 5
	switch method {
	case "B", "b":
		d := decoder{encoding: base64}
		text = string(d.finish(d.append(nil, []byte(word))))
	case "Q", "q":
		text = unhex(strings.ReplaceAll(word, "_", " "), '=')
	default:
		return "", "", false
	}
	return toUTF8(charset, text), rest, true
}

// toUTF8 converts a text from a charset; from one that is not known, it gives the
// bytes as they are.
func toUTF8(charset, text string) string {
	switch strings.ToLower(charset) {
	case "", "utf-8", "us-ascii":
		return text
	}
	e, err := htmlindex.Get(charset)
	if err != nil {
		return text
	}
	decoded, err := e.NewDecoder().String(text)
	if err != nil {
		return text
	}
	return decoded
}
