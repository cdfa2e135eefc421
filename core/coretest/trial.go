package coretest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// trialTime is the time of trials where the suite has no clock: it stands still, so
// that reasons are the same.
var trialTime = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// trials is how often each transaction is tried.
const trials = 5

// tries finds that a trial changes nothing: neither what is in the database once the
// server has stopped, nor what is said about the transactions that come afterwards.
// It is tried on the handlers that serve, on those of a check beside them, and on
// those of a check while no server runs.
func (suite *HandlerSuite) tries(t *testing.T) {
	t.Helper()
	o := suite.Options
	if o.Now == nil {
		o.Now = func() time.Time { return trialTime }
	}
	o.DataDir = filepath.Join(t.TempDir(), "data")
	suite.serve(t, o, true, func(*stage) {})
	before := tables(t, o.DataDir)
	suite.serve(t, o, false, func(s *stage) {
		suite.try(t, s.chain)
		suite.tryBeside(t, s)
	})
	offline(t, suite.source(suite.Config), o, func(host core.Host) { suite.tryBeside(t, host) })
	after := tables(t, o.DataDir)
	for name, rows := range after {
		if diff := cmp.Diff(before[name], rows); diff != "" {
			t.Errorf("a trial has changed the table %s (-before +after):\n%s", name, diff)
		}
	}
	fresh := func(tried bool) (said []string) {
		o.DataDir = filepath.Join(t.TempDir(), "data")
		suite.serve(t, o, true, func(s *stage) {
			if tried {
				suite.try(t, s.chain)
				suite.tryBeside(t, s)
			}
			said = suite.said(t, s.chain)
		})
		return said
	}
	if diff := cmp.Diff(fresh(false), fresh(true)); diff != "" {
		t.Errorf("after a trial other things are said (-without +with):\n%s", diff)
	}
}

// tryBeside has transactions judged by handlers that are made for that alone, as a
// check of a message does.
func (suite *HandlerSuite) tryBeside(t *testing.T, host core.Host) {
	t.Helper()
	beside(t, host, func(trial *core.Trial) {
		l, ok := trial.Listener(listenerOne)
		if !ok {
			t.Fatalf("the trial has the listeners %q", trial.Listeners())
		}
		suite.try(t, l.Chains.Domain(""))
	})
}

// beside makes a trial for as long as do takes.
func beside(tb testing.TB, host core.Host, do func(*core.Trial)) {
	tb.Helper()
	trial, err := core.NewTrial(tb.Context(), host, core.TrialOptions{})
	if err != nil {
		tb.Fatalf("try configuration: %v", err)
	}
	defer func() {
		if err := trial.Close(); err != nil {
			tb.Errorf("close trial: %v", err)
		}
	}()
	do(trial)
}

// offline opens the data directory of a server that has stopped, for as long as do
// takes.
func offline(tb testing.TB, source string, o Options, do func(core.Host)) {
	tb.Helper()
	host, ds, _, err := core.OpenOffline(tb.Context(), core.Options{
		ConfigFile: "test.hcl", Source: []byte(source), DataDir: dataDir(tb, o), Registry: newRegistry(nil),
		Config: config.Options{Variables: o.Variables}, Logger: logger(tb), Now: o.Now,
	})
	if err != nil {
		tb.Fatalf("open data directory: %v\n%v", err, ds.Err())
	}
	defer func() {
		if err := host.Close(); err != nil {
			tb.Errorf("close data directory: %v", err)
		}
	}()
	do(host)
}

// Tried makes a trial of a handler's block while no server runs, and calls do while
// it is there: the handler is started then, and must have made itself known to nobody.
func Tried(tb testing.TB, id, block string, o Options, do func(core.Host)) {
	tb.Helper()
	suite := &HandlerSuite{ID: id, Base: Base}
	offline(tb, suite.source(block), o, func(host core.Host) {
		beside(tb, host, func(*core.Trial) { do(host) })
	})
}

// serve runs a server around the handler for as long as do takes.
func (suite *HandlerSuite) serve(t *testing.T, o Options, isNew bool, do func(*stage)) {
	t.Helper()
	s := newStage(t, suite.source(suite.Config), o)
	defer s.stop(t)
	s.handlers(t)
	if isNew && suite.Setup != nil {
		suite.Setup(t, s)
	}
	do(s)
}

// rounds is how many transactions are looked at.
func (suite *HandlerSuite) rounds() int { return min(3, suite.Rounds) }

// try has transactions judged on trial.
func (suite *HandlerSuite) try(t *testing.T, c *chain.Chain) {
	t.Helper()
	step := c.Steps()[0]
	for range min(trials, suite.Rounds+1) {
		suite.each(t, step, 0, suite.rounds(), func(tx *mail.Transaction) {
			tx.Trial = true
			stage := tx.Stage
			c.Run(t.Context(), stage, tx)
			if err := tx.Release(); err != nil {
				t.Errorf("at %s, on trial: %v", stage, err)
			}
			for _, e := range tx.Entries {
				if e.Note == chain.NoteError {
					t.Errorf("at %s, on trial: %s", stage, e.Reason)
				}
			}
		})
	}
}

// numbers are what differs from one time to the next.
var numbers = regexp.MustCompile(`[0-9]+([.][0-9]+)?`)

// said has transactions judged, and gives what was said.
func (suite *HandlerSuite) said(t *testing.T, c *chain.Chain) (said []string) {
	t.Helper()
	suite.each(t, c.Steps()[0], 0, suite.rounds(), func(tx *mail.Transaction) {
		stage := tx.Stage
		outcome := c.Run(t.Context(), stage, tx)
		if err := tx.Release(); err != nil {
			t.Errorf("at %s: %v", stage, err)
		}
		said = append(said, fmt.Sprintf("%s: %s %d", stage, outcome.Action, outcome.Reply.Code))
		for _, e := range tx.Entries {
			said = append(said, fmt.Sprintf("  %s %s %s %s", e.Handler, e.Action, e.Note, numbers.ReplaceAllString(e.Reason, "#")))
		}
		said = append(said, fmt.Sprintf("  score %g, tags %q, quarantine %q", tx.Score(), tx.Tags(), numbers.ReplaceAllString(tx.Quarantined(), "#")))
	})
	return said
}

// tables gives the rows of all tables of a data directory that no server has open.
func tables(t *testing.T, dir string) map[string][]string {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{Logger: logger(t)})
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	}()
	all := make(map[string][]string)
	err = s.Read(t.Context(), func(sn *store.Snapshot) error {
		names, err := texts(sn, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`)
		if err != nil {
			return err
		}
		for _, name := range names {
			columns, err := texts(sn, `SELECT 'quote("' || name || '")' FROM pragma_table_info(?)`, name)
			if err != nil {
				return err
			}
			rows, err := texts(sn, `SELECT `+strings.Join(columns, ` || ' ' || `)+` FROM "`+name+`"`)
			if err != nil {
				return fmt.Errorf("read table %s: %w", name, err)
			}
			slices.Sort(rows)
			all[name] = rows
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read tables: %v", err)
	}
	return all
}

// texts gives the one column of a query.
func texts(sn *store.Snapshot, query string, args ...any) (list []string, err error) {
	rows, err := sn.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, rows.Err()
}
