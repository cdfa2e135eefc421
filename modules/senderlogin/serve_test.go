package senderlogin

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/deliver"
	_ "github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

const submission = `
server {
  hostname = "mx.example.test"
}
tls "self_signed" {}
domain "example.test" {
  aliases = {
    sales = ["alice"]
  }
}
listener "smtp" "submission" {
  address = "127.0.0.1:0"
  tls     = "implicit"
  auth    = "required"
  chain {
    password {}
    sender_login {
      allow = { "alice@example.test" = ["@example.net"] }
    }
    deliver {}
  }
}
`

const secret = "correct horse battery staple"

// patience is how long a client waits for a line. Nothing takes that long.
const patience = 20 * time.Second

// dialog sends the lines that begin with -> and holds the answers against those
// that begin with <-, of which the end may be left out.
func dialog(t *testing.T, conn net.Conn, script string) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for line := range strings.Lines(script) {
		way, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case !ok && way != "->":
		case way == "->":
			if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
				t.Fatalf("send %q: %v", text, err)
			}
		default:
			answer, err := in.ReadString('\n')
			for err == nil && len(answer) > 3 && answer[3] == '-' {
				answer, err = in.ReadString('\n')
			}
			if err != nil || !strings.HasPrefix(answer, text) {
				t.Fatalf("got %q, %v; want %q", answer, err, text)
			}
		}
	}
}

// TestServe sends by a whole server.
func TestServe(t *testing.T) {
	t.Parallel()
	s := coretest.Serve(t, submission, coretest.Options{})
	accounts := coretest.Service[interface {
		Add(ctx context.Context, address string, password mail.Secret) error
	}](t, s)
	for _, name := range []string{"alice", "bob"} {
		if err := accounts.Add(t.Context(), name+"@example.test", secret); err != nil {
			t.Fatal(err)
		}
	}
	config := &tls.Config{InsecureSkipVerify: true} // self-signed, on loopback
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", coretest.Address(t, s, "submission"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dialog(t, conn, `
		<- 220
		-> EHLO client.example.test
		<- 250
		-> AUTH PLAIN `+base64.StdEncoding.EncodeToString([]byte("\x00alice@example.test\x00"+secret))+`
		<- 235
		-> MAIL FROM:<bob@example.test>
		<- 553 5.7.1 This sender address does not belong to the user who has logged in
		-> MAIL FROM:<alice@example.org>
		<- 553 5.7.1
		-> MAIL FROM:<Sales+1@Example.test>
		<- 250
		-> RCPT TO:<bob@example.test>
		<- 250
		-> DATA
		<- 354
		-> From: Bob <bob@example.test>
		->
		-> hi
		-> .
		<- 550 5.7.1 From or Sender in the header names an address that does not belong to the user who has logged in
		-> MAIL FROM:<>
		<- 250
		-> RCPT TO:<bob@example.test>
		<- 250
		-> DATA
		<- 354
		-> From: Alice
		->
		-> hi
		-> .
		<- 550 5.7.1 The header must have one From field
		-> MAIL FROM:<news@example.net>
		<- 250
		-> RCPT TO:<bob@example.test>
		<- 250
		-> DATA
		<- 354
		-> From: "News, by Alice" <news@example.net>, alice@example.test
		-> Sender: sales@example.test
		->
		-> hi
		-> .
		<- 250
		-> QUIT
		<- 221
	`)
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var refused []string
	for _, r := range records {
		if r.Outcome.Handler == "sender_login" {
			refused = append(refused, r.Outcome.Reason)
		}
	}
	if len(refused) != 4 || refused[len(refused)-1] != "alice@example.test may not send as bob@example.test" {
		t.Errorf("traces of refusals: %q", refused)
	}
}
