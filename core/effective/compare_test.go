package effective_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/tuning"
)

// values makes values of the file of name, text pairs.
func values(pairs ...string) []effective.Value {
	var list []effective.Value
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, effective.Value{Name: pairs[i], Text: pairs[i+1], Source: tuning.FromHandler, Place: "a.hcl:1"})
	}
	return list
}

func handler(name string, pairs ...string) effective.Step {
	return effective.Step{Name: name, Block: effective.Block{Type: name, Values: values(pairs...), Place: "a.hcl:1"}}
}

func parallel(steps ...effective.Step) effective.Step { return effective.Step{Parallel: steps} }

// configuration has one listener with a chain, and domains.
func configuration(chain []effective.Step, domains ...effective.Domain) *effective.Config {
	return &effective.Config{
		Files: []string{"a.hcl"},
		Listeners: []effective.Listener{{
			Block: effective.Block{Type: "listener", Labels: []string{"smtp", "mx"}}, Stages: []string{"rcpt", "data"}, Chain: chain,
		}},
		Domains: domains,
	}
}

func domain(name string, settings ...effective.Block) effective.Domain {
	return effective.Domain{Name: name, Settings: settings, Place: "a.hcl:9"}
}

func settings(pairs ...string) effective.Block {
	return effective.Block{Type: "settings", Labels: []string{"greylist"}, Values: values(pairs...)}
}

func withChain(d effective.Domain, steps ...effective.Step) effective.Domain {
	d.Chains = append(d.Chains, effective.DomainChain{Listener: "mx", Chain: steps})
	return d
}

var chain = []effective.Step{handler("spf"), handler("greylist", "delay", `"5m"`, "mode", `"enforce"`), handler("deliver")}

