package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/test/daemon"
)

// What swaks exits with when the server refuses something.
const (
	swaksMail = 23
	swaksRcpt = 24
	swaksData = 26
	swaksAuth = 28
)

// swaks runs a whole dialog and gives it.
func swaks(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, command(t, daemon.Program(t, "swaks"), append([]string{"--timeout", "20s"}, args...)...))
}

// curl asks the server for something by IMAPS. The certificate is checked.
func (p *process) curl(t *testing.T, user, path string, args ...string) string {
	t.Helper()
	args = append([]string{
		"--silent", "--show-error", "--max-time", "20", "--cacert", filepath.Join(p.data, "tls", "test.crt"),
		"--user", user + ":" + password, "imaps://" + p.address(t, "imaps") + "/" + path,
	}, args...)
	r := run(t, command(t, daemon.Program(t, "curl"), args...))
	if r.code != 0 {
		t.Fatalf("curl %s: exit status %d\n%s%s", path, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// find gives the first group of a pattern that must be there.
func find(t *testing.T, text, pattern string) string {
	t.Helper()
	found := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no %s in\n%s", pattern, text)
	}
	return found[len(found)-1]
}

// record is what trace --json prints, as programs see it.
type record struct {
	ID          string   `json:"id"`
	Session     string   `json:"session"`
	Kind        string   `json:"kind"`
	RemoteIP    string   `json:"remote_ip"`
	Listener    string   `json:"listener"`
	ReversePath string   `json:"reverse_path"`
	Recipients  []string `json:"recipients"`
	Outcome     struct {
		Action  string `json:"action"`
		Handler string `json:"handler"`
		Reply   string `json:"reply"`
	} `json:"outcome"`
	Entries []entry `json:"entries"`
}

type entry struct {
	Stage    string `json:"stage"`
	Handler  string `json:"handler"`
	Position string `json:"position"`
	Action   string `json:"action"`
	Reason   string `json:"reason"`
	Note     string `json:"note"`
}

// traces runs trace --json: one object a line.
func (s *site) traces(t *testing.T, args ...string) []record {
	t.Helper()
	var list []record
	lines := bufio.NewScanner(strings.NewReader(s.do(t, append([]string{"trace", "--json"}, args...)...)))
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("read line of trace --json: %v\n%s", err, lines.Text())
		}
		list = append(list, r)
	}
	return list
}

// trace gives the record of an id.
func (s *site) trace(t *testing.T, id string) record {
	t.Helper()
	list := s.traces(t, id)
	if len(list) != 1 || list[0].ID != id {
		t.Fatalf("trace --json %s gives %+v", id, list)
	}
	return list[0]
}

// at gives what a handler said at a stage.
func (r record) at(t *testing.T, stage, handler string) entry {
	t.Helper()
	i := slices.IndexFunc(r.Entries, func(e entry) bool { return e.Stage == stage && e.Handler == handler })
	if i < 0 {
		t.Fatalf("the trace has nothing of %s at %s: %+v", handler, stage, r)
	}
	return r.Entries[i]
}

