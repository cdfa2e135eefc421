package admin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
)

// TestUnix: who can open the socket may do everything, and the trail names him.
func TestUnix(t *testing.T) {
	t.Parallel()
	s, ops := serve(t, base+`listener "admin" "api" {}`)
	path := address(t, s, "unix")
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v (error %v), want one for its owner alone", info.Mode(), err)
	}
	c := client(t, "unix", path)
	if status, _, body := ask(t, c, "POST", "http://admin/v1/users", `{"address":"alice@example.test","password":"correct horse battery"}`); status != 204 {
		t.Fatalf("add: %d %s", status, body)
	}
	status, header, body := ask(t, c, "GET", "http://admin/v1/users", "")
	if status != 200 || !strings.Contains(body, `"address":"alice@example.test"`) || header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("list: %d %v %s", status, header, body)
	}
	if status, _, body := ask(t, c, "GET", "http://admin/metrics", ""); status != 200 || !strings.Contains(body, "mox_like_store_transactions_total") {
		t.Errorf("metrics: %d %.200s", status, body)
	}
	if status, _, body := ask(t, c, "GET", "http://admin/healthz", ""); status != 200 || body != "ok\n" {
		t.Errorf("health: %d %s", status, body)
	}
	if status, _, body := ask(t, c, "GET", "http://admin/v1/nothing", ""); status != 404 || !strings.Contains(body, "/problems/no-such-path") {
		t.Errorf("unknown path: %d %s", status, body)
	}
	trail(t, ops, "add-user", fmt.Sprintf("(uid %d)", os.Getuid()), "")
}

// trail compares who made the one change.
func trail(t *testing.T, ops control.Operations, operation, actor, address string) {
	t.Helper()
	list, _, err := ops.Audit(t.Context(), control.ChangeFilter{Operation: operation}, control.Page{})
	if err != nil || len(list) != 1 || !strings.HasSuffix(list[0].Actor, actor) || list[0].Via != control.ViaAPI || list[0].Address != address {
		t.Errorf("the trail has %+v (error %v), want %s by %s from %q", list, err, operation, actor, address)
	}
}

// TestTokens: on TCP a token says what one may do.
func TestTokens(t *testing.T) {
	t.Parallel()
	s, ops := serve(t, secure)
	c := client(t, "tcp", address(t, s, "tcp"))
	tests := []struct {
		name, method, path, token string
		status                    int
		contains                  string
	}{
		{"nothing shown", "GET", "/v1/users", "", 401, "/problems/unauthorized"},
		{"nothing shown for figures", "GET", "/metrics", "", 401, "/problems/unauthorized"},
		{"health is for everyone", "GET", "/healthz", "", 200, "ok"},
		{"wrong", "GET", "/v1/users", "Bearer " + reader + "x", 401, "/problems/unauthorized"},
		{"another scheme", "GET", "/v1/users", "Basic " + reader, 401, "/problems/unauthorized"},
		{"read", "GET", "/v1/users", "Bearer " + reader, 200, "users"},
		{"read in lower case", "GET", "/metrics", "bearer " + reader, 200, "mox_like_"},
		{"read writes", "POST", "/v1/reload", "Bearer " + reader, 403, "reload is not for those who may look only"},
		{"read exports", "GET", "/v1/config/export", "Bearer " + reader, 403, "/problems/forbidden"},
		{"read exports by another spelling", "GET", "/v1/config/%65xport", "Bearer " + reader, 403, "/problems/forbidden"},
		{"read follows a redirect", "GET", "/v1//config/export", "Bearer " + reader, 403, "/problems/forbidden"},
		{"write exports", "GET", "/v1/config/export", "Bearer " + writer, 200, "files"},
		{"read patches", "PATCH", "/v1/domains/example.test/settings", "Bearer " + reader, 403, "/problems/forbidden"},
		{"read removes", "DELETE", "/v1/users/a@example.test", "Bearer " + reader, 403, "/problems/forbidden"},
		{"by hash", "GET", "/v1/status", "Bearer " + hashed, 200, "running"},
		{"write", "POST", "/v1/reload", "Bearer " + writer, 200, "diagnostics"},
	}
	for _, test := range tests {
		header := []string{"X-Nothing", ""}
		if test.token != "" {
			header = []string{"Authorization", test.token}
		}
		status, answer, body := ask(t, c, test.method, "https://admin"+test.path, "", header...)
		if status != test.status || !strings.Contains(body, test.contains) {
			t.Errorf("%s: %d %s, want %d with %q", test.name, status, body, test.status, test.contains)
		}
		if status == 401 && answer.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no WWW-Authenticate", test.name)
		}
		if strings.Contains(body, reader) || strings.Contains(body, writer) {
			t.Errorf("%s: the answer shows a secret: %s", test.name, body)
		}
	}
	trail(t, ops, "reload", `token "ci"`, "127.0.0.1")
}

