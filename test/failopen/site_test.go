// Package failopen_test has the backends of handlers fail in a server that takes
// mail, in every way and under every policy: what the client is told, whether the
// message is there, and what the operator sees.
package failopen_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/standard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// user is who gets the mail.
const user = "user@example.test"

// site is a server with a listener for each chain.
type site struct {
	*core.Server
	log   *observer.ObservedLogs
	inbox *mailbox.Account
	sent  int          // messages that were tried
	ahead atomic.Int64 // of the server's clock, in nanoseconds
}

// later moves the server's clock.
func (s *site) later(d time.Duration) { s.ahead.Add(int64(d)) }

func (s *site) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// newSite starts a server. The handlers in chains stand in front of the target,
// by the listener's name. The name server is 127.0.0.1:1, where nobody is, if none
// is given.
func newSite(tb testing.TB, dns netip.AddrPort, dnsTimeout time.Duration, chains map[string]string) *site {
	tb.Helper()
	if !dns.IsValid() {
		dns = netip.MustParseAddrPort("127.0.0.1:1")
	}
	var source strings.Builder
	fmt.Fprintf(&source, "%s\ndns {\n servers = [%q]\n timeout = %q\n attempts = 1\n}\n", coretest.Base, dns, dnsTimeout)
	for listener, handlers := range chains {
		fmt.Fprintf(&source, `
listener "smtp" %q {
  address = "127.0.0.1:0"
  tls     = "off"
  proxy_protocol { from = ["127.0.0.0/8"] }
  chain {
    %s
    deliver {}
  }
}
`, listener, handlers)
	}
	level, logs := observer.New(zap.InfoLevel)
	s := &site{log: logs}
	s.Server = core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: []byte(source.String()), DataDir: filepath.Join(tb.TempDir(), "data"), Logger: zap.New(level),
		Now: s.now,
	})
	if ds, _, err := s.Start(tb.Context()); err != nil {
		tb.Fatalf("start server: %v\n%v\n%s", err, ds.Err(), source.String())
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			tb.Errorf("stop server: %v", err)
		}
	})
	err := coretest.Service[*accounts.Accounts](tb, s).Add(tb.Context(), user, "a long password")
	if err == nil {
		s.inbox, err = coretest.Service[*mailbox.Service](tb, s).Open(tb.Context(), user)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var identifier = regexp.MustCompile(`\b[0-9a-hjkmnp-tv-z]{18}\b`)

// send has a new client, with a name and an address of its own, send a message
// from a domain of its own. It gives the last reply, or the first that refuses,
// and what the trace has of the handler of that name.
func (s *site) send(tb testing.TB, listener, handler string) (reply string, entry mail.Entry) {
	tb.Helper()
	s.sent++
	conn, err := net.Dial("tcp", coretest.Address(tb, s.Server, listener))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		tb.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "PROXY TCP4 192.0.2.%d 203.0.113.25 40000 25\r\n", s.sent); err != nil {
		tb.Fatal(err)
	}
	client := textproto.NewConn(conn)
	code, text, err := client.ReadResponse(0)
	for _, line := range []string{
		fmt.Sprintf("EHLO mail.m%d.example.org", s.sent), fmt.Sprintf("MAIL FROM:<a@m%d.example.org>", s.sent), "RCPT TO:<" + user + ">",
		"DATA", "Subject: Hello\r\n\r\nHello.\r\n.",
	} {
		if err != nil || code >= 400 {
			break
		}
		if err = client.PrintfLine("%s", line); err == nil {
			code, text, err = client.ReadResponse(0)
		}
	}
	if err == nil {
		err = client.PrintfLine("QUIT")
	}
	if err == nil {
		_, err = io.Copy(io.Discard, conn)
	}
	if err != nil {
		tb.Fatalf("message %d: %v", s.sent, err)
	}
	return fmt.Sprintf("%d %s", code, text), s.entry(tb, identifier.FindString(text), handler)
}

// entry finds in a trace what a handler said.
func (s *site) entry(tb testing.TB, id, handler string) mail.Entry {
	tb.Helper()
	record, err := s.Traces().Get(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range record.Entries {
		if e.Handler == handler {
			return e
		}
	}
	tb.Fatalf("the trace has nothing of %s: %+v", handler, record)
	return mail.Entry{}
}

// delivered counts the messages that are there.
func (s *site) delivered(tb testing.TB, box string) int {
	tb.Helper()
	status, err := s.inbox.Status(tb.Context(), box, &imap.StatusOptions{NumMessages: true})
	if err == nil && status.NumMessages == nil {
		err = errors.New("the mailbox does not say how many messages it has")
	}
	if err != nil {
		tb.Fatal(err)
	}
	return int(*status.NumMessages)
}

// status is what the command status shows.
func (s *site) status() *control.Status {
	status := new(control.Status)
	status.Health(s.Server)
	return status
}

// handler is what the command status shows of a handler; nil if it has never
// failed.
func (s *site) handler(listener, name string) *control.HandlerStatus {
	for _, h := range s.status().Handlers {
		if h.Listener == listener && h.Handler == name {
			return &h
		}
	}
	return nil
}

// logged counts lines of the log, at the level info and above.
func (s *site) logged(message string, fields ...zap.Field) int {
	lines := s.log.FilterMessage(message)
	for _, f := range fields {
		lines = lines.FilterField(f)
	}
	return lines.Len()
}
