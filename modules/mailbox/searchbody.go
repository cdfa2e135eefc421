package mailbox

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// searchedBody is a message whose texts are searched. It reads in small steps,
// and is used for one message after another.
type searchedBody struct {
	content   *store.BodyReader
	structure string       // "" if only the header section is searched
	ended     func() error // tells why reading shall stop
	fields    []searchedField
	arena     []byte // what is folded of the fields
	needles   needles
	searched  bool // the needles were looked for in the body
}

// searchedField is a field of the header section.
type searchedField struct {
	mail.HeaderField
	folded []byte // with its name, nil until it is needed
}

// begin goes on to another message.
func (b *searchedBody) begin(content *store.BodyReader, structure string, ended func() error) {
	b.content, b.structure, b.ended = content, structure, ended
	b.fields, b.arena, b.searched = b.fields[:0], b.arena[:0], false
	b.needles.reset()
}

// headerContains tells whether a field of that name contains a folded text; ""
// stands for any field, with its name.
func (b *searchedBody) headerContains(name string, needle []byte) (bool, error) {
	if len(b.fields) == 0 {
		if err := b.readHeader(); err != nil {
			return false, err
		}
	}
	for i := range b.fields {
		f := &b.fields[i]
		if name != "" && !strings.EqualFold(f.Name, name) {
			continue
		}
		if f.folded == nil {
			begin := len(b.arena)
			b.arena = appendFoldedField(b.arena, f.HeaderField)
			f.folded = b.arena[begin:]
		}
		text := f.folded
		if name != "" {
			text = text[len(f.Name)+len(": "):]
		}
		if bytes.Contains(text, needle) {
			return true, nil
		}
	}
	return false, nil
}

// appendFoldedField appends a field with its name, which is US-ASCII.
func appendFoldedField(b []byte, f mail.HeaderField) []byte {
	b = append(appendFolded(b, f.Name), ": "...)
	return appendFolded(b, decodeWords(f.Value()))
}

// readHeader reads the fields of the message.
func (b *searchedBody) readHeader() error {
	end := b.content.Size()
	if r := (blobReader{b.structure}); b.structure != "" {
		end = r.part().body
	}
	fields, err := b.readFields(0, end)
	for _, f := range fields {
		b.fields = append(b.fields, searchedField{HeaderField: f})
	}
	return err
}

// readFields reads the header section at an offset.
func (b *searchedBody) readFields(begin, end int64) ([]mail.HeaderField, error) {
	if err := b.ended(); err != nil {
		return nil, err
	}
	raw := make([]byte, min(end-begin, mail.MaxHeaderSize))
	if _, err := b.content.ReadAt(raw, begin); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read header section: %w", err)
	}
	section, _, err := mail.ParseHeaderSection(raw)
	return section.Fields, err
}

// contains tells whether one of the texts of the body contains a needle. All
// needles are looked for when the first is asked for.
func (b *searchedBody) contains(needle int) (bool, error) {
	if !b.searched {
		b.searched = true
		if err := b.search(); err != nil {
			return false, err
		}
	}
	return b.needles.found[needle], nil
}

// search looks for the needles in the texts of the body.
func (b *searchedBody) search() error {
	r := blobReader{b.structure}
	for r.rest != "" && b.needles.missing > 0 {
		p := r.part()
		switch p.kind {
		case kindText:
			if err := b.needles.lookIn(b.text(&p)); err != nil {
				return err
			}
		case kindMessage:
			fields, err := b.readFields(p.body, p.text)
			if err != nil {
				return err
			}
			for _, f := range fields {
				b.needles.look(appendFoldedField(nil, f), 0)
			}
		case kindMultipart, kindOther:
		}
	}
	return nil
}

// text gives the decoded text of a part.
func (b *searchedBody) text(p *part) io.Reader {
	var r io.Reader = &section{io.NewSectionReader(b.content, p.body, p.end-p.body), b.ended}
	switch strings.ToLower(p.encoding) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	return toUTF8(p.parameters.find("charset"), r)
}

// section tells errors of the store from those of the decoders that read from
// it, and ends when the search shall.
type section struct {
	r     io.Reader
	ended func() error
}

// Read marks errors as those of the store.
func (s *section) Read(p []byte) (int, error) {
	if err := s.ended(); err != nil {
		return 0, &readError{err}
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readError{err}
	}
	return n, err
}

// readError is an error of the store.
type readError struct{ cause error }

// Error says what was tried.
func (e *readError) Error() string { return "read message: " + e.cause.Error() }

// Unwrap gives the cause.
func (e *readError) Unwrap() error { return e.cause }

// searchBuffer is what a search through a text works on.
type searchBuffer struct {
	raw    [16 << 10]byte
	folded []byte
}

var searchBuffers = sync.Pool{New: func() any { return new(searchBuffer) }}

// needles are folded texts that are looked for together.
type needles struct {
	texts   [][]byte
	found   []bool // which of them the message contains
	missing int    // how many it does not, as far as is known
	longest int    // bytes
}

// add gives the number of a text.
func (n *needles) add(text string) int {
	folded := appendFolded(nil, text)
	n.texts = append(n.texts, folded)
	n.found = append(n.found, false)
	n.longest = max(n.longest, len(folded))
	return len(n.texts) - 1
}

// reset forgets what was found.
func (n *needles) reset() {
	clear(n.found)
	n.missing = len(n.texts)
}

// look looks into a folded text. Its first old bytes were looked at before.
func (n *needles) look(folded []byte, old int) {
	for i, text := range n.texts {
		from := max(old-max(len(text)-1, 0), 0)
		if !n.found[i] && bytes.Contains(folded[from:], text) {
			n.found[i] = true
			n.missing--
		}
	}
}

// lookIn looks into a text until all needles are found. Where a text cannot be
// decoded it ends, which is no error.
func (n *needles) lookIn(r io.Reader) error {
	b := searchBuffers.Get().(*searchBuffer)
	defer searchBuffers.Put(b)
	b.folded = b.folded[:0]
	have := 0
	for n.missing > 0 {
		// Decoders give little at a time, and what is kept is looked at each time.
		more, err := io.ReadFull(r, b.raw[have:])
		have += more
		whole := have
		if err == nil {
			whole = wholeRunes(b.raw[:have])
		}
		old := len(b.folded)
		b.folded = appendFolded(b.folded, b.raw[:whole])
		n.look(b.folded, old)
		if failed, ok := errors.AsType[*readError](err); ok {
			return failed
		}
		if err != nil {
			return nil
		}
		have = copy(b.raw[:], b.raw[whole:have])
		// What may be the begin of a match is kept.
		keep := min(len(b.folded), max(n.longest-1, 0))
		b.folded = append(b.folded[:0], b.folded[len(b.folded)-keep:]...)
	}
	return nil
}

// wholeRunes gives the length of text without a rune that is cut at its end.
func wholeRunes(text []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if c := text[len(text)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-i:]) {
				return len(text) - i
			}
			break
		}
	}
	return len(text)
}

// appendFolded appends a text in lower case, the form in which texts are
// compared.
func appendFolded[T string | []byte](b []byte, text T) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
		b = utf8.AppendRune(b, unicode.ToLower(r))
		i += n
	}
	return b
}
