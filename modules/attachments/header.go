package attachments

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what is looked at of a header. A part that is beyond one is too
// complex.
const (
	maxParameters = 64 // of one field
	maxNames      = 64 // of one part, with the ways to read them
	maxName       = 1 << 10
	maxBoundary   = 1000 // bytes; RFC 2046 allows 70
	maxBoundaries = 8    // of one part
	maxFields     = 8    // of one name
)

// fields is what the header of a part says.
type fields struct {
	kinds      []kind // all that the part is to one program or another; the first is walked over
	names      []string
	boundaries []string
	encodings  []encoding
	complexity string // why not all of it is looked at; "" if all is
	isText     bool   // to some program it is text
}

// kind is what a part is to the walker, the less the more is found.
type kind uint8

const (
	kindMultipart kind = iota
	kindMessage
	kindLeaf
)

// kind gives the one by which the part is walked over.
func (f *fields) kind() kind { return f.kinds[0] }

// readFields understands the header of a part. inDigest tells that a part without
// a type is a message (RFC 2046 section 5.1.5).
func readFields(h mail.HeaderSection, inDigest bool) (f fields, isDigest bool) {
	f.encodings = encodingsOf(h)
	n := 0
	for field := range h.All("Content-Type") {
		if n++; n > maxFields || len(f.names) == maxNames && f.complexity != "" {
			break
		}
		for _, value := range readings(field.Value()) {
			isDigest = f.readType(value) || isDigest
		}
	}
	f.cut(n > maxFields, "has more than %d fields of one name", maxFields)
	switch {
	case n == 0 && inDigest:
		f.kinds = []kind{kindMessage}
	case n == 0:
		f.kinds, f.isText = []kind{kindLeaf}, true
	}
	n = 0
	for field := range h.All("Content-Disposition") {
		if n++; n > maxFields || len(f.names) == maxNames && f.complexity != "" {
			break
		}
		for _, value := range readings(field.Value()) {
			f.addNames(f.parameters(value).values("filename"))
		}
	}
	f.cut(n > maxFields, "has more than %d fields of one name", maxFields)
	// What has a name is saved as a file by some programs, whatever it is.
	if len(f.names) > 0 && !slices.Contains(f.kinds, kindLeaf) {
		f.kinds = append(f.kinds, kindLeaf)
	}
	slices.Sort(f.kinds)
	return f, isDigest
}

// readType reads one way to read a Content-Type.
func (f *fields) readType(value string) (isDigest bool) {
	word, _, _ := strings.Cut(value, ";")
	word = strings.ToLower(strings.Join(strings.Fields(word), ""))
	parameters := f.parameters(value)
	f.addNames(parameters.values("name"))
	k := kindLeaf
	switch {
	case strings.HasPrefix(word, "multipart/"):
		k = kindMultipart
		for _, b := range parameters.values("boundary") {
			b = strings.TrimRight(b, " \t")
			switch {
			case b == "" || slices.Contains(f.boundaries, b):
			case len(b) > maxBoundary:
				f.cut(true, "has a boundary of more than %d bytes", maxBoundary)
			case len(f.boundaries) == maxBoundaries:
				f.cut(true, "has more than %d boundaries", maxBoundaries)
			default:
				f.boundaries = append(f.boundaries, b)
			}
		}
	case word == "message/rfc822", word == "message/global", word == "message/news":
		k = kindMessage
	case word == "message/partial", word == "message/external-body":
		f.complexity = "a part is " + word + ", whose content is elsewhere"
	}
	if !slices.Contains(f.kinds, k) {
		f.kinds = append(f.kinds, k)
	}
	if strings.HasPrefix(word, "text/") || !strings.Contains(word, "/") || k == kindMultipart && len(f.boundaries) == 0 {
		f.isText = true
	}
	return word == "multipart/digest"
}

// cut notes why not all of the part is looked at.
func (f *fields) cut(isSo bool, why string, bound int) {
	if isSo {
		f.complexity = fmt.Sprintf("a part "+why, bound)
	}
}

func (f *fields) addNames(names []string) {
	for _, name := range names {
		switch {
		case slices.Contains(f.names, name):
		case len(f.names) == maxNames:
			f.cut(true, "has more than %d names", maxNames)
			return
		default:
			f.cut(len(name) > maxName, "has a name of more than %d bytes", maxName)
			f.names = append(f.names, name)
		}
	}
}

// parameters reads those of a field.
func (f *fields) parameters(value string) parameters {
	list, isCut := parseParameters(value)
	f.cut(isCut, "has more than %d parameters in a field", maxParameters)
	return list
}

// readings gives a field's value as it stands and, if it has comments (RFC 5322
// section 3.2.2), without them. They may stand anywhere in it, and not all programs
// know them.
func readings(value string) []string {
	if strings.IndexByte(value, '(') < 0 {
		return []string{value}
	}
	return []string{value, withoutComments(value)}
}

