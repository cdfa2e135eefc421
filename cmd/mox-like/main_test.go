package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mox-like/mox-like/core/store"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"mox-like": main,
		"activate": activate,
		"hold":     hold,
	})
}

// TestScripts runs the commands as users do: each script in testdata/script
// shows what one of them prints and exits with.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("TZ", "UTC")
			// A server that becomes another user must reach what is here.
			return errors.Join(os.Chmod(env.WorkDir, 0o755), os.Chmod(filepath.Dir(env.WorkDir), 0o755))
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"ports":    ports,
			"occupy":   occupy,
			"serving":  serving,
			"gone":     gone,
			"smtp":     smtpDialog,
			"notify":   notifySocket,
			"notified": notified,
			"newer":    newer,
			"code":     code,
			"lock":     lock,
			"unlock":   unlock,
			"mode":     mode,
			"showing":  showing,
			"signal":   sendSignal,
		},
	})
}

// exits CODE COMMAND ARGS... runs a command that must exit with that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s exits with %d, want %d", args[1], got, want)
	}
}

// code FROM TO reads the secret that user totp enrol has printed, and writes the
// code of this moment.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: code FROM TO")
	}
	found := regexp.MustCompile(`(?m)^Secret  (\w+)$`).FindStringSubmatch(ts.ReadFile(args[0]))
	if found == nil {
		ts.Fatalf("%s has no secret", args[0])
	}
	text, err := totp.GenerateCode(found[1], time.Now())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text+"\n"), 0o600))
}

// newer DIR makes the database in a data directory look as if a later build had
// written it.
func newer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newer DIR")
	}
	steps := make([]string, 100)
	for i := range steps {
		steps[i] = "SELECT 1"
	}
	s, err := store.Open(context.Background(), ts.MkAbs(args[0]), store.Options{})
	ts.Check(err)
	ts.Check(errors.Join(s.Migrate(context.Background(), store.Migrations{Module: "accounts", Steps: steps}), s.Close()))
}

// locks are the data directories that scripts hold, by their paths.
var locks sync.Map // string to *store.Store

// lock DIR holds the lock of a data directory until unlock DIR or the end of the
// script, as a process that hangs would.
func lock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lock DIR")
	}
	dir := ts.MkAbs(args[0])
	s, err := store.Open(context.Background(), dir, store.Options{})
	ts.Check(err)
	locks.Store(dir, s)
	ts.Defer(func() { release(ts, dir) })
}

func unlock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unlock DIR")
	}
	release(ts, ts.MkAbs(args[0]))
}

func release(ts *testscript.TestScript, dir string) {
	if s, ok := locks.LoadAndDelete(dir); ok {
		ts.Check(s.(*store.Store).Close())
	}
}

// mode PERMISSIONS FILE checks the permissions of a file.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode PERMISSIONS FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}
