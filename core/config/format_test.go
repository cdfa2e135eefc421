package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/mox-like/mox-like/core/config"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ src, want string }{
		"empty":          {"", ""},
		"only white":     {" \n\t\n", ""},
		"comment":        {"# a  \n\n\n\n# b", "# a\n\n# b\n"},
		"alignment":      {"a=1\nlong = 2 # x\n", "a    = 1\nlong = 2 # x\n"},
		"indentation":    {"server {\nhostname=\"a\"\n\t\tlog   {\n x=1\n}\n}", "server {\n  hostname = \"a\"\n  log {\n    x = 1\n  }\n}\n"},
		"CRLF":           {"a = 1\r\n\r\n\r\nb = 2\r\n", "a = 1\n\nb = 2\n"},
		"heredoc":        {"a = <<EOT\n  text  \n\n\n  more\nEOT\n\n\nb=1\n", "a = <<EOT\n  text  \n\n\n  more\nEOT\n\nb = 1\n"},
		"long comment":   {"/* one  \n\n\n   two */\n\n\na=1", "/* one  \n\n\n   two */\n\na = 1\n"},
		"list":           {"a=[\n1,\n\n\n2,# two\n]\n", "a = [\n  1,\n\n  2, # two\n]\n"},
		"leading":        {"\n\n# first\na = 1\n", "# first\na = 1\n"},
		"slash comments": {"a = 1 // one\n", "a = 1 // one\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ds := config.Format("a.hcl", []byte(c.src))
			if ds.HasErrors() {
				t.Fatal(ds.Err())
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A text that does not parse is refused with its place.
func TestFormatRefuses(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{
		"syntax":  "server {\n  a = \n}\n",
		"open":    "server {\n",
		"nesting": "a = " + strings.Repeat("[", 10_000),
		"twice":   "a = 1\na = 2\n",
	} {
		got, ds := config.Format("a.hcl", []byte(src))
		if !ds.HasErrors() || got != nil || ds[0].Range.Filename != "a.hcl" || ds[0].Range.Start.Line == 0 {
			t.Errorf("%s: %q, diagnostics %v", name, got, ds)
		}
	}
}

// checkFormat holds what is true of every text that can be formatted.
func checkFormat(t *testing.T, src []byte) {
	t.Helper()
	once, ds := config.Format("a.hcl", src)
	if ds.HasErrors() {
		return
	}
	twice, ds := config.Format("a.hcl", once)
	if ds.HasErrors() {
		t.Fatalf("what was formatted is refused: %v\n%q\n%q", ds.Err(), src, once)
	}
	if !bytes.Equal(once, twice) {
		t.Fatalf("not idempotent (-once +twice):\n%s", cmp.Diff(string(once), string(twice)))
	}
	if diff := cmp.Diff(words(t, src), words(t, once)); diff != "" {
		t.Fatalf("the words differ (-before +after):\n%s", diff)
	}
}

// words gives the tokens of a text that mean something, and its comments.
func words(t *testing.T, src []byte) []string {
	t.Helper()
	tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos)
	var list []string
	for _, token := range tokens {
		if token.Type == hclsyntax.TokenNewline || token.Type == hclsyntax.TokenEOF {
			continue
		}
		text := string(token.Bytes)
		if token.Type == hclsyntax.TokenComment || token.Type == hclsyntax.TokenOHeredoc || token.Type == hclsyntax.TokenCHeredoc {
			text = strings.TrimSpace(text)
		}
		list = append(list, text)
	}
	return list
}

// Every configuration of the project is formatted without a change of what it says,
// and stays so.
func TestFormatTree(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, name := range hclFiles(t) {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		checkFormat(t, src)
		checked++
	}
	if checked < 10 {
		t.Errorf("only %d files were found", checked)
	}
}

func hclFiles(tb testing.TB) []string {
	tb.Helper()
	var names []string
	err := filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && (strings.HasSuffix(path, ".hcl") || strings.HasSuffix(path, ".hcl.example")) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

func FuzzFormat(f *testing.F) {
	for _, seed := range []string{
		"a=<<-EOT\n  x${ b }\n  EOT\n", "a = [for x in b:x if x]", "/* a\n b */ c = 1", "a = {b=1,\nc:2}",
		"a { b = 1 }\r\n\r\n\r\n", "a = \"${b}%{if c}d%{endif}\"", "a = b ? c : d # e\n//f\n", "a {\n\n\n# x\n\n\n}\n",
	} {
		f.Add([]byte(seed))
	}
	if example, err := os.ReadFile("../../config.hcl.example"); err == nil {
		f.Add(example)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 64<<10 {
			return
		}
		checkFormat(t, src)
	})
}

// BenchmarkFormat lays out a file of 1,000 domains.
func BenchmarkFormat(b *testing.B) {
	var src bytes.Buffer
	for range 1000 {
		src.WriteString("domain \"example.org\" {\naliases = { a = [\"b\"] }\n  settings \"greylist\" {\n delay=\"5m\"\n}\n\n\n}\n")
	}
	b.SetBytes(int64(src.Len()))
	for b.Loop() {
		if _, ds := config.Format("a.hcl", src.Bytes()); ds.HasErrors() {
			b.Fatal(ds.Err())
		}
	}
}
