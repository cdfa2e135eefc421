package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// abuse is what a bad client does in its session. It returns when the server has
// ended the session, with the last line that the server said.
type abuse func(net.Conn) (last string, err error)

// hear reads what the server says until it ends the session. It gives the last
// line and how many lines there were of each reply code; the error tells that the
// session goes on and on.
func hear(conn net.Conn) (last string, codes map[string]int, err error) {
	codes = make(map[string]int)
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return last, codes, unlessEnded(err)
		}
		last = strings.TrimRight(line, "\r\n")
		codes[last[:min(3, len(last))]]++
	}
}

// unlessEnded gives the error of a read that says that the session has not ended.
func unlessEnded(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// pour writes a text again and again while it hears, until the server ends the
// session.
func pour(conn net.Conn, text string, times int) (last string, codes map[string]int, err error) {
	var writer sync.WaitGroup
	writer.Go(func() {
		for range times {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	})
	last, codes, err = hear(conn)
	conn.Close()
	writer.Wait()
	return last, codes, err
}

// inMessage begins a message, so that the next byte is its first one.
func inMessage(conn net.Conn) (*session, error) {
	s, err := greet(conn)
	if err != nil {
		return nil, err
	}
	return s, s.open(alice)
}

// stall is silent in the middle of a message.
func stall(conn net.Conn) (string, error) {
	s, err := inMessage(conn)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "Subject: to be contin"); err != nil {
		return "", err
	}
	last, err := s.reply()
	return last, err
}

// drip sends a message byte by byte, so that it would take for ever.
func drip(conn net.Conn) (string, error) {
	s, err := inMessage(conn)
	if err != nil {
		return "", err
	}
	heard := make(chan string, 1)
	go func() {
		last, _ := s.reply() // the end of the connection is what is waited for
		heard <- last
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case last := <-heard:
			return last, nil
		case <-tick.C:
			_, _ = io.WriteString(conn, "x") // heard tells when the server is gone
		}
	}
}

// silent connects and says nothing.
func silent(conn net.Conn) (string, error) {
	last, _, err := hear(conn)
	return last, err
}

// garble sends what is no command.
func garble(conn net.Conn) (string, error) {
	if _, err := greet(conn); err != nil {
		return "", err
	}
	last, codes, err := pour(conn, "\x16\x03\x01 GET / HTTP/1.1\r\n", 100_000)
	if codes["500"] > 100 {
		return last, fmt.Errorf("the server answers %v before it has enough", codes)
	}
	return last, err
}

// endlessLine sends a command that never ends.
func endlessLine(conn net.Conn) (string, error) {
	if _, err := greet(conn); err != nil {
		return "", err
	}
	last, _, err := pour(conn, strings.Repeat("A", 1<<20), 64)
	return last, err
}

// endlessMessage sends a message far over the limit, which is 1 MB.
func endlessMessage(conn net.Conn) (string, error) {
	if _, err := inMessage(conn); err != nil {
		return "", err
	}
	last, _, err := pour(conn, strings.Repeat(strings.Repeat("x", 78)+"\r\n", 10_000), 100)
	return last, err
}

// manyRecipients names 10,000 recipients for one message.
func manyRecipients(conn net.Conn) (string, error) {
	s, err := greet(conn)
	if err != nil {
		return "", err
	}
	for _, line := range []string{"EHLO client.example.org", "MAIL FROM:<" + stranger + ">"} {
		if err := s.succeed(line); err != nil {
			return "", err
		}
	}
	last, codes, err := pour(conn, "RCPT TO:<alice+list@example.test>\r\n", 10_000)
	if codes["250"] != 100 || codes["452"] == 0 {
		return last, fmt.Errorf("the replies are %v, want 250 for 100 recipients and 452 for more", codes)
	}
	return last, err
}

// TestAbuse has bad clients at work while a good one sends mail.
func TestAbuse(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{MX: `max_message_size = "1MB"
  timeouts {
    data    = "2s"
    command = "3s"
  }`}).serve(t, alice)
	address := p.address(t, "mx")
	var abusers sync.WaitGroup
	for n, bad := range []struct {
		name string
		do   abuse
		want string
	}{
		{"stall", stall, "421 4.4.2 "},
		{"drip", drip, "421 4.4.2 "},
		{"silent", silent, "421 4.4.2 "},
		{"garble", garble, "421 4.7.0 "},
		{"endless line", endlessLine, "500 5.5.2 "},
		{"endless message", endlessMessage, "552 5.3.4 "},
		{"many recipients", manyRecipients, "421 4.7.0 "},
	} {
		for copies := range 4 {
			abusers.Go(func() {
				conn, err := dialFrom(address, fmt.Sprintf("127.0.%d.%d", n+1, copies+1))
				if err != nil {
					t.Errorf("%s: %v", bad.name, err)
					return
				}
				defer conn.Close()
				last, err := bad.do(conn)
				if err != nil || !strings.HasPrefix(last, bad.want) {
					t.Errorf("%s: the server says %q (%v), not %s", bad.name, last, err, bad.want)
				}
			})
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		abusers.Wait()
		cancel()
	}()
	l := newLedger(t)
	slowest := sendMeanwhile(ctx, t, l, address)
	abusers.Wait()
	t.Logf("%d messages meanwhile, the slowest took %v; the server had %d MB at its peak", l.acknowledgements(), slowest, p.peak(t)>>20)
	const patient = 5 * time.Second // on a machine that has other tests to run
	if slowest > patient {
		t.Errorf("a message took %v while others abused the server", slowest)
	}
	const enough = 300 << 20
	if peak := p.peak(t); peak > enough {
		t.Errorf("the server had %d MB at its peak", peak>>20)
	}
	l.check(t, p)
}