// TestMessageIsFoundByItsID follows a message by the id of the last reply: in the
// mailbox, in both forms of the trace, and in the log.
func TestMessageIsFoundByItsID(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{Chain: "ratelimit \"strangers\" {\n key = \"ip\"\n limit = \"100/1m\"\n }"})
	p := site.serve(t, alice)
	sent := swaks(t, "--server", p.address(t, "mx"), "--from", stranger, "--to", alice,
		"--header", "Subject: Hello", "--body", "From outside.")
	id := find(t, sent.stdout, `^<-  250 2\.0\.0 OK: kept as ([0-9a-z]{18})$`)

	text := p.curl(t, alice, "INBOX;MAILINDEX=1")
	m := message{Text: text}
	if got := find(t, m.field("Received"), ` id ([0-9a-z]+)`); got != id {
		t.Errorf("the Received field has the id %s, the reply %s", got, id)
	}
	if m.field("Subject") != "Hello" || !strings.HasPrefix(m.body(), "From outside.") || m.field("Return-Path") != "<"+stranger+">" {
		t.Errorf("curl reads\n%s", text)
	}

	ratelimit := fmt.Sprintf("mox-like.hcl:%d", site.line(t, `ratelimit "strangers"`))
	deliver := fmt.Sprintf("mox-like.hcl:%d", site.line(t, "deliver {}"))
	shown := site.do(t, "trace", id)
	find(t, shown, `message +`+id+` +<`+stranger+`> to <`+alice+`> +from 127\.0\.0\.1 .*accept`)
	find(t, shown, `^  connect +strangers +continue .*`+regexp.QuoteMeta(ratelimit)+`$`)
	find(t, shown, `^  rcpt +deliver +accept .*`+regexp.QuoteMeta(deliver)+`$`)
	find(t, shown, `^  data +deliver +accept .*`+regexp.QuoteMeta(deliver)+`$`)

	r := site.trace(t, id)
	if r.Kind != "message" || r.Listener != "mx" || r.RemoteIP != "127.0.0.1" || r.ReversePath != stranger || !slices.Equal(r.Recipients, []string{alice}) {
		t.Errorf("trace --json gives %+v", r)
	}
	for _, want := range []struct{ stage, handler, action, position string }{
		{"connect", "strangers", "continue", ratelimit},
		{"rcpt", "deliver", "accept", deliver},
		{"data", "deliver", "accept", deliver},
	} {
		got := r.at(t, want.stage, want.handler)
		if got.Action != want.action || !strings.HasSuffix(got.Position, want.position) {
			t.Errorf("trace --json has %+v, want %+v", got, want)
		}
	}
	find(t, p.log(t), `^\{.*"msg":"message accepted".*"session_id":"`+r.Session+`","msg_id":"`+id+`"`)

	if r := run(t, site.command(t, "trace", "0000000000000000zz")); r.code != 2 || !strings.Contains(r.stderr, `no trace has the id "0000000000000000zz"`) {
		t.Errorf("the trace of an unknown id: exit status %d, %s", r.code, r.stderr)
	}
}

// TestSubmission logs in and sends, or is refused.
func TestSubmission(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{}).serve(t, alice, bob)
	login := []string{"--auth-user", alice, "--auth-password", password}
	wrong := []string{"--auth-user", alice, "--auth-password", "wrong"}
	for _, test := range []struct {
		name, listener string
		args           []string
		code           int
		reply          string
	}{
		{"implicit TLS, PLAIN", "submission", append([]string{"--tlsc", "--auth", "PLAIN", "--to", bob}, login...), 0, `250 2\.0\.0 OK: kept as `},
		{"implicit TLS, LOGIN", "submission", append([]string{"--tlsc", "--auth", "LOGIN", "--to", bob}, login...), 0, `250 2\.0\.0 OK: kept as `},
		{"STARTTLS, PLAIN", "starttls", append([]string{"-tls", "--auth", "PLAIN", "--to", bob}, login...), 0, `250 2\.0\.0 OK: kept as `},
		{"STARTTLS, LOGIN", "starttls", append([]string{"-tls", "--auth", "LOGIN", "--to", bob}, login...), 0, `250 2\.0\.0 OK: kept as `},
		{"wrong password, PLAIN", "submission", append([]string{"--tlsc", "--auth", "PLAIN", "--to", bob}, wrong...), swaksAuth, `535 5\.7\.8 Authentication credentials invalid`},
		{"wrong password, LOGIN", "starttls", append([]string{"-tls", "--auth", "LOGIN", "--to", bob}, wrong...), swaksAuth, `535 5\.7\.8 Authentication credentials invalid`},
		{
			"unknown user", "submission",
			[]string{"--tlsc", "--auth", "PLAIN", "--auth-user", "nobody@example.test", "--auth-password", password, "--to", bob},
			swaksAuth, `535 5\.7\.8 Authentication credentials invalid`,
		},
		{"no login", "submission", []string{"--tlsc", "--to", bob}, swaksMail, `530 5\.7\.0 Authentication required`},
		{"no TLS", "starttls", []string{"--to", bob}, swaksMail, `530 5\.7\.0 Must issue a STARTTLS command first`},
		{"login without TLS", "starttls", append([]string{"--auth", "PLAIN", "--to", bob}, login...), swaksAuth, `220 `},
		{"foreign recipient", "submission", append([]string{"--tlsc", "--auth", "PLAIN", "--to", "friend@example.org"}, login...), swaksRcpt, `550 5\.7\.1 `},
		{"unknown recipient", "submission", append([]string{"--tlsc", "--auth", "PLAIN", "--to", "nobody@example.test"}, login...), swaksRcpt, `550 5\.1\.1 `},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"--server", p.address(t, test.listener), "--from", alice, "--header", "Subject: " + test.name}, test.args...)
			got := swaks(t, args...)
			if got.code != test.code || !regexp.MustCompile(`(?m)^<[-~*]+ +`+test.reply).MatchString(got.stdout) {
				t.Errorf("exit status %d, want %d and the reply %s\n%s%s", got.code, test.code, test.reply, got.stdout, got.stderr)
			}
			if strings.Contains(got.stdout, " AUTH ") && !strings.Contains(got.stdout, "TLS started") {
				t.Errorf("AUTH is spoken of without TLS:\n%s", got.stdout)
			}
		})
	}
	want := []string{"implicit TLS, PLAIN", "implicit TLS, LOGIN", "STARTTLS, PLAIN", "STARTTLS, LOGIN"}
	if diff := cmp.Diff(want, p.read(t, bob).subjects(t)); diff != "" {
		t.Errorf("messages to bob (-want +got):\n%s", diff)
	}
	if strings.Contains(p.log(t), password) {
		t.Error("the log has a password in it")
	}
}

