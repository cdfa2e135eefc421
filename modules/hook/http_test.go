package hook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// start runs a web service until the test ends.
func start(t *testing.T, s *httptest.Server, begin func()) string {
	t.Helper()
	begin()
	t.Cleanup(s.Close)
	return s.URL
}

// answering is a service that says the same to everything.
func answering(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func at(s string) string { return fmt.Sprintf("url = %q", s) }

func loadHTTP(t *testing.T, kit *core.Sandbox, settings ...string) *HTTP {
	t.Helper()
	if kit == nil {
		kit = coretest.New(t, coretest.Options{})
	}
	return coretest.Load[*HTTP](t, kit, "handler.http", blockOf("http", settings...))
}

func TestServiceJudges(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	const secret = "0123456789abcdef"
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%d.%s", now.Unix(), body)
		got := []string{
			r.Method, r.URL.String(), r.Header.Get("Content-Type"), r.Header.Get("Authorization"),
			r.Header.Get("X-Mox-Like-Timestamp"), r.Header.Get("X-Mox-Like-Signature"), r.Header.Get("Accept-Encoding"),
		}
		want := []string{
			http.MethodPost, "/judge?key=1", "application/json", "Bearer token",
			fmt.Sprint(now.Unix()), hex.EncodeToString(mac.Sum(nil)), "",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		if !strings.Contains(string(body), `"id":"message7"`) {
			t.Errorf("the service was sent %s", body)
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprint(w, `{"action":"quarantine","reason":"odd"}`)
	}))
	kit := coretest.New(t, coretest.Options{Now: func() time.Time { return now }})
	h := loadHTTP(t, kit, at(start(t, server, server.Start)+"/judge?key=1"),
		fmt.Sprintf("secret = %q", secret), `headers = { "Authorization" = "Bearer token" }`)
	v, err := h.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 7))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mail.Quarantine("odd"), v); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

func TestServicesThatGoWrong(t *testing.T) {
	t.Parallel()
	const good = `{"action":"accept"}`
	for name, test := range map[string]struct {
		service http.HandlerFunc
		want    string
	}{
		"500":          {answering(500, "application/json", good), "the status is 500"},
		"204":          {answering(204, "application/json", ""), "the status is 204"},
		"201":          {answering(201, "application/json", good), "the status is 201"},
		"HTML":         {answering(200, "text/html", good), `Content-Type is "text/html"`},
		"no type":      {answering(200, "\x01", good), "Content-Type"},
		"lying":        {answering(200, "application/json", `{"action":"accept","code":250}`), "for defer and reject"},
		"empty":        {answering(200, "application/json", ""), "ends before the end"},
		"huge":         {answering(200, "application/json", strings.Repeat(" ", maxAnswer)+good), "longer than 65536"},
		"many headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", strings.Repeat("a", 1<<17)) }, "exceeded"},
		"redirect":     {http.RedirectHandler("/other", http.StatusTemporaryRedirect).ServeHTTP, "the status is 307"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, "longer than 65536"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, good)
		}, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(test.service)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			h := loadHTTP(t, nil, at(start(t, server, server.Start)+"/judge?key=secret"))
			v, err := h.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("verdict %+v, error %v, want one with %q", v, err, test.want)
			}
			if strings.Contains(err.Error(), "secret") || err.Error() != mail.Printable(err.Error(), 500) {
				t.Errorf("the error shows a secret, is long or not printable: %q", err)
			}
		})
	}
}

// TestCertificates finds that a service must have a certificate that is trusted,
// and that ca says which are.
func TestCertificates(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(answering(200, "application/json", `{"action":"accept"}`))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	address := start(t, server, server.StartTLS)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	tx := coretest.Transaction(t, mail.StageData, 1)
	if v, err := loadHTTP(t, nil, at(address)).Handle(t.Context(), tx); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("verdict %+v, %v of a service that nobody vouches for", v, err)
	}
	if v, err := loadHTTP(t, nil, at(address), fmt.Sprintf("ca = %q", ca)).Handle(t.Context(), tx); err != nil || v.Action != mail.ActionAccept {
		t.Errorf("verdict %+v, %v", v, err)
	}
	elsewhere := strings.Replace(address, "127.0.0.1", "localhost", 1)
	if v, err := loadHTTP(t, nil, at(elsewhere), fmt.Sprintf("ca = %q", ca)).Handle(t.Context(), tx); err == nil {
		t.Errorf("verdict %+v of a service with a certificate for another name", v)
	}
}

