package control_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"go.uber.org/zap/zaptest"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// accounts is a service that keeps accounts in memory.
type accounts struct {
	mu   sync.Mutex
	list map[string]mail.Secret
}

var errExists = errors.New("it is there already")

func (*accounts) Module() core.Info {
	return core.Info{ID: "service.accounts", New: func() core.Module { return &accounts{list: make(map[string]mail.Secret)} }}
}

func (a *accounts) Exists(_ context.Context, address string) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.list[address]
	return ok, nil
}

func (a *accounts) Add(ctx context.Context, address string, password mail.Secret) error {
	if exists, err := a.Exists(ctx, address); exists {
		return fmt.Errorf("add account %q: %w", address, errors.Join(err, errExists))
	}
	switch password {
	case "":
		return errors.New("the password is too short")
	case "panic":
		panic("the service fell over")
	case "full":
		return fmt.Errorf("add account: %w", store.ErrFull)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list[address] = password
	return nil
}

func (a *accounts) SetPassword(_ context.Context, address string, password mail.Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.list[address]; !ok {
		return fmt.Errorf("set password of account %q: %w", address, store.ErrNotFound)
	}
	a.list[address] = password
	return nil
}

func (a *accounts) Remove(_ context.Context, address string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.list[address]; !ok {
		return fmt.Errorf("remove account %q: %w", address, store.ErrNotFound)
	}
	delete(a.list, address)
	return nil
}

func (a *accounts) List(context.Context) ([]mail.Account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []mail.Account
	for _, address := range slices.Sorted(maps.Keys(a.list)) {
		list = append(list, mail.Account{Address: address, Created: time.Unix(1_700_000_000, 0)})
	}
	return list, nil
}

// process is a server that reloads as it is told.
type process struct {
	report *control.Report
	err    error
	status control.Status
}

func (p *process) Reload(context.Context) (*control.Report, error) { return p.report, p.err }
func (p *process) Status(context.Context) (*control.Status, error) { return &p.status, nil }

// host makes a data directory with the services.
func host(t *testing.T) *core.Sandbox {
	t.Helper()
	return hostWith(t, new(accounts), new(security), new(control.Service))
}

func hostWith(t *testing.T, modules ...core.Module) *core.Sandbox {
	t.Helper()
	registry := new(core.Registry)
	for _, m := range modules {
		registry.Register(m)
	}
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{
		Source: `
			server { hostname = "mx.example.test" }
			domain "example.test" {
			  aliases   = { all = ["alice", "bob"] }
			  catch_all = "alice"
			}
			domain "example.org" {}
		`,
		Registry: registry, Logger: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatalf("make sandbox: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	return s
}

// connect serves the operations in a directory and gives a client.
func connect(t *testing.T, dir string, ops control.Operations) *control.Client {
	t.Helper()
	server, err := control.Serve(t.Context(), dir, ops, zaptest.NewLogger(t))
	if err != nil {
		t.Fatalf("serve: %v", err)
	}
	client, err := control.Connect(t.Context(), dir)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := errors.Join(client.Close(), server.Close(ctx)); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

// TestOperations runs one suite on both implementations: what a command sees must
// not depend on whether a server runs.
func TestOperations(t *testing.T) {
	t.Parallel()
	suite := map[string]func(*testing.T, *core.Sandbox, *process, control.Operations){
		"users":   testUsers,
		"traces":  testTraces,
		"explain": testExplain,
		"follow":  testFollow,
		"reload":  testReload,
		"status":  testStatus,
		"domains": testDomains,
	}
	for name, test := range suite {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("local", func(t *testing.T) {
				t.Parallel()
				h, p := host(t), new(process)
				test(t, h, p, control.NewLocal(h, "/data", p))
			})
			t.Run("http", func(t *testing.T) {
				t.Parallel()
				h, p := host(t), new(process)
				test(t, h, p, connect(t, t.TempDir(), control.NewLocal(h, "/data", p)))
			})
		})
	}
}

func testUsers(t *testing.T, _ *core.Sandbox, _ *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	ctx := t.Context()
	steps := []struct {
		name string
		do   func() error
		want error  // nil means none
		text string // that the error has
	}{
		{name: "add", do: func() error { return ops.AddUser(ctx, "Alice@EXAMPLE.test", "secret") }},
		{name: "add again", do: func() error { return ops.AddUser(ctx, "alice@example.test", "secret") }, want: control.ErrExists, text: `add account "alice@example.test": it is there already`},
		{name: "add what is no address", do: func() error { return ops.AddUser(ctx, "alice", "secret") }, want: control.ErrInvalid, text: `add account: "alice": not an address`},
		{name: "add bare postmaster", do: func() error { return ops.AddUser(ctx, "postmaster", "secret") }, want: control.ErrInvalid, text: "not an address"},
		{name: "add to full disk", do: func() error { return ops.AddUser(ctx, "carol@example.test", "full") }, want: store.ErrFull, text: "no space"},
		{name: "set password", do: func() error { return ops.SetPassword(ctx, "alice@example.test", "other") }},
		{name: "set password of nobody", do: func() error { return ops.SetPassword(ctx, "bob@example.test", "other") }, want: control.ErrNotFound, text: `set password of account "bob@example.test": not found`},
		{name: "add second", do: func() error { return ops.AddUser(ctx, "bob@example.test", "secret") }},
		{name: "remove", do: func() error { return ops.RemoveUser(ctx, "bob@example.test") }},
		{name: "remove again", do: func() error { return ops.RemoveUser(ctx, "bob@example.test") }, want: control.ErrNotFound, text: "remove account"},
	}
	for _, s := range steps {
		err := s.do()
		if !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
			t.Fatalf("%s: error %v, want %v", s.name, err, s.want)
		}
		if err != nil && !strings.Contains(err.Error(), s.text) {
			t.Errorf("%s: error %q does not say %q", s.name, err, s.text)
		}
	}
	if err := ops.AddUser(ctx, "bob@example.test", ""); err == nil || err.Error() != "the password is too short" {
		t.Errorf("add with short password: error %v", err)
	}
	got, err := ops.Users(ctx)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	want := []mail.Account{{Address: "alice@example.test", Created: time.Unix(1_700_000_000, 0)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
}

// record makes one that has everything.
func record(id string, at time.Time) *trace.Record {
	return &trace.Record{
		ID: id, Session: "s" + id, Kind: trace.KindMessage, Time: at.UTC(), Duration: 1500 * time.Microsecond,
		Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.7", Helo: "client.example.org",
		ReversePath: "bob@example.org", Recipients: []string{"alice@example.test"}, Size: 4096,
		Outcome: trace.Outcome{Action: "reject", Handler: "clamav", Reply: "554 5.7.1 No", Reason: "virus"},
		Entries: []mail.Entry{{
			Stage: mail.StageData, Handler: "clamav", Position: "mox-like.hcl:41", Action: mail.ActionReject,
			Reason: "Eicar \x1b[2J", Reply: mail.NewReply(554, 7, 1, "No"), Duration: 20 * time.Millisecond,
		}},
	}
}

func testTraces(t *testing.T, h *core.Sandbox, _ *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	now := time.Now().Truncate(time.Microsecond)
	first, second, third := record("a1", now), record("b2", now.Add(time.Second)), record("c3", now.Add(2*time.Second))
	for _, r := range []*trace.Record{first, second, third} {
		h.Traces().Add(r)
	}
	got, err := recordsOf(ops.Trace(t.Context(), "b2", ""))
	if err != nil {
		t.Fatalf("find: %v", err)
	}
	if diff := cmp.Diff([]*trace.Record{second}, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	found, err := recordsOf(ops.FindTraces(t.Context(), trace.Filter{From: second.ReversePath, IP: netip.MustParsePrefix("192.0.2.0/24"), Outcome: second.Outcome.Action}, 2))
	if err != nil {
		t.Fatalf("search: %v", err)
	}
	if diff := cmp.Diff([]*trace.Record{second, third}, found); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
	if found, err = recordsOf(ops.FindTraces(t.Context(), trace.Filter{User: "nobody"}, 2)); err != nil || len(found) > 0 {
		t.Errorf("search for nobody: %d records, error %v", len(found), err)
	}
	for _, id := range []string{"zz", "", "../status", "a1?x=1"} {
		if _, err := ops.Trace(t.Context(), id, ""); !errors.Is(err, control.ErrNotFound) {
			t.Errorf("find %q: error %v, want ErrNotFound", id, err)
		}
	}
	list, err := ops.LastTraces(t.Context(), 2)
	if err != nil {
		t.Fatalf("last: %v", err)
	}
	if diff := cmp.Diff([]*trace.Record{second, third}, list); diff != "" {
		t.Errorf("last two (-want +got):\n%s", diff)
	}
	for _, n := range []int{0, -1, 1_000_000} {
		if _, err := ops.LastTraces(t.Context(), n); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("last %d: error %v, want ErrInvalid", n, err)
		}
	}
}

func testFollow(t *testing.T, h *core.Sandbox, _ *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan *trace.Record)
	ended := make(chan error, 1)
	go func() {
		ended <- ops.FollowTraces(ctx, func(r *trace.Record) error {
			select {
			case got <- r:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	// What is added before following has begun is not shown, so go on adding.
	want := record("f1", time.Now().Truncate(time.Microsecond))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var seen *trace.Record
	for seen == nil {
		select {
		case seen = <-got:
		case <-tick.C:
			h.Traces().Add(want)
		case err := <-ended:
			t.Fatalf("following ended: %v", err)
		}
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("following ended with %v, want nil after cancel", err)
	}

	stop := errors.New("enough")
	go func() {
		ended <- ops.FollowTraces(t.Context(), func(*trace.Record) error { return stop })
	}()
	for {
		select {
		case <-tick.C:
			h.Traces().Add(want)
			continue
		case err := <-ended:
			if !errors.Is(err, stop) {
				t.Errorf("following ended with %v, want what show gave", err)
			}
		}
		return
	}
}

func testReload(t *testing.T, _ *core.Sandbox, p *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	place := hcl.Range{Filename: "mox-like.hcl", Start: hcl.Pos{Line: 2, Column: 1, Byte: 10}, End: hcl.Pos{Line: 2, Column: 5, Byte: 14}}
	var ds config.Diagnostics
	ds.Errorf(place, "config/unknown-block", "no such block").WithDetail("Did you mean %q?", "server").WithRelated(place, "here")
	report := &control.Report{Diagnostics: ds, Sources: map[string][]byte{"mox-like.hcl": []byte("\n\xffsrv {}\n")}}
	tests := []struct {
		name   string
		report *control.Report
		err    error
	}{
		{"clean", &control.Report{}, nil},
		{"warnings", report, nil},
		{"errors", report, control.ErrRefused},
		{"port taken", nil, errors.New("listen on 127.0.0.1:25: address in use; nothing has changed")},
	}
	for _, test := range tests {
		p.report, p.err = test.report, test.err
		got, err := ops.Reload(t.Context())
		if fmt.Sprint(err) != fmt.Sprint(test.err) || errors.Is(err, control.ErrRefused) != errors.Is(test.err, control.ErrRefused) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.err)
		}
		if diff := cmp.Diff(test.report, got); diff != "" {
			t.Errorf("%s: report (-want +got):\n%s", test.name, diff)
		}
	}
}

func testStatus(t *testing.T, _ *core.Sandbox, p *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	p.status = control.Status{
		Running: true, DataDir: "/data", Version: "v1", ProcessID: 7, Since: time.Unix(1_700_000_000, 0).UTC(), ConfigFile: "mox-like.hcl",
		Listeners:   []control.Listener{{Name: "mx", Kind: "smtp", Addresses: []string{"127.0.0.1:25", "[::1]:25", "/run/mx:25", "data/mx.sock", "unix:/run/mx"}}},
		ReloadError: "no",
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	want := p.status
	want.ConfigFile = filepath.Join(here, "mox-like.hcl")
	want.Listeners = []control.Listener{{Name: "mx", Kind: "smtp", Addresses: []string{"127.0.0.1:25", "[::1]:25", "unix:/run/mx:25", "unix:" + here + "/data/mx.sock", "unix:/run/mx"}}}
	got, err := ops.Status(t.Context())
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func testDomains(t *testing.T, _ *core.Sandbox, _ *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	got, err := ops.Domains(t.Context())
	if err != nil {
		t.Fatalf("domains: %v", err)
	}
	want := []control.Domain{{Name: "example.test", Aliases: map[string][]string{"all": {"alice", "bob"}}, CatchAll: "alice"}, {Name: "example.org"}}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("domains (-want +got):\n%s", diff)
	}
}

// TestOffline: what only a running server can do is refused without one.
func TestOffline(t *testing.T) {
	t.Parallel()
	ops := control.NewLocal(host(t), "/data", nil)
	if _, err := ops.Reload(t.Context()); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("reload: error %v, want ErrNotRunning", err)
	}
	if err := ops.FollowTraces(t.Context(), func(*trace.Record) error { return nil }); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("follow: error %v, want ErrNotRunning", err)
	}
	status, err := ops.Status(t.Context())
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	if diff := cmp.Diff(&control.Status{DataDir: "/data"}, status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}
