package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// freePorts gives ports that nobody listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// demo runs the demo in the site's directory, with its output in a file, and
// waits until it has printed its page, which it gives.
func (s *site) demo(t *testing.T, ports []string) (*process, string) {
	t.Helper()
	cmd := exec.Command(binary, "demo", "--dir", s.dir,
		"--smtp-port", ports[0], "--submission-port", ports[1], "--starttls-port", ports[2], "--imap-port", ports[3])
	p := s.launch(t, cmd)
	eventually(t, "the demo says what to do", func() bool { return strings.Contains(p.log(t), "Ctrl-C ends the demo.\n\n") })
	return p, p.log(t)
}

// paste runs each line of a part of the page, as it is printed, in a shell that
// finds mox-like. The results are by the line.
func paste(t *testing.T, lines string) map[string]result {
	t.Helper()
	path := filepath.Dir(binary) + ":" + filepath.Dir(daemon.Program(t, "swaks")) + ":" + filepath.Dir(daemon.Program(t, "curl")) + ":" + os.Getenv("PATH")
	results := make(map[string]result)
	for line := range strings.Lines(lines) {
		cmd := command(t, "sh", "-c", strings.TrimSuffix(line, "\n"))
		cmd.Env = append(os.Environ(), "PATH="+path)
		results[line] = run(t, cmd)
	}
	return results
}

// TestDemo does what somebody does who tries the program: run it, paste what it
// prints, look at what it shows.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &site{dir: dir, file: filepath.Join(dir, "mox-like.hcl"), data: filepath.Join(dir, "data")}
	ports := freePorts(t, 4)
	p, page := s.demo(t, ports)
	for _, want := range []struct{ command, stdout string }{
		{`^swaks .* --from stranger@example\.org `, `(?s)^<-  250 2\.0\.0 OK: kept as `},
		{`^swaks .* --tlsc `, `^<~  250 2\.0\.0 OK: kept as `},
		{`^swaks .* -tls `, `^<~  250 2\.0\.0 OK: kept as `},
		{`^curl .*alice`, `^Hello from outside\.`},
		{`^curl .*bob`, `(?i)^From: alice@example\.test`},
		{`^\S*mox-like trace `, `^.*  message  .*<stranger@example\.org> to <alice@example\.test>`},
	} {
		found := false
		for line, r := range paste(t, grep(page, want.command)) {
			found = true
			if r.code != 0 || !regexp.MustCompile("(?m)"+want.stdout).MatchString(r.stdout) {
				t.Errorf("%s: exit status %d, no %s in\n%s%s", line, r.code, want.stdout, r.stdout, r.stderr)
			}
		}
		if !found {
			t.Errorf("the page has no command like %s:\n%s", want.command, page)
		}
	}
	for _, pattern := range []string{
		`  message  [0-9a-z]{18}  <stranger@example\.org> to <alice@example\.test>  from 127\.0\.0\.1  accept`,
		`  message  [0-9a-z]{18}  <alice@example\.test> to <bob@example\.test>  user alice@example\.test `,
		`^  data     deliver +accept .*mox-like\.hcl:\d+$`,
		`  login    [0-9a-z]{18}  .*user bob@example\.test `,
		`^  auth     password +continue .*mox-like\.hcl:\d+$`,
	} {
		live := regexp.MustCompile("(?m)" + pattern)
		eventually(t, "the demo shows "+pattern, func() bool { return live.MatchString(p.log(t)[len(page):]) })
	}
	if strings.Contains(p.log(t), "\x1b") {
		t.Error("the demo prints colours into a file")
	}
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != 0 {
		t.Errorf("after Ctrl-C the demo exits with %d", code)
	}

	again, secondPage := s.demo(t, ports)
	if secondPage != page {
		t.Errorf("the second run prints another page:\n%s\nthe first:\n%s", secondPage, page)
	}
	for line, r := range paste(t, grep(page, "^curl")) {
		if r.code != 0 || !strings.Contains(r.stdout, "Subject: ") {
			t.Errorf("after a restart, %s: exit status %d\n%s%s", line, r.code, r.stdout, r.stderr)
		}
	}
	again.stop(t)
}

// grep gives the lines that match.
func grep(text, pattern string) string {
	re := regexp.MustCompile(pattern)
	var b strings.Builder
	for line := range strings.Lines(text) {
		if re.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestDemoConfiguration begins a configuration of one's own with the demo's.
func TestDemoConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{})
	ports := freePorts(t, 4)
	printed := run(t, command(t, binary, "demo", "--print-config",
		"--smtp-port", ports[0], "--submission-port", ports[1], "--starttls-port", ports[2], "--imap-port", ports[3]))
	if printed.code != 0 {
		t.Fatalf("exit status %d: %s", printed.code, printed.stderr)
	}
	s.write(t, []byte(printed.stdout))
	if r := run(t, command(t, binary, "validate", "--strict", s.file)); r.code != 0 {
		t.Fatalf("validate: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if _, err := os.Stat(s.data); err == nil {
		t.Error("validate has made a data directory")
	}
	p := s.serve(t, alice)
	if r := swaks(t, "--server", p.address(t, "mx"), "--from", stranger, "--to", "all@example.test"); r.code != 0 {
		t.Errorf("exit status %d\n%s", r.code, r.stdout)
	}
	if got := len(p.read(t, alice).messages(t, "INBOX")); got != 1 {
		t.Errorf("alice has %d messages, want 1", got)
	}
	p.stop(t)
}
