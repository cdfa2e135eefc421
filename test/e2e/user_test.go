package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/test/daemon"
)

// user runs a command of user with a password as its input.
func (s *site) user(t *testing.T, secret string, args ...string) result {
	t.Helper()
	cmd := s.command(t, append([]string{"user"}, args...)...)
	cmd.Stdin = strings.NewReader(secret + "\n")
	return run(t, cmd)
}

// users gives the accounts that user list --json prints.
func (s *site) users(t *testing.T) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(s.do(t, "user", "list", "--json")) {
		var one struct {
			Address string `json:"address"`
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("read line of user list --json: %v\n%s", err, line)
		}
		list = append(list, one.Address)
	}
	return list
}

// logsIn tells whether a password is the user's.
func (p *process) logsIn(t *testing.T, user, secret string) bool {
	t.Helper()
	r := run(t, command(t, daemon.Program(t, "curl"), "--silent", "--insecure", "--max-time", "20",
		"--user", user+":"+secret, "imaps://"+p.address(t, "imaps")+"/"))
	const loginDenied = 67
	if r.code != 0 && r.code != loginDenied {
		t.Fatalf("curl: exit status %d\n%s", r.code, r.stderr)
	}
	return r.code == 0
}

// TestUsers works on accounts, with the server stopped, running, and stopped
// again.
func TestUsers(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{})
	step := func(name string, r result, code int, stderr string) {
		t.Helper()
		if r.code != code || !strings.Contains(r.stderr, stderr) {
			t.Errorf("%s: exit status %d, want %d and %q\n%s%s", name, r.code, code, stderr, r.stdout, r.stderr)
		}
	}
	want := func(addresses ...string) {
		t.Helper()
		if diff := cmp.Diff(addresses, s.users(t)); diff != "" {
			t.Errorf("user list (-want +got):\n%s", diff)
		}
	}
	step("add", s.user(t, "first password", "add", "--password-stdin", alice), 0, "")
	step("add in upper case", s.user(t, "first password", "add", "--password-stdin", "Bob@Example.Test"), 0, "")
	step("add again", s.user(t, "other password", "add", "--password-stdin", alice), 2, "mox-like user passwd")
	step("add what is no address", s.user(t, "first password", "add", "--password-stdin", "alice"), 2, `"alice"`)
	step("add without a terminal", s.user(t, "first password", "add", carol), 2, "--password-stdin")
	step("passwd of nobody", s.user(t, "first password", "passwd", "--password-stdin", carol), 2, carol)
	want(alice, bob)

	p := s.start(t)
	if !p.logsIn(t, alice, "first password") || p.logsIn(t, alice, "other password") {
		t.Error("alice logs in with the wrong password, or not with the right one")
	}
	step("add while it runs", s.user(t, "first password", "add", "--password-stdin", carol), 0, "")
	step("add of a foreign domain", s.user(t, "first password", "add", "--password-stdin", "dave@example.org"), 0, `no domain "example.org"`)
	want(alice, bob, carol, "dave@example.org")
	step("passwd while it runs", s.user(t, "second password", "passwd", "--password-stdin", alice), 0, "")
	if p.logsIn(t, alice, "first password") || !p.logsIn(t, alice, "second password") || !p.logsIn(t, carol, "first password") {
		t.Error("passwords are not what they were changed to")
	}
	step("remove of what is not there", s.user(t, "", "remove", "--yes", "nobody@example.test"), 2, "nobody@example.test")
	if id, reply := p.try(t, "mx", "Subject: Soon gone\r\n\r\n.\r\n"); id == "" {
		t.Fatal(reply)
	}
	p.removeWhileReading(t)
	want(bob, carol, "dave@example.org")
	if _, reply := p.try(t, "mx", "Subject: Too late\r\n\r\n.\r\n"); !strings.HasPrefix(reply, "550 5.1.1 ") {
		t.Errorf("mail to a removed account is answered with %q", reply)
	}

	// Who gets the address next does not get the mail.
	step("add once more", s.user(t, password, "add", "--password-stdin", alice), 0, "")
	if got := p.read(t, alice).subjects(t); len(got) != 0 {
		t.Errorf("the new account has the mail of the old one: %q", got)
	}
	p.stop(t)

	step("remove when stopped", s.user(t, "", "remove", "--yes", bob), 0, "")
	step("passwd when stopped", s.user(t, "third password", "passwd", "--password-stdin", alice), 0, "")
	want(alice, carol, "dave@example.org")
	p = s.start(t)
	if !p.logsIn(t, alice, "third password") || p.logsIn(t, bob, "first password") {
		t.Error("what was changed while the server was stopped does not hold")
	}
	if log := p.log(t); slices.ContainsFunc([]string{"first password", "second password", "third password"}, func(secret string) bool { return strings.Contains(log, secret) }) {
		t.Error("the log has a password in it")
	}
}

// removeWhileReading removes alice while she reads her mail, which ends her
// session or leaves her nothing to read.
func (p *process) removeWhileReading(t *testing.T) {
	t.Helper()
	c, err := imapclient.DialTLS(p.address(t, "imaps"), &imapclient.Options{TLSConfig: insecure})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the server may have ended it
	if err := c.Login(alice, "second password").Wait(); err != nil {
		t.Fatal(err)
	}
	if selected, err := c.Select("INBOX", nil).Wait(); err != nil || selected.NumMessages != 1 {
		t.Fatalf("select: %+v, %v", selected, err)
	}
	p.do(t, "user", "remove", "--yes", alice)
	if selected, err := c.Select("INBOX", nil).Wait(); err == nil {
		t.Errorf("after the account was removed its mailbox has %d messages", selected.NumMessages)
	}
}
