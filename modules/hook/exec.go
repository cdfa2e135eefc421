package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() {
	core.Register(&Exec{})
	core.Register(&HTTP{})
}

// Exec has a program decide. It is started for each transaction, without a shell,
// with the request on its standard input, and writes its verdict to standard
// output. When its time is over it is killed, with all that it has started; the
// exit status must be 0, else there was no verdict, and on_error says what that
// means. See docs/hooks.md for the form of both.
type Exec struct {
	Settings
	// Command is the program and its arguments. The program is an absolute path, or
	// one relative to the configuration file; PATH is not searched.
	Command []string `config:"command,required,fileonly" example:"/usr/local/bin/judge, --strict"`
	// MaxRunning is how many run at once for this server; others wait, for half of
	// timeout, and are then deferred.
	MaxRunning int `config:"max_running,fileonly" default:"8" min:"1" max:"1000"`

	path  string
	user  *core.SystemUser
	judge *judge
}

// Module describes the handler.
func (*Exec) Module() core.Info {
	return core.Info{
		ID: "handler.exec", Looks: []string{"command"}, Stages: actsAt, StageAttribute: true, DefaultStages: mail.AtData, Edits: true,
		Timeout: defaultTimeout, New: func() core.Module { return new(Exec) },
	}
}

// Provision resolves the path of the program, which Validate looks at.
func (e *Exec) Provision(c *core.Context) error {
	if len(e.Command) == 0 || e.Command[0] == "" {
		return nil // see Validate
	}
	e.path, e.user = c.Path(e.Command[0]), c.User()
	program := &program{path: e.path, arguments: e.Command[1:], log: c.Logger()}
	var err error
	e.judge, err = newJudge(c, e.Settings, "exec "+e.path, e.MaxRunning, program)
	return err
}

// Validate finds a program that is not there or cannot be run, and warns of one
// that others than its owner can change.
func (e *Exec) Validate() core.Problems {
	var problems core.Problems
	if e.path == "" {
		problems.Errorf("command", "the command is empty: write the path of a program, such as \"/usr/local/bin/judge\"")
		return problems
	}
	if slices.ContainsFunc(e.Command, func(s string) bool { return bytes.IndexByte([]byte(s), 0) >= 0 }) {
		problems.Errorf("command", "an argument has a zero byte, which no program can be given")
	}
	info, err := os.Stat(e.path)
	switch {
	case err != nil:
		problems.Errorf("command[0]", "look for the program: %v", err)
	case !info.Mode().IsRegular():
		problems.Errorf("command[0]", "%s is not a regular file, and so no program", e.path)
	case info.Mode().Perm()&0o111 == 0:
		problems.Errorf("command[0]", "%s is not executable (mode %04o); run: chmod +x %s", e.path, info.Mode().Perm(), e.path)
	case info.Mode().Perm()&0o022 != 0:
		problems.Warnf("command[0]", "others than its owner can change %s (mode %04o); run: chmod go-w %s", e.path, info.Mode().Perm(), e.path)
	}
	if err == nil && e.user != nil {
		if err := e.user.CheckReadable(e.path); err != nil {
			problems.Warnf("command[0]", "user %s, who the server becomes, cannot read %s: %v", e.user.Name, e.path, err)
		}
	}
	return problems
}

// Handle has the program judge.
func (e *Exec) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	return e.judge.handle(ctx, tx)
}

// program starts a program for each request.
type program struct {
	path      string
	arguments []string
	log       *zap.Logger
}

const (
	maxStderr = 4 << 10
	// pipeDelay is how long the pipes of a program that has ended are read when
	// something that it has started keeps them open.
	pipeDelay = 500 * time.Millisecond
)

// environment is all that a program finds in its own.
var environment = [...]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}

// ask runs the program. Whatever it has started in its process group does not
// outlive it.
func (p *program) ask(ctx context.Context, request []byte) ([]byte, error) {
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	stdout, stderr := &head{limit: maxAnswer, full: kill}, &head{limit: maxStderr}
	cmd := exec.CommandContext(ctx, p.path, p.arguments...) //nolint:gosec // the operator's own words, and no shell
	cmd.Env, cmd.Dir = environment[:], "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = pipeDelay
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.path, err)
	}
	err := cmd.Wait()
	_ = killGroup(cmd.Process.Pid) // what it has left behind
	said := mail.Printable(string(bytes.TrimSpace(stderr.bytes())), maxText)
	if said != "" {
		p.log.Debug("program wrote to standard error", zap.String("program", p.path), zap.String("stderr", said))
	}
	switch {
	case stdout.over:
		return nil, fmt.Errorf("run %s: its answer is longer than %d bytes", p.path, maxAnswer)
	case err == nil:
		return stdout.bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: it was killed: %w", p.path, ctx.Err())
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("run %s: it has ended, and something that it has started keeps its output open", p.path)
	case said != "":
		return nil, fmt.Errorf("run %s: %w; it says: %s", p.path, err, said)
	default:
		return nil, fmt.Errorf("run %s: %w", p.path, err)
	}
}

// killGroup kills a program and all that it has started, as far as that has not
// left the program's process group. The group has the program's number, which no
// other gets as long as one of the group is there.
func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// head keeps the first bytes of an output. It belongs to one goroutine at a time.
type head struct {
	limit int
	full  func() // called when there is more; nil lets the rest pass by
	kept  []byte
	over  bool
}

// Write keeps what fits.
func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.limit-len(h.kept))
	h.kept = append(h.kept, p[:n]...)
	if n < len(p) {
		h.over = true
		if h.full != nil {
			h.full()
		}
	}
	return len(p), nil
}

func (h *head) bytes() []byte { return h.kept }

var (
	_ core.Provisioner = (*Exec)(nil)
	_ core.Validator   = (*Exec)(nil)
	_ core.Handler     = (*Exec)(nil)
)
