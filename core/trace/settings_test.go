package trace_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// delay are settings of a handler with one attribute.
func delay(value string) *mail.Settings {
	return mail.NewSettings(func() []mail.Setting { return []mail.Setting{delaySetting(value)} })
}

func delaySetting(value string) mail.Setting {
	return mail.Setting{Attribute: "delay", Value: value, Source: "database settings", Place: "database: domain example.test", Since: moment}
}

// judged is a record with an entry for each of the settings.
func judged(at time.Time, list ...*mail.Settings) *trace.Record {
	r := &trace.Record{ID: mail.NewID(at), Session: "s", Kind: trace.KindMessage, Time: at}
	for i, s := range list {
		r.Entries = append(r.Entries, mail.Entry{Stage: mail.StageRcpt, Handler: fmt.Sprint("h", i), Settings: s})
	}
	return r
}

// rowsOf counts the rows of settings.
func rowsOf(t *testing.T, l *trace.Log, s *store.Store) (n int) {
	t.Helper()
	if _, err := l.Last(t.Context(), 1); err != nil { // what is behind is written
		t.Fatal(err)
	}
	err := s.Read(t.Context(), func(sn *store.Snapshot) error {
		return sn.QueryRow("SELECT count(*) FROM trace_settings").Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSettings: a record is found with the settings by which its handlers decided,
// each once, whatever was set afterwards, and by another process.
func TestSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, s := openLog(t, dir)
	first, second, plain := judged(moment, delay(`"5m"`), delay(`"5m"`), nil), judged(moment, delay(`"10m"`)), judged(moment, nil)
	l.Add(first)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.AddTx(tx, second) }); err != nil {
		t.Fatal(err)
	}
	l.Add(plain)
	if n := rowsOf(t, l, s); n != 2 {
		t.Errorf("%d rows of settings, want 2", n)
	}
	if err := errors.Join(l.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	l, _ = openLog(t, dir)
	five, ten := delay(`"5m"`).Hash(), delay(`"10m"`).Hash()
	for _, test := range []struct {
		record *trace.Record
		want   map[string][]mail.Setting
	}{
		{first, map[string][]mail.Setting{five.String(): {delaySetting(`"5m"`)}}},
		{second, map[string][]mail.Setting{ten.String(): {delaySetting(`"10m"`)}}},
		{plain, nil},
	} {
		list, err := found(l.Lookup(t.Context(), test.record.ID, ""))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, list[0].Settings); diff != "" {
			t.Errorf("settings (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(test.record.Entries, list[0].Entries); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		text, err := json.Marshal(list[0])
		if err != nil {
			t.Fatal(err)
		}
		again := new(trace.Record)
		if err := json.Unmarshal(text, again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(list[0], again); diff != "" {
			t.Errorf("from JSON (-want +got):\n%s", diff)
		}
	}
	got, err := l.Settings(t.Context(), ten)
	if diff := cmp.Diff([]mail.Setting{delaySetting(`"10m"`)}, got); diff != "" || err != nil {
		t.Errorf("by hash, error %v (-want +got):\n%s", err, diff)
	}
	if _, err := l.Settings(t.Context(), delay(`"1h"`).Hash()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("settings that are not there: %v, want ErrNotFound", err)
	}
}

// TestSettingsAreKeptForTheirRecords lets the clock run: settings stay as long as
// a record may need them, and go then; those that are in use stay, without being
// written with every record.
func TestSettingsAreKeptForTheirRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newLog(t, trace.Options{Keep: 24 * time.Hour})
		l.Start()
		asked := 0
		used := mail.NewSettings(func() []mail.Setting { asked++; return []mail.Setting{delaySetting("used")} })
		l.Add(judged(time.Now(), delay("once"), used))
		if rowsOf(t, l, s) != 2 {
			t.Fatal("the settings are not there")
		}
		before := asked
		var last *trace.Record
		for hour := range 24 * 5 {
			time.Sleep(time.Hour) //nolint:forbidigo // the clock is synctest's
			last = judged(time.Now(), used)
			l.Add(last)
			if want := 2; hour < 24 && rowsOf(t, l, s) != want {
				t.Fatalf("after %d hours %d rows, want %d", hour+1, rowsOf(t, l, s), want)
			}
		}
		synctest.Wait()
		if n := rowsOf(t, l, s); n != 1 {
			t.Errorf("%d rows after five days, want the one that is in use", n)
		}
		if written := asked - before; written > 2*6 {
			t.Errorf("the settings were put into words %d times for 120 records of five days", written)
		}
		list, err := found(l.Lookup(t.Context(), last.ID, ""))
		if err != nil || len(list[0].Settings) != 1 {
			t.Errorf("last record %+v, %v: its settings are gone", list, err)
		}
	})
}

