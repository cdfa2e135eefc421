package spamassassin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"

	"github.com/google/go-cmp/cmp"
)

// fake listens on loopback and lets serve play spamd on each connection.
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

// respond reads a request to its end and answers. That the client has gone
// already is no fault of the fake's.
func respond(answer string) func(net.Conn) { return recorded(make(chan string, 1), answer) }

func recorded(asked chan<- string, answer string) func(net.Conn) {
	return func(conn net.Conn) {
		request, _ := io.ReadAll(conn)
		select {
		case asked <- string(request):
		default:
		}
		_, _ = io.WriteString(conn, answer)
	}
}

// network is a client's.
var network = netip.MustParsePrefix("192.0.2.1/32")

// endless is a message of n bytes that takes no memory.
func endless(n int64) message {
	return message{content: io.LimitReader(zeros{}, n), size: n}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestFaultsAreErrors(t *testing.T) {
	t.Parallel()
	good := answerOf("1.0", " 1.0 A_RULE  Text")
	small, large := int64(1000), int64(64<<20)
	tests := map[string]struct {
		size  int64
		serve func(net.Conn)
		want  string
	}{
		"protocol":             {small, respond("SPAMD/1.0 76 Bad header line: REPORT\r\n"), `the error 76: "Bad header line: REPORT"`},
		"timeout":              {small, respond("SPAMD/1.0 79 Timeout: (300 second timeout)\r\n"), "the error 79"},
		"unavailable":          {small, respond("SPAMD/1.5 69 Service Unavailable\r\n"), "the error 69"},
		"pong":                 {small, respond("SPAMD/1.5 0 PONG\r\n\r\n"), "no score or no length"},
		"garbage":              {small, respond("220 mx.example.test ESMTP\r\n"), "makes no sense"},
		"no code":              {small, respond("SPAMD/1.1\r\n"), "makes no sense"},
		"no answer":            {small, respond(""), "connection closed in the middle"},
		"half a status":        {small, respond("SPAMD/1.1 0"), "connection closed in the middle"},
		"half a head":          {small, respond("SPAMD/1.1 0 EX_OK\r\nSpam: True"), "connection closed in the middle"},
		"half a report":        {small, respond(good[:len(good)-1]), "connection closed in the middle"},
		"no score":             {small, respond("SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\n\r\n"), "no score or no length"},
		"no length":            {small, respond("SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5\r\n\r\n"), "no score or no length"},
		"two scores":           {small, respond("SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1 / 5\r\nSpam: True ; 1 / 5\r\n"), "no single score"},
		"two lengths":          {small, respond("SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nContent-length: 1\r\n"), "no single length"},
		"no number":            {small, respond("SPAMD/1.1 0 EX_OK\r\nSpam: True ; NaN / 5\r\n\r\n"), "no single score"},
		"an endless score":     {small, respond("SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1e300 / 5\r\n\r\n"), "no single score"},
		"negative length":      {small, respond("SPAMD/1.1 0 EX_OK\r\nContent-length: -1\r\n\r\n"), "no single length"},
		"huge length":          {small, respond("SPAMD/1.1 0 EX_OK\r\nContent-length: 99999999999\r\n\r\n"), "no single length"},
		"no field":             {small, respond("SPAMD/1.1 0 EX_OK\r\nhello\r\n\r\n"), "which is no field"},
		"endless line":         {small, respond(strings.Repeat("x", 1<<20)), "more than 1024 bytes"},
		"endless head":         {small, respond("SPAMD/1.1 0 EX_OK\r\n" + strings.Repeat("X: y\r\n", 1<<16)), "more than 32 fields"},
		"closed at once":       {large, func(net.Conn) {}, "send message"},
		"closed in the middle": {large, func(c net.Conn) { readSome(c) }, "send message"},
		"error in the middle":  {large, early("SPAMD/1.0 76 Bad header line: (too many headers)\r\n"), "too many headers"},
		"score in the middle":  {large, early(good), "send message"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newHandler(fake(t, test.serve), nil).client
			found, err := c.report(t.Context(), network, endless(test.size))
			if err == nil {
				t.Fatalf("report %+v, want an error", found)
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), c.address.String()) {
				t.Errorf("error %q, want one with %q and the address", err, test.want)
			}
		})
	}
}

func readSome(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, 100_000) }

