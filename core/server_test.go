package core_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

var tx0 = time.Unix(0, 0)

const head = `
server {
  hostname = "mx.example.test"
}
`

// file writes a configuration and gives its path.
func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mox-like.hcl")
	write(t, path, text)
	return path
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func options(t testing.TB, path string, r *core.Registry) core.Options {
	t.Helper()
	return core.Options{ConfigFile: path, DataDir: filepath.Join(t.TempDir(), "data"), Registry: r, Logger: zap.NewNop()}
}

func start(t testing.TB, o core.Options) *core.Server {
	t.Helper()
	s := core.NewServer(o)
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatalf("start: %v\n%v", err, ds.Err())
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *core.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

const serving = head + `
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "one" { text = "first" }
    probe "two" {}
    sink {}
  }
}
domain "example.test" {}
domain "own.test" {
  settings "one" { text = "tuned" }
}
domain "chain.test" {
  chain "in" {
    inherit {}
    probe "three" { text = "third" }
    sink {}
  }
}
`

func TestServerRunsChainsOfDomains(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := start(t, options(t, file(t, serving), newRegistry(j)))
	c := dial(t, s.Addresses("in")[0])
	for _, tt := range [][2]string{
		{"a@example.test", "one=first;two=plain;sink=;"},
		{"a@own.test", "one=tuned;two=plain;sink=;"},
		{"a@chain.test", "one=first;two=plain;three=third;sink=;"},
		{"a@elsewhere.example", "one=first;two=plain;sink=;"},
	} {
		if got := c.ask(tt[0]); got != tt[1] {
			t.Errorf("%s: %s, want %s", tt[0], got, tt[1])
		}
	}
}

func TestServerLifeInOrder(t *testing.T) {
	t.Parallel()
	j := new(journal)
	s := core.NewServer(options(t, file(t, head+`
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "one" {}
    probe "two" {}
    sink {}
  }
}`), newRegistry(j)))
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	stop(t, s)
	want := []string{
		// the dry run
		"provision one", "provision two", "cleanup two", "cleanup one", "counter closed at 0",
		// the run
		"provision one", "provision two", "start one", "start two", "cleanup two", "cleanup one", "counter closed at 2",
	}
	if diff := cmp.Diff(want, j.take()); diff != "" {
		t.Errorf("life (-want +got):\n%s", diff)
	}
}

func TestServerCleansUpAfterAFailedStart(t *testing.T) {
	t.Parallel()
	j := new(journal)
	o := options(t, file(t, head+`
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "one" {}
    probe "two" { fails = "start" }
    probe "three" {}
    sink {}
  }
}`), newRegistry(j))
	_, _, err := core.NewServer(o).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "start handler.probe") || !strings.Contains(err.Error(), "no start today") {
		t.Fatalf("got %v", err)
	}
	want := []string{"provision one", "provision two", "provision three", "start one", "cleanup three", "cleanup two", "cleanup one", "counter closed at 1"}
	if diff := cmp.Diff(want, j.take()[7:]); diff != "" {
		t.Errorf("life after the dry run (-want +got):\n%s", diff)
	}
	// The data directory is free again.
	host, ds, _, err := core.OpenOffline(t.Context(), o)
	if err != nil {
		t.Fatal(err, ds.Err())
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
}

func TestServerRefusesPortThatIsTaken(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	other, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	o := options(t, file(t, strings.ReplaceAll(serving, "127.0.0.1:0", other.Addr().String())), newRegistry(new(journal)))
	_, _, err = core.NewServer(o).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another program listens there") || !strings.Contains(err.Error(), `listener "liner" "in"`) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(o.DataDir); !os.IsNotExist(err) {
		t.Errorf("the data directory was touched: %v", err)
	}
}

