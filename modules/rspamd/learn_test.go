package rspamd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// spam is a message with words that a clean one has not.
func spam(n int) string {
	return fmt.Sprintf("From: Prince <prince%d@example.net>\r\nTo: user@example.test\r\nSubject: Lottery winner %d\r\nMessage-ID: <%d@example.net>\r\n\r\n"+
		"Cheap pills and golden watches, wonderful offers that nobody may miss: lottery winner, million dollars,\r\n"+
		"urgent transfer, prince of a far kingdom, bank account number %d, act immediately and claim the jackpot.\r\n", n, n, n, n)
}

func ham(n int) string {
	return fmt.Sprintf("From: Alice <alice@example.org>\r\nTo: user@example.test\r\nSubject: Minutes %d\r\nMessage-ID: <%d@example.org>\r\n\r\n"+
		"Dear colleagues, attached please find the minutes of our meeting about the garden of the kindergarten,\r\n"+
		"with the list of plants, tools and volunteers number %d; see you on Saturday at the usual place.\r\n", n, n, n)
}

// TestLearn teaches the real rspamd, which judges otherwise afterwards.
func TestLearn(t *testing.T) {
	t.Parallel()
	d := daemon.Run(t, daemon.Rspamd{})
	teacher := newTeacher(t, d.Controller, daemon.RspamdPassword)
	judge := func(address backend.Address, raw string) mail.Verdict {
		t.Helper()
		got, err := newHandler(t, address, nil).Handle(t.Context(), newTransaction(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	lesson := func(raw string, isSpam bool) {
		t.Helper()
		if err := teacher.teach(t.Context(), "user@example.test", isSpam, strings.NewReader(raw), int64(len(raw))); err != nil {
			t.Fatal(err)
		}
	}
	// All lessons come first: the database of this test has one user at a time.
	for n := range 8 {
		lesson(spam(n), true)
		lesson(ham(n), false)
	}
	lesson(spam(0), true)  // known already
	lesson(spam(1), false) // people change their minds
	lesson(spam(1), true)
	lesson("Subject: a\r\n\r\nb\r\n", true) // too short to learn from
	lesson("", false)
	if got := judge(rspamd.TCP, spam(100)); strings.Contains(got.Reason, "BAYES") {
		t.Fatalf("one who has not learnt says %q", got.Reason)
	}
	if got := judge(d.TCP, spam(100)); !strings.Contains(got.Reason, "BAYES_SPAM") {
		t.Errorf("rspamd says %q of spam", got.Reason)
	}
	if got := judge(d.TCP, ham(100)); !strings.Contains(got.Reason, "BAYES_HAM") {
		t.Errorf("rspamd says %q of ham", got.Reason)
	}
	// A wrong password is said so, and not what it is.
	const wrong = "another password"
	err := newTeacher(t, d.Controller, wrong).teach(t.Context(), "user@example.test", true, strings.NewReader(ham(300)), int64(len(ham(300))))
	if err == nil || !strings.Contains(err.Error(), "401 Unauthorized: set password") || strings.Contains(err.Error(), wrong) {
		t.Errorf("with a wrong password: %v", err)
	}
	// The normal worker does not learn.
	err = newTeacher(t, d.TCP, daemon.RspamdPassword).teach(t.Context(), "user@example.test", true, strings.NewReader(spam(300)), int64(len(spam(300))))
	if err == nil || !strings.Contains(err.Error(), "500 invalid command") {
		t.Errorf("at the normal worker: %v", err)
	}
}

func TestLessons(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		response string
		fault    string
		logged   string
	}{
		"learnt":          {"200 OK\r\n\r\n{\"success\":true}", "", ""},
		"already":         {"208 <1@example.org> has been already learned as spam, ignore it\r\n\r\n", "", ""},
		"already, in 3.4": {"404 x\r\n\r\n{\"error\":\"<1@example.org> has been already learned as spam, ignore it\"}", "", ""},
		"too short":       {"204 <1@example.org> contains less tokens than required for bayes classifier: 3 < 11\r\n\r\n", "", "3 < 11"},
		"plain already":   {"204 all learn conditions denied learning spam in default classifier\r\n\r\n", "", "learn conditions denied"},
		"never":           {"413 Too large\r\n\r\n", "it says 413 Too large", ""},
		"no such command": {"404 Not found\r\n\r\n", "learnspam: ask rspamd at tcp:127.0.0.1:%: it says 404 Not found", ""},
		"no password":     {"401 Unauthorized\r\n\r\n{\"error\":\"Unauthorized\"}", "it says 401 Unauthorized: set password to the one of that worker", ""},
		"forbidden":       {"403 Forbidden\r\n\r\n", "it says 403 Forbidden: set password", ""},
		"no database":     {"500 x\r\n\r\n{\"error\":\"cannot \\u001b[31mconnect\\nto redis\"}", "it says 500 cannot ?[31mconnect?to redis", ""},
		"redirect":        {"302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "it says 302 Found", ""},
		"garbage":         {"garbage", "malformed HTTP status code", ""},
		"huge":            {"500 x\r\n\r\n" + strings.Repeat("x", maxAnswer+1), "its answer is longer than 1048576 bytes", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := fake(t, func(conn net.Conn) {
				request, err := http.ReadRequest(newReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				_, _ = io.WriteString(conn, "HTTP/1.1 "+strings.Replace(test.response, "\r\n", "\r\nConnection: close\r\n", 1))
			})
			level, logs := observer.New(zap.DebugLevel)
			teacher := newTeacher(t, address, "password of a test")
			teacher.log = zap.New(level)
			err := teacher.teach(t.Context(), "user@example.test", true, strings.NewReader("message"), 7)
			want := strings.Replace(test.fault, "%", address.Name[len("127.0.0.1:"):], 1)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
			if _, permanent := errors.AsType[permanentError](err); permanent != (name == "never") {
				t.Errorf("permanent: %t", permanent)
			}
			shown := ""
			for _, e := range logs.All() {
				shown += fmt.Sprint(e.Message, e.ContextMap())
			}
			if !strings.Contains(shown, test.logged) || (shown == "") != (test.logged == "") || strings.Contains(shown, "password of") {
				t.Errorf("log %q, want %q", shown, test.logged)
			}
		})
	}
}

// TestLessonIsSent: the command, whose it is, the password and the message.
func TestLessonIsSent(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Deliver-To"), r.Header.Get("Password"), body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	teacher := newTeacher(t, backend.Address{Network: "tcp", Name: s.Listener.Addr().String()}, "open sesame")
	teacher.maxSize = 7
	for _, isSpam := range []bool{true, false} {
		if err := teacher.teach(t.Context(), "user@example.test", isSpam, strings.NewReader("message"), 7); err != nil {
			t.Fatal(err)
		}
	}
	if err := teacher.teach(t.Context(), "user@example.test", true, strings.NewReader("too large"), 9); err != nil {
		t.Fatal(err)
	}
	err := teacher.teach(t.Context(), "user@example.test", true, iotest.ErrReader(io.ErrUnexpectedEOF), 7)
	if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("of a message that cannot be read: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := teacher.teach(cancelled, "user@example.test", true, strings.NewReader("message"), 7); err == nil {
		t.Error("a cancelled lesson is no error")
	}
	var got []string
	for range 2 {
		got = append(got, <-asked)
	}
	want := "POST /learnspam user@example.test open sesame message\nPOST /learnham user@example.test open sesame message"
	if strings.Join(got, "\n") != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func init() { core.Register(&classroom{}) }

// classroom stands for the learning service.
type classroom struct {
	mu     sync.Mutex
	taught map[string]int                                              // guarded by mu
	teach  func(context.Context, string, bool, io.Reader, int64) error // guarded by mu
}

func (*classroom) Module() core.Info {
	return core.Info{ID: "service.classroom", New: func() core.Module { return &classroom{taught: make(map[string]int)} }}
}

func (c *classroom) Teach(name string, teach func(context.Context, string, bool, io.Reader, int64) error) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taught[name]++
	c.teach = teach
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.taught[name]--
	}
}

// TestRegisters: a handler that is to learn has itself told, until it is gone.
func TestRegisters(t *testing.T) {
	t.Parallel()
	sandbox := coretest.New(t, coretest.Options{})
	room := coretest.Service[*classroom](t, sandbox)
	coretest.Load[*Rspamd](t, sandbox, "handler.rspamd", block(rspamd.TCP))
	if len(room.taught) != 0 {
		t.Errorf("without learn: %v", room.taught)
	}
	settings := fmt.Sprintf("learn = true\ncontroller = %q\npassword = %q", rspamd.Controller, daemon.RspamdPassword)
	handler := coretest.Load[*Rspamd](t, sandbox, "handler.rspamd", block(rspamd.TCP, settings))
	name := "rspamd " + rspamd.Controller.String()
	if room.taught[name] != 1 {
		t.Errorf("registered %v, want %q", room.taught, name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := room.teach(ctx, "user@example.test", false, strings.NewReader("Subject: a\r\n\r\nb\r\n"), 17); err != nil {
		t.Error(err)
	}
	if err := handler.Cleanup(); err != nil || room.taught[name] != 0 {
		t.Errorf("after the end: %v, %v", room.taught, err)
	}
	handler.forget = nil // the sandbox cleans up again
}
