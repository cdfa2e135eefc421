package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = `
example.org.           300 MX 20 mx2.example.org.
example.org.           300 MX 10 mx1.example.org.
example.org.           300 TXT "v=spf1 " "-all"
example.org.           300 TXT "quote \" and \\ and \195\188"
example.org.           300 NS ns1.example.org.
example.org.           300 SOA ns1.example.org. hostmaster.example.org. 7 3600 600 86400 120
mx1.example.org.       300 A 192.0.2.1
mx1.example.org.       300 A 192.0.2.2
mx1.example.org.       300 AAAA 2001:db8::1
four.example.org.      300 A 192.0.2.4
null.example.org.      300 MX 0 .
www.example.org.        60 CNAME web.example.org.
web.example.org.       300 A 192.0.2.80
lost.example.org.      300 CNAME nowhere.example.org.
loop1.example.org.     300 CNAME loop2.example.org.
loop2.example.org.     300 CNAME loop1.example.org.
_25._tcp.mx1.example.org. 300 TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
a+b=c%d!e/f._spf.example.org. 300 TXT "odd"
alice\@example.net.odd.example.org. 300 TXT "at"
xn--bcher-kva.example. 300 A 192.0.2.9
1.2.0.192.in-addr.arpa. 300 PTR mx1.example.org.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 PTR mx1.example.org.
`

