package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

func TestUniqueSortsAndTellsOnce(t *testing.T) {
	t.Parallel()
	at := func(line int) hcl.Range {
		return hcl.Range{Filename: "a.hcl", Start: hcl.Pos{Line: line, Column: 1}}
	}
	var ds config.Diagnostics
	ds.Errorf(at(2), "a/one", "the same")
	ds.Errorf(at(1), "a/one", "the same")
	ds.Errorf(at(2), "a/one", "the same")
	ds.Errorf(at(2), "a/one", "something else")
	ds.Errorf(at(2), "a/two", "the same")
	var got []string
	for _, d := range ds.Unique() {
		got = append(got, d.String())
	}
	want := []string{
		"a.hcl:1:1: error: the same [a/one]",
		"a.hcl:2:1: error: the same [a/one]",
		"a.hcl:2:1: error: something else [a/one]",
		"a.hcl:2:1: error: the same [a/two]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}
