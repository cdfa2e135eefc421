package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// The accounts of the tests, and the password of all of them.
const (
	alice    = "alice@example.test"
	bob      = "bob@example.test"
	carol    = "carol@example.test"
	stranger = "stranger@example.org"
	password = "correct horse battery"
)

// settings are what a test adds to the configuration.
type settings struct {
	Server string // to the server block
	MX     string // to the listener for strangers
	Chain  string // to its chain, before the target
	Login  string // to the chain of logins, before the password is checked
	Factor string // to the same, behind that
	Sent   string // to the chain of submission, before the target
	IMAP   string // to the listener for reading mail
	Alias  string // to the aliases of example.test
	Domain string // to the block of example.test
	More   string // blocks at the top
}

var configuration = template.Must(template.New("mox-like.hcl").Parse(`server {
  hostname   = "mx.example.test"
  data_dir   = "data"
  postmaster = "alice@example.test"
  {{.Server}}
}

log {
  format = "json"
}

tls "self_signed" "test" {
  hosts = ["mx.example.test", "127.0.0.1"]
}

chain "login" {
  {{.Login}}
  password {}
  {{.Factor}}
}

listener "smtp" "mx" {
  address = "127.0.0.1:0"
  {{.MX}}
  chain {
    {{.Chain}}
    deliver {}
  }
}

listener "smtp" "submission" { # validate:ignore security/no-sender-login: the tests write as anybody
  address = "127.0.0.1:0"
  tls     = "implicit"
  auth    = "required"
  chain {
    use "login" {}
    {{.Sent}}
    deliver {}
  }
}

listener "smtp" "starttls" { # validate:ignore security/no-sender-login: the tests write as anybody
  address = "127.0.0.1:0"
  tls     = "required"
  auth    = "required"
  chain {
    use "login" {}
    deliver {}
  }
}

listener "imap" "imaps" {
  address = "127.0.0.1:0"
  {{.IMAP}}
  chain {
    use "login" {}
  }
}

domain "example.test" {
  aliases = {
    "sales" = ["alice", "bob"]
    {{.Alias}}
  }
  {{.Domain}}
}

domain "example.net" {
  catch_all = "carol@example.test"
}
{{.More}}
`))

// site is a configuration and the data directory beside it.
type site struct {
	dir, file, data string
}

func newSite(t *testing.T, s settings) *site {
	t.Helper()
	dir := t.TempDir()
	at := &site{dir: dir, file: filepath.Join(dir, "mox-like.hcl"), data: filepath.Join(dir, "data")}
	at.configure(t, s)
	return at
}

// configure writes the configuration, as an editor does that replaces files.
func (s *site) configure(t *testing.T, with settings) {
	t.Helper()
	var text bytes.Buffer
	if err := configuration.Execute(&text, with); err != nil {
		t.Fatal(err)
	}
	s.write(t, text.Bytes())
}

func (s *site) write(t *testing.T, text []byte) {
	t.Helper()
	if err := os.WriteFile(s.file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.file+".new", s.file); err != nil {
		t.Fatal(err)
	}
}

// line finds the number of the first line of the configuration that has a text.
func (s *site) line(t *testing.T, text string) int {
	t.Helper()
	config, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(config), text)
	if !found {
		t.Fatalf("the configuration has no %q", text)
	}
	return strings.Count(before, "\n") + 1
}

// command makes a command of the program on this site.
func (s *site) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, binary, append(args, "--config", s.file)...)
	cmd.Dir = s.dir
	return cmd
}

// do runs a command of the program, which must succeed, and gives its output.
func (s *site) do(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, s.command(t, args...))
	if r.code != 0 {
		t.Fatalf("mox-like %s: exit status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// status asks the server of this site; nil if none answers.
func (s *site) status(t *testing.T) *control.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := control.Connect(ctx, s.data)
	if err != nil {
		return nil
	}
	defer func() { _ = client.Close() }()
	status, err := client.Status(ctx)
	if err != nil {
		return nil
	}
	return status
}

// process is a server that runs.
type process struct {
	*site
	cmd       *exec.Cmd
	addresses map[string]string
	logName   string
	ended     chan struct{} // closed when it has ended
}

// launch starts a command of the program that serves. It is killed at the end of
// the test if it still runs, and its output is shown if the test failed.
func (s *site) launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	log, err := os.CreateTemp(s.dir, "log-*")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C in a terminal is for the test alone
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", cmd.Args, err)
	}
	p := &process{site: s, cmd: cmd, logName: log.Name(), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // the exit status is in ProcessState
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of %v, the end of it:\n%s", cmd.Args, tail(p.log(t), 25))
		}
	})
	return p
}

// start runs the server and waits until it serves.
func (s *site) start(t *testing.T) *process {
	t.Helper()
	cmd := exec.Command(binary, "run", "--config", s.file)
	cmd.Dir = s.dir
	p := s.launch(t, cmd)
	p.ready(t)
	return p
}

// serve runs the server and makes accounts.
func (s *site) serve(t *testing.T, accounts ...string) *process {
	t.Helper()
	p := s.start(t)
	client, err := control.Connect(t.Context(), s.data)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, address := range accounts {
		if err := client.AddUser(t.Context(), address, mail.Secret(password)); err != nil {
			t.Fatalf("add %s: %v", address, err)
		}
	}
	return p
}

// ready waits until the server answers, and learns where it listens.
func (p *process) ready(t *testing.T) {
	t.Helper()
	eventually(t, "the server serves", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the server ended by itself, with %s", p.cmd.ProcessState)
		default:
		}
		status := p.status(t)
		if status == nil {
			return false
		}
		p.addresses = make(map[string]string)
		for _, l := range status.Listeners {
			p.addresses[l.Name] = l.Addresses[0]
		}
		return true
	})
}

// address gives where a listener listens.
func (p *process) address(t *testing.T, listener string) string {
	t.Helper()
	address := p.addresses[listener]
	if address == "" {
		t.Fatalf("the server has no listener %q", listener)
	}
	return address
}

// signal sends a signal to this process alone.
func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("send %v: %v", sig, err)
	}
}

// wait gives the exit status of a process that ends.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	eventually(t, "the server ends", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the server as a service manager does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("after SIGTERM the server exits with %d", code)
	}
}

// kill ends the process as a crash does, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// log gives what the process has printed so far.
func (p *process) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.logName)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tail gives the last lines of a text.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
