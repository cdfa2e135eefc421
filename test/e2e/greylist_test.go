package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
)

// triplets runs greylist list.
func (s *site) triplets(t *testing.T, args ...string) []control.Triplet {
	t.Helper()
	return lines[control.Triplet](t, s.do(t, append([]string{"greylist", "list", "--json"}, args...)...))
}

// bring has swaks bring a message from a loopback address.
func (p *process) bring(t *testing.T, local, from, to, subject string) result {
	t.Helper()
	return swaks(t, "--server", p.address(t, "mx"), "--local-interface", local, "--helo", "client.example.org",
		"--from", from, "--to", to, "--header", "Subject: "+subject)
}

// deferred fails the test unless the greylist has deferred a message. It gives
// the seconds that the client is told to wait, and the id in the reply.
func deferred(t *testing.T, r result) (seconds int, id string) {
	t.Helper()
	if r.code != swaksRcpt {
		t.Fatalf("swaks exits with %d, not %d\n%s%s", r.code, swaksRcpt, r.stdout, r.stderr)
	}
	line := find(t, r.stdout, `^<\*\* 451 4\.7\.1 (.*)$`)
	seconds, err := strconv.Atoi(find(t, line, `(\d+) second`))
	if err != nil {
		t.Fatal(err)
	}
	return seconds, find(t, line, `\(id ([0-9a-z]+)\)$`)
}

// TestGreylistByNewTriplets brings mail by swaks, again and again until the delay
// is over.
func TestGreylistByNewTriplets(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: "greylist {\n delay = \"2s\"\n pass_after = 2\n }"})
	p := s.serve(t, alice, bob)
	const client, friend = "127.0.4.1", "friend@example.org"
	seconds, id := deferred(t, p.bring(t, client, friend, alice, "One"))
	if seconds < 1 || seconds > 2 {
		t.Errorf("the client is told to wait %d seconds of 2", seconds)
	}
	e := p.trace(t, id).at(t, "rcpt", "greylist")
	if e.Action != "defer" || e.Reason == "" {
		t.Errorf("the trace says %+v", e)
	}
	list := p.triplets(t)
	if len(list) != 1 || list[0].Client != "127.0.4.0/24" || list[0].Sender != friend || list[0].Recipient != alice || list[0].State != "greylisted" {
		t.Errorf("greylist list gives %+v", list)
	}
	find(t, s.do(t, "greylist", "list", "--state", "greylisted"), `greylisted +from .* 127\.0\.4\.0/24 +`+friend+` +`+alice)

	// Another sender, recipient or network is another triplet.
	deferred(t, p.bring(t, client, "other@example.org", alice, "Never"))
	deferred(t, p.bring(t, client, friend, bob, "Never"))
	deferred(t, p.bring(t, "127.0.5.1", friend, alice, "Never"))

	eventually(t, "the message passes", func() bool { return p.bring(t, "127.0.4.2", friend, alice, "One").code == 0 })
	if r := p.bring(t, client, friend, alice, "Two"); r.code != 0 {
		t.Errorf("a triplet that has passed: exit status %d\n%s", r.code, r.stdout)
	}
	if list := p.triplets(t, "--state", "passed"); len(list) != 1 || list[0].Passed != 2 {
		t.Errorf("what has passed is %+v", list)
	}
	// With a second triplet the client passes for all.
	eventually(t, "the other message passes", func() bool { return p.bring(t, client, friend, bob, "Three").code == 0 })
	if r := p.bring(t, client, "somebody@example.org", bob, "Four"); r.code != 0 {
		t.Errorf("a client that passes freely: exit status %d\n%s", r.code, r.stdout)
	}
	deferred(t, p.bring(t, "127.0.6.1", "somebody@example.org", bob, "Never"))
	if diff := cmp.Diff(map[string][]string{alice: {"One", "Two"}, bob: {"Three", "Four"}},
		map[string][]string{alice: p.read(t, alice).subjects(t), bob: p.read(t, bob).subjects(t)}); diff != "" {
		t.Errorf("who got what (-want +got):\n%s", diff)
	}
	// Users who have logged in are not asked to wait, whatever they send.
	if r := swaks(t, "--server", p.address(t, "submission"), "--tlsc", "--auth", "PLAIN", "--auth-user", alice, "--auth-password", password,
		"--from", alice, "--to", bob); r.code != 0 {
		t.Errorf("submission: exit status %d\n%s", r.code, r.stdout)
	}
}

