package hook

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
)

func TestExecConforms(t *testing.T) {
	good := script(t, `cat >/dev/null; echo '{"action":"reject","reason":"for the test"}'`)
	hanging := script(t, `exec sleep 1000`)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID: "handler.exec", Config: blockOf("exec", command(good), `stage = ["connect", "helo", "mail", "rcpt", "data"]`),
		Hanging: blockOf("exec", command(hanging)),
		Bad: []coretest.Bad{
			{Config: "exec {}"},
			{Config: blockOf("exec", "command = []"), Attribute: "command"},
			{Config: blockOf("exec", `command = ""`), Attribute: "command"},
			{Config: blockOf("exec", `command = ["`+good+`", "a\u0000b"]`), Attribute: "command"},
			{Config: blockOf("exec", command("/nowhere/judge")), Attribute: "command"},
			{Config: blockOf("exec", command(plain)), Attribute: "command"},
			{Config: blockOf("exec", command(filepath.Dir(plain))), Attribute: "command"},
			{Config: blockOf("exec", command(good), "max_running = 0"), Attribute: "max_running"},
			{Config: blockOf("exec", command(good), `include = ["envelope"]`), Attribute: "include", Code: "config/bad-value"},
			{Config: blockOf("exec", command(good), `max_body = "1GB"`), Attribute: "max_body"},
			{Config: blockOf("exec", command(good), `stage = "auth"`), Attribute: "stage", Code: "chain/stage"},
		},
	})
}

func TestHTTPConforms(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"action":"defer","text":"Come back","reason":"for the test"}`)
	}))
	defer server.Close()
	url := fmt.Sprintf("url = %q", server.URL)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID: "handler.http", Config: blockOf("http", url, `stage = ["connect", "helo", "mail", "rcpt", "data"]`),
		Hanging: blockOf("http", fmt.Sprintf("url = \"http://%s/\"", coretest.Faulty(t, coretest.FaultHanging, "").Address)),
		Bad: []coretest.Bad{
			{Config: "http {}"},
			{Config: blockOf("http", `url = "judge.example.org/verdict"`), Attribute: "url"},
			{Config: blockOf("http", `url = "ftp://judge.example.org/"`), Attribute: "url"},
			{Config: blockOf("http", `url = "http://"`), Attribute: "url"},
			{Config: blockOf("http", `url = "http://a b/"`), Attribute: "url"},
			{Config: blockOf("http", `url = "http://user:password@judge.example.org/"`), Attribute: "url"},
			{Config: blockOf("http", `url = "http://judge.example.org/#top"`), Attribute: "url"},
			{Config: blockOf("http", url, `secret = "short"`), Attribute: "secret"},
			{Config: blockOf("http", url, `socket = "/`+strings.Repeat("x", maxSocketPath)+`"`), Attribute: "socket"},
			{Config: blockOf("http", url, `ca = "/nowhere/ca.pem"`), Attribute: "ca"},
			{Config: blockOf("http", url, fmt.Sprintf("ca = %q", junk)), Attribute: "ca"},
			{Config: blockOf("http", url, `headers = { "X A" = "b" }`), Attribute: "headers"},
			{Config: blockOf("http", url, `headers = { "X-A" = "b\nc" }`), Attribute: "headers"},
			{Config: blockOf("http", url, `headers = { "Content-Length" = "1" }`), Attribute: "headers"},
			{Config: blockOf("http", url, `headers = { "X-Mox-Like-Signature" = "1" }`), Attribute: "headers"},
			{Config: blockOf("http", url, "max_requests = 0"), Attribute: "max_requests"},
			{Config: blockOf("http", url, `stage = "auth"`), Attribute: "stage", Code: "chain/stage"},
		},
	})
}
