package mail

import (
	"bytes"
	"errors"
	"iter"
	"math"
	"strings"
)

// MaxHeaderSize bounds a header section, in bytes. Real ones stay below 64 KB.
const MaxHeaderSize = 256 << 10

// MaxHeaderFields bounds the fields of a message that is taken in. Real ones have
// less than 200.
const MaxHeaderFields = 2000

// ErrHeaderTooLarge is returned when a header section exceeds MaxHeaderSize or,
// in a message that is taken in, MaxHeaderFields.
var ErrHeaderTooLarge = errors.New("header section is larger than 256 KiB or has more than 2000 fields")

// HeaderSection is the list of header fields of a message (RFC 5322 section
// 2.2), in order.
type HeaderSection struct {
	Fields []HeaderField
}

// HeaderField is one field as it came.
type HeaderField struct {
	// Name is the field's name in its original case, "" for a line that is no
	// field.
	Name string
	// Raw is the field with its name, folds and the line end.
	Raw []byte
}

// Value gives the field's body, unfolded (RFC 5322 section 2.2.3) and without
// white space around it.
func (f HeaderField) Value() string {
	_, value, _ := bytes.Cut(f.Raw, []byte{':'})
	value = bytes.TrimSpace(value)
	if bytes.IndexByte(value, '\n') < 0 {
		return string(value)
	}
	var b strings.Builder
	for line := range bytes.Lines(value) {
		b.Write(bytes.TrimRight(line, "\r\n"))
	}
	return b.String()
}

// Get gives the value of the first field of that name, "" if there is none.
func (h HeaderSection) Get(name string) string {
	for f := range h.All(name) {
		return f.Value()
	}
	return ""
}

// All gives the fields of that name in order, whatever the case of the letters.
func (h HeaderSection) All(name string) iter.Seq[HeaderField] {
	return func(yield func(HeaderField) bool) {
		for _, f := range h.Fields {
			if len(f.Name) == len(name) && strings.EqualFold(f.Name, name) && !yield(f) {
				return
			}
		}
	}
}

// Count gives the number of fields of that name.
func (h HeaderSection) Count(name string) int {
	n := 0
	for range h.All(name) {
		n++
	}
	return n
}

// ParseHeaderSection splits the header section off a message, or off its first
// MaxHeaderSize bytes. The second result is where the body begins. It takes
// whatever strangers send: a line that is neither field nor fold ends the
// section when it is empty, and is kept as a field without a name otherwise.
// The fields share raw's memory.
func ParseHeaderSection(raw []byte) (HeaderSection, int, error) {
	return parseHeaderSection(raw, MaxHeaderSize, math.MaxInt)
}

// parseHeaderSection is ParseHeaderSection with a bound on the fields. A message
// that was taken in is read without one: the server has added fields to it, and
// it may have other messages in it.
func parseHeaderSection(raw []byte, maxSize, maxFields int) (HeaderSection, int, error) {
	fields := make([]HeaderField, 0, 16)
	offset := 0
	for offset < len(raw) {
		end := lineEnd(raw, offset)
		if isEmptyLine(raw[offset:end]) {
			return HeaderSection{Fields: fields}, end, headerLimit(end, maxSize)
		}
		for end < len(raw) && (raw[end] == ' ' || raw[end] == '\t') {
			end = lineEnd(raw, end)
		}
		fields = append(fields, newHeaderField(raw[offset:end:end]))
		if offset = end; offset > maxSize || len(fields) > maxFields {
			return HeaderSection{}, 0, ErrHeaderTooLarge
		}
	}
	return HeaderSection{Fields: fields}, len(raw), headerLimit(len(raw), maxSize)
}

func headerLimit(n, maxSize int) error {
	if n > maxSize {
		return ErrHeaderTooLarge
	}
	return nil
}

// lineEnd gives the offset after the line that begins at from.
func lineEnd(raw []byte, from int) int {
	if i := bytes.IndexByte(raw[from:], '\n'); i >= 0 {
		return from + i + 1
	}
	return len(raw)
}

func isEmptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// newHeaderField finds the name: printable US-ASCII without colon and space
// (RFC 5322 section 2.2), with the white space before the colon that the
// obsolete syntax allows.
func newHeaderField(raw []byte) HeaderField {
	i := bytes.IndexByte(raw, ':')
	if i <= 0 {
		return HeaderField{Raw: raw}
	}
	name := bytes.TrimRight(raw[:i], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return HeaderField{Raw: raw}
		}
	}
	return HeaderField{Name: string(name), Raw: raw}
}
