package core_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
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
