package ratelimit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

const tenPerHour = `ratelimit {
	key   = "ip"
	limit = "10/1h"
}`

// TestRestart counts ten events in one process and an eleventh in the next.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	dir := t.TempDir()
	run := func(do func(*Ratelimit)) {
		s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir, Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		do(coretest.Load[*Ratelimit](t, s, "handler.ratelimit", tenPerHour))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := event{ip: "192.0.2.1"}
	run(func(r *Ratelimit) {
		for range 10 {
			handle(t, r, e)
			c.Add(time.Minute)
		}
	})
	run(func(r *Ratelimit) {
		if v := handle(t, r, e); v.Action != mail.ActionDefer {
			t.Errorf("verdict %+v after a restart", v)
		}
		if v := handle(t, r, event{ip: "192.0.2.2"}); v.Action != mail.ActionContinue {
			t.Errorf("verdict %+v on another client", v)
		}
	})
	c.Add(2 * time.Hour)
	run(func(r *Ratelimit) {
		if v := handle(t, r, e); v.Action != mail.ActionContinue {
			t.Errorf("verdict %+v once nothing counts any more", v)
		}
	})
}

// TestSwap gives a second instance, as a new configuration would, the counters
// of the first.
func TestSwap(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	s := coretest.New(t, coretest.Options{Now: c.Now})
	loadSource := func(source string) *Ratelimit {
		return coretest.Load[*Ratelimit](t, s, "handler.ratelimit", source)
	}
	old := loadSource(tenPerHour)
	e := event{ip: "192.0.2.1"}
	for range 8 {
		handle(t, old, e)
	}
	stricter := loadSource("ratelimit {\nkey = \"ip\"\nlimit = \"8/1h\"\n}")
	if v := handle(t, stricter, e); v.Action != mail.ActionDefer {
		t.Errorf("verdict %+v of an instance with a lower limit", v)
	}
	for name, source := range map[string]string{
		"other window": "ratelimit {\nkey = \"ip\"\nlimit = \"8/2h\"\n}",
		"other name":   "ratelimit \"other\" {\nkey = \"ip\"\nlimit = \"8/1h\"\n}",
		"other key":    "ratelimit {\nkey = [\"ip\", \"from_domain\"]\nlimit = \"8/1h\"\n}",
		"other prefix": "ratelimit {\nkey = \"ip\"\nlimit = \"8/1h\"\nipv4_prefix = 31\n}",
	} {
		if v := handle(t, loadSource(source), event{ip: "192.0.2.1", from: "alice@example.test"}); v.Action != mail.ActionContinue {
			t.Errorf("%s: verdict %+v", name, v)
		}
	}
}

// newStored gives counters with a store in memory.
func newStored(t *testing.T, now func() time.Time) *counters {
	t.Helper()
	s, err := store.OpenMemory(store.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context(), (&Ratelimit{}).Migrations()); err != nil {
		t.Fatal(err)
	}
	c := newCounters("test", time.Hour, options{store: s, log: zap.NewNop(), now: now})
	c.setMax(1_000_000)
	return c
}

