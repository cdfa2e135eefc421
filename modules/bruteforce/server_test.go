package bruteforce_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/blocklist"
	_ "github.com/mox-like/mox-like/modules/deliver"
	_ "github.com/mox-like/mox-like/modules/imap"
	_ "github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

const config = `
server { hostname = "mx.example.test" }
domain "example.test" {}
store "sqlite" {}
tls "self_signed" {}
chain "login" {
  bruteforce {}
  password {}
}
listener "smtp" "submission" {
  address = ["127.0.0.1:0"]
  tls     = "implicit"
  auth    = "required"
  chain {
    use "login" {}
    deliver {}
  }
}
listener "imap" "imaps" {
  address = ["127.0.0.1:0"]
  tls     = "implicit"
  chain {
    use "login" {}
  }
}
`

const (
	user   = "alice@example.test"
	secret = "correct horse battery"
	owner  = "127.0.0.2"
	robber = "127.0.0.3"
)

// login gives the last line that the server says to a login from an address, or
// its first, if that is a refusal.
func login(t *testing.T, s *core.Server, listener, from, password string) string {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", coretest.Address(t, s, listener))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	read := func(more string) string {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s from %s: read: %v", listener, from, err)
			}
			if !strings.HasPrefix(line, more) {
				return strings.TrimSpace(line)
			}
		}
	}
	say := func(format string, args ...any) {
		if _, err := fmt.Fprintf(conn, format+"\r\n", args...); err != nil {
			t.Fatal(err)
		}
	}
	greeting := read("220-")
	if !strings.HasPrefix(greeting, "220 ") && !strings.HasPrefix(greeting, "* OK") {
		return greeting
	}
	if listener == "imaps" {
		say("a LOGIN %s %q", user, password)
		return read("* ")
	}
	say("EHLO client.example.test")
	read("250-")
	say("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	return read("235-")
}

// Failures at SMTP and IMAP count together and the block holds at both, while the
// owner logs in from elsewhere.
func TestServer(t *testing.T) {
	t.Parallel()
	s := coretest.Serve(t, config, coretest.Options{})
	if err := coretest.Service[*accounts.Accounts](t, s).Add(t.Context(), user, mail.Secret(secret)); err != nil {
		t.Fatal(err)
	}
	expect := func(listener, from, password, want string) {
		t.Helper()
		if got := login(t, s, listener, from, password); !strings.HasPrefix(got, want) {
			t.Errorf("%s from %s: %q, want %q", listener, from, got, want)
		}
	}
	expect("imaps", owner, secret, "a OK")
	for range 2 {
		expect("submission", robber, "guess", "535 5.7.8 Authentication credentials invalid")
		expect("imaps", robber, "guess", "a NO [AUTHENTICATIONFAILED] Authentication credentials invalid")
	}
	expect("submission", robber, "guess", "535 5.7.8")
	const text = "Too many failed logins from your network, try again later"
	expect("submission", robber, secret, "421 4.7.0 "+text)
	expect("imaps", robber, secret, "* BYE ")
	expect("submission", owner, secret, "235 ")
	expect("imaps", owner, secret, "a OK")
	blocks := coretest.Service[*blocklist.Service](t, s)
	if why, err := blocks.WhyBlocked(t.Context(), netip.MustParseAddr(robber)); err != nil || len(why) != 1 || why[0].Source != "bruteforce" {
		t.Errorf("blocks %+v, %v", why, err)
	}
	if n, err := blocks.RemoveBlock(t.Context(), netip.MustParsePrefix(robber+"/32")); n != 1 || err != nil {
		t.Errorf("remove: %d, %v", n, err)
	}
	expect("submission", robber, secret, "235 ")
	if list, _, err := blocks.Blocks(t.Context(), control.Page{}); err != nil || len(list) != 0 {
		t.Errorf("blocks in the end: %+v, %v", list, err)
	}
}
