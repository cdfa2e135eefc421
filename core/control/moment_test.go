package control_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/trace"
)

func TestMoment(t *testing.T) {
	t.Parallel()
	var m control.Moment
	if err := m.UnmarshalText([]byte("2026-11-25T14:05:09.5+01:00")); err != nil || !m.Equal(time.Date(2026, 11, 25, 13, 5, 9, 500_000_000, time.UTC)) {
		t.Errorf("a time is %s, %v", m, err)
	}
	for text, ago := range map[string]time.Duration{"2h": 2 * time.Hour, "7d": 7 * 24 * time.Hour, "0s": 0} {
		before := time.Now().Add(-ago)
		if err := m.UnmarshalText([]byte(text)); err != nil || m.Before(before) || m.After(time.Now().Add(-ago)) {
			t.Errorf("%s ago is %s, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "yesterday", "-2h", "2026-11-25", "14:05"} {
		if err := m.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "RFC 3339") || strings.Contains(err.Error(), "999") {
			t.Errorf("%q is taken, or refused by %v", text, err)
		}
	}
}

// asked notes what is searched for.
type asked struct {
	control.Operations

	filter trace.Filter
}

func (a *asked) FindTraces(_ context.Context, f trace.Filter, _ int) (*trace.Found, error) {
	a.filter = f
	return new(trace.Found), nil
}

// TestMomentOfRequest: the API takes a time, or how long ago it was, and says what it
// takes.
func TestMomentOfRequest(t *testing.T) {
	t.Parallel()
	ops := new(asked)
	h := control.NewHandler(control.HandlerOptions{Operations: func() control.Operations { return ops }, Logger: zap.NewNop()})
	get := func(query string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/traces?"+query, nil))
		return w.Code, w.Body.String()
	}
	at := time.Date(2026, 11, 25, 14, 5, 9, 0, time.UTC)
	if status, text := get("since=2h&until=2026-11-25T14:05:09Z"); status != http.StatusOK || !ops.filter.Until.Equal(at) || time.Since(ops.filter.Since).Round(time.Minute) != 2*time.Hour {
		t.Errorf("status %d, %+v: %s", status, ops.filter, text)
	}
	if status, text := get("last=3"); status != http.StatusOK || !ops.filter.Since.IsZero() || !ops.filter.Until.IsZero() {
		t.Errorf("without times: status %d, %+v: %s", status, ops.filter, text)
	}
	if status, text := get("since=yesterday"); status != http.StatusUnprocessableEntity || !strings.Contains(text, "as RFC 3339 has it") {
		t.Errorf("status %d: %s", status, text)
	}
}