func TestReloadSwapsAndKeepsSockets(t *testing.T) {
	t.Parallel()
	j := new(journal)
	path := file(t, serving)
	s := start(t, options(t, path, newRegistry(j)))
	address := s.Addresses("in")[0]
	before := dial(t, address)
	before.ask("a@example.test")
	write(t, path, strings.Replace(serving, "first", "changed", 1))
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	if got := s.Addresses("in")[0]; got.String() != address.String() {
		t.Errorf("the socket moved from %v to %v", address, got)
	}
	if got := dial(t, address).ask("a@example.test"); got != "one=changed;two=plain;sink=;" {
		t.Errorf("a new session got %s", got)
	}
	if got := before.ask("a@example.test"); got != "one=first;two=plain;sink=;" {
		t.Errorf("a session in flight got %s", got)
	}
	for _, line := range j.take() {
		if strings.HasPrefix(line, "counter closed at") && line != "counter closed at 0" {
			t.Errorf("shared value did not survive: %s", line)
		}
	}
}

func TestReloadOfAWrongFileChangesNothing(t *testing.T) {
	t.Parallel()
	path := file(t, serving)
	s := start(t, options(t, path, newRegistry(new(journal))))
	c := dial(t, s.Addresses("in")[0])
	for name, text := range map[string]string{
		"syntax":  serving + "listener {",
		"unknown": strings.Replace(serving, "probe \"two\" {}", "prode \"two\" {}", 1),
		"start":   strings.Replace(serving, "probe \"two\" {}", "probe \"two\" { fails = \"start\" }", 1),
	} {
		write(t, path, text)
		if _, _, err := s.Reload(t.Context()); err == nil {
			t.Errorf("%s: the reload went through", name)
		}
		if got := c.ask("a@example.test"); got != "one=first;two=plain;sink=;" {
			t.Errorf("%s: got %s", name, got)
		}
		if got := dial(t, s.Addresses("in")[0]).ask("a@example.test"); got != "one=first;two=plain;sink=;" {
			t.Errorf("%s: a new session got %s", name, got)
		}
	}
}

func TestReloadBindsAndClosesListeners(t *testing.T) {
	t.Parallel()
	path := file(t, serving)
	s := start(t, options(t, path, newRegistry(new(journal))))
	gone := s.Addresses("in")[0]
	write(t, path, strings.Replace(serving, `"liner" "in"`, `"liner" "new"`, 1)[:strings.Index(serving, "domain")+1])
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	if got := dial(t, s.Addresses("new")[0]).ask("a@example.test"); got != "one=first;two=plain;sink=;" {
		t.Errorf("got %s", got)
	}
	var d net.Dialer
	if conn, err := d.DialContext(t.Context(), "tcp", gone.String()); err == nil {
		_ = conn.Close()
		t.Error("the old socket still accepts")
	}
}

func TestReloadTellsWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	text := func(level, trace string) string {
		return "server {\n  hostname = \"mx.example.test\"\n}\nlog {\n  level = \"" + level + "\"\n}\ntrace {\n  keep = \"" + trace + "\"\n}\n"
	}
	path := file(t, text("info", "2d"))
	s := start(t, options(t, path, newRegistry(new(journal))))
	for _, tt := range []struct {
		text string
		want []string
	}{
		{text("debug", "2d"), nil},
		{text("debug", "3d"), []string{"8: server/needs-restart"}},
		{text("debug", "3d") + "store \"sqlite\" {\n  body_limit = \"8KiB\"\n}", []string{"8: server/needs-restart", "11: server/needs-restart"}},
		{text("debug", "2d"), nil},
		{strings.Replace(text("info", "2d"), "level", "format = \"json\"\n  level", 1), []string{"5: server/needs-restart"}},
		{strings.Replace(text("info", "2d"), "mx.", "mx1.", 1), nil},
	} {
		write(t, path, tt.text)
		ds, _, err := s.Reload(t.Context())
		if err != nil {
			t.Fatal(err, ds)
		}
		if diff := cmp.Diff(tt.want, codes(ds)); diff != "" {
			t.Errorf("%s\ndiagnostics (-want +got):\n%s", tt.text, diff)
		}
	}
}

