package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/test/daemon"
)

// judged is a listener whose chain has rspamd with these settings.
func judged(name, address, more string) string {
	return fmt.Sprintf(`
listener "smtp" %q {
  address = "127.0.0.1:0"
  chain {
    rspamd {
      address = %q
      %s
    }
    deliver {}
  }
}
`, name, address, more)
}

// wanting is a message that tells rspamd what to say, see the rules of test/daemon.
func wanting(subject, fields string) string {
	return fields + written(stranger, subject, "Text.") + ".\r\n"
}

// TestRspamdJudges has each action of rspamd's meet a client and a mailbox.
func TestRspamdJudges(t *testing.T) {
	t.Parallel()
	d := daemon.Run(t, daemon.Rspamd{})
	p := newSite(t, settings{
		More: judged("socket", d.Unix.String(), "") +
			judged("tcp", d.TCP.String(), `greylist = "defer"`) +
			judged("junk", d.TCP.String(), "reject = \"quarantine\"\nadd_header = \"quarantine\""),
	}).serve(t, alice)
	refused := []struct{ listener, wire, reply, reason string }{
		{"socket", plain("gtube", daemon.GTUBE), "550 5.7.1 Gtube pattern ", "rspamd says reject (Gtube pattern), score 15 of 15"},
		{"socket", wanting("many points", "X-Test-Score: 30\r\n"), "550 5.7.1 Message looks like spam ", "TEST_SCORE 30 [option one, option two]"},
		{"tcp", wanting("soft", "X-Test-Action: soft reject\r\nX-Test-Message: Come back later\r\n"), "451 4.7.1 Come back later ", "rspamd says soft reject"},
		{"tcp", wanting("greylisted", "X-Test-Action: greylist\r\n"), "451 4.7.1 Try again later ", "rspamd says greylist"},
	}
	for _, test := range refused {
		_, reply := p.try(t, test.listener, test.wire)
		id := find(t, reply, `\(id ([0-9a-z]+)\)$`)
		if !strings.HasPrefix(reply, test.reply) {
			t.Errorf("reply %q, want %q", reply, test.reply)
		}
		if e := p.trace(t, id).at(t, "data", "rspamd"); !strings.Contains(e.Reason, test.reason) {
			t.Errorf("the trace says %q, want %q", e.Reason, test.reason)
		}
	}
	delivered := []struct{ listener, wire string }{
		{"socket", wanting("clean", "X-Spam: Yes\r\nX-Spam-Flag: YES\r\n")},
		{"tcp", wanting("marked", "X-Test-Action: add header\r\n")},
		{"tcp", wanting("renamed", "X-Test-Action: rewrite subject\r\n")},
		{"socket", wanting("grey", "X-Test-Action: greylist\r\n")},
		{"socket", wanting("changed", "X-Old: one\r\nX-Old: two\r\nX-Test-Milter: {\"add_headers\": {\"X-New\": {\"value\": \"three\\n\\tfour\", \"order\": 1}}, \"remove_headers\": {\"X-Old\": -1}}\r\n")},
		{"junk", plain("gtube to Junk", daemon.GTUBE)},
		{"junk", wanting("marked to Junk", "X-Test-Action: add header\r\n")},
	}
	for _, test := range delivered {
		if id, reply := p.try(t, test.listener, test.wire); id == "" {
			t.Fatalf("%s is refused: %s", test.wire, reply)
		}
	}
	r := p.read(t, alice)
	got := make(map[string]string)
	for _, mailbox := range []string{"INBOX", "Junk"} {
		for _, m := range r.messages(t, mailbox) {
			got[m.field("Subject")] = strings.Join([]string{mailbox, m.field("X-Spam"), m.field("X-Spam-Flag"), m.field("X-Mox-Like-Tags"), m.field("X-Old"), m.field("X-New")}, "|")
			if score, status := m.field("X-Spam-Score"), m.field("X-Spam-Status"); score == "" || !strings.Contains(status, "score="+score) {
				t.Errorf("%s has the score %q and the status %q", m.field("Subject"), score, status)
			}
		}
	}
	want := map[string]string{
		"clean":                "INBOX||NO|||",
		"marked":               "INBOX|Yes|YES|rspamd=spam||",
		"*** SPAM *** renamed": "INBOX|Yes|YES|rspamd=spam||",
		"grey":                 "INBOX||NO|rspamd=greylist||",
		"changed":              "INBOX||NO||one|three four",
		"gtube to Junk":        "Junk|Yes|YES|rspamd=spam||",
		"marked to Junk":       "Junk|Yes|YES|rspamd=spam||",
	}
	for subject, fields := range want {
		if got[subject] != fields {
			t.Errorf("%s is %q, want %q", subject, got[subject], fields)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the mailboxes have %q", got)
	}
}

// TestRspamdFails ends rspamd under the server, and starts it again.
func TestRspamdFails(t *testing.T) {
	t.Parallel()
	d := daemon.Run(t, daemon.Rspamd{})
	p := newSite(t, settings{
		More: judged("open", d.TCP.String(), `on_error = "continue"`) + judged("strict", d.TCP.String(), `on_error = "defer"`),
	}).serve(t, alice)
	for _, listener := range []string{"open", "strict"} {
		if _, reply := p.try(t, listener, plain("before", daemon.GTUBE)); !strings.HasPrefix(reply, "550 5.7.1 ") {
			t.Fatalf("%s lets spam pass: %s", listener, reply)
		}
	}
	d.Kill()
	var notes []string
	for n := range 7 {
		id, reply := p.try(t, "open", plain("meanwhile", daemon.GTUBE))
		if id == "" {
			t.Fatalf("message %d is refused: %s", n, reply)
		}
		e := p.trace(t, id).at(t, "data", "rspamd")
		notes = append(notes, e.Note)
		if e.Note == "error" && !strings.Contains(e.Reason, "connect to rspamd at "+d.TCP.String()) {
			t.Errorf("the trace gives the reason %q", e.Reason)
		}
	}
	if got := strings.Join(notes, " "); got != "error error error error error resting resting" {
		t.Errorf("the traces have the notes %q", got)
	}
	_, reply := p.try(t, "strict", plain("refused", "Text."))
	id := find(t, reply, `^451 4\.\d\.\d .*\(id ([0-9a-z]+)\)$`)
	if r := p.trace(t, id); r.Outcome.Action != "defer" || r.Outcome.Handler != "rspamd" {
		t.Errorf("the trace says %+v", r)
	}
	if strings.Contains(reply, d.TCP.Name) {
		t.Errorf("the client learns of the inside: %s", reply)
	}

	// With rspamd back, the handler that rests tries again by itself.
	d.Restart(t)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	eventually(t, "spam is found again", func() bool {
		<-tick.C
		_, reply := p.try(t, "open", plain("after", daemon.GTUBE))
		return strings.HasPrefix(reply, "550 5.7.1 ")
	})
}

// TestRspamdLearns has a user teach a real rspamd by moving mail into Junk and out
// of it.
func TestRspamdLearns(t *testing.T) {
	t.Parallel()
	d := daemon.Run(t, daemon.Rspamd{})
	p := newSite(t, settings{MX: balanced, More: administered, Chain: fmt.Sprintf(`
		rspamd {
		  address    = %q
		  controller = %q
		  password   = %q
		  learn      = true
		  reject     = "tag"
		}`, d.Unix, d.Controller, daemon.RspamdPassword)}).serve(t, alice)
	const (
		lessons = 6
		more    = "\r\nClaim jackpots, casino credits, discount pills, miracle diets and replica handbags; inherit a fortune of some prince overseas, double your money overnight without any risk."
		peace   = "\r\nVolunteers prune the old trees, paint fences, repair the wooden bench near the brook; afterwards there is soup with bread, and children may pick the last pears under the walnut."
	)
	r := p.read(t, alice)
	for n := range lessons {
		for mailbox, text := range map[string]string{"INBOX": bargain + more, "Junk": orchard + peace} {
			subject := fmt.Sprintf("%s %d", mailbox, n)
			if err := r.add(mailbox, written(stranger, subject, fmt.Sprintf("%s\r\nNumber %d of that kind is word%d.", text, n, n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.move(t, "INBOX", "Trash") // teaches nothing
	r.move(t, "Junk", "INBOX")
	p.learned(t, "told_total", "6")
	r.move(t, "Trash", "Junk")
	p.learned(t, "told_total", "12")
	for _, test := range []struct{ symbol, text string }{{"BAYES_SPAM", bargain + more}, {"BAYES_HAM", orchard + peace}} {
		id, reply := p.arrive(t, "mx", origin, robert, written(robert, "One more", test.text), alice)
		if reply != "" {
			t.Fatalf("what should be %s is refused: %s", test.symbol, reply)
		}
		if e := p.trace(t, id).at(t, "data", "rspamd"); !strings.Contains(e.Reason, test.symbol) {
			t.Errorf("the trace says %q, without %s", e.Reason, test.symbol)
		}
	}
}
