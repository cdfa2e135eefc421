package spf

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

func txt(text string) []zoneRecord { return []zoneRecord{{kind: "TXT", data: text}} }

// TestCheck holds what the test suite leaves out.
func TestCheck(t *testing.T) {
	t.Parallel()
	z := zone{
		"local.example.org":                      txt("v=spf1 exists:%{l}.list.example.org ~all"),
		"a b.list.example.org":                   {{kind: "A", data: "127.0.0.2"}},
		"ü.list.example.org":                     {{kind: "A", data: "127.0.0.2"}},
		"label.example.org":                      txt("v=spf1 include:%{l}.example.org -all"),
		"long.example.org":                       txt("v=spf1 -all exp=why.example.org"),
		"why.example.org":                        txt(strings.Repeat("no ", 200)),
		"shouts.example.org":                     txt("v=spf1 -all exp=text.example.org"),
		"text.example.org":                       txt("%{l} is not welcome"),
		"nullmx.example.org":                     append(txt("v=spf1 mx -all"), zoneRecord{kind: "MX", data: "."}),
		"silentmx.example.org":                   append(txt("v=spf1 mx -all"), zoneRecord{kind: "MX", data: "silent.example.org"}),
		"silent.example.org":                     {{}},
		"voidmx.example.org":                     append(txt("v=spf1 mx ip4:192.0.2.1 -all"), zoneRecord{kind: "MX", data: "a.test"}, zoneRecord{kind: "MX", data: "b.test"}, zoneRecord{kind: "MX", data: "c.test"}),
		"mapped.example.org":                     txt("v=spf1 ip6:::ffff:192.0.2.1 -all"),
		"xn--bcher-kva.example":                  txt("v=spf1 exists:%{d}.list.example.org -all"),
		"terms.example.org":                      txt("v=spf1" + strings.Repeat(" ip4:192.0.2.9", maxTerms+1)),
		"xn--bcher-kva.example.list.example.org": {{kind: "A", data: "127.0.0.2"}},
	}
	tests := map[string]struct {
		local, domain string
		want          Finding
	}{
		"space in the local-part":     {"a b", "local.example.org", Finding{Result: Pass, Domain: "local.example.org", Term: "exists:%{l}.list.example.org"}},
		"UTF-8 in the local-part":     {"ü", "local.example.org", Finding{Result: SoftFail, Domain: "local.example.org", Term: "~all"}},
		"control in the local-part":   {"\x00", "local.example.org", Finding{Result: SoftFail, Domain: "local.example.org", Term: "~all"}},
		"two dots in the local-part":  {"a..b", "local.example.org", Finding{Result: SoftFail, Domain: "local.example.org", Term: "~all"}},
		"include of what is no name":  {"a..b", "label.example.org", Finding{Result: PermError, Problem: "record of label.example.org: include:%{l}.example.org leads to no record"}},
		"include that goes round":     {"label", "label.example.org", Finding{Result: PermError, Problem: "more than 10 terms that ask the DNS, the last one in the record of label.example.org"}},
		"long explanation":            {"a", "long.example.org", Finding{Result: Fail, Domain: "long.example.org", Term: "-all", Explanation: strings.Repeat("no ", 200)[:253] + "..."}},
		"explanation with UTF-8":      {"ü\r\n", "shouts.example.org", Finding{Result: Fail, Domain: "shouts.example.org", Term: "-all", Explanation: "??? is not welcome"}},
		"null MX":                     {"a", "nullmx.example.org", Finding{Result: Fail, Domain: "nullmx.example.org", Term: "-all"}},
		"MX without an answer":        {"a", "silentmx.example.org", Finding{Result: TempError, Problem: "look up ip4 of silent.example.org: no answer in time: temporary failure"}},
		"MX without addresses":        {"a", "voidmx.example.org", Finding{Result: Pass, Domain: "voidmx.example.org", Term: "ip4:192.0.2.1"}},
		"mapped address in ip6":       {"a", "mapped.example.org", Finding{Result: Fail, Domain: "mapped.example.org", Term: "-all"}},
		"U-labels":                    {"a", "BÜCHER.example", Finding{Result: Pass, Domain: "xn--bcher-kva.example", Term: "exists:%{d}.list.example.org"}},
		"domain that has no A-labels": {"a", "a\u202eb.example", Finding{Result: None}},
		"numbers as a domain":         {"a", "192.0.2.1", Finding{Result: None}},
		"too many terms":              {"a", "terms.example.org", Finding{Result: PermError, Problem: "record of terms.example.org: the record has too many terms"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := check(t.Context(), z, Query{IP: netip.MustParseAddr("::ffff:192.0.2.1"), LocalPart: tt.local, Domain: tt.domain, Helo: "mail.example.org"})
			if got.exp, got.Record = "", ""; got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestCheckWithoutTime finds that an evaluation ends with its context, wherever
// it is.
func TestCheckWithoutTime(t *testing.T) {
	t.Parallel()
	z := zone{
		"a.example.org":          txt("v=spf1 a:b.example.org mx:b.example.org ptr exists:%{p}.example.org include:b.example.org redirect=b.example.org"),
		"b.example.org":          append(txt("v=spf1 ?all"), zoneRecord{kind: "A", data: "192.0.2.9"}, zoneRecord{kind: "MX", data: "b.example.org"}),
		"1.2.0.192.in-addr.arpa": {{kind: "PTR", data: "b.example.org"}},
		"unknown.example.org":    {{kind: "CNAME", data: "none.example.org"}},
	}
	for asked := 1; ; asked++ {
		ctx, cancel := context.WithCancel(t.Context())
		r := &ending{zone: z, left: asked, end: cancel}
		got := check(ctx, r, Query{IP: netip.MustParseAddr("192.0.2.1"), Domain: "a.example.org"})
		cancel()
		if r.left > 0 {
			if got.Result != Neutral || asked < 8 {
				t.Errorf("after %d questions: %+v", asked-r.left, got)
			}
			return
		}
		if got.Result != TempError || asked > 100 {
			t.Fatalf("the time is up at question %d: %+v", asked, got)
		}
	}
}

// ending is a DNS that ends the time of an evaluation with the question that is
// the last one left.
type ending struct {
	zone
	left int
	end  context.CancelFunc
}

func (e *ending) count() {
	if e.left--; e.left == 0 {
		e.end()
	}
}

func (e *ending) LookupTXT(ctx context.Context, name string) ([]string, error) {
	e.count()
	return e.zone.LookupTXT(ctx, name)
}

func (e *ending) LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error) {
	e.count()
	return e.zone.LookupIP(ctx, network, name)
}

func (e *ending) LookupAddr(ctx context.Context, addr netip.Addr) ([]string, error) {
	e.count()
	return e.zone.LookupAddr(ctx, addr)
}

// TestMacrosAreBounded finds that a short MAIL command cannot make this server
// build megabytes of text: macros are worth up to 80 times what they take in a
// record.
func TestMacrosAreBounded(t *testing.T) {
	t.Parallel()
	macros := func(n int) string { return strings.Repeat("%{L1r-.}", n) }
	z := zone{
		"most.example.org":      txt("v=spf1 exists:" + macros(maxMacros) + ".example.net ~all"),
		"more.example.org":      txt("v=spf1 ?all exists:" + macros(maxMacros+1) + ".example.net"),
		"redirect.example.org":  txt("v=spf1 redirect=" + macros(maxMacros+1)),
		"unknown.example.org":   txt("v=spf1 x=" + macros(maxMacros+1)),
		"explains.example.org":  txt("v=spf1 -all exp=most.example.net"),
		"most.example.net":      txt(macros(maxMacros)),
		"rambles.example.org":   txt("v=spf1 -all exp=more.example.net"),
		"more.example.net":      txt(macros(maxMacros + 1)),
		"literally.example.org": txt("v=spf1 -all exp=percent.example.net"),
		"percent.example.net":   txt(strings.Repeat("%%", maxMacros+1)),
	}
	tooMany := func(domain, term string) Finding {
		return Finding{Result: PermError, Problem: "record of " + domain + `: term "` + term + `...": more than 32 macros`}
	}
	fail := func(domain, explanation string) Finding {
		return Finding{Result: Fail, Domain: domain, Term: "-all", Explanation: explanation}
	}
	tests := map[string]Finding{
		"most.example.org":      {Result: SoftFail, Domain: "most.example.org", Term: "~all"},
		"more.example.org":      tooMany("more.example.org", ("exists:" + macros(maxMacros))[:maxTerm-3]),
		"redirect.example.org":  tooMany("redirect.example.org", ("redirect=" + macros(maxMacros))[:maxTerm-3]),
		"unknown.example.org":   tooMany("unknown.example.org", ("x=" + macros(maxMacros))[:maxTerm-3]),
		"explains.example.org":  fail("explains.example.org", strings.Repeat("a", maxMacros)),
		"rambles.example.org":   fail("rambles.example.org", ""),
		"literally.example.org": fail("literally.example.org", strings.Repeat("%", maxMacros+1)),
	}
	for domain, want := range tests {
		t.Run(domain, func(t *testing.T) {
			t.Parallel()
			got := check(t.Context(), z, Query{IP: netip.MustParseAddr("192.0.2.1"), LocalPart: "a.b", Domain: domain})
			if got.exp, got.Record = "", ""; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}