// A session that began before a reload has the time of a stop like the others.
func TestStopLetsSessionsOfBeforeAReloadFinish(t *testing.T) {
	t.Parallel()
	for name, hurry := range map[string]bool{"they finish": false, "a second signal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := core.NewServer(options(t, file(t, serving), newRegistry(new(journal))))
			if ds, _, err := s.Start(t.Context()); err != nil {
				t.Fatal(err, ds.Err())
			}
			address := s.Addresses("in")[0]
			c := dial(t, address)
			c.ask("a@example.test")
			if ds, _, err := s.Reload(t.Context()); err != nil {
				t.Fatal(err, ds.Err())
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopped := make(chan error)
			go func() { stopped <- s.Stop(ctx) }()
			for closed := false; !closed; {
				var d net.Dialer
				conn, err := d.DialContext(t.Context(), "tcp", address.String())
				if closed = err != nil; !closed {
					_ = conn.Close()
				}
			}
			if got := c.ask("a@example.test"); got != "one=first;two=plain;sink=;" {
				t.Errorf("the old session got %s", got)
			}
			if hurry {
				cancel()
			} else {
				fmt.Fprintln(c.conn, "QUIT")
			}
			if err := <-stopped; err != nil {
				t.Errorf("stop: %v", err)
			}
			if all := s.Domains().All(); len(all) != 0 || s.Listening() != nil {
				t.Errorf("after the stop there are %v", all)
			}
		})
	}
}

func TestStopDoesNotWaitForAReloadThatHangs(t *testing.T) {
	t.Parallel()
	j := &journal{held: make(chan struct{})}
	path := file(t, serving)
	s := start(t, options(t, path, newRegistry(j)))
	write(t, path, strings.Replace(serving, "probe \"two\" {}", "probe \"two\" { fails = \"hang\" }", 1))
	reloaded := make(chan error)
	go func() {
		_, _, err := s.Reload(t.Context())
		reloaded <- err
	}()
	for !slices.Contains(j.take(), "hang two") {
		runtime.Gosched()
	}
	if len(s.Listening()) != 1 || len(s.Domains().All()) != 3 {
		t.Error("what is in force is not told")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	close(j.held)
	if err := <-reloaded; err != nil {
		t.Errorf("reload: %v", err)
	}
}

func TestStopDoesNotWaitForAListenerThatAccepts(t *testing.T) {
	t.Parallel()
	text := strings.Replace(serving, "\"127.0.0.1:0\"", "\"127.0.0.1:0\"\n  deaf    = true", 1)
	text = strings.Replace(text, "hostname", "drain_timeout = \"10ms\"\n  hostname", 1)
	start(t, options(t, file(t, text), newRegistry(new(journal)))) // and stops it
}

// A Unix socket belongs to the user, and may stand in the data directory, which
// is not there at the first start.
func TestUnixSocketsAreBoundByTheUser(t *testing.T) {
	t.Parallel()
	text := strings.Replace(serving, "\"127.0.0.1:0\"", "[\"127.0.0.1:0\", \"unix:in.sock\"]", 1)
	o := options(t, file(t, strings.Replace(text, "hostname", "user = \"root\"\n  hostname", 1)), newRegistry(new(journal)))
	path, dropped := filepath.Join(o.DataDir, "in.sock"), false
	o.DropPrivileges = func(user *core.SystemUser) error {
		dropped = user.UID == 0
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is bound too early: %v", err)
		}
		return os.Mkdir(o.DataDir, 0o700)
	}
	s := start(t, o)
	if !dropped {
		t.Error("privileges are kept")
	}
	if got := dial(t, s.Addresses("in")[1]).ask("a@example.test"); got != "one=first;two=plain;sink=;" {
		t.Errorf("got %s", got)
	}
}

