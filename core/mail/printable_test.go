package mail_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                            "",
		"alice@example.test":          "alice@example.test",
		"jürgen 用户":                   "jürgen 用户",
		"a\r\nb\x00\x7f\x1b[2J":       "a??b???[2J",
		"\u0085\u009b\u2028\u2029":    "????",
		"\u202e\u2066\u200f\u061c":    "????",
		"a\xff":                       "a\ufffd",
		"12345678901234567890":        "12345678901234567890",
		"123456789012345678901":       "12345678901234567890…",
		"1234567890123456789ü":        "1234567890123456789…",
		strings.Repeat("\x00", 1<<16): strings.Repeat("?", 20) + "…",
	} {
		if got := mail.Printable(text, 20); got != want {
			t.Errorf("%.40q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"alice", "\u202e\xff\x00", "1234567890123456789ü"} {
		f.Add(s, 20)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		got := mail.Printable(s, limit)
		if !utf8.ValidString(got) || len(got) > max(limit, 0)+len("…") || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%q within %d gives %q", s, limit, got)
		}
	})
}
