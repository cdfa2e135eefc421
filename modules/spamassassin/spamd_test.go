package spamassassin

import (
	"bufio"
	"errors"
	"flag"
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

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/mox-like/mox-like/core/backend"
)

// daemon is a spamd that runs.
type daemon struct {
	unix, tcp backend.Address
	stop      func() error
}

// spamd is the daemon of most of this package's tests, and pupil one that can be
// taught and has a database for each user. They take two seconds to start, so there
// is one for all.
var spamd, pupil daemon

func TestMain(m *testing.M) {
	flag.Parse()
	if worker := flag.Lookup("test.fuzzworker"); worker != nil && worker.Value.String() == "true" {
		os.Exit(m.Run()) // it is killed in the end, and would leave its daemons behind
	}
	var g errgroup.Group
	g.Go(func() error { return spamd.start(settings) })
	g.Go(func() error {
		return pupil.start(settingsOfPupil, "--allow-tell", "--virtual-config-dir=HOME/%u")
	})
	if err := g.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, errors.Join(err, spamd.end(), pupil.end()))
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(spamd.end(), pupil.end()); err != nil {
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

// settingsOfPupil have Bayes count from the third message of each kind on.
const settingsOfPupil = `
dns_available no
skip_rbl_checks 1
use_bayes 1
bayes_auto_learn 0
bayes_min_ham_num 3
bayes_min_spam_num 3
required_score 5.0
report_safe 0
`

func (d *daemon) end() error {
	if d.stop == nil {
		return nil
	}
	return d.stop()
}

// start runs spamd without a network until end is called. HOME in an option stands
// for its home.
func (d *daemon) start(settings string, options ...string) (err error) {
	program := "/usr/sbin/spamd"
	if found, err := exec.LookPath("spamd"); err == nil {
		program = found
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("these tests need spamd: %w; run: apt-get install --no-install-recommends spamassassin spamd", err)
	}
	dir, err := os.MkdirTemp("", "spamd")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	as, err := prepare(dir, settings)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	home := filepath.Join(dir, "home")
	d.tcp = backend.Address{Network: "tcp", Name: fmt.Sprint("127.0.0.1:", port)}
	d.unix = backend.Address{Network: "unix", Name: filepath.Join(dir, "spamd.sock")}
	args := []string{
		"--local", "--nouser-config", "--siteconfigpath=" + filepath.Join(dir, "etc"), "--helper-home-dir=" + home,
		"--listen=" + d.tcp.Name, "--listen=" + d.unix.Name, "--socketmode=0666", "--allowed-ips=127.0.0.1",
		"--min-children=2", "--max-children=2", "--syslog=stderr",
	}
	for _, option := range options {
		args = append(args, strings.ReplaceAll(option, "HOME", home))
	}
	command := exec.Command(program, append(args, as...)...)
	command.Env = append(os.Environ(), "HOME="+home)
	wait, err := run(command)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	d.stop = func() error {
		_ = command.Process.Signal(syscall.SIGTERM)
		return errors.Join(wait(), os.RemoveAll(dir))
	}
	return nil
}

// prepare makes the folders of spamd, and gives the options that it needs when it
// is started by root.
func prepare(dir, settings string) (options []string, err error) {
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
