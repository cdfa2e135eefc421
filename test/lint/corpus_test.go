package lint_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/lint"
)

var update = flag.Bool("update", false, "write the golden files")

const corpus = root + "/core/lint/testdata/wrong"

// build finds the lists of what the build has, which grow without a change here.
var build = regexp.MustCompile(`(It has|The functions are|Its blocks are|The kinds are): [^\n]*\n`)

// elsewhere are the files that can be put right at another place than the one that
// the mistake shows at, with what is said of it: the help names that place.
var elsewhere = map[string]string{
	"domain_none":                 "a domain is missing",
	"domain_template_catch_all":   "it belongs into the block of a domain",
	"listener_tls_no_certificate": "a tls block is missing",
	"order_dmarc_without_spf":     "spf is missing in front",
	"when_spf_before_spf":         "spf is missing in front",
	"when_dkim_without":           "dkim_verify is missing in front",
	"when_dmarc_without":          "dmarc is missing in front",
}

// TestCorpus checks files with one mistake each. What is said of it is one finding,
// as the golden file has it, and it points at a line that the file beside, which is
// put right, has otherwise. Of that file nothing is said.
func TestCorpus(t *testing.T) {
	here, err := os.Getwd() // relative paths of the files are below it
	if err != nil {
		t.Fatal(err)
	}
	t.Parallel()
	c := catalogue(t)
	names, err := filepath.Glob(corpus + "/*.fixed.hcl")
	if err != nil || len(names) < 150 {
		t.Fatalf("the corpus has %d files, error %v", len(names), err)
	}
	for _, fixed := range names {
		name := strings.TrimSuffix(filepath.Base(fixed), ".fixed.hcl")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong := read(t, filepath.Join(corpus, name+".hcl"))
			r := checkAs(t, c, name+".hcl", wrong)
			got, golden := build.ReplaceAllString(printed(r.Diagnostics, r.Sources), "$1: ….\n"), filepath.Join(corpus, name+".golden")
			got = strings.ReplaceAll(got, here+string(filepath.Separator), "")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(read(t, golden), got); diff != "" {
				t.Errorf("(-golden +got):\n%s", diff)
			}
			if len(r.Diagnostics) != 1 {
				t.Fatalf("one mistake gives %d findings:\n%s", len(r.Diagnostics), got)
			}
			right := read(t, fixed)
			if d := r.Diagnostics[0]; touches(d, wrong, right) == (elsewhere[name] != "") {
				t.Errorf("what is put right is another place:\n%s", got)
			}
			if p, ok := c.Page(r.Diagnostics[0].Code); !ok || p.Severity == config.Warning && r.Diagnostics[0].Severity == config.Error {
				t.Errorf("the page of %s: %t, severity %s", r.Diagnostics[0].Code, ok, p.Severity)
			}
			if r := checkAs(t, c, name+".fixed.hcl", right); len(r.Diagnostics) > 0 {
				t.Errorf("put right it still has\n%s", printed(r.Diagnostics, r.Sources))
			}
		})
	}
}

// checkAs checks a text under a name without a folder, so that diagnostics are the
// same on every machine.
func checkAs(t *testing.T, c *lint.Catalogue, name, text string) *lint.Report {
	t.Helper()
	return lint.Check(core.Options{
		ConfigFile: name, Source: []byte(text), DataDir: filepath.Join(t.TempDir(), "data"),
		Config: config.Options{Environ: func(string) (string, bool) { return "", false }},
	}, c)
}

// touches tells whether a finding is about a place that was put right: a line that
// is another, or a place that the finding relates to, or a block that holds it and
// whose header is on the way.
func touches(d config.Diagnostic, wrong, right string) bool {
	first, last := changed(strings.Split(wrong, "\n"), strings.Split(right, "\n"))
	places := []int{d.Range.Start.Line}
	for _, r := range d.Related {
		places = append(places, r.Range.Start.Line)
	}
	if slices.ContainsFunc(places, func(line int) bool { return first <= line && line <= last }) {
		return true
	}
	lines := strings.Split(wrong, "\n")
	for _, line := range places {
		if line > 0 && line < first && strings.HasSuffix(strings.TrimSpace(lines[line-1]), "{") && last <= closing(lines, line) {
			return true
		}
	}
	return d.Range.Start.Line == 0 || d.Range.Start.Line == 1 && first == 1
}

// changed gives the lines of a that b has otherwise; for what b has more, those
// around it.
func changed(a, b []string) (first, last int) {
	for first < len(a) && first < len(b) && a[first] == b[first] {
		first++
	}
	behind := 0
	for behind < len(a)-first && behind < len(b)-first && a[len(a)-1-behind] == b[len(b)-1-behind] {
		behind++
	}
	if last = len(a) - behind; last == first {
		return first, first + 1
	}
	return first + 1, last
}

// closing gives the line on which a block ends that begins on a line, from 1.
func closing(lines []string, line int) int {
	depth := 0
	for i := line - 1; i < len(lines); i++ {
		depth += strings.Count(lines[i], "{") - strings.Count(lines[i], "}")
		if depth == 0 {
			return i + 1
		}
	}
	return len(lines)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