// early answers in the middle of the message. It shuts down its side first and
// then reads what comes for a while, so that the answer is not lost by a reset.
func early(text string) func(net.Conn) {
	return func(conn net.Conn) {
		readSome(conn)
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, conn, 1<<20)
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
		"before the answer": {1000, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn); <-release }},
		"while sending":     {1 << 30, func(net.Conn) { <-release }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newHandler(fake(t, test.serve), nil).client
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := c.report(ctx, network, endless(test.size)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the deadline's", err)
			}
		})
	}
}

func TestNoDaemonIsAnError(t *testing.T) {
	t.Parallel()
	for _, address := range []backend.Address{{Network: "unix", Name: "/nowhere/spamd.sock"}, {Network: "tcp", Name: coretest.Faulty(t, coretest.FaultRefused, "").Address}} {
		tx := newTransaction(t, "X-Spam-Flag: NO\r\n"+letter)
		verdict, err := newHandler(address, nil).Handle(t.Context(), tx)
		if err == nil {
			t.Fatalf("verdict %+v without a daemon", verdict)
		}
		if want := "connect to spamd at " + address.String(); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %q does not begin with %q", err, want)
		}
		if flag := header(t, tx).Get(fieldFlag); flag != "" {
			t.Errorf("an unjudged message says %q", flag)
		}
	}
}

func TestBrokenMessageIsAnError(t *testing.T) {
	t.Parallel()
	c := newHandler(fake(t, respond(answerOf("1.0"))), nil).client
	broken := message{content: io.MultiReader(endless(100_000).content, errorReader{}), size: 200_000}
	if _, err := c.report(t.Context(), network, broken); !errors.Is(err, errMessage) || !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want that the message cannot be read", err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, os.ErrClosed }

func TestReadReport(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer string
		want   report
	}{
		"table": {
			answerOf("8.1", " 5.0 FIRST_RULE             BODY: Text", "1000 BIG                    Text", "-0.0 ZERO                   Text",
				"-1.2 GOOD_2                 Text", "                            3.0 CONTINUED", "9.9 two words", "x.y NO_NUMBER  Text"),
			report{score: 8.1, required: 6.5, rules: []rule{{"BIG", 1000}, {"two", 9.9}, {"FIRST_RULE", 5}, {"GOOD_2", -1.2}, {"ZERO", 0}}},
		},
		"old version, no table": {
			"SPAMD/1.0 0 EX_OK\r\nContent-Length: 5\r\nspam: Yes;7/5.0\r\n\r\nhello",
			report{score: 7, required: 5},
		},
		"bare line feeds": {
			"SPAMD/1.1 0 EX_OK\nContent-length: 0\nX-Other: y\nSpam: True ; -0.0 / 5.0\n\n",
			report{required: 5},
		},
		"long report": {
			"SPAMD/1.1 0 EX_OK\r\nContent-length: 1000000\r\nSpam: True ; 7.0 / 5.0\r\n\r\n" + strings.Repeat("x", 1_000_000),
			report{score: 7, required: 5},
		},
	}
	for name, test := range tests {
		got, err := readReport(strings.NewReader(test.answer))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(report{}, rule{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzReadReport(f *testing.F) {
	for _, seed := range []string{
		answerOf("7.0", " 5.0 FIRST_RULE             BODY: Text", "-0.0 ZERO  Text"),
		"SPAMD/1.0 76 Bad header line: FOO SPAMC/1.5\r\n", "SPAMD/1.5 0 PONG\r\n",
		"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; -0.0 / 5.0\r\n\r\n",
		"SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 1e9 / .\r\n\r\n\n---- ---\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		found, err := readReport(strings.NewReader(answer))
		if err != nil {
			return
		}
		if !strings.HasPrefix(answer, "SPAMD/") || !strings.Contains(strings.ToLower(answer), "spam:") {
			t.Errorf("%q gives %+v", answer, found)
		}
		for _, score := range []float64{found.score, found.required} {
			if !(score >= -maxScore && score <= maxScore) {
				t.Errorf("score %g of %q", score, answer)
			}
		}
		if reason := explain(found, "below all thresholds", time.Second); len(reason) > 512 {
			t.Errorf("reason of %d bytes: %q", len(reason), reason)
		}
		if field := tests(found.rules); strings.Count(field, "\n") != strings.Count(field, "\r\n\t") || len(field) > 16<<10 {
			t.Errorf("field %q of %q", field, answer)
		}
	})
}
