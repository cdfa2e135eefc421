package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// balanced has clients come by a balancer on this machine, which says who they
// are.
const balanced = "proxy_protocol {\n from = [\"127.0.0.1/32\"]\n }"

// resolving has a server ask one DNS server, in the test's own process.
func resolving(server netip.AddrPort, more string) string {
	return fmt.Sprintf("\ndns {\n servers = [%q]\n timeout = \"1s\"\n attempts = 2\n %s\n}\n", server, more)
}

// receiving is a listener for strangers with a chain of its own.
func receiving(name, chain string) string {
	return fmt.Sprintf("\nlistener \"smtp\" %q {\n address = \"127.0.0.1:0\"\n %s\n chain {\n %s\n deliver {}\n }\n}\n", name, balanced, chain)
}

// behind has swaks bring a message to alice from an address behind the balancer.
func (p *process) behind(t *testing.T, listener, client, from, helo, subject string) result {
	t.Helper()
	return swaks(t, "--server", p.address(t, listener), "--helo", helo, "--from", from, "--to", alice, "--header", "Subject: "+subject,
		"--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", client, "--proxy-source-port", "40000",
		"--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25")
}

// expect compares how a dialog of swaks ends, and gives the id of the message.
func expect(t *testing.T, r result, code int, reply string) (id string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("swaks exits with %d, not %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	line := find(t, r.stdout, `^<[-~*]+ +(`+reply+`.*)$`)
	if code == 0 {
		return find(t, line, `kept as ([0-9a-z]+)`)
	}
	return find(t, line, `\(id ([0-9a-z]+)\)`)
}

// stored gives alice's messages by their subject.
func (p *process) stored(t *testing.T) map[string]message {
	t.Helper()
	found := make(map[string]message)
	for _, m := range p.read(t, alice).messages(t, "INBOX") {
		found[m.field("Subject")] = m
	}
	return found
}

const spfRecords = `
example.org. TXT "v=spf1 ip4:192.0.2.0/28 -all exp=why.example.org"
why.example.org. TXT "%{i} is no server of %{d}"
soft.example.org. TXT "v=spf1 ip4:192.0.2.0/28 ~all"
broken.example.org. TXT "v=spf1 ip4:192.0.2.0/28 ip9:1 -all"
included.example.org. TXT "v=spf1 include:_spf.%{d2} mx -all"
_spf.example.org. TXT "v=spf1 ip4:198.51.100.1 -all"
included.example.org. MX 10 mx.included.example.org.
mx.included.example.org. A 192.0.2.77
`

// TestSPF brings mail from servers that may send it, and others, and has the
// greylist spare what passes.
func TestSPF(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, spfRecords)
	p := newSite(t, settings{
		MX: balanced, Chain: "spf {}\ngreylist {\n delay = \"1h\"\n spf_pass = \"ignore\"\n when = tx.spf != \"pass\"\n }",
		More: receiving("tagging", "spf {\n fail = \"quarantine\"\n permerror = \"reject\"\n }") + resolving(server.Addr(), ""),
	}).serve(t, alice)
	const good, bad, helo = "192.0.2.3", "192.0.2.99", "client.example.com"

	id := expect(t, p.behind(t, "mx", good, "bob@example.org", helo, "Pass"), 0, `250 2\.0\.0 OK`)
	r := p.trace(t, id)
	if e := r.at(t, "rcpt", "spf"); !strings.Contains(e.Reason, "pass") {
		t.Errorf("the trace of spf says %+v", e)
	}
	if e := r.at(t, "rcpt", "greylist"); e.Note != "skipped" {
		t.Errorf("the trace of greylist says %+v", e)
	}
	id = expect(t, p.behind(t, "mx", bad, "bob@example.org", helo, "Never"), swaksRcpt, `550 5\.7\.23 .*192\.0\.2\.99 is no server of example\.org`)
	if e := p.trace(t, id).at(t, "rcpt", "spf"); e.Action != "reject" || !strings.Contains(e.Reason, "fail") {
		t.Errorf("the trace of a fail says %+v", e)
	}
	expect(t, p.behind(t, "mx", bad, "bob@soft.example.org", helo, "Never"), swaksRcpt, `451 4\.7\.1 Greylisted`)
	expect(t, p.behind(t, "mx", bad, "bob@example.com", helo, "Never"), swaksRcpt, `451 4\.7\.1 Greylisted`)
	expect(t, p.behind(t, "mx", "198.51.100.1", "bob@included.example.org", helo, "Included"), 0, `250 2\.0\.0 OK`)
	expect(t, p.behind(t, "mx", "192.0.2.77", "bob@included.example.org", helo, "By MX"), 0, `250 2\.0\.0 OK`)
	expect(t, p.behind(t, "mx", good, "<>", "example.org", "Bounce"), 0, `250 2\.0\.0 OK`)
	expect(t, p.behind(t, "mx", bad, "bob@example.com", "example.org", "Never"), swaksRcpt, `550 5\.7\.23 `) // who says that he is example.org

	expect(t, p.behind(t, "tagging", bad, "bob@soft.example.org", helo, "Softfail"), 0, `250 2\.0\.0 OK`)
	expect(t, p.behind(t, "tagging", bad, "bob@example.com", helo, "None"), 0, `250 2\.0\.0 OK`)
	expect(t, p.behind(t, "tagging", bad, "bob@broken.example.org", helo, "Never"), swaksRcpt, `550 5\.7\.2`)
	expect(t, p.behind(t, "tagging", bad, "bob@example.org", helo, "Fail"), 0, `250 2\.0\.0 OK`)

	inbox := p.stored(t)
	for subject, want := range map[string][2]string{
		"Pass": {"pass ", ""}, "Included": {"pass ", ""}, "By MX": {"pass ", ""}, "Bounce": {"pass ", ""},
		"Softfail": {"softfail ", "spf=softfail"}, "None": {"none ", ""},
	} {
		m, ok := inbox[subject]
		if got := m.field("Received-SPF"); !ok || !strings.HasPrefix(got, want[0]) {
			t.Errorf("%s: Received-SPF is %q", subject, got)
		}
		if got := m.field("X-Mox-Like-Tags"); got != want[1] {
			t.Errorf("%s: the tags are %q, not %q", subject, got, want[1])
		}
	}
	if len(inbox) != 6 {
		t.Errorf("the inbox has %d messages", len(inbox))
	}
	junk := p.read(t, alice).messages(t, "Junk")
	if len(junk) != 1 || junk[0].field("Subject") != "Fail" || !strings.HasPrefix(junk[0].field("Received-SPF"), "fail ") {
		t.Errorf("Junk has %+v", junk)
	}
}

