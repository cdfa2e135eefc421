package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/test/daemon"
)

// signingKey is a key of DKIM in the forms that programs want.
type signingKey struct {
	algorithm string
	pem       []byte // PKCS #8
	dkimpy    []byte // PKCS #1 for RSA, the seed in base64 for Ed25519
	record    string // what the domain publishes
}

// signingKeys are an RSA key and an Ed25519 key, by their selectors. RSA keys take
// long to make, so there is one for all tests.
var signingKeys = sync.OnceValues(func() (map[string]signingKey, error) {
	slow, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	public, quick, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	slowPublic, err := x509.MarshalPKIXPublicKey(&slow.PublicKey)
	if err != nil {
		return nil, err
	}
	slowPrivate, err1 := x509.MarshalPKCS8PrivateKey(slow)
	quickPrivate, err2 := x509.MarshalPKCS8PrivateKey(quick)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	inBase64 := base64.StdEncoding.EncodeToString
	return map[string]signingKey{
		"slow": {
			algorithm: "rsa-sha256",
			pem:       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: slowPrivate}),
			dkimpy:    pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(slow)}),
			record:    "v=DKIM1; k=rsa; p=" + inBase64(slowPublic),
		},
		"quick": {
			algorithm: "ed25519-sha256",
			pem:       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: quickPrivate}),
			dkimpy:    []byte(inBase64(quick.Seed())),
			record:    "v=DKIM1; k=ed25519; p=" + inBase64(public),
		},
	}, nil
})

// keys gives the signing keys.
func keys(t *testing.T) map[string]signingKey {
	t.Helper()
	found, err := signingKeys()
	if err != nil {
		t.Fatalf("make keys: %v", err)
	}
	return found
}

// published gives the records of the keys under a domain, as in a zone file. A
// string in it has at most 255 bytes.
func published(t *testing.T, domain string) string {
	t.Helper()
	var zone strings.Builder
	for selector, key := range keys(t) {
		text := key.record
		fmt.Fprintf(&zone, "%s._domainkey.%s. TXT", selector, domain)
		for ; len(text) > 200; text = text[200:] {
			fmt.Fprintf(&zone, " %q", text[:200])
		}
		fmt.Fprintf(&zone, " %q\n", text)
	}
	return zone.String()
}

// dkimpy signs and verifies by the implementation that others wrote. It takes
// "sign" and SELECTOR=ALGORITHM=FILE of each key, or "verify" and the
// records as JSON.
const dkimpy = `
import json, sys
import dkim
message = sys.stdin.buffer.read()
if sys.argv[1] == "sign":
    for argument in sys.argv[2:]:
        selector, algorithm, path = argument.split("=", 2)
        with open(path, "rb") as f:
            key = f.read()
        sys.stdout.buffer.write(dkim.sign(message, selector.encode(), b"example.org", key,
            canonicalize=(b"relaxed", b"relaxed"), signature_algorithm=algorithm.encode()))
else:
    zone = json.loads(sys.argv[2])
    d = dkim.DKIM(message)
    for i in range(sum(1 for name, _ in d.headers if name.lower() == b"dkim-signature")):
        try:
            good = d.verify(idx=i, dnsfunc=lambda name, timeout=5: zone[name.decode().rstrip(".")].encode())
        except dkim.DKIMException as e:
            good = False
        print(d.signature_fields[b"s"].decode(), "pass" if good else "fail")
`

func runDkimpy(t *testing.T, text string, args ...string) string {
	t.Helper()
	cmd := command(t, "/usr/bin/python3", append([]string{"-c", dkimpy}, args...)...)
	cmd.Stdin = strings.NewReader(text)
	r := run(t, cmd)
	if r.code != 0 {
		t.Fatalf("dkimpy (apt-get install -y python3-dkim): exit status %d\n%s", r.code, r.stderr)
	}
	return r.stdout
}

// sign puts signatures of example.org by both keys on top of a message.
func sign(t *testing.T, text string) string {
	t.Helper()
	args := []string{"sign"}
	for selector, key := range keys(t) {
		args = append(args, selector+"="+key.algorithm+"="+file(t, selector, key.dkimpy))
	}
	return runDkimpy(t, text, args...) + text
}

