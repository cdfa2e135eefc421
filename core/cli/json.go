package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// newJSON encodes for programs what strangers have written, in a form that does no
// harm to a terminal: JSON lets control characters of C1 and those that turn the
// direction of writing stand as they are.
func newJSON(w io.Writer) *json.Encoder { return json.NewEncoder(harmlessJSON{w}) }

// harmlessJSON writes JSON with what is not printable as \u escapes, which mean the
// same. Each write is a whole value.
type harmlessJSON struct{ w io.Writer }

// Write implements io.Writer.
func (h harmlessJSON) Write(p []byte) (int, error) {
	if _, err := h.w.Write(escaped(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escaped gives JSON without what is not printable, but for the line breaks and
// spaces between its values.
func escaped(p []byte) []byte {
	var b bytes.Buffer
	rest := p
	for i := 0; i < len(p); {
		r, size := utf8.DecodeRune(p[i:])
		if strconv.IsPrint(r) || r == '\n' || r == '\t' || r == utf8.RuneError {
			i += size
			continue
		}
		b.Write(rest[:len(rest)-len(p)+i])
		if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
			fmt.Fprintf(&b, `\u%04x\u%04x`, r1, r2)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
		rest = p[i:]
	}
	if b.Len() == 0 {
		return p
	}
	b.Write(rest)
	return b.Bytes()
}
