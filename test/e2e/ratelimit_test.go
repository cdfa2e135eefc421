package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// envelope begins a stranger's session for one message from a loopback address,
// and gives the last reply: that to RCPT, or what refused something before.
func (p *process) envelope(from, to string) (string, error) {
	s, err := dial(p.addresses["mx"], from)
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reply, nil
	}
	if err != nil {
		return "", err
	}
	defer s.conn.Close()
	var reply string
	for _, line := range []string{"EHLO client.example.org", "MAIL FROM:<" + stranger + ">", "RCPT TO:<" + to + ">"} {
		if reply, err = s.command(line); err != nil || reply[0] > '3' {
			return reply, err
		}
	}
	return reply, nil
}

// burst asks for n things at once, counts the answers that begin with "250 ", and
// wants all others to begin with refused.
func burst(t *testing.T, n int, ask func(i int) (string, error), refused string) (passed int) {
	t.Helper()
	var all sync.WaitGroup
	var good atomic.Int64
	for i := range n {
		all.Go(func() {
			switch reply, err := ask(i); {
			case err != nil:
				t.Errorf("request %d: %v", i, err)
			case strings.HasPrefix(reply, "250 "):
				good.Add(1)
			case !strings.HasPrefix(reply, refused):
				t.Errorf("request %d: the server answers %q, not %q", i, reply, refused)
			}
		})
	}
	all.Wait()
	return int(good.Load())
}

// TestRateLimitByRapidRequests floods the server at once from one address, to one
// domain and by one user. Exactly as much passes as may, nobody else is touched,
// and a restart forgets nothing.
func TestRateLimitByRapidRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{
		Chain: `ratelimit "connections" {
  key = "ip"
  limit = "10/1h"
  except = ["127.0.3.0/24"]
}
ratelimit "domains" {
  key = "rcpt_domain"
  limit = "25/1h"
}`,
		Sent: `ratelimit "sent" {
  key = "user"
  count = "messages"
  limit = "4/1h"
}`,
	})
	p := s.serve(t, alice, bob, carol)
	byAddress := func(from, to string) func(int) (string, error) {
		return func(int) (string, error) { return p.envelope(from, to) }
	}
	if n := burst(t, 25, byAddress("127.0.2.1", alice), "421 4.7.0 "); n != 10 {
		t.Errorf("of 25 connections at once %d pass, want 10", n)
	}
	if n := burst(t, 5, byAddress("127.0.2.2", bob), ""); n != 5 {
		t.Errorf("of 5 connections of another address %d pass", n)
	}
	// 15 recipients of example.test have been; these come from one address each.
	each := func(i int) (string, error) { return p.envelope(fmt.Sprintf("127.0.3.%d", i+1), alice) }
	if n := burst(t, 25, each, "450 4.7.1 "); n != 10 {
		t.Errorf("of 25 recipients at once %d pass, want 10", n)
	}
	other := func(i int) (string, error) { return p.envelope(fmt.Sprintf("127.0.3.%d", i+1), "anybody@example.net") }
	if n := burst(t, 5, other, ""); n != 5 {
		t.Errorf("of 5 recipients of another domain %d pass", n)
	}

	send := func(user string) result {
		return swaks(t, "--server", p.address(t, "submission"), "--tlsc", "--auth", "PLAIN", "--auth-user", user, "--auth-password", password,
			"--from", user, "--to", carol, "--header", "Subject: By "+user)
	}
	var codes []int
	var last result
	for range 6 {
		last = send(alice)
		codes = append(codes, last.code)
	}
	if diff := cmp.Diff([]int{0, 0, 0, 0, swaksMail, swaksMail}, codes); diff != "" {
		t.Errorf("exit statuses of swaks (-want +got):\n%s\n%s", diff, last.stdout)
	}
	find(t, last.stdout, `^<~\* 450 4\.7\.1 .*again in (\d+) `)

	p.stop(t)
	p = s.start(t)
	if n := burst(t, 3, byAddress("127.0.2.1", alice), "421 4.7.0 "); n != 0 {
		t.Errorf("after a restart %d connections pass, want none", n)
	}
	if r := send(alice); r.code != swaksMail || !strings.Contains(r.stdout, "450 4.7.1 ") {
		t.Errorf("after a restart alice sends on: exit status %d\n%s", r.code, r.stdout)
	}
	if r := send(bob); r.code != 0 {
		t.Errorf("bob cannot send: exit status %d\n%s", r.code, r.stdout)
	}
	p.kill()
	p = s.start(t)
	reply, err := p.envelope("127.0.3.99", alice)
	if err != nil || !strings.HasPrefix(reply, "450 4.7.1 ") {
		t.Errorf("after a crash the domain's limit is forgotten: %q, %v", reply, err)
	}
	r := s.traces(t, "--ip", "127.0.3.99", "--last", "1")
	if len(r) != 1 || !strings.Contains(r[0].at(t, "rcpt", "domains").Reason, "limit is 25/1h") {
		t.Errorf("the trace is %+v", r)
	}
}

// TestRateLimitOfFailedRecipients lets a client guess so many addresses and no
// more. Another client, and the same one at another domain, may go on.
func TestRateLimitOfFailedRecipients(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{Chain: "ratelimit \"guesses\" {\n key = [\"ip\", \"rcpt_domain\"]\n count = \"failed\"\n limit = \"3/1h\"\n }"}).serve(t, alice, carol)
	for n, test := range []struct{ from, to, want string }{
		{"127.0.2.1", alice, "250 "},
		{"127.0.2.1", "one@example.test", "550 5.1.1 "},
		{"127.0.2.1", "two@example.test", "550 5.1.1 "},
		{"127.0.2.2", "one@example.test", "550 5.1.1 "},
		{"127.0.2.1", "three@example.test", "550 5.1.1 "},
		{"127.0.2.1", "four@example.test", "450 4.7.1 "},
		{"127.0.2.1", alice, "450 4.7.1 "},
		{"127.0.2.1", "anybody@example.net", "250 "},
		{"127.0.2.2", alice, "250 "},
	} {
		reply, err := p.envelope(test.from, test.to)
		if err != nil || !strings.HasPrefix(reply, test.want) {
			t.Errorf("recipient %d, %s from %s: the server answers %q (%v), not %q", n, test.to, test.from, reply, err, test.want)
		}
	}
}

// TestRateLimitOfBytes counts what strangers send by its size.
func TestRateLimitOfBytes(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{Chain: "ratelimit \"volume\" {\n key = \"ip\"\n limit = \"50KB/1h\"\n }"}).serve(t, alice)
	l := newLedger(t)
	send := func(from string, size int) error {
		s, err := dial(p.address(t, "mx"), from)
		if err != nil {
			return err
		}
		defer s.conn.Close()
		return l.post(s, size, alice+"/INBOX")
	}
	for range 2 {
		if err := send("127.0.2.1", 20_000); err != nil {
			t.Errorf("below the limit: %v", err)
		}
	}
	if err := send("127.0.2.1", 20_000); err == nil || !strings.Contains(err.Error(), `"450 4.7.1 `) {
		t.Errorf("over the limit: %v", err)
	}
	if err := send("127.0.2.1", 60_000); err == nil || !strings.Contains(err.Error(), `"552 5.3.4 `) {
		t.Errorf("a message that can never pass: %v", err)
	}
	if err := send("127.0.2.2", 20_000); err != nil {
		t.Errorf("another address: %v", err)
	}
	l.check(t, p)
}
