package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
)

func parsed(t testing.TB, text string) *config.File {
	t.Helper()
	f, ds := config.Parse("main.hcl", []byte(text), config.Options{Environ: func(string) (string, bool) { return "", false }})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestValueText(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"10m":               `"10m"`,
		"monitor":           `"monitor"`,
		"100/1h":            `"100/1h"`,
		"25MB":              `"25MB"`,
		"192.0.2.0/24":      `"192.0.2.0/24"`,
		"no such user here": `"no such user here"`,
		"":                  `""`,
		"10":                "10",
		"-2.5":              "-2.5",
		"true":              "true",
		"null":              "null",
		`"10m"`:             `"10m"`,
		`["a", "b"]`:        `["a", "b"]`,
		`{ a = 1 }`:         `{ a = 1 }`,
		`tx.size > 10`:      `tx.size > 10`,
		"var.limit":         "var.limit",
		`lower("A")`:        `lower("A")`,
		`env("HOME")`:       `env("HOME")`,
		`["a"`:              `["a"`,
		`"a`:                `"a`,
	} {
		if got := config.ValueText(typed); got != want {
			t.Errorf("%s: %s, want %s", typed, got, want)
		}
	}
}

func TestOverlayIsLaidOverABlock(t *testing.T) {
	t.Parallel()
	f := parsed(t, `
greylist {
  delay  = "5m"
  window = "1d"
}
`)
	o := f.NewOverlay("database: domain example.org")
	block, ds := o.Block("settings", "greylist", []config.Given{{Name: "delay", Value: `"7m"`}, {Name: "window", Value: `"2 days"`}})
	if len(ds) > 0 {
		t.Fatal(ds)
	}
	var got struct {
		Delay  time.Duration `config:"delay"`
		Window time.Duration `config:"window"`
	}
	ds = config.Decode(f.Root.Blocks("greylist")[0].Merge(block), &got)
	if got.Delay != 7*time.Minute {
		t.Errorf("delay is %v", got.Delay)
	}
	var out strings.Builder
	config.Print(&out, ds, map[string][]byte{"database: domain example.org": o.Text()}, config.PrintOptions{})
	want := `error[config/bad-value]: attribute "window": "2 days" is not a duration
 --> database: domain example.org:3:12
  |
3 |   window = "2 days"
  |            ^^^^^^^^
`
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("printed:\n%s", out.String())
	}
	if got := block.Show("delay", nil); got != `"7m"` {
		t.Errorf("delay shows as %s", got)
	}
}

