package dkim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// tag is one tag of a list.
type tag struct {
	name, value string
	// start and end are where the value is in the text, with the white space around
	// it.
	start, end int
}

// tagList is a list of tags (RFC 6376 section 3.2), as signatures and keys are.
type tagList []tag

// maxTags bounds a list. Those that RFCs name are less than 20.
const maxTags = 64

// white are the bytes of folding white space, in a field that is still folded.
const white = " \t\r\n"

var errTooManyTags = fmt.Errorf("it has more than %d tags", maxTags)

// parseTags reads a list of tags. What is wrong with one is wrong with the whole.
func parseTags(text string) (tagList, error) {
	list := make(tagList, 0, 12)
	for offset := 0; offset <= len(text); {
		end := len(text)
		if i := strings.IndexByte(text[offset:], ';'); i >= 0 {
			end = offset + i
		}
		spec := text[offset:end]
		if end == len(text) && strings.Trim(spec, white) == "" && len(list) > 0 {
			break // what follows the last semicolon
		}
		t, err := parseTag(spec)
		if err != nil {
			return nil, err
		}
		if _, ok := list.get(t.name); ok {
			return nil, fmt.Errorf("tag %s= stands twice", t.name)
		}
		if len(list) == maxTags {
			return nil, errTooManyTags
		}
		t.start, t.end = offset+t.start, end
		list = append(list, t)
		offset = end + 1
	}
	return list, nil
}

func parseTag(spec string) (tag, error) {
	name, value, ok := strings.Cut(spec, "=")
	start := len(name) + 1
	name = strings.Trim(name, white)
	if !ok {
		return tag{}, fmt.Errorf("%.40q is no tag, which has the form name=value", strings.Trim(spec, white))
	}
	if !isTagName(name) {
		return tag{}, fmt.Errorf("%.40q is no name of a tag", name)
	}
	value = strings.Trim(value, white)
	if !isTagValue(value) {
		return tag{}, fmt.Errorf("the value of tag %.40s= has bytes that it must not have", name)
	}
	return tag{name: name, value: value, start: start}, nil
}

func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isTagName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && (i == 0 || !isDigit(c) && c != '_') {
			return false
		}
	}
	return s != ""
}

// isTagValue tells whether a value is of printable characters, UTF-8 too (RFC 8616
// section 5), and folding white space.
func isTagValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && strings.IndexByte(white, c) < 0 || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// get gives a value; false if there is no such tag.
func (l tagList) get(name string) (string, bool) {
	t, ok := l.find(name)
	return t.value, ok
}

func (l tagList) find(name string) (tag, bool) {
	for _, t := range l {
		if t.name == name {
			return t, true
		}
	}
	return tag{}, false
}

// compact gives a text without white space.
func compact(s string) string {
	if !strings.ContainsAny(s, white) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(white, r) {
			return -1
		}
		return r
	}, s)
}

var errBase64 = errors.New("it is not in base64")

// decodeBase64 reads base64 with white space in it; the grammar has the padding as
// optional.
func decodeBase64(s string) ([]byte, error) {
	s = compact(s)
	bare := strings.TrimRight(s, "=")
	if len(s)-len(bare) > 2 {
		return nil, errBase64
	}
	data, err := base64.RawStdEncoding.DecodeString(bare)
	if err != nil {
		return nil, errBase64
	}
	return data, nil
}

// splitList gives the parts of a list with colons, without white space around
// them.
func splitList(s string) []string {
	parts := strings.Split(s, ":")
	for i, p := range parts {
		parts[i] = strings.Trim(p, white)
	}
	return parts
}
