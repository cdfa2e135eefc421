package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// clamavMilter runs a real clamav-milter in front of a clamd.
func clamavMilter(t *testing.T, clamd *daemon.Daemon, more string) *daemon.Daemon {
	t.Helper()
	return daemon.Run(t, daemon.Milter{
		Program: "clamav-milter", Args: []string{"-c", "DIR/conf"},
		Settings: fmt.Sprintf("MilterSocket DIR/m.sock\nClamdSocket %s\nForeground true\nTemporaryDirectory DIR\nAddHeader Replace\nOnFail Defer\n%s", clamd.Unix, more),
	})
}

// spamassMilter runs a real spamass-milter in front of a spamd.
func spamassMilter(t *testing.T, spamd *daemon.Daemon, args ...string) *daemon.Daemon {
	t.Helper()
	return daemon.Run(t, daemon.Milter{Program: "spamass-milter", Args: slices.Concat([]string{"-p", "DIR/m.sock"}, args, []string{"--", "-U", spamd.Unix.Name})})
}

// milters is a listener whose chain has a milter.
func milters(name string, milter *daemon.Daemon, more string) string {
	return fmt.Sprintf(`
listener "smtp" %q {
  address = "127.0.0.1:0"
  chain {
    milter {
      address = %q
      %s
    }
    deliver {}
  }
}
`, name, milter.Unix, more)
}

// TestClamAVMilter has a real clamav-milter judge mail, and kills it.
func TestClamAVMilter(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{})
	rejects := clamavMilter(t, clamd, "OnInfected Reject\nRejectMsg Virus: %v\n")
	quarantines := clamavMilter(t, clamd, "OnInfected Quarantine\n")
	p := newSite(t, settings{
		More: milters("rejects", rejects, `on_error = "defer"`) + milters("quarantines", quarantines, "") + milters("open", rejects, `on_error = "continue"`),
	}).serve(t, alice)

	virus := attachment("virus", "file.zip", archived(t, "file.com", daemon.EICAR))
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

	rejects.Kill()
	_, reply = p.try(t, "rejects", plain("meanwhile", "Text."))
	id = find(t, reply, `^451 4\.\d\.\d .*\(id ([0-9a-z]+)\)$`)
	if e := p.trace(t, id).at(t, "data", "milter"); e.Note != "error" || !strings.Contains(e.Reason, "connect to the milter at "+rejects.Unix.String()) {
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
	spamd := daemon.Run(t, daemon.Spamd{Settings: spamdSettings})
	refuses := spamassMilter(t, spamd, "-r", "100")
	redirects := spamassMilter(t, spamd, "-b", bob)
	elsewhere := spamassMilter(t, spamd, "-b", "abuse@example.com")
	s := newSite(t, settings{
		More: milters("refuses", refuses, "") + milters("redirects", redirects, "") + milters("elsewhere", elsewhere, ""),
	})
	p := s.serve(t, alice, bob)
	_, reply := p.try(t, "refuses", plain("refused", daemon.GTUBE))
	find(t, reply, `^550 5\.7\.1 Blocked by SpamAssassin \(id ([0-9a-z]+)\)$`)
	if id, reply := p.try(t, "refuses", plain("good", "Lunch is at noon.")); id == "" {
		t.Fatalf("good mail is refused: %s", reply)
	}
	_, reply = p.try(t, "elsewhere", plain("elsewhere", daemon.GTUBE))
	id := find(t, reply, `^451 4\.7\.1 .*\(id ([0-9a-z]+)\)$`)
	if r := p.trace(t, id); r.Outcome.Handler != "milter" || r.Outcome.Action != "defer" {
		t.Errorf("what nobody takes: the trace says %+v", r.Outcome)
	}
	id, reply = p.try(t, "redirects", plain("redirected", daemon.GTUBE))
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
	if id, reply := p.try(t, "redirects", plain("redirected", daemon.GTUBE)); id == "" {
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
