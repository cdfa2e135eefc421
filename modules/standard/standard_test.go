package standard_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/reference"

	_ "github.com/mox-like/mox-like/modules/standard"
)

const root = "../.."

// TestReferenceIsCurrent fails when a setting or its comment has changed and the
// reference has not.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	comments, err := reference.Gather(os.DirFS(root), "github.com/mox-like/mox-like")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := reference.Standard()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(comments, kept); diff != "" {
		t.Errorf("core/reference/comments.json is behind: run 'go generate ./modules/standard' (-source +file):\n%s", diff)
	}
	page, err := os.ReadFile(root + "/docs/modules.md")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := reference.PrintMarkdown(&want, reference.Entries(core.DefaultRegistry, comments)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(page)); diff != "" {
		t.Errorf("docs/modules.md is behind: run 'go generate ./modules/standard' (-source +file):\n%s", diff)
	}
}

// TestReferenceIsComplete fails for a module or a setting without a comment.
func TestReferenceIsComplete(t *testing.T) {
	t.Parallel()
	comments, err := reference.Gather(os.DirFS(root), "github.com/mox-like/mox-like")
	if err != nil {
		t.Fatal(err)
	}
	entries := reference.Entries(core.DefaultRegistry, comments)
	if len(entries) < 12 {
		t.Fatalf("the reference has %d entries only", len(entries))
	}
	for _, e := range entries {
		if e.Text == "" {
			t.Errorf("%s has no comment", e.ID)
		}
		for _, s := range e.Settings {
			if s.Text == "" {
				t.Errorf("%s: the setting %s (%s.%s) has no comment", e.ID, s.Path, s.Struct, s.Field)
			}
		}
	}
}
