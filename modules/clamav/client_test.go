package clamav

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/backend"
)

// fake listens on loopback and lets serve play clamd on each connection.
func fake(tb testing.TB, serve func(net.Conn)) backend.Address {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	tb.Cleanup(func() { l.Close(); <-done })
	return backend.Address{Network: "tcp", Name: l.Addr().String()}
}

// readStream reads one INSTREAM command to its end.
func readStream(conn net.Conn) {
	buffer := make([]byte, 64<<10)
	var tail string
	for !strings.HasSuffix(tail, "\x00\x00\x00\x00") {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		tail = string(buffer[max(0, n-4):n])
	}
}

// readSome reads the beginning of a command. That the client has gone already is
// no fault of the fake's.
func readSome(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, 100_000) }

func reply(conn net.Conn, text string) { _, _ = io.WriteString(conn, text) }

func respond(text string) func(net.Conn) {
	return func(conn net.Conn) {
		readStream(conn)
		reply(conn, text)
	}
}

func TestFaultsAreErrors(t *testing.T) {
	t.Parallel()
	small, large := int64(1000), int64(64<<20)
	tests := map[string]struct {
		size  int64
		serve func(net.Conn)
		want  string
	}{
		"error":                   {small, respond("INSTREAM: Can't write to temporary file. ERROR\x00"), `clamd answers with an error: "INSTREAM: Can't write`},
		"garbage":                 {small, respond("220 mx.example.test ESMTP\x00"), `answer "220 mx.example.test ESMTP" makes no sense`},
		"a pong":                  {small, respond("PONG\x00"), `answer "PONG" makes no sense`},
		"no signature":            {small, respond("stream:  FOUND\x00"), "makes no sense"},
		"empty answer":            {small, respond("\x00"), `answer "" makes no sense`},
		"no answer":               {small, respond(""), `connection closed after ""`},
		"half an answer":          {small, respond("stream: O"), `connection closed after "stream: O"`},
		"clean without an end":    {small, respond("stream: OK"), `connection closed after "stream: OK"`},
		"endless answer":          {small, respond(strings.Repeat("x", 1<<20)), "more than 1024 bytes"},
		"closed at once":          {large, func(net.Conn) {}, "send message"},
		"closed in the middle":    {large, func(c net.Conn) { readSome(c) }, "send message"},
		"clean before the end":    {large, func(c net.Conn) { readSome(c); reply(c, "stream: OK\x00") }, "send message"},
		"error before the end":    {large, earlyAnswer("INSTREAM: No space left on device. ERROR\x00"), "No space left on device"},
		"infected before the end": {large, earlyAnswer("stream: Eicar FOUND\x00"), "send message"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newHandler(fake(t, test.serve), nil).client
			found, err := c.scan(t.Context(), network, endless(test.size))
			if err == nil {
				t.Fatalf("answer %+v, want an error", found)
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), c.address.String()) {
				t.Errorf("error %q, want one with %q and the address", err, test.want)
			}
		})
	}
}

// earlyAnswer answers in the middle of the stream and closes, as clamd does when
// it has enough. It shuts down its side first and then reads what comes for a
// while, so that the answer is not lost by a reset.
func earlyAnswer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		readSome(conn)
		reply(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, conn, 1<<20)
	}
}

func TestSizeLimitBeforeTheEnd(t *testing.T) {
	t.Parallel()
	c := newHandler(fake(t, earlyAnswer("INSTREAM size limit exceeded. ERROR\x00")), nil).client
	found, err := c.scan(t.Context(), network, endless(64<<20))
	if err != nil || found.status != statusTooLarge {
		t.Errorf("answer %+v, %v; want too large", found, err)
	}
}

func TestHangEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	tests := map[string]struct {
		size  int64
		serve func(net.Conn)
	}{
		"before the answer": {1000, func(conn net.Conn) { readStream(conn); <-release }},
		"while sending":     {1 << 30, func(net.Conn) { <-release }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newHandler(fake(t, test.serve), nil).client
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := c.scan(ctx, network, endless(test.size))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the deadline's", err)
			}
		})
	}
}

