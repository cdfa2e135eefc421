package milter

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// section is a header section that is being changed.
type section struct {
	fields []field
	// stray is what stands behind the fields if a line that is no field ends them: it
	// and all that follows in the header section, with the empty line. Milters are told
	// it as the beginning of the body, as Postfix does.
	stray []byte
}

// field is one field of a section.
type field struct {
	name string
	raw  []byte // with name, folds and line end
	own  bool   // the server's own Received field, which milters do not see
}

// newSection takes a header section with its empty line apart. id is that of the
// transaction.
func newSection(head []byte, id string) *section {
	header := mail.SplitRendered(head)
	s := &section{fields: make([]field, 0, len(header.Fields)+8)}
	size, found := 0, false
	for _, f := range header.Fields {
		if f.Name == "" {
			s.stray = head[size:]
			break
		}
		own := !found && isOwn(f, id)
		found = found || own
		s.fields = append(s.fields, field{name: f.Name, raw: f.Raw, own: own})
		size += len(f.Raw)
	}
	return s
}

// isOwn tells the Received field that the server has written about this transaction:
// nobody else knows its ID.
func isOwn(f mail.HeaderField, id string) bool {
	return strings.EqualFold(f.Name, "Received") && bytes.Contains(f.Raw, []byte("\tid "+id))
}

// told gives the value as a milter is told it: with LF between its lines, and with
// white space in front only if the milter wants that.
func (f *field) told(leading bool) string {
	_, value, _ := bytes.Cut(f.raw, []byte{':'})
	value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	if !leading {
		value = bytes.TrimLeft(value, " \t")
	}
	return strings.ReplaceAll(string(value), "\r\n", "\n")
}

// insert puts a field at a place, counted from 0 over all fields, the server's own
// among them; beyond the last it is the last.
func (s *section) insert(index uint32, name, value string) {
	at := len(s.fields)
	if uint64(index) < uint64(at) {
		at = int(index)
	}
	s.fields = slices.Insert(s.fields, at, newField(name, value))
}

// change gives the nth field of a name, counted from 1 over those that milters see,
// another value, and removes it if that is "". One more than there are is added at the
// end.
func (s *section) change(n uint32, name, value string) {
	i := slices.IndexFunc(s.fields, func(f field) bool {
		if !f.own && len(f.name) == len(name) && strings.EqualFold(f.name, name) {
			n--
		}
		return n == 0
	})
	switch {
	case i >= 0 && value == "":
		s.fields = slices.Delete(s.fields, i, i+1)
	case i >= 0:
		s.fields[i] = newField(name, value)
	case value != "":
		s.fields = append(s.fields, newField(name, value))
	}
}

// newField makes a field; the value begins with the white space that is to stand
// behind the colon.
func newField(name, value string) field {
	return field{name: name, raw: []byte(name + ":" + value + "\r\n")}
}

// head gives the header section with the empty line. Without the stray lines it ends
// with that in any case: the body is another one.
func (s *section) head(withStray bool) []byte {
	size := 2 + len(s.stray)
	for _, f := range s.fields {
		size += len(f.raw) + 2
	}
	head := make([]byte, 0, size)
	for _, f := range s.fields {
		head = append(head, f.raw...)
		if f.raw[len(f.raw)-1] != '\n' {
			head = append(head, "\r\n"...)
		}
	}
	if withStray && len(s.stray) > 0 {
		return append(head, s.stray...)
	}
	return append(head, "\r\n"...)
}

const (
	// maxName bounds the name of a field of a milter's. A name that it was told can
	// come back.
	maxName = maxToldName
	// maxShown bounds what an error shows of what a milter has sent, in bytes.
	maxShown = 80
)

var errFieldName = errors.New("a name has 1 to 998 printable US-ASCII characters, and no colon")

// checkName tells what is wrong with a field's name (RFC 5322 section 2.2).
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return errFieldName
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return errFieldName
		}
	}
	return nil
}

// cleanValue makes a milter's value one that cannot break out of its field: lines end
// with CR LF and all but the first begin with white space, no line is blank, and
// control characters are question marks. leading tells that it begins with the white
// space that it is to have; otherwise it gets a space.
func cleanValue(value string, leading bool) string {
	var b strings.Builder
	b.Grow(len(value) + 8)
	lines := strings.Split(strings.ReplaceAll(value, "\r\n", "\n"), "\n")
	if !leading {
		b.WriteByte(' ')
	}
	for i, line := range lines {
		switch {
		case i == 0:
		case strings.Trim(line, " \t\r") == "":
			continue
		case line[0] == ' ' || line[0] == '\t':
			b.WriteString("\r\n")
		default:
			b.WriteByte(' ') // it was no fold
		}
		line = strings.TrimRight(line, "\r")
		for j := range len(line) {
			c := line[j]
			if c < ' ' && c != '\t' || c == 0x7f {
				c = '?'
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}
