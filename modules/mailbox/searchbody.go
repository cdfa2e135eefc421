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

// searchedBody is a message whose texts are searched. It reads in small steps.
type searchedBody struct {
	content   *store.BodyReader
	structure string
	fields    []mail.HeaderField // nil until they are needed
}

// headerContains tells whether a field of that name contains a folded text; ""
// stands for any field, with its name.
func (b *searchedBody) headerContains(s *search, name string, needle []byte) (bool, error) {
	if b.fields == nil {
		r := blobReader{b.structure}
		var err error
		if b.fields, err = b.readFields(0, r.part().body); err != nil {
			return false, err
		}
	}
	return fieldsContain(b.fields, name, func(text string) bool { return s.contains(text, needle) }), nil
}

func fieldsContain(fields []mail.HeaderField, name string, contains func(string) bool) bool {
	for _, f := range fields {
		switch {
		case name == "" && contains(f.Name+": "+decodeWords(f.Value())):
			return true
		case name != "" && strings.EqualFold(f.Name, name) && contains(decodeWords(f.Value())):
			return true
		}
	}
	return false
}

// readFields reads the header section at an offset.
func (b *searchedBody) readFields(begin, end int64) ([]mail.HeaderField, error) {
	raw := make([]byte, min(end-begin, mail.MaxHeaderSize))
	if _, err := b.content.ReadAt(raw, begin); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read header section: %w", err)
	}
	section, _, err := mail.ParseHeaderSection(raw)
	return section.Fields, err
}

// contains tells whether one of the texts of the body contains a folded text.
func (b *searchedBody) contains(needle []byte) (bool, error) {
	r := blobReader{b.structure}
	for r.rest != "" {
		p := r.part()
		var ok bool
		var err error
		switch p.kind {
		case kindText:
			ok, err = readerContains(b.text(&p), needle)
		case kindMessage:
			var fields []mail.HeaderField
			fields, err = b.readFields(p.body, p.text)
			ok = fieldsContain(fields, "", func(text string) bool { return bytes.Contains(appendFolded(nil, text), needle) })
		case kindMultipart, kindOther:
		}
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// text gives the decoded text of a part.
func (b *searchedBody) text(p *part) io.Reader {
	var r io.Reader = &section{io.NewSectionReader(b.content, p.body, p.end-p.body)}
	switch strings.ToLower(p.encoding) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	return toUTF8(p.parameters.find("charset"), r)
}

// section tells errors of the store from those of the decoders that read from
// it.
type section struct{ r io.Reader }

// Read marks errors as those of the store.
func (s *section) Read(p []byte) (int, error) {
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

// readerContains tells whether a text contains a folded one. Where a text cannot
// be decoded it ends, which is no error.
func readerContains(r io.Reader, needle []byte) (bool, error) {
	b := searchBuffers.Get().(*searchBuffer)
	defer searchBuffers.Put(b)
	b.folded = b.folded[:0]
	have := 0
	for {
		n, err := r.Read(b.raw[have:])
		have += n
		whole := have
		if err == nil {
			whole = wholeRunes(b.raw[:have])
		}
		b.folded = appendFolded(b.folded, b.raw[:whole])
		if bytes.Contains(b.folded, needle) {
			return true, nil
		}
		if err != nil {
			if _, failed := errors.AsType[*readError](err); failed {
				return false, err
			}
			return false, nil
		}
		have = copy(b.raw[:], b.raw[whole:have])
		// What may be the begin of a match is kept.
		keep := min(len(b.folded), max(len(needle)-1, 0))
		b.folded = append(b.folded[:0], b.folded[len(b.folded)-keep:]...)
	}
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
