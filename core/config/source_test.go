package config_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
)

// files is a file system of texts.
type files map[string]string

func (f files) options() config.Options {
	return config.Options{
		Environ: testEnviron,
		ReadFile: func(name string) ([]byte, error) {
			text, ok := f[filepath.ToSlash(name)]
			if !ok {
				return noFiles(name)
			}
			return []byte(text), nil
		},
		Glob: func(pattern string) ([]string, error) {
			var names []string
			for name := range f {
				if ok, err := filepath.Match(pattern, name); err != nil {
					return nil, err
				} else if ok {
					names = append(names, name)
				}
			}
			return names, nil
		},
	}
}

func TestLoadFromDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "none.hcl")
	f, ds := config.Load(name, config.Options{})
	want := `0:0-0:0 error config/no-file: no configuration file at ` + name + ` | Check the name and the working directory.`
	if got := list(ds); got != want {
		t.Errorf("missing file: %s", got)
	}
	if !f.Partial || f.Root == nil || len(f.Root.Blocks()) != 0 {
		t.Errorf("missing file: %+v", f)
	}

	f, ds = config.Load(dir, config.Options{})
	if got := list(ds); !f.Partial || !strings.HasPrefix(got, `0:0-0:0 error config/unreadable-file: cannot read configuration file `+dir+`: is a directory`) {
		t.Errorf("directory: %s", got)
	}

	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(`text = file("secret")`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), bytes.Repeat([]byte("a"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, ds = config.Load(filepath.Join(dir, "main.hcl"), config.Options{})
	var into all
	if ds.Append(config.Decode(f.Root, &into)); len(ds) > 0 || len(into.Text) != 1<<20 {
		t.Errorf("file of 1 MiB: %d bytes, %s", len(into.Text), list(ds))
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), bytes.Repeat([]byte("a"), 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	got := list(config.Decode(f.Root, &into))
	if want := "1:8-1:22 error expr/function: file: cannot read " + filepath.Join(dir, "secret") + ": it is larger than 1MiB"; got != want {
		t.Errorf("larger file:\n%s\nwant\n%s", got, want)
	}
}

// TestIncludeOrder holds that what is included stands where the include stands.
func TestIncludeOrder(t *testing.T) {
	t.Parallel()
	fs := files{
		"etc/main.hcl":   "a \"1\" {}\ninclude = [\"b/*.hcl\", \"/abs.hcl\"]\na \"9\" {}\nvariable \"v\" { default = 1 }\n",
		"etc/b/2.hcl":    "a \"3\" {}\n",
		"etc/b/1.hcl":    "include = \"sub/x\"\na \"2b\" {}\n",
		"etc/b/sub/x":    "a \"2a\" {}\n",
		"/abs.hcl":       "a \"4\" {}\nzone = \"z\"\n",
		"etc/b/sub/x.no": "broken",
	}
	f, ds := config.Load("etc/main.hcl", fs.options())
	if len(ds) > 0 {
		t.Fatalf("diagnostics:\n%s", list(ds))
	}
	var order []string
	for _, b := range f.Root.Blocks("a") {
		order = append(order, b.Label(0))
	}
	if diff := cmp.Diff([]string{"1", "2a", "2b", "3", "4", "9"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if len(f.Root.Blocks("variable")) != 0 || f.Root.Body.Attributes["include"] != nil || f.Root.Body.Attributes["zone"] == nil {
		t.Error("the root has variables or includes, or lacks an attribute")
	}
	if len(f.Sources) != 5 {
		t.Errorf("%d sources, want 5", len(f.Sources))
	}
}

func TestIncludeMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string
		files      files
	}{
		{
			"itself by a pattern",
			`1:12-1:19 error config/include-cycle: main.hcl includes itself | Remove the include, or use a pattern that does not match the file.`,
			files{"main.hcl": `include = ["*.hcl"]`},
		},
		{
			"through two files",
			`1:11-1:23 error config/include-cycle: x/a.hcl includes itself | Remove the include, or use a pattern that does not match the file. | 1:11 the way leads through this include`,
			files{"main.hcl": `include = "x/a.hcl"`, "x/a.hcl": `include = "b.hcl"`, "x/b.hcl": `include = "../x/a.hcl"`},
		},
		{
			"same attribute in two files",
			`2:1-2:5 error config/duplicate-attribute: attribute "zone" is set twice | Remove one of them. | 1:1 the first one stands here`,
			files{"main.hcl": "include = \"b.hcl\"\nzone = \"a\"\n", "b.hcl": `zone = "b"`},
		},
		{
			"wrong type",
			`1:11-1:12 error config/wrong-type: attribute "include" must be a list of strings | Here stands a number. Write it as include = ["text"].`,
			files{"main.hcl": "include = 5"},
		},
		{
			"syntax in the included file",
			`1:6-1:7 error hcl/syntax: invalid expression | Expected the start of an expression, but found an invalid expression token.`,
			files{"main.hcl": `include = "b.hcl"`, "b.hcl": "a = (]\n"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, ds := config.Load("main.hcl", test.files.options())
			if diff := cmp.Diff(test.want, list(ds)); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	const src = `
variable "plain" {}
variable "port" { type = number }
variable "zones" {
  type    = list(string)
  default = []
}
variable "pair" { default = { a = 1 } }
text    = var.plain
count   = var.port
choices = var.zones
bounded = var.pair.a
`
	o := config.Options{Environ: testEnviron, Variables: map[string]string{
		"plain": "${raw}", "zones": `["red"]`, "pair": `{ a = 5, b = 6 }`,
	}}
	f, ds := config.Parse("test.hcl", []byte(src), o)
	var got all
	if ds.Append(config.Decode(f.Root, &got)); len(ds) > 0 {
		t.Fatalf("diagnostics:\n%s", list(ds))
	}
	if got.Text != "${raw}" || got.Count != 2525 || got.Choices[0] != "red" || got.Bounded != 5 {
		t.Errorf("decoded %+v", got)
	}

	o.Variables = map[string]string{"plein": "x", "plain": "", "zones": "[", "pair": "env(1)", "port": "1e"}
	_, ds = config.Parse("test.hcl", []byte(src), o)
	want := strings.Join([]string{
		`0:0-0:0 error config/unknown-variable: a value is given for the variable "plein", which no file declares | Did you mean "plain"?`,
		`3:10-3:16 error config/bad-value: the value given for the variable "port" is not a number | The command line or the environment (MOXLIKE_VAR_port) gives it. Lists and maps are written as in the file.`,
		`4:10-4:17 error config/bad-value: the value given for the variable "zones" is not a list of string | The command line or the environment (MOXLIKE_VAR_zones) gives it. Lists and maps are written as in the file.`,
		`8:10-8:16 error config/bad-value: the value given for the variable "pair" is not a object | The command line or the environment (MOXLIKE_VAR_pair) gives it. Lists and maps are written as in the file.`,
	}, "\n")
	if diff := cmp.Diff(want, list(ds)); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

// TestVariablesOfTheEnvironment holds that the names of the environment may be in
// capitals, and that what is there for no variable is told.
func TestVariablesOfTheEnvironment(t *testing.T) {
	t.Parallel()
	environment := map[string]string{
		"MOXLIKE_VAR_TEXT": "capitals", "MOXLIKE_VAR_choice": "green", "MOXLIKE_VAR_CHOICE": "red", "MOXLIKE_VAR_CHIOCE": "x", "MOXLIKE_VAR_": "y", "PATH": "z",
	}
	o := config.Options{
		Environ:      func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
		EnvironNames: func() []string { return slices.Collect(maps.Keys(environment)) },
	}
	f, ds := config.Parse("test.hcl", []byte("variable \"text\" {}\nvariable \"choice\" {}\ntext = var.text\nchoice = var.choice\n"), o)
	var got all
	ds.Append(config.Decode(f.Root, &got))
	want := `0:0-0:0 warning config/unknown-variable: the environment has MOXLIKE_VAR_, but no file declares the variable "" | Declare it by a variable block, or take it out of the environment.
0:0-0:0 warning config/unknown-variable: the environment has MOXLIKE_VAR_CHIOCE, but no file declares the variable "CHIOCE" | Did you mean "choice"?`
	if diff := cmp.Diff(want, list(ds)); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
	if got.Text != "capitals" || got.Choice != "green" {
		t.Errorf("decoded %q and %q", got.Text, got.Choice)
	}
	_, ds = config.Parse("test.hcl", []byte("listener {"), o)
	if _, warnings := ds.Count(); warnings > 0 {
		t.Errorf("warnings about a file that does not parse:\n%s", list(ds))
	}
}

// TestSensitive holds that nothing that is printed has the value of a secret,
// wherever it comes from and whatever is wrong with it.
func TestSensitive(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	fs := files{"secret.txt": secret, "list.json": `["hunter2", {"hunter2": 1}]`}
	sources := []string{
		"variable \"s\" {\n  sensitive = true\n  default = \"hunter2\"\n}\n",
		"variable \"s\" {\n  default = <<EOT\nhunter2\nEOT\n  sensitive = true\n}\n",
		"variable \"s\" {\n  default = file(\"secret.txt\")\n  sensitive = true\n}\n",
		"variable \"s\" {\n  type = bool\n  default = \"hunter2\"\n  sensitive = true\n}\n",
		"variable \"s\" {\n  default = \"hunter2\"\n  sensitive = true\n",
		"variable \"s\" {\n  default = \"hunter2\n  sensitive = true\n}\n",
		"variable \"s\" { default = \"hunter2\", sensitive = true }\n",
		"variable \"s\" {\ndefault = \"hunter2\" \"\nsensitive = true\n}\n",
		"variable s {\n  default = [\n\"hunter2\"\n \"hunter2\"\n]\n  sensitive = true\n}\n",
		"variable \"s\" {}\n",
	}
	uses := []string{
		`text = [var.s]`, `truth = var.s`, `small = var.s`, `time = "1${var.s}"`, `rate = lower(var.s)`,
		`mail_address = var.s`, `choices = [var.s, "x"]`, `lists = { (var.s) = "x" }`, `networks = split("e", var.s)`,
		`text = var.s.part`, `text = var.s[5]`, `text = jsondecode(var.s)`, `truth = matches("x", "(${var.s}")`,
		`truth = cidr_contains(var.s, "x")`, `text = env(var.s)`, `text = file(var.s)`, `maybe = var.s + 1`,
		`truth = var.s ? 1 : 2`, `text = jsondecode(file("list.json"))[1].x`, `text = { a = 1 }[var.s]`,
		`truth = file("secret.txt")`, `names = { a = "b", (var.s) = 5 }`, `texts = [for x in var.s : x]`,
	}
	for _, source := range sources {
		for _, use := range uses {
			o := fs.options()
			o.Variables = map[string]string{}
			if source == "variable \"s\" {}\n" {
				o.Variables["s"] = secret
				source = "variable \"s\" {\n  sensitive = true\n}\n"
			}
			f, ds := config.Parse("test.hcl", []byte(source+use+"\n"), o)
			var into all
			ds.Append(config.Decode(f.Root, &into))
			if len(ds) == 0 {
				t.Errorf("no diagnostic:\n%s%s", source, use)
			}
			var out bytes.Buffer
			config.Print(&out, ds, f.Sources, config.PrintOptions{})
			if shown := out.String() + list(ds) + string(f.Sources["test.hcl"]); strings.Contains(shown, secret) {
				t.Errorf("the secret is shown:\n%s%s\n---\n%s\n%s", source, use, f.Sources["test.hcl"], out.String())
			}
		}
	}
}

// TestNesting holds that texts which would exhaust the stack are refused.
func TestNesting(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"(", "[", "{a=", "lower(", `"${`, "a {\n", "!!", "--", "1?1:", "1+", `"%{if true}`} {
		src := "a = " + strings.Repeat(unit, 60_000) + "1"
		if unit == "a {\n" {
			src = strings.Repeat(unit, 1_000)
		}
		f, ds := config.Parse("test.hcl", []byte(src), config.Options{})
		if len(ds) != 1 || ds[0].Code != "config/too-large" || !f.Partial {
			t.Errorf("%s…: %s", unit, list(ds))
		}
	}
	// Long lists are no nesting.
	src := "texts = [\n" + strings.Repeat("  \"entry\",\n", 10_000) + "]\n" + strings.Repeat("many \"x\" {\n  value = 1\n}\n", 20_000)
	parse(t, src)
}
