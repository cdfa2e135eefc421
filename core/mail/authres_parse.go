package mail

import (
	"errors"
	"fmt"
	"strings"
)

// maxAuthResults bounds what is read of one field.
const maxAuthResults = 100

// ErrAuthResults is returned when a text is no list of results.
var ErrAuthResults = errors.New("it is no list of authentication results")

// ParseAuthResults reads the body of a field Authentication-Results, unfolded or not
// (RFC 8601 section 2.2), of whatever server: comments, versions and words without a
// property type are skipped. Errors are ErrAuthResults with what is wrong.
func ParseAuthResults(value string) (authservID string, results []AuthResult, err error) {
	r := authReader{text: value}
	if authservID, err = r.value(); err != nil {
		return "", nil, err
	}
	for more := r.skipTo(';'); more; more = r.skipTo(';') {
		result, err := r.result()
		if err != nil {
			return "", nil, err
		}
		if result.Method == "" {
			continue
		}
		if len(results) == maxAuthResults {
			return "", nil, fmt.Errorf("%w: there are more than %d", ErrAuthResults, maxAuthResults)
		}
		results = append(results, result)
	}
	if r.err == nil && r.text != "" {
		r.err = fmt.Errorf("%w: it has %.20q where a semicolon should be", ErrAuthResults, r.text)
	}
	if r.err != nil {
		return "", nil, r.err
	}
	return authservID, results, nil
}

// authReader reads results from the front of a text.
type authReader struct {
	text string
	err  error
}

// skip leaves out white space and comments (RFC 5322 section 3.2.2).
func (r *authReader) skip() {
	depth := 0
	for i := 0; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '\\' && depth > 0:
			i++
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(" \t\r\n", c) < 0:
			r.text = r.text[i:]
			return
		}
	}
	if r.text = ""; depth > 0 && r.err == nil {
		r.err = fmt.Errorf("%w: a comment is open", ErrAuthResults)
	}
}

// skipTo goes behind a byte that stands next; behind the authserv-id, a version may be
// in between.
func (r *authReader) skipTo(c byte) bool {
	r.skip()
	if strings.HasPrefix(r.text, "1") {
		r.text = r.text[1:]
		r.skip()
	}
	if r.err != nil || r.text == "" || r.text[0] != c {
		return false
	}
	r.text = r.text[1:]
	return true
}

// result reads one result up to its semicolon; none has no method.
func (r *authReader) result() (AuthResult, error) {
	var result AuthResult
	for r.skip(); r.text != "" && r.text[0] != ';'; r.skip() {
		name := r.name()
		r.skip()
		if !strings.HasPrefix(r.text, "=") {
			if strings.EqualFold(name, "none") && result.Method == "" {
				continue
			}
			return AuthResult{}, fmt.Errorf("%w: %.40q has no value", ErrAuthResults, name)
		}
		r.text = r.text[1:]
		value, err := r.value()
		if err != nil {
			return AuthResult{}, err
		}
		typ, property, ok := strings.Cut(name, ".")
		switch {
		case result.Method == "":
			method, _, _ := strings.Cut(name, "/") // a version
			result.Method, result.Result = strings.ToLower(method), strings.ToLower(value)
		case ok:
			result.Properties = append(result.Properties, Property{Type: strings.ToLower(typ), Name: strings.ToLower(property), Value: value})
		case strings.EqualFold(name, "reason"):
			result.Reason = value
		}
		if len(result.Properties) > maxAuthResults {
			return AuthResult{}, fmt.Errorf("%w: one has more than %d properties", ErrAuthResults, maxAuthResults)
		}
	}
	return result, r.err
}

// name reads the words in front of an equals sign, with the dot or slash between them,
// around which there may be white space.
func (r *authReader) name() string {
	n := 0
	for n < len(r.text) && (isAlphanumeric(r.text[n]) || strings.IndexByte("-_./", r.text[n]) >= 0) {
		n++
	}
	name := r.text[:n]
	r.text = r.text[n:]
	return name
}

// value reads a value: bytes up to white space, a semicolon or a comment, and quoted
// strings.
func (r *authReader) value() (string, error) {
	r.skip()
	var b strings.Builder
	start := len(r.text)
	for r.text != "" && strings.IndexByte(" \t\r\n;(", r.text[0]) < 0 {
		switch c := r.text[0]; {
		case c == '"':
			if !r.quoted(&b) {
				return "", fmt.Errorf("%w: a quoted string is open", ErrAuthResults)
			}
			continue
		case c < ' ' || c == 0x7f:
			return "", fmt.Errorf("%w: it has a control character", ErrAuthResults)
		default:
			b.WriteByte(c)
		}
		r.text = r.text[1:]
	}
	if start == len(r.text) && r.err == nil {
		r.err = fmt.Errorf("%w: a value is missing", ErrAuthResults)
	}
	return b.String(), r.err
}

// quoted reads a quoted string; false if it is open.
func (r *authReader) quoted(b *strings.Builder) bool {
	for i := 1; i < len(r.text); i++ {
		switch r.text[i] {
		case '"':
			r.text = r.text[i+1:]
			return true
		case '\\':
			if i++; i == len(r.text) {
				return false
			}
		}
		b.WriteByte(r.text[i])
	}
	return false
}
