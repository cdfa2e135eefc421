package e2e

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/test/daemon"
)

// spamdSettings are rules of this test's. What spamd thinks of addresses that are for
// documentation does not count.
const spamdSettings = `
use_bayes 0
body E2E_OFFER /one hundred lanterns/
score E2E_OFFER 4.5
body E2E_LUNCH /lunch is at noon/
score E2E_LUNCH -0.3
score RCVD_ILLEGAL_IP 0
score RDNS_NONE 0.1
header E2E_ROBERT EnvelopeFrom =~ /^<?robert\@example\.org>?$/
score E2E_ROBERT 0.1
`

// content is the chain of the example for the question what is in a message.
func content(clamd, spamd backend.Address) string {
	return fmt.Sprintf(`
attachments {
  encrypted = "tag"
}
clamav {
  address  = "%s"
  infected = "reject"
  on_error = "continue"
}
spamassassin {
  address    = "%s"
  user       = "recipient"
  quarantine = 5.0
  reject     = 10.0
  on_error   = "continue"
}
headers {
  remove = ["X-Internal"]
  add    = { "X-Checked-By" = "mx.example.test" }
}
score "unproven" {
  when       = tx.dmarc == "fail"
  tag        = 2
  quarantine = 4
}
score {
  quarantine = 5
}
authres {}
`, clamd, spamd)
}

// withFile is a message with a file in Base64 from robert, signed.
func withFile(t *testing.T, subject, name string, file []byte) string {
	t.Helper()
	wire := strings.TrimSuffix(attachment(subject, name, file), ".\r\n")
	return sign(t, strings.Replace(wire, stranger, robert, 1))
}

// archived is a zip archive with one file in it.
func archived(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create(name)
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestContent has the whole chain of the example judge mail, with a real clamd and a
// real spamd, until that one is killed.
func TestContent(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{})
	spamd := daemon.Run(t, daemon.Spamd{Settings: spamdSettings})
	server := dnstest.Serve(t, identities+published(t, "example.org"))
	s := newSite(t, settings{MX: balanced, Chain: authentication + content(clamd.Unix, spamd.Unix), More: administered + resolving(server.Addr(), "trust_ad = [\"127.0.0.1\"]")})
	p := s.serve(t, alice)

	t.Run("refused", p.refusesContent)
	t.Run("kept out of the inbox", p.quarantinesContent)
	t.Run("delivered", p.deliversContent)
	spamd.Kill()
	t.Run("without spamd", p.withoutSpamd)
}

// refusesContent brings what is refused, and looks whether the trace tells why.
func (p *process) refusesContent(t *testing.T) {
	virus := strings.Replace(strings.TrimSuffix(plain("Virus", daemon.EICAR), ".\r\n"), stranger, robert, 1)
	for name, test := range map[string]struct {
		client, from, text            string
		reply, handler, reason, shown string
	}{
		"GTUBE": {
			origin, robert, sign(t, written(robert, "GTUBE", daemon.GTUBE)),
			"550 5.7.1 Message looks like spam", "spamassassin", "score 10", "GTUBE 1000",
		},
		"a program in an archive": {
			origin, robert, withFile(t, "Program", "invoice.zip", archived(t, "papers/invoice.exe", "MZ")),
			"550 5.7.1 Attachment not allowed: ", "attachments", "invoice.exe", "invoice.exe",
		},
		"a virus in an archive": {
			origin, robert, withFile(t, "Virus in an archive", "letter.zip", archived(t, "letter.txt", daemon.EICAR)),
			"554 5.7.1 Message contains a virus: Eicar-Test-Signature", "clamav", "Eicar-Test-Signature", "Eicar-Test-Signature",
		},
		"a virus": {
			origin, robert, virus,
			"554 5.7.1 Message contains a virus: Eicar-Test-Signature", "clamav", "Eicar-Test-Signature", "Eicar-Test-Signature",
		},
		"a forged message": {
			elsewhere, "bounces@example.com", written(robert, "Forged", daemon.GTUBE),
			"550 5.7.26 ", "dmarc", "example.org: fail, p=reject", "example.org: fail, p=reject",
		},
	} {
		id, reply := p.arrive(t, "mx", test.client, test.from, test.text, alice)
		if !strings.HasPrefix(reply, test.reply) {
			t.Errorf("%s is answered with %q, want %q", name, reply, test.reply)
			continue
		}
		r := p.trace(t, id)
		if e := r.at(t, "data", test.handler); r.Outcome.Handler != test.handler || e.Action != "reject" || !strings.Contains(e.Reason, test.reason) {
			t.Errorf("%s: the trace says %+v", name, r)
		}
		find(t, p.do(t, "trace", id), `^  data +`+test.handler+` +reject .*`+test.shown)
		if test.handler == "attachments" && !strings.Contains(reply, "invoice.exe") {
			t.Errorf("the reply does not name the file: %q", reply)
		}
	}
	r := p.read(t, alice)
	if inbox, junk := r.messages(t, "INBOX"), r.messages(t, "Junk"); len(inbox)+len(junk) > 0 {
		t.Errorf("what is refused is stored: %v %v", inbox, junk)
	}
}

