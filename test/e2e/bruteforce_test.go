package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/control"
)

// home is the address from which owners log in, unknown one from which nobody
// has.
const (
	home    = "127.0.0.1"
	unknown = "127.0.9.9"
)

// lines reads what a command with --json prints: one object a line.
func lines[T any](t *testing.T, text string) []T {
	t.Helper()
	var list []T
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var one T
		err := d.Decode(&one)
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatalf("read %s: %v", text, err)
		}
		list = append(list, one)
	}
}

// blocks runs blocklist why.
func (s *site) blocks(t *testing.T, address string) []control.Block {
	t.Helper()
	return lines[control.Block](t, s.do(t, "blocklist", "why", "--json", address))
}

// owned fails the test unless alice gets in at home by both protocols, with real
// clients.
func (p *process) owned(t *testing.T) {
	t.Helper()
	if r := p.swaksLogin(t, home, alice, password); r.code != 0 {
		t.Errorf("alice cannot send: exit status %d\n%s", r.code, r.stdout)
	}
	if code := p.curlLogin(t, home, alice, password); code != 0 {
		t.Errorf("alice cannot read: curl exits with %d", code)
	}
}

// TestBruteForceByFailedLogins guesses passwords of alice by SMTP from one address
// and by IMAP from another, with alice in the middle, until both are blocked.
func TestBruteForceByFailedLogins(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Login: "bruteforce {}", Chain: "blocklist {}"})
	p := s.serve(t, alice, bob)
	p.owned(t)
	const attempts = 5 // the default
	attackers := map[string]string{"SMTP": "127.0.0.5", "IMAP": "127.0.0.6"}
	const loginDenied = 67
	for n := range attempts {
		guess := fmt.Sprintf("guess %d", n)
		if r := p.swaksLogin(t, attackers["SMTP"], alice, guess); r.code != swaksAuth || !strings.Contains(r.stdout, denied["SMTP"]) {
			t.Errorf("guess %d: swaks exits with %d\n%s", n, r.code, r.stdout)
		}
		if code := p.curlLogin(t, attackers["IMAP"], alice, guess); code != loginDenied {
			t.Errorf("guess %d: curl exits with %d", n, code)
		}
		if n%2 == 0 {
			p.owned(t)
		}
	}
	for protocol, attacker := range attackers {
		for _, to := range []string{"SMTP", "IMAP"} {
			p.answers(t, to, attacker, alice, password, shutOut)
		}
		if _, err := dial(p.address(t, "mx"), attacker); err == nil || !strings.Contains(err.Error(), `"554 5.7.1 `) {
			t.Errorf("%s may bring mail: %v", attacker, err)
		}
		list := s.blocks(t, attacker)
		if len(list) != 1 {
			t.Fatalf("blocklist why %s gives %+v", attacker, list)
		}
		b := list[0]
		if b.Network.String() != attacker+"/32" || b.Source != "bruteforce" || b.Reason != "5 failed logins in 15m, the limit is 5" ||
			!strings.Contains(b.Evidence, alice) || b.Expires.Sub(b.Created).Round(time.Minute) != time.Hour {
			t.Errorf("after guesses by %s, blocklist why %s gives %+v", protocol, attacker, b)
		}
		find(t, s.do(t, "blocklist", "why", attacker), `^`+attacker+`/32 +bruteforce +until .* 5 failed logins in 15m`)
		r := s.traces(t, "--ip", attacker, "--last", "1")
		if len(r) != 1 || r[0].Kind != "session" {
			t.Fatalf("the last trace of %s is %+v", attacker, r)
		}
		if e := r[0].at(t, "connect", r[0].Outcome.Handler); !strings.Contains(e.Reason, "5 failed logins in 15m") || !strings.Contains(e.Reason, "mox-like blocklist why "+attacker) {
			t.Errorf("the trace says %+v", e)
		}
	}
	p.owned(t)
	p.answers(t, "SMTP", unknown, alice, password, letIn) // a few guesses do not close the account

	s.do(t, "blocklist", "remove", attackers["SMTP"])
	p.answers(t, "SMTP", attackers["SMTP"], bob, password, letIn)
	p.answers(t, "IMAP", attackers["SMTP"], bob, password, letIn)
	p.answers(t, "IMAP", attackers["IMAP"], bob, password, shutOut)

	// The other block outlives the server, and is taken away while it is stopped.
	p.stop(t)
	p = s.start(t)
	p.answers(t, "IMAP", attackers["IMAP"], bob, password, shutOut)
	p.stop(t)
	if list := s.blocks(t, attackers["IMAP"]); len(list) != 1 {
		t.Errorf("with the server stopped, blocklist why gives %+v", list)
	}
	s.do(t, "blocklist", "remove", attackers["IMAP"])
	s.do(t, "blocklist", "add", "127.0.7.0/24", "--reason", "scans all ports", "--for", "1d")
	p = s.start(t)
	p.answers(t, "IMAP", attackers["IMAP"], bob, password, letIn)
	p.owned(t)
	if _, err := dial(p.address(t, "mx"), "127.0.7.7"); err == nil || !strings.Contains(err.Error(), `"554 5.7.1 `) {
		t.Errorf("what was blocked with the server stopped may bring mail: %v", err)
	}
	find(t, s.do(t, "blocklist", "why", "127.0.7.7"), `^127\.0\.7\.0/24 +admin +until .* scans all ports$`)
}

