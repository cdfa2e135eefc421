package smtp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/coretest"
)

// pipes is a net.Listener whose connections are pipes, which a bubble of
// synctest can wait for.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// inBubble runs a client against a listener, by the bubble's clock.
func inBubble(t *testing.T, body string, client func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader)) {
	t.Helper()
	k := newListener(t, options{body: body, log: zap.NewNop()})
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		k.serve(t, p)
		ours, theirs := net.Pipe()
		defer ours.Close()
		p.conns <- theirs
		client(t, k, ours, bufio.NewReader(ours))
	})
}

// say sends a line and reads the last line of the reply.
func say(t *testing.T, conn net.Conn, r *bufio.Reader, line string) string {
	t.Helper()
	if line != "" {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			t.Fatalf("send %q: %v", line, err)
		}
	}
	for {
		reply, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %q, %v", line, reply, err)
		}
		if reply[3] == ' ' {
			return strings.TrimSpace(reply)
		}
	}
}

// toData goes up to 354.
func toData(t *testing.T, conn net.Conn, r *bufio.Reader) {
	t.Helper()
	for _, line := range []string{"", "EHLO client.example.org", "MAIL FROM:<>", "RCPT TO:<alice@example.test>"} {
		if reply := say(t, conn, r, line); reply[0] != '2' {
			t.Fatalf("%q after %q", reply, line)
		}
	}
	if reply := say(t, conn, r, "DATA"); !strings.HasPrefix(reply, "354") {
		t.Fatal(reply)
	}
}

// TestSilence pins that a client that says nothing is cut off after its time, and
// not before.
func TestSilence(t *testing.T) {
	t.Parallel()
	inBubble(t, `timeouts { command = "1m" }`, func(t *testing.T, _ *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		say(t, conn, r, "")
		began := time.Now()
		if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "421 4.4.2 Timeout, closing the connection (id ") {
			t.Error(reply)
		}
		if took := time.Since(began); took < time.Minute || took > 70*time.Second {
			t.Errorf("cut off after %s", took)
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
}

// TestCrowd pins that a client that says nothing has little time when few places
// are left, but not within a message.
func TestCrowd(t *testing.T) {
	t.Parallel()
	inBubble(t, "limits {\nconnections = 10\nconnections_per_network = 10\n}", func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		for range 8 {
			k.listener.connections.Enter(10)
		}
		for _, line := range []string{"", "EHLO client.example.org", "MAIL FROM:<>"} {
			say(t, conn, r, line)
		}
		<-time.After(time.Minute)
		say(t, conn, r, "RSET")
		began := time.Now()
		if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "421 4.4.2 Timeout, closing the connection (id ") {
			t.Error(reply)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("cut off after %s", took)
		}
	})
}

// TestUseless pins that a session without a message ends, whatever else the client
// has to say, and one with messages goes on.
func TestUseless(t *testing.T) {
	t.Parallel()
	inBubble(t, "", func(t *testing.T, _ *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		say(t, conn, r, "")
		say(t, conn, r, "EHLO client.example.org")
		for range 2 {
			for _, line := range []string{"MAIL FROM:<>", "RCPT TO:<alice@example.test>", "DATA"} {
				say(t, conn, r, line)
			}
			<-time.After(2 * time.Minute)
			if reply := say(t, conn, r, "\r\nhi\r\n."); !strings.HasPrefix(reply, "250 ") {
				t.Fatal(reply)
			}
			for range 6 {
				<-time.After(4 * time.Minute)
				if reply := say(t, conn, r, "NOOP"); reply != "250 2.0.0 OK" {
					t.Fatal(reply)
				}
			}
		}
		say(t, conn, r, "MAIL FROM:<>")
		<-time.After(4 * time.Minute)
		say(t, conn, r, "NOOP")
		<-time.After(4 * time.Minute)
		say(t, conn, r, "NOOP")
		if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "421 4.4.2 No message for too long, closing the connection (id ") {
			t.Error(reply)
		}
	})
}

// TestDripping pins that single bytes do not win time: the deadline is for the
// whole command.
func TestDripping(t *testing.T) {
	t.Parallel()
	inBubble(t, `timeouts { command = "1m" }`, func(t *testing.T, _ *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		say(t, conn, r, "")
		began := time.Now()
		var drips sync.WaitGroup
		defer drips.Wait()
		drips.Go(func() {
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
				<-time.After(10 * time.Second)
			}
		})
		if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "421 4.4.2") {
			t.Error(reply)
		}
		if took := time.Since(began); took > 70*time.Second {
			t.Errorf("cut off after %s", took)
		}
	})
}

// TestSlowClients pins who is cut off within a message: who is silent, and who
// brings too little; not who is slow and honest.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		each  int // bytes at once
		pause time.Duration
		total int
		cut   bool
	}{
		{"slow modem", 960, time.Second, 1 << 20, false},
		{"pauses", 64 << 10, 170 * time.Second, 640 << 10, false},
		{"a byte now and then", 1, 10 * time.Second, 1000, true},
		{"a byte a minute", 1, time.Minute, 256, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, "", func(t *testing.T, _ *kit, conn net.Conn, r *bufio.Reader) {
				t.Helper()
				toData(t, conn, r)
				began := time.Now()
				var sender sync.WaitGroup
				defer sender.Wait()
				sender.Go(func() {
					text := "\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", test.total/64)
					for len(text) > 0 {
						n := min(test.each, len(text))
						if _, err := io.WriteString(conn, text[:n]); err != nil {
							return
						}
						text = text[n:]
						<-time.After(test.pause)
					}
					_, _ = io.WriteString(conn, "\r\n.\r\n")
				})
				reply := say(t, conn, r, "")
				took := time.Since(began)
				if test.cut && (!strings.HasPrefix(reply, "421 4.4.2") || took > 10*time.Minute) {
					t.Errorf("%q after %s, want a cut", reply, took)
				}
				if !test.cut && !strings.HasPrefix(reply, "250") {
					t.Errorf("%q after %s, want 250", reply, took)
				}
			})
		})
	}
}

