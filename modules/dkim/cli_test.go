package dkim

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/cli"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

var update = flag.Bool("update", false, "write the golden files")

// masks take from an output what differs from run to run.
var masks = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`p=[A-Za-z0-9+/]{40,}=*`), "p=KEY"},
	{regexp.MustCompile(`\n    "[A-Za-z0-9+/]{40,}=*"`), "\n    \"KEY\""},
	{regexp.MustCompile(`s20\d{6}\b`), "sDAY"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "SERVER"},
	{regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d UTC`), "TIME"},
}

// shell runs commands on a configuration.
type shell struct {
	config string
	dir    string
}

func (s *shell) run(t *testing.T, status int, args ...string) string {
	t.Helper()
	var out, errors bytes.Buffer
	code := cli.Run(t.Context(), append(args, "--config", s.config), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errors})
	if code != status {
		t.Fatalf("%q: status %d, want %d\n%s%s", args, code, status, out.String(), errors.String())
	}
	return out.String() + errors.String()
}

// masked gives the output with what differs masked.
func masked(text, dir string) string {
	text = strings.ReplaceAll(text, dir, "DIR")
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.by)
	}
	return text
}

// TestCommands runs the commands without a server and against one: both print what the
// golden files have, and what 'dkim dns' prints is a zone that 'dkim check' is content
// with.
func TestCommands(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("server runs %v", running), func(t *testing.T) {
			t.Parallel()
			names := dnstest.Serve(t, "")
			s := &shell{dir: t.TempDir()}
			s.config = filepath.Join(s.dir, "mox-like.hcl")
			text := fmt.Sprintf("server {\n  hostname = \"mx.example.org\"\n  data_dir = \"data\"\n}\ndns {\n  servers = [%q]\n}\ndomain \"example.org\" {\n  dkim {\n    overlap = \"14d\"\n  }\n}\ndomain \"example.net\" {}\n", names.Addr())
			if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if running {
				s.serve(t)
			}
			session(t, s, names)
		})
	}
}

// serve has a server run.
func (s *shell) serve(t *testing.T) {
	t.Helper()
	server := core.NewServer(core.Options{ConfigFile: s.config, Logger: zap.NewNop()})
	if ds, _, err := server.Start(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	dir := filepath.Join(s.dir, "data")
	socket, err := control.Serve(t.Context(), dir, control.NewLocal(server, dir, nil), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := socket.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func session(t *testing.T, s *shell, names *dnstest.Server) {
	t.Helper()
	golden := func(name, got string) {
		t.Helper()
		path, got := filepath.Join("testdata", "cli", name+".golden"), masked(got, s.dir)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	golden("check_nothing", s.run(t, 1, "dkim", "check"))
	golden("keygen", s.run(t, 0, "dkim", "keygen", "example.org", "--selector", "s1"))
	golden("check_missing", s.run(t, 1, "dkim", "check", "example.org"))
	golden("dns_form", s.run(t, 0, "dkim", "dns", "example.org", "--form"))
	zoneText := s.run(t, 0, "dkim", "dns", "example.org")
	golden("dns", zoneText)
	names.Set(zoneText)
	golden("check", s.run(t, 0, "dkim", "check"))
	golden("rotate", s.run(t, 0, "dkim", "rotate", "example.org"))
	golden("keygen_again", s.run(t, 2, "dkim", "keygen", "example.org"))
	golden("rotate_waiting", s.run(t, 1, "dkim", "rotate", "example.org"))
	zoneText = s.run(t, 0, "dkim", "dns", "example.org")
	names.Set(zoneText)
	golden("rotate_done", s.run(t, 0, "dkim", "rotate", "example.org"))
	golden("rotate_early", s.run(t, 0, "dkim", "rotate", "example.org"))
	golden("rotate_force", s.run(t, 0, "dkim", "rotate", "example.org", "--force"))
	golden("dns_retired", s.run(t, 0, "dkim", "dns", "example.org"))
	golden("check_leftover", s.run(t, 0, "dkim", "check", "example.org"))
	golden("no_block", s.run(t, 2, "dkim", "keygen", "example.net"))
	golden("no_domain", s.run(t, 2, "dkim", "keygen", "example.com"))
	if text := s.run(t, 0, "dkim", "check", "--json"); !strings.HasPrefix(text, `{"domain":"example.org","keys":[{"domain":"example.org","selector":"s`) || strings.Count(text, "\n") != 2 {
		t.Errorf("check --json prints %s", text)
	}
	if text := s.run(t, 0, "dkim", "dns", "example.org", "--json"); strings.Count(text, "\n") != 4 || strings.Contains(text, "PRIVATE") {
		t.Errorf("dns --json prints %s", text)
	}
	names.Stop()
	golden("check_down", s.run(t, 2, "dkim", "check", "example.org"))
	s.run(t, 0, "dkim", "rotate", "example.org", "--force") // makes new keys
	s.run(t, 2, "dkim", "rotate", "example.org")
	if text := s.run(t, 0, "audit", "--operation", "make-dkim-keys"); !strings.Contains(text, "make-dkim-keys") {
		t.Errorf("the audit trail has %s", text)
	}
}
