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

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/store"
)

// register registers a filter until the end of the test.
func register(t *testing.T, s *Service, name string, f *filter) (forget func()) {
	t.Helper()
	forget = s.Teach(name, f.teach)
	t.Cleanup(forget)
	return forget
}

func TestToldInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		f, g := newFilter(nil), newFilter(nil)
		register(t, s, daemon, f)
		register(t, s, "another", g)
		one, two := addBody(t, s, "one"), addBody(t, s, "two")
		teach(t, s, alice, one, true)
		teach(t, s, alice, two, false)
		teach(t, s, bob, one, false) // has the same message, and another opinion
		pass(time.Second)
		want := []string{"alice spam one", "alice ham two", "bob ham one"}
		same(t, "lessons", want, f.lessons())
		same(t, "lessons of the other filter", want, g.lessons())
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{2, 0}, [2]int{left, rows})
		same(t, "figures", map[string]float64{"learners": 2, "told_total": 6}, figures(s))
	})
}

func TestNothingWithoutAFilter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		body := addBody(t, s, "one")
		forget := s.Teach(daemon, newFilter(nil).teach)
		same(t, "learning", true, s.Learning())
		forget()
		forget() // does no harm
		same(t, "learning", false, s.Learning())
		teach(t, s, alice, body, true)
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
		same(t, "accounts", 0, number(t, s, "SELECT count(*) FROM learn_accounts"))
	})
}

var errDown = errors.New("connection refused")

// down is a filter that is away until it is set up.
func down(up *atomic.Bool) func(string) error {
	return func(string) error {
		if up.Load() {
			return nil
		}
		return errDown
	}
}

// TestChangedMind: what waits is replaced by the opposite, what was told is not.
func TestChangedMind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		var up atomic.Bool
		f := newFilter(down(&up))
		register(t, s, daemon, f)
		body := addBody(t, s, "one")
		teach(t, s, alice, body, true)
		pass(time.Second)
		same(t, "lessons", []string{"alice spam one"}, f.lessons())
		teach(t, s, alice, body, true) // again, as a copy: nothing new
		teach(t, s, alice, body, false)
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{2, 1}, [2]int{left, rows})
		up.Store(true)
		pass(time.Minute)
		teach(t, s, alice, body, true)
		pass(time.Second)
		same(t, "lessons", []string{"alice ham one", "alice spam one"}, f.lessons())
		left, rows = refs(t, s)
		same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
		same(t, "figures", map[string]float64{"learners": 1, "told_total": 2, "failed_total": 1}, figures(s))
	})
}

// TestReplacedWhileTold: an answer ends the lesson that was told, not the one that
// came meanwhile.
func TestReplacedWhileTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		f := newFilter(nil)
		asked, answer := make(chan struct{}), make(chan struct{})
		t.Cleanup(s.Teach(daemon, func(ctx context.Context, account string, spam bool, m io.Reader, size int64) error {
			asked <- struct{}{}
			<-answer
			return f.teach(ctx, account, spam, m, size)
		}))
		body := addBody(t, s, "one")
		teach(t, s, alice, body, true)
		<-asked
		teach(t, s, alice, body, false)
		answer <- struct{}{}
		<-asked
		answer <- struct{}{}
		pass(time.Second)
		same(t, "lessons", []string{"alice spam one", "alice ham one"}, f.lessons())
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
	})
}

// TestRetries: pauses grow from a minute to an hour; who is back is told all.
func TestRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		var up atomic.Bool
		f := newFilter(down(&up))
		register(t, s, daemon, f)
		for i := range 5 {
			teach(t, s, alice, addBody(t, s, fmt.Sprint(i)), true)
		}
		pass(24 * time.Hour)
		for i := 1; i < len(f.at); i++ {
			most := min(time.Minute<<min(i-1, 6), time.Hour)
			if pause := f.at[i] - f.at[i-1]; pause < most*3/4 || pause > most+time.Second {
				t.Errorf("pause %d is %v, want about %v", i, pause, most)
			}
		}
		if n := len(f.at); n < 28 || n > 40 {
			t.Errorf("%d attempts in a day", n)
		}
		same(t, "failures", float64(len(f.at)), figures(s)["failed_total"])
		same(t, "waiting", float64(5), figures(s)["waiting"])
		same(t, "failing", float64(1), figures(s)["failing"])
		same(t, "lines that warn", 1, logs.FilterLevelExact(zapcore.WarnLevel).Len())
		f.lessons()
		up.Store(true)
		pass(2 * time.Hour)
		if got := len(f.lessons()); got != 5 {
			t.Errorf("told %d lessons, want 5", got)
		}
		same(t, "figures", map[string]float64{"learners": 1, "told_total": 5, "failed_total": float64(len(f.at) - 5)}, figures(s))
		same(t, "lines of the recovery", 1, logs.FilterMessage("the spam filter learns again").Len())
	})
}

