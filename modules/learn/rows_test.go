package learn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/mox-like/mox-like/core/store"
)

func removeAccount(t *testing.T, s *Service, account string) {
	t.Helper()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.RemoveAccount(tx, account) }))
}

func sweep(t *testing.T, s *Service, now time.Time, limit int) (n int) {
	t.Helper()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) (err error) {
		n, err = s.Sweep(tx, now, limit)
		return err
	}))
	return n
}

// TestRemovedAccount: what it has taught is told no more, also not for a successor of
// the name, and its mail goes.
func TestRemovedAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		var up atomic.Bool
		f := newFilter(down(&up))
		register(t, s, daemon, f)
		register(t, s, "another", newFilter(down(&up)))
		shared, own := addBody(t, s, "shared"), addBody(t, s, "own")
		for _, account := range []string{alice, bob} {
			teach(t, s, account, shared, true)
		}
		teach(t, s, alice, own, false)
		removeMessage(t, s, own)
		pass(time.Second)
		f.lessons()
		removeAccount(t, s, alice)
		removeAccount(t, s, bob) // two that are gone have had the same message
		removeAccount(t, s, "nobody@example.test")
		teach(t, s, alice, shared, false) // of the successor
		up.Store(true)
		pass(2 * time.Hour)
		same(t, "lessons", []string{"alice ham shared"}, f.lessons())
		same(t, "waiting", float64(6), figures(s)["waiting"])
		same(t, "removed at first", 4, sweep(t, s, time.Now(), 4))
		same(t, "removed then", 2, sweep(t, s, time.Now(), 4))
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
		same(t, "bodies", 1, number(t, s, "SELECT count(*) FROM body"))
		same(t, "waiting", float64(0), figures(s)["waiting"])
		same(t, "dropped", float64(0), figures(s)["dropped_total"])
		same(t, "lines about dropped lessons", 0, logs.FilterMessageSnippet("lessons dropped").Len())
		same(t, "accounts that have something waiting", 0, len(s.own))
	})
}

// TestRemovedWhileTold: the answer comes after the account has gone.
func TestRemovedWhileTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		asked, answer := make(chan struct{}), make(chan error)
		t.Cleanup(s.Teach(daemon, func(context.Context, string, bool, io.Reader, int64) error {
			asked <- struct{}{}
			return <-answer
		}))
		teach(t, s, alice, addBody(t, s, "one"), true)
		teach(t, s, bob, addBody(t, s, "two"), true)
		<-asked
		removeAccount(t, s, alice)
		answer <- nil
		<-asked
		removeAccount(t, s, bob)
		answer <- errDown
		pass(2 * time.Hour)
		same(t, "figures", map[string]float64{"learners": 1, "failing": 1, "waiting": 1, "told_total": 1, "failed_total": 1}, figures(s))
		same(t, "removed", 1, sweep(t, s, time.Now(), 10))
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{2, 0}, [2]int{left, rows})
		same(t, "accounts that have something waiting", 0, len(s.own))
	})
}

// TestOppositeOverTheLimit: a lesson that was taken back is not told, although there is
// no room for its opposite.
func TestOppositeOverTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		var up atomic.Bool
		f := newFilter(down(&up))
		register(t, s, daemon, f)
		body, other := addBody(t, s, "one"), addBody(t, s, "two")
		must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO learn_accounts (account, day, lessons, bytes) VALUES (?, ?, ?, 0)", alice, day(s.now()), maxDaily-2)
			return err
		}))
		teach(t, s, alice, other, true)
		teach(t, s, alice, body, true)
		pass(time.Second)
		f.lessons()
		teach(t, s, alice, other, true) // the same once more changes nothing
		teach(t, s, alice, body, false)
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{3, 1}, [2]int{left, rows})
		up.Store(true)
		pass(2 * time.Hour)
		same(t, "lessons", []string{"alice spam two"}, f.lessons())
		same(t, "over the limit", float64(2), figures(s)["over_limit_total"])
	})
}

// TestOwnLimit: what one account has waiting leaves room for others, over days.
func TestOwnLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		register(t, s, daemon, newFilter(func(string) error { return errDown }))
		register(t, s, "another", newFilter(func(string) error { return errDown }))
		s.hold(alice, maxOwn-2, 0)
		teach(t, s, alice, addBody(t, s, "fits"), true)
		teach(t, s, alice, addBody(t, s, "over"), true)
		teach(t, s, bob, addBody(t, s, "fits"), true)
		same(t, "over the limit", float64(1), figures(s)["over_limit_total"])
		s.hold(alice, -maxOwn+2, 0)
		s.hold(alice, 1, maxOwnBytes-10)
		teach(t, s, alice, addBody(t, s, "0123456789"), true)
		same(t, "over the limit by sizes", float64(2), figures(s)["over_limit_total"])
	})
}

// TestCountedAtStart: what waited before counts.
func TestCountedAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		t.Cleanup(s.Teach(daemon, newFilter(func(string) error { return errDown }).teach))
		teach(t, s, alice, addBody(t, s, "one"), true)
		teach(t, s, alice, addBody(t, s, "three"), true)
		teach(t, s, bob, addBody(t, s, "two"), true)
		want := map[string]amount{alice: {2, 8}, bob: {1, 3}}
		same(t, "what waits", fmt.Sprint(want), fmt.Sprint(s.own))
		s.own = make(map[string]amount)
		s.hold("", 5, 5)
		must(t, s.count(t.Context()))
		same(t, "what waits", fmt.Sprint(want), fmt.Sprint(s.own))
		same(t, "sums", [2]int64{3, 11}, [2]int64{s.waiting.Load(), s.waitingBytes.Load()})
	})
}