// file writes a file that only its owner can read.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// arrive has a client behind the balancer send a message, without its final dot. It
// gives the id, and the reply if the message is refused.
func (p *process) arrive(t *testing.T, listener, client, from, text string, to ...string) (id, refused string) {
	t.Helper()
	conn, err := dialFrom(p.address(t, listener), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PROXY TCP4 "+client+" 192.0.2.1 40000 25\r\n"); err != nil {
		t.Fatal(err)
	}
	s, err := greet(conn)
	if err != nil {
		t.Fatal(err)
	}
	commands := []string{"EHLO mail.example.org", "MAIL FROM:<" + from + ">"}
	for _, recipient := range to {
		commands = append(commands, "RCPT TO:<"+recipient+">")
	}
	for _, line := range append(commands, "DATA") {
		if err := s.succeed(line); err != nil {
			t.Fatalf("%s of %s, from %s: %v", listener, from, client, err)
		}
	}
	id, err = s.finish([]byte(text + ".\r\n"))
	if r, ok := errors.AsType[*refusal](err); ok {
		return find(t, r.reply, `\(id ([0-9a-z]+)\)$`), r.reply
	} else if err != nil {
		t.Fatal(err)
	}
	return id, ""
}

// written is a message as mail programs write it.
func written(from, subject, body string) string {
	return fmt.Sprintf("From: Robert <%s>\r\nTo: Alice <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n",
		from, alice, subject, time.Now().Format(time.RFC1123Z), strings.ReplaceAll(subject, " ", "."), body)
}

const lunch = "Dear Alice,\r\n\r\nthe meeting is on Tuesday, and lunch is at noon.\r\n\r\nRobert"

// The clients of these tests: a server of example.org, and one of example.com,
// which forwards mail and sends what is forged.
const (
	origin    = "192.0.2.3"
	elsewhere = "198.51.100.9"
	robert    = "robert@example.org"
)

// identities are the records of those who send. news.example.com wants to know of
// forged mail and no more.
const identities = `
example.org. TXT "v=spf1 ip4:192.0.2.0/28 ip4:127.0.0.1 -all"
_dmarc.example.org. TXT "v=DMARC1; p=reject"
example.com. TXT "v=spf1 ip4:198.51.100.0/24 -all"
_dmarc.example.com. TXT "v=DMARC1; p=quarantine"
_dmarc.news.example.com. TXT "v=DMARC1; p=none"
3.2.0.192.in-addr.arpa. PTR mail.example.org.
mail.example.org. A 192.0.2.3
`

// authentication is the chain of the example for the question who has sent a
// message. Mail that is forwarded fails by SPF, so that alone refuses nothing.
const authentication = `
blocklist {}
ratelimit "connections" {
  key   = "ip"
  limit = "1000/1h"
}
rdns {
  missing_ptr = "score"
}
spf {
  fail = "tag"
}
greylist {
  mode = "monitor"
}
dkim_verify {}
dmarc {}
`