func TestBrokenMessageIsAnError(t *testing.T) {
	t.Parallel()
	c := newHandler(fake(t, respond("stream: OK\x00")), nil).client
	broken := io.MultiReader(endless(100_000), errorReader{})
	if _, err := c.scan(t.Context(), network, broken); !errors.Is(err, errMessage) || !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want that the message cannot be read", err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, os.ErrClosed }

// network is a client's.
var network = netip.MustParsePrefix("192.0.2.1/32")

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	arrived := make(chan struct{}, 64)
	proceed := make(chan struct{})
	address := fake(t, func(conn net.Conn) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		arrived <- struct{}{}
		readStream(conn)
		<-proceed
		now.Add(-1)
		reply(conn, "stream: OK\x00")
	})
	c := newHandler(address, func(c *ClamAV) { c.MaxConnections = 3 }).client
	results := make(chan error, 12)
	for range cap(results) {
		go func() {
			_, err := c.scan(t.Context(), network, endless(100))
			results <- err
		}()
	}
	for range 3 {
		<-arrived
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.scan(gone, network, endless(100)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the client is gone", err)
	}
	close(proceed)
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 3 {
		t.Errorf("%d scans at once, want 3", most.Load())
	}
}

func TestMemoryStaysFlat(t *testing.T) {
	before, after := new(runtime.MemStats), new(runtime.MemStats)
	runtime.ReadMemStats(before)
	if err := send(io.Discard, endless(256<<20)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("sending 256 MiB allocates %d bytes", used)
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, seed := range []string{
		"stream: OK", "stream: Eicar-Test-Signature FOUND", "stream: Eicar(44d88612fea8a8f36de82e1278abb02f:68) FOUND",
		"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND", "INSTREAM size limit exceeded. ERROR",
		"UNKNOWN COMMAND", "stream: a\r\nb: c FOUND", "stream: () FOUND", "stream: \xff FOUND",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		found, err := parseAnswer(line)
		if err != nil {
			return
		}
		if found.status == statusClean && line != "stream: OK" {
			t.Errorf("%q counts as clean", line)
		}
		if found.status == statusInfected && (found.detail == "" || len(found.detail) > maxSignature ||
			strings.ContainsFunc(found.detail, func(r rune) bool { return r <= ' ' || r > '~' })) {
			t.Errorf("signature %q of %q is not fit for a reply", found.detail, line)
		}
	})
}

// FuzzReadAnswer reads what comes from where clamd should be, in pieces.
func FuzzReadAnswer(f *testing.F) {
	for _, seed := range []string{
		"stream: OK\x00", "stream: OK", "stream: OK\x00stream: Eicar FOUND\x00", "\x00", "stream: Eicar-Test-Signature FOUND\x00",
		"INSTREAM size limit exceeded. ERROR\x00", "stream: OK\n", strings.Repeat("x", maxAnswer), strings.Repeat("x", maxAnswer-1) + "\x00", "stream: OK\x00\x00",
	} {
		f.Add([]byte(seed), 1)
		f.Add([]byte(seed), 700)
	}
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		line, err := readAnswer(&pieces{sent, max(piece, 1)})
		want, _, ended := strings.Cut(string(sent), "\x00")
		switch {
		case ended && len(want) < maxAnswer:
			if err != nil || line != want {
				t.Fatalf("%q, %v; want %q", line, err, want)
			}
		case err == nil:
			t.Fatalf("%q is taken for the answer %q", sent, line)
		case len(err.Error()) > 600:
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if found, err := parseAnswer(line); err == nil && found.status == statusClean && !strings.HasPrefix(string(sent), "stream: OK\x00") {
			t.Errorf("%q counts as clean", sent)
		}
	})
}

// pieces gives a text some bytes at a time.
type pieces struct {
	text []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(p.size, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}