func TestCompare(t *testing.T) {
	t.Parallel()
	delayed := func(d string) []effective.Step {
		return []effective.Step{handler("spf"), handler("greylist", "delay", d, "mode", `"enforce"`), handler("deliver")}
	}
	inherit := effective.Step{Inherit: true}
	cases := map[string]struct {
		a, b *effective.Config
		want []string
	}{
		"nothing":           {configuration(chain), configuration(chain), nil},
		"the same time":     {configuration(delayed(`"5m"`)), configuration(delayed(`"300s"`)), nil},
		"a list of one":     {configuration(delayed(`"5m"`)), configuration(delayed(`["5m"]`)), nil},
		"value":             {configuration(chain), configuration(delayed(`"9m"`)), []string{`listener mx: greylist.delay: "5m" → "9m"`}},
		"list":              {configuration(delayed(`["a", "b"]`)), configuration(delayed(`["b", "c", "d"]`)), []string{`listener mx: greylist.delay: without "a", with "c", "d"`}},
		"order of a list":   {configuration(delayed(`["a", "b"]`)), configuration(delayed(`["b", "a"]`)), []string{`listener mx: greylist.delay: ["a", "b"] → ["b", "a"]`}},
		"unset":             {configuration(chain), configuration([]effective.Step{chain[0], handler("greylist", "mode", `"enforce"`), chain[2]}), []string{`listener mx: greylist.delay: "5m" → unset`}},
		"handler":           {configuration(chain), configuration([]effective.Step{chain[0], chain[2], handler("x")}), []string{"listener mx: handler greylist removed", "listener mx: handler x added behind deliver"}},
		"first handler":     {configuration(chain[1:]), configuration(chain), []string{"listener mx: handler spf added in front of greylist"}},
		"order":             {configuration(chain), configuration([]effective.Step{chain[1], chain[0], chain[2]}), []string{"listener mx: handler spf moved behind greylist"}},
		"into parallel":     {configuration(chain), configuration([]effective.Step{parallel(chain[0], chain[1]), chain[2]}), []string{"listener mx: handler spf acts in parallel with greylist", "listener mx: handler greylist acts in parallel with spf"}},
		"out of parallel":   {configuration([]effective.Step{parallel(chain[0], chain[1]), chain[2]}), configuration(chain), []string{"listener mx: handler spf acts one after the other with the rest", "listener mx: handler greylist acts one after the other with the rest"}},
		"domains":           {configuration(chain, domain("a.test"), domain("b.test")), configuration(chain, domain("b.test"), domain("c.test")), []string{"domain a.test: removed", "domain c.test: added"}},
		"setting":           {configuration(chain, domain("a.test")), configuration(chain, domain("a.test", settings("delay", `"1m"`))), []string{`listener mx, domain a.test: greylist.delay: "5m" → "1m"`}},
		"setting to itself": {configuration(chain, domain("a.test")), configuration(chain, domain("a.test", settings("delay", `"5m"`))), nil},
		"setting stays though the listener changes": {
			configuration(chain, domain("a.test", settings("delay", `"1m"`))),
			configuration(delayed(`"9m"`), domain("a.test", settings("delay", `"1m"`))),
			[]string{`listener mx: greylist.delay: "5m" → "9m"`},
		},
		"all domains": {
			configuration(chain, domain("*"), domain("a.test", settings("delay", `"1m"`))),
			configuration(chain, domain("*", settings("delay", `"2m"`)), domain("a.test", settings("delay", `"1m"`))),
			[]string{`listener mx, all domains without a setting of their own: greylist.delay: "5m" → "2m"`},
		},
		"setting gone below that of all": {
			configuration(chain, domain("*", settings("delay", `"2m"`)), domain("a.test", settings("delay", `"1m"`))),
			configuration(chain, domain("*", settings("delay", `"2m"`)), domain("a.test")),
			[]string{`listener mx, domain a.test: greylist.delay: "1m" → "2m"`},
		},
		"own chain": {
			configuration(chain, domain("a.test")), configuration(chain, withChain(domain("a.test"), inherit, chain[2])),
			[]string{"listener mx, domain a.test: chain of its own for this listener added"},
		},
		"in an own chain": {
			configuration(chain, withChain(domain("a.test"), inherit, chain[2])), configuration(chain, withChain(domain("a.test"), inherit, handler("x"), chain[2])),
			[]string{"listener mx, domain a.test: handler x added behind inherit"},
		},
		"setting over an own chain": {
			configuration(chain, withChain(domain("a.test"), handler("greylist", "delay", `"3m"`), chain[2])),
			configuration(chain, withChain(domain("a.test", settings("delay", `"4m"`)), handler("greylist", "delay", `"3m"`), chain[2])),
			[]string{`listener mx, domain a.test: greylist.delay: "3m" → "4m"`},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, change := range effective.Compare(c.a, c.b) {
				got = append(got, change.About()+": "+change.Words())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// One change of many domains is told once.
func TestCompareManyDomains(t *testing.T) {
	t.Parallel()
	var before, after []effective.Domain
	for i := range 100 {
		name := fmt.Sprintf("d%02d.test", i)
		before = append(before, domain(name))
		after = append(after, domain(name, settings("delay", `"1m"`)))
	}
	got := effective.Compare(configuration(chain, before...), configuration(chain, after...))
	if len(got) != 1 || len(got[0].Domains) != 100 {
		t.Fatalf("%d changes: %v", len(got), got)
	}
	if about := got[0].About(); about != "listener mx, domains d00.test, d01.test, d02.test and 97 more" {
		t.Errorf("it is about %q", about)
	}
}

// Secrets are told apart by fingerprints, and not shown.
func TestCompareSecrets(t *testing.T) {
	t.Parallel()
	with := func(print string) *effective.Config {
		step := handler("x")
		step.Block.Values = []effective.Value{{Name: "password", Text: `"****"`, Secret: true, Fingerprint: print}}
		return configuration([]effective.Step{step})
	}
	if got := effective.Compare(with("a"), with("a")); got != nil {
		t.Errorf("the same secret differs: %v", got)
	}
	got := effective.Compare(with("a"), with("b"))
	if len(got) != 1 || got[0].Words() != "x.password: another secret" {
		t.Errorf("another secret: %v", got)
	}
}

// Long values are cut in words, and stay on one line.
func TestWordsAreShort(t *testing.T) {
	t.Parallel()
	change := effective.Change{Kind: effective.KindValue, What: effective.Changed, Attribute: "a", Before: strings.Repeat("x\n", 500), After: "1"}
	if words := change.Words(); len(words) > 200 || strings.Contains(words, "\n") {
		t.Errorf("%d bytes: %q", len(words), words)
	}
}
