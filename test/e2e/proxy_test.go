package e2e

import (
	"io"
	"strings"
	"testing"
)

// TestProxyProtocol has a balancer in front, at 127.0.0.1, which tells where the
// client is. Connections from elsewhere are taken for what they are.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{
		MX:   "proxy_protocol {\n from = [\"127.0.0.1/32\"]\n }\n limits {\n connections_per_network = 2\n }",
		IMAP: "proxy_protocol {\n from = [\"127.0.0.1/32\"]\n }",
	}).serve(t, alice)
	address := p.address(t, "mx")
	for _, version := range []string{"1", "2"} {
		sent := swaks(t, "--server", address, "--from", stranger, "--to", alice, "--header", "Subject: Version "+version,
			"--proxy-version", version, "--proxy-family", map[string]string{"1": "TCP4", "2": "AF_INET"}[version],
			"--proxy-source", "192.0.2.7", "--proxy-source-port", "40000", "--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25")
		id := find(t, sent.stdout, `250 2\.0\.0 OK: kept as ([0-9a-z]+)`)
		if r := p.trace(t, id); r.RemoteIP != "192.0.2.7" {
			t.Errorf("version %s: the trace has the client %s", version, r.RemoteIP)
		}
	}
	balancer, err := dialFrom(p.address(t, "imaps"), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(balancer, "PROXY TCP4 192.0.2.7 192.0.2.1 40000 993\r\n"); err != nil {
		t.Fatal(err)
	}
	r := readOver(t, balancer, alice)
	find(t, p.log(t), `^\{.*"msg":"login accepted".*"remote_ip":"192\.0\.2\.7"`)
	for _, m := range r.messages(t, "INBOX") {
		if got := m.field("Received"); !strings.Contains(got, "([192.0.2.7])") {
			t.Errorf("the Received field is %q", got)
		}
	}

	direct, err := dial(address, "127.0.0.2")
	if err != nil {
		t.Fatalf("from elsewhere, without a header: %v", err)
	}
	id, err := direct.send([]byte("Subject: Direct\r\n\r\n.\r\n"), alice)
	if err != nil {
		t.Fatal(err)
	}
	if r := p.trace(t, id); r.RemoteIP != "127.0.0.2" {
		t.Errorf("the trace has the client %s", r.RemoteIP)
	}

	// A header from elsewhere is a stranger's, who may not say who he is.
	last, codes := p.speak(t, "127.0.0.3", "PROXY TCP4 192.0.2.66 192.0.2.1 40000 25\r\nQUIT\r\n")
	if codes["500"]+codes["554"] == 0 {
		t.Errorf("a forged header is answered with %v, in the end %q", codes, last)
	}
	// The balancer owes a header.
	if last, _ := p.speak(t, "127.0.0.1", "EHLO client.example.org\r\n"); last != "" {
		t.Errorf("without a header the balancer is answered with %q", last)
	}

	// Limits are those of the clients behind it.
	for n, client := range []string{"192.0.2.8", "192.0.2.8", "192.0.2.8", "192.0.2.9"} {
		conn, err := dialFrom(address, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "PROXY TCP4 "+client+" 192.0.2.1 40000 25\r\n"); err != nil {
			t.Fatal(err)
		}
		_, err = greet(conn)
		if third := n == 2; third != (err != nil) {
			t.Errorf("connection %d, of %s: %v", n+1, client, err)
		}
	}
}

// speak says something to the mx from an address, and hears what comes back until
// the server ends the session.
func (p *process) speak(t *testing.T, from, text string) (last string, codes map[string]int) {
	t.Helper()
	conn, err := dialFrom(p.address(t, "mx"), from)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	last, codes, err = hear(conn)
	if err != nil {
		t.Errorf("after %q the server says %q and goes on: %v", text, last, err)
	}
	return last, codes
}
