package core_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

// ager is a handler that fails, has old rows and figures.
type ager struct{}

func (*ager) Module() core.Info {
	return core.Info{ID: "handler.ager", Stages: mail.AtRcpt, New: func() core.Module { return new(ager) }}
}

func (*ager) Migrations() store.Migrations {
	return store.Migrations{Module: "ager", Steps: []string{
		"CREATE TABLE ager (expires INTEGER)",
		"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1234) INSERT INTO ager SELECT 1 FROM n",
		"INSERT INTO ager VALUES (9999999999999)",
	}}
}

func (*ager) Sweep(tx *store.Tx, now time.Time, limit int) (int, error) {
	r, err := tx.Exec("DELETE FROM ager WHERE rowid IN (SELECT rowid FROM ager WHERE expires < ? LIMIT ?)", now.UnixMilli(), limit)
	return int(r.RowsAffected), err
}

func (*ager) Measure() []core.Figure {
	return []core.Figure{{Name: "things", Help: "Things that there are.", Value: 7}}
}

func (*ager) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return mail.Verdict{}, errors.New("the backend is away")
}

func TestHealthAndCleanUp(t *testing.T) {
	t.Parallel()
	r := newRegistry(new(journal))
	r.Register(new(ager))
	s := start(t, options(t, file(t, head+`
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    ager {}
    ager "again" {}
    sink {}
  }
}
domain "example.test" {}
`), r))
	c := dial(t, s.Addresses("in")[0])
	for range 3 {
		c.ask("a@example.test")
	}
	for _, h := range s.Health() {
		switch h.Module {
		case "ager":
			if !h.Failing || h.Errors != 3 || h.Passed != 3 || h.LastError != "the backend is away" {
				t.Errorf("health of %s is %+v", h.Handler, h)
			}
		case "sink":
			if h.Failing || h.Verdicts[mail.StageRcpt][mail.ActionAccept] != 3 {
				t.Errorf("health of the target is %+v", h)
			}
		}
	}
	s.CleanUpNow(t.Context())
	var removed []core.CleanUp
	for _, d := range s.CleanUps() {
		if d.Last.IsZero() && d.Module != "trace" {
			t.Errorf("%s has no time", d.Module)
		}
		d.Last = time.Time{}
		removed = append(removed, d)
	}
	want := []core.CleanUp{{Module: "handler.ager", Removed: 1234, Total: 1234}, {Module: "trace"}}
	if diff := cmp.Diff(want, removed); diff != "" {
		t.Errorf("clean-ups (-want +got):\n%s", diff)
	}
	checkMetrics(t, s)
}

func checkMetrics(t *testing.T, s *core.Server) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	text := w.Body.String()
	for _, line := range []string{
		`mox_like_handler_errors_total{handler="again",listener="in",module="ager"} 3`,
		`mox_like_handler_failing{handler="ager",listener="in",module="ager"} 1`,
		`mox_like_verdicts_total{handler="sink",listener="in",module="sink",stage="rcpt",verdict="accept"} 3`,
		`mox_like_handler_seconds_count{handler="ager",listener="in",module="ager"} 3`,
		`mox_like_rows_removed_total{module="handler.ager"} 1234`,
		`mox_like_ager_things 7`,
		`mox_like_store_batch_size_bucket{le="+Inf"}`,
		`go_goroutines`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the metrics lack %s\n%s", line, text)
		}
	}
	if w.Code != http.StatusOK {
		t.Errorf("the metrics come with status %d", w.Code)
	}
}

// reporter is a service that says how it does.
type reporter struct{ id, text string }

func (r *reporter) Module() core.Info {
	return core.Info{ID: r.id, New: func() core.Module { return &reporter{r.id, r.text} }}
}

func (r *reporter) Report() string { return r.text }

func TestReports(t *testing.T) {
	t.Parallel()
	r := newRegistry(new(journal))
	for _, one := range []*reporter{{"service.words", "three words wait"}, {"service.quiet", ""}, {"service.able", "all is well"}} {
		r.Register(one)
	}
	s := start(t, options(t, file(t, head), r))
	want := []core.ModuleReport{{Module: "service.able", Text: "all is well"}, {Module: "service.words", Text: "three words wait"}}
	if diff := cmp.Diff(want, s.Reports()); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	if got := core.NewServer(core.Options{}).Reports(); got != nil {
		t.Errorf("a server that does not run reports %v", got)
	}
}