// TestOneThatAlwaysFails does not keep the others waiting.
func TestOneThatAlwaysFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		f := newFilter(func(lesson string) error {
			if strings.HasSuffix(lesson, "poison") {
				panic("cannot read this")
			}
			return nil
		})
		register(t, s, daemon, f)
		poison := addBody(t, s, "poison")
		teach(t, s, alice, poison, true)
		for i := range 20 {
			teach(t, s, alice, addBody(t, s, fmt.Sprint(i)), true)
		}
		pass(2 * time.Minute)
		same(t, "told", float64(20), figures(s)["told_total"])
		same(t, "waiting", float64(1), figures(s)["waiting"])
		pass(8 * 24 * time.Hour)
		same(t, "dropped", float64(1), figures(s)["dropped_total"])
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{21, 0}, [2]int{left, rows})
	})
}

type finalError struct{}

func (finalError) Error() string   { return "message is too large" }
func (finalError) Permanent() bool { return true }

func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		f := newFilter(func(string) error { return fmt.Errorf("tell daemon: %w", finalError{}) })
		register(t, s, daemon, f)
		teach(t, s, alice, addBody(t, s, "one"), true)
		teach(t, s, alice, addBody(t, s, "two"), true)
		pass(time.Second)
		same(t, "lessons", []string{"alice spam one", "alice spam two"}, f.lessons())
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{2, 0}, [2]int{left, rows})
		same(t, "figures", map[string]float64{"learners": 1, "dropped_total": 2}, figures(s))
		same(t, "lines", 2, logs.FilterMessage("a lesson for the spam filter is given up").Len())
	})
}

// TestExpiry: after a week a lesson goes, and the body with it when the message is
// gone.
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		forget := s.Teach(daemon, newFilter(func(string) error { return errDown }).teach)
		for i := range 7 {
			body := addBody(t, s, fmt.Sprint(i))
			teach(t, s, alice, body, true)
			removeMessage(t, s, body)
		}
		pass(time.Hour)
		forget() // from now on nobody asks for them
		sweep := func(limit int) (n int) {
			must(t, s.store.Write(t.Context(), func(tx *store.Tx) (err error) {
				n, err = s.Sweep(tx, time.Now(), limit)
				return err
			}))
			return n
		}
		pass(keep - 2*time.Hour)
		same(t, "removed in time", 1, sweep(100)) // the count of the first day
		pass(time.Hour)
		same(t, "removed at first", 5, sweep(5))
		same(t, "removed then", 2, sweep(5))
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{0, 0}, [2]int{left, rows})
		same(t, "bodies", 0, number(t, s, "SELECT count(*) FROM body"))
		same(t, "dropped", float64(7), figures(s)["dropped_total"])
		same(t, "waiting", float64(0), figures(s)["waiting"])
		same(t, "lines", 2, logs.FilterMessage("lessons dropped: no spam filter has taken them in time").Len())
	})
}

func TestLimitsOfAnAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		var up atomic.Bool
		register(t, s, daemon, newFilter(down(&up)))
		body, other := addBody(t, s, "one"), addBody(t, s, "two")
		must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
			for i := range maxDaily + 500 {
				if err := s.Learn(tx, alice, body, i%2 == 0); err != nil {
					return err
				}
			}
			return s.Learn(tx, bob, body, true)
		}))
		same(t, "over the limit", float64(500), figures(s)["over_limit_total"])
		same(t, "lines", 1, logs.FilterMessageSnippet("message not learned").Len())
		left, rows := refs(t, s)
		// The last that fitted was "no spam", which the next has taken back.
		same(t, "references and rows", [2]int{3, 1}, [2]int{left, rows})
		teach(t, s, alice, other, true)
		same(t, "over the limit", float64(501), figures(s)["over_limit_total"])
		pass(24 * time.Hour)
		teach(t, s, alice, other, true)
		same(t, "over the limit the next day", float64(501), figures(s)["over_limit_total"])
		same(t, "waiting", float64(2), figures(s)["waiting"])

		large := addBody(t, s, strings.Repeat("x", maxSize+1))
		teach(t, s, bob, large, true)
		same(t, "over the limit by its size", float64(502), figures(s)["over_limit_total"])
		for range maxDailyBytes/maxSize + 3 {
			teach(t, s, bob, addBody(t, s, strings.Repeat("x", maxSize)), true)
		}
		same(t, "over the limit by all sizes", float64(505), figures(s)["over_limit_total"])
	})
}

func TestLimitsOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		register(t, s, daemon, newFilter(nil))
		s.hold(bob, maxWaiting-1, 0)
		teach(t, s, alice, addBody(t, s, "fits"), true)
		pass(time.Second)
		s.hold(bob, 1, 0)
		teach(t, s, alice, addBody(t, s, "over"), true)
		s.hold(bob, -maxWaiting, 0)
		s.hold(bob, 1, maxWaitingBytes)
		teach(t, s, alice, addBody(t, s, "over"), true)
		same(t, "over the limit", float64(2), figures(s)["over_limit_total"])
		same(t, "told", float64(1), figures(s)["told_total"])
	})
}

