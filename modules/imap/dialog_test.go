package imap_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/imap"
	"github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// config is a server with a listener of each kind. The verb is for
// further settings of imaps.
const config = `
server {
  hostname = "mx.example.test"
}
tls "self_signed" {}
domain "example.test" {}
chain "login" {
  password {}
}
listener "imap" "imaps" {
  address = ["127.0.0.1:0"]
  %s
  chain {
    use "login" {}
  }
}
listener "imap" "imap" {
  address = ["127.0.0.1:0"]
  tls     = "starttls"
  chain {
    use "login" {}
  }
}
`

const password = "correct horse battery staple"

// serve runs a server; settings go into the listener imaps.
func serve(t testing.TB, settings string) *core.Server {
	t.Helper()
	return coretest.Serve(t, fmt.Sprintf(config, settings), coretest.Options{})
}

// account adds an account and gives its address.
func account(t testing.TB, s *core.Server, name string) string {
	t.Helper()
	accounts := coretest.Service[interface {
		Add(ctx context.Context, address string, password mail.Secret) error
	}](t, s)
	address := name + "@example.test"
	if err := accounts.Add(t.Context(), address, password); err != nil {
		t.Fatalf("add account: %v", err)
	}
	return address
}

// deliver puts a message into an account's INBOX, as SMTP would.
func deliver(t testing.TB, s *core.Server, address, raw string) {
	t.Helper()
	message, err := mail.NewMessage([]byte(strings.ReplaceAll(raw, "\n", "\r\n")))
	if err != nil {
		t.Fatalf("make message: %v", err)
	}
	tx := mail.NewTransaction(mail.NewID(time.Now()), &mail.Session{}, time.Now())
	tx.Message = message
	rendering, err := tx.Rendered()
	if err != nil {
		t.Fatalf("render message: %v", err)
	}
	err = coretest.Service[interface {
		Deliver(ctx context.Context, d mailbox.Delivery) error
	}](t, s).Deliver(t.Context(), mailbox.Delivery{
		Recipients: []mailbox.Target{{Account: address}}, Message: rendering, Received: time.Now(),
	})
	if err != nil {
		t.Fatalf("deliver message: %v", err)
	}
}

// client speaks IMAP by hand.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	vars map[string]string
}

// patience is how long a client waits for a line. Nothing takes that long.
const patience = 20 * time.Second

// dial connects without TLS.
func dial(t testing.TB, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	c := &client{t: t, conn: conn, in: bufio.NewReader(conn)}
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// startTLS begins TLS on the connection.
func (c *client) startTLS() {
	c.t.Helper()
	secured := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		c.t.Fatalf("TLS handshake: %v", err)
	}
	c.conn, c.in = secured, bufio.NewReader(secured)
}

// tryTLS is startTLS, but tells whether the server let it.
func (c *client) tryTLS() bool {
	secured := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.Handshake(); err != nil {
		_ = c.conn.Close()
		return false
	}
	c.t.Cleanup(func() { _ = secured.Close() })
	c.conn, c.in = secured, bufio.NewReader(secured)
	return true
}

// login connects to imaps and logs in.
func login(t testing.TB, s *core.Server, address string) *client {
	t.Helper()
	c := dial(t, coretest.Address(t, s, "imaps"))
	c.startTLS()
	c.run("<~ \\* OK \\[CAPABILITY .*\n-> a LOGIN " + address + " \"" + password + "\"\n<~ a OK \\[CAPABILITY .*\\] Logged in")
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.t.Fatalf("send %.100q: %v", text, err)
	}
}

// line reads a line, without its end.
func (c *client) line() string {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read line after %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// closed checks that the server has closed the connection.
func (c *client) closed() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	if line, err := c.in.ReadString('\n'); err == nil || line != "" {
		c.t.Fatalf("read %q, want the end of the connection", line)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("connection stays open")
	}
}

// run plays a dialog, line by line:
//
//	-> text    is sent, with CRLF; \r\n and \x00 in it stand for themselves
//	<- text    is the next line
//	<~ regexp  matches the next line; (?P<name>…) is kept for $name in later lines
//	<* prefix  skips lines up to the one that begins so
func (c *client) run(script string) {
	c.t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verb, text, _ := strings.Cut(line, " ")
		for name, value := range c.vars {
			text = strings.ReplaceAll(text, "$"+name, value)
		}
		switch verb {
		case "->":
			c.send(unescape(text) + "\r\n")
		case "<-":
			if got := c.line(); got != unescape(text) {
				c.t.Fatalf("got  %q\nwant %q", got, text)
			}
		case "<~":
			c.match(text, c.line())
		case "<*":
			for !strings.HasPrefix(c.line(), text) {
			}
		default:
			c.t.Fatalf("script line %q", line)
		}
	}
}

func (c *client) match(pattern, got string) {
	c.t.Helper()
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		c.t.Fatalf("script: %v", err)
	}
	found := re.FindStringSubmatch(got)
	if found == nil {
		c.t.Fatalf("got  %q\nwant %s", got, pattern)
	}
	for i, name := range re.SubexpNames() {
		if name != "" {
			if c.vars == nil {
				c.vars = make(map[string]string)
			}
			c.vars[name] = found[i]
		}
	}
}

func unescape(text string) string {
	return strings.NewReplacer(`\r\n`, "\r\n", `\x00`, "\x00").Replace(text)
}