// TestAuthentication brings genuine, forged, changed and forwarded mail.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, identities+published(t, "example.org"))
	p := newSite(t, settings{
		MX: balanced, Chain: authentication + "score {}\nauthres {}",
		More: receiving("watching", "spf {\n fail = \"accept\"\n}\ndkim_verify {}\ndmarc {\n mode = \"monitor\"\n}\nauthres {}") + resolving(server.Addr(), ""),
	}).serve(t, alice)

	const other = "Authentication-Results: mx.example.org; auth=pass\r\n"
	const forgery = "Authentication-Results: mx.example.test; dmarc=pass header.from=example.com\r\n"
	genuine := forgery + other + sign(t, written(robert, "Genuine", lunch))
	id, reply := p.arrive(t, "mx", origin, robert, genuine, alice)
	if reply != "" {
		t.Fatalf("a genuine message is refused: %s", reply)
	}
	r := p.trace(t, id)
	if e := r.at(t, "data", "dkim_verify"); strings.Count(e.Reason, ": pass, ") != 2 || !strings.Contains(e.Reason, "example.org by slow rsa-sha256") {
		t.Errorf("the trace of dkim_verify says %+v", e)
	}
	if e := r.at(t, "data", "dmarc"); !strings.HasPrefix(e.Reason, "example.org: pass, p=reject of _dmarc.example.org") {
		t.Errorf("the trace of dmarc says %+v", e)
	}
	if e := r.at(t, "data", "authres"); !strings.Contains(e.Reason, "1 forged fields of mx.example.test removed") {
		t.Errorf("the trace of authres says %+v", e)
	}

	forged := written("robert@example.org", "Forged", "Send money.")
	id, reply = p.arrive(t, "mx", elsewhere, "bounces@example.com", forged, alice)
	if !strings.HasPrefix(reply, "550 5.7.26 ") || !strings.Contains(reply, "example.org") {
		t.Errorf("a forged message is answered with %q", reply)
	}
	r = p.trace(t, id)
	if e := r.at(t, "data", "dmarc"); r.Outcome.Handler != "dmarc" || e.Action != "reject" || !strings.HasPrefix(e.Reason, "example.org: fail, p=reject of _dmarc.example.org") ||
		!strings.Contains(e.Reason, "example.com") {
		t.Errorf("the trace of a forged message says %+v", r)
	}
	find(t, p.do(t, "trace", id), `^  data +dmarc +reject .*example\.org: fail, p=reject of _dmarc\.example\.org`)

	changed := strings.Replace(sign(t, written(robert, "Changed", lunch)), "Tuesday", "Monday", 1)
	id, reply = p.arrive(t, "mx", elsewhere, robert, changed, alice)
	if !strings.HasPrefix(reply, "550 5.7.26 ") {
		t.Errorf("a changed message is answered with %q", reply)
	}
	if e := p.trace(t, id).at(t, "data", "dkim_verify"); strings.Count(e.Reason, "the body was changed") != 2 {
		t.Errorf("the trace of a changed message says %+v", e)
	}

	forwarded := sign(t, written(robert, "Forwarded", lunch))
	if _, reply := p.arrive(t, "mx", elsewhere, robert, forwarded, alice); reply != "" {
		t.Errorf("forwarded mail is refused: %s", reply)
	}
	id, reply = p.arrive(t, "watching", elsewhere, "bounces@example.com", strings.Replace(forged, "Forged", "Watched", 1), alice)
	if reply != "" {
		t.Fatalf("what is only watched is refused: %s", reply)
	}
	if e := p.trace(t, id).at(t, "data", "dmarc"); e.Action != "reject" || e.Note != "monitor" || !strings.HasPrefix(e.Reason, "example.org: fail") {
		t.Errorf("the trace of what is only watched says %+v", e)
	}

	inbox := p.stored(t)
	for subject, want := range map[string][]string{
		"Genuine": {
			"mx.example.test; ", "spf=pass smtp.mailfrom=robert@example.org", "dkim=pass ", " header.d=example.org", " header.s=slow", " header.s=quick",
			" header.a=rsa-sha256", " header.a=ed25519-sha256", " header.b=", "dmarc=pass header.from=example.org",
		},
		"Forwarded": {"mx.example.test; ", "spf=fail ", "dkim=pass ", "dmarc=pass header.from=example.org"},
		"Watched":   {"mx.example.test; ", "spf=pass smtp.mailfrom=bounces@example.com", "dkim=none", "dmarc=fail ", "header.from=example.org"},
	} {
		results := inbox[subject].field("Authentication-Results")
		for _, part := range want {
			if !strings.Contains(results, part) {
				t.Errorf("%s: Authentication-Results has no %q: %s", subject, part, results)
			}
		}
	}
	text := inbox["Genuine"].Text
	if strings.Count(text, "Authentication-Results: mx.example.test;") != 1 || !strings.Contains(text, other) {
		t.Errorf("the fields of others stay, those in our name go, but here are\n%s", text)
	}
	if got := inbox["Forwarded"].field("X-Mox-Like-Tags"); !strings.Contains(got, "spf=fail") {
		t.Errorf("forwarded mail has the tags %q", got)
	}
	if len(inbox) != 3 {
		t.Errorf("the inbox has %d messages", len(inbox))
	}
}

