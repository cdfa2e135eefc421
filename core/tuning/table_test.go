package tuning_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

func open(t *testing.T, now func() time.Time) *tuning.Table {
	t.Helper()
	table, _ := openStore(t, now)
	return table
}

func openStore(t *testing.T, now func() time.Time) (*tuning.Table, *store.Store) {
	t.Helper()
	s, err := store.OpenMemory(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	table, err := tuning.Open(t.Context(), s, now)
	if err != nil {
		t.Fatal(err)
	}
	return table, s
}

func TestTableKeepsSettingsAndHistory(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	table := open(t, func() time.Time { return now })
	key := tuning.Key{Handler: "greylist", Attribute: "delay"}
	apply := func(domain string, changes ...tuning.Change) {
		t.Helper()
		if err := table.Apply(t.Context(), tuning.Request{Domain: domain, Changes: changes, Actor: "alice", Note: "why"}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	apply("b.test", tuning.Change{Key: key, Value: new(`"1m"`)})
	apply("b.test", tuning.Change{Key: key, Value: new(`"1m"`)}) // the same again is no change
	apply("a.test", tuning.Change{Key: key})                     // nor is what was not there
	apply("b.test", tuning.Change{Key: key, Value: new(`"2m"`)}, tuning.Change{Key: tuning.Key{Handler: "a", Attribute: "b"}, Value: new("1")})
	apply("*", tuning.Change{Key: key, Value: new(`"3m"`)})

	all, err := table.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := func(s int) time.Time { return time.Date(2026, 11, 1, 12, 0, s, 0, time.UTC) }
	want := []tuning.Setting{
		{Domain: "*", Key: key, Value: `"3m"`, Changed: at(4), Actor: "alice"},
		{Domain: "b.test", Key: tuning.Key{Handler: "a", Attribute: "b"}, Value: "1", Changed: at(3), Actor: "alice"},
		{Domain: "b.test", Key: key, Value: `"2m"`, Changed: at(3), Actor: "alice"},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	of, err := table.Of(t.Context(), "*")
	if diff := cmp.Diff(want[:1], of); diff != "" || err != nil {
		t.Errorf("of *, error %v (-want +got):\n%s", err, diff)
	}
	history, err := table.History(t.Context(), "b.test", 0, 2)
	wantHistory := []tuning.Revision{
		{ID: 3, Time: at(3), Actor: "alice", Domain: "b.test", Key: want[1].Key, After: new("1"), Note: "why"},
		{ID: 2, Time: at(3), Actor: "alice", Domain: "b.test", Key: key, Before: new(`"1m"`), After: new(`"2m"`), Note: "why"},
	}
	if diff := cmp.Diff(wantHistory, history); diff != "" || err != nil {
		t.Errorf("history, error %v (-want +got):\n%s", err, diff)
	}
	for after, want := range map[string][]string{"": {"*"}, "*": {"b.test"}, "b.test": nil} {
		if got, err := table.Domains(t.Context(), after, 1); err != nil || !cmp.Equal(want, got) {
			t.Errorf("domains behind %q: %v, %v", after, got, err)
		}
	}
}

func TestTableUndo(t *testing.T) {
	t.Parallel()
	table := open(t, time.Now)
	one, two := tuning.Key{Handler: "h", Attribute: "one"}, tuning.Key{Handler: "h", Attribute: "two"}
	for _, c := range []tuning.Change{
		{Key: one, Value: new("1")}, {Key: one, Value: new("2")}, {Key: two, Value: new("3")}, {Key: one},
	} {
		if err := table.Apply(t.Context(), tuning.Request{Domain: "a.test", Changes: []tuning.Change{c}}); err != nil {
			t.Fatal(err)
		}
	}
	for to, want := range map[int64][]tuning.Change{
		4: nil,
		3: {{Key: one, Value: new("2")}},
		2: {{Key: one, Value: new("2")}, {Key: two}},
		1: {{Key: one, Value: new("1")}, {Key: two}},
		0: {{Key: two}}, // all that is set now
	} {
		got, err := table.Undo(t.Context(), "a.test", to)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("to %d, error %v (-want +got):\n%s", to, err, diff)
		}
	}
	for _, domain := range []string{"a.test", "b.test"} {
		if _, err := table.Undo(t.Context(), domain, map[string]int64{"a.test": 9, "b.test": 1}[domain]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a revision that %s does not have: %v", domain, err)
		}
	}
}

// TestSweepHistory: changes go after two years, the oldest first and so many at a
// time; what is set stays.
func TestSweepHistory(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	table, s := openStore(t, func() time.Time { return now })
	for i := range 5 {
		c := tuning.Change{Key: tuning.Key{Handler: "h", Attribute: "a"}, Value: new(string(rune('0' + i)))}
		if err := table.Apply(t.Context(), tuning.Request{Domain: "a.test", Changes: []tuning.Change{c}}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(200 * 24 * time.Hour)
	}
	for _, want := range []int{1, 1, 0} {
		got := 0
		err := s.Write(t.Context(), func(tx *store.Tx) (err error) {
			got, err = tuning.SweepHistory(tx, now, 1)
			return err
		})
		if got != want || err != nil {
			t.Errorf("%d changes went, want %d (%v)", got, want, err)
		}
	}
	if list, err := table.Of(t.Context(), "a.test"); err != nil || len(list) != 1 || list[0].Value != "4" {
		t.Errorf("set is %+v, %v", list, err)
	}
}
