package lint_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/lint"
)

// large is the example of the repository with a thousand domains, of which each tunes
// a handler: a file of 5,000 lines.
func large(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile(root + "/config.hcl.example")
	if err != nil {
		tb.Fatal(err)
	}
	var b strings.Builder
	b.Write(text)
	for i := range 1000 {
		fmt.Fprintf(&b, "domain \"d%d.example.test\" {\n  settings \"greylist\" {\n    delay = \"%dm\"\n  }\n}\n", i, i%50+1)
	}
	return b.String()
}

func TestLarge(t *testing.T) {
	t.Parallel()
	text := large(t)
	if n := strings.Count(text, "\n"); n < 5000 {
		t.Fatalf("%d lines only", n)
	}
	if r := check(t, catalogue(t), "large.hcl", text); len(r.Diagnostics) > 0 {
		t.Errorf("it gives\n%s", printed(r.Diagnostics, r.Sources))
	}
}

func BenchmarkLarge(b *testing.B) {
	c, text, dir := catalogue(b), large(b), b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		r := lint.Check(core.Options{ConfigFile: filepath.Join(dir, "a.hcl"), Source: []byte(text), DataDir: filepath.Join(dir, "data")}, c)
		if len(r.Diagnostics) > 0 {
			b.Fatal(printed(r.Diagnostics, r.Sources))
		}
	}
}

func BenchmarkExample(b *testing.B) {
	c, dir := catalogue(b), b.TempDir()
	text, err := os.ReadFile(root + "/config.hcl.example")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		lint.Check(core.Options{ConfigFile: filepath.Join(dir, "a.hcl"), Source: text, DataDir: filepath.Join(dir, "data")}, c)
	}
}