// TestBruteForceFromTheOwnersNetwork has an attacker behind the same address as
// alice, who is blocked for all but her.
func TestBruteForceFromTheOwnersNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Login: "bruteforce {\n attempts = 2\n known_factor = 2\n }"})
	p := s.serve(t, alice, bob)
	p.owned(t)
	for n := range 4 {
		p.answers(t, "SMTP", home, bob, fmt.Sprintf("guess %d", n), denied)
	}
	if list := s.blocks(t, home); len(list) != 1 {
		t.Fatalf("blocklist why %s gives %+v", home, list)
	}
	for _, protocol := range []string{"SMTP", "IMAP"} {
		p.answers(t, protocol, home, bob, password, putOff)
		p.answers(t, protocol, unknown, bob, password, letIn)
	}
	p.owned(t)
}

// TestBruteForceByBotnet has each address fail once at alice's account. It is
// closed to networks that she has not used, and open to hers.
func TestBruteForceByBotnet(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Login: "bruteforce {}"})
	p := s.serve(t, alice, bob)
	p.owned(t)
	const bots = 20 // the default of account_attempts
	var all sync.WaitGroup
	errs := make([]error, bots)
	for bot := range bots {
		all.Go(func() {
			protocol := [...]string{"SMTP", "IMAP"}[bot%2]
			reply, err := logins[protocol](p, fmt.Sprintf("127.1.0.%d", bot+1), alice, fmt.Sprintf("guess %d", bot))
			if err == nil && !strings.HasPrefix(reply, denied[protocol]) {
				err = &refusal{protocol, reply}
			}
			errs[bot] = err
		})
	}
	for range 3 {
		p.owned(t)
	}
	all.Wait()
	for bot, err := range errs {
		if err != nil {
			t.Errorf("bot %d: %v", bot, err)
		}
	}
	locks := lines[control.Lock](t, s.do(t, "user", "locks", "--json"))
	if len(locks) != 1 || locks[0].Account != alice || locks[0].Reason != "20 failed logins from 20 networks in 15m, the limit is 20" {
		t.Errorf("user locks gives %+v", locks)
	}
	for _, protocol := range []string{"SMTP", "IMAP"} {
		p.answers(t, protocol, unknown, alice, password, denied) // word for word like a wrong password
		p.answers(t, protocol, unknown, bob, password, letIn)
	}
	r := s.traces(t, "--user", alice, "--ip", unknown, "--last", "1")
	if len(r) != 1 || !strings.Contains(r[0].at(t, "auth", "bruteforce").Reason, "20 failed logins from 20 networks") {
		t.Errorf("the trace of the refused login is %+v", r)
	}
	if list := lines[control.Block](t, s.do(t, "blocklist", "list", "--json")); len(list) != 0 {
		t.Errorf("addresses that failed once are blocked: %+v", list)
	}
	p.owned(t)

	p.stop(t)
	p = s.start(t)
	p.answers(t, "IMAP", unknown, alice, password, denied)
	p.owned(t)
	s.do(t, "user", "unlock", alice)
	p.answers(t, "IMAP", unknown, alice, password, letIn)
	p.answers(t, "SMTP", unknown, alice, password, letIn)
}

// TestPasswordSpray tries one password at many accounts from one address, of which
// most do not exist.
func TestPasswordSpray(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Login: "bruteforce {\n attempts = 25\n usernames = 6\n }"})
	p := s.serve(t, alice, bob)
	p.owned(t)
	const attacker = "127.0.0.7"
	users := []string{alice, bob, "carol@example.test", "dave@example.test", "erin@example.test", "frank@example.net"}
	for n, user := range users {
		p.answers(t, [...]string{"SMTP", "IMAP"}[n%2], attacker, user, "Winter2026", denied)
	}
	for _, protocol := range []string{"SMTP", "IMAP"} {
		p.answers(t, protocol, attacker, "grace@example.test", "Winter2026", shutOut)
	}
	list := s.blocks(t, attacker)
	if len(list) != 1 || list[0].Reason != "failed logins at 6 accounts in 15m, the limit is 6" {
		t.Errorf("blocklist why gives %+v", list)
	}
	if locks := lines[control.Lock](t, s.do(t, "user", "locks", "--json")); len(locks) != 0 {
		t.Errorf("user locks gives %+v", locks)
	}
	p.owned(t)
	p.answers(t, "SMTP", unknown, bob, password, letIn)
}

// TestBruteForceBehindABalancer has attackers and alice come by one address, that
// of a balancer, which says who they are. It is never blocked itself.
func TestBruteForceBehindABalancer(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{IMAP: balanced, Login: "bruteforce {\n attempts = 3\n }"})
	p := s.serve(t, alice)
	login := func(client, secret string) string {
		t.Helper()
		raw, err := dialFrom(p.address(t, "imaps"), home)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if _, err := fmt.Fprintf(raw, "PROXY TCP4 %s 192.0.2.1 40000 993\r\n", client); err != nil {
			t.Fatal(err)
		}
		reply, err := logInOver(tls.Client(raw, insecure), alice, secret)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	for range 3 {
		if reply := login("198.51.100.66", "wrong"); !strings.HasPrefix(reply, denied["IMAP"]) {
			t.Errorf("a wrong password is answered with %q", reply)
		}
	}
	if reply := login("198.51.100.66", password); !strings.HasPrefix(reply, shutOut["IMAP"]) {
		t.Errorf("the attacker is answered with %q", reply)
	}
	if reply := login("192.0.2.7", password); !strings.HasPrefix(reply, letIn["IMAP"]) {
		t.Errorf("alice is answered with %q", reply)
	}
	list := lines[control.Block](t, s.do(t, "blocklist", "list", "--json"))
	if len(list) != 1 || list[0].Network.String() != "198.51.100.66/32" {
		t.Errorf("blocklist list gives %+v", list)
	}
	if list := s.blocks(t, home); len(list) != 0 {
		t.Errorf("blocklist why %s gives %+v", home, list)
	}
	p.answers(t, "SMTP", home, alice, password, letIn)
}