// rows counts the rows of the table.
func rows(t *testing.T, c *counters) (n int) {
	t.Helper()
	err := c.store.Read(t.Context(), func(s *store.Snapshot) error {
		return s.QueryRow(`SELECT COUNT(*) FROM ratelimit`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFlush(t *testing.T) {
	t.Parallel()
	k := coretest.NewClock(start)
	c := newStored(t, k.Now)
	const many = 3*batch + 1
	for i := range many {
		c.take(key{byte(i), byte(i >> 8)}, 1, 5, k.Now())
	}
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, c); n != many {
		t.Errorf("%d rows, want %d", n, many)
	}
	if _, err := deleteAll(t, c); err != nil {
		t.Fatal(err)
	}
	c.take(key{1}, 1, 5, k.Now())
	c.take(key{2}, 1, 1, k.Now())
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, c); n != 1 {
		t.Errorf("%d rows after one counter changed", n)
	}
}

func deleteAll(t *testing.T, c *counters) (n int64, err error) {
	t.Helper()
	err = c.store.Write(t.Context(), func(tx *store.Tx) error {
		result, err := tx.Exec(`DELETE FROM ratelimit`)
		n = result.RowsAffected
		return err
	})
	return n, err
}

func TestLoad(t *testing.T) {
	t.Parallel()
	k := coretest.NewClock(start)
	old := newStored(t, k.Now)
	for i := range 7 {
		old.take(key{1}, 1, 10, k.Now().Add(time.Duration(i)*10*time.Minute))
	}
	if err := old.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := newCounters("other", time.Hour, old.options)
	other.setMax(1000)
	if err := other.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, _ := other.take(key{1}, 1, 10, k.Now()); used != 1 {
		t.Errorf("%d events of another scope count", used-1)
	}
	k.Add(time.Hour)
	fresh := newCounters("test", time.Hour, old.options)
	fresh.setMax(1000)
	if err := fresh.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	want, _ := old.take(key{1}, 1, 10, k.Now())
	if got, _ := fresh.take(key{1}, 1, 10, k.Now()); got != want {
		t.Errorf("%d events were read, want %d", got-1, want-1)
	}
	if err := fresh.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLoadBrokenRow(t *testing.T) {
	t.Parallel()
	k := coretest.NewClock(start)
	c := newStored(t, k.Now)
	err := c.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO ratelimit (scope, key, slice, counts, expires) VALUES ('test', ?, 1, ?, ?)`,
			[]byte("x"), []byte("y"), k.Now().Add(time.Hour).UnixMicro())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.start(); err == nil {
		t.Error("a broken row was read")
	}
	if err := c.start(); err == nil {
		t.Error("the second start forgets the error of the first")
	}
	if err := c.Close(); err != nil {
		t.Errorf("close after a failed start: %v", err)
	}
}

func TestSweepRows(t *testing.T) {
	t.Parallel()
	k := coretest.NewClock(start)
	c := newStored(t, k.Now)
	const old, young, limit = 2*batch + 5, 3, 400
	for i := range old {
		c.take(key{1, byte(i), byte(i >> 8)}, 1, 5, k.Now())
	}
	k.Add(2 * time.Hour)
	for i := range young {
		c.take(key{2, byte(i)}, 1, 5, k.Now())
	}
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r core.Sweeper = new(Ratelimit)
	sweep := func() (removed []int) {
		for {
			n := 0
			err := c.store.Write(t.Context(), func(tx *store.Tx) (err error) {
				n, err = r.Sweep(tx, k.Now(), limit)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if removed = append(removed, n); n < limit {
				return removed
			}
		}
	}
	if got := sweep(); got[0] != 0 {
		t.Errorf("%v rows removed within two hours after they count", got)
	}
	k.Add(time.Hour + 20*time.Minute)
	if diff := cmp.Diff([]int{limit, limit, old - 2*limit}, sweep()); diff != "" {
		t.Errorf("rows removed (-want +got):\n%s", diff)
	}
	if n := rows(t, c); n != young {
		t.Errorf("%d rows are left, want %d", n, young)
	}
}

// TestRun finds that changes are written in time, and at the end.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStored(t, time.Now)
		if err := c.start(); err != nil {
			t.Fatal(err)
		}
		c.take(key{1}, 1, 5, time.Now())
		<-time.After(flushEvery + time.Second)
		synctest.Wait()
		if n := rows(t, c); n != 1 {
			t.Errorf("%d rows after %s, want 1", n, flushEvery)
		}
		<-time.After(3 * time.Hour)
		synctest.Wait()
		held := 0
		for i := range c.shards {
			held += len(c.shards[i].list)
		}
		if held != 0 {
			t.Errorf("%d counters are held that count no more", held)
		}
		c.take(key{2}, 1, 5, time.Now())
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if n := rows(t, c); n != 2 {
			t.Errorf("%d rows after closing, want 2", n)
		}
	})
}

// TestMigratesFromTheFirstTable: a database that knows only the first step is
// brought to the table of today.
func TestMigratesFromTheFirstTable(t *testing.T) {
	t.Parallel()
	s, err := store.OpenMemory(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context(), store.Migrations{Module: "ratelimit", Steps: []string{schema1}}); err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO ratelimit (scope, key, slice, counts, ends) VALUES ('s', x'00', 1, x'00', 1)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context(), new(Ratelimit).Migrations()); err != nil {
		t.Fatal(err)
	}
	c := newCounters("s", time.Minute, options{store: s, now: time.Now})
	if err := c.load(t.Context()); err != nil {
		t.Errorf("load counters: %v", err)
	}
}
