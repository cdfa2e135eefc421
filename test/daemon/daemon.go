// Package daemon starts for tests the real daemons that the server asks: each for
// one test, in a folder of its own, without a network. A daemon that is not
// installed fails the test.
package daemon

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// EICAR is the file that every virus scanner calls a virus (https://www.eicar.org),
// and GTUBE the text that every spam filter calls spam. They are in two pieces so
// that none does so with this one.
const (
	EICAR = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
	GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE" + "-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
)

// patience bounds a start.
const patience = time.Minute

const clamdConf = `Foreground yes
LocalSocket DIR/clamd.sock
DatabaseDirectory DIR
OfficialDatabaseOnly no
TemporaryDirectory DIR
LogFile DIR/clamd.log
SelfCheck 0
StreamMaxLength 25M
MaxFileSize 25M
AlertExceedsMax yes
Bytecode no
PhishingSignatures no
`

// Clamd runs a clamd in dir that knows EICAR alone, and gives its socket and a
// function that kills it. It can be started again on the same folder.
func Clamd(tb testing.TB, dir string) (socket string, kill func()) {
	tb.Helper()
	socket = filepath.Join(dir, "clamd.sock")
	settings := filepath.Join(dir, "clamd.conf")
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "test.ndb"), []byte("Eicar-Test-Signature:0:*:"+hex.EncodeToString([]byte(EICAR))+"\n"), 0o600),
		os.WriteFile(settings, []byte(strings.ReplaceAll(clamdConf, "DIR", dir)), 0o600),
	)
	if err != nil {
		tb.Fatal(err)
	}
	kill = start(tb, exec.Command(Program(tb, "clamd"), "--config-file="+settings)) //nolint:gosec // the test says what
	await(tb, socket, "zPING\x00", "PONG")
	return socket, kill
}

// Spamd runs a spamd whose rules are Debian's and these settings, and gives its
// socket and a function that kills it. Further arguments are spamd's own.
func Spamd(tb testing.TB, settings string, args ...string) (socket string, kill func()) {
	tb.Helper()
	// The folders of a test are for its owner alone, and spamd leaves root.
	dir := tb.TempDir()
	etc, home := filepath.Join(dir, "etc"), filepath.Join(dir, "home")
	err := errors.Join(
		os.Chmod(filepath.Dir(dir), 0o755), //nolint:gosec // of a test
		os.Mkdir(home, 0o755),              //nolint:gosec // of a test
		os.CopyFS(etc, os.DirFS("/etc/spamassassin")),
		os.WriteFile(filepath.Join(etc, "zz_test.cf"), []byte("dns_available no\nskip_rbl_checks 1\n"+settings), 0o644), //nolint:gosec // spamd reads it as another user
	)
	if err != nil {
		tb.Fatal(err)
	}
	socket = filepath.Join(dir, "spamd.sock")
	args = append(args, "--local", "--nouser-config", "--siteconfigpath="+etc, "--helper-home-dir="+home, "--listen="+socket, "--socketmode=0666",
		"--min-children=1", "--max-children=2", "--syslog=stderr")
	if os.Getuid() == 0 {
		args = append(args, "--username=nobody")
		give(tb, home, "nobody")
	}
	cmd := exec.Command(Program(tb, "spamd"), args...) //nolint:gosec // the test says what
	cmd.Env = append(os.Environ(), "HOME="+home)
	kill = start(tb, cmd)
	await(tb, socket, "PING SPAMC/1.5\r\n\r\n", "PONG")
	return socket, kill
}

// Program gives the path of a program.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name) // some users have these outside of their path
	}
	if err != nil {
		tb.Fatalf("this test needs %s: run make deps, which installs it", name)
	}
	return path
}

// give makes a user of this machine the owner of a folder.
func give(tb testing.TB, dir, name string) {
	tb.Helper()
	account, err := user.Lookup(name)
	if err != nil {
		tb.Fatal(err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err == nil {
		err = os.Chown(dir, uid, -1)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// start starts a daemon and gives a function that kills it with its children. What
// it wrote is shown if the test fails.
func start(tb testing.TB, cmd *exec.Cmd) (kill func()) {
	tb.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", cmd.Path, err)
	}
	kill = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended already
		_ = cmd.Wait()                                      // it was killed
		if text := output.String(); tb.Failed() {
			tb.Logf("output of %s:\n%s", cmd.Path, text[max(0, len(text)-4000):])
		}
	})
	tb.Cleanup(kill)
	return kill
}

// await waits until a daemon answers.
func await(tb testing.TB, socket, question, want string) {
	tb.Helper()
	answers := func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, question)
		answer, readErr := io.ReadAll(conn)
		return err == nil && readErr == nil && bytes.Contains(answer, []byte(want))
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !answers() {
		select {
		case <-tick.C:
		case <-limit:
			tb.Fatalf("nothing answers at %s within %s", socket, patience)
		}
	}
}
