package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// session is an SMTP session, command by command, for what swaks cannot do. Its
// methods that take no *testing.T may be called from any goroutine.
type session struct {
	conn  net.Conn
	lines *bufio.Reader
}

// dial connects from a loopback address, "" for any, and reads the greeting.
func dial(address, from string) (*session, error) {
	conn, err := dialFrom(address, from)
	if err != nil {
		return nil, err
	}
	return greet(conn)
}

// greet reads the greeting of a connection.
func greet(conn net.Conn) (*session, error) {
	s := newSession(conn)
	reply, err := s.reply()
	if err == nil && !strings.HasPrefix(reply, "220 ") {
		err = &refusal{"greeting", reply}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func newSession(conn net.Conn) *session {
	return &session{conn: conn, lines: bufio.NewReader(conn)}
}

func dialFrom(address, from string) (net.Conn, error) {
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// refusal is a reply that is not positive.
type refusal struct {
	command string // "" is the message itself
	reply   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: the server answers %q", r.command, r.reply) }

// leaving tells whether the server has asked the client to come back later,
// which it may do between messages, and not within one.
func leaving(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	if !ok || !strings.HasPrefix(r.reply, "421 4.3.2 ") {
		return false
	}
	verb, _, _ := strings.Cut(r.command, " ")
	return verb == "EHLO" || verb == "MAIL" || verb == "QUIT"
}

// reply reads a reply, of one line or several, without the last line's end.
func (s *session) reply() (string, error) {
	var b strings.Builder
	for {
		line, err := s.lines.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(b.String(), "\r\n"), nil
		}
	}
}

// command sends a line and reads the reply.
func (s *session) command(line string) (string, error) {
	if _, err := io.WriteString(s.conn, line+"\r\n"); err != nil {
		return "", err
	}
	return s.reply()
}

// succeed is command for what must not be refused.
func (s *session) succeed(line string) error {
	reply, err := s.command(line)
	if err == nil && (reply == "" || reply[0] > '3') {
		err = &refusal{line, reply}
	}
	return err
}

// open begins a stranger's message, up to the reply to DATA.
func (s *session) open(to ...string) error {
	commands := []string{"EHLO client.example.org", "MAIL FROM:<" + stranger + ">"}
	for _, recipient := range to {
		commands = append(commands, "RCPT TO:<"+recipient+">")
	}
	for _, line := range append(commands, "DATA") {
		if err := s.succeed(line); err != nil {
			return err
		}
	}
	return nil
}

// send sends a stranger's message as it goes over the wire, with its final dot,
// and gives the id by which the server keeps it.
func (s *session) send(wire []byte, to ...string) (string, error) {
	if err := s.open(to...); err != nil {
		return "", err
	}
	return s.finish(wire)
}

// finish sends what is left of a message and gives its id.
func (s *session) finish(wire []byte) (string, error) {
	if _, err := s.conn.Write(wire); err != nil {
		return "", err
	}
	reply, err := s.reply()
	if err != nil {
		return "", err
	}
	id, ok := strings.CutPrefix(reply, "250 2.0.0 OK: kept as ")
	if !ok {
		return "", &refusal{"", reply}
	}
	return id, nil
}

// quit ends the session in order.
func (s *session) quit() error {
	return errors.Join(s.succeed("QUIT"), s.conn.Close())
}

// connect is dial for a test's own goroutine.
func connect(t *testing.T, address string) *session {
	t.Helper()
	s, err := dial(address, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	return s
}

// want sends a line, unless it is empty, and compares the reply.
func (s *session) want(t *testing.T, line, pattern string) {
	t.Helper()
	var reply string
	var err error
	if line == "" {
		reply, err = s.reply()
	} else {
		reply, err = s.command(line)
	}
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if !regexp.MustCompile("(?s)^(?:" + pattern + ")").MatchString(reply) {
		t.Fatalf("%s: the server answers %q, not %s", line, reply, pattern)
	}
}
