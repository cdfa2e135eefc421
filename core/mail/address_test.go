package mail_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in, want string
		err      error
	}{
		"plain":                     {"alice@example.test", "alice@example.test", nil},
		"case of the domain":        {"Alice@Example.TEST", "Alice@example.test", nil},
		"subaddress":                {"alice+tag@example.test", "alice+tag@example.test", nil},
		"postmaster alone":          {"Postmaster", "Postmaster", nil},
		"quoted":                    {`"a b"@example.test`, `"a b"@example.test`, nil},
		"needlessly quoted":         {`"alice"@example.test`, "alice@example.test", nil},
		"quoted with escapes":       {`"a\"\\b"@example.test`, `"a\"\\b"@example.test`, nil},
		"at sign in quotes":         {`"a@b"@example.test`, `"a@b"@example.test`, nil},
		"IPv4 literal":              {"a@[192.0.2.1]", "a@[192.0.2.1]", nil},
		"IPv6 literal":              {"a@[IPv6:2001:DB8::1]", "a@[IPv6:2001:db8::1]", nil},
		"U-labels":                  {"a@bücher.example", "a@bücher.example", nil},
		"A-labels":                  {"a@xn--bcher-kva.example", "a@bücher.example", nil},
		"UTF-8 local-part":          {"用户@example.test", "用户@example.test", nil},
		"one label":                 {"root@localhost", "root@localhost", nil},
		"no at":                     {"alice", "", mail.ErrAddressSyntax},
		"empty":                     {"", "", mail.ErrAddressSyntax},
		"no local-part":             {"@example.test", "", mail.ErrAddressSyntax},
		"no domain":                 {"alice@", "", mail.ErrAddressDomain},
		"two at signs":              {"a@b@example.test", "", mail.ErrAddressDomain},
		"dot at the end":            {"alice.@example.test", "", mail.ErrAddressSyntax},
		"two dots":                  {"a..b@example.test", "", mail.ErrAddressSyntax},
		"space":                     {"a b@example.test", "", mail.ErrAddressSyntax},
		"line break":                {"a\r\nRCPT@example.test", "", mail.ErrAddressSyntax},
		"line break in quotes":      {"\"a\r\nb\"@example.test", "", mail.ErrAddressSyntax},
		"NUL":                       {"a\x00@example.test", "", mail.ErrAddressSyntax},
		"C1 control in quotes":      {"\"a\u009b2Jb\"@example.test", "", mail.ErrAddressSyntax},
		"C1 control":                {"a\u0085b@example.test", "", mail.ErrAddressSyntax},
		"line separator in quotes":  {"\"a\u2028b\"@example.test", "", mail.ErrAddressSyntax},
		"bidi override in quotes":   {"\"a\u202eb\"@example.test", "", mail.ErrAddressSyntax},
		"bidi mark":                 {"a\u200fb@example.test", "", mail.ErrAddressSyntax},
		"UTF-8 in quotes":           {`"ü b"@example.test`, `"ü b"@example.test`, nil},
		"open quote":                {`"alice@example.test`, "", mail.ErrAddressSyntax},
		"broken UTF-8":              {"a\xff@example.test", "", mail.ErrAddressSyntax},
		"hyphen at a label's start": {"a@-b.example", "", mail.ErrAddressDomain},
		"empty label":               {"a@b..example", "", mail.ErrAddressDomain},
		"root dot":                  {"a@example.test.", "", mail.ErrAddressDomain},
		"underscore":                {"a@b_c.example", "", mail.ErrAddressDomain},
		"literal with a zone":       {"a@[IPv6:fe80::1%eth0]", "", mail.ErrAddressDomain},
		"IPv6 without the tag":      {"a@[2001:db8::1]", "", mail.ErrAddressDomain},
		"long local-part":           {strings.Repeat("a", 65) + "@example.test", "", mail.ErrAddressLength},
		"long domain":               {"a@" + strings.Repeat("a.", 128) + "test", "", mail.ErrAddressLength},
		"long label":                {"a@" + strings.Repeat("a", 64) + ".test", "", mail.ErrAddressDomain},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := mail.ParseAddress(tt.in)
			if !errors.Is(err, tt.err) || got.String() != tt.want {
				t.Errorf("ParseAddress(%q) = %q, %v; want %q, %v", tt.in, got, err, tt.want, tt.err)
			}
		})
	}
}

func TestAddressForms(t *testing.T) {
	t.Parallel()
	a, err := mail.ParseAddress("Alice+News@Example.test")
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Base().Fold().String(); got != "alice@example.test" {
		t.Errorf("base, folded: %q", got)
	}
	if got := (mail.Address{LocalPart: "+tag", Domain: "example.test"}).Base().String(); got != "+tag@example.test" {
		t.Errorf("base of a local-part that is all subaddress: %q", got)
	}
	if null := (mail.Address{}); !null.IsNull() || null.String() != "" {
		t.Errorf("the null reverse-path is %q", null)
	}
	if a.ASCII() != true || (mail.Address{LocalPart: "ü", Domain: "example.test"}).ASCII() {
		t.Error("ASCII is wrong")
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"alice@example.test", `"a\"b"@example.test`, "a@[IPv6:::1]", "postmaster", "a@xn--bcher-kva.example", "用户@例え.example", "@", `""@a`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := mail.ParseAddress(s)
		if err != nil {
			return
		}
		printed := a.String()
		if strings.ContainsAny(printed, "\r\n\x00<>") && !strings.HasPrefix(printed, `"`) {
			t.Errorf("%q prints as %q", s, printed)
		}
		again, err := mail.ParseAddress(printed)
		if err != nil || again != a {
			t.Errorf("%q prints as %q, which reads as %#v, %v", s, printed, again, err)
		}
	})
}