// TestDMARCOfOneDomain gives a domain settings of its own while mail flows.
func TestDMARCOfOneDomain(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, identities)
	const checks = "spf {}\ndkim_verify {}\ndmarc {}\nauthres {}"
	s := newSite(t, settings{Chain: checks, More: receiving("world", checks) + resolving(server.Addr(), "")})
	p := s.serve(t, alice, dave)
	l := newLedger(t)
	stops := []func(){p.flow(t, l, alice+"/INBOX", true), p.flow(t, l, dave+"/INBOX", false)}
	const refused = "550 5.7.26 "
	forge := func(after, to, want, action, note string) {
		t.Helper()
		id, reply := p.arrive(t, "world", elsewhere, "offers@example.com", written("boss@example.org", "Forged", "Send money."), to)
		e := p.trace(t, id).at(t, "data", "dmarc")
		if !strings.HasPrefix(reply, want) || (want == "") != (reply == "") || e.Action != action || e.Note != note {
			t.Errorf("after %s a forged message to %s is answered with %q, want %q; the trace says %+v", after, to, reply, want, e)
		}
	}
	for _, step := range []struct {
		args                []string
		alice, action, note string
	}{
		{[]string{"set", "example.test", "dmarc.reject", "quarantine"}, "", "quarantine", ""},
		{[]string{"set", "example.test", "dmarc.mode", "monitor"}, "", "quarantine", "monitor"},
		{[]string{"unset", "example.test", "dmarc.mode"}, "", "quarantine", ""},
		{[]string{"set", "example.test", "dmarc.reject", "tag"}, "", "continue", ""},
		{[]string{"unset", "example.test", "dmarc.reject"}, refused, "reject", ""},
	} {
		after := strings.Join(step.args, " ")
		s.do(t, append([]string{"domain"}, step.args...)...)
		forge(after, alice, step.alice, step.action, step.note)
		forge(after, dave, refused, "reject", "")
	}
	for _, stop := range stops {
		stop()
	}
	if l.acknowledgements() == 0 {
		t.Error("no mail has flowed")
	}
	tags := make(map[string]int)
	for _, m := range p.read(t, alice).messages(t, "INBOX") {
		if m.field("Subject") == "Forged" {
			tags[m.field("X-Mox-Like-Tags")]++
		}
	}
	if diff := cmp.Diff(map[string]int{"": 1, "dmarc=fail": 1}, tags); diff != "" {
		t.Errorf("the tags of forged messages in the inbox (-want +got):\n%s", diff)
	}
	for user, want := range map[string]int{alice: 2, dave: 0} {
		if got := len(p.read(t, user).messages(t, "Junk")); got != want {
			t.Errorf("%s has %d messages in Junk, want %d", user, got, want)
		}
	}
}

