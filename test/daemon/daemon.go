// Package daemon starts for tests the real daemons that the server asks: each in a
// folder of its own, at addresses of its own, without a network. A daemon that is not
// installed fails the test.
package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/backend"
)

// EICAR is the file that every virus scanner calls a virus (https://www.eicar.org),
// and GTUBE the text that every spam filter calls spam. They are in two pieces so
// that none does so with this one.
const (
	EICAR = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
	GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE" + "-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
)

// patience bounds a start, and haste an answer.
const (
	patience = time.Minute
	haste    = 10 * time.Second
)

// Kind is a daemon with its settings: Clamd, Spamd, Rspamd or Milter.
type Kind interface {
	// Start runs the daemon, and returns once it answers. Whoever calls it calls Stop
	// in the end.
	Start() (*Daemon, error)
}

// Daemon is one that runs. It is not for several goroutines at once.
type Daemon struct {
	// Unix and TCP are where it listens, and Controller where a rspamd can be taught.
	// Those that a kind does not have are zero.
	Unix, TCP, Controller backend.Address

	dir     string
	command func() *exec.Cmd
	answers func() error // nil once it serves

	output  bytes.Buffer // of the one that runs; for others once it has ended
	running *os.Process  // nil if none runs
	ended   chan struct{}
}

// Run starts a daemon for one test. What it wrote is shown if the test fails.
func Run(tb testing.TB, kind Kind) *Daemon {
	tb.Helper()
	d, err := kind.Start()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Stop(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Log(d.last())
		}
	})
	return d
}

// Restart starts the daemon again, after Kill, as it was: with what it has stored, and
// at the same addresses.
func (d *Daemon) Restart(tb testing.TB) {
	tb.Helper()
	d.Kill()
	if err := d.start(); err != nil {
		tb.Fatal(err)
	}
}

// Kill ends the daemon with its children, as a crash would. A daemon that has ended
// stays so.
func (d *Daemon) Kill() {
	if d.running == nil {
		return
	}
	_ = syscall.Kill(-d.running.Pid, syscall.SIGKILL) // it may have ended already
	<-d.ended
	d.running = nil
	// Its children close their output first, and their sockets later.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, at := range []backend.Address{d.Unix, d.TCP, d.Controller} {
		for at.Network != "" && ask(at, "", "") == nil {
			<-tick.C
		}
	}
}

// Stop ends the daemon and removes its files.
func (d *Daemon) Stop() error {
	d.Kill()
	return os.RemoveAll(d.dir)
}

// run makes a folder for a daemon, prepares it and starts the daemon.
func run(program string, prepare func(d *Daemon, path string) error) (*Daemon, error) {
	path, err := find(program)
	if err != nil {
		return nil, err
	}
	// The path of a socket must be short, which one with the name of a test is not.
	dir, err := os.MkdirTemp("", program)
	if err != nil {
		return nil, err
	}
	d := &Daemon{dir: dir}
	if err = prepare(d, path); err == nil {
		err = d.start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run %s: %w", program, err), d.Stop())
	}
	return d, nil
}

// start starts the process and waits until it answers.
func (d *Daemon) start() error {
	cmd := d.command()
	d.output.Reset()
	cmd.Stdout, cmd.Stderr = &d.output, &d.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children go with it
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed, or says why itself
	}()
	d.running, d.ended = cmd.Process, ended
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		err := d.answers()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("it ended early: %s\n%s", cmd.ProcessState, d.last())
		case <-limit:
			d.Kill()
			return fmt.Errorf("it does not serve within %s: %w\n%s", patience, err, d.last())
		}
	}
}

// last gives the end of what a daemon wrote that has ended.
func (d *Daemon) last() string {
	text := d.output.String()
	return d.dir + ":\n" + text[max(0, len(text)-4000):]
}

// ask says something to a daemon, and looks for what it must answer before it closes.
func ask(at backend.Address, question, want string) error {
	conn, err := net.Dial(at.Network, at.Name)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if want == "" {
		return nil
	}
	if err := conn.SetDeadline(time.Now().Add(haste)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, question); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !bytes.Contains(answer, []byte(want)) {
		err = fmt.Errorf("it answers %q", answer)
	}
	return err
}

// Program gives the path of a program.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := find(name)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// find looks for a program where some users have it outside of their path, too.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w; run make deps, which installs what tests need", name, err)
	}
	return path, nil
}

// freePort gives an address on loopback that nobody uses.
func freePort() (backend.Address, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return backend.Address{}, err
	}
	return backend.Address{Network: "tcp", Name: l.Addr().String()}, l.Close()
}

// write writes a file that daemons may read that have left root.
func write(path, text string) error {
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // see above
}
