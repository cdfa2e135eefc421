package smtp

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

// dialogTimeout is how long a test waits for a reply that does not come.
const dialogTimeout = 10 * time.Second

var identifier = regexp.MustCompile(`\b[0-9a-hjkmnp-tv-z]{18}\b`)

// dialog plays a client. Each line of the script is one of
//
//	-> text      send text and CR LF
//	=> "text"    send the Go string as it is
//	<- text      the next line is text; ID stands for identifiers, a * at the end for any rest
//	<-- text     skip lines up to one that is text
//	EOF          the server closes
//	PAUSE        wait for 10 ms
//	TLS          begin TLS
//
// What the server may send at last need not be in it.
func (k *kit) dialog(t *testing.T, script string) {
	t.Helper()
	talk(t, k.dial(t), script)
}

func talk(t *testing.T, conn net.Conn, script string) {
	t.Helper()
	r := bufio.NewReader(conn)
	for n, step := range strings.Split(script, "\n") {
		step = strings.TrimSpace(step)
		verb, text, _ := strings.Cut(step, " ")
		if err := conn.SetDeadline(time.Now().Add(dialogTimeout)); err != nil {
			t.Fatalf("set deadline: %v", err)
		}
		switch verb {
		case "":
		case "->":
			transmit(t, conn, text+"\r\n")
		case "=>":
			raw, err := strconv.Unquote(text)
			if err != nil {
				t.Fatalf("script line %d: %v", n+1, err)
			}
			transmit(t, conn, raw)
		case "<-", "<--":
			expect(t, r, n+1, text, verb == "<--")
		case "PAUSE":
			<-time.After(10 * time.Millisecond)
		case "EOF":
			if line, err := r.ReadString('\n'); !errors.Is(err, io.EOF) {
				t.Fatalf("script line %d: got %q, %v, want EOF", n+1, line, err)
			}
		case "TLS":
			encrypted := tls.Client(conn, clientTLS())
			if err := encrypted.Handshake(); err != nil {
				t.Fatalf("script line %d: handshake: %v", n+1, err)
			}
			conn, r = encrypted, bufio.NewReader(encrypted)
		default:
			t.Fatalf("script line %d: unknown step %q", n+1, step)
		}
	}
}

func transmit(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("send %.40q: %v", text, err)
	}
}

// expect reads a line, or several when skip is set, and compares.
func expect(t *testing.T, r *bufio.Reader, n int, want string, skip bool) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("script line %d: want %q: got %q, %v", n, want, line, err)
		}
		got, ok := strings.CutSuffix(line, "\r\n")
		got = identifier.ReplaceAllString(got, "ID")
		prefix, open := strings.CutSuffix(want, "*")
		if ok && (got == want || open && strings.HasPrefix(got, prefix)) {
			return
		}
		if !skip {
			t.Fatalf("script line %d:\n got %q\nwant %q", n, got, want)
		}
	}
}
