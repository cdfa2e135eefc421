package rspamd

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// said gives an answer of rspamd's.
func said(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// rejects and passes are answers.
var (
	rejects = said(`{"action":"reject","score":20,"required_score":15.0,"symbols":{}}`)
	passes  = said(`{"action":"no action","score":0.5,"required_score":15.0,"symbols":{}}`)
)

// respond reads a request to its end and answers.
func respond(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		request, err := http.ReadRequest(newReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		_, _ = io.WriteString(conn, answer)
	}
}

// gzipped is an answer as a server may send it that was not asked for gzip.
func gzipped() string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, seen)
	_ = w.Close()
	return strings.Replace(said(b.String()), "Connection: close", "Content-Encoding: gzip\r\nConnection: close", 1)
}

// faulty are answers that are none, with what is in the error.
func faulty() map[string]struct{ answer, want string } {
	return map[string]struct{ answer, want string }{
		"garbage":         {"\xff\x00{{{\r\n\r\n", "malformed HTTP"},
		"another daemon":  {"220 mx.example.org ESMTP\r\n", "malformed HTTP"},
		"web server":      {said("<html>"), "no JSON of the right form"},
		"gzip":            {gzipped(), "no JSON of the right form"},
		"empty":           {said(""), "no JSON of the right form"},
		"cut":             {said(seen)[:400], "unexpected EOF"},
		"huge error":      {strings.Replace(said(strings.Repeat(" ", 2<<20)), "200 OK", "500 Internal", 1), "longer than 1048576 bytes"},
		"endless fields":  {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "ask rspamd at tcp:127.0.0.1:"},
		"deep":            {said(`{"action":"reject","score":1,"milter":` + strings.Repeat(`{"a":`, 20000)), "no JSON of the right form"},
		"no verdict":      {said(`{}`), "no action or no score"},
		"error":           {"HTTP/1.1 500 Internal\r\nConnection: close\r\n\r\n{\"error\":\"invalid command\"}", "it says 500 invalid command"},
		"redirect":        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\n", "it says 302 Found"},
		"no content":      {"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "it says 204 No Content"},
		"password wanted": {"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n", "set password to the one of that worker"},
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range faulty() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHandler(t, fake(t, respond(test.answer)), func(r *Rspamd) { r.Password = "password of a test" })
			_, err := r.Handle(t.Context(), newTransaction(t, letter("")))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "rspamd at "+r.Address.String()) || strings.Contains(err.Error(), "password of") {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if err != nil && (len(err.Error()) > 600 || err.Error() != mail.Printable(err.Error(), 600)) {
				t.Errorf("error %q", err)
			}
		})
	}
	for fault, want := range map[coretest.Fault]string{
		coretest.FaultRefused: "check that rspamd runs and listens there",
		coretest.FaultHanging: "rspamd hangs, or the time limit is too short",
		coretest.FaultLate:    "rspamd hangs, or the time limit is too short",
		coretest.FaultCut:     "ask rspamd at tcp:",
		coretest.FaultGarbage: "ask rspamd at tcp:",
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			b := coretest.Faulty(t, fault, rejects)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := newHandler(t, backend.Address{Network: "tcp", Name: b.Address}, nil).Handle(ctx, newTransaction(t, letter("")))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
			if late := errors.Is(err, context.DeadlineExceeded); late != strings.Contains(want, "hangs") {
				t.Errorf("deadline %t: %v", late, err)
			}
		})
	}
}

