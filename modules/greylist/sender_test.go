package greylist

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
)

func TestNormalSender(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, address, want string }{
		{"plain", "bob@example.org", "bob@example.org"},
		{"case", "Bob@Example.ORG", "bob@example.org"},
		{"subaddress", "bob+news@example.org", "bob@example.org"},
		{"VERP", "bounce+alice=example.test@example.org", "bounce@example.org"},
		{"VERP with a hyphen", "list-bounces-alice=example.test@example.org", "list@example.org"},
		{"VERP with a number", "bounce-4711-alice.b=example.test@example.org", "bounce@example.org"},
		{"VERP alone", "alice=example.test@bounce.example.org", "=@bounce.example.org"},
		{"number", "news-2026-11@example.org", "news-#-#@example.org"},
		{"number in a word", "x1y22@example.org", "x#y#@example.org"},
		{"hexadecimal", "bounce-1a2b3c4d@example.org", "bounce-#@example.org"},
		{"word of hexadecimal letters", "decade@example.org", "decade@example.org"},
		{"identifiers", "0100018f2b3c4d5e-1a2b3c4d-9f8e-4d5c-b6a7-000000@example.org", "#-#-#f#e-#d#c-b#a#-#@example.org"},
		{"long identifier", "xk7qzp2mw9rt4vbn8@example.org", "#@example.org"},
		{"BATV", "prvs=0123abcdef=bob@example.org", "bob@example.org"},
		{"BATV in capitals", "PRVS=0123ABCDEF=Bob@example.org", "bob@example.org"},
		{"BATV of msprvs1", "msprvs1=19876abcdefgh=bob@example.org", "bob@example.org"},
		{"BATV of btv1", "btv1==0123abcdef==bob@example.org", "bob@example.org"},
		{"BATV without a local-part", "prvs=0123abcdef=@example.org", "=@example.org"},
		{"BATV around VERP", "prvs=0123abcdef=bounce+alice=example.test@example.org", "bounce@example.org"},
		{"SRS0", "SRS0=HHHH=TT=example.org=bob@example.net", "bob@example.org"},
		{"SRS0 with +", "srs0+hhhh=tt=example.org=bob@example.net", "bob@example.org"},
		{"SRS0 with -", "SRS0-hhhh=tt=example.org=Bob@example.net", "bob@example.org"},
		{"SRS0 around BATV", "SRS0=HHHH=TT=example.org=prvs=0123abcdef=bob@example.net", "bob@example.org"},
		{"SRS0 around VERP", "SRS0=HHHH=TT=example.org=bounce-alice=example.test@example.net", "bounce@example.org"},
		{"SRS1", "SRS1=GGGG=example.net==HHHH=TT=example.org=bob@example.com", "bob@example.org"},
		{"SRS1 over SRS0 with -", "SRS1=GGGG=example.net=-HHHH=TT=example.org=bob@example.com", "bob@example.org"},
		{"SRS0 cut off", "SRS0=HHHH=TT@example.net", "=@example.net"},
		{"SRS0 without a domain", "SRS0=HHHH=TT=!=bob@example.net", "=@example.net"},
		{"SRS1 cut off", "SRS1=GGGG=example.net=@example.com", "=@example.com"},
		{"quoted", `"a b"@example.org`, `"a b"@example.org`},
		{"UTF-8", "BÜCHER1@BÜCHER.example", "bücher#@bücher.example"},
		{"address literal", "bob@[192.0.2.1]", "bob@[192.0.2.1]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := normalSender(address(t, tt.address))
			if got.String() != tt.want {
				t.Errorf("%s becomes %s, want %s", tt.address, got, tt.want)
			}
			if again := normalSender(got); again != got {
				t.Errorf("the normal form of %s is %s", got, again)
			}
		})
	}
	if got := senderName(normalSender(mail.Address{})); got != "<>" {
		t.Errorf("the null reverse-path becomes %q", got)
	}
}

// TestPlainAddress finds that nobody gets an address of another domain by what
// the local-part says.
func TestPlainAddress(t *testing.T) {
	t.Parallel()
	tests := []struct{ address, plain, lasting string }{
		{"Bob42+x@example.org", "bob42@example.org", "bob#@example.org"},
		{"prvs=0123abcdef=bob42@example.org", "bob42@example.org", "bob#@example.org"},
		{"bounce-42-alice=example.test@example.org", "bounce-42-alice=example.test@example.org", "bounce@example.org"},
		{"SRS0=HHHH=TT=example.org=bob@example.net", "srs0=hhhh=tt=example.org=bob@example.net", "=@example.net"},
		{"SRS0+HHHH=TT=example.org=bob@example.net", "srs0@example.net", "srs#@example.net"},
		{"SRS1=GGGG=example.net==HHHH=TT=example.org=bob@example.com", "srs1=gggg=example.net==hhhh=tt=example.org=bob@example.com", "=@example.com"},
		{"prvs=0=srs0=hhhh=tt=example.org=bob@example.net", "srs0=hhhh=tt=example.org=bob@example.net", "=@example.net"},
	}
	for _, tt := range tests {
		if got := plainAddress(address(t, tt.address)).String(); got != tt.plain {
			t.Errorf("%s is plainly %s, want %s", tt.address, got, tt.plain)
		}
		if got := lastingAddress(address(t, tt.address)).String(); got != tt.lasting {
			t.Errorf("what lasts of %s is %s, want %s", tt.address, got, tt.lasting)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxName-1) + "üü"
	if got := bounded(long); got != long[:maxName-1] {
		t.Errorf("cut to %d bytes, want %d", len(got), maxName-1)
	}
	if got := bounded("bob@example.org"); got != "bob@example.org" {
		t.Errorf("a short name becomes %q", got)
	}
}

// FuzzNormalSender finds that every address has a normal form, which is its own
// normal form, and that its name is bounded.
func FuzzNormalSender(f *testing.F) {
	for _, seed := range []string{
		"bob@example.org", "prvs=0123abcdef=bob@example.org", "SRS0=HHHH=TT=example.org=bob@example.net",
		"SRS1=GGGG=example.net==HHHH=TT=example.org=bob@example.com", "bounce+alice=example.test@example.org",
		"list-bounces-42-alice=example.test@example.org", "0100018f2b3c4d5e-1a2b3c4d@example.org",
		`"prvs=1=SRS0=a=b=c.example=d+e"@example.org`, "srs0=a=b=[192.0.2.1]=srs1=a=b==c=d=e.example=f@example.org", "btv1==1==@example.org",
		"ĲȺ1@example.org", "bob@xn--bcher-kva.example",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := mail.ParseAddress(s)
		if err != nil {
			return
		}
		for name, normal := range map[string]func(mail.Address) mail.Address{"normal": normalSender, "plain": plainAddress, "lasting": lastingAddress} {
			once := normal(a)
			if again := normal(once); again != once {
				t.Errorf("%s form %q has the %s form %q", name, once, name, again)
			}
			if len(once.LocalPart) > 2*len(a.LocalPart) {
				t.Errorf("%s form of %q is %q", name, a, once)
			}
			if name != "normal" && once.Domain != a.Domain {
				t.Errorf("%s form of %q is of another domain: %q", name, a, once)
			}
			if got := senderName(once); got == "" || len(got) > maxName || !utf8.ValidString(got) {
				t.Errorf("name %q of %q", got, a)
			}
		}
		if n := normalSender(a).LocalPart; strings.ContainsAny(n, "0123456789") {
			t.Errorf("normal form %q of %q has digits", n, a)
		}
	})
}