// quarantinesContent brings mail for Junk: for its points, which no handler alone
// gives, and for points that are enough if DMARC fails, too.
func (p *process) quarantinesContent(t *testing.T) {
	const offer = "Dear Alice,\r\n\r\nwe have one hundred lanterns for you, at half of the price.\r\n\r\nRobert"
	// The client has no name, which is one point more.
	id, reply := p.arrive(t, "mx", "192.0.2.4", robert, sign(t, written(robert, "By the sum", offer)), alice)
	if reply != "" {
		t.Fatalf("what belongs into Junk is refused: %s", reply)
	}
	r := p.trace(t, id)
	if e := r.at(t, "data", "spamassassin"); e.Action != "continue" || !strings.Contains(e.Reason, "E2E_OFFER 4.5") || !strings.Contains(e.Reason, "RDNS_NONE 0.1") {
		t.Errorf("the trace of spamassassin says %+v", e)
	}
	e := r.at(t, "data", "score")
	if e.Action != "quarantine" || !strings.Contains(e.Reason, "rdns 1") || !strings.Contains(e.Reason, "spamassassin 4") || !strings.Contains(e.Reason, "quarantined from 5 on") {
		t.Errorf("the trace of score says %+v", e)
	}
	if e := r.at(t, "data", "unproven"); e.Note != "skipped" {
		t.Errorf("the trace of the score for what fails says %+v", e)
	}
	find(t, p.do(t, "trace", id), `^  data +score +quarantine .*quarantined from 5 on`)

	const news = "offers@news.example.com"
	id, reply = p.arrive(t, "mx", origin, robert, written(news, "Unproven", offer), alice)
	if reply != "" {
		t.Fatalf("what belongs into Junk is refused: %s", reply)
	}
	r = p.trace(t, id)
	if e := r.at(t, "data", "dmarc"); e.Action != "continue" || !strings.HasPrefix(e.Reason, "news.example.com: fail, p=none") {
		t.Errorf("the trace of dmarc says %+v", e)
	}
	if e := r.at(t, "data", "unproven"); e.Action != "quarantine" {
		t.Errorf("the trace of the score for what fails says %+v", e)
	}

	mailboxes := p.read(t, alice)
	if inbox := mailboxes.messages(t, "INBOX"); len(inbox) != 0 {
		t.Errorf("the inbox has %v", inbox)
	}
	var junk []string
	for _, m := range mailboxes.messages(t, "Junk") {
		junk = append(junk, m.field("Subject"))
		if !strings.Contains(m.field("X-Spam-Status"), "E2E_OFFER=4.5") {
			t.Errorf("%s has the X-Spam-Status %q", m.field("Subject"), m.field("X-Spam-Status"))
		}
	}
	if diff := cmp.Diff([]string{"By the sum", "Unproven"}, junk); diff != "" {
		t.Errorf("Junk (-want +got):\n%s", diff)
	}
}