// TestSilenceInData pins that a client that stops within a message is cut off.
func TestSilenceInData(t *testing.T) {
	t.Parallel()
	inBubble(t, `timeouts { data = "2m" }`, func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		toData(t, conn, r)
		began := time.Now()
		if reply := say(t, conn, r, "Subject: and then"); !strings.HasPrefix(reply, "421 4.4.2") {
			t.Error(reply)
		}
		if took := time.Since(began); took < 2*time.Minute || took > 140*time.Second {
			t.Errorf("cut off after %s", took)
		}
		k.drained(t)
		if len(k.traces.records) == 0 || !strings.Contains(k.traces.records[0].Outcome.Reason, "receive message") {
			t.Errorf("traces: %v", k.traces.records)
		}
	})
}

// TestDeaf pins that a client that reads no replies is cut off.
func TestDeaf(t *testing.T) {
	t.Parallel()
	inBubble(t, `timeouts { write = "1m" }`, func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		say(t, conn, r, "")
		began := time.Now()
		if _, err := io.WriteString(conn, "NOOP\r\n"); err != nil {
			t.Fatal(err)
		}
		k.drained(t)
		if took := time.Since(began); took < time.Minute || took > 70*time.Second {
			t.Errorf("cut off after %s", took)
		}
	})
}

// TestGreetDelay pins that a client must be silent for that long.
func TestGreetDelay(t *testing.T) {
	t.Parallel()
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		inBubble(t, `greet_delay = "10s"`, func(t *testing.T, _ *kit, conn net.Conn, r *bufio.Reader) {
			t.Helper()
			began := time.Now()
			if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "220") {
				t.Error(reply)
			}
			if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
				t.Errorf("greeted after %s", took)
			}
			if reply := say(t, conn, r, "EHLO client.example.org"); reply[0] != '2' {
				t.Error(reply)
			}
		})
	})
	t.Run("early", func(t *testing.T) {
		t.Parallel()
		inBubble(t, `greet_delay = "10s"`, func(t *testing.T, _ *kit, conn net.Conn, r *bufio.Reader) {
			t.Helper()
			<-time.After(5 * time.Second)
			if reply := say(t, conn, r, "EHLO client.example.org"); !strings.HasPrefix(reply, "554 5.5.1 You spoke before the greeting") {
				t.Error(reply)
			}
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("got %v, want EOF", err)
			}
		})
	})
}

// TestEarly pins that bytes that are there before the greeting are seen without
// waiting for them.
func TestEarly(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                        "554 5.5.1 You spoke before the greeting (id ID)",
		`submission = true`:       "220 mx.example.test ESMTP Service Ready",
		"greet_delay = \"100ms\"": "554 5.5.1 You spoke before the greeting (id ID)",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			k := newListener(t, options{body: body})
			socket, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			k.address = socket.Addr().String()
			conn := k.dial(t)
			if _, err := io.WriteString(conn, "EHLO client.example.org\r\n"); err != nil {
				t.Fatal(err)
			}
			k.serve(t, socket) // the bytes are in the queue of the socket by now
			coretest.Talk(t, conn, "<- "+want)
		})
	}
}

// TestDrain pins that idle sessions are asked to leave and that others may finish
// their message.
func TestDrain(t *testing.T) {
	t.Parallel()
	inBubble(t, "", func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		toData(t, conn, r)
		k.drainInBackground(t)
		synctest.Wait()
		if reply := say(t, conn, r, "\r\nhi\r\n."); !strings.HasPrefix(reply, "250 ") {
			t.Error(reply)
		}
		if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "421 4.3.2 Closing the connection, please connect again (id ") {
			t.Error(reply)
		}
		if k.sink.count() != 1 {
			t.Errorf("%d messages", k.sink.count())
		}
	})
	inBubble(t, "", func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		say(t, conn, r, "")
		k.drainInBackground(t)
		synctest.Wait()
		// Who has just connected may still send a message.
		time.Sleep(leaveGrace / 2) //nolint:forbidigo // the clock is synctest's
		for _, line := range []string{"EHLO client.example.org", "MAIL FROM:<>", "RCPT TO:<alice@example.test>", "RSET"} {
			if reply := say(t, conn, r, line); reply[0] != '2' {
				t.Errorf("%q after %q", reply, line)
			}
		}
		if reply := say(t, conn, r, ""); !strings.HasPrefix(reply, "421 4.3.2 Closing the connection, please connect again (id ") {
			t.Error(reply)
		}
	})
}

// drainInBackground drains while the test goes on.
func (k *kit) drainInBackground(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := k.listener.Drain(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	t.Cleanup(wg.Wait)
}

// TestDrainDeadline pins that sessions that do not end are closed.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	inBubble(t, "", func(t *testing.T, k *kit, conn net.Conn, r *bufio.Reader) {
		t.Helper()
		toData(t, conn, r)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		began := time.Now()
		if err := k.listener.Drain(ctx); err == nil {
			t.Error("no error, though a session was cut off")
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("drained after %s", took)
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v, want EOF", err)
		}
	})
}
