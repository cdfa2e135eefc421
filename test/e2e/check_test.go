package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/check"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/test/daemon"
)

const checkZone = `$ORIGIN example.org.
@    IN TXT "v=spf1 ip4:192.0.2.1 -all"
@    IN MX  10 mail
mail IN A   192.0.2.1
`

// checkMessage has the line ends of a file.
const checkMessage = "From: stranger@example.org\nTo: alice@example.test\nSubject: Hello\nMessage-ID: <a@example.org>\nDate: Sun, 1 Nov 2026 12:00:00 +0000\n\n.\nHello\n"

// put writes a file beside the configuration.
func (s *site) put(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCheck tries messages while the server runs and while it does not: the
// explanation is the same, word for word, and nothing stays behind.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: `
    blocklist {}
    ratelimit {
      key   = ["ip"]
      limit = "2/1h"
      stage = ["rcpt"]
    }
    spf {}
    greylist {}
    authres {}`, Domain: `settings "greylist" { delay = "7m" }`})
	p := s.serve(t, alice)
	zone, message := s.put(t, "test.zone", checkZone), s.put(t, "message.eml", checkMessage)
	tried := func(ip, from string, more ...string) []string {
		return append([]string{"check", "--listener", "mx", "--ip", ip, "--helo", "mail.example.org", "--from", from, "--dns", zone, "--now", "2026-11-01T12:00:00Z"}, more...)
	}
	cases := []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"accepted", tried("192.0.2.1", stranger, "--to", alice, message), 0, []string{
			"spf        continue", "ip4:192.0.2.1 of example.org", "would be stored in INBOX of alice@example.test", "mail for alice@example.test",
			"Authentication-Results: mx.example.test; spf=pass", "Received: from mail.example.org ([192.0.2.1]) by mx.example.test", "Accepted: 250 2.0.0 OK: kept as check-",
		}},
		{"greylisted", tried("198.51.100.1", "<>", "--to", alice, message), 1, []string{"first seen", "Refused: 451 4.7.1 Greylisted, try again in 420 seconds (id check-", "mox-like.hcl:"}},
		{"two of three", tried("192.0.2.1", stranger, "--to", alice, "--to", "sales@example.test", "--to", alice, message), 1, []string{
			"450 4.7.1 Too many recipients", "Refused for some recipients, accepted for the others: 250",
		}},
		{"forged", tried("198.51.100.1", stranger, "--to", alice, message), 1, []string{"-all of example.org", "Refused: 550"}},
		{"JSON", tried("192.0.2.1", stranger, "--to", alice, "--json", message), 0, []string{`"accepted":true`, `"id":"check-`, `"reply":"250 2.0.0 OK: kept as check-`}},
	}
	results := make(map[string]string)
	round := func(how string) {
		for _, c := range cases {
			r := run(t, s.command(t, c.args...))
			if r.code != c.code || r.stderr != "" {
				t.Errorf("%s, %s: exit status %d, want %d\n%s%s", c.name, how, r.code, c.code, r.stdout, r.stderr)
			}
			for _, text := range c.says {
				if !strings.Contains(r.stdout, text) {
					t.Errorf("%s, %s: it does not say %q:\n%s", c.name, how, text, r.stdout)
				}
			}
			if before, ok := results[c.name]; ok {
				if diff := cmp.Diff(before, r.stdout); diff != "" {
					t.Errorf("%s differs, %s (-before +now):\n%s", c.name, how, diff)
				}
			}
			results[c.name] = r.stdout
		}
	}
	round("with a server")
	round("with a server, again")
	if r := run(t, s.command(t, "trace", "check-0123456789ab")); r.code != 2 || !strings.Contains(r.stderr, "of a check, which leaves none") {
		t.Errorf("trace of a check: %d %s", r.code, r.stderr)
	}
	if traces := s.do(t, "trace", "--json"); traces != "" {
		t.Errorf("the checks left traces:\n%s", traces)
	}
	p.stop(t)
	round("without a server")
	round("without a server, again")
	p = s.start(t)
	round("after a start")
	if triplets := s.do(t, "greylist", "list"); strings.Contains(triplets, "198.51.100") {
		t.Errorf("the checks left triplets:\n%s", triplets)
	}
	var result check.Result
	if err := json.Unmarshal([]byte(results["JSON"]), &result); err != nil || result.Record == nil || len(result.Replies) != 5 {
		t.Errorf("JSON: %v\n%s", err, results["JSON"])
	}
	p.stop(t)
}

// TestCheckInput tries what cannot be tried.
func TestCheckInput(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{MX: `max_message_size = "64KB"`})
	p := s.serve(t, alice)
	message := s.put(t, "message.eml", checkMessage)
	large := s.put(t, "large.eml", checkMessage+strings.Repeat("0123456789\n", 400_000))
	ask := func(more ...string) []string {
		return append([]string{"check", "--listener", "mx", "--ip", "192.0.2.1", "--from", stranger, "--to", alice}, more...)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no file":         {ask(), 2, "name the file of one message"},
		"missing file":    {ask(filepath.Join(s.dir, "none.eml")), 2, "no such file"},
		"no listener":     {ask("--listener", "nx", message), 2, `there is no listener "nx"`},
		"IMAP listener":   {ask("--listener", "imaps", message), 2, "no mail comes in by the listener \"imaps\", whose kind is imap; it does by: mx, "},
		"no address":      {ask("--ip", "mail.example.org", message), 2, "write an address"},
		"unknown user":    {ask("--user", bob, message), 2, "there is no user bob@example.test"},
		"missing flag":    {[]string{"check", "--listener", "mx", message}, 2, "--ip ADDRESS, --from ADDRESS, --to ADDRESS is missing\nSee 'mox-like check --help'."},
		"zone":            {ask("--dns", message, message), 2, "read zone " + message + ": "},
		"time":            {ask("--now", "yesterday", message), 2, "write a time"},
		"over TLS":        {ask("--listener", "submission", "--user", alice, message), 0, "with ESMTPSA"},
		"TLS needed":      {ask("--listener", "starttls", message), 1, "Refused: 530 5.7.0 Must issue a STARTTLS"},
		"too large":       {ask(large), 1, "Refused: 552 5.3.4"},
		"several, refuse": {ask("--to", "nobody@example.test", message), 1, "Refused for some recipients"},
	} {
		if r := run(t, s.command(t, c.args...)); r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.says) {
			t.Errorf("%s: exit status %d, want %d and %q:\n%s%s", name, r.code, c.code, c.says, r.stdout, r.stderr)
		}
	}
	p.stop(t)
	for _, c := range [][]string{ask("--listener", "nx", message), ask(filepath.Join(s.dir, "none.eml"))} {
		if r := run(t, s.command(t, c...)); r.code != 2 {
			t.Errorf("%v: exit status %d\n%s", c, r.code, r.stderr)
		}
	}
	s.configure(t, settings{Chain: "nonsense {}"})
	if r := run(t, s.command(t, ask(message)...)); r.code != 2 || !strings.Contains(r.stderr, "nonsense") {
		t.Errorf("file with errors: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestCheckAsksDaemons has a real clamd look at what is tried.
func TestCheckAsksDaemons(t *testing.T) {
	t.Parallel()
	socket := daemon.Run(t, daemon.Clamd{}).Unix.Name
	s := newSite(t, settings{Chain: `clamav { address = "unix:` + socket + `" }`})
	p := s.serve(t, alice)
	for name, c := range map[string]struct {
		text string
		code int
		says string
	}{
		"clean": {checkMessage, 0, "Accepted: 250"},
		"virus": {checkMessage + daemon.EICAR + "\n", 1, "Eicar-Test-Signature"},
	} {
		message := s.put(t, name+".eml", c.text)
		r := run(t, s.command(t, "check", "--listener", "mx", "--ip", "192.0.2.1", "--from", stranger, "--to", alice, message))
		if r.code != c.code || !strings.Contains(r.stdout, c.says) {
			t.Errorf("%s: exit status %d, want %d and %q:\n%s%s", name, r.code, c.code, c.says, r.stdout, r.stderr)
		}
	}
	client, err := control.Connect(t.Context(), s.data)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if list, err := client.LastTraces(t.Context(), 10); err != nil || len(list) != 0 {
		t.Errorf("the checks left %d traces, %v", len(list), err)
	}
	p.stop(t)
}