// TestCertificatesAreReplaced finds that a handler which is loaded anew, as by a
// reload, trusts what the file says now, and no longer what it said.
func TestCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(answering(200, "application/json", `{"action":"accept"}`))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	address := start(t, server, server.StartTLS)
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	sandbox, tx := coretest.New(t, coretest.Options{}), coretest.Transaction(t, mail.StageData, 1)
	for _, step := range []struct {
		text    []byte
		trusted bool
	}{{good, true}, {otherRoot(t), false}, {good, true}} {
		if err := os.WriteFile(ca, step.text, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := loadHTTP(t, sandbox, at(address), fmt.Sprintf("ca = %q", ca)).Handle(t.Context(), tx)
		if (err == nil) != step.trusted {
			t.Errorf("trusted %t: verdict %+v, %v", step.trusted, v, err)
		}
	}
}

// otherRoot makes a certificate in PEM that has signed nothing.
func otherRoot(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "hook") //nolint:usetesting // the name of a test would make the path too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(answering(200, "application/json", `{"action":"accept"}`))
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	start(t, server, server.Start)
	h := loadHTTP(t, nil, at("http://judge/"), fmt.Sprintf("socket = %q", socket))
	if v, err := h.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1)); err != nil || v.Action != mail.ActionAccept {
		t.Errorf("verdict %+v, %v", v, err)
	}
}

// TestConnectionsAreKept finds that two instances ask over one connection.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(answering(200, "application/json", `{"action":"accept"}`))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	address := start(t, server, server.Start)
	kit := coretest.New(t, coretest.Options{})
	for range 2 {
		h := loadHTTP(t, kit, at(address))
		for range 3 {
			if _, err := h.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for six requests", n)
	}
}

// TestKeptConnectionIsGone has a service close a connection just when it is used
// again.
func TestKeptConnectionIsGone(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 2 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
			return
		}
		answering(200, "application/json", `{"action":"accept"}`)(w, r)
	}))
	h := loadHTTP(t, nil, at(start(t, server, server.Start)))
	for i := range 2 {
		if _, err := h.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1)); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests came, want 3", n)
	}
}

func TestMaxRequests(t *testing.T) {
	t.Parallel()
	b := coretest.Faulty(t, coretest.FaultLate, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{\"action\":\"accept\"}")
	h := loadHTTP(t, nil, at("http://"+b.Address+"/"), "max_requests = 1")
	ended := make(chan error, 1)
	go func() {
		v, err := h.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1))
		if v.Action != mail.ActionAccept {
			err = fmt.Errorf("verdict %+v, %w", v, err)
		}
		ended <- err
	}()
	<-b.Asked()
	v, err := h.Handle(hurried{t.Context()}, coretest.Transaction(t, mail.StageData, 2))
	if err != nil || v.Action != mail.ActionDefer || v.Reply.Code != 451 {
		t.Errorf("verdict %+v, %v of one too many", v, err)
	}
	b.Release()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHTTPInAChain has an SMTP client meet services that are in trouble.
func TestHTTPInAChain(t *testing.T) {
	t.Parallel()
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n{\"action\":\"reject\"}"
	for _, fault := range coretest.Faults {
		for policy, reply := range policies {
			t.Run(string(fault)+"/"+policy, func(t *testing.T) {
				t.Parallel()
				b := coretest.Faulty(t, fault, answer)
				address := serve(t, blockOf("http", at("http://"+b.Address+"/"), fmt.Sprintf("on_error = %q", policy), `timeout = "1s"`))
				coretest.Dialog(t, address, transfer(reply))
				if fault == coretest.FaultLate { // and well again
					b.Release()
					coretest.Dialog(t, address, transfer("550 5.7.1 *"))
				}
			})
		}
	}
}
