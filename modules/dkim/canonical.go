package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// canonicalization is how a header section or a body is made equal to what it was
// before servers on its way touched it (RFC 6376 section 3.4).
type canonicalization uint8

const (
	simple canonicalization = iota
	relaxed
)

// String gives the name in c=.
func (c canonicalization) String() string {
	if c == relaxed {
		return "relaxed"
	}
	return "simple"
}

const crlf = "\r\n"

// appendField appends a header field in canonical form, with its line end. A line
// end without CR, or none, counts as CR LF.
func (c canonicalization) appendField(dst, raw []byte) []byte {
	if c == relaxed {
		return appendRelaxed(dst, raw)
	}
	for line := range bytes.Lines(raw) {
		dst = append(dst, trimLineEnd(line)...)
		dst = append(dst, crlf...)
	}
	return dst
}

// trimLineEnd gives a line without its LF or CR LF.
func trimLineEnd(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
		if n > 1 && line[n-2] == '\r' {
			line = line[:n-2]
		}
	}
	return line
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// appendRelaxed is appendField by RFC 6376 section 3.4.2: the name in lower case,
// the value unfolded, each run of white space one space, none around.
func appendRelaxed(dst, raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte{':'})
	for _, c := range bytes.TrimRight(name, " \t") {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	start, space := len(dst), false
	for line := range bytes.Lines(value) {
		for _, c := range trimLineEnd(line) {
			if isWSP(c) {
				space = true
				continue
			}
			if space && len(dst) > start {
				dst = append(dst, ' ')
			}
			space = false
			dst = append(dst, c)
		}
	}
	return append(dst, crlf...)
}

// fieldIndex finds the fields of a header section: names in lower case to
// positions, from the top. Lines that are no field have the name noName, which h=
// cannot have. It is immutable.
type fieldIndex map[string][]int

const noName = ""

func newFieldIndex(h mail.HeaderSection) fieldIndex {
	index := make(fieldIndex, len(h.Fields))
	for i, f := range h.Fields {
		name := strings.ToLower(f.Name)
		index[name] = append(index[name], i)
	}
	return index
}

// strayLine is what is wrong with a header section that has a line which is no
// field: no signature covers it, and programs that take it for the beginning of the
// body show it as the author's text.
const strayLine = "the header has a line that is no field"

func hasStrayLine(h mail.HeaderSection) bool {
	return slices.ContainsFunc(h.Fields, func(f mail.HeaderField) bool { return f.Name == noName })
}

// noField is the position of a field that is not in the header section yet.
const noField = -1

// headerHash computes the hash that is signed (RFC 6376 section 3.7): the fields
// of names, which are in lower case, each further one of a name standing for the
// next field above, and then the signature's own field without its value. own is
// the position of the latter, which names never mean.
func headerHash(h mail.HeaderSection, index fieldIndex, names []string, c canonicalization, own int, ownField []byte) []byte {
	digest := sha256.New()
	used := make(map[string]int, len(names))
	buffer := make([]byte, 0, 512)
	for _, name := range names {
		list := index[name]
		left := len(list) - used[name]
		if left > 0 && list[left-1] == own {
			used[name]++
			left--
		}
		if left <= 0 {
			continue
		}
		used[name]++
		buffer = c.appendField(buffer[:0], h.Fields[list[left-1]].Raw)
		digest.Write(buffer)
	}
	buffer = c.appendField(buffer[:0], ownField)
	digest.Write(bytes.TrimSuffix(buffer, []byte(crlf)))
	return sum(digest)
}

func sum(h hash.Hash) []byte { return h.Sum(make([]byte, 0, sha256.Size)) }
