package e2e

import (
	"bytes"
	"database/sql"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// refuse runs the server, which must end by itself with exit status 2 and a
// message that matches.
func (s *site) refuse(t *testing.T, pattern string) {
	t.Helper()
	r := run(t, s.command(t, "run"))
	if r.code != 2 || !regexp.MustCompile("(?m)^mox-like: .*"+pattern).MatchString(r.stderr) {
		t.Errorf("exit status %d, no %s in\n%s%s", r.code, pattern, r.stdout, r.stderr)
	}
}

// TestPortTaken starts a server whose port another program has.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	site := newSite(t, settings{More: "listener \"imap\" \"second\" {\n address = \"" + l.Addr().String() + "\"\n chain {\n use \"login\" {}\n }\n }"})
	site.refuse(t, regexp.QuoteMeta(l.Addr().String())+".*another program listens there")
	if _, err := os.Stat(site.data); err == nil {
		t.Error("the server has made a data directory before it had its ports")
	}
}

// TestDataDirNotWritable starts a server as a user who may not write its data
// directory.
func TestDataDirNotWritable(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	if err := errors.Join(os.Mkdir(site.data, 0o500), os.Chmod(site.file, 0o444), os.Chmod(site.dir, 0o755), os.Chmod(filepath.Dir(site.dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := site.command(t, "run")
	if os.Geteuid() == 0 {
		const nobody = 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	r := run(t, cmd)
	if r.code != 2 || !strings.Contains(r.stderr, site.data) || !strings.Contains(r.stderr, "permission denied") || !strings.Contains(r.stderr, "may not write there") {
		t.Errorf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestDataDirIsAFile starts a server whose data directory is none.
func TestDataDirIsAFile(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	if err := os.WriteFile(site.data, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	site.refuse(t, regexp.QuoteMeta(site.data))
}

// TestRunTwice starts a second server on the data directory of one that runs,
// which must not be bothered.
func TestRunTwice(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	p := site.serve(t, alice)
	site.refuse(t, `data directory is in use by process `+find(t, site.do(t, "status"), `runs as process (\d+)`))
	if id, reply := p.try(t, "mx", "Subject: Still there\r\n\r\n.\r\n"); id == "" {
		t.Error(reply)
	}
	p.stop(t)
}

// TestNewerDatabase starts a server on a database that a later build has
// migrated.
func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	site.serve(t, alice).stop(t)
	name := filepath.Join(site.data, "mox-like.db")
	db, err := sql.Open("sqlite", name)
	if err != nil {
		t.Fatal(err)
	}
	result, err := db.ExecContext(t.Context(), "UPDATE migration SET version = version + 1 WHERE module = 'mailbox'")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 1 || err != nil {
		t.Fatalf("%d versions changed, %v", n, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	site.refuse(t, "database is newer than this build")
	if r := run(t, site.command(t, "user", "list")); r.code != 2 || !strings.Contains(r.stderr, "database is newer than this build") {
		t.Errorf("user list: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the database of the newer build was changed")
	}
}

// TestExample checks the configuration that everybody starts from.
func TestExample(t *testing.T) {
	t.Parallel()
	r := run(t, command(t, binary, "validate", "--strict", "../../config.hcl.example"))
	if r.code != 0 {
		t.Errorf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