// TestSigning has a user's messages signed by both keys, which programs of others
// verify in what is stored.
func TestSigning(t *testing.T) {
	t.Parallel()
	var blocks, list strings.Builder
	zone := make(map[string]string)
	for selector, key := range keys(t) {
		name := selector + "._domainkey.example.test"
		zone[name] = key.record
		fmt.Fprintf(&list, "%s %s\n", name, key.record)
		fmt.Fprintf(&blocks, " dkim {\n selector = %q\n key_file = %q\n }\n", selector, file(t, selector+".pem", key.pem))
	}
	s := newSite(t, settings{
		Sent:   "headers {\n add = { \"X-Sent-By\" = \"example.test\" }\n remove = [\"X-Mailer\"]\n}\ndkim_sign {\n headers = [\"X-Sent-By\"]\n}",
		Domain: blocks.String(),
	})
	p := s.serve(t, alice, bob)
	if r := run(t, s.command(t, "validate", "--strict")); r.code != 0 {
		t.Errorf("validate: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	id := p.submit(t, alice, bob, "From: Alice <"+alice+">\\nTo: Bob <"+bob+">\\nSubject: Signed\\nX-Mailer: swaks\\n\\nHello, Bob.\\n")
	e := p.trace(t, id).at(t, "data", "dkim_sign")
	for _, part := range []string{"signed for example.test", "slow (rsa-sha256, 2048-bit key)", "quick (ed25519-sha256, 256-bit key)"} {
		if !strings.Contains(e.Reason, part) {
			t.Errorf("the trace has no %q: %+v", part, e)
		}
	}
	// There is no key for another domain.
	id = p.submit(t, alice, bob, "From: Dave <"+dave+">\\nTo: Bob <"+bob+">\\nSubject: Not signed\\n\\nHello, Bob.\\n")
	if e := p.trace(t, id).at(t, "data", "dkim_sign"); !strings.HasPrefix(e.Reason, "not signed: ") {
		t.Errorf("the trace of what is not signed says %+v", e)
	}

	inbox := make(map[string]message)
	for _, m := range p.read(t, bob).messages(t, "INBOX") {
		inbox[m.field("Subject")] = m
	}
	if m := inbox["Not signed"]; m.field("DKIM-Signature") != "" || m.Text == "" {
		t.Errorf("bob has\n%s", m.Text)
	}
	signed := inbox["Signed"]
	if signed.field("Date") == "" || signed.field("Message-ID") == "" || signed.field("X-Sent-By") == "" || signed.field("X-Mailer") != "" {
		t.Errorf("fields are missing:\n%s", signed.Text)
	}
	records, err := json.Marshal(zone)
	if err != nil {
		t.Fatal(err)
	}
	opendkim := file(t, "opendkim.conf", []byte("Mode v\nTestPublicKeys "+file(t, "keys", []byte(list.String()))+"\nOn-KeyNotFound reject\nOn-BadSignature reject\n"))
	for name, test := range map[string]struct {
		edit func(string) string
		good bool
	}{
		"as it is":             {func(text string) string { return text }, true},
		"another Message-ID":   {func(text string) string { return strings.Replace(text, "Message-ID: <", "Message-ID: <x", 1) }, false},
		"another Date":         {func(text string) string { return strings.Replace(text, "Date: ", "Date: Tue, ", 1) }, false},
		"another of X-Sent-By": {func(text string) string { return strings.Replace(text, "X-Sent-By: ", "X-Sent-By: un", 1) }, false},
		"one more From":        {func(text string) string { return "From: boss@example.test\r\n" + text }, false},
		"one more Reply-To":    {func(text string) string { return "Reply-To: boss@example.test\r\n" + text }, false},
		"another body":         {func(text string) string { return text + "Send money.\r\n" }, false},
		"one more Received": {func(text string) string {
			return "Received: by mail.example.org; Sun, 1 Nov 2026 12:00:00 +0000\r\n" + text
		}, true},
		"one more X-Spam-Flag": {func(text string) string { return "X-Spam-Flag: NO\r\n" + text }, true},
	} {
		text := test.edit(signed.Text)
		want := map[bool]string{true: "pass", false: "fail"}[test.good]
		got := strings.Fields(runDkimpy(t, text, "verify", string(records)))
		if len(got) != 4 || got[1] != want || got[3] != want || got[0] == got[2] {
			t.Errorf("%s: dkimpy says %v, want %s twice", name, got, want)
		}
		r := run(t, command(t, daemon.Program(t, "opendkim"), "-x", opendkim, "-t", file(t, "message", []byte(text)), "-v", "-v"))
		if strings.Contains(r.stdout+r.stderr, "-bit key) succeeded") != test.good {
			t.Errorf("%s: opendkim says %s%s, want %s", name, r.stdout, r.stderr, want)
		}
	}
}

// submit has a user send a message, in which swaks makes line ends of \n.
func (p *process) submit(t *testing.T, user, to, data string) (id string) {
	t.Helper()
	sent := swaks(t, "--server", p.address(t, "submission"), "--tlsc", "--auth", "PLAIN", "--auth-user", user, "--auth-password", password,
		"--from", user, "--to", to, "--data", data)
	return expect(t, sent, 0, `250 2\.0\.0 OK`)
}
