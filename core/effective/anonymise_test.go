package effective_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/tuning"
)

// free makes a value that may be any text.
func free(name, text string) effective.Value {
	return effective.Value{Name: name, Text: text, Source: tuning.FromHandler, Place: "corp.hcl:7", Free: true}
}

// anonymised gives the text of each value of one block.
func anonymised(t *testing.T, list ...effective.Value) []string {
	t.Helper()
	c := &effective.Config{
		Files: []string{"corp.hcl"}, Domains: []effective.Domain{{Name: "corp.test"}},
		Blocks: []effective.Block{{Type: "server", Values: list}},
	}
	var out []string
	for _, v := range c.Anonymise().Blocks[0].Values {
		out = append(out, v.Text)
	}
	return out
}

func TestAnonymise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"domain", `"corp.test"`, `"example.org"`},
		{"capitals", `"CORP.test"`, `"example.org"`},
		{"host below", `"mx.corp.test"`, `"host1.example.org"`},
		{"another domain", `"other.test"`, `"example.net"`},
		{"wildcard", `"*.corp.test"`, `"*.example.org"`},
		{"address", `"jane@corp.test"`, `"alice@example.org"`},
		{"all of a domain", `"@corp.test"`, `"@example.org"`},
		{"IPv4", `"10.1.2.3"`, `"192.0.2.1"`},
		{"IPv6", `"fd00::1"`, `"2001:db8::1"`},
		{"network", `"10.1.2.0/24"`, `"192.0.2.0/24"`},
		{"large network", `"10.0.0.0/8"`, `"240.0.0.0/8"`},
		{"this machine", `["127.0.0.1", "::1", "0.0.0.0:25", "[::]:25", ":25"]`, `["127.0.0.1", "::1", "0.0.0.0:25", "[::]:25", ":25"]`},
		{"endpoint", `"tcp:scan.corp.test:3310"`, `"tcp:host1.example.org:3310"`},
		{"IPv6 endpoint", `"[fd00::1]:25"`, `"[2001:db8::1]:25"`},
		{"socket", `"unix:/run/corp/x.sock"`, `"unix:/path/1.sock"`},
		{"path", `"/etc/corp/key.pem"`, `"/path/1.pem"`},
		{"relative path", `"keys/corp.pem"`, `"path/1.pem"`},
		{"URL", `"https://hook.corp.test:8443/v1?a=b"`, `"https://host1.example.org:8443/path/1"`},
		{"word", `"Corp GmbH"`, `"text-1"`},
		{"rate", `"100/1h"`, `"100/1h"`},
		{"number as a word", `"12345"`, `"text-1"`},
		{"map", `{ "corp.test" = ["jane@corp.test"] }`, "{\n  \"example.org\" = [\"alice@example.org\"]\n}"},
		{"header field", `tx.header.corpfield == tx.header["Corp-Field"]`, `tx.header.name_1 == tx.header["text-1"]`},
		{"heredoc", "tx.from == <<-CORP\n  x\n  CORP", "tx.from == <<-TEXT\ntext-1\nTEXT"},
		{"heredoc in parentheses", "(tx.from == <<CORP-A\nx\nCORP-A\n)", "(tx.from == <<TEXT\ntext-1\nTEXT\n)"},
		{"comment", "(tx.tls # of Corp\n)", "(tx.tls \n)"},
		{"when", `tx.from == "jane@corp.test" && tx.spf != "pass" && cidr_contains("10.1.2.0/24", tx.ip)`, `tx.from == "alice@example.org" && tx.spf != "pass" && cidr_contains("192.0.2.0/24", tx.ip)`},
		{"comment", "tx.size > 5 # for corp\n", "tx.size > 5 \n"},
		{"secret", `"****"`, `"****"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff([]string{c.want}, anonymised(t, free("a", c.text))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The same gets the same name, and no two get one.
func TestAnonymiseIsConsistent(t *testing.T) {
	t.Parallel()
	var list []effective.Value
	originals := make(map[string]bool)
	for i := range 2000 {
		a := netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i)})
		n := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), 0}), 24)
		for _, text := range []string{a.String(), n.String()} {
			originals[text] = true
			list = append(list, free("a", `"`+text+`"`))
		}
	}
	got := anonymised(t, append(list, list...)...)
	to, from := make(map[string]string), make(map[string]string)
	for i, v := range append(list, list...) {
		if before, ok := to[v.Text]; ok && before != got[i] {
			t.Fatalf("%s is %s and %s", v.Text, before, got[i])
		}
		if before, ok := from[got[i]]; ok && before != v.Text {
			t.Fatalf("%s and %s are both %s", before, v.Text, got[i])
		}
		to[v.Text], from[got[i]] = got[i], v.Text
		if originals[strings.Trim(got[i], `"`)] {
			t.Fatalf("%s stays", got[i])
		}
	}
}

