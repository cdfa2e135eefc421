package spf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

// serve serves a zone by a real DNS. Questions that nobody answers are answered
// by SERVFAIL, which takes less time.
func serve(tb testing.TB, z zone) *dnstest.Server {
	tb.Helper()
	var text strings.Builder
	var broken []string
	for _, name := range slices.Sorted(maps.Keys(z)) {
		kinds := make(map[string]bool)
		for _, r := range z[name] {
			kinds[r.kind] = true
			switch r.kind {
			case "":
				if !kinds["TXT"] {
					broken = append(broken, name)
				}
				continue
			case "MX":
				fmt.Fprintf(&text, "%s. MX %d %s.\n", master(name), r.preference, master(strings.TrimSuffix(r.data, ".")))
			case "PTR", "CNAME":
				fmt.Fprintf(&text, "%s. %s %s.\n", master(name), r.kind, master(strings.TrimSuffix(r.data, ".")))
			case "TXT":
				fmt.Fprintf(&text, "%s. TXT %s\n", master(name), strips(r.data))
			default:
				fmt.Fprintf(&text, "%s. %s %s\n", master(name), r.kind, r.data)
			}
		}
	}
	s := dnstest.Serve(tb, text.String())
	for _, name := range broken {
		s.Fail(name, dnstest.ServFail)
	}
	return s
}

// master writes text as a zone file has it, and as names are compared there.
func master(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		case strings.IndexByte(`();@" \`, c) >= 0:
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// strips writes the strings of a TXT record, which are at most 255 bytes each.
func strips(s string) string {
	list := []string{`"` + master(s[:min(len(s), 255)]) + `"`}
	for s = s[min(len(s), 255):]; s != ""; s = s[min(len(s), 255):] {
		list = append(list, `"`+master(s[:min(len(s), 255)])+`"`)
	}
	return strings.Join(list, " ")
}

// TestSuiteOverTheWire runs the test suite by way of the resolver and a DNS
// server.
func TestSuiteOverTheWire(t *testing.T) {
	t.Parallel()
	for _, s := range readSuite(t) {
		t.Run(s.Description, func(t *testing.T) {
			t.Parallel()
			z, err := s.zone()
			if err != nil {
				t.Fatal(err)
			}
			r := serve(t, z).Resolver(t)
			for name, test := range s.Tests {
				t.Run(name, func(t *testing.T) { runSuiteTest(t, r, test) })
			}
		})
	}
}

// BenchmarkSPF checks a client by the records of a large provider, with all
// answers in the resolver's cache.
func BenchmarkSPF(b *testing.B) {
	z := zone{
		"plain.example.org": txt("v=spf1 ip4:192.0.2.0/24 -all"),
		"large.example.org": txt("v=spf1 include:_spf1.example.org include:_spf2.example.org a:mail.example.org mx -all"),
		"_spf1.example.org": txt("v=spf1" + strings.Repeat(" ip4:203.0.113.0/28 ip6:2001:db8:1::/64", 10) + " ~all"),
		"_spf2.example.org": txt("v=spf1" + strings.Repeat(" ip4:198.51.100.0/28", 20) + " ~all"),
		"mail.example.org":  {{kind: "A", data: "203.0.113.77"}},
		"mx.example.org":    {{kind: "A", data: "192.0.2.1"}},
		"macro.example.org": txt("v=spf1 exists:%{ir}.%{l1r+-}.%{v}._spf.%{d2} -all"),
	}
	z["large.example.org"] = append(z["large.example.org"], zoneRecord{kind: "MX", preference: 10, data: "mx.example.org"})
	z["1.2.0.192.alice.in-addr._spf.example.org"] = []zoneRecord{{kind: "A", data: "127.0.0.2"}}
	r := serve(b, z).Resolver(b)
	for _, name := range []string{"plain", "large", "macro"} {
		b.Run(name, func(b *testing.B) {
			s := load(b, "", r)
			path := mail.Address{LocalPart: "alice", Domain: name + ".example.org"}
			session := &mail.Session{Helo: "mail.example.org", RemoteAddr: netip.MustParseAddrPort("192.0.2.1:4711")}
			b.ReportAllocs()
			for b.Loop() {
				tx := mail.NewTransaction("tx", session, s.now())
				tx.Envelope.ReversePath = path
				v, err := s.Handle(b.Context(), tx)
				if result, _ := tx.AuthResult("spf"); err != nil || result.Result != "pass" {
					b.Fatalf("verdict %+v, %v", v, err)
				}
			}
		})
	}
}

// BenchmarkHostileRecord checks a client by the record that costs most: all its
// terms have as many macros as there may be, each of which splits a long value.
func BenchmarkHostileRecord(b *testing.B) {
	macros := strings.Repeat("%{S1r.-+,/_=}", maxMacros)
	z := zone{
		"why.example.org": txt(macros),
		"example.org":     txt("v=spf1" + strings.Repeat(" exists:"+macros, maxLookups) + " -all exp=why.example.org"),
	}
	z[strings.Repeat("a.", 120)+"example.org"] = z["example.org"]
	q := Query{IP: netip.MustParseAddr("192.0.2.1"), LocalPart: strings.Repeat("/+", 32), Domain: strings.Repeat("a.", 120) + "example.org"}
	b.ReportAllocs()
	for b.Loop() {
		if f := check(b.Context(), z, q); f.Result != Fail {
			b.Fatalf("finding %+v", f)
		}
	}
}
