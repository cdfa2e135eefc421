package imap

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/mail"
)

// TestWork: when a command is given up, and that nothing which the client sends
// meanwhile is lost. It runs in a bubble, where time passes at once.
func TestWork(t *testing.T) {
	const limit = 10 * time.Second
	untilEnd := func(_ *session, ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	cases := []struct {
		name  string
		work  func(*session, context.Context) error
		meet  func(client net.Conn, c *conn) // runs beside the command
		after time.Duration                  // after which it is over, or a second later
		want  string
	}{
		{"quick", func(*session, context.Context) error { return nil }, nil, 0, ""},
		{"too long", untilEnd, nil, limit, "imap: NO [LIMIT] This takes longer than 10s, ask for less at once"},
		{"too long with the next command", untilEnd, func(client net.Conn, _ *conn) {
			go func() { _, _ = io.WriteString(client, "a NOOP\r\n") }()
		}, limit, "imap: NO [LIMIT] This takes longer than 10s, ask for less at once"},
		{"client gone", untilEnd, func(client net.Conn, _ *conn) {
			time.AfterFunc(3*time.Second, func() { _ = client.Close() })
		}, 3 * time.Second, "imap: NO [UNAVAILABLE] Connection was closed before the end of the command"},
		{"client gone before it is watched", untilEnd, func(client net.Conn, _ *conn) {
			time.AfterFunc(watchEvery/2, func() { _ = client.Close() })
		}, watchEvery, "imap: NO [UNAVAILABLE] Connection was closed before the end of the command"},
		{"server stops", untilEnd, func(_ net.Conn, c *conn) {
			time.AfterFunc(3*time.Second, c.cancel)
		}, 3 * time.Second, "imap: NO [UNAVAILABLE] Server is shutting down, connect again later"},
		{"long with responses", func(s *session, ctx context.Context) error {
			for range 10 {
				s.conn.fence.out.line("* 1 FETCH ()")
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(limit - 2*time.Second):
				}
			}
			return nil
		}, func(client net.Conn, _ *conn) { go func() { _, _ = io.Copy(io.Discard, client) }() }, 10 * (limit - 2*time.Second), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				timeouts := &Timeouts{Login: time.Hour, Idle: time.Hour, Command: time.Minute, Work: limit, Write: time.Minute}
				s := &session{conn: &conn{
					listener: &Listener{Settings: Settings{Timeouts: timeouts}}, fence: newFence(server, timeouts, capabilities{}),
					log: zap.NewNop(), session: new(mail.Session),
				}}
				s.conn.fence.authed = true
				s.conn.ctx, s.conn.cancel = context.WithCancel(t.Context())
				defer s.conn.cancel()
				began := time.Now()
				if c.meet != nil {
					c.meet(client, s.conn)
				}
				err := s.do("TEST", func(ctx context.Context) error { return c.work(s, ctx) })
				if took := time.Since(began); took < c.after || took > c.after+watchEvery {
					t.Errorf("it took %s, want %s", took, c.after)
				}
				if got := errorText(err); got != c.want {
					t.Errorf("the error is %q, want %q", got, c.want)
				}
				_ = client.Close()
				_ = s.conn.fence.Close()
			})
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestWorkKeepsInput: the watch takes nothing away from the next command.
func TestWorkKeepsInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		timeouts := &Timeouts{Login: time.Hour, Idle: time.Hour, Command: time.Minute, Work: time.Minute, Write: time.Minute}
		c := &conn{listener: &Listener{Settings: Settings{Timeouts: timeouts}}, fence: newFence(server, timeouts, capabilities{}), ctx: t.Context()}
		c.fence.authed = true
		go func() {
			for part := range strings.SplitSeq("a NO|OP\r\nb SELECT |INBOX\r\n", "|") {
				<-time.After(1500 * time.Millisecond)
				_, _ = io.WriteString(client, part)
			}
			_ = client.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_, end := c.work()
		<-time.After(4 * time.Second)
		end()
		got, err := io.ReadAll(unanswered{c.fence})
		if string(got) != "a NOOP\r\nb SELECT INBOX\r\n" {
			t.Errorf("read %q (%v)", got, err)
		}
		_ = c.fence.Close()
	})
}

// unanswered is a server that answers each command at once.
type unanswered struct{ f *fence }

func (u unanswered) Read(p []byte) (int, error) {
	n, err := u.f.Read(p)
	if tag, _, _ := strings.Cut(string(p[:n]), " "); err == nil {
		_, _ = io.WriteString(u.f, tag+" OK done\r\n")
	}
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}
