package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/trace"
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
	response, err := c.Get("http://control/v1/traces/follow")
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
		"unknown field":     {"POST", "/v1/users", `{"address":"a@example.test","password":"hunter2","quota":1}`, 422, `"type":"/problems/invalid"`},
		"missing field":     {"POST", "/v1/users", `{"address":"a@example.test"}`, 422, `password`},
		"two values":        {"POST", "/v1/users", `{"address":"a@example.test","password":"x"}{}`, 400, `"type":"/problems/invalid"`},
		"no JSON":           {"POST", "/v1/users", `address`, 400, `"type":"/problems/invalid"`},
		"nothing":           {"POST", "/v1/users", ``, 400, `body is required`},
		"too large":         {"POST", "/v1/users", `{"password":"` + strings.Repeat("x", 1<<20) + `"}`, 413, `"type":"/problems/too-large"`},
		"bad number":        {"GET", "/v1/traces?last=many", "", 422, `"type":"/problems/invalid"`},
		"too many":          {"GET", "/v1/blocks?limit=1001", "", 422, `query.limit`},
		"unknown parameter": {"GET", "/v1/blocks?page=2", "", 422, `query.page`},
		"bad network":       {"GET", "/v1/traces?ip=localhost", "", 422, `localhost`},
		"bad time":          {"POST", "/v1/blocks/import?source=x&expires=tomorrow", "192.0.2.0/24", 422, `expires`},
		"no such record":    {"GET", "/v1/traces/x", "", 404, `"type":"/problems/not-found"`},
		"no such revision":  {"GET", "/v1/audit?after=x", "", 422, `"type":"/problems/invalid"`},
		"way up":            {"GET", "/v1/traces/%2e%2e", "", 404, `"type":"/problems/not-found"`},
		"nothing to swap":   {"POST", "/v1/reload", "", 503, `"type":"/problems/not-running"`},
		"wrong method":      {"GET", "/v1/reload", "", 405, `"type":"/problems/method-not-allowed"`},
		"unknown path":      {"GET", "/v2/users", "", 404, `"type":"/problems/no-such-path"`},
		"bad value":         {"PATCH", "/v1/domains/example.test/settings", `{"greylist":{"delay":[null]}}`, 422, `greylist.delay`},
		"no settings":       {"PATCH", "/v1/domains/example.test/settings", `{}`, 422, `names none`},
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
			if response.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("the answer is %s, want a problem", response.Header.Get("Content-Type"))
			}
			if strings.Contains(string(body), "hunter2") {
				t.Errorf("the answer shows a password: %s", body)
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

// TestEvents: those who ask for server-sent events get them.
func TestEvents(t *testing.T) {
	t.Parallel()
	h, dir := host(t), t.TempDir()
	connect(t, dir, control.NewLocal(h, dir, new(process)))
	c := raw(dir)
	t.Cleanup(c.CloseIdleConnections)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://control/v1/traces/follow", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("the stream is %s", got)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ended := make(chan struct{})
	go func() { // what is added before following has begun is not shown
		for {
			select {
			case <-tick.C:
				h.Traces().Add(record("e1", time.Now()))
			case <-ended:
				return
			}
		}
	}()
	defer close(ended)
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var r trace.Record
			if err := json.Unmarshal([]byte(data), &r); err != nil || r.ID != "e1" {
				t.Errorf("event %s: %v", data, err)
			}
			return
		}
	}
}

// TestUserPages: the accounts come in pages, and the client gathers them.
func TestUserPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local := control.NewLocal(host(t), dir, nil)
	client := connect(t, dir, local)
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := local.AddUser(t.Context(), name+"@example.test", "secret"); err != nil {
			t.Fatal(err)
		}
	}
	c := raw(dir)
	t.Cleanup(c.CloseIdleConnections)
	for query, want := range map[string]string{
		"limit=2":                      `a@example.test b@example.test next b@example.test`,
		"limit=2&after=b@example.test": `c@example.test d@example.test`,
		"limit=4":                      `a@example.test b@example.test c@example.test d@example.test`,
		"after=bb":                     `c@example.test d@example.test`,
		"after=z":                      ``,
	} {
		_, body := send(t, c, http.MethodGet, "/v1/users?"+query, "", "")
		var list struct {
			Users []struct{ Address string }
			Next  string
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range list.Users {
			got = append(got, u.Address)
		}
		if list.Next != "" {
			got = append(got, "next", list.Next)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", query, text, want)
		}
	}
	if all, err := client.Users(t.Context()); err != nil || len(all) != 4 {
		t.Errorf("the client has %d accounts, error %v", len(all), err)
	}
}
