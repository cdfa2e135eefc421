package core_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

// request makes a request of pairs: "handler.attribute" and a value, "" removes.
func request(domain string, pairs ...string) tuning.Request {
	r := tuning.Request{Domain: domain, Actor: "test"}
	for pair := range slices.Chunk(pairs, 2) {
		handler, attribute, _ := strings.Cut(pair[0], ".")
		c := tuning.Change{Key: tuning.Key{Handler: handler, Attribute: attribute}}
		if pair[1] != "" {
			c.Value = &pair[1]
		}
		r.Changes = append(r.Changes, c)
	}
	return r
}

// tune makes a change that must succeed.
func tune(t testing.TB, h core.Host, domain string, pairs ...string) {
	t.Helper()
	if ds, _, err := h.Tuning().Change(t.Context(), request(domain, pairs...)); err != nil {
		t.Fatalf("tune %s: %v\n%v", domain, err, ds.Err())
	}
}

// rows gives what is set for a domain as lines.
func rows(t testing.TB, h core.Host, domain string) []string {
	t.Helper()
	list, err := h.Tuning().Settings(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, s := range list {
		line := fmt.Sprintf("%s.%s = %s", s.Handler, s.Attribute, s.Value)
		if !s.InForce {
			line += " | " + s.Problem
		}
		lines = append(lines, line)
	}
	return lines
}

func history(t testing.TB, h core.Host, domain string) []tuning.Revision {
	t.Helper()
	list, err := h.Tuning().History(t.Context(), domain, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTuningHoldsForTheNextMessage(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := start(t, options(t, file(t, serving), newRegistry(j)))
	c := dial(t, s.Addresses("in")[0])
	j.take()
	for _, step := range []struct {
		domain string
		pairs  []string
		want   map[string]string
		life   []string
	}{
		{
			"Example.TEST",
			[]string{"one.text", `"mine"`},
			map[string]string{"example.test": "one=mine;two=plain;sink=;", "own.test": "one=tuned;two=plain;sink=;", "elsewhere.test": "one=first;two=plain;sink=;"},
			[]string{"provision one", "start one"},
		},
		{ // what is the same is shared
			"chain.test",
			[]string{"one.text", `"mine"`},
			map[string]string{"chain.test": "one=mine;two=plain;three=third;sink=;"},
			nil,
		},
		{
			"chain.test",
			[]string{"three.text", `"both"`, "one.text", ""},
			map[string]string{"chain.test": "one=first;two=plain;three=both;sink=;"},
			[]string{"provision three", "start three"},
		},
		{
			"*",
			[]string{"two.text", `"all"`, "one.text", `"weak"`},
			map[string]string{
				"example.test": "one=mine;two=all;sink=;", "own.test": "one=tuned;two=all;sink=;",
				"chain.test": "one=weak;two=all;three=both;sink=;", "elsewhere.test": "one=first;two=plain;sink=;",
			},
			[]string{"provision one", "start one", "provision two", "start two"},
		},
		{
			"example.test",
			[]string{"one.text", ""},
			map[string]string{"example.test": "one=weak;two=all;sink=;"},
			[]string{"cleanup one"},
		},
		{
			"*",
			[]string{"two.text", "", "one.text", ""},
			map[string]string{"example.test": "one=first;two=plain;sink=;", "own.test": "one=tuned;two=plain;sink=;", "chain.test": "one=first;two=plain;three=both;sink=;"},
			[]string{"cleanup one", "cleanup two"},
		},
	} {
		tune(t, s, step.domain, step.pairs...)
		for domain, want := range step.want {
			if got := c.ask("a@" + domain); got != want {
				t.Errorf("after %s %v: %s: %s, want %s", step.domain, step.pairs, domain, got, want)
			}
		}
		for _, want := range step.life {
			j.await(t, want)
		}
	}
	if got := j.take(); len(got) > 0 {
		t.Errorf("more happened: %v", got)
	}
}

func TestTuningLayers(t *testing.T) {
	t.Parallel()
	text := head + `
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "a" { text = "block" }
    probe "b" { text = "block" }
    probe "c" { text = "block" }
    probe "d" { text = "block" }
    probe "e" { text = "block" }
    probe "f" {}
    sink {}
  }
}
domain "*" {
  settings "b" { text = "file *" }
  settings "c" { text = "file *" }
  settings "d" { text = "file *" }
  settings "e" { text = "file *" }
}
domain "own.test" {
  settings "d" { text = "file" }
  settings "e" { text = "file" }
}
domain "other.test" {}
`
	s := start(t, options(t, file(t, text), newRegistry(new(journal))))
	c := dial(t, s.Addresses("in")[0])
	if got := c.ask("x@other.test"); got != "a=block;b=file *;c=file *;d=file *;e=file *;f=plain;sink=;" {
		t.Errorf("by the file: %s", got)
	}
	tune(t, s, "*", "c.text", `"db *"`, "d.text", `"db *"`, "e.text", `"db *"`)
	tune(t, s, "own.test", "e.text", `"db"`)
	for domain, want := range map[string]string{
		"own.test":       "a=block;b=file *;c=db *;d=file;e=db;f=plain;sink=;",
		"other.test":     "a=block;b=file *;c=db *;d=db *;e=db *;f=plain;sink=;",
		"elsewhere.test": "a=block;b=block;c=block;d=block;e=block;f=plain;sink=;",
	} {
		if got := c.ask("x@" + domain); got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
	list, err := s.Tuning().Effective(t.Context(), "own.test", "")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range list {
		if e.Attribute == "text" {
			got = append(got, fmt.Sprintf("%s %s=%s %s (%s)", e.Listener, e.Handler, e.Value, e.Source, e.Place))
		}
	}
	want := []string{
		`in a="block" handler (mox-like.hcl:9)`, `in b="file *" file * (mox-like.hcl:19)`, `in c="db *" database * (database: domain *)`,
		`in d="file" file settings (mox-like.hcl:25)`, `in e="db" database settings (database: domain own.test)`, `in f="plain" default ()`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effective (-want +got):\n%s", diff)
	}
}

func TestTuningRefusesAndChangesNothing(t *testing.T) {
	t.Parallel()
	text := strings.Replace(serving, "probe \"two\" {}", "spf {}\n    probe \"two\" { when = tx.spf == \"pass\" }", 1)
	j := new(journal)
	registry := newRegistry(j)
	registry.Register(describe{core.Info{ID: "handler.spf", Stages: mail.AtRcpt, New: func() core.Module { return &probe{journal: j} }}})
	s := start(t, options(t, file(t, text), registry))
	tune(t, s, "example.test", "one.text", `"mine"`)
	c := dial(t, s.Addresses("in")[0])
	before := c.ask("a@example.test")
	tests := map[string]struct {
		pairs []string
		want  []string
	}{
		"type":           {[]string{"one.text", "10"}, []string{`2:10 error[config/wrong-type]: attribute "text" must be a string | Here stands a number. Write it as text = "text".`}},
		"attribute":      {[]string{"one.txt", `"x"`}, []string{`3:3 error[config/unknown-attribute]: probe "one" has no attribute "txt" | Did you mean "text"?`}},
		"name":           {[]string{"one.a b", `"x"`}, []string{`2:3 error[config/unknown-attribute]: "a b" cannot be the name of an attribute | Attributes of blocks inside a handler are set in the file.`}},
		"handler":        {[]string{"tow.text", `"x"`}, []string{`4:10 error[domain/unknown-handler]: no chain that holds for example.test has a handler "tow" | Did you mean "two"?`}},
		"syntax":         {[]string{"one.text", `"x`}, nil},
		"more than one":  {[]string{"one.text", "\"x\"\nmode = \"monitor\""}, nil},
		"comment":        {[]string{"one.text", `"x" /* `}, nil},
		"word":           {[]string{"one.text", "x"}, nil},
		"env":            {[]string{"one.text", `env("HOME")`}, []string{`2:10 error[expr/function]: env cannot be called here | It would let a setting of a domain read what belongs to the server. Write the value itself.`}},
		"file":           {[]string{"one.text", `lower(file("/etc/passwd"))`}, nil},
		"validate":       {[]string{"one.fails", `"validate"`}, []string{`3:10 error[handler.probe]: the text "mine" does not please`}},
		"provision":      {[]string{"one.fails", `"provision"`}, nil},
		"panic":          {[]string{"one.fails", `"panic"`}, nil},
		"start":          {[]string{"one.fails", `"start"`}, nil},
		"stage":          {[]string{"one.stage", `["data"]`}, nil},
		"target off":     {[]string{"sink.enabled", "false"}, []string{`5:3 error[chain/target-disabled]: sink delivers and cannot be switched off | Without it no recipient is accepted. Remove it from the chain if another target stands there.`}},
		"monitored sink": {[]string{"sink.mode", `"monitor"`}, nil},
		"sink's timeout": {[]string{"sink.on_timeout", `"continue"`}, []string{`5:3 error[chain/target-error]: sink delivers: it cannot be passed over when it gives no answer | Leave on_timeout out: the client is told to come back.`}},
		"on_timeout":     {[]string{"one.on_timeout", `"tag"`}, []string{`2:16 error[config/bad-value]: attribute "on_timeout": "tag" is not one of its values | Its values are "continue", "defer" and "reject".`}},
		"when":           {[]string{"one.when", `tx.nothing`}, nil},
		"spf off":        {[]string{"spf.enabled", "false"}, []string{`11:26 error[expr/not-yet-known]: tx.spf is not yet known to two at listener "in" | It is found out by the handler spf: write one in front of this handler, at the same stage or an earlier one.`}},
		"one of two":     {[]string{"two.text", `"good"`, "one.text", "1"}, nil},
	}
	j.take()
	for name, tt := range tests {
		for _, domain := range []string{"example.test", "*"} {
			ds, sources, err := s.Tuning().Change(t.Context(), request(domain, tt.pairs...))
			if !errors.Is(err, core.ErrInvalid) || !ds.HasErrors() {
				t.Errorf("%s for %s: error %v, diagnostics %v", name, domain, err, ds)
				continue
			}
			for _, d := range ds {
				if _, ok := sources[d.Range.Filename]; !ok {
					t.Errorf("%s for %s: no text for %v", name, domain, d)
				}
			}
			if domain == "example.test" && tt.want != nil {
				if diff := cmp.Diff(tt.want, told(ds)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		}
	}
	if got := c.ask("a@example.test"); got != before {
		t.Errorf("now it says %s, before %s", got, before)
	}
	if got := rows(t, s, "example.test"); !slices.Equal(got, []string{`one.text = "mine"`}) {
		t.Errorf("set: %v", got)
	}
	if list := append(history(t, s, "example.test"), history(t, s, "*")...); len(list) != 1 {
		t.Errorf("history: %+v", list)
	}
	balance := 0
	for _, line := range j.take() {
		switch {
		case strings.HasPrefix(line, "provision "):
			balance++
		case strings.HasPrefix(line, "cleanup "):
			balance--
		}
	}
	// Those that fail in Provision write no line for it.
	if balance > 0 {
		t.Errorf("%d instances were not cleaned up", balance)
	}
}

func TestTuningRefusesRequests(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, file(t, serving), newRegistry(new(journal))))
	for name, r := range map[string]tuning.Request{
		"unknown domain": request("exmple.test", "one.text", `"x"`),
		"no domain":      request("a b", "one.text", `"x"`),
		"no changes":     request("example.test"),
		"no handler":     request("example.test", ".text", `"x"`),
		"no attribute":   request("example.test", "one", `"x"`),
		"twice":          request("example.test", "one.text", `"x"`, "one.text", `"y"`),
		"too long":       request("example.test", "one.text", `"`+strings.Repeat("x", tuning.MaxValue)+`"`),
		"no text":        request("example.test", "one.text", "\"\xff\""),
	} {
		if _, _, err := s.Tuning().Change(t.Context(), r); !errors.Is(err, tuning.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Tuning().Effective(t.Context(), "example.test", "tow"); !errors.Is(err, tuning.ErrRequest) || !strings.Contains(err.Error(), `Did you mean "two"?`) {
		t.Errorf("effective of an unknown handler: %v", err)
	}
}

func TestTuningSwitchesHandlersOff(t *testing.T) {
	t.Parallel()
	text := head + `
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    parallel {
      probe "one" {}
      probe "two" { enabled = false }
    }
    probe "three" { enabled = false }
    sink {}
  }
}
domain "example.test" {}
domain "own.test" {
  settings "three" { enabled = true }
}
`
	j := new(journal)
	s := start(t, options(t, file(t, text), newRegistry(j)))
	c := dial(t, s.Addresses("in")[0])
	if got := c.ask("a@own.test"); got != "one=plain;three=plain;sink=;" {
		t.Errorf("by the file: %s", got)
	}
	if lines := j.take(); slices.Contains(lines, "start two") || !slices.Contains(lines, "cleanup two") {
		t.Errorf("a disabled handler is checked and not started: %v", lines)
	}
	for _, step := range []struct{ pair, value, want string }{
		{"one.enabled", "false", "sink=;"},
		{"two.enabled", "true", "two=plain;sink=;"},
		{"three.enabled", "true", "two=plain;three=plain;sink=;"},
		{"one.enabled", "", "one=plain;two=plain;three=plain;sink=;"},
	} {
		tune(t, s, "example.test", step.pair, step.value)
		if got := c.ask("a@example.test"); got != step.want {
			t.Errorf("%s = %s: %s, want %s", step.pair, step.value, got, step.want)
		}
	}
}

func TestTuningHistoryAndRollback(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, file(t, serving), newRegistry(new(journal))))
	ctx := t.Context()
	tune(t, s, "example.test", "one.text", `"1"`)
	tune(t, s, "example.test", "one.text", `"2"`, "two.text", `"2"`)
	tune(t, s, "own.test", "one.text", `"x"`)
	tune(t, s, "example.test", "one.text", "")
	list := history(t, s, "example.test")
	one, two := tuning.Key{Handler: "one", Attribute: "text"}, tuning.Key{Handler: "two", Attribute: "text"}
	want := []tuning.Revision{
		{ID: 5, Actor: "test", Domain: "example.test", Key: one, Before: new(`"2"`)},
		{ID: 3, Actor: "test", Domain: "example.test", Key: two, After: new(`"2"`)},
		{ID: 2, Actor: "test", Domain: "example.test", Key: one, Before: new(`"1"`), After: new(`"2"`)},
		{ID: 1, Actor: "test", Domain: "example.test", Key: one, After: new(`"1"`)},
	}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(tuning.Revision{}, "Time")); diff != "" {
		t.Fatalf("history (-want +got):\n%s", diff)
	}
	page, err := s.Tuning().History(ctx, "example.test", 3, 1)
	if err != nil || len(page) != 1 || page[0].ID != 2 {
		t.Errorf("a page: %+v, %v", page, err)
	}
	for _, step := range []struct {
		to   int64
		want []string
	}{
		{2, []string{`one.text = "2"`}},
		{1, []string{`one.text = "1"`}},
		{3, []string{`one.text = "2"`, `two.text = "2"`}},
		{0, []string{}},
		{5, []string{`two.text = "2"`}},
	} {
		if ds, _, err := s.Tuning().Rollback(ctx, "example.test", step.to, "test"); err != nil {
			t.Fatal(err, ds)
		}
		if diff := cmp.Diff(step.want, rows(t, s, "example.test")); diff != "" {
			t.Errorf("back to %d (-want +got):\n%s", step.to, diff)
		}
	}
	if newest := history(t, s, "example.test")[0]; newest.Note != "rolled back to revision 5" {
		t.Errorf("note: %q", newest.Note)
	}
	for _, id := range []int64{4, 999} {
		if _, _, err := s.Tuning().Rollback(ctx, "example.test", id, "test"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("back to %d: %v", id, err)
		}
	}
}

func TestTuningWithoutAServer(t *testing.T) {
	t.Parallel()
	path := file(t, serving)
	j := new(journal)
	o := options(t, path, newRegistry(j))
	host, ds, _, err := core.OpenOffline(t.Context(), o)
	if err != nil {
		t.Fatal(err, ds.Err())
	}
	tune(t, host, "example.test", "one.text", `"mine"`)
	if _, _, err := host.Tuning().Change(t.Context(), request("example.test", "one.text", "1")); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("a bad value: %v", err)
	}
	if got := rows(t, host, "example.test"); !slices.Equal(got, []string{`one.text = "mine"`}) {
		t.Errorf("set: %v", got)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	if lines := j.take(); slices.ContainsFunc(lines, func(s string) bool { return strings.HasPrefix(s, "start ") }) {
		t.Errorf("something was started: %v", lines)
	}
	s := start(t, o)
	c := dial(t, s.Addresses("in")[0])
	if got := c.ask("a@example.test"); got != "one=mine;two=plain;sink=;" {
		t.Errorf("then a server says %s", got)
	}
	_ = c.conn.Close()
	stop(t, s)

	write(t, path, strings.Replace(serving, `text = "first"`, "text = 1", 1))
	if host, ds, _, err = core.OpenOffline(t.Context(), o); err != nil {
		t.Fatal(err, ds.Err())
	}
	ds, _, err = host.Tuning().Change(t.Context(), request("example.test", "one.text", `"x"`))
	if !errors.Is(err, core.ErrInvalid) || !ds.HasErrors() {
		t.Errorf("with a file that has errors: %v, %v", err, ds)
	}
	if got := rows(t, host, "example.test"); !slices.Equal(got, []string{`one.text = "****" | the configuration has errors`}) {
		t.Errorf("set: %v", got)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
}

func TestTuningExport(t *testing.T) {
	t.Parallel()
	path := file(t, strings.Replace(serving, `domain "own.test" {`, "# ours\ndomain \"own.test\" {", 1))
	o := options(t, path, newRegistry(new(journal)))
	s := start(t, o)
	if files, err := s.Tuning().Export(t.Context()); err != nil || len(files) != 0 {
		t.Errorf("without settings: %d files, %v", len(files), err)
	}
	tune(t, s, "example.test", "one.text", `"mine"`, "two.mode", `"monitor"`)
	tune(t, s, "own.test", "one.text", `"mine"`, "one.when", `tx.rcpt != "x@own.test"`)
	tune(t, s, "chain.test", "three.enabled", "false")
	tune(t, s, "*", "one.text", `"all"`)
	files, err := s.Tuning().Export(t.Context())
	if err != nil || len(files) != 1 {
		t.Fatal(err, len(files))
	}
	asked := []string{"a@example.test", "a@own.test", "x@own.test", "a@chain.test", "a@elsewhere.test"}
	answers := func(s *core.Server) (list []string) {
		c := dial(t, s.Addresses("in")[0])
		for _, a := range asked {
			list = append(list, c.ask(a))
		}
		return list
	}
	want := answers(s)
	exported := file(t, string(files[path]))
	fresh := start(t, options(t, exported, o.Registry))
	if diff := cmp.Diff(want, answers(fresh)); diff != "" {
		t.Errorf("the exported file means something else (-want +got):\n%s\n%s", diff, files[path])
	}
	golden, err := os.ReadFile("testdata/tuning/exported.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), string(files[path])); diff != "" {
		t.Errorf("exported (-want +got):\n%s", diff)
	}
}

func TestTuningBesideReloadsAndStop(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := start(t, options(t, file(t, serving), newRegistry(j)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 3)
	change := func(domain string) {
		var err error
		for i := 0; err == nil; i++ {
			var ds config.Diagnostics
			ds, _, err = s.Tuning().Change(ctx, request(domain, "one.text", fmt.Sprintf("%q", fmt.Sprint(i%7))))
			if ds.HasErrors() {
				err = ds.Err()
			}
		}
		done <- err
	}
	go change("example.test")
	go change("*")
	go func() {
		var err error
		for range 20 {
			if _, _, err = s.Reload(ctx); err != nil {
				break
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Errorf("the first who ended: %v", err)
	}
	stop(t, s)
	for range 2 {
		if err := <-done; err == nil || !strings.Contains(err.Error(), "does not run") {
			t.Errorf("after Stop: %v", err)
		}
	}
	balance := make(map[string]int)
	for _, line := range j.take() {
		verb, name, _ := strings.Cut(line, " ")
		switch verb {
		case "provision":
			balance[name]++
		case "cleanup":
			balance[name]--
		}
	}
	if diff := cmp.Diff(map[string]int{"one": 0, "two": 0, "three": 0}, balance); diff != "" {
		t.Errorf("instances that were not cleaned up once (-want +got):\n%s", diff)
	}
}
