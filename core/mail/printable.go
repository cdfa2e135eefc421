package mail

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes what a client says fit for a log and for the terminal that
// shows it: at most limit bytes, then an ellipsis, and in place of all that is
// not to be seen (control characters, line separators, what turns the direction
// of a text) question marks.
func Printable(text string, limit int) string {
	if len(text) <= limit && isPrintableASCII(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isInvisible(r) {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isInvisible tells runes that show nothing or change how others are shown.
func isInvisible(r rune) bool { return !unicode.IsGraphic(r) }
