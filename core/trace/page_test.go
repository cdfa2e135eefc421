package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// TestLookupInPages gives a session of any length, page by page.
func TestLookupInPages(t *testing.T) {
	t.Parallel()
	for name, padding := range map[string]int{"by number": 0, "by size": 2000} {
		l := statsLog(t)
		l.maxPage = 1000
		if padding == 0 {
			l.maxPage = 100
		}
		session := mail.NewID(began)
		entries := slices.Repeat([]mail.Entry{{Reason: strings.Repeat("r", padding)}}, 4)
		var want, got []string
		for i := range 400 {
			r := &Record{ID: mail.NewID(began.Add(time.Duration(i+1) * time.Millisecond)), Session: session, Kind: KindMessage, Time: began, Entries: entries}
			want = append(want, r.ID)
			l.Add(r)
			l.Add(&Record{ID: mail.NewID(began.Add(time.Duration(i) * time.Second)), Session: "another", Kind: KindMessage, Time: began})
		}
		pages := 0
		for after := ""; ; {
			found, err := l.Lookup(t.Context(), strings.ToUpper(session), after)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, r := range found.Records {
				got = append(got, r.ID)
			}
			if after = found.Next; after == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: records (-want +got):\n%s", name, diff)
		}
		if pages < 2 || pages > 5 {
			t.Errorf("%s: %d pages of %d records", name, pages, len(want))
		}
	}
}

// sized are settings with a value of so many bytes.
func sized(name string, size int) *mail.Settings {
	return mail.NewSettings(func() []mail.Setting {
		return []mail.Setting{{Attribute: name, Value: strings.Repeat("v", size), Source: "handler"}}
	})
}

// TestSettingsOnceAnAnswer: settings are given once in an answer, and no more than
// there is room for; the others can be asked for.
func TestSettingsOnceAnAnswer(t *testing.T) {
	t.Parallel()
	l := statsLog(t)
	session := mail.NewID(began)
	large := make([]*mail.Settings, 5)
	for i := range large {
		large[i] = sized(fmt.Sprint("large", i), 1<<20)
	}
	for i := range 20 {
		entries := []mail.Entry{{Settings: settings("1")}}
		if i < len(large) {
			entries = append(entries, mail.Entry{Settings: large[i]})
		}
		l.Add(&Record{ID: mail.NewID(began.Add(time.Duration(i+1) * time.Millisecond)), Session: session, Kind: KindMessage, Time: began, Entries: entries})
	}
	found, err := l.Lookup(t.Context(), session, "")
	if err != nil {
		t.Fatal(err)
	}
	var times, size int
	for _, r := range found.Records {
		for _, list := range r.Settings {
			times, size = times+1, size+len(list[0].Value)
		}
	}
	if times != 1+3 || size > maxExplained || len(found.Records) != 20 {
		t.Errorf("%d records with %d times settings of %d bytes", len(found.Records), times, size)
	}
	if list, err := l.Settings(t.Context(), large[4].Hash()); err != nil || len(list) != 1 {
		t.Errorf("settings that had no room: %v, %v", list, err)
	}
}