// kind names the sentinel that an error matches.
func kind(err error) string {
	for _, k := range []error{dns.ErrNotFound, dns.ErrTemporary, dns.ErrBadName} {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return fmt.Sprint(err)
}

const (
	ok        = "<nil>"
	notFound  = "no such record"
	temporary = "temporary failure"
	badName   = "not a domain name"
)

func TestLookups(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	r := server.Resolver(t)
	ip := func(network string) func(context.Context, string) (any, error) {
		return func(ctx context.Context, name string) (any, error) { return r.LookupIP(ctx, network, name) }
	}
	txt := func(ctx context.Context, name string) (any, error) { return r.LookupTXT(ctx, name) }
	mx := func(ctx context.Context, name string) (any, error) { return r.LookupMX(ctx, name) }
	addr := func(ctx context.Context, name string) (any, error) {
		return r.LookupAddr(ctx, netip.MustParseAddr(name))
	}
	addrs := func(list ...string) any {
		out := make([]netip.Addr, len(list))
		for i, a := range list {
			out[i] = netip.MustParseAddr(a)
		}
		return out
	}
	tests := []struct {
		name   string
		lookup func(context.Context, string) (any, error)
		of     string
		want   any
		kind   string
	}{
		{"both", ip("ip"), "mx1.example.org", addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), ok},
		{"last dot", ip("ip4"), "mx1.example.org.", addrs("192.0.2.1", "192.0.2.2"), ok},
		{"upper case", ip("ip6"), "MX1.Example.ORG", addrs("2001:db8::1"), ok},
		{"one of both", ip("ip"), "four.example.org", addrs("192.0.2.4"), ok},
		{"no IPv6", ip("ip6"), "four.example.org", nil, notFound},
		{"neither", ip("ip"), "example.org", nil, notFound},
		{"no name", ip("ip"), "none.example.org", nil, notFound},
		{"alias", ip("ip4"), "www.example.org", addrs("192.0.2.80"), ok},
		{"alias of nothing", ip("ip4"), "lost.example.org", nil, notFound},
		{"loop of aliases", ip("ip4"), "loop1.example.org", nil, temporary},
		{"unicode", ip("ip4"), "Bücher.example", addrs("192.0.2.9"), ok},
		{"texts", txt, "example.org", []string{"v=spf1 -all", `quote " and \ and ü`}, ok},
		{"odd name", txt, "a+b=c%d!e/f._spf.example.org", []string{"odd"}, ok},
		{"name with an at sign", txt, "alice@example.net.odd.example.org", []string{"at"}, ok},
		{"exchangers", mx, "example.org", []*net.MX{{Host: "mx1.example.org", Pref: 10}, {Host: "mx2.example.org", Pref: 20}}, ok},
		{"null exchanger", mx, "null.example.org", []*net.MX{{Host: ".", Pref: 0}}, ok},
		{"no exchanger", mx, "mx1.example.org", nil, notFound},
		{"reverse", addr, "192.0.2.1", []string{"mx1.example.org"}, ok},
		{"reverse of mapped", addr, "::ffff:192.0.2.1", []string{"mx1.example.org"}, ok},
		{"reverse of IPv6", addr, "2001:db8::1", []string{"mx1.example.org"}, ok},
		{"no reverse", addr, "192.0.2.9", nil, notFound},
		{"empty", txt, "", nil, badName},
		{"root", ip("ip"), ".", nil, badName},
		{"empty label", txt, "a..example.org", nil, badName},
		{"long label", txt, strings.Repeat("a", 64) + ".example.org", nil, badName},
		{"long name", txt, strings.Repeat("a.", 127) + "org", nil, badName},
		{"broken unicode", txt, "\xff.example.org", nil, badName},
		{"longest label", txt, strings.Repeat("a", 63) + ".example.org", nil, notFound},
		{"longest name", txt, strings.Repeat("a.", 126) + "b", nil, notFound},
		{"control characters", txt, "a\x00\n\\b\" c.example.org", nil, notFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.lookup(t.Context(), tt.of)
			if kind(err) != tt.kind {
				t.Fatalf("error %v, want %s", err, tt.kind)
			}
			if tt.want == nil {
				return
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	clock := coretest.NewClock(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC))
	r := server.ResolverWith(t, dns.Settings{}, dns.Options{Now: clock.Now})
	tests := []struct {
		name string
		typ  dns.Type
		want dns.Answer
	}{
		{"_25._tcp.mx1.example.org", dns.TypeTLSA, dns.Answer{
			Name: "_25._tcp.mx1.example.org", TTL: 300 * time.Second,
			TLSA: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte(strings.Repeat("\x01\x23\x45\x67\x89\xab\xcd\xef", 4))}},
		}},
		{"example.org", dns.TypeNS, dns.Answer{Name: "example.org", TTL: 300 * time.Second, Names: []string{"ns1.example.org"}}},
		{"example.org", dns.TypeSOA, dns.Answer{Name: "example.org", TTL: 300 * time.Second, SOA: &dns.SOA{
			PrimaryServer: "ns1.example.org", Mailbox: "hostmaster.example.org", Serial: 7, Minimum: 2 * time.Minute,
		}}},
		{"www.example.org", dns.TypeCNAME, dns.Answer{Name: "www.example.org", TTL: time.Minute, Names: []string{"web.example.org"}}},
		// The alias holds for a shorter time than what it leads to.
		{"www.example.org", dns.TypeA, dns.Answer{Name: "web.example.org", TTL: time.Minute, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.80")}}},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.typ.String(), func(t *testing.T) {
			t.Parallel()
			for _, from := range []string{"server", "cache"} {
				got, err := r.Query(t.Context(), tt.name, tt.typ)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					t.Errorf("answer of the %s (-want +got):\n%s", from, diff)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	r := server.Resolver(t)
	server.Fail("servfail.example.org", dnstest.ServFail)
	server.Fail("refused.example.org", dnstest.Refused)
	server.Fail("cut.example.org", dnstest.Cut)
	at := server.Addr().String()
	tests := []struct {
		name, text string
		noName     bool
	}{
		{"none.example.org", "look up TXT of none.example.org: no such name", true},
		{"mx1.example.org", "look up TXT of mx1.example.org: no such record", false},
		{"servfail.example.org", "look up TXT of servfail.example.org: server " + at + ": it answers SERVFAIL (Network Error: test)", false},
		{"refused.example.org", "look up TXT of refused.example.org: server " + at + ": it answers REFUSED", false},
		{"cut.example.org", "look up TXT of cut.example.org: server " + at + ": read answer by TCP: unexpected EOF", false},
		{"a..\x1b.example.org", "look up TXT of a..?.example.org: not a domain name: a label has 0 bytes, not 1 to 63", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := r.LookupTXT(t.Context(), tt.name)
			if err == nil || err.Error() != tt.text {
				t.Errorf("error %q\nwant  %q", err, tt.text)
			}
			if dns.NoName(err) != tt.noName {
				t.Errorf("NoName is %t", !tt.noName)
			}
			if e, ok := errors.AsType[*dns.Error](err); !ok || e.Type != dns.TypeTXT {
				t.Errorf("error is %#v", err)
			}
		})
	}
}

// A look-up of both kinds of address fails only if there is nothing to give, and
// then for the time being if one of them failed so.
func TestHalfOfTheAddresses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, zone, kind string
		addrs            int
	}{
		{"with the other", "host.example.org. A 192.0.2.1", ok, 1},
		{"with nothing", "", temporary, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := dnstest.Serve(t, tt.zone)
			r := server.Resolver(t)
			if _, err := r.LookupIP(t.Context(), "ip4", "host.example.org"); kind(err) == temporary {
				t.Fatal(err) // now it is in the cache
			}
			server.Fail("host.example.org", dnstest.ServFail)
			addrs, err := r.LookupIP(t.Context(), "ip", "host.example.org")
			if kind(err) != tt.kind || len(addrs) != tt.addrs {
				t.Errorf("addresses %v, error %v", addrs, err)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault   dnstest.Fault
		name    string
		kind    string
		queries int // messages that the server gets; those that pass all their time may be one less on a busy machine
	}{
		{dnstest.ServFail, "SERVFAIL", temporary, 1},
		{dnstest.Refused, "REFUSED", temporary, 1},
		{dnstest.Silence, "silence", temporary, 2},
		{dnstest.Truncated, "truncated", ok, 2},
		{dnstest.Cut, "cut", temporary, 2},
		{dnstest.Garbage, "garbage", temporary, 2},
		{dnstest.WrongID, "wrong ID", ok, 1},
		{dnstest.WrongQuestion, "wrong question", ok, 1},
		{dnstest.WrongSource, "wrong source", ok, 1},
		{dnstest.Flood, "flood", ok, 2},
		{dnstest.NoEDNS, "no EDNS", ok, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := dnstest.Serve(t, `example.org. TXT "right"`)
			server.Fail("example.org", tt.fault)
			timeout, least := 10*time.Second, tt.queries
			if tt.fault == dnstest.Silence || tt.fault == dnstest.Garbage {
				timeout, least = 300*time.Millisecond, 1 // all of it passes
			}
			r := server.ResolverWith(t, dns.Settings{Timeout: timeout, Attempts: 2}, dns.Options{})
			texts, err := r.LookupTXT(t.Context(), "example.org")
			if kind(err) != tt.kind {
				t.Fatalf("error %v, want %s", err, tt.kind)
			}
			if err == nil && !cmp.Equal(texts, []string{"right"}) {
				t.Errorf("texts %q", texts)
			}
			if got := server.Questions("example.org", dns.TypeTXT); got < least || got > tt.queries {
				t.Errorf("the server was asked %d times, want %d", got, tt.queries)
			}
		})
	}
}

// An answer that is too long for UDP comes by TCP.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "example.org. TXT \"%03d %s\"\n", i, strings.Repeat("x", 200))
	}
	server := dnstest.Serve(t, text.String())
	texts, err := server.Resolver(t).LookupTXT(t.Context(), "example.org")
	if err != nil || len(texts) != 100 {
		t.Errorf("%d texts, error %v", len(texts), err)
	}
	if got := server.Questions("example.org", 0); got != 2 {
		t.Errorf("the server was asked %d times, want once by UDP and once by TCP", got)
	}
}

func TestAuthentic(t *testing.T) {
	t.Parallel()
	trust := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	tests := []struct {
		name  string
		says  bool
		trust []netip.Prefix
		want  bool
	}{
		{"trusted", true, trust, true},
		{"trusted, not authentic", false, trust, false},
		{"not trusted", true, nil, false},
		{"other trusted", true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := dnstest.Serve(t, zone)
			server.SetAuthentic(tt.says)
			r := server.ResolverWith(t, dns.Settings{TrustAD: tt.trust}, dns.Options{})
			for _, from := range []string{"server", "cache"} {
				a, err := r.Query(t.Context(), "mx1.example.org", dns.TypeA)
				if err != nil || a.Authentic != tt.want {
					t.Errorf("from the %s: authentic %t, error %v, want %t", from, a.Authentic, err, tt.want)
				}
			}
		})
	}
}