// Nothing of what somebody wrote is left, wherever it stands.
func TestAnonymiseLeavesNothing(t *testing.T) {
	t.Parallel()
	value := free("a", `"zebra"`)
	value.Uses = []effective.Use{
		{Kind: "variable", Name: "zebra_v", Source: "environment", By: "MOXLIKE_VAR_zebra_v", Place: "zebra/z.hcl:3"},
		{Kind: "environment", Name: "ZEBRA"},
		{Kind: "file", Name: "/zebra/file"},
	}
	value.Fingerprint = "zebra"
	set := value
	set.Source, set.Place = tuning.FromDatabase, "database: domain zebra.test"
	step := effective.Step{
		Name: "zebra", Block: effective.Block{Type: "ratelimit", Labels: []string{"zebra"}, Place: "zebra.hcl:1", Values: []effective.Value{value}, Blocks: []effective.Block{{Type: "list", Labels: []string{"zebra.example"}}}},
		Via: []effective.Via{{Chain: "zebra", Place: "zebra.hcl:2"}},
	}
	steps := []effective.Step{step, {Parallel: []effective.Step{step}}}
	c := &effective.Config{
		Files: []string{"zebra.hcl", "zebra/z.hcl"}, Domain: "zebra.test",
		Blocks:    []effective.Block{{Type: "tls", Labels: []string{"files", "zebra"}, Place: "zebra.hcl:2", Values: []effective.Value{value}}},
		Listeners: []effective.Listener{{Block: effective.Block{Type: "listener", Labels: []string{"smtp", "zebra-in"}}, Chain: steps}},
		Domains: []effective.Domain{{
			Name: "zebra.test", Place: "zebra.hcl:9", Values: []effective.Value{free("aliases", `{ "zebra" = ["zebra@zebra.test"] }`)},
			Blocks: []effective.Block{{Type: "dkim", Values: []effective.Value{value}}}, Settings: []effective.Block{{Type: "settings", Labels: []string{"zebra"}, Values: []effective.Value{set}}},
			Chains: []effective.DomainChain{{Listener: "zebra-in", Place: "zebra.hcl:4", Chain: steps}},
		}},
	}
	anonymous := c.Anonymise()
	text, err := json.Marshal(anonymous)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := anonymous.Print(&printed); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{string(text), printed.String()} {
		if i := strings.Index(strings.ToLower(out), "zebra"); i >= 0 {
			t.Errorf("something is left: …%s", out[max(0, i-80):min(len(out), i+40)])
		}
	}
	if !strings.Contains(printed.String(), `ratelimit "ratelimit-1"`) || !strings.Contains(printed.String(), `settings "ratelimit-1"`) {
		t.Errorf("a label is not the same everywhere:\n%s", printed.String())
	}
	if c.Domain != "zebra.test" || c.Listeners[0].Block.Labels[1] != "zebra-in" || c.Domains[0].Settings[0].Labels[0] != "zebra" {
		t.Error("the original has changed")
	}
}

// What could steer a terminal does not reach it, nor leave its comment.
func TestPrintIsHarmless(t *testing.T) {
	t.Parallel()
	v := free("when", "tx.from == \"\x1b[31m\u202e\"")
	v.Place = "a\nb = 1\x1b.hcl:1"
	c := &effective.Config{Files: []string{"x\x1b\ny"}, Blocks: []effective.Block{{Type: "server", Place: "p\nserver {", Values: []effective.Value{v}}}}
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u202e") || strings.Contains(out.String(), "\nb = 1") || strings.Contains(out.String(), "\nserver {\n\n") {
		t.Errorf("%q", out.String())
	}
}
