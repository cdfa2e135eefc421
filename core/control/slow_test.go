package control_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/trace"
)

// pipes is a listener of connections in memory, whose time is the test's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.done)
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// patient are operations that take their time.
type patient struct {
	control.Operations
	left chan struct{} // closed when a follower has left
}

// work is how long a list is worked on once it is there: longer than a client may
// pause.
const work = 2 * time.Minute

func (p *patient) ImportBlocks(ctx context.Context, _ string, list io.Reader, _ time.Time) (int, error) {
	n, err := io.Copy(io.Discard, list)
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(work):
		return int(n), nil
	case <-ctx.Done():
		return 0, errors.New("the work was cut off")
	}
}

func (p *patient) FollowTraces(ctx context.Context, _ func(*trace.Record) error) error {
	<-ctx.Done()
	close(p.left)
	return nil
}

// dial serves operations in memory, and gives a connection to them.
func dial(t *testing.T, ops control.Operations) (conn net.Conn, stop func()) {
	t.Helper()
	handler := control.NewHandler(control.HandlerOptions{
		Operations: func() control.Operations { return ops },
		Actor:      func(*http.Request) control.Actor { return control.Actor{} },
		Logger:     zap.NewNop(),
	})
	server := control.HTTPServer(t.Context(), handler, zap.NewNop())
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, theirs := net.Pipe()
	l.conns <- theirs
	return conn, func() {
		t.Helper()
		if err := errors.Join(conn.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		synctest.Wait()
	}
}

// TestSlowClients: a client that stalls is cut off, and one that is only slow is
// served.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const importHead = "POST /v1/blocks/import?source=x HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 40\r\n\r\n"
	tests := map[string]struct {
		head   string
		pause  time.Duration // between the pieces that follow
		pieces int           // of ten bytes
		within time.Duration // it ends then
		want   string        // that the answer has, "" for none
	}{
		"header section stalls": {"GET /v1/users HTTP/1.1\r\nHost: ", time.Hour, 1, 11 * time.Second, ""},
		"header section creeps": {"GET /v1/users HTTP/1.1\r\nHost: ", 2 * time.Second, 100, 11 * time.Second, ""},
		"nothing":               {"", time.Hour, 1, 11 * time.Second, ""},
		"body stalls":           {"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", time.Hour, 1, 61 * time.Second, "/problems/timeout"},
		"list stalls":           {importHead, 30 * time.Second, 4, 11 * time.Second, "/problems/timeout"},
		"list creeps":           {importHead, 9 * time.Second, 4, 40*time.Second + work, `{"added":40}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn, stop := dial(t, new(patient))
				start := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					_, err := io.WriteString(conn, test.head)
					for i := 0; i < test.pieces && err == nil; i++ {
						select {
						case <-time.After(test.pause):
							_, err = io.WriteString(conn, "0123456789")
						case <-ctx.Done():
							return
						}
					}
				}()
				answer, err := io.ReadAll(bufio.NewReader(&until{conn, `{"added":40}`}))
				if took := time.Since(start); took > test.within {
					t.Errorf("it took %s, want at most %s", took, test.within)
				}
				if !strings.Contains(string(answer), test.want) || test.want == "" && len(answer) > 0 {
					t.Errorf("the answer is %q (error %v), want %q", answer, err, test.want)
				}
				cancel()
				stop()
			})
		})
	}
}

// TestFollowForLong: nothing but the client ends a stream of traces.
func TestFollowForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ops := &patient{left: make(chan struct{})}
		conn, stop := dial(t, ops)
		defer stop()
		if _, err := io.WriteString(conn, "GET /v1/traces/follow HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(&until{conn, "\r\n\r\n"}); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		select {
		case <-ops.left:
			t.Error("the stream has ended")
		case <-time.After(24 * time.Hour):
		}
	})
}

// until reads up to a text, behind which the other end would wait for more.
type until struct {
	io.Reader
	text string
}

func (u *until) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err == nil && strings.Contains(string(b[:n]), u.text) {
		err = io.EOF
	}
	return n, err
}