// TestFailures: a network that guesses is not listened to for a while; the Unix
// socket stays open.
func TestFailures(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, secure)
	c := client(t, "tcp", address(t, s, "tcp"))
	for i := range 3 {
		if status, _, _ := ask(t, c, "GET", "https://admin/v1/users", "", "Authorization", fmt.Sprintf("Bearer %032d", i)); status != 401 {
			t.Fatalf("guess %d: %d, want 401", i, status)
		}
	}
	status, header, body := ask(t, c, "GET", "https://admin/v1/users", "", "Authorization", "Bearer "+writer)
	if status != 429 || header.Get("Retry-After") == "" || !strings.Contains(body, "/problems/too-many-failures") {
		t.Errorf("after three guesses: %d %v %s, want 429", status, header, body)
	}
	if status, _, body := ask(t, client(t, "unix", address(t, s, "unix")), "GET", "http://admin/v1/users", ""); status != 200 {
		t.Errorf("at the Unix socket: %d %s", status, body)
	}
}

// TestPlain: nothing is answered in the clear.
func TestPlain(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, secure)
	conn, err := net.Dial("tcp", address(t, s, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, _ := bufio.NewReader(conn).ReadString('\n')
	if strings.Contains(answer, "200") {
		t.Errorf("the answer in the clear is %q", answer)
	}
}

// TestCertificate: who has a certificate of the issuer may do everything.
func TestCertificate(t *testing.T) {
	t.Parallel()
	ca, other := newIssuer(t), newIssuer(t)
	source := func(token string) string {
		return base + fmt.Sprintf("tls \"self_signed\" {}\nlistener \"admin\" \"api\" {\n address = [\"127.0.0.1:0\"]\n client_ca = %q\n%s\n}\n", ca.path, token)
	}
	alone, ops := serve(t, source(""))
	mine := client(t, "tcp", address(t, alone, "tcp"), ca.issue(t, "ops"))
	if status, _, body := ask(t, mine, "POST", "https://admin/v1/reload", ""); status != 200 {
		t.Errorf("with a certificate: %d %s", status, body)
	}
	trail(t, ops, "reload", "certificate CN=ops", "127.0.0.1")
	if status, _, body := ask(t, mine, "POST", "https://admin/v1/reload", "", "Origin", "https://evil.example.org"); status != 403 || !strings.Contains(body, "/problems/cross-origin") {
		t.Errorf("from another site: %d %s, want 403", status, body)
	}
	for name, certificates := range map[string][]tls.Certificate{"without": nil, "of another issuer": {other.issue(t, "ops")}} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://admin/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := client(t, "tcp", address(t, alone, "tcp"), certificates...).Do(request); err == nil {
			t.Errorf("%s: %s, want no connection", name, response.Status)
			_ = response.Body.Close()
		}
	}
	both, _ := serve(t, source(`token "ci" { secret = "`+writer+`" }`))
	c := client(t, "tcp", address(t, both, "tcp"))
	if status, _, body := ask(t, c, "GET", "https://admin/v1/status", "", "Authorization", "Bearer "+writer); status != 200 {
		t.Errorf("a token where certificates are taken too: %d %s", status, body)
	}
	if status, _, _ := ask(t, c, "GET", "https://admin/v1/status", ""); status != 401 {
		t.Errorf("neither: %d, want 401", status)
	}
}

// TestSlow: clients that dawdle do not keep others from their place, and those
// without a place are turned away.
func TestSlow(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, base+`listener "admin" "api" {
		limits { connections = 2 }
	}`)
	path := address(t, s, "unix")
	hold := func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: "); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first, second := hold(), hold()
	defer second.Close()
	third, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if n, err := third.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a third connection reads %d bytes, error %v; want none and an end", n, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// The place is given back once the server has seen the end.
	for deadline := time.Now().Add(5 * time.Second); ; {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n")
		answer, readErr := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if err == nil && readErr == nil && strings.Contains(answer, "200") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the place is not given back: %q, %v, %v", answer, err, readErr)
		}
	}
}

// TestPlacesOfStrangers: who has no token neither keeps a place on TCP nor takes one
// of the Unix socket.
func TestPlacesOfStrangers(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, base+`tls "self_signed" {}
	listener "admin" "api" {
		address = ["unix:admin.sock", "127.0.0.1:0"]
		token "ci" { secret = "`+writer+`" }
		limits { connections = 1 }
	}`)
	remote := address(t, s, "tcp")
	hold, err := tls.Dial("tcp", remote, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Close() }()
	if status, _, body := ask(t, client(t, "unix", address(t, s, "unix")), "GET", "http://admin/v1/status", ""); status != 200 {
		t.Errorf("the Unix socket while TCP is full: %d %s", status, body)
	}
	for _, path := range []string{"/v1/status", "/healthz"} {
		if _, err := fmt.Fprintf(hold, "GET %s HTTP/1.1\r\nHost: admin\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(hold); err != nil || !strings.Contains(string(answer), "Connection: close") {
			t.Errorf("%s without a token is answered %q, and not the end (%v)", path, answer, err)
		}
		_ = hold.Close()
		for { // the place is given back once the server has seen the end
			if hold, err = tls.Dial("tcp", remote, &tls.Config{InsecureSkipVerify: true}); err == nil {
				break
			}
		}
	}
}

