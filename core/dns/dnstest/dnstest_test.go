package dnstest_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestZone(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, `
a.b.example.org. A 192.0.2.1
*.wild.example.org. A 192.0.2.2
under.wild.example.org. TXT "no address"
*.alias.example.org. CNAME a.b.example.org.
`)
	r := server.Resolver(t)
	tests := []struct {
		name, want string // "" is not found
		noName     bool
	}{
		{"a.b.example.org", "192.0.2.1", false},
		{"b.example.org", "", false}, // stands above a name
		{"c.example.org", "", true},
		{"any.wild.example.org", "192.0.2.2", false},
		{"any.other.wild.example.org", "192.0.2.2", false},
		{"under.wild.example.org", "", false},
		{"below.under.wild.example.org", "", true},
		{"any.alias.example.org", "192.0.2.1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addrs, err := r.LookupIP(t.Context(), "ip4", tt.name)
			if tt.want != "" {
				if err != nil || !slices.Equal(addrs, []netip.Addr{netip.MustParseAddr(tt.want)}) {
					t.Errorf("addresses %v, error %v", addrs, err)
				}
				return
			}
			if !errors.Is(err, dns.ErrNotFound) || dns.NoName(err) != tt.noName {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, "example.org. 0 A 192.0.2.1")
	r := server.Resolver(t)
	ask := func(want string) {
		t.Helper()
		addrs, err := r.LookupIP(t.Context(), "ip4", "example.org")
		if err != nil || !slices.Equal(addrs, []netip.Addr{netip.MustParseAddr(want)}) {
			t.Errorf("addresses %v, error %v, want %s", addrs, err, want)
		}
	}
	ask("192.0.2.1")
	server.Set("example.org. 0 A 192.0.2.2")
	ask("192.0.2.2")
	server.Fail("example.org", dnstest.WrongSource)
	ask("192.0.2.2")
	server.Stop()
	if _, err := r.LookupIP(t.Context(), "ip4", "example.org"); !dns.Temporary(err) {
		t.Errorf("error %v of a server that has stopped", err)
	}
	if n := server.Questions("example.org", dns.TypeA); n != 3 {
		t.Errorf("%d questions are counted", n)
	}
}
