// Package e2e tests the program as it is used. Each test runs the binary as a
// process of its own, on loopback and a data directory of its own, and speaks to
// it with clients that others wrote: swaks, curl, mbsync, go-imap. The daemons that it
// asks are the real ones, see test/daemon. A program that is missing fails the test
// that needs it.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// binary is the path of the program under test.
var binary string

func TestMain(m *testing.M) {
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build mox-like:", err)
		code = 1
	}
	os.Exit(code)
}

// build builds the program once for all tests, and runs them.
func build(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "mox-like-e2e")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// One test runs the program as a user without privileges.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	binary = filepath.Join(dir, "mox-like")
	cmd := exec.Command("go", "build", "-o", binary, "../../cmd/mox-like")
	if output, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, output)
	}
	return m.Run(), nil
}

// result is what a command printed and exited with.
type result struct {
	stdout, stderr string
	code           int
}

// run runs a command to its end. Its exit status is for the test to judge.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || cmd.ProcessState.ExitCode() < 0) {
		t.Fatalf("run %v: %v\n%s%s", cmd.Args, err, out.String(), errs.String())
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// command makes a command that is killed if it takes too long.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, name, args...)
}

// eventually asks again and again until done says so.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
