package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap/zaptest"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// delayed is a handler that a domain can tune.
type delayed struct {
	Delay time.Duration `config:"delay" default:"5m" min:"1s" max:"1h"`
	Names []string      `config:"names"`
	Key   mail.Secret   `config:"key"`
}

func (*delayed) Module() core.Info {
	return core.Info{ID: "handler.delayed", Stages: mail.AtRcpt, New: func() core.Module { return new(delayed) }}
}

func (*delayed) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return mail.Verdict{}, nil
}

// sink is a handler that takes mail.
type sink struct{}

func (*sink) Module() core.Info {
	return core.Info{ID: "handler.sink", Stages: mail.AtRcpt | mail.AtData, Target: true, New: func() core.Module { return new(sink) }}
}

func (*sink) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return mail.Verdict{}, nil
}

// door is a listener that nobody comes through.
type door struct {
	Address []string `config:"address,required"`
}

func (*door) Module() core.Info {
	return core.Info{ID: "listener.door", Stages: mail.AtRcpt | mail.AtData, New: func() core.Module { return new(door) }}
}

func (d *door) Sockets() []string         { return d.Address }
func (*door) Drain(context.Context) error { return nil }
func (*door) Serve(_ context.Context, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}

const tunable = `server { hostname = "mx.example.test" }
domain "example.test" {}
domain "example.org" {}
listener "door" "mx" {
  address = ["unix:mx.sock"]
  chain {
    delayed { # comments stay
      delay = "10m"
    }
    sink {}
  }
}
`

// offline opens a data directory whose domains can be tuned.
func offline(t *testing.T) *core.Offline {
	t.Helper()
	registry := new(core.Registry)
	for _, m := range []core.Module{new(accounts), new(control.Service), new(delayed), new(sink), new(door)} {
		registry.Register(m)
	}
	o, ds, _, err := core.OpenOffline(t.Context(), core.Options{
		ConfigFile: "mox-like.hcl", Source: []byte(tunable), DataDir: filepath.Join(t.TempDir(), "data"), Registry: registry, Logger: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatalf("open: %v\n%v", err, ds.Err())
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return o
}

// set makes a change of the handler; "" takes the setting away.
func set(attribute, value string) tuning.Change {
	c := tuning.Change{Key: tuning.Key{Handler: "delayed", Attribute: attribute}}
	if value != "" {
		c.Value = &value
	}
	return c
}

// TestSettings: the settings of domains mean the same on both ways.
func TestSettings(t *testing.T) {
	t.Parallel()
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		testSettings(t, control.NewLocal(offline(t), "/data", nil))
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		testSettings(t, connect(t, t.TempDir(), control.NewLocal(offline(t), "/data", nil)))
	})
}

func testSettings(t *testing.T, ops control.Operations) { //nolint:thelper // its own lines count
	ctx := t.Context()
	for _, change := range [][]tuning.Change{
		{set("delay", `"2m"`), set("key", `"hunter2"`)},
		{set("delay", `"3m"`)},
		{set("delay", "")},
	} {
		if report, err := ops.ChangeDomain(ctx, "EXAMPLE.org", change, "a note"); err != nil {
			t.Fatalf("change: %v, %v", err, report)
		}
	}
	stored, err := ops.DomainSettings(ctx, "example.org")
	if err != nil || len(stored) != 1 || stored[0].Attribute != "key" || !stored[0].InForce || strings.Contains(stored[0].Value, "hunter2") {
		t.Errorf("stored settings %+v, error %v; want the key alone, hidden", stored, err)
	}
	history, next, err := ops.DomainHistory(ctx, "example.org", control.Page{Limit: 3})
	if err != nil || len(history) != 3 || next == "" {
		t.Fatalf("history has %d entries and next %q, error %v", len(history), next, err)
	}
	older, last, err := ops.DomainHistory(ctx, "example.org", control.Page{After: next})
	if err != nil || len(older) != 1 || last != "" {
		t.Errorf("older history %+v and next %q, error %v", older, last, err)
	}
	if !strings.Contains(history[0].Actor, "by command") || history[0].Note != "a note" || history[0].After != nil || *history[0].Before != `"3m"` {
		t.Errorf("newest revision %+v", history[0])
	}
	if report, err := ops.RollbackDomain(ctx, "example.org", history[1].ID); err != nil {
		t.Fatalf("roll back: %v, %v", err, report)
	}
	effective, err := ops.EffectiveSettings(ctx, "example.org", "delayed")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]tuning.Source)
	for _, e := range effective {
		got[e.Attribute+" = "+e.Value] = e.Source
	}
	if got[`delay = "3m"`] != tuning.FromDatabase {
		t.Errorf("effective settings %v, want the delay of the database", got)
	}
	domains, next, err := ops.TunedDomains(ctx, control.Page{})
	if diff := cmp.Diff([]string{"example.org"}, domains); diff != "" || next != "" || err != nil {
		t.Errorf("tuned domains %v, next %q, error %v", domains, next, err)
	}
	files, err := ops.ExportConfig(ctx)
	if text := string(files["mox-like.hcl"]); err != nil || len(files) != 1 || !strings.Contains(text, "# comments stay") || !strings.Contains(text, `"3m"`) {
		t.Errorf("export: error %v, %s", err, text)
	}
	refusedSettings(t, ops)
	auditedSettings(t, ops)
}

