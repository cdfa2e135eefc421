package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/graph"
)

// describe describes the configuration of a text.
func describe(tb testing.TB, src []byte, q effective.Query) *effective.Config {
	tb.Helper()
	c, ds, _, err := core.Configuration(core.Options{ConfigFile: filepath.Join(tb.TempDir(), "mox-like.hcl"), Source: src}, q, nil)
	if err != nil || c == nil {
		tb.Fatalf("error %v, diagnostics %v", err, ds.Err())
	}
	return c
}

func printed(tb testing.TB, c *effective.Config) []byte {
	tb.Helper()
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func exampleFile(tb testing.TB) []byte {
	tb.Helper()
	src, err := os.ReadFile("../../config.hcl.example")
	if err != nil {
		tb.Fatal(err)
	}
	return src
}

// What config show prints is a file that means the same, as fmt lays it out.
func TestShownConfigurationIsOne(t *testing.T) {
	t.Parallel()
	c := describe(t, exampleFile(t), effective.Query{})
	text := printed(t, c)
	laid, ds := config.Format("shown.hcl", text)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	if diff := cmp.Diff(string(laid), string(text)); diff != "" {
		t.Errorf("fmt changes it (-fmt +shown):\n%s", diff)
	}
	if changes := effective.Compare(c, describe(t, text, effective.Query{})); len(changes) > 0 {
		t.Errorf("it means something else: %v", changes)
	}
}

// literals are the texts of a file that somebody has written.
var literals = regexp.MustCompile(`"((?:[^"\\\n]|\\.)+)"`)

// kept are words of the example that the program knows, and what is no name.
var kept = regexp.MustCompile(`^([a-z_]+|[\d./]+[a-zA-Z]*|\*|(0\.0\.0\.0|\[::\]):\d+|example\.(org|net))$`)

// No path, host, address or label of the example is left once it is anonymised. It
// is valid then too.
func TestAnonymisedExample(t *testing.T) {
	t.Parallel()
	src := exampleFile(t)
	// Its domains are those for documents already.
	src = []byte(strings.NewReplacer("example.org", "zebra.test", "example.net", "giraffe.test", "alice", "yvonne", "carol", "xaver").Replace(string(src)))
	text := string(printed(t, describe(t, src, effective.Query{}).Anonymise()))
	checked := 0
	for line := range strings.Lines(string(src)) {
		line, _, _ = strings.Cut(line, "#")
		for _, m := range literals.FindAllStringSubmatch(line, -1) {
			if kept.MatchString(m[1]) {
				continue
			}
			checked++
			if strings.Contains(text, `"`+m[1]+`"`) && m[1] != "/var/lib/mox-like" {
				t.Errorf("%q is left", m[1])
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d texts were looked for", checked)
	}
	for _, word := range []string{"zebra", "giraffe", "yvonne", "xaver", "clamd", `"mx"`, `"submission"`, `"login"`, `"connections"`} {
		if strings.Contains(text, word) {
			t.Errorf("%s is left", word)
		}
	}
	describe(t, []byte(text), effective.Query{})
}

// The chains of a domain are the listener's with what lies over them.
func TestDescribeDomain(t *testing.T) {
	t.Parallel()
	c := describe(t, exampleFile(t), effective.Query{Domain: "Example.NET", Listener: "mx"})
	want := map[string]string{"recipients.limit": `"200/1h"`, "greylist.mode": `"monitor"`, "greylist.recipient": `"address"`, "guesses.limit": `"20/1h"`}
	for _, s := range effective.Handlers(c.Listeners[0].Chain) {
		for _, v := range s.Block.Values {
			if text, ok := want[s.Name+"."+v.Name]; ok {
				if text != v.Text {
					t.Errorf("%s.%s is %s, want %s", s.Name, v.Name, v.Text, text)
				}
				delete(want, s.Name+"."+v.Name)
			}
		}
	}
	if len(want) > 0 || len(c.Listeners) != 1 || len(c.Domains) != 1 {
		t.Errorf("missing: %v; %d listeners, %d domains", want, len(c.Listeners), len(c.Domains))
	}
}

// manyDomains is the example with n domains, each with settings, every tenth with a
// chain.
func manyDomains(tb testing.TB, n int) []byte {
	tb.Helper()
	var out bytes.Buffer
	out.Write(exampleFile(tb))
	for i := range n {
		fmt.Fprintf(&out, "domain \"d%d.example\" {\n  aliases = { sales = [\"a\", \"b\"] }\n  settings \"greylist\" {\n    delay = \"%dm\"\n  }\n", i, i%60+1)
		if i%10 == 0 {
			out.WriteString("  chain \"mx\" {\n    inherit {}\n    deliver {}\n  }\n")
		}
		out.WriteString("}\n")
	}
	return out.Bytes()
}

// BenchmarkConfigTools takes a file of 1,000 domains.
func BenchmarkConfigTools(b *testing.B) {
	src := manyDomains(b, 1000)
	o := core.Options{ConfigFile: filepath.Join(b.TempDir(), "mox-like.hcl"), Source: src}
	c := describe(b, src, effective.Query{})
	other := describe(b, bytes.ReplaceAll(src, []byte(`delay = "7m"`), []byte(`delay = "9m"`)), effective.Query{})
	for _, one := range []struct {
		name string
		do   func() error
	}{
		{"describe", func() error { _, _, _, err := core.Configuration(o, effective.Query{}, nil); return err }},
		{"print", func() error { return c.Print(new(bytes.Buffer)) }},
		{"anonymise", func() error { c.Anonymise(); return nil }},
		{"compare", func() error { effective.Compare(c, other); return nil }},
		{"text", func() error { return graph.Text(new(bytes.Buffer), c) }},
		{"svg", func() error { return graph.SVG(new(bytes.Buffer), c) }},
		{"fmt", func() error { _, ds := config.Format("a.hcl", src); return ds.Err() }},
	} {
		b.Run(one.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := one.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
