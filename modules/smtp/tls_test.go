package smtp

import (
	"bufio"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, script string }{
		{"offered", "", hello + `
			-> STARTTLS
			<- 220 2.0.0 Ready to start TLS
			TLS
			-> MAIL FROM:<bob@example.org>
			<- 503 5.5.1 Send EHLO or HELO first
			-> EHLO client.example.org
			<- 250-mx.example.test greets client.example.org
			<- 250-PIPELINING
			<- 250-8BITMIME
			<- 250-ENHANCEDSTATUSCODES
			<- 250-CHUNKING
			<- 250-SMTPUTF8
			<- 250 SIZE 25000000
			-> STARTTLS
			<- 503 5.5.1 TLS is already in use
			` + envelope + `
			-> QUIT
			<- 221 *`},
		{"before EHLO", "", `
			<- 220 *
			-> STARTTLS
			<- 220 2.0.0 Ready to start TLS
			TLS
			-> EHLO client.example.org
			<-- 250 *`},
		{"argument", "", hello + `
			-> STARTTLS now
			<- 501 5.5.4 Syntax: STARTTLS`},
		{"off", `tls = "off"`, `
			<- 220 *
			-> EHLO client.example.org
			<- 250-mx.example.test greets client.example.org
			<- 250-PIPELINING
			<- 250-8BITMIME
			<- 250-ENHANCEDSTATUSCODES
			<- 250-CHUNKING
			<- 250-SMTPUTF8
			<- 250 SIZE 25000000
			-> STARTTLS
			<- 502 5.5.1 TLS is not available`},
		{"required", `tls = "required"`, hello + `
			-> MAIL FROM:<bob@example.org>
			<- 530 5.7.0 Must issue a STARTTLS command first
			-> AUTH PLAIN
			<- 530 5.7.0 Must issue a STARTTLS command first
			-> VRFY alice
			<- 530 5.7.0 Must issue a STARTTLS command first
			-> NOOP
			<- 250 *
			-> STARTTLS
			<- 220 *
			TLS
			-> EHLO client.example.org
			<-- 250 SIZE *
			` + envelope},
		{"required, and a chunk comes", `tls = "required"`, hello + `
			=> "BDAT 12 LAST\r\nEHLO evil\r\n\n"
			<- 530 5.7.0 Must issue a STARTTLS command first (id ID)
			EOF`},
		{"implicit", `tls = "implicit"`, `
			TLS
			` + hello + envelope + `
			-> STARTTLS
			<- 503 5.5.1 TLS is already in use
			-> QUIT
			<- 221 2.0.0 Bye
			EOF`},
		{"a message is forgotten", "", hello + envelope + `
			-> STARTTLS
			<- 220 *
			TLS
			-> EHLO client.example.org
			<-- 250 SIZE *
			-> RCPT TO:<bert@example.test>
			<- 503 5.5.1 Send MAIL first
			-> DATA
			<- 503 5.5.1 No valid recipients, send RCPT first
			` + envelope},
		{"chunks are forgotten", "", hello + envelope + `
			=> "BDAT 2\r\n\r\n"
			<- 250 *
			-> STARTTLS
			<- 220 *
			TLS
			-> EHLO client.example.org
			<-- 250 SIZE *
			` + envelope + `
			=> "BDAT 2 LAST\r\n\r\n"
			<- 250 *`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			newKit(t, options{body: test.body}).dialog(t, test.script)
		})
	}
}

// TestInjection pins that what was sent in the clear behind STARTTLS is not taken
// for what the client sent under TLS (CVE-2011-0411).
func TestInjection(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{})
	k.dialog(t, hello+`
		=> "STARTTLS\r\nEHLO attacker.example\r\nMAIL FROM:<attacker@example.org>\r\n"
		<- 220 2.0.0 Ready to start TLS
		TLS
		-> MAIL FROM:<bob@example.org>
		<- 503 5.5.1 Send EHLO or HELO first
		-> NOOP
		<- 250 2.0.0 OK
	`)
}

// TestHandshakeFails pins that nothing is said in the clear after STARTTLS.
func TestHandshakeFails(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{})
	conn := k.dial(t)
	coretest.Talk(t, conn, hello+`
		-> STARTTLS
		<- 220 2.0.0 Ready to start TLS
		-> EHLO client.example.org
	`)
	if err := conn.SetReadDeadline(time.Now().Add(replyTimeout)); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(conn) // an alert, then the end or a reset
	if strings.Contains(string(rest), "250") || strings.Contains(string(rest), "\r\n") {
		t.Errorf("answer in the clear: %q", rest)
	}
}

// TestTickets pins that no session tickets are given out: Exchange Online breaks
// off when it is sent one.
func TestTickets(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{body: `tls = "implicit"`})
	cache := &countingCache{}
	c := clientTLS()
	c.ClientSessionCache = cache
	c.ServerName = "mx.example.test"
	conn := tls.Client(k.dial(t), c)
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 ") {
		t.Fatalf("greeting %q, %v", line, err)
	}
	if cache.puts != 0 {
		t.Errorf("%d session tickets came", cache.puts)
	}
}

type countingCache struct{ puts int }

func (*countingCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *countingCache) Put(string, *tls.ClientSessionState)      { c.puts++ }