// TestRecipients sends as a stranger, and looks who got what.
func TestRecipients(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{}).serve(t, alice, bob, carol)
	got, want := make(map[string][]string), make(map[string][]string)
	for _, test := range []struct {
		name, from, to string
		code           int
		reply          string
		readers        []string
	}{
		{"account", stranger, alice, 0, `250 2\.0\.0 `, []string{alice}},
		{"upper case", stranger, "ALICE@Example.Test", 0, `250 2\.0\.0 `, []string{alice}},
		{"several", stranger, alice + "," + bob, 0, `250 2\.0\.0 `, []string{alice, bob}},
		{"subaddress", stranger, "bob+lists@example.test", 0, `250 2\.0\.0 `, []string{bob}},
		{"alias", stranger, "sales@example.test", 0, `250 2\.0\.0 `, []string{alice, bob}},
		{"alias and account are one copy", stranger, "sales@example.test," + alice, 0, `250 2\.0\.0 `, []string{alice, bob}},
		{"catch-all", stranger, "anybody@example.net", 0, `250 2\.0\.0 `, []string{carol}},
		{"postmaster", stranger, "postmaster@example.test", 0, `250 2\.0\.0 `, []string{alice}},
		{"postmaster of the other domain", stranger, "postmaster@example.net", 0, `250 2\.0\.0 `, []string{alice}},
		{"postmaster without a domain", stranger, "postmaster", 0, `250 2\.0\.0 `, []string{alice}},
		{"null reverse-path", "<>", bob, 0, `250 2\.0\.0 `, []string{bob}},
		{"relay", stranger, "friend@example.org", swaksRcpt, `550 5\.7\.1 Relaying denied`, nil},
		{"relay from a local address", alice, "friend@example.org", swaksRcpt, `550 5\.7\.1 Relaying denied`, nil},
		{"relay by percent", stranger, "friend%example.org@example.test", swaksRcpt, `550 5\.1\.1 `, nil},
		{"unknown", stranger, "nobody@example.test", swaksRcpt, `550 5\.1\.1 `, nil},
		{"known and unknown", stranger, carol + ",nobody@example.test", 0, `250 2\.0\.0 `, []string{carol}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := swaks(t, "--server", p.address(t, "mx"), "--from", test.from, "--to", test.to, "--header", "Subject: "+test.name)
			if r.code != test.code || !regexp.MustCompile(`(?m)^<[-*]+ +`+test.reply).MatchString(r.stdout) {
				t.Errorf("exit status %d, want %d and the reply %s\n%s%s", r.code, test.code, test.reply, r.stdout, r.stderr)
			}
			for _, user := range test.readers {
				want[user] = append(want[user], test.name)
			}
		})
	}
	for _, user := range []string{alice, bob, carol} {
		got[user] = p.read(t, user).subjects(t)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("who got what (-want +got):\n%s", diff)
	}
}