// TestPasswordIsSent: with each check, if there is one.
func TestPasswordIsSent(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	address := fake(t, func(conn net.Conn) {
		request, err := http.ReadRequest(newReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		asked <- request.URL.Path + " " + strings.Join(request.Header["Password"], ",")
		_, _ = io.WriteString(conn, passes)
	})
	for password, want := range map[mail.Secret]string{"": "/checkv2 ", "open sesame": "/checkv2 open sesame"} {
		r := newHandler(t, address, func(r *Rspamd) { r.Password = password })
		if _, err := r.Handle(t.Context(), newTransaction(t, letter(""))); err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
	}
}

// TestConnectionIsKept: a server that keeps connections gets the next message over
// the same one, and when it has closed it meanwhile, nobody notices.
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	var connections, requests atomic.Int32
	address := fake(t, func(conn net.Conn) {
		connections.Add(1)
		in := newReader(conn)
		for range 2 { // the third request comes too late
			request, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			requests.Add(1)
			_, _ = io.WriteString(conn, strings.Replace(passes, "Connection: close\r\n", "", 1))
		}
	})
	r := newHandler(t, address, nil)
	for range 6 {
		if got, err := r.Handle(t.Context(), newTransaction(t, letter(""))); err != nil || got.Action != mail.ActionContinue {
			t.Fatalf("verdict %+v, %v", got, err)
		}
	}
	if c, q := connections.Load(), requests.Load(); c != 3 || q != 6 {
		t.Errorf("%d connections for %d requests", c, q)
	}
}

// TestMessageIsLeftAlone: what gives up no longer reads the message, whose memory
// is then another's.
func TestMessageIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := &source{open: func() io.Reader { return zeros{} }}
	body := s.stream()
	if n, err := body.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	s.close()
	if n, err := body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errClosed) {
		t.Errorf("after the end: read %d, %v", n, err)
	}
	// A server that does not read, and a message that its buffers do not hold.
	address := fake(t, func(conn net.Conn) { <-t.Context().Done() })
	var reading atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := newServer(t, address).post(ctx, "checkv2", make(http.Header), content{1 << 40, func() io.Reader { return counting{&reading} }}, extract)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	read := reading.Load()
	if read == 0 || read > 100<<20 {
		t.Errorf("%d bytes were read", read)
	}
	if reading.Load() != read {
		t.Error("the message is still read")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counting struct{ n *atomic.Int64 }

func (c counting) Read(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	clear(p)
	return len(p), nil
}

// TestSpoolInFile has a large message stream from its file, in flat memory.
func TestSpoolInFile(t *testing.T) {
	t.Parallel()
	spool := mail.NewSpool(t.TempDir(), 1000)
	t.Cleanup(func() { _ = spool.Close() })
	if _, err := io.WriteString(spool, letter("")+strings.Repeat(strings.Repeat("word ", 14)+"\r\n", 100_000)); err != nil {
		t.Fatal(err)
	}
	message, err := spool.Message()
	if err != nil {
		t.Fatal(err)
	}
	var size atomic.Int64
	address := fake(t, func(conn net.Conn) {
		request, err := http.ReadRequest(newReader(conn))
		if err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, request.Body)
		size.Store(n)
		if n == request.ContentLength {
			_, _ = io.WriteString(conn, rejects)
		}
	})
	tx := newTransaction(t, "")
	tx.Message = message
	got, err := newHandler(t, address, nil).Handle(t.Context(), tx)
	if err != nil || got.Action != mail.ActionReject || size.Load() < 7_000_000 {
		t.Errorf("verdict %+v, %v; rspamd was sent %d bytes", got, err, size.Load())
	}
}

// TestEarlyAnswer: rspamd may refuse a message before it has read it all.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	address := fake(t, func(conn net.Conn) {
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	raw := letter("") + strings.Repeat("x", 5<<20)
	got, err := newHandler(t, address, func(r *Rspamd) { r.TooLarge = "reject" }).Handle(t.Context(), newTransaction(t, raw))
	if want := mail.NewReply(552, 3, 4, "Message is too large to be checked for spam"); err != nil || got.Reply != want || !strings.Contains(got.Reason, "it says 413 Too large") {
		t.Errorf("verdict %+v, %v", got, err)
	}
}

// TestNoLeaks: whatever goes wrong, nothing is left once the pool is closed.
func TestNoLeaks(t *testing.T) {
	ignored := goleak.IgnoreCurrent()
	t.Run("group", func(t *testing.T) {
		b := coretest.Faulty(t, coretest.FaultHanging, "")
		r := newHandler(t, backend.Address{Network: "tcp", Name: b.Address}, nil)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if _, err := r.Handle(ctx, newTransaction(t, letter(""))); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("error %v", err)
				}
			})
		}
		wg.Wait()
	})
	goleak.VerifyNone(t, ignored)
}