// TestGreylistCommands lets mail through that would have to wait for an hour,
// with the server running and stopped.
func TestGreylistCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: "greylist {\n delay = \"1h\"\n }"})
	p := s.serve(t, alice)
	passes := func(local, from string, want int) {
		t.Helper()
		if r := p.bring(t, local, from, alice, "From "+from); r.code != want {
			t.Errorf("from %s by %s: exit status %d, want %d\n%s", from, local, r.code, want, r.stdout)
		}
	}
	number := func(sender string) string {
		t.Helper()
		list := s.triplets(t, "--sender", sender)
		if len(list) != 1 {
			t.Fatalf("greylist list --sender %s gives %+v", sender, list)
		}
		return strconv.FormatInt(list[0].ID, 10)
	}
	passes("127.0.4.1", "one@example.org", swaksRcpt)
	passes("127.0.4.1", "two@example.org", swaksRcpt)
	s.do(t, "greylist", "release", number("one@example.org"))
	passes("127.0.4.1", "one@example.org", 0)
	passes("127.0.4.1", "two@example.org", swaksRcpt)

	s.do(t, "greylist", "allow", "127.0.5.0/24", "--reason", "our other server")
	passes("127.0.5.7", "any@example.org", 0)
	s.do(t, "greylist", "allow", "codes@example.net")
	passes("127.0.4.1", "codes@example.net", 0)
	passes("127.0.4.1", "else@example.net", swaksRcpt)
	find(t, s.do(t, "greylist", "allowed"), `^127\.0\.5\.0/24 +since .* our other server$`)
	s.do(t, "greylist", "disallow", "127.0.5.0/24")
	passes("127.0.5.7", "new@example.org", swaksRcpt)
	if r := run(t, s.command(t, "greylist", "release", "999999")); r.code != 2 || !strings.Contains(r.stderr, "greylist list") {
		t.Errorf("release of what is not there: exit status %d\n%s", r.code, r.stderr)
	}

	p.stop(t)
	s.do(t, "greylist", "release", number("two@example.org"))
	s.do(t, "greylist", "allow", "127.0.6.0/24")
	p = s.start(t)
	passes("127.0.4.1", "two@example.org", 0)
	passes("127.0.6.1", "six@example.org", 0)
	passes("127.0.4.1", "else@example.net", swaksRcpt)
	var allowed []string
	for _, one := range lines[control.Allowed](t, s.do(t, "greylist", "allowed", "--json")) {
		allowed = append(allowed, one.Subject)
	}
	if diff := cmp.Diff([]string{"127.0.6.0/24", "codes@example.net"}, allowed); diff != "" {
		t.Errorf("greylist allowed (-want +got):\n%s", diff)
	}
}

// TestGreylistLetsARealServerThrough has the queue of a Postfix try again until
// its messages are in alice's mailbox, each once.
func TestGreylistLetsARealServerThrough(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{Chain: "greylist {\n delay = \"2s\"\n }"}).serve(t, alice)
	relay, queued := postfix(t, p.address(t, "mx"))
	for _, subject := range []string{"First", "Second"} {
		if r := swaks(t, "--server", relay, "--from", stranger, "--to", alice, "--header", "Subject: "+subject); r.code != 0 {
			t.Fatalf("Postfix refuses: exit status %d\n%s", r.code, r.stdout)
		}
	}
	eventually(t, "the queue is empty", func() bool { return queued() == 0 })
	r := p.read(t, alice)
	got := make(map[string]int)
	for _, subject := range r.subjects(t) {
		got[subject]++
	}
	if diff := cmp.Diff(map[string]int{"First": 1, "Second": 1}, got); diff != "" {
		t.Errorf("alice's messages (-want +got):\n%s", diff)
	}
	list := p.triplets(t)
	if len(list) != 1 || list[0].State != "passed" || list[0].Attempts < 1 || list[0].Passed != 2 {
		t.Errorf("greylist list gives %+v", list)
	}
}