// execute runs a statement.
func execute(t *testing.T, l *Log, query string, args ...any) {
	t.Helper()
	err := l.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRows: one row that cannot be read hides no other, and is spoken of.
func TestDamagedRows(t *testing.T) {
	t.Parallel()
	l := statsLog(t)
	session := mail.NewID(began)
	var ids []string
	for i := range 3 {
		r := &Record{ID: mail.NewID(began.Add(time.Duration(i+1) * time.Millisecond)), Session: session, Kind: KindMessage, Time: began, Entries: []mail.Entry{{Stage: mail.StageData, Handler: "spf", Settings: settings("1")}}}
		ids = append(ids, r.ID)
		l.Add(r)
	}
	execute(t, l, "UPDATE trace SET record = x'02ff' WHERE id = ?", ids[1])
	found, err := l.Find(t.Context(), Filter{}, 10)
	if err != nil || len(found.Records) != 2 || found.Damaged != 1 {
		t.Errorf("search: %+v, %v", found, err)
	}
	if found, err = l.Lookup(t.Context(), session, ""); err != nil || len(found.Records) != 2 || found.Damaged != 1 {
		t.Errorf("session: %+v, %v", found, err)
	}
	if _, err := l.Lookup(t.Context(), ids[1], ""); !errors.Is(err, errDamaged) {
		t.Errorf("the damaged one: %v", err)
	}
	stats, err := l.Stats(t.Context(), StatsQuery{})
	if err != nil || stats.Records != 2 || stats.Damaged != 1 || len(stats.Handlers) != 1 || stats.Handlers[0].Asked != 2 {
		t.Errorf("statistics: %+v, %v", stats, err)
	}
	execute(t, l, "UPDATE trace_settings SET text = x'00'")
	if found, err = l.Lookup(t.Context(), ids[0], ""); err != nil || len(found.Records) != 1 || found.Records[0].Settings != nil {
		t.Errorf("damaged settings: %+v, %v", found, err)
	}
	if _, err := l.Settings(t.Context(), settings("1").Hash()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("damaged settings by hash: %v", err)
	}
}

// TestRemovalOfSettings: those that are in force stay, though their row was written
// before all others, and what goes nevertheless comes back with the next record.
func TestRemovalOfSettings(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]func(*Log){
		"rows":  func(l *Log) { l.maxSettings = 10 },
		"bytes": func(l *Log) { l.settingsRoom = 10 * (1000 + 200) },
	} {
		l := statsLog(t)
		now := began
		l.now = func() time.Time { return now }
		bound(l)
		add := func(s ...*mail.Settings) {
			now = now.Add(time.Minute)
			r := &Record{ID: mail.NewID(now), Session: "s", Kind: KindMessage, Time: now}
			for _, one := range s {
				r.Entries = append(r.Entries, mail.Entry{Settings: one})
			}
			l.Add(r)
			if err := l.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		kept := func(s *mail.Settings) bool {
			_, err := l.Settings(t.Context(), s.Hash())
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		inForce := sized("in force", 1000)
		add(inForce)
		list := make([]*mail.Settings, 30)
		for i := range list {
			list[i] = sized(fmt.Sprint("tuned", i), 1000)
			add(list[i], inForce)
		}
		removeAll(t, l)
		if !kept(inForce) {
			t.Errorf("%s: what is in force is gone", name)
		}
		n := 0
		for _, s := range list {
			if kept(s) {
				n++
			}
		}
		if n < 7 || n > 10 || !kept(list[29]) || kept(list[0]) {
			t.Errorf("%s: %d others are kept, the newest %t, the oldest %t", name, n, kept(list[29]), kept(list[0]))
		}
		if n := len(l.noted.hashes); n > 11 {
			t.Errorf("%s: %d are noted as written", name, n)
		}
		add(list[0])
		if !kept(list[0]) {
			t.Errorf("%s: what a new record needs does not come back", name)
		}
	}
}

func removeAll(t *testing.T, l *Log) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = l.removeSettings(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStatsOfDeferred: of a recipient that was deferred, and of what is selected.
func TestStatsOfDeferred(t *testing.T) {
	t.Parallel()
	l := statsLog(t)
	deferred := messageAt(0, "a@example.org", "bob@example.test", "192.0.2.1", "defer", said(mail.StageRcpt, "greylist", mail.ActionDefer, ""))
	deferred.Recipients = nil
	l.Add(deferred)
	later := messageAt(5, "a@example.org", "carol@example.test", "192.0.2.1", "accept", said(mail.StageRcpt, "greylist", mail.ActionDefer, ""), said(mail.StageRcpt, "spf", mail.ActionReject, "monitor"))
	l.Add(later)
	stats, err := l.Stats(t.Context(), StatsQuery{Handler: "greylist", Examples: 5})
	if err != nil {
		t.Fatal(err)
	}
	if got := stats.Handlers[0].Examples; len(got) != 2 || got[0].Outcome != "defer" || got[1].Outcome != "defer" {
		t.Errorf("examples %+v, want the outcome defer", got)
	}
	for _, q := range []StatsQuery{{Listener: "mxx"}, {Domain: "nosuch.test"}} {
		if stats, err = l.Stats(t.Context(), q); err != nil || stats.Records != 0 || len(stats.Listeners) != 1 || !stats.Oldest.IsZero() {
			t.Errorf("%+v: %+v, %v", q, stats, err)
		}
	}
}