// TestOverlayReachesNothing: a value can neither read what belongs to the server
// nor grow beyond its text.
func TestOverlayReachesNothing(t *testing.T) {
	t.Parallel()
	f := parsed(t, `
variable "secret" {
  default   = "abc"
  sensitive = true
}
x {}
`)
	for value, code := range map[string]string{
		`env("HOME")`:                           "expr/function",
		`upper(file("/etc/hostname"))`:          "expr/function",
		`join("xx", split("", "aaaa"))`:         "expr/function",
		`var.secret`:                            "expr/variable",
		`"a${var.secret}b"`:                     "expr/variable",
		`var["secret"]`:                         "expr/variable",
		`matches(var.secret, "^a") ? 1 : 2`:     "expr/variable",
		`tx.header[var.secret] == "x"`:          "expr/variable",
		`[for a in [1, 2]: [for b in [3]: b]]`:  "expr/for",
		`"%{ for a in [1, 2] }${a}%{ endfor }"`: "expr/for",
		`{ for k in ["a"] : k => 1 }`:           "expr/for",
		strings.Repeat("!", 201) + "true":       "expr/invalid",
	} {
		_, ds := f.NewOverlay("database").Block("settings", "x", []config.Given{{Name: "value", Value: value}})
		if len(ds) == 0 || ds[0].Code != code || strings.Contains(fmt.Sprint(ds), "abc") {
			t.Errorf("%s: %v", value, ds)
		}
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	f := parsed(t, `
variable "secret" {
  default   = "abc"
  sensitive = true
}
x {
  plain  = "a"
  list   = ["a", 1, true]
  secret = "Bearer ${var.secret}"
  text   = upper("a")
  when   = tx.size > 10 # bytes
}
`)
	block := f.Root.Blocks("x")[0]
	for name, want := range map[string]string{
		"plain": `"a"`, "list": `["a", 1, true]`, "secret": config.Hidden, "text": `"A"`, "when": "tx.size > 10", "none": "",
	} {
		if got := block.Show(name, f.Sources); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestEdited(t *testing.T) {
	t.Parallel()
	delay := []config.Given{{Name: "delay", Value: `"10m"`}}
	tests := map[string]struct {
		text, want string
		settings   []config.Given
	}{
		"empty block": {
			"domain \"a.test\" {}\n",
			"domain \"a.test\" {\n  settings \"greylist\" {\n    delay = \"10m\"\n  }\n}\n", delay,
		},
		"in one line": {
			"domain \"a.test\" { catch_all = \"x\" } # mine\n",
			"domain \"a.test\" {\n  catch_all = \"x\"\n  settings \"greylist\" {\n    delay = \"10m\"\n  }\n} # mine\n", delay,
		},
		"settings in one line": {
			"domain \"a.test\" {\n  settings \"greylist\" { window = \"1d\" }\n}\n",
			"domain \"a.test\" {\n  settings \"greylist\" {\n    window = \"1d\"\n    delay  = \"10m\"\n  }\n}\n", delay,
		},
		"replaced with its comment": {
			"domain \"a.test\" {\n  settings \"greylist\" {\n    # why\n    delay = \"5m\" # note\n  }\n  settings \"spf\" {}\n}\n",
			"domain \"a.test\" {\n  settings \"greylist\" {\n    # why\n    delay = \"10m\" # note\n  }\n  settings \"spf\" {}\n}\n", delay,
		},
		"formatted otherwise": {
			"domain   \"a.test\" {\n      aliases={}\n}\n",
			"domain   \"a.test\" {\n      aliases={}\n  settings \"greylist\" {\n    delay = \"10m\"\n  }\n}\n", delay,
		},
		"heredoc replaced": {
			"domain \"a.test\" {\n  settings \"greylist\" {\n    delay = <<EOT\nx\nEOT\n  }\n}\n",
			"domain \"a.test\" {\n  settings \"greylist\" {\n    delay = \"10m\"\n  }\n}\n", delay,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := parsed(t, tt.text)
			out, err := f.Edited([]config.Edit{{
				At: f.Root.Blocks("domain")[0].DefRange, Nested: "settings", NestedLabel: "greylist", Settings: tt.settings,
			}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(out["main.hcl"])); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEditedMakesABlock(t *testing.T) {
	t.Parallel()
	f := parsed(t, "server {}")
	edit := config.Edit{Type: "domain", Label: "*", Nested: "settings", NestedLabel: "a", Settings: []config.Given{{Name: "x", Value: "1"}}}
	other := edit
	other.NestedLabel = "b"
	out, err := f.Edited([]config.Edit{edit, other})
	if err != nil {
		t.Fatal(err)
	}
	want := "server {}\n\ndomain \"*\" {\n  settings \"a\" {\n    x = 1\n  }\n  settings \"b\" {\n    x = 1\n  }\n}\n"
	if diff := cmp.Diff(want, string(out["main.hcl"])); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

// A value is a value, whatever it is made of: what an overlay takes stands in the
// file as that one attribute.
func FuzzGiven(f *testing.F) {
	for _, seed := range []string{
		`"10m"`, `"a" # b`, `"a" /* b`, `"a" // b`, "1\n}", "[1,", `"${1}"`, `"%{ if true }a%{ endif }"`, "<<EOT\nx\nEOT", `env("A")`, "{ a = 1 }", "x ? 1 : 2",
		`"a" }`, "[for x in [1] : x]", "1 y = 2", "\u2028", `"\u0000"`, "((((1))))",
	} {
		f.Add("delay", seed)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		file := parsed(t, "domain \"a.test\" {}\n")
		settings := []config.Given{{Name: name, Value: value}, {Name: "last", Value: "1"}}
		block, ds := file.NewOverlay("o").Block("settings", "h", settings)
		if ds.HasErrors() || name == "last" {
			return
		}
		out, err := file.Edited([]config.Edit{{At: file.Root.Blocks("domain")[0].DefRange, Nested: "settings", NestedLabel: "h", Settings: settings}})
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		again, ds := config.Parse("main.hcl", out["main.hcl"], config.Options{})
		if err := ds.Err(); err != nil {
			t.Fatalf("%q: %v\n%s", value, err, out["main.hcl"])
		}
		domains := again.Root.Blocks()
		if len(domains) != 1 || len(domains[0].Blocks()) != 1 || len(domains[0].Attributes()) != 0 {
			t.Fatalf("%q gives\n%s", value, out["main.hcl"])
		}
		var names []string
		for _, a := range domains[0].Blocks()[0].Attributes() {
			names = append(names, a.Name)
		}
		if !slices.Equal(names, []string{name, "last"}) || len(domains[0].Blocks()[0].Blocks()) != 0 {
			t.Fatalf("%q gives %v\n%s", value, names, out["main.hcl"])
		}
		was, is := block.Show(name, nil), domains[0].Blocks()[0].Show(name, nil)
		if was != is {
			t.Fatalf("%q means %s, and in the file %s", value, was, is)
		}
	})
}
