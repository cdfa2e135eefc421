package dns_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/dns"
)

// TestZone finds that a zone answers as a server with it would, and that nobody else
// is asked.
func TestZone(t *testing.T) {
	t.Parallel()
	r, err := dns.NewZone(t.Context(), `
$ORIGIN example.org.
@         IN TXT   "v=spf1 " "-all"
@         IN MX 10 mail
mail      IN A     192.0.2.1
alias     IN CNAME mail
loop      IN CNAME loop
*.wild    IN A     192.0.2.2
1.2.0.192.in-addr.arpa. IN PTR mail
`, dns.Options{ResolvConf: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if texts, err := r.LookupTXT(t.Context(), "Example.ORG"); err != nil || !slices.Equal(texts, []string{"v=spf1 -all"}) {
		t.Errorf("TXT: %q, %v", texts, err)
	}
	for name, want := range map[string]string{"mail.example.org": "192.0.2.1", "alias.example.org": "192.0.2.1", "a.b.wild.example.org": "192.0.2.2"} {
		if addrs, err := r.LookupIP(t.Context(), "ip", name); err != nil || !slices.Equal(addrs, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("%s: %v, %v", name, addrs, err)
		}
	}
	if names, err := r.LookupAddr(t.Context(), netip.MustParseAddr("192.0.2.1")); err != nil || !slices.Equal(names, []string{"mail.example.org"}) {
		t.Errorf("PTR: %q, %v", names, err)
	}
	_, err = r.LookupTXT(t.Context(), "mail.example.org")
	if lookup, ok := errors.AsType[*dns.Error](err); !ok || !errors.Is(err, dns.ErrNotFound) || lookup.NXDomain || lookup.Server != "" {
		t.Errorf("no record: %+v", err)
	}
	_, err = r.LookupTXT(t.Context(), "example.net")
	if lookup, ok := errors.AsType[*dns.Error](err); !ok || !errors.Is(err, dns.ErrNotFound) || !lookup.NXDomain {
		t.Errorf("no name: %+v", err)
	}
	if _, err := r.LookupTXT(t.Context(), "loop.example.org"); !dns.Temporary(err) {
		t.Errorf("loop: %v", err)
	}
	for text, want := range map[string]string{
		"a IN NONSENSE": "read zone: ", "$INCLUDE /etc/passwd": "read zone: ",
		"$GENERATE 1-60000 a$ A 192.0.2.1\n": "read zone: it has $GENERATE",
	} {
		if _, err := dns.NewZone(t.Context(), text, dns.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}
