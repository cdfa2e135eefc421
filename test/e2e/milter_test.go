package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// milterDaemon runs a milter that listens at a socket, and gives a function that kills
// it.
func milterDaemon(t *testing.T, socket, name string, args ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it has started goes with it
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	kill = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended already
		_ = cmd.Wait()                                      // it was killed
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(output.String(), 25))
		}
	})
	t.Cleanup(kill)
	eventually(t, name+" listens", func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return kill
}

// clamavMilter runs a real clamav-milter in front of a clamd.
func clamavMilter(t *testing.T, clamd string, more string) (socket string, kill func()) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "m.sock")
	config := file(t, "clamav-milter.conf", []byte(fmt.Sprintf("MilterSocket %s\nClamdSocket unix:%s\nForeground true\nTemporaryDirectory %s\nAddHeader Replace\nOnFail Defer\n%s", socket, clamd, dir, more)))
	return socket, milterDaemon(t, socket, "clamav-milter", "-c", config)
}

// spamassMilter runs a real spamass-milter in front of a spamd.
func spamassMilter(t *testing.T, spamd string, args ...string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "m.sock")
	milterDaemon(t, socket, "spamass-milter", append(append([]string{"-p", socket}, args...), "--", "-U", spamd)...)
	return socket
}

// milters is a listener whose chain has a milter.
func milters(name, socket, more string) string {
	return fmt.Sprintf(`
listener "smtp" %q {
  address = "127.0.0.1:0"
  chain {
    milter {
      address = "unix:%s"
      %s
    }
    deliver {}
  }
}
`, name, socket, more)
}

// TestClamAVMilter has a real clamav-milter judge mail, and kills it.
func TestClamAVMilter(t *testing.T) {
	t.Parallel()
	clam, _ := clamd(t, t.TempDir())
	rejects, kill := clamavMilter(t, clam, "OnInfected Reject\nRejectMsg Virus: %v\n")
	quarantines, _ := clamavMilter(t, clam, "OnInfected Quarantine\n")
	p := newSite(t, settings{
		More: milters("rejects", rejects, `on_error = "defer"`) + milters("quarantines", quarantines, "") + milters("open", rejects, `on_error = "continue"`),
	}).serve(t, alice)

	virus := attachment("virus", "file.zip", zipped(t, eicar))
	_, reply := p.try(t, "rejects", virus)
	id := find(t, reply, `^550 5\.7\.1 Virus: Eicar-Test-Signature.* \(id ([0-9a-z]+)\)$`)
	if r := p.trace(t, id); r.Outcome.Handler != "milter" || !strings.Contains(r.at(t, "data", "milter").Reason, "it refuses at end of message: 550 5.7.1 Virus: Eicar") {
		t.Errorf("the trace says %+v", r)
	}
	id, reply = p.try(t, "quarantines", virus)
	if id == "" {
		t.Fatalf("what belongs into Junk is refused: %s", reply)
	}
	if e := p.trace(t, id).at(t, "data", "milter"); e.Action != "quarantine" || !strings.Contains(e.Reason, "into quarantine") {
		t.Errorf("the trace says %+v", e)
	}
	for _, subject := range []string{"clean", "large"} {
		text := "Nothing to see."
		if subject == "large" {
			text = strings.Repeat("Nothing to see here.\r\n", 300_000)
		}
		if id, reply := p.try(t, "rejects", plain(subject, text)); id == "" {
			t.Fatalf("%s is refused: %s", subject, reply)
		}
	}
	r := p.read(t, alice)
	inbox, junk := r.messages(t, "INBOX"), r.messages(t, "Junk")
	if len(inbox) != 2 || len(junk) != 1 || junk[0].field("Subject") != "virus" {
		t.Fatalf("INBOX has %d messages, Junk %d", len(inbox), len(junk))
	}
	for _, m := range inbox {
		if m.field("X-Virus-Status") != "Clean" || strings.Contains(m.Text, "forged") || !strings.Contains(m.field("X-Virus-Scanned"), "clamav-milter") {
			t.Errorf("%s has the header section\n%s", m.field("Subject"), m.Text[:min(len(m.Text), 1000)])
		}
	}

	kill()
	_, reply = p.try(t, "rejects", plain("meanwhile", "Text."))
	id = find(t, reply, `^451 4\.\d\.\d .*\(id ([0-9a-z]+)\)$`)
	if e := p.trace(t, id).at(t, "data", "milter"); e.Note != "error" || !strings.Contains(e.Reason, "connect to the milter at unix:"+rejects) {
		t.Errorf("the trace says %+v", e)
	}
	if id, reply := p.try(t, "open", plain("unjudged", "Text.")); id == "" {
		t.Errorf("on_error = continue refuses: %s", reply)
	}
}

