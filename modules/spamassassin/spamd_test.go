package spamassassin

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mox-like/mox-like/core/backend"

	"go.uber.org/goleak"
)

// spamd is the daemon of this package's tests. It takes two seconds to start, so
// there is one for all.
var spamd struct{ unix, tcp backend.Address }

func TestMain(m *testing.M) {
	stop, err := startSpamd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// settings make spamd one that asks nobody.
const settings = `
dns_available no
skip_rbl_checks 1
use_bayes 0
required_score 5.0
report_safe 0
`

// startSpamd runs spamd without a network until stop is called.
func startSpamd() (stop func() error, err error) {
	program := "/usr/sbin/spamd"
	if found, err := exec.LookPath("spamd"); err == nil {
		program = found
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("these tests need spamd: %w; run: apt-get install --no-install-recommends spamassassin spamd", err)
	}
	dir, err := os.MkdirTemp("", "spamd")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	as, err := prepare(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	spamd.tcp = backend.Address{Network: "tcp", Name: fmt.Sprint("127.0.0.1:", port)}
	spamd.unix = backend.Address{Network: "unix", Name: filepath.Join(dir, "spamd.sock")}
	command := exec.Command(program, append([]string{
		"--local", "--nouser-config", "--siteconfigpath=" + filepath.Join(dir, "etc"), "--helper-home-dir=" + filepath.Join(dir, "home"),
		"--listen=" + spamd.tcp.Name, "--listen=" + spamd.unix.Name, "--socketmode=0666", "--allowed-ips=127.0.0.1",
		"--min-children=2", "--max-children=2", "--syslog=stderr",
	}, as...)...)
	command.Env = append(os.Environ(), "HOME="+filepath.Join(dir, "home"))
	wait, err := run(command)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return func() error {
		_ = command.Process.Signal(syscall.SIGTERM)
		return errors.Join(wait(), os.RemoveAll(dir))
	}, nil
}

// prepare makes the folders of spamd, and gives the options that it needs when it
// is started by root.
func prepare(dir string) (options []string, err error) {
	etc, home := filepath.Join(dir, "etc"), filepath.Join(dir, "home")
	if err := os.CopyFS(etc, os.DirFS("/etc/spamassassin")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(etc, "zz_test.cf"), []byte(settings), 0o644); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Mkdir(home, 0o755), os.Chmod(dir, 0o755)); err != nil || os.Getuid() != 0 {
		return nil, err
	}
	name := "debian-spamd"
	account, err := user.Lookup(name)
	if err != nil {
		name = "nobody"
		if account, err = user.Lookup(name); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return nil, err
	}
	return []string{"--username=" + name}, os.Chown(home, uid, -1)
}

// run starts spamd and waits until it serves. wait is for its end.
func run(command *exec.Cmd) (wait func() error, err error) {
	output, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start spamd: %w", err)
	}
	ready := make(chan struct{})
	done := make(chan string, 1)
	go func() {
		var log strings.Builder
		serves := false
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if log.Len() < 64<<10 {
				log.WriteString(lines.Text() + "\n")
			}
			if !serves && strings.HasSuffix(lines.Text(), "child states: II") {
				serves = true
				close(ready)
			}
		}
		done <- log.String()
	}()
	select {
	case <-ready:
	case log := <-done:
		return nil, fmt.Errorf("spamd ended early: %w\n%s", command.Wait(), log)
	}
	return func() error {
		log := <-done
		// Perl's spamd ends by the signal itself.
		if err := command.Wait(); err != nil && !strings.Contains(log, "server killed by SIGTERM") {
			return fmt.Errorf("spamd did not end well: %w\n%s", err, log)
		}
		return nil
	}, nil
}

// freePort gives a TCP port that nobody uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
