package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/control"
)

// TestStatusHasReports: what services say of themselves stands in a line of its own.
func TestStatusHasReports(t *testing.T) {
	t.Parallel()
	var w bytes.Buffer
	printStatus(Streams{Out: &w}, &control.Status{Running: true, Reports: []control.ModuleReport{
		{Module: "service.learn", Text: "lessons that wait: 1; \x1b[2Jgone"}, {Module: "service.quarantine", Text: "messages that are held: 2, of 3 KB together"},
	}})
	want := "learn          lessons that wait: 1; \\x1b[2Jgone\nquarantine     messages that are held: 2, of 3 KB together\n"
	if !strings.HasSuffix(w.String(), want) {
		t.Errorf("status %q, want %q at its end", w.String(), want)
	}
}