// TestSpamAssMilter has a real spamass-milter mark spam, refuse it, and send it to
// somebody else, which changes body and recipients. What it redirects survives a crash.
func TestSpamAssMilter(t *testing.T) {
	t.Parallel()
	spam, _ := spamd(t)
	refuses := spamassMilter(t, spam, "-r", "100")
	redirects := spamassMilter(t, spam, "-b", bob)
	elsewhere := spamassMilter(t, spam, "-b", "abuse@example.com")
	s := newSite(t, settings{
		More: milters("refuses", refuses, "") + milters("redirects", redirects, "") + milters("elsewhere", elsewhere, ""),
	})
	p := s.serve(t, alice, bob)
	_, reply := p.try(t, "refuses", plain("refused", gtube))
	find(t, reply, `^550 5\.7\.1 Blocked by SpamAssassin \(id ([0-9a-z]+)\)$`)
	if id, reply := p.try(t, "refuses", plain("good", "Lunch is at noon.")); id == "" {
		t.Fatalf("good mail is refused: %s", reply)
	}
	_, reply = p.try(t, "elsewhere", plain("elsewhere", gtube))
	id := find(t, reply, `^451 4\.7\.1 .*\(id ([0-9a-z]+)\)$`)
	if r := p.trace(t, id); r.Outcome.Handler != "milter" || r.Outcome.Action != "defer" {
		t.Errorf("what nobody takes: the trace says %+v", r.Outcome)
	}
	id, reply = p.try(t, "redirects", plain("redirected", gtube))
	if id == "" {
		t.Fatalf("what is redirected is refused: %s", reply)
	}
	e := p.trace(t, id).at(t, "data", "milter")
	for _, did := range []string{"it deletes the recipient " + alice, "it adds the recipient " + bob, "it adds X-Spam-Flag", "it replaces the body"} {
		if !strings.Contains(e.Reason, did) {
			t.Errorf("the trace does not say %q: %s", did, e.Reason)
		}
	}
	r := p.trace(t, id)
	if fmt.Sprint(r.Recipients) != fmt.Sprint([]string{bob}) {
		t.Errorf("the trace names the recipients %q", r.Recipients)
	}
	if id, reply := p.try(t, "redirects", plain("redirected", gtube)); id == "" {
		t.Fatalf("what is redirected is refused: %s", reply)
	}
	p.kill()
	p = s.start(t)
	if inbox := p.read(t, alice).messages(t, "INBOX"); len(inbox) != 1 || inbox[0].field("Subject") != "good" || !strings.HasPrefix(inbox[0].field("X-Spam-Status"), "No, score=") {
		t.Errorf("alice has %v", inbox)
	}
	inbox := p.read(t, bob).messages(t, "INBOX")
	if len(inbox) != 2 || inbox[1].field("X-Spam-Flag") != "YES" || inbox[1].field("X-Spam-Orig-To") != "<"+alice+">" || !strings.HasPrefix(inbox[1].field("Content-Type"), "multipart/mixed;") ||
		!strings.Contains(inbox[1].Text, "Content analysis details:") {
		t.Errorf("bob has %v", inbox)
	}
}