// deliversContent brings good mail, with fields of a spam filter that is not ours.
func (p *process) deliversContent(t *testing.T) {
	const forged = "X-Spam-Status: No, score=-100\r\nX-Spam-Level: forged\r\nX-Spam-Flag: NO\r\nX-Spam-Checker-Version: forged\r\nX-Internal: forged\r\nX-Virus-Status: forged\r\n"
	id, reply := p.arrive(t, "mx", origin, robert, forged+sign(t, written(robert, "Lunch", lunch)), alice)
	if reply != "" {
		t.Fatalf("good mail is refused: %s", reply)
	}
	r := p.trace(t, id)
	if e := r.at(t, "data", "spamassassin"); e.Action != "continue" || !strings.Contains(e.Reason, "below all thresholds") || !strings.Contains(e.Reason, "E2E_LUNCH -0.3") ||
		!strings.Contains(e.Reason, "E2E_ROBERT 0.1") || strings.Contains(e.Reason, "RDNS_NONE") {
		t.Errorf("the trace of spamassassin says %+v", e)
	}
	for _, handler := range []string{"dkim_verify", "dmarc", "attachments", "clamav", "spamassassin", "headers", "score", "authres"} {
		if e := r.at(t, "data", handler); e.Action != "continue" || e.Note != "" || e.Reason == "" {
			t.Errorf("the trace of %s says %+v", handler, e)
		}
	}
	inbox := p.stored(t)
	m := inbox["Lunch"]
	if len(inbox) != 1 || strings.Contains(m.Text, "forged") || strings.Contains(m.Text, "-100") {
		t.Errorf("the inbox has %d messages, and this:\n%s", len(inbox), m.Text)
	}
	for name, want := range map[string]string{
		"X-Spam-Flag": "NO", "X-Spam-Status": "No, score=", "X-Virus-Status": "Clean", "X-Checked-By": "mx.example.test",
		"Authentication-Results": "mx.example.test; iprev=pass ",
	} {
		if got := m.field(name); !strings.HasPrefix(got, want) || strings.Count(m.Text, "\n"+name+":") != 1 {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// withoutSpamd brings what only spamd would know.
func (p *process) withoutSpamd(t *testing.T) {
	const messages = 7
	before := len(p.stored(t))
	for n := range messages {
		id, reply := p.arrive(t, "mx", origin, robert, written(robert, fmt.Sprintf("Meanwhile %d", n), daemon.GTUBE), alice)
		if reply != "" {
			t.Fatalf("without spamd mail is refused: %s", reply)
		}
		r := p.trace(t, id)
		if e := r.at(t, "data", "spamassassin"); e.Note != "resting" && (e.Note != "error" || !strings.Contains(e.Reason, "connect to spamd at unix:")) {
			t.Errorf("message %d: the trace of spamassassin says %+v", n, e)
		}
		if e := r.at(t, "data", "clamav"); !strings.HasPrefix(e.Reason, "clean") {
			t.Errorf("message %d: the trace of clamav says %+v", n, e)
		}
	}
	if got := len(p.stored(t)) - before; got != messages {
		t.Errorf("%d of %d messages are there", got, messages)
	}
	find(t, p.do(t, "status"), `^handler +spamassassin of "mx": (?:resting|failing) since .*; `+strconv.Itoa(messages)+` errors, `+strconv.Itoa(messages)+` let pass; .*spamd\.sock`)
	found := p.figures(t)
	for name, want := range map[string]string{"handler_errors_total": "7", "handler_passed_total": "7", "handler_failing": "1"} {
		if got := figure(t, found, "mox_like_"+name, `handler="spamassassin"`, `listener="mx"`); got != want {
			t.Errorf("mox_like_%s is %q, want %s", name, got, want)
		}
	}
	for _, h := range p.status(t).Handlers {
		if failing := h.State != control.StateOK; failing != (h.Handler == "spamassassin") {
			t.Errorf("the status has %+v", h)
		}
	}
}
