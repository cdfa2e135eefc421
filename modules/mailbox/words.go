package mailbox

import (
	"io"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// wordDecoder decodes the encoded words of header fields (RFC 2047) in any
// charset that browsers know.
var wordDecoder = mime.WordDecoder{CharsetReader: func(charset string, r io.Reader) (io.Reader, error) {
	return toUTF8(charset, r), nil
}}

// decodeWords gives the text of a field's value in UTF-8. What cannot be decoded
// stays as it is.
func decodeWords(s string) string {
	if !utf8.ValidString(s) {
		// Mail that breaks the rule is nearly always Windows' western charset.
		s, _ = charmap.Windows1252.NewDecoder().String(s)
	}
	if !strings.Contains(s, "=?") {
		return s
	}
	decoded, err := wordDecoder.DecodeHeader(s)
	if err != nil {
		return s
	}
	return decoded
}

// toUTF8 gives a reader of UTF-8. Text in an unknown charset is taken as
// Windows-1252, which no byte breaks.
func toUTF8(charset string, r io.Reader) io.Reader {
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return r
	}
	encoding, err := htmlindex.Get(charset)
	if err != nil {
		encoding = charmap.Windows1252
	}
	return encoding.NewDecoder().Reader(r)
}
