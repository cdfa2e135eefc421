package coretest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dialogTimeout is how long a dialog waits for a line that does not come.
const dialogTimeout = 20 * time.Second

var identifier = regexp.MustCompile(`\b[0-9a-hjkmnp-tv-z]{18}\b`)

// Dialog plays a client of a protocol of lines at an address, see Talk.
func Dialog(tb testing.TB, address, script string) {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close() }()
	Talk(tb, conn, script)
}

// Talk plays a client on a connection, which stays open. Each line of the script
// is one of
//
//	-> text      send text and CR LF
//	=> "text"    send the Go string as it is
//	<- text      the next line is text; ID stands for identifiers, a * at the end for any rest
//	<-- text     skip lines up to one that is text
//	EOF          the server closes
//	TLS          begin TLS, whatever the certificate
//	PAUSE        wait for 10 ms, so that what follows comes slowly
//
// What the server may send at last need not be in it. It fails at the first line
// that is different.
func Talk(tb testing.TB, conn net.Conn, script string) {
	tb.Helper()
	d := &dialog{conn: conn, lines: bufio.NewReader(conn)}
	for n, step := range strings.Split(script, "\n") {
		if step = strings.TrimSpace(step); step == "" {
			continue
		}
		if fault := d.step(step); fault != "" {
			tb.Fatalf("script line %d, %s: %s", n+1, step, fault)
		}
	}
}

type dialog struct {
	conn  net.Conn
	lines *bufio.Reader
}

// step does one line of a script and tells what went wrong.
func (d *dialog) step(step string) string {
	if err := d.conn.SetDeadline(time.Now().Add(dialogTimeout)); err != nil {
		return err.Error()
	}
	verb, text, _ := strings.Cut(step, " ")
	switch verb {
	case "->":
		return d.send(text + "\r\n")
	case "=>":
		raw, err := strconv.Unquote(text)
		if err != nil {
			return err.Error()
		}
		return d.send(raw)
	case "<-", "<--":
		return d.expect(text, verb == "<--")
	case "TLS":
		return d.encrypt()
	case "PAUSE":
		<-time.After(10 * time.Millisecond)
		return ""
	case "EOF":
		if line, err := d.lines.ReadString('\n'); !errors.Is(err, io.EOF) {
			return "the server does not close, and says " + strconv.Quote(line)
		}
		return ""
	default:
		return "there is no such step"
	}
}

func (d *dialog) encrypt() string {
	encrypted := tls.Client(d.conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // servers of tests have certificates of their own
	if err := encrypted.Handshake(); err != nil {
		return "handshake: " + err.Error()
	}
	d.conn, d.lines = encrypted, bufio.NewReader(encrypted)
	return ""
}

func (d *dialog) send(text string) string {
	if _, err := io.WriteString(d.conn, text); err != nil {
		return err.Error()
	}
	return ""
}

// expect reads a line, or several when skip is set, and compares.
func (d *dialog) expect(want string, skip bool) string {
	prefix, open := strings.CutSuffix(want, "*")
	for {
		line, err := d.lines.ReadString('\n')
		if err != nil {
			return "the server says " + strconv.Quote(line) + ": " + err.Error()
		}
		got, ended := strings.CutSuffix(line, "\r\n")
		got = identifier.ReplaceAllString(got, "ID")
		if ended && (got == want || open && strings.HasPrefix(got, prefix)) {
			return ""
		}
		if !skip {
			return "the server says " + strconv.Quote(got)
		}
	}
}
