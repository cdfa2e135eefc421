package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// eicar is the file that every virus scanner calls a virus (https://www.eicar.org).
// It is in two pieces so that none does so with this one.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// clamd runs a real clamd that knows one signature, and gives its socket and a
// function that kills it. It can be started again on the same directory.
func clamd(t *testing.T, dir string) (socket string, kill func()) {
	t.Helper()
	path := program(t, "clamd")
	socket = filepath.Join(dir, "clamd.sock")
	files := map[string]string{
		"test.ndb": "Eicar-Test-Signature:0:*:" + hex.EncodeToString([]byte(eicar)) + "\n",
		"clamd.conf": strings.NewReplacer("DIR", dir).Replace(`Foreground yes
LocalSocket DIR/clamd.sock
DatabaseDirectory DIR
OfficialDatabaseOnly no
TemporaryDirectory DIR
LogFile DIR/clamd.log
SelfCheck 0
StreamMaxLength 25M
MaxFileSize 25M
AlertExceedsMax yes
Bytecode no
PhishingSignatures no
`),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, "--config-file="+filepath.Join(dir, "clamd.conf"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start clamd: %v", err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()         // it was killed
	})
	t.Cleanup(kill)
	eventually(t, "clamd answers", func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		defer conn.Close()
		answer := make([]byte, 5)
		_, err = io.WriteString(conn, "zPING\x00")
		if err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		return err == nil && string(answer) == "PONG\x00"
	})
	return socket, kill
}

// hungClamd is a socket that takes connections and never answers.
func hungClamd(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "hung.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, conn := range conns {
			conn.Close()
		}
	})
	return socket
}

// scanning is a listener whose chain has a scanner with these settings.
func scanning(name, socket, clamav string) string {
	return fmt.Sprintf(`
listener "smtp" %q {
  address = "127.0.0.1:0"
  chain {
    clamav {
      address = "unix:%s"
      %s
    }
    deliver {}
  }
}
`, name, socket, clamav)
}

// attachment gives a message with a file in Base64, as it goes over the wire.
func attachment(subject, name string, content []byte) string {
	return "From: <" + stranger + ">\r\nSubject: " + subject + "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n" +
		"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=" + name + "\r\n\r\n" +
		base64.StdEncoding.EncodeToString(content) + "\r\n--b--\r\n.\r\n"
}

func plain(subject, text string) string {
	return "From: <" + stranger + ">\r\nSubject: " + subject + "\r\nX-Virus-Status: forged\r\n\r\n" + text + "\r\n.\r\n"
}