// TestMetricsOfTwoModulesOfOneName: a name may stand for one module in the
// listener's chain, and for another in a domain's.
func TestMetricsOfTwoModulesOfOneName(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, file(t, head+`
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "x" {}
    sink {}
  }
}
domain "example.test" {}
domain "chain.test" {
  chain "in" {
    sink "x" {}
  }
}
`), newRegistry(new(journal))))
	c := dial(t, s.Addresses("in")[0])
	c.ask("a@example.test")
	c.ask("a@chain.test")
	w := httptest.NewRecorder()
	s.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for _, line := range []string{
		`mox_like_verdicts_total{handler="x",listener="in",module="probe",stage="rcpt",verdict="continue"} 1`,
		`mox_like_verdicts_total{handler="x",listener="in",module="sink",stage="rcpt",verdict="accept"} 1`,
	} {
		if text := w.Body.String(); !strings.Contains(text, line) {
			t.Errorf("the metrics, with status %d, lack %s", w.Code, line)
		}
	}
}

// flaky fails if its setting says so.
type flaky struct {
	Broken bool `config:"broken"`
}

func (*flaky) Module() core.Info {
	return core.Info{ID: "handler.flaky", Stages: mail.AtRcpt, New: func() core.Module { return new(flaky) }}
}

func (f *flaky) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	if f.Broken {
		return mail.Verdict{}, errors.New("the backend of this domain is away")
	}
	return mail.Continue("scanned"), nil
}

// TestBreakersOfDomains: a domain whose settings make a handler fail does not rest
// it for the others.
func TestBreakersOfDomains(t *testing.T) {
	t.Parallel()
	r := newRegistry(new(journal))
	r.Register(new(flaky))
	s := start(t, options(t, file(t, head+`
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    flaky {}
    sink {}
  }
}
domain "a.test" {}
domain "b.test" {}
`), r))
	c := dial(t, s.Addresses("in")[0])
	tune(t, s, "a.test", "flaky.broken", "true")
	for range 6 {
		c.ask("x@a.test")
	}
	if got := c.ask("x@b.test"); got != "flaky=scanned;sink=;" {
		t.Errorf("b.test, which nobody has changed: %s", got)
	}
}

// TestBreakersOfDomainsThatPart: domains whose settings were the same share an
// instance, and no breaker once one of them has other settings.
func TestBreakersOfDomainsThatPart(t *testing.T) {
	t.Parallel()
	r := newRegistry(new(journal))
	r.Register(new(flaky))
	s := start(t, options(t, file(t, head+`
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    flaky {}
    sink {}
  }
}
domain "a.test" {}
domain "b.test" {}
`), r))
	c := dial(t, s.Addresses("in")[0])
	tune(t, s, "a.test", "flaky.broken", "true")
	tune(t, s, "b.test", "flaky.broken", "true")
	tune(t, s, "a.test", "flaky.broken", "false")
	for range 6 {
		c.ask("x@b.test")
	}
	if got := c.ask("x@a.test"); got != "flaky=scanned;sink=;" {
		t.Errorf("a.test, which has mended its settings: %s", got)
	}
}

// TestChangeDuringStop: who changes something through a listener of a server that
// stops is not waited for.
func TestChangeDuringStop(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, file(t, serving), newRegistry(new(journal))))
	address := s.Addresses("in")[0]
	c := dial(t, address)
	c.ask("a@example.test") // a session that stays
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = s.Stop(ctx) // it is cut short in the end
	}()
	for accepts(address) {
		runtime.Gosched()
	}
	value := `"z"`
	_, _, err := s.Tuning().Change(t.Context(), tuning.Request{
		Domain: "example.test", Actor: "test",
		Changes: []tuning.Change{{Key: tuning.Key{Handler: "one", Attribute: "text"}, Value: &value}},
	})
	if err == nil {
		t.Error("something is changed while the server stops")
	}
	if _, _, err := s.Reload(t.Context()); err == nil {
		t.Error("the file is read again while the server stops")
	}
	select {
	case <-stopped:
		t.Error("the change has waited for the end of the stop")
	default:
	}
	cancel()
	<-stopped
}

// accepts tells whether somebody listens at an address.
func accepts(address net.Addr) bool {
	conn, err := net.Dial(address.Network(), address.String()) //nolint:noctx // it is on this machine
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
