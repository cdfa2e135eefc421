package core_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

const tried = head + `
domain "example.test" {
  chain "mx" {
    probe "own" { text = "of the domain" }
    sink {}
  }
}
listener "liner" "mx" {
  address = ["127.0.0.1:0"]
  chain {
    probe "first" { text = "one" }
    sink {}
  }
}
`

// TestTrialHasHandlersOfItsOwn finds that they are started and cleaned up, that what
// is shared is lent to them, and that a clock of theirs is theirs alone.
func TestTrialHasHandlersOfItsOwn(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := start(t, options(t, file(t, tried), newRegistry(j)))
	j.take()
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	trial, err := core.NewTrial(t.Context(), s, core.TrialOptions{Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	l, ok := trial.Listener("mx")
	if !ok || l.Kind != "liner" || trial.Hostname() != "mx.example.test" || !trial.Now().Equal(noon) {
		t.Errorf("listener %+v, %v; host %s; time %s", l, ok, trial.Hostname(), trial.Now())
	}
	if _, ok := trial.Listener("nx"); ok || !slices.Equal(trial.Listeners(), []string{"mx"}) {
		t.Errorf("listeners: %q", trial.Listeners())
	}
	for address, want := range map[string]string{"a@example.test": "of the domain", "a@example.org": "one"} {
		tx := mail.NewTransaction("t", new(mail.Session), noon)
		to, err := mail.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		tx.Trial, tx.Recipient = true, &mail.Recipient{Address: to}
		l.Chains.Run(t.Context(), mail.StageRcpt, tx)
		if tx.Entries[0].Reason != want {
			t.Errorf("%s: %+v", address, tx.Entries)
		}
	}
	if err := trial.Close(); err != nil {
		t.Error(err)
	}
	want := []string{"provision first", "provision own", "start first", "start own", "cleanup own", "cleanup first"}
	if diff := cmp.Diff(want, j.take()); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
	stop(t, s)
	// Two started for the server, two in the trial, and one counter for all.
	if got := j.take(); !slices.Contains(got, "counter closed at 4") {
		t.Errorf("after the stop: %q", got)
	}
}

// TestTrialAddsNothing finds that what only a trial shares ends with it.
func TestTrialAddsNothing(t *testing.T) {
	t.Parallel()
	j := new(journal)
	offline, ds, _, err := core.OpenOffline(t.Context(), options(t, file(t, tried), newRegistry(j)))
	if err != nil {
		t.Fatalf("%v\n%v", err, ds)
	}
	defer func() { _ = offline.Close() }()
	trial, err := core.NewTrial(t.Context(), offline, core.TrialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := trial.Close(); err != nil {
		t.Error(err)
	}
	if got := j.take(); got[len(got)-1] != "counter closed at 2" {
		t.Errorf("what happened: %q", got)
	}
}

func TestTrialOfFileWithErrors(t *testing.T) {
	t.Parallel()
	offline, ds, _, err := core.OpenOffline(t.Context(), options(t, file(t, strings.Replace(tried, "sink {}", "sunk {}", 1)), newRegistry(new(journal))))
	if err != nil {
		t.Fatalf("%v\n%v", err, ds)
	}
	defer func() { _ = offline.Close() }()
	_, err = core.NewTrial(t.Context(), offline, core.TrialOptions{})
	found, sources := core.TrialReport(err)
	if !errors.Is(err, core.ErrInvalid) || !found.HasErrors() || len(sources) != 1 {
		t.Errorf("%v: %v", err, found)
	}
	if found, _ := core.TrialReport(errors.New("another")); found != nil {
		t.Error(found)
	}
}

func TestTrialOfModuleThatDoesNotStart(t *testing.T) {
	t.Parallel()
	offline, _, _, err := core.OpenOffline(t.Context(), options(t, file(t, strings.Replace(tried, `text = "one"`, `fails = "start"`, 1)), newRegistry(new(journal))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = offline.Close() }()
	for range 3 { // each leaves its place
		if _, err := core.NewTrial(t.Context(), offline, core.TrialOptions{}); err == nil || !strings.Contains(err.Error(), "no start today") {
			t.Fatal(err)
		}
	}
}

// TestTrialsAreBounded finds that a third one waits, and that a stop ends them all.
func TestTrialsAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, file(t, tried), newRegistry(new(journal))))
	var open []*core.Trial
	for range 2 {
		trial, err := core.NewTrial(t.Context(), s, core.TrialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, trial)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := core.NewTrial(ctx, s, core.TrialOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a third one: %v", err)
	}
	waiting := make(chan error)
	go func() {
		third, err := core.NewTrial(t.Context(), s, core.TrialOptions{})
		if err == nil {
			err = third.Close()
		}
		waiting <- err
	}()
	if err := open[0].Close(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	bound, release := open[1].Bound(t.Context())
	defer release()
	ended := make(chan error)
	go func() { ended <- s.Stop(context.WithoutCancel(t.Context())) }()
	<-bound.Done()
	select {
	case err := <-ended:
		t.Errorf("the server has stopped under a trial: %v", err)
	default:
	}
	if err := open[1].Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := core.NewTrial(t.Context(), s, core.TrialOptions{}); err == nil {
		t.Error("a trial of a server that has stopped")
	}
}

// aware is a handler that knows whether it is tried, and then has a bug.
type aware struct{ trial bool }

func (*aware) Module() core.Info {
	return core.Info{ID: "handler.aware", Stages: mail.AtRcpt, New: func() core.Module { return new(aware) }}
}

func (a *aware) Provision(c *core.Context) error {
	a.trial = c.Trial()
	return nil
}

func (a *aware) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	if a.trial {
		panic("it is only a trial")
	}
	return mail.Continue("serves"), nil
}

// TestTrialModulesOfDomains finds that what handlers use of the blocks of domains is
// started before them, that modules know that they are tried, and that the log has
// what is wrong with them, and nothing else.
func TestTrialModulesOfDomains(t *testing.T) {
	t.Parallel()
	j := new(journal)
	registry := plateRegistry(j)
	registry.Register(new(aware))
	seen, logs := observer.New(zap.DebugLevel)
	o := options(t, file(t, strings.Replace(plates, "    reader {}", "    aware {}\n    reader {}\n    probe {}", 1)), registry)
	o.Logger = zap.New(seen)
	s := start(t, o)
	logs.TakeAll()
	j.take()
	c := dial(t, s.Addresses("in")[0])
	if got := c.ask("x@a.test"); !strings.HasPrefix(got, "aware=serves;") {
		t.Errorf("the server: %s", got)
	}
	trial, err := core.NewTrial(t.Context(), s, core.TrialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	started := slices.DeleteFunc(j.take(), func(line string) bool { return !strings.HasPrefix(line, "start ") })
	if diff := cmp.Diff([]string{"start one", "start two", "start three", "start probe"}, started); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	run(t, trial, "x@a.test")
	if list := logs.TakeAll(); len(list) != 1 || list[0].Message != "handler panicked" || list[0].LoggerName == "" {
		t.Errorf("log: %+v", list)
	}
	if err := trial.Close(); err != nil {
		t.Error(err)
	}
	_ = c.conn.Close()
}

// run has a recipient judged in a trial, and gives what is said.
func run(t *testing.T, trial *core.Trial, to string) (said []string) {
	t.Helper()
	address, err := mail.ParseAddress(to)
	if err != nil {
		t.Fatal(err)
	}
	tx := mail.NewTransaction("t", new(mail.Session), tx0)
	tx.Trial, tx.Recipient = true, &mail.Recipient{Address: address}
	l, ok := trial.Listener(trial.Listeners()[0])
	if !ok {
		t.Fatal("the trial has no listener")
	}
	l.Chains.Run(t.Context(), mail.StageRcpt, tx)
	for _, e := range tx.Entries {
		said = append(said, e.Handler+"="+e.Reason)
	}
	return said
}

// TestTrialOfSomeDomains finds that only the settings of those are made that can hold.
func TestTrialOfSomeDomains(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := start(t, options(t, file(t, plates), plateRegistry(j)))
	tune(t, s, "*", "reader.prefix", `"all "`)
	tune(t, s, "a.test", "reader.prefix", `"a "`)
	tune(t, s, "b.test", "sink.on_error", `"defer"`)
	for name, c := range map[string]struct {
		domains []string
		a, b, c string
	}{
		"all":         {nil, "reader=a onetwo", "reader=tuned three", "reader="},
		"one":         {[]string{"a.test", "a.test", "c.test", ""}, "reader=a onetwo", "reader=tuned three", "reader="},
		"another one": {[]string{"b.test"}, "reader=all onetwo", "reader=tuned three", "reader="},
	} {
		trial, err := core.NewTrial(t.Context(), s, core.TrialOptions{Domains: c.domains})
		if err != nil {
			t.Fatal(err)
		}
		for to, want := range map[string]string{"x@a.test": c.a, "x@b.test": c.b, "x@c.test": c.c} {
			if got := run(t, trial, to); got[0] != want {
				t.Errorf("%s, %s: %q, want %q", name, to, got, want)
			}
		}
		if err := trial.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTrialResolver finds that the DNS of a trial is made in its place, and ends with
// it.
func TestTrialResolver(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, file(t, tried), newRegistry(new(journal))))
	none := errors.New("there is none")
	for range 3 { // each leaves its place
		_, err := core.NewTrial(t.Context(), s, core.TrialOptions{Resolver: func(context.Context) (*dns.Resolver, error) { return nil, none }})
		if !errors.Is(err, none) {
			t.Fatal(err)
		}
	}
	var made *dns.Resolver
	trial, err := core.NewTrial(t.Context(), s, core.TrialOptions{Resolver: func(ctx context.Context) (_ *dns.Resolver, err error) {
		made, err = dns.NewZone(ctx, "a. A 192.0.2.1\n", dns.Options{})
		return made, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := trial.Close(); err != nil {
		t.Error(err)
	}
	busy, err := core.NewTrial(t.Context(), s, core.TrialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The end of the server reaches what a trial waits for before it is made.
	entered, ended := make(chan struct{}), make(chan error)
	go func() {
		_, err := core.NewTrial(context.WithoutCancel(t.Context()), s, core.TrialOptions{Resolver: func(ctx context.Context) (*dns.Resolver, error) {
			close(entered)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}})
		ended <- err
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- s.Stop(context.WithoutCancel(t.Context())) }()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("at the server's end: %v", err)
	}
	if err := busy.Close(); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