// TestStarting: a listener is there a moment before the process offers anything.
func TestStarting(t *testing.T) {
	t.Parallel()
	s := coretest.Serve(t, base+`listener "admin" "api" {}`, coretest.Options{})
	c := client(t, "unix", address(t, s, "unix"))
	for _, path := range []string{"/v1/status", "/metrics", "/healthz"} {
		if status, _, body := ask(t, c, "GET", "http://admin"+path, ""); status != 503 || !strings.Contains(body, "/problems/not-running") {
			t.Errorf("%s: %d %s, want 503", path, status, body)
		}
	}
}

// TestDrain: the end of the server ends those who follow, in order.
func TestDrain(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, base+`listener "admin" "api" {}`)
	c := client(t, "unix", address(t, s, "unix"))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://admin/v1/traces/follow", nil)
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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("the stream has %q", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream did not end in order: %v", err)
	}
}

// TestGroup: the socket is given to a group.
func TestGroup(t *testing.T) {
	t.Parallel()
	group, err := user.LookupGroupId(fmt.Sprint(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, base+fmt.Sprintf("listener \"admin\" \"api\" { group = %q }", group.Name))
	c := client(t, "unix", address(t, s, "unix"))
	if status, _, body := ask(t, c, "GET", "http://admin/healthz", ""); status != 200 { // so it is served
		t.Fatalf("health: %d %s", status, body)
	}
	if info, err := os.Stat(address(t, s, "unix")); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %v (error %v), want 0660", info.Mode(), err)
	}
}

// TestValidate: what is open to the world is refused, with its place.
func TestValidate(t *testing.T) {
	t.Parallel()
	const token = `token "ci" { secret = "` + writer + `" }`
	tests := map[string]struct {
		settings string
		want     string // line:column severity: a part of the summary, "" for nothing
	}{
		"default":         {``, ""},
		"another path":    {`address = ["unix:x.sock"]`, ""},
		"TLS and token":   {`address = ["127.0.0.1:8443"]` + "\n" + token, ""},
		"no guard":        {`address = ["127.0.0.1:8443"]`, "5:12 error: anyone who reaches 127.0.0.1:8443"},
		"no guard at all": {`address = ["unix:x.sock", "0.0.0.0:8443"]`, "5:27 error: anyone who reaches"},
		"no address":      {`address = []`, "5:11 error: no address"},
		"no secret":       {"address = [\"127.0.0.1:8443\"]\ntoken \"ci\" {}", "6:1 error: either a secret or its sha256"},
		"both secrets":    {"address = [\"127.0.0.1:8443\"]\ntoken \"ci\" {\nsecret = \"" + writer + "\"\nsha256 = \"00\"\n}", "6:1 error: either"},
		"short secret":    {"address = [\"127.0.0.1:8443\"]\ntoken \"ci\" {\nsecret = \"hunter2\"\n}", "7:10 error: could be guessed"},
		"bad hash":        {"address = [\"127.0.0.1:8443\"]\ntoken \"ci\" {\nsha256 = \"abc\"\n}", "7:10 error: no SHA-256"},
		"bad scope":       {"address = [\"127.0.0.1:8443\"]\ntoken \"ci\" {\nsecret = \"" + writer + "\"\nscope = \"all\"\n}", "8:9 error: scope"},
		"twice":           {"address = [\"127.0.0.1:8443\"]\n" + token + "\n" + token, "7:1 error: two tokens"},
		"no such issuer":  {"address = [\"127.0.0.1:8443\"]\nclient_ca = \"/nowhere/ca.pem\"", "6:13 error: read issuers"},
		"no such group":   {`group = "nobody-has-this-group"`, `5:9 error: no group "nobody-has-this-group"`},
		"token for unix":  {token, "5:1 warning: has no effect"},
		"a chain":         {"chain {\n nothing {}\n}", "6:2 error"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkProblem(t, strings.TrimPrefix(base, "\n")+"tls \"self_signed\" {}\nlistener \"admin\" \"api\" {\n"+test.settings+"\n}\n", test.want)
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		t.Parallel()
		checkProblem(t, base+"listener \"admin\" \"api\" {\naddress = [\"127.0.0.1:8443\"]\n"+token+"\n}\n", "5:12 error: needs TLS")
	})
}

func checkProblem(t *testing.T, source, want string) {
	t.Helper()
	ds, _ := core.Validate(core.Options{ConfigFile: "test.hcl", Source: []byte(source)})
	if want == "" {
		if len(ds) > 0 {
			t.Errorf("found %v, want nothing", ds)
		}
		return
	}
	place, text, _ := strings.Cut(want, ": ")
	for _, d := range ds {
		if fmt.Sprintf("%d:%d %s", d.Range.Start.Line, d.Range.Start.Column, d.Severity) == place && strings.Contains(d.Summary, text) {
			return
		}
	}
	t.Errorf("found %v, want %q", ds, want)
}