// TestClockSetBack: a lesson that was to be told next year is told within the hour.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		var ahead atomic.Int64
		s.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		var up atomic.Bool
		f := newFilter(down(&up))
		register(t, s, daemon, f)
		ahead.Store(int64(365 * 24 * time.Hour))
		teach(t, s, alice, addBody(t, s, "one"), true)
		pass(10 * time.Minute)
		ahead.Store(0)
		// One that fails always, and so is always nearer than the one of next year.
		teach(t, s, bob, addBody(t, s, "two"), true)
		pass(10 * time.Minute)
		f.lessons()
		up.Store(true)
		pass(2 * time.Hour)
		if got := f.lessons(); len(got) != 2 {
			t.Errorf("told %q, want both", got)
		}
	})
}

// TestTurnedRoundStartsAnew: how often the opposite failed does not count for it, and a
// failure of the opposite that comes late does not postpone it.
func TestTurnedRoundStartsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		asked, answer := make(chan struct{}), make(chan error)
		t.Cleanup(s.Teach(daemon, func(context.Context, string, bool, io.Reader, int64) error {
			asked <- struct{}{}
			return <-answer
		}))
		body := addBody(t, s, "one")
		teach(t, s, alice, body, true)
		for range 3 {
			<-asked
			answer <- errDown
		}
		synctest.Wait()
		same(t, "attempts", 3, number(t, s, "SELECT attempts FROM learn_lessons"))
		<-asked
		teach(t, s, alice, body, false)
		same(t, "attempts of the opposite", 0, number(t, s, "SELECT attempts FROM learn_lessons"))
		due := number(t, s, "SELECT next FROM learn_lessons")
		answer <- errDown
		synctest.Wait()
		same(t, "attempts after the late failure", 0, number(t, s, "SELECT attempts FROM learn_lessons"))
		same(t, "due", due, number(t, s, "SELECT next FROM learn_lessons"))
		<-asked
		answer <- nil
		synctest.Wait()
	})
}

// TestEagerUntilAFailure: a filter that registers again is told at once, with no write
// to all that waits, and if it still fails the pauses stay.
func TestEagerUntilAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		fail := newFilter(func(string) error { return errDown })
		register(t, s, daemon, fail)
		for i := range 5 {
			teach(t, s, alice, addBody(t, s, fmt.Sprint(i)), true)
		}
		pass(10 * time.Hour)
		fail.lessons()
		attempts := number(t, s, "SELECT sum(attempts) FROM learn_lessons")
		late := number(t, s, "SELECT max(next) FROM learn_lessons")
		again := newFilter(func(string) error { return errDown })
		register(t, s, daemon, again)
		pass(time.Second)
		same(t, "lessons at once", 1, len(again.lessons()))
		same(t, "attempts", attempts+1, number(t, s, "SELECT sum(attempts) FROM learn_lessons"))
		same(t, "the last one", true, number(t, s, "SELECT max(next) FROM learn_lessons") >= late)
		good := newFilter(nil)
		register(t, s, daemon, good)
		pass(time.Second)
		same(t, "lessons of the good one", 5, len(good.lessons()))
	})
}

// TestAnsweredAtTheEnd: a lesson that the filter has taken while the server ends is not
// told again.
func TestAnsweredAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		ended := make(chan error, 1)
		t.Cleanup(s.Teach(daemon, func(ctx context.Context, _ string, _ bool, _ io.Reader, _ int64) error {
			go func() { ended <- s.Cleanup() }()
			<-ctx.Done()
			return nil // the answer was there already
		}))
		teach(t, s, alice, addBody(t, s, "one"), true)
		must(t, <-ended)
		same(t, "figures", map[string]float64{"learners": 1, "told_total": 1}, figures(s))
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
	})
}

// TestAnotherTrouble: an error of another kind is logged, and the status has the last.
func TestAnotherTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		same(t, "report", "", s.Report())
		var fault atomic.Pointer[error]
		set := func(err error) { fault.Store(&err) }
		set(errors.New("read tcp 192.0.2.1:40001: connection refused"))
		forget := register(t, s, daemon, newFilter(func(string) error { return *fault.Load() }))
		since := time.Now().UTC().Format("2006-01-02 15:04 UTC")
		teach(t, s, alice, addBody(t, s, "one"), true)
		pass(10 * time.Minute)
		set(errors.New("read tcp 192.0.2.1:51234: connection refused"))
		pass(2 * time.Hour)
		warned := func() int { return logs.FilterLevelExact(zapcore.WarnLevel).Len() }
		same(t, "lines", 1, warned())
		same(t, "report", "lessons that wait: 1; "+daemon+" cannot be told since "+since+", the last error is: read tcp 192.0.2.1:51234: connection refused", s.Report())
		set(errors.New("start spamd with --allow-tell\x1b" + strings.Repeat("x", 2*maxTrouble)))
		pass(3 * time.Hour)
		same(t, "lines", 2, warned())
		if r := s.Report(); !strings.Contains(r, "the last error is: start spamd with --allow-tell?xxx") || len(r) > 2*maxTrouble {
			t.Errorf("report %q", r)
		}
		set(nil)
		forgotten := s.Teach("another", newFilter(nil).teach)
		pass(2 * time.Hour)
		same(t, "report when it was told", "", s.Report())
		forgotten()
		set(errDown)
		teach(t, s, alice, addBody(t, s, "two"), true)
		pass(time.Second)
		forget()
		same(t, "report without a filter", "lessons that wait: 1; no spam filter learns now", s.Report())
	})
}
