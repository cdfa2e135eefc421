package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/test/daemon"
)

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
	socket := daemon.Run(t, daemon.Clamd{}).Unix.Name
	p := newSite(t, settings{
		More: scanning("rejects", socket, `infected = "reject"`) +
			scanning("quarantines", socket, `infected = "quarantine"`) +
			scanning("tags", socket, `infected = "tag"`),
	}).serve(t, alice)

	infected := map[string]string{
		"plain":  plain("plain", daemon.EICAR),
		"base64": attachment("base64", "file.com", []byte(daemon.EICAR)),
		"zip":    attachment("zip", "file.zip", archived(t, "file.com", daemon.EICAR)),
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
		"clean zip":   attachment("clean zip", "file.zip", archived(t, "file.com", "Nothing to see.")),
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
	clamd := daemon.Run(t, daemon.Clamd{})
	socket := clamd.Unix.Name
	hung := hungClamd(t)
	p := newSite(t, settings{
		More: scanning("open", socket, `on_error = "continue"`) +
			scanning("strict", socket, `on_error = "defer"`) +
			scanning("hung-open", hung, "on_error = \"defer\"\n on_timeout = \"continue\"\n timeout = \"200ms\"") +
			scanning("hung-strict", hung, "on_error = \"continue\"\n on_timeout = \"defer\"\n timeout = \"200ms\""),
	}).serve(t, alice)
	for _, listener := range []string{"open", "strict"} {
		if _, reply := p.try(t, listener, plain("before", daemon.EICAR)); !strings.HasPrefix(reply, "554 5.7.1 ") {
			t.Fatalf("%s lets a virus pass: %s", listener, reply)
		}
	}
	clamd.Kill()
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
	clamd.Restart(t)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	eventually(t, "the virus is found again", func() bool {
		<-tick.C
		_, reply := p.try(t, "open", plain("after", daemon.EICAR))
		return strings.HasPrefix(reply, "554 5.7.1 ")
	})
}