func zipped(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("file.com")
	if err == nil {
		_, err = io.WriteString(f, content)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// try sends a message to alice in a session of its own. It gives the id, or what
// the server answers.
func (p *process) try(t *testing.T, listener, wire string) (id, refused string) {
	t.Helper()
	s := connect(t, p.address(t, listener))
	id, err := s.send([]byte(wire), alice)
	r, ok := errors.AsType[*refusal](err)
	if err != nil && !ok {
		t.Fatalf("send by %s: %v", listener, err)
	}
	if err := s.quit(); err != nil {
		t.Fatal(err)
	}
	if ok {
		refused = r.reply
	}
	return id, refused
}

// TestClamdFinds shows each policy for messages with and without a virus.
func TestClamdFinds(t *testing.T) {
	t.Parallel()
	socket, _ := clamd(t, t.TempDir())
	p := newSite(t, settings{
		More: scanning("rejects", socket, `infected = "reject"`) +
			scanning("quarantines", socket, `infected = "quarantine"`) +
			scanning("tags", socket, `infected = "tag"`),
	}).serve(t, alice)

	infected := map[string]string{
		"plain":  plain("plain", eicar),
		"base64": attachment("base64", "file.com", []byte(eicar)),
		"zip":    attachment("zip", "file.zip", zipped(t, eicar)),
	}
	for name, wire := range infected {
		_, reply := p.try(t, "rejects", wire)
		id := find(t, reply, `^554 5\.7\.1 Message contains a virus: Eicar-Test-Signature.* \(id ([0-9a-z]+)\)$`)
		r := p.trace(t, id)
		if e := r.at(t, "data", "clamav"); r.Outcome.Handler != "clamav" || e.Action != "reject" || !strings.Contains(e.Reason, "infected with Eicar-Test-Signature") {
			t.Errorf("%s: the trace says %+v", name, r)
		}
		if id, reply := p.try(t, "quarantines", wire); id == "" {
			t.Errorf("%s: quarantine refuses: %s", name, reply)
		}
		if id, reply := p.try(t, "tags", wire); id == "" {
			t.Errorf("%s: tag refuses: %s", name, reply)
		}
	}
	clean := map[string]string{
		"clean plain": plain("clean plain", "Nothing to see."),
		"clean zip":   attachment("clean zip", "file.zip", zipped(t, "Nothing to see.")),
	}
	for name, wire := range clean {
		id, reply := p.try(t, "rejects", wire)
		if id == "" {
			t.Fatalf("%s is refused: %s", name, reply)
		}
		if e := p.trace(t, id).at(t, "data", "clamav"); e.Action != "continue" || !strings.HasPrefix(e.Reason, "clean") {
			t.Errorf("%s: the trace says %+v", name, e)
		}
	}

	r := p.read(t, alice)
	status := func(mailbox string) map[string]string {
		list := make(map[string]string)
		for _, m := range r.messages(t, mailbox) {
			list[m.field("Subject")] = m.field("X-Virus-Status")
			if strings.Contains(m.Text, "forged") {
				t.Errorf("%s keeps the field that came with it:\n%s", m.field("Subject"), m.Text)
			}
		}
		return list
	}
	inbox, junk := status("INBOX"), status("Junk")
	for name := range infected {
		if !strings.HasPrefix(inbox[name], "Infected (Eicar-Test-Signature") || !strings.HasPrefix(junk[name], "Infected (Eicar-Test-Signature") {
			t.Errorf("%s has the status %q in INBOX (tagged) and %q in Junk (quarantined)", name, inbox[name], junk[name])
		}
	}
	for name := range clean {
		if inbox[name] != "Clean" {
			t.Errorf("%s has the status %q in INBOX", name, inbox[name])
		}
	}
	if len(inbox) != len(infected)+len(clean) || len(junk) != len(infected) {
		t.Errorf("INBOX has %v, Junk %v", inbox, junk)
	}
}

// TestClamdFails kills clamd under the server, and has it hang.
func TestClamdFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, kill := clamd(t, dir)
	hung := hungClamd(t)
	p := newSite(t, settings{
		More: scanning("open", socket, `on_error = "continue"`) +
			scanning("strict", socket, `on_error = "defer"`) +
			scanning("hung-open", hung, "on_error = \"defer\"\n on_timeout = \"continue\"\n timeout = \"200ms\"") +
			scanning("hung-strict", hung, "on_error = \"continue\"\n on_timeout = \"defer\"\n timeout = \"200ms\""),
	}).serve(t, alice)
	for _, listener := range []string{"open", "strict"} {
		if _, reply := p.try(t, listener, plain("before", eicar)); !strings.HasPrefix(reply, "554 5.7.1 ") {
			t.Fatalf("%s lets a virus pass: %s", listener, reply)
		}
	}
	kill()
	for _, test := range []struct{ open, strict, note, reason string }{
		{"open", "strict", "error", "connect to clamd at unix:" + socket},
		{"hung-open", "hung-strict", "timeout", "clamd hangs"},
	} {
		var notes []string
		for n := range 7 {
			id, reply := p.try(t, test.open, plain("meanwhile", "Text."))
			if id == "" {
				t.Fatalf("message %d by %s: %s", n, test.open, reply)
			}
			e := p.trace(t, id).at(t, "data", "clamav")
			notes = append(notes, e.Note)
			if e.Note == test.note && !strings.Contains(e.Reason, test.reason) {
				t.Errorf("%s: the trace gives the reason %q, not %q", test.open, e.Reason, test.reason)
			}
		}
		if got := strings.Join(notes, " "); got != strings.Repeat(test.note+" ", 5)+"resting resting" {
			t.Errorf("%s: the traces have the notes %q", test.open, got)
		}
		_, reply := p.try(t, test.strict, plain("refused", "Text."))
		id := find(t, reply, `^451 4\.\d\.\d .*\(id ([0-9a-z]+)\)$`)
		if r := p.trace(t, id); r.Outcome.Action != "defer" || r.Outcome.Handler != "clamav" {
			t.Errorf("%s: the trace says %+v", test.strict, r)
		}
		if strings.Contains(reply, socket) || strings.Contains(reply, hung) {
			t.Errorf("the client learns of the inside: %s", reply)
		}
	}

	// With clamd back, the handler that rests tries again by itself.
	clamd(t, dir)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	eventually(t, "the virus is found again", func() bool {
		<-tick.C
		_, reply := p.try(t, "open", plain("after", eicar))
		return strings.HasPrefix(reply, "554 5.7.1 ")
	})
}
