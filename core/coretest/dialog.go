package coretest

import (
	"bufio"
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

// Dialog plays a client of a protocol of lines at an address. Each line of the
// script is one of
//
//	-> text      send text and CR LF
//	=> "text"    send the Go string as it is
//	<- text      the next line is text; ID stands for identifiers, a * at the end for any rest
//	<-- text     skip lines up to one that is text
//	EOF          the server closes
//
// What the server may send at last need not be in it. It fails at the first line
// that is different.
func Dialog(tb testing.TB, address, script string) {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close() }()
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
	case "EOF":
		if line, err := d.lines.ReadString('\n'); !errors.Is(err, io.EOF) {
			return "the server does not close, and says " + strconv.Quote(line)
		}
		return ""
	default:
		return "there is no such step"
	}
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
		got := identifier.ReplaceAllString(strings.TrimSuffix(line, "\r\n"), "ID")
		if got == want || open && strings.HasPrefix(got, prefix) {
			return ""
		}
		if !skip {
			return "the server says " + strconv.Quote(got)
		}
	}
}