const listRecords = `
66.2.0.192.zen.example.net. A 127.0.0.2
66.2.0.192.zen.example.net. TXT "See https://zen.example.net/66"
67.2.0.192.zen.example.net. A 127.255.255.254
68.2.0.192.zen.example.net. A 203.0.113.80
spam.example.org.dbl.example.net. A 127.0.1.2
10.2.0.192.allow.example.net. A 127.0.5.3
10.2.0.192.in-addr.arpa. PTR mail.example.org.
mail.example.org. A 192.0.2.10
11.2.0.192.in-addr.arpa. PTR mail.example.org.
`

// TestDNSLists asks lists about clients, and looks whether they have the names
// that they give.
func TestDNSLists(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, listRecords)
	p := newSite(t, settings{
		MX: balanced, Chain: `dnsbl {
  zones = ["zen.example.net"]
  list "dbl.example.net" {
    kind = "from"
  }
  list "allow.example.net" {
    kind = "allow"
  }
}
greylist {
  delay = "1h"
}`,
		More: receiving("names", "rdns {}") + receiving("strict", "rdns {\n missing_ptr = \"reject\"\n unconfirmed = \"reject\"\n }") + resolving(server.Addr(), ""),
	}).serve(t, alice)
	const helo, from = "mail.example.org", "bob@example.org"
	id := expect(t, p.behind(t, "mx", "192.0.2.66", from, helo, "Never"), swaksRcpt, `550 5\.7\.1 .*zen\.example\.net`)
	if e := p.trace(t, id).at(t, "rcpt", "dnsbl"); e.Action != "reject" || !strings.Contains(e.Reason, "127.0.0.2") {
		t.Errorf("the trace of a listing says %+v", e)
	}
	expect(t, p.behind(t, "mx", "192.0.2.10", "bob@spam.example.org", helo, "Allowed"), 0, `250 2\.0\.0 OK`) // the weights are even
	expect(t, p.behind(t, "mx", "192.0.2.20", "bob@spam.example.org", helo, "Never"), swaksRcpt, `550 5\.7\.1 .*dbl\.example\.net`)
	// Answers that are no listings, and no allowance either.
	for _, client := range []string{"192.0.2.67", "192.0.2.68", "192.0.2.20"} {
		expect(t, p.behind(t, "mx", client, from, helo, "Never"), swaksRcpt, `451 4\.7\.1 Greylisted`)
	}
	expect(t, p.behind(t, "mx", "192.0.2.10", from, helo, "Good"), 0, `250 2\.0\.0 OK`)

	for _, test := range []struct{ client, helo, tags string }{
		{"192.0.2.10", helo, ""},
		{"192.0.2.11", helo, "rdns=unconfirmed"},
		{"192.0.2.12", helo, "rdns=missing"},
		{"192.0.2.10", "[192.0.2.10]", ""},
		{"192.0.2.10", "localhost", "helo=bad"},
		{"192.0.2.10", "nowhere.example.org", "helo=unknown"},
	} {
		subject := test.client + " " + test.helo
		expect(t, p.behind(t, "names", test.client, from, test.helo, subject), 0, `250 2\.0\.0 OK`)
		if got := p.stored(t)[subject].field("X-Mox-Like-Tags"); got != test.tags {
			t.Errorf("%s: the tags are %q, not %q", subject, got, test.tags)
		}
	}
	expect(t, p.behind(t, "names", "192.0.2.10", from, "mx.example.test", "Never"), swaksRcpt, `550 5\.7\.1 `)
	expect(t, p.behind(t, "strict", "192.0.2.11", from, helo, "Never"), swaksRcpt, `550 5\.7\.25 `)
	expect(t, p.behind(t, "strict", "192.0.2.12", from, helo, "Never"), swaksRcpt, `550 5\.7\.25 `)
	expect(t, p.behind(t, "strict", "192.0.2.10", from, helo, "Confirmed"), 0, `250 2\.0\.0 OK`)
}
