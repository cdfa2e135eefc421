package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// smtpServer plays a server that takes every message, and counts them. A
// recipient that begins with "bad" is refused.
func smtpServer(t *testing.T) (address string, messages *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	messages = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn, messages)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), messages
}

func serve(conn net.Conn, messages *atomic.Int64) {
	defer conn.Close()
	fmt.Fprint(conn, "220 mx1.example.test ESMTP\r\n")
	body := false
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		verb, _, _ := strings.Cut(lines.Text(), " ")
		switch {
		case body && lines.Text() == ".":
			body = false
			messages.Add(1)
			fmt.Fprint(conn, "250 2.0.0 Stored\r\n")
		case body:
		case verb == "EHLO":
			fmt.Fprint(conn, "250-mx1.example.test\r\n250-PIPELINING\r\n250 SIZE\r\n")
		case verb == "DATA":
			body = true
			fmt.Fprint(conn, "354 Go on\r\n")
		case strings.Contains(lines.Text(), "<bad"):
			fmt.Fprint(conn, "550 5.1.1 No such user\r\n")
		case verb == "QUIT":
			fmt.Fprint(conn, "221 2.0.0 Bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 2.0.0 OK\r\n")
		}
	}
}

func TestLoadCountsWhatItSends(t *testing.T) {
	t.Parallel()
	for _, connection := range []string{"", "--reuse"} {
		address, messages := smtpServer(t)
		args := []string{"--address", address, "--sessions", "3", "--messages", "20"}
		connects := 20
		if connection != "" {
			args, connects = append(args, connection), 3
		}
		var out strings.Builder
		if err := run(t.Context(), args, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		if got := messages.Load(); got != 20 {
			t.Errorf("%d messages arrived, want 20", got)
		}
		for step, n := range map[string]int{"connect and greeting": connects, "QUIT": connects, "message": 20, "transaction": 20} {
			if want := fmt.Sprintf("| %s | %d |", step, n); !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	}
}

func TestLoadEndsAtARefusal(t *testing.T) {
	t.Parallel()
	address, _ := smtpServer(t)
	err := run(t.Context(), []string{"--address", address, "--to", "bad@example.test"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "550 5.1.1") {
		t.Errorf("error %v, want the server's refusal", err)
	}
}

func TestLoadEndsAtItsLimit(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts, so nobody greets
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = run(t.Context(), []string{"--address", l.Addr().String(), "--limit", "50ms"}, io.Discard, io.Discard)
	if err == nil {
		t.Error("no error, although there was no greeting")
	}
}

func TestMessageHasItsSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{200, 4096, 102_400, 4097, 4098} {
		text := string(newMessage(&options{reversePath: "a@example.org", recipient: "b@example.test", size: size}))
		if got := len(text) - len(".\r\n"); got > size || got < size-2 {
			t.Errorf("%d bytes instead of %d", got, size)
		}
		if !strings.HasSuffix(text, "\r\n.\r\n") {
			t.Errorf("the message of %d bytes does not end in a line with a dot", size)
		}
	}
}

func TestReplyIsComplete(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"":                           false,
		"250":                        false,
		"250 OK":                     false,
		"250 OK\r\n":                 true,
		"250-a\r\n":                  false,
		"250-a\r\n250-b\r\n":         false,
		"250-a\r\n250 b\r\n":         true,
		"250-a\r\n250 b":             false,
		"250\r\n":                    true,
		"250-mx1\r\n250 SIZE 10\r\n": true,
	}
	for text, want := range tests {
		if got := complete([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var list []time.Duration
	for i := range 200 {
		list = append(list, time.Duration(i+1)*time.Microsecond)
	}
	for p, want := range map[int]int64{50: 100, 99: 198, 100: 200} {
		if got := percentile(list, p).Microseconds(); got != want {
			t.Errorf("p%d is %dµs, want %dµs", p, got, want)
		}
	}
	if got := percentile(list[:1], 50); got != time.Microsecond {
		t.Errorf("the median of one value is %s", got)
	}
}