func TestDiagnosticsOfChains(t *testing.T) {
	t.Parallel()
	chainOf := func(body string) string {
		return head + "listener \"liner\" \"in\" {\n  address = \"127.0.0.1:0\"\n  chain {\n" + body + "\n  }\n}\n"
	}
	tests := map[string]struct {
		text string
		want []string // line: code
	}{
		"no target":           {chainOf("probe {}"), []string{"9: chain/no-target"}},
		"after the target":    {chainOf("sink {}\nprobe {}"), []string{"9: chain/after-target"}},
		"one name twice":      {chainOf("probe {}\nprobe {}\nsink {}"), []string{"9: chain/duplicate-name"}},
		"unknown handler":     {chainOf("prob {}\nsink {}"), []string{"8: config/unknown-handler"}},
		"unknown chain":       {chainOf("use \"login\" {}\nsink {}"), []string{"8: chain/unknown"}},
		"chain uses itself":   {chainOf("use \"a\" {}\nsink {}") + "chain \"a\" {\n use \"a\" {}\n}", []string{"13: chain/cycle"}},
		"unused chain":        {chainOf("sink {}") + "chain \"a\" {}", []string{"11: chain/unused"}},
		"inherit":             {chainOf("inherit {}\nsink {}"), []string{"8: chain/inherit"}},
		"never runs":          {chainOf("greeter {}\nsink {}"), []string{"8: chain/never-runs"}},
		"target in parallel":  {chainOf("parallel {\nsink {}\n}\nsink \"b\" {}"), []string{"9: chain/parallel"}},
		"monitored target":    {chainOf("sink {\n mode = \"monitor\"\n}"), []string{"9: chain/target-monitor"}},
		"target passed over":  {chainOf("sink {\n on_error = \"continue\"\n on_timeout = \"continue\"\n}"), []string{"9: chain/target-error", "10: chain/target-error"}},
		"target that defers":  {chainOf("sink {\n on_timeout = \"defer\"\n}"), nil},
		"timeout tagged":      {chainOf("probe {\n on_timeout = \"tag\"\n}\nsink {}"), []string{"9: config/bad-value"}},
		"attribute in chain":  {chainOf("x = 1\nsink {}"), []string{"8: chain/attribute"}},
		"provision":           {chainOf("probe { fails = \"provision\" }\nsink {}"), []string{"8: module/provision"}},
		"provision panics":    {chainOf("probe { fails = \"panic\" }\nsink {}"), []string{"8: module/provision"}},
		"validate":            {chainOf("probe {\n text = \"x\"\n fails = \"validate\"\n}\nsink {}"), []string{"9: handler.probe"}},
		"no chain":            {head + "listener \"liner\" \"in\" {\n address = \"127.0.0.1:0\"\n}", []string{"5: chain/missing"}},
		"unknown listener":    {head + "listener \"linter\" \"in\" {}", []string{"5: config/unknown-listener"}},
		"domain twice":        {head + "domain \"a.test\" {}\ndomain \"A.test\" {}", []string{"6: domain/duplicate"}},
		"domain's listener":   {head + "domain \"a.test\" {\nchain \"mx\" {}\n}", []string{"6: domain/unknown-listener"}},
		"settings of nothing": {chainOf("sink {}") + "domain \"a.test\" {\nsettings \"probe\" {}\n}", []string{"12: domain/unknown-handler"}},
		"several at once":     {chainOf("prob {}\nprobe {\n txt = 1\n}\nsink {}"), []string{"8: config/unknown-handler", "10: config/unknown-attribute"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds, _ := core.Validate(options(t, file(t, "domain \"home.test\" {}"+tt.text), newRegistry(new(journal))))
			if diff := cmp.Diff(tt.want, codes(ds)); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s\n%v", diff, ds)
			}
		})
	}
}

func codes(ds config.Diagnostics) []string {
	var list []string
	for _, d := range ds {
		list = append(list, fmt.Sprintf("%d: %s", d.Range.Start.Line, d.Code))
	}
	return list
}
