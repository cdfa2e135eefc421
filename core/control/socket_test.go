package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/mox-like/mox-like/core/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConnectToNobody(t *testing.T) {
	t.Parallel()
	stale := t.TempDir()
	leave(t, stale)
	tests := map[string]string{
		"no directory": filepath.Join(t.TempDir(), "none"),
		"no socket":    t.TempDir(),
		"stale socket": stale,
	}
	for name, dir := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := control.Connect(t.Context(), dir); !errors.Is(err, control.ErrNotRunning) {
				t.Errorf("error %v, want ErrNotRunning", err)
			}
		})
	}
}

// leave makes the socket that a server which was killed has left.
func leave(t *testing.T, dir string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "control.sock")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSocket covers what the file system shows of the socket.
func TestSocket(t *testing.T) {
	t.Parallel()
	deep := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	tests := map[string]struct{ dir string }{
		"short path": {t.TempDir()},
		"long path":  {deep},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := os.MkdirAll(test.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if len(test.dir) < 80 {
				leave(t, test.dir)
			}
			path := filepath.Join(test.dir, "control.sock")
			server, err := control.Serve(t.Context(), test.dir, control.NewLocal(host(t), test.dir, nil), zaptest.NewLogger(t))
			if err != nil {
				t.Fatalf("serve: %v", err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("mode %v, want a socket for its owner alone", info.Mode())
			}
			client, err := control.Connect(t.Context(), test.dir)
			if err != nil {
				t.Fatalf("connect: %v", err)
			}
			if _, err := client.Users(t.Context()); err != nil {
				t.Errorf("list users: %v", err)
			}
			if err := errors.Join(client.Close(), server.Close(t.Context())); err != nil {
				t.Fatalf("close: %v", err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket is still there: %v", err)
			}
		})
	}
}

// TestCloseEndsFollowers: the server must not wait for those who follow.
func TestCloseEndsFollowers(t *testing.T) {
	t.Parallel()
	h, dir := host(t), t.TempDir()
	server, err := control.Serve(t.Context(), dir, control.NewLocal(h, dir, new(process)), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	c := raw(dir)
	response, err := c.Get("http://control/v1/follow")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Errorf("the stream did not end in order: %v", err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	c.CloseIdleConnections()
}

// TestRequests covers what our own client does not send.
func TestRequests(t *testing.T) {
	t.Parallel()
	h, dir := host(t), t.TempDir()
	connect(t, dir, control.NewLocal(h, dir, nil))
	tests := map[string]struct {
		method, path, body string
		status             int
		contains           string
	}{
		"unknown field":   {"POST", "/v1/users", `{"address":"a@example.test","quota":1}`, 422, `"type":"/problems/invalid"`},
		"two values":      {"POST", "/v1/users", `{"address":"a@example.test"}{}`, 422, `more than one value`},
		"no JSON":         {"POST", "/v1/users", `address`, 422, `"type":"/problems/invalid"`},
		"too large":       {"POST", "/v1/users", `{"password":"` + strings.Repeat("x", 1<<20) + `"}`, 422, `too large`},
		"bad number":      {"POST", "/v1/traces/find", `{"last":"many"}`, 422, `"type":"/problems/invalid"`},
		"no such record":  {"GET", "/v1/trace?id=x", "", 404, `"type":"/problems/not-found"`},
		"nothing to swap": {"POST", "/v1/reload", "", 503, `"type":"/problems/not-running"`},
		"wrong method":    {"GET", "/v1/reload", "", 405, "Method Not Allowed"},
		"unknown path":    {"GET", "/v2/users", "", 404, "not found"},
	}
	c := raw(dir)
	t.Cleanup(c.CloseIdleConnections)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, "http://control"+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := c.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err = errors.Join(err, response.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || !strings.Contains(string(body), test.contains) {
				t.Errorf("%s %s: %d %s, want %d with %q", test.method, test.path, response.StatusCode, body, test.status, test.contains)
			}
		})
	}
}

// raw is a client of the socket that sends anything.
func raw(dir string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(dir, "control.sock"))
		},
	}}
}
