package core_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

func TestTuningSurvivesRestartAndReload(t *testing.T) {
	t.Parallel()
	path := file(t, serving)
	o := options(t, path, newRegistry(new(journal)))
	s := start(t, o)
	tune(t, s, "example.test", "one.text", `"mine"`, "two.text", `"too"`)
	tune(t, s, "chain.test", "three.text", `"x"`)
	tune(t, s, "*", "two.text", `"all"`)
	stop(t, s)

	s = start(t, o)
	c := dial(t, s.Addresses("in")[0])
	if got := c.ask("a@example.test"); got != "one=mine;two=too;sink=;" {
		t.Errorf("after a restart: %s", got)
	}
	// The file loses a handler and a domain, and another handler takes other values.
	text := strings.Replace(serving, `probe "one" { text = "first" }`, `greeter "one" { fails = "" }`, 1)
	text = strings.Replace(text, `probe "two" {}`, "", 1)
	text = text[:strings.Index(text, `domain "own.test"`)]
	write(t, path, text)
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	want := map[string][]string{
		"example.test": {`one.text = "mine"`, `two.text = "too" | no chain that holds for example.test has a handler "two"`},
		"chain.test":   {`three.text = "x" | the file has no domain chain.test`},
		"*":            {`two.text = "all" | no chain that holds for * has a handler "two"`},
	}
	for domain, want := range want {
		if diff := cmp.Diff(want, rows(t, s, domain)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", domain, diff)
		}
	}
	domains, err := s.Tuning().Domains(t.Context(), "", 0)
	if diff := cmp.Diff([]string{"*", "chain.test", "example.test"}, domains); diff != "" || err != nil {
		t.Errorf("domains (-want +got), error %v:\n%s", err, diff)
	}
	tune(t, s, "chain.test", "three.text", "") // what is left over can go
	write(t, path, serving)
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	c = dial(t, s.Addresses("in")[0])
	if got := c.ask("a@example.test"); got != "one=mine;two=too;sink=;" {
		t.Errorf("once the handlers are back: %s", got)
	}
	if got := c.ask("a@chain.test"); got != "one=first;two=all;three=third;sink=;" {
		t.Errorf("chain.test: %s", got)
	}
}

func TestTuningLeavesOutWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	path := file(t, serving)
	o := options(t, path, newRegistry(new(journal)))
	s := start(t, o)
	tune(t, s, "example.test", "one.text", `"mine"`, "two.text", `"too"`, "two.mode", `"monitor"`)
	tune(t, s, "*", "one.text", `"all"`)
	// From now on no instance of own.test and no text of two can be.
	write(t, path, strings.Replace(strings.Replace(serving, `probe "two" {}`, `sink "two" {}`, 1),
		`settings "one" { text = "tuned" }`, `settings "one" { fails = "" }`, 1))
	stop(t, s)
	s = start(t, o)
	want := []string{
		`one.text = "mine"`,
		`two.mode = "monitor" | two delivers and cannot be monitored only`,
		`two.text = "too" | sink "two" has no attribute "text"`,
	}
	if diff := cmp.Diff(want, rows(t, s, "example.test")); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	c := dial(t, s.Addresses("in")[0])
	if got := c.ask("a@example.test"); got != "one=mine;two=;" {
		t.Errorf("got %s", got)
	}
}

// A domain with which the template does not agree any more is left alone, and does
// not keep the template from being changed.
func TestTuningTemplateThatDoesNotFitOneDomain(t *testing.T) {
	t.Parallel()
	path := file(t, serving)
	o := options(t, path, newRegistry(new(journal)))
	s := start(t, o)
	tune(t, s, "*", "one.text", `"all"`)
	tune(t, s, "chain.test", "three.text", `"mine"`)
	text := strings.Replace(serving, "inherit {}", "sink \"one\" {\n enabled = true\n when = tx.rcpt == \"x\"\n }", 1)
	text = strings.Replace(text, "    probe \"three\" { text = \"third\" }\n    sink {}\n", "", 1)
	write(t, path, text)
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	c := dial(t, s.Addresses("in")[0])
	says := func(want map[string]string) {
		t.Helper()
		for domain, want := range want {
			if got := c.ask("a@" + domain); got != want {
				t.Errorf("%s: %s, want %s", domain, got, want)
			}
		}
	}
	says(map[string]string{"example.test": "one=all;two=plain;sink=;", "chain.test": "one=when is false;"})
	if got := rows(t, s, "*"); !slices.Equal(got, []string{`one.text = "all"`}) {
		t.Errorf("set for all: %v", got)
	}
	tune(t, s, "*", "one.text", `"more"`)
	says(map[string]string{"example.test": "one=more;two=plain;sink=;", "chain.test": "one=when is false;"})
	tune(t, s, "*", "one.text", "", "one.mode", `"enforce"`) // this it can have
	says(map[string]string{"example.test": "one=first;two=plain;sink=;", "chain.test": "one=when is false;"})
	effective, err := s.Tuning().Effective(t.Context(), "chain.test", "one")
	if err != nil || !slices.ContainsFunc(effective, func(e tuning.Effective) bool { return e.Attribute == "mode" && e.Source == tuning.FromDatabaseTemplate }) {
		t.Errorf("mode of chain.test: %+v, %v", effective, err)
	}
}

// What Change has said is there after a crash at any later instant.
func TestTuningIsDurable(t *testing.T) {
	t.Parallel()
	o := options(t, file(t, serving), newRegistry(new(journal)))
	s := start(t, o)
	tune(t, s, "example.test", "one.text", `"mine"`)
	crashed := o
	crashed.DataDir = filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(crashed.DataDir, os.DirFS(o.DataDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(crashed.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh := start(t, crashed)
	if got := dial(t, fresh.Addresses("in")[0]).ask("a@example.test"); got != "one=mine;two=plain;sink=;" {
		t.Errorf("after a crash: %s", got)
	}
}

// A change that cannot be made durable is not in force.
func TestTuningThatCannotBeStored(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := start(t, options(t, file(t, serving), newRegistry(j)))
	c := dial(t, s.Addresses("in")[0])
	j.take()
	if err := core.StoreOf(s).Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Tuning().Change(t.Context(), request("example.test", "one.text", `"mine"`)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("without a store: %v", err)
	}
	if got := c.ask("a@example.test"); got != "one=first;two=plain;sink=;" {
		t.Errorf("now it says %s", got)
	}
	if diff := cmp.Diff([]string{"provision one", "start one", "cleanup one"}, j.take()); diff != "" {
		t.Errorf("life (-want +got):\n%s", diff)
	}
}