func withoutComments(s string) string {
	var b strings.Builder
	depth, inQuotes := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && (inQuotes || depth > 0):
			if i++; depth == 0 {
				b.WriteString(s[i-1 : i+1])
			}
			continue
		case c == '(' && !inQuotes:
			depth++
		case c == ')' && depth > 0:
			depth--
			continue
		case c == '"' && depth == 0:
			inQuotes = !inQuotes
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// parameter is one as it was written, without quotes.
type parameter struct{ name, value string }

// parameters are those of a field, in order.
type parameters []parameter

// parseParameters reads ";name=value" as often as it comes; isCut tells that it
// comes more often than is looked at. It takes what broken programs write, too:
// values with spaces without quotes, quotes without an end or with more behind
// them, a parameter without a semicolon before it.
func parseParameters(field string) (list parameters, isCut bool) {
	rest, ok := field, true
	for count := 0; ok; count++ {
		end := strings.IndexAny(rest, ";=")
		if end < 0 {
			break
		}
		if rest[end] == ';' {
			rest = rest[end+1:]
			continue
		}
		if count >= 2*maxParameters || len(list) >= maxParameters {
			return list, true
		}
		name := ""
		if words := strings.Fields(strings.ToLower(rest[:end])); len(words) > 0 {
			name = words[len(words)-1]
		}
		rest = strings.TrimLeft(rest[end+1:], " \t")
		var value, tail string
		if strings.HasPrefix(rest, `"`) {
			value, rest = unquote(rest)
			tail, rest, ok = strings.Cut(rest, ";")
			tail = strings.ReplaceAll(strings.TrimSpace(tail), `"`, "")
		} else {
			value, rest, ok = strings.Cut(rest, ";")
			value = strings.TrimSpace(value)
			if i := strings.IndexAny(value, " \t("); i > 0 {
				list = append(list, parameter{name, value[:i]})
			}
		}
		list = append(list, parameter{name, value})
		if tail != "" {
			list = append(list, parameter{name, value + tail})
		}
	}
	return list, false
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
	var segments []segment
	for _, p := range list {
		rest, ok := strings.CutPrefix(p.name, name)
		switch {
		case !ok:
		case rest == "":
			add(p.value)
			add(decodeWords(p.value))
			add(unescape(p.value))
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
	for _, joined := range joins(segments) {
		whole := joined.String()
		add(whole)
		add(decodeWords(whole))
	}
	return values
}

// segment is a piece of a value (RFC 2231 section 3).
type segment struct {
	number  int
	encoded bool
	text    string
}

// segments are those of a value, in order.
type segments []segment

// joins gives the segments that belong together. If numbers are missing, programs
// take all, or those before the gap; if one comes twice, all, the first or the
// last.
func joins(all segments) []segments {
	if len(all) == 0 {
		return nil
	}
	sameNumber := func(a, b segment) bool { return a.number == b.number }
	first := slices.CompactFunc(slices.Clone(all), sameNumber)
	list := []segments{all, first}
	if len(first) < len(all) {
		last := slices.Clone(all)
		slices.Reverse(last)
		// Stable, so that the later of two comes first.
		slices.SortStableFunc(last, func(a, b segment) int { return a.number - b.number })
		list = append(list, slices.CompactFunc(last, sameNumber))
	}
	for _, joined := range list {
		gap := 0
		for gap < len(joined) && joined[gap].number <= joined[max(gap-1, 0)].number+1 {
			gap++
		}
		if gap < len(joined) {
			list = append(list, joined[:gap])
		}
	}
	return list
}

// String gives the value.
func (list segments) String() string {
	var whole strings.Builder
	charset := ""
	for i, s := range list {
		text := s.text
		if s.encoded {
			if i == 0 {
				charset, text = cutCharset(text)
			}
			text = unescape(text)
		}
		whole.WriteString(text)
	}
	return toUTF8(charset, whole.String())
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
	case "utf-7", "unicode-1-1-utf-7":
		return fromUTF7(text)
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

// fromUTF7 decodes UTF-7 (RFC 2152).
func fromUTF7(s string) string {
	var b strings.Builder
	for s != "" {
		plain, rest, ok := strings.Cut(s, "+")
		b.WriteString(plain)
		if !ok {
			break
		}
		n := 0
		for n < len(rest) && base64Values[rest[n]] != 0xff {
			n++
		}
		if n == 0 {
			b.WriteByte('+')
		}
		d := decoder{encoding: base64}
		units := d.append(nil, []byte(rest[:n]))
		units = d.finish(units)
		b.WriteString(toUTF8("utf-16be", string(units[:len(units)&^1])))
		s = strings.TrimPrefix(rest[n:], "-")
	}
	return b.String()
}
