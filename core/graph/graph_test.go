package graph_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/graph"
	"github.com/mox-like/mox-like/core/tuning"
)

var update = flag.Bool("update", false, "write the golden files")

func step(name string, stages ...string) effective.Step {
	return effective.Step{Name: name, Stages: stages, Block: effective.Block{Type: name, Place: "mox-like.hcl:7"}}
}

// example has every kind of step.
func example() *effective.Config {
	named := step("password", "auth")
	named.Via = []effective.Via{{Chain: "login", Place: "mox-like.hcl:3"}}
	watched := step("clamav", "data")
	watched.Monitor = true
	watched.Block.Values = []effective.Value{{Name: "mode", Text: `"monitor"`, Source: tuning.FromDatabase}, {Name: "when", Text: `tx.from != "<a&b>"`, Source: tuning.FromHandler}}
	off := step("hook", "rcpt")
	off.Disabled = true
	target := step("deliver", "rcpt", "data")
	target.Target = true
	labelled := step("ratelimit", "connect")
	labelled.Block.Labels = []string{"by-ip"}
	return &effective.Config{
		Listeners: []effective.Listener{
			{
				Block:  effective.Block{Labels: []string{"smtp", "mx"}, Values: []effective.Value{{Name: "address", Text: `["0.0.0.0:25", "[::]:25"]`}}},
				Stages: []string{"connect", "auth", "rcpt", "data"},
				Chain:  []effective.Step{labelled, named, off, {Parallel: []effective.Step{watched, step("spamassassin", "data"), step("attachments", "data")}}, target},
			},
			{Block: effective.Block{Labels: []string{"admin", "local"}}},
		},
		Domains: []effective.Domain{
			{Name: "*", Settings: []effective.Block{{Labels: []string{"clamav"}}}},
			{
				Name: "example.org", Settings: []effective.Block{{Labels: []string{"clamav"}}, {Labels: []string{"hook"}}},
				Chains: []effective.DomainChain{{Listener: "mx", Place: "mox-like.hcl:40", Chain: []effective.Step{{Inherit: true}, target}}},
			},
		},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, draw := range map[string]func(io.Writer, *effective.Config) error{"chains.txt": graph.Text, "chains.svg": graph.SVG} {
		var got bytes.Buffer
		if err := draw(&got, example()); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The picture is well-formed, with nothing that runs or is fetched, whatever the
// names are.
func TestSVGIsHarmless(t *testing.T) {
	t.Parallel()
	c := example()
	bad := "</text><script>alert(1)</script>\x1b\u202e\x00\ufffe"
	c.Listeners[0].Block.Labels[1] = bad
	c.Listeners[0].Chain[0].Block.Labels[0] = bad
	c.Domains[1].Name = bad
	var out bytes.Buffer
	if err := graph.SVG(&out, c); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"svg": true, "title": true, "style": true, "text": true, "rect": true, "line": true, "circle": true, "g": true}
	for d := xml.NewDecoder(&out); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if !allowed[element.Name.Local] {
			t.Errorf("it has an element %s", element.Name.Local)
		}
		for _, a := range element.Attr {
			if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
				t.Errorf("%s has the attribute %s", element.Name.Local, a.Name.Local)
			}
		}
	}
	if err := graph.Text(&out, c); err != nil || strings.ContainsAny(out.String(), "\x1b\u202e\x00") {
		t.Errorf("the text could steer a terminal (error %v)", err)
	}
}

// Many chains of domains are not all drawn.
func TestMany(t *testing.T) {
	t.Parallel()
	c := example()
	for i := range 1000 {
		d := c.Domains[1]
		d.Name = fmt.Sprintf("d%d.example", i)
		c.Domains = append(c.Domains, d)
	}
	var out bytes.Buffer
	if err := graph.Text(&out, c); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "951 more chains of domains are not drawn") || !strings.Contains(out.String(), "d0.example, d1.example and 998 more tune: clamav, hook") {
		t.Errorf("the end is: %s", out.String()[out.Len()-500:])
	}
}
