package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

// instance is a running server.
type instance interface {
	// pids are the roots of the server's processes.
	pids() []int
	// address is where it speaks SMTP.
	address() string
	// settle waits until all that was accepted is where its user finds it.
	settle(ctx context.Context) error
	// stored checks that n messages are there.
	stored(ctx context.Context, n int) error
	// stop ends all its processes.
	stop() error
}

const (
	hostname  = "mx1.example.test"
	recipient = "alice@example.test"
	sender    = "bob@example.org"
	// patience bounds every step that is not measured.
	patience = 2 * time.Minute
)

// result is one measurement.
type result struct {
	rate      float64 // messages accepted a second
	delivered float64 // messages a second until the last was where its user finds it
	cpu       float64 // seconds of the server's processor time for 1000 messages
	memory    float64 // most memory at a time, in MB
}

// measure starts a server, loads it and stops it.
func measure(ctx context.Context, o *options, name, base string, l load) (r result, err error) {
	dir := filepath.Join(base, name)
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // Postfix delivers as another user
		return r, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		syscall.Sync() // the next server does not pay for this one
	}()
	server, err := start(ctx, o, name, dir)
	if err != nil {
		return r, fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	warm, rate, err := warmUp(ctx, o, server, l)
	if err != nil {
		return r, err
	}
	n := messages(l, rate, o.duration)
	watch := watchMemory(ctx, server.pids())
	before, err := proc.Time(server.pids()...)
	if err != nil {
		return r, errors.Join(err, watch.stop(nil))
	}
	took, err := send(ctx, o, server.address(), l, n)
	if err != nil {
		return r, errors.Join(err, watch.stop(nil))
	}
	began := time.Now()
	if err := settle(ctx, server); err != nil {
		return r, errors.Join(err, watch.stop(nil))
	}
	late := time.Since(began)
	after, err := proc.Time(server.pids()...)
	if err := errors.Join(err, watch.stop(&r.memory)); err != nil {
		return r, err
	}
	if err := server.stored(ctx, warm+n); err != nil {
		return r, fmt.Errorf("count messages: %w", err)
	}
	r.rate = float64(n) / took.Seconds()
	r.delivered = float64(n) / (took + late).Seconds()
	r.cpu = (after - before).Seconds() / float64(n) * 1000
	return r, nil
}

func start(ctx context.Context, o *options, name, dir string) (instance, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch name {
	case "postfix":
		return either(startPostfix(ctx, dir, postfixOptions{log: o.postfixLog}))
	case "filtered":
		return either(startFiltered(ctx, dir, o.postfixLog))
	case "rspamd":
		return either(startRspamd(ctx, dir, o.postfixLog))
	case "inbound":
		return either(startInbound(ctx, o.binary, dir))
	case "mox-like":
		return either(startMoxLike(ctx, o.binary, dir, plainChain, "127.0.0.1"))
	case "attacked":
		return startAttacked(ctx, o.binary, dir, o.attackers)
	default:
		return startSink(ctx, dir)
	}
}

// either gives a server or an error, and no instance that is a nil pointer.
func either[T instance](server T, err error) (instance, error) {
	if err != nil {
		return nil, err
	}
	return server, nil
}

func settle(ctx context.Context, server instance) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return server.settle(ctx)
}

// warmUp lets the server start what it starts on demand, and finds out about how
// fast it is.
func warmUp(ctx context.Context, o *options, server instance, l load) (n int, rate float64, err error) {
	n = 100 + 4*l.sessions
	took, err := send(ctx, o, server.address(), l, n)
	if err != nil {
		return 0, 0, fmt.Errorf("warm up: %w", err)
	}
	return n, float64(n) / took.Seconds(), settle(ctx, server)
}

// messages gives the number of messages that take about as long as d, within
// limits: the ports of the machine, which rest for a minute after a connection,
// and the disk.
func messages(l load, rate float64, d time.Duration) int {
	n, most := int(rate*d.Seconds()), 60_000
	if !l.reuse {
		most = 15_000
	}
	most = min(most, 1<<30/l.size)
	return max(l.sessions, 100, min(n, most))
}

// send runs smtp-source and gives how long it took until the last message was
// accepted. It fails if one was not.
func send(ctx context.Context, o *options, address string, l load, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	args := []string{
		"-s", strconv.Itoa(l.sessions), "-m", strconv.Itoa(n),
		"-f", sender, "-t", recipient, "-M", "client.example.org",
	}
	if o.inbound {
		args = append(args, "-F", o.signed(l.size))
	} else {
		args = append(args, "-l", strconv.Itoa(l.size))
	}
	if l.reuse {
		args = append(args, "-d")
	}
	source := command(ctx, "smtp-source", append(args, address)...)
	var output bytes.Buffer
	source.Stdout, source.Stderr = &output, &output
	began := time.Now()
	if err := source.Run(); err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("run smtp-source: %w", ctx.Err())
		}
		return 0, fmt.Errorf("run smtp-source: %w: %s (it is in Debian's package postfix)", err, bytes.TrimSpace(output.Bytes()))
	}
	took := time.Since(began)
	if output.Len() > 0 {
		return 0, fmt.Errorf("run smtp-source: it says %s", bytes.TrimSpace(output.Bytes()))
	}
	return took, nil
}

// command prepares a program to be run; which ones, the operator says.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, program, args...) //nolint:gosec // no stranger has a say in it
}

// await waits until a server listens at address, and greets if it does that.
func await(ctx context.Context, address string, greets bool) error {
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if greets {
				_, err = conn.Read(make([]byte, 1))
			}
			conn.Close()
		}
		if err == nil {
			return nil
		}
		if waitErr := pause(ctx, 20*time.Millisecond); waitErr != nil {
			return fmt.Errorf("wait for a greeting at %s: %w", address, err)
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// process is a server of one process that runs in the foreground.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan error
	at   string
}

// greets says that a server speaks first.
const greets = true

// launch starts it, with what it writes in the file log, and waits until it listens
// at address and, if it is one that greets, for its greeting.
func launch(ctx context.Context, log, address string, greets bool, program string, args ...string) (*process, error) {
	output, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	// ctx bounds the start only; stop ends the process.
	p := &process{cmd: command(context.WithoutCancel(ctx), program, args...), log: log, done: make(chan error, 1), at: address}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		p.done <- p.cmd.Wait()
		cancel()
	}()
	if err := await(ready, address, greets); err != nil {
		return nil, errors.Join(err, p.stop(), fmt.Errorf("%s says: %s", program, p.tail()))
	}
	return p, nil
}

func (p *process) pids() []int     { return []int{p.cmd.Process.Pid} }
func (p *process) address() string { return p.at }

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || ok && status.Signaled() {
			return nil
		}
		return fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, err, p.tail())
	case <-time.After(30 * time.Second):
		killed := p.cmd.Process.Kill()
		err := errors.Join(killed, <-p.done)
		return fmt.Errorf("%s did not stop within 30 s and was killed: %w\n%s", p.cmd.Path, err, p.tail())
	}
}

// tail gives the end of the log.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-2000):]
}
