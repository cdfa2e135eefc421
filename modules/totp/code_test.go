package totp

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

func TestSplitCode(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, password, rest, code string }{
		{"code", "correct horse123456", "correct horse", "123456"},
		{"password ends in digits", "correct horse42123456", "correct horse42", "123456"},
		{"password of digits", "12345678123456", "12345678", "123456"},
		{"code alone", "123456", "", "123456"},
		{"five digits", "correct horse12345", "correct horse12345", ""},
		{"no digits", "correct horse", "correct horse", ""},
		{"space between", "correct horse 123456", "correct horse ", "123456"},
		{"space behind", "correct horse123456 ", "correct horse123456 ", ""},
		{"other digits", "correct horse١٢٣٤٥٦", "correct horse١٢٣٤٥٦", ""},
		{"recovery code", "correct horsek7rw-e3ph-q4ms-v8yz", "correct horse", "k7rw-e3ph-q4ms-v8yz"},
		{"recovery code in capitals", "correct horseK7RW-E3PH-Q4MS-V8YZ", "correct horse", "K7RW-E3PH-Q4MS-V8YZ"},
		{"recovery code alone", "k7rw-e3ph-q4ms-v8yz", "", "k7rw-e3ph-q4ms-v8yz"},
		{"recovery code of digits", "correct horse2345-2345-2345-2345", "correct horse", "2345-2345-2345-2345"},
		{"recovery code without hyphens", "correct horsek7rwe3phq4msv8yz", "correct horsek7rwe3phq4msv8yz", ""},
		{"code behind something like a recovery code", "k7rw-e3ph-q4ms-v8yz123456", "k7rw-e3ph-q4ms-v8yz", "123456"},
		{"odd group", "correct horsek7rw-e3ph-q4msv-8yz", "correct horsek7rw-e3ph-q4msv-8yz", ""},
		{"odd letter", "correct horsek7rw-e3ph-q4ms-v8yl", "correct horsek7rw-e3ph-q4ms-v8yl", ""},
		{"empty", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rest, code := new(Service).SplitCode(mail.Secret(tt.password))
			if rest.Reveal() != tt.rest || code.Reveal() != tt.code {
				t.Errorf("%q, %q, want %q, %q", rest.Reveal(), code.Reveal(), tt.rest, tt.code)
			}
		})
	}
}

// FuzzSplitCode finds that nothing is lost and that a code behind any password is
// found.
func FuzzSplitCode(f *testing.F) {
	for _, seed := range []string{"", "123456", "correct horse", "k7rw-e3ph-q4ms-v8yz", "k7rw-e3ph-q4ms-v", "-\xff-", "ſ23456", "K7rw-e3ph-q4ms-v8yz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, password string) {
		s := new(Service)
		rest, code := s.SplitCode(mail.Secret(password))
		if rest+code != mail.Secret(password) {
			t.Errorf("%q: %q, %q", password, rest.Reveal(), code.Reveal())
		}
		if code != "" && !isCode(code.Reveal()) {
			if _, ok := recoveryHash(code.Reveal()); !ok {
				t.Errorf("%q is no code", code.Reveal())
			}
		}
		for _, behind := range []mail.Secret{"123456", "k7rw-e3ph-q4ms-v8yz", "2345-2345-2345-2345"} {
			if rest, code := s.SplitCode(mail.Secret(password) + behind); rest.Reveal() != password || code != behind {
				t.Errorf("%q with %q behind it: %q, %q", password, behind.Reveal(), rest.Reveal(), code.Reveal())
			}
		}
	})
}

func TestNewRecoveryCodes(t *testing.T) {
	t.Parallel()
	for _, code := range newRecoveryCodes() {
		plain := code.Reveal()
		if len(plain) != 19 || strings.Count(plain, "-") != 3 || !isGrouped(plain) {
			t.Errorf("code %q", plain)
		}
	}
}
