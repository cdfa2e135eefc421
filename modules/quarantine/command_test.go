package quarantine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/cli"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// TestCommands works on what a server held that runs no more.
func TestCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "mox-like.hcl")
	source := strings.Replace(server, "hostname =", fmt.Sprintf("data_dir = %q\n  hostname =", filepath.Join(dir, "data")), 1)
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	options := core.Options{ConfigFile: file, Logger: zap.NewNop()}
	s := core.NewServer(options)
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatalf("%v\n%v", err, ds.Err())
	}
	addAccounts(t, s)
	site := &site{s, control.NewLocal(s, dir, nil), nil}
	one, two, three := site.send(t, "one", "all@example.test"), site.send(t, "genuine", alice), site.send(t, "three", bob)
	stop(t, s.Stop)
	for _, step := range []struct {
		args string
		code int
		out  []string // in this order
		err  string
	}{
		{"list", 0, []string{three, two, "genuine", "headers", one, "alice@example.test, bob@example.test"}, ""},
		{"list --user Bob@example.test -n 1", 0, []string{three}, ""},
		{"list --domain example.com", 0, nil, "Nothing is held that matches.\n"},
		{"list --domain exampel.com", 2, nil, "the domain exampel.com does not live here"},
		{"list --domain example.com --json", 0, nil, ""},
		{"allowed", 0, nil, "Nobody is allowed.\n"},
		{"list --user nobody@example.test", 2, nil, "no account has this address"},
		{"show " + one, 0, []string{"held by    headers", "for        alice@example.test by way of all@example.test", "Return-Path: <bounce@example.org>"}, ""},
		{"show " + one + " --raw", 0, []string{"Return-Path: <bounce@example.org>\r\nReceived: ", "Subject: one\r\n\r\nHello.\r\n"}, ""},
		{"show nothing", 2, nil, "'mox-like quarantine list' shows those that there are"},
		{"release " + one + " nothing " + three + " --user bob@example.test", 2, []string{one + " is in INBOX of bob@example.test.\n", three + " is in INBOX of bob@example.test.\n"}, `the message "nothing" is not held for bob@example.test`},
		{"show " + three, 2, nil, `mox-like: the message "` + three + `" is not held: it was released for bob@example.test at `},
		{"release " + one + " --user bob@example.test", 2, nil, "it was released for bob@example.test at "},
		{"allow " + two, 0, []string{two + " is in INBOX of alice@example.test.\neve@example.org is allowed for alice@example.test.\n"}, ""},
		{"allow " + one + " --scope all --sender example.net", 0, []string{"example.net is allowed for everybody.\n", "But nothing shows"}, ""},
		{"allow " + one + " --sender com", 2, nil, `anybody can have a domain under "com"`},
		{"allowed", 0, []string{"mox-like quarantine disallow example.net --all\n", "mox-like quarantine disallow eve@example.org --user alice@example.test\n"}, ""},
		{"allowed --json", 0, []string{`{"scope":"all","sender":"example.net"`, `{"scope":"alice@example.test","sender":"eve@example.org"`}, ""},
		{"disallow example.net --all", 0, []string{"example.net is no longer allowed for everybody.\n"}, ""},
		{"disallow example.net --all", 2, nil, "'mox-like quarantine allowed' shows those that there are"},
		{"disallow example.net", 2, nil, "example.net is not allowed for anybody"},
		{"disallow Eve@Example.org", 0, []string{"Eve@Example.org is no longer allowed for alice@example.test.\n"}, ""},
		{"disallow eve@example.org --user alice@example.test", 2, nil, "quarantine allowed"},
		{"delete " + one, 2, nil, "is not held"},
		{"list", 0, nil, "Nothing is held that matches.\n"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"quarantine", "--config", file}, strings.Fields(step.args)...)
		code := cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		if code != step.code || !strings.Contains(errs.String(), step.err) || (step.err == "") != (errs.Len() == 0) {
			t.Errorf("%s: exit %d, %q; want %d, %q", step.args, code, errs.String(), step.code, step.err)
		}
		rest := out.String()
		for _, want := range step.out {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: %q is not in the rest of\n%s", step.args, want, out.String())
			}
			rest = after
		}
		if step.out == nil && out.Len() > 0 {
			t.Errorf("%s prints\n%s", step.args, out.String())
		}
	}
	offline, _, _, err := core.OpenOffline(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = offline.Close() }()
	boxes := coretest.Service[*mailbox.Service](t, offline)
	if a, b := texts(t, boxes, alice), texts(t, boxes, bob); len(a) != 2 || len(b) != 2 {
		t.Errorf("%d and %d messages in INBOX, want 2 each", len(a), len(b))
	}
}
