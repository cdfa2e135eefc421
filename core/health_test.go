package core_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
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