// sendMeanwhile sends letters in sessions of their own until ctx ends, and gives
// how long the slowest of them took.
func sendMeanwhile(ctx context.Context, t *testing.T, l *ledger, address string) (slowest time.Duration) {
	t.Helper()
	for ctx.Err() == nil {
		began := time.Now()
		s, err := dial(address, "")
		if err == nil {
			err = errors.Join(l.post(s, 2000, alice+"/INBOX"), s.quit())
		}
		if err != nil {
			t.Fatalf("a good client: %v", err)
		}
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}

// peak gives how much memory the process had at most, in bytes.
func (p *process) peak(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	kilobytes, err := strconv.Atoi(find(t, string(text), `^VmHWM:\s+(\d+) kB$`))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// TestAbuseOfIMAP has bad clients that do not get as far as to log in.
func TestAbuseOfIMAP(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{IMAP: "timeouts {\n login = \"2s\"\n }"}).serve(t, alice)
	// What is unread when the server hangs up may take its BYE with it.
	for name, test := range map[string]struct {
		send  string
		times int
		want  string
	}{
		"silent":          {"", 0, "* BYE "},
		"half a command":  {"a LOGIN alice", 1, "* BYE "},
		"huge literal":    {"a LOGIN {2000000000}\r\n", 1, "* BYE "},
		"endless command": {strings.Repeat("a", 1<<20), 64, "* "},
		"garbage":         {"\x00\x01\x02\r\n", 100_000, "* "},
		"wrong passwords": {"a LOGIN alice@example.test wrong\r\n", 100, "* BYE "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := dialFrom(p.address(t, "imaps"), "")
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, insecure)
			last, _, err := pour(conn, test.send, test.times)
			if err != nil || !strings.HasPrefix(last, test.want) {
				t.Errorf("the server says %q (%v), not %s", last, err, test.want)
			}
			if got := p.read(t, alice).messages(t, "INBOX"); len(got) != 0 {
				t.Errorf("alice has %d messages", len(got))
			}
		})
	}
}

// TestConnectionLimits opens as many connections as one network may have, and as
// many as all may have.
func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{
		MX:   "limits {\n connections = 16\n connections_per_network = 4\n }",
		IMAP: "limits {\n connections_per_network = 3\n }",
	}).serve(t, alice)
	mx, imaps := p.address(t, "mx"), p.address(t, "imaps")
	var open []*session
	enter := func(from string) error {
		s, err := dial(mx, from)
		if err == nil {
			open = append(open, s)
			t.Cleanup(func() { s.conn.Close() })
		}
		return err
	}
	full := func(from, text string) {
		t.Helper()
		if err := enter(from); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("one more from %s: %v, want %s", from, err, text)
		}
	}
	fill := func(from string) {
		t.Helper()
		for range 4 {
			if err := enter(from); err != nil {
				t.Errorf("from %s: %v", from, err)
			}
		}
	}
	fill("127.0.0.1")
	// Those that are turned away and stay on the line take no room from others.
	for range 40 {
		conn, err := dialFrom(mx, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		newSession(conn).want(t, "", `421 4\.7\.0 Too many connections from your network`)
	}
	fill("127.0.0.2")
	full("127.0.0.2", "421 4.7.0 Too many connections from your network")
	fill("127.0.0.3")
	fill("127.0.0.4")
	full("127.0.0.5", "421 4.7.0 Too many connections, try again later")
	if err := open[0].quit(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection that ended makes room", func() bool { return enter("127.0.0.1") == nil })

	var readers []net.Conn
	read := func(from string) error {
		raw, err := dialFrom(imaps, from)
		if err != nil {
			return err
		}
		readers = append(readers, raw)
		return tls.Client(raw, insecure).Handshake()
	}
	t.Cleanup(func() {
		for _, conn := range readers {
			conn.Close()
		}
	})
	for range 3 {
		if err := read("127.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := read("127.0.0.1"); err == nil {
		t.Error("IMAP takes one connection more than a network may have")
	}
	if err := read("127.0.0.2"); err != nil {
		t.Errorf("IMAP from another network: %v", err)
	}
	readers[0].Close()
	eventually(t, "the IMAP connection that ended makes room", func() bool { return read("127.0.0.1") == nil })
}

// TestLargestMessage sends a message of about the size that is allowed, which
// goes through whole.
func TestLargestMessage(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{}).serve(t, alice)
	l := newLedger(t)
	s := connect(t, p.address(t, "mx"))
	if err := l.post(s, 20_000_000, alice+"/INBOX"); err != nil {
		t.Fatal(err)
	}
	l.check(t, p)
	tooLarge := append(bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"), 400_000), ".\r\n"...)
	if _, err := s.send(tooLarge, alice); err == nil || !strings.Contains(err.Error(), "552 5.3.4 ") {
		t.Errorf("a message of %d bytes: %v", len(tooLarge), err)
	}
	if err := s.succeed("NOOP"); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
	l.check(t, p)
}