// TestUndone: a lesson is durable with what the user did, or is not there.
func TestUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		f := newFilter(nil)
		register(t, s, daemon, f)
		body := addBody(t, s, "one")
		undo := errors.New("undo")
		err := s.store.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(s.Learn(tx, alice, body, true), undo) })
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		pass(time.Minute)
		same(t, "lessons", nil, f.lessons())
		left, rows := refs(t, s)
		same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
		same(t, "figures", map[string]float64{"learners": 1}, figures(s))
		teach(t, s, alice, body+1000, true) // a body that is lost
		same(t, "figures", map[string]float64{"learners": 1}, figures(s))
	})
}

// TestDeletedMessage: the lesson keeps the body, and the last one removes it.
func TestDeletedMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		var up atomic.Bool
		f := newFilter(down(&up))
		register(t, s, daemon, f)
		body := addBody(t, s, strings.Repeat("x", 200_000))
		teach(t, s, alice, body, true)
		removeMessage(t, s, body)
		pass(time.Second)
		up.Store(true)
		f.lessons()
		pass(time.Minute)
		same(t, "lessons", []string{"alice spam " + strings.Repeat("x", 200_000)}, f.lessons())
		same(t, "bodies", 0, number(t, s, "SELECT count(*) FROM body"))
	})
}

// TestReload: the newest registration of a name is asked, at once, and the old one
// is not any more when its forget returns.
func TestReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		var up atomic.Bool
		older, newer := newFilter(down(&up)), newFilter(nil)
		forget := register(t, s, daemon, older)
		for i := range 3 {
			teach(t, s, alice, addBody(t, s, fmt.Sprint(i)), true)
		}
		pass(30 * time.Second)
		same(t, "lessons", []string{"alice spam 0"}, older.lessons())
		register(t, s, daemon, newer)
		forget()
		pass(time.Second)
		if got := newer.lessons(); len(got) != 3 {
			t.Errorf("the new one is told %q, want all three", got)
		}
		same(t, "lessons of the old one", nil, older.lessons())
		same(t, "learners", float64(1), figures(s)["learners"])
	})
}

// TestForgetEndsACall: a call that hangs is broken off, and its lesson stays.
func TestForgetEndsACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		asked := make(chan struct{})
		forget := s.Teach(daemon, func(ctx context.Context, _ string, _ bool, _ io.Reader, _ int64) error {
			close(asked)
			<-ctx.Done()
			return ctx.Err()
		})
		teach(t, s, alice, addBody(t, s, "one"), true)
		<-asked
		forget()
		same(t, "figures", map[string]float64{"waiting": 1}, figures(s))
		f := newFilter(nil)
		register(t, s, daemon, f)
		pass(time.Second)
		same(t, "lessons", []string{"alice spam one"}, f.lessons())
	})
}

// TestHangs: a call that does not end is broken off, too.
func TestHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		t.Cleanup(s.Teach(daemon, func(ctx context.Context, _ string, _ bool, _ io.Reader, _ int64) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		teach(t, s, alice, addBody(t, s, "one"), true)
		pass(callLimit + time.Second)
		same(t, "failures", float64(1), figures(s)["failed_total"])
	})
}

// TestRestart: what waits at the end, and what was not answered, is told after the
// next start.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		run := func(test func(s *Service)) {
			kit, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir})
			must(t, err)
			defer func() { must(t, kit.Close()) }()
			test(coretest.Service[*Service](t, kit))
		}
		run(func(s *Service) {
			t.Cleanup(s.Teach(daemon, newFilter(func(string) error { return errDown }).teach))
			body := addBody(t, s, "one")
			teach(t, s, alice, body, true)
			teach(t, s, alice, addBody(t, s, "two"), false)
			removeMessage(t, s, body)
			pass(10 * time.Minute)
		})
		run(func(s *Service) {
			same(t, "figures", map[string]float64{"waiting": 2}, figures(s))
			f := newFilter(nil)
			defer s.Teach(daemon, f.teach)()
			pass(time.Second)
			if got := f.lessons(); len(got) != 2 {
				t.Errorf("told %q, want both", got)
			}
			left, rows := refs(t, s)
			same(t, "references and rows", [2]int{1, 0}, [2]int{left, rows})
		})
	})
}

func BenchmarkLearn(b *testing.B) {
	s := coretest.Service[*Service](b, coretest.New(b, coretest.Options{OnDisk: true}))
	defer s.Teach(daemon, func(ctx context.Context, _ string, _ bool, _ io.Reader, _ int64) error {
		<-ctx.Done()
		return ctx.Err()
	})()
	const step = 2000
	bodies := make([]int64, step)
	for i := range bodies {
		bodies[i] = addBody(b, s, "one")
	}
	n := 0
	for b.Loop() {
		n++
		must(b, s.store.Write(b.Context(), func(tx *store.Tx) error {
			for _, body := range bodies {
				if err := s.Learn(tx, fmt.Sprint("user", n, "@example.test"), body, true); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*step), "µs/lesson")
}