// TestFollowerAsksForSettings: who is shown a record can ask for its settings at
// once.
func TestFollowerAsksForSettings(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	records, stop := l.Follow()
	defer stop()
	for i := range 20 {
		go l.Add(judged(moment, delay(fmt.Sprint(i))))
		r := <-records
		if _, err := l.Settings(t.Context(), r.Entries[0].Settings.Hash()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExplain gives a record that was not stored its settings.
func TestExplain(t *testing.T) {
	t.Parallel()
	r := judged(moment, delay("1"), nil, delay("1"), delay("2"), mail.StoredSettings(delay("3").Hash()))
	r.Explain()
	want := map[string][]mail.Setting{delay("1").Hash().String(): {delaySetting("1")}, delay("2").Hash().String(): {delaySetting("2")}}
	if diff := cmp.Diff(want, r.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestFindMore finds by the field of the message, by what a handler said, and by
// time.
func TestFindMore(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	names := make(map[string]string)
	add := func(name string, minutes int, messageID string, entries ...mail.Entry) {
		at := moment.Add(time.Duration(minutes) * time.Minute)
		r := &trace.Record{ID: mail.NewID(at), Session: "s", Kind: trace.KindMessage, Time: at.Add(time.Hour), MessageID: messageID, Entries: entries}
		names[r.ID] = name
		l.Add(r)
	}
	said := func(handler string, action mail.Action, note string) mail.Entry {
		return mail.Entry{Stage: mail.StageRcpt, Handler: handler, Action: action, Note: note}
	}
	add("a", 0, "<One@example.org>", said("greylist", mail.ActionDefer, ""))
	add("b", 1, "", said("greylist", mail.ActionContinue, ""), said("spf", mail.ActionDefer, "error"))
	add("d", 3, "", said("greylist", mail.ActionReject, "monitor"), said("spf", mail.ActionContinue, "skipped"))
	add("c", 2, "<two@example.org>", said("greylist", mail.ActionContinue, "timeout"), said("spf", mail.ActionContinue, "resting")) // later than d, though it began before
	at := func(minutes int) time.Time { return moment.Add(time.Duration(minutes) * time.Minute) }
	for name, test := range map[string]struct {
		filter trace.Filter
		want   string
	}{
		"field":               {trace.Filter{MessageID: "one@EXAMPLE"}, "a"},
		"handler":             {trace.Filter{Handler: "greylist"}, "cda"},
		"part of its name":    {trace.Filter{Handler: "grey"}, ""},
		"deferred":            {trace.Filter{Handler: "greylist", Verdict: "defer"}, "a"},
		"deferred by any":     {trace.Filter{Verdict: "defer"}, "ba"},
		"continued":           {trace.Filter{Handler: "greylist", Verdict: "continue"}, "b"},
		"continued, by spf":   {trace.Filter{Handler: "spf", Verdict: "continue"}, ""},
		"failed":              {trace.Filter{Verdict: trace.VerdictError}, "cb"},
		"skipped":             {trace.Filter{Verdict: trace.VerdictSkipped}, "d"},
		"monitored":           {trace.Filter{Verdict: trace.VerdictMonitored}, "d"},
		"since":               {trace.Filter{Since: at(2)}, "dc"},
		"until":               {trace.Filter{Until: at(2)}, "ba"},
		"between":             {trace.Filter{Since: at(1), Until: at(3)}, "cb"},
		"before anything":     {trace.Filter{Until: at(-1)}, ""},
		"long ago":            {trace.Filter{Since: time.Unix(-5, 0)}, "dcba"},
		"since, of a handler": {trace.Filter{Since: at(1), Handler: "greylist", Verdict: "reject"}, "d"},
	} {
		list, err := found(l.Find(t.Context(), test.filter, 10))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range list {
			got += names[r.ID]
			if !test.filter.Matches(r) {
				t.Errorf("%s: %s is found and does not match", name, names[r.ID])
			}
		}
		if got != test.want {
			t.Errorf("%s: found %q, want %q", name, got, test.want)
		}
	}
	if words := trace.Verdicts(); !slices.Contains(words, "quarantine") || !slices.Contains(words, trace.VerdictMonitored) {
		t.Errorf("verdicts %v", words)
	}
}

// TestLongReason: what a filter says of a message is kept as long as it is, within
// reason.
func TestLongReason(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	rules := ""
	for i := range 100 {
		rules += fmt.Sprintf("RULE_%02d 1.5, ", i)
	}
	r := judged(moment, nil)
	r.Entries[0].Reason, r.Outcome.Reason = rules, rules
	l.Add(r)
	got, err := l.Get(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Entries[0].Reason != rules || got.Outcome.Reason != rules {
		t.Errorf("%d and %d bytes are left of %d", len(got.Entries[0].Reason), len(got.Outcome.Reason), len(rules))
	}
}
