package spf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/mox-like/mox-like/core/dns"
)

// FuzzParseRecord holds that what can be parsed can be printed term by term and
// parses the same, and that its macros expand.
func FuzzParseRecord(f *testing.F) {
	for _, s := range readSuite(f) {
		z, err := s.zone()
		if err != nil {
			f.Fatal(err)
		}
		for _, records := range z {
			for _, r := range records {
				if isRecord(r.data) {
					f.Add(r.data)
				}
			}
		}
	}
	f.Add("v=spf1 a:%{d1r-}/24//64 mx/0 ip6:::ffff:192.0.2.1/128 exists:%%.%_.%- exp=%{o} x=%{s}")
	f.Fuzz(func(t *testing.T, text string) {
		if !isRecord(text) {
			return
		}
		r, err := parseRecord(text)
		if err != nil {
			return
		}
		specs := []string{r.redirect, r.exp}
		for _, d := range r.directives {
			again, err := parseDirective(d.term)
			if err != nil || again != d {
				t.Errorf("%q is %+v, and then %+v, %v", d.term, d, again, err)
			}
			if !strings.Contains(text, d.term) {
				t.Errorf("%q is not in the record", d.term)
			}
			specs = append(specs, d.domain)
		}
		q := Query{IP: netip.MustParseAddr("2001:db8::1"), local: "a", domain: "example.org", helo: "b"}
		for _, spec := range specs {
			if spec != "" && checkDomainSpec(spec) != nil {
				t.Errorf("the domain %q was let through", spec)
			}
			expand(spec, func(letter byte) string { return q.value(letter, "example.org", func() []string { return nil }) })
		}
	})
}

// FuzzExpand holds that checked macro-strings expand in whole, to a length that
// their own bounds.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"%{s} %{L2r-+} %{i}.%{v}", "%%%_%-", "%{d999999999999999999999r.-+,/_=}", "%{D1}%{h}%{c}%{t}%{r}%{p}%{o}", "%{d0}", "%{x}", "%", "%{", "a"} {
		f.Add(s, "alice.b-c+d", "example.org")
	}
	f.Fuzz(func(t *testing.T, text, local, domain string) {
		if _, _, err := checkMacros(text, macroLetters+expLetters, true); err != nil {
			return
		}
		q := Query{IP: netip.MustParseAddr("192.0.2.1"), Receiver: "mx", Now: time.Unix(1, 0), local: local, domain: domain, helo: local}
		got := expand(text, func(letter byte) string { return q.value(letter, domain, func() []string { return []string{domain} }) })
		longest := 3*(len(local)+len(domain)+1) + 63
		if len(got) > len(text)+maxMacros*longest {
			t.Errorf("%q expands to %d bytes", text, len(got))
		}
		if !strings.Contains(text, "%") && got != text {
			t.Errorf("%q expands to %q", text, got)
		}
		if again := expand(text, func(byte) string { return "" }); strings.Count(text, "%") == 0 && again != text {
			t.Errorf("%q without values is %q", text, again)
		}
	})
}

// hostile is a zone that gives every name the same records, so that records lead
// back to themselves.
type hostile struct {
	texts   []string
	hosts   []string
	queries *int
}

func (h hostile) count(name string) error {
	*h.queries++
	if strings.HasPrefix(name, "void") {
		return dns.ErrNotFound
	}
	return nil
}

func (h hostile) LookupTXT(_ context.Context, name string) ([]string, error) {
	return h.texts, h.count(name)
}

func (h hostile) LookupIP(_ context.Context, network, name string) ([]netip.Addr, error) {
	addr := netip.MustParseAddr("198.51.100.1")
	if network == "ip6" {
		addr = netip.MustParseAddr("2001:db8::1")
	}
	return []netip.Addr{addr}, h.count(name)
}

func (h hostile) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	var list []*net.MX
	for _, host := range h.hosts {
		list = append(list, &net.MX{Host: host})
	}
	return list, h.count(name)
}

func (h hostile) LookupAddr(context.Context, netip.Addr) ([]string, error) {
	return h.hosts, h.count("")
}

// FuzzCheck evaluates what strangers publish: it ends, asks little, and gives
// texts that are fit for a reply.
func FuzzCheck(f *testing.F) {
	f.Add("v=spf1 include:%{d} -all", "v=spf1 x", "a.example\nb.example", "alice@example.org", "mail.example.org", []byte{192, 0, 2, 1})
	f.Add("v=spf1 redirect=a.%{d}", "", "", "a@b.example", "", make([]byte, 16))
	f.Add("v=spf1 ptr mx a exists:%{p}.%{l} -all exp=%{o}", "", strings.Repeat("mx.example.org\n", 50), `ü@example.org`, "\xff", []byte{192, 0, 2, 1})
	f.Add("v=spf1 -all exp=a.example", "you (%{s}) at %{c}, %{t}\n%{h} %{p} %{r}", ".\n..\n", "a@b.example", "\r\n", []byte{192, 0, 2, 1})
	f.Add("v=spf1 a:void.%{d} a:void2.%{d} a:void3.%{d} mx/0//0", "", "void.example", "a@b.example", "", []byte{192, 0, 2, 1})
	f.Fuzz(func(t *testing.T, record, second, hosts, sender, helo string, ip []byte) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		queries := 0
		h := hostile{texts: []string{record}, hosts: strings.Split(hosts, "\n"), queries: &queries}
		if second != "" {
			h.texts = append(h.texts, second)
		}
		local, domain, _ := strings.Cut(sender, "@")
		got := check(t.Context(), h, Query{IP: addr, Helo: helo, LocalPart: local, Domain: domain, Receiver: "mx.example.test"})
		// A record, ten more terms with ten hosts each, ten names, and an explanation.
		if most := 1 + maxLookups*(1+maxMX) + 1 + maxPTR + 1; queries > most {
			t.Errorf("%d questions, at most %d", queries, most)
		}
		for _, text := range []string{got.Explanation, oneLine(got.Problem, maxExplanation)} {
			if len(text) > maxExplanation || strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
				t.Errorf("text %q", text)
			}
		}
		if (got.Problem != "") != (got.Result == TempError || got.Result == PermError) {
			t.Errorf("finding %+v", got)
		}
		id := &identity{Finding: got, ip: addr, name: sender, domain: asciiDomain(domain)}
		tx := envelope{helo: helo}.transaction(t)
		for line := range strings.SplitSeq(receivedSPF("mx.example.test", tx, id), "\r\n\t") {
			if strings.ContainsAny(line, "\r\n\x00") || len(line) > 998 {
				t.Errorf("line %q", line)
			}
		}
	})
}

func TestHostileZoneWithLimits(t *testing.T) {
	t.Parallel()
	var hosts []string
	for i := range 10 {
		hosts = append(hosts, fmt.Sprintf("mx%d.example.org", i))
	}
	queries := 0
	h := hostile{texts: []string{"v=spf1" + strings.Repeat(" mx", 11)}, hosts: hosts, queries: &queries}
	got := check(t.Context(), h, Query{IP: netip.MustParseAddr("192.0.2.1"), Domain: "example.org"})
	if got.Result != PermError || queries != 1+10*11 {
		t.Errorf("%d questions for %+v", queries, got)
	}
}
