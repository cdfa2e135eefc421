package lint_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/config"
)

// withoutExample are the codes that a text alone does not give, and where they are
// shown to be given instead.
var withoutExample = map[string]string{
	"config/syntax":           "a file of variables: core/cli",
	"config/unknown-variable": "the command line: core/config, testdata/invalid/variables.hcl",
	"config/include-cycle":    "two files: core/config, testdata/invalid/include_cycle.hcl",
	"config/included-twice":   "two files: core/config, testdata/warning/include_nothing.hcl",
	"config/unreadable-file":  "a folder in the place of a file: core/config, source_test.go",
	"config/too-large":        "a generated text: core/config, source_test.go",
	"config/too-deep":         "settings of the database: core/config, edit_test.go",
	"expr/variable":           "settings of the database: core/config, edit_test.go",
	"expr/for":                "settings of the database: core/config, edit_test.go",
	"config/format":           "the formatter: core/config, format_test.go",
	"domain/file-only":        "settings of the database: core, tuning_test.go",
	"module/start":            "settings of the database: core, tuning_test.go",
	"server/needs-restart":    "a reload: core, server_test.go",
	"server/unreadable-file":  "a run as root: core, machine_test.go",
	"server/data-dir-open":    "a folder: core, machine_test.go",
	"store/memory":            "a fault of the machine",
	"module/provision":        "a module that fails: core, diagnostics_test.go",
	"module/cleanup":          "a module that fails: core, diagnostics_test.go",
	"module/no-handler":       "a module that is none: core, diagnostics_test.go",
	"handler.deliver":         "its problems have other codes",
	"security/open-secret":    "a file with a mode: TestOpenSecret",
}

// TestExamples runs the examples of all pages: the wrong one gives the code within
// the example, the right one neither gives it nor an error.
func TestExamples(t *testing.T) {
	t.Parallel()
	c := catalogue(t)
	for _, p := range c.Pages() {
		t.Run(strings.ReplaceAll(p.Code, "/", "_"), func(t *testing.T) {
			t.Parallel()
			if why, ok := withoutExample[p.Code]; (p.Wrong == "") != ok {
				t.Fatalf("the page has an example: %t; it has none because of %q", p.Wrong != "", why)
			} else if ok {
				return
			}
			wrong := complete(p.Within, p.Wrong)
			r := check(t, c, "wrong.hcl", wrong)
			i := slices.IndexFunc(r.Diagnostics, func(d config.Diagnostic) bool { return d.Code == p.Code })
			if i < 0 {
				t.Fatalf("the wrong example gives\n%s", printed(r.Diagnostics, r.Sources))
			}
			d := r.Diagnostics[i]
			if d.Severity == config.Error != r.Diagnostics.HasErrors() && p.Severity == config.Warning {
				t.Errorf("beside %s the wrong example gives\n%s", p.Code, printed(r.Diagnostics, r.Sources))
			}
			if d.Severity == config.Error && p.Severity == config.Warning {
				t.Errorf("the page calls an error a warning")
			}
			lines := strings.Split(wrong, "\n")
			if line := d.Range.Start.Line; p.Code != "config/missing-block" && (line < 1 || line > len(lines)) {
				t.Errorf("it stands at line %d of %d", line, len(lines))
			}
			r = check(t, c, "right.hcl", complete(p.Within, p.Right))
			if r.Diagnostics.HasErrors() || slices.ContainsFunc(r.Diagnostics, func(d config.Diagnostic) bool { return d.Code == p.Code }) {
				t.Errorf("the right example gives\n%s", printed(r.Diagnostics, r.Sources))
			}
		})
	}
}

func printed(ds config.Diagnostics, sources map[string][]byte) string {
	var b strings.Builder
	config.Print(&b, ds, sources, config.PrintOptions{})
	return b.String()
}