// refusedSettings: what is wrong changes nothing and says where.
func refusedSettings(t *testing.T, ops control.Operations) {
	t.Helper()
	report, err := ops.ChangeDomain(t.Context(), "example.org", []tuning.Change{set("delay", `"3h"`), set("names", `["a"]`)}, "")
	if !errors.Is(err, control.ErrRefused) || report == nil || len(report.Diagnostics) != 1 {
		t.Fatalf("too long a delay: error %v, report %+v", err, report)
	}
	d := report.Diagnostics[0]
	if d.Range.Start.Line == 0 || len(report.Sources[d.Range.Filename]) < d.Range.End.Byte {
		t.Errorf("the place %v has no text in %d sources", d.Range, len(report.Sources))
	}
	if _, err := ops.ChangeDomain(t.Context(), "example.com", []tuning.Change{set("delay", `"2m"`)}, ""); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("a domain that does not live here: error %v, want ErrInvalid", err)
	}
	if _, err := ops.ChangeDomain(t.Context(), "example.org", []tuning.Change{set("delay", `env("HOME")`)}, ""); err == nil {
		t.Error("env in a value: no error")
	}
	if _, err := ops.RollbackDomain(t.Context(), "example.org", 1<<40); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("roll back to nothing: error %v, want ErrNotFound", err)
	}
	if _, _, err := ops.DomainHistory(t.Context(), "example.org", control.Page{After: "x"}); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("history behind x: error %v, want ErrInvalid", err)
	}
	stored, err := ops.DomainSettings(t.Context(), "example.org")
	if err != nil || len(stored) != 2 {
		t.Errorf("stored settings %+v, error %v; want delay and key", stored, err)
	}
}

// auditedSettings: the trail has all changes that were made, and no secret.
func auditedSettings(t *testing.T, ops control.Operations) {
	t.Helper()
	list, _, err := ops.Audit(t.Context(), control.ChangeFilter{Object: "example.org"}, control.Page{})
	if err != nil || len(list) != 4 {
		t.Fatalf("audit: %d entries, error %v", len(list), err)
	}
	want := control.AuditEntry{
		Actor: list[0].Actor, Via: control.ViaCommand, Operation: "rollback-domain-settings", Object: "example.org",
		Before: []byte(`{"delayed.key":"\"****\""}`), After: []byte(`{"delayed.delay":"\"3m\"","delayed.key":"\"****\""}`),
	}
	if diff := cmp.Diff(want, list[0], cmpopts.IgnoreFields(control.AuditEntry{}, "ID", "Time")); diff != "" {
		t.Errorf("newest entry (-want +got):\n%s", diff)
	}
	for _, e := range list {
		if strings.Contains(string(e.Before)+string(e.After), "hunter2") {
			t.Errorf("the trail shows a secret: %+v", e)
		}
	}
}

// TestPatch changes settings by JSON values.
func TestPatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local := control.NewLocal(offline(t), "/data", nil)
	connect(t, dir, local)
	c := raw(dir)
	t.Cleanup(c.CloseIdleConnections)
	tests := []struct {
		body, contentType string
		status            int
		contains          string
	}{
		{`{"delayed":{"delay":"2m","names":["a","${b}"],"mode":"monitor"}}`, "application/json", 200, `"diagnostics":[]`},
		{`{"delayed":{"delay":"3m"}}`, "application/merge-patch+json", 200, ``},
		{`{"delayed":{"delay":null}}`, "application/json", 200, ``},
		{`{"delayed":{"delay":"3h"}}`, "application/json", 422, `"type":"/problems/refused"`},
		{`{"delayed":{"dilay":"3m"}}`, "application/json", 422, `delay`},
		{`{"delayed":{"delay":{"a":1}}}`, "application/json", 422, `"severity":"error"`},
		{`{"delayed":{"delay":1e99}}`, "application/json", 422, `no number`},
		{`{"delayed":"3h"}`, "application/json", 422, `body.delayed`},
		{`[]`, "application/json", 422, `expected object`},
		{`{"delayed":{"delay":"2m"}}`, "text/plain", 415, `no JSON`},
	}
	for _, test := range tests {
		status, body := send(t, c, http.MethodPatch, "/v1/domains/example.test/settings?note=why", test.contentType, test.body)
		if status != test.status || !strings.Contains(body, test.contains) {
			t.Errorf("%s: %d %s, want %d with %q", test.body, status, body, test.status, test.contains)
		}
	}
	stored, err := local.DomainSettings(t.Context(), "example.test")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, s := range stored {
		got[s.Attribute] = s.Value
	}
	if diff := cmp.Diff(map[string]string{"names": `["a", "$${b}"]`, "mode": `"monitor"`}, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	history, _, err := local.DomainHistory(t.Context(), "example.test", control.Page{Limit: 1})
	if err != nil || !strings.Contains(history[0].Actor, "by api") || history[0].Note != "why" {
		t.Errorf("newest revision %+v, error %v", history, err)
	}
}

// send sends a request by a raw client.
func send(t *testing.T, c *http.Client, method, path, contentType, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://control"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
