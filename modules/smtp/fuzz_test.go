package smtp

import (
	"bytes"
	"net"
	"regexp"
	"testing"
	"time"

	"go.uber.org/zap"
)

// tape is a connection that brings an input, a few bytes at a time, and keeps
// what is said to it.
type tape struct {
	in   *bytes.Reader
	each int
	out  bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)     { return c.in.Read(p[:min(len(p), c.each)]) }
func (c *tape) Write(p []byte) (int, error)    { return c.out.Write(p) }
func (*tape) Close() error                     { return nil }
func (*tape) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (*tape) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
func (*tape) SetDeadline(time.Time) error      { return nil }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }

var (
	replyLine = regexp.MustCompile(`^[2-5][0-9][0-9][ -][ -~]*\r\n$`)
	promise   = []byte("250 2.0.0 OK: kept as ")
)

// FuzzSession feeds a whole session, in pieces of some size. It must end when the
// client does; every reply is a line of the right form; there are as many
// messages as were promised, and none of them has a bare CR or LF.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 4\r\na:b\rBDAT 1 LAST\r\n\nNOOP\r\n",
		"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n\n.\n\r.\r\n.\r\n",
		"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.test>\r\nBDAT 1\r\n\rRSET\r\nBDAT 5\r\nhello",
		"EHLO x\r\nMAIL FROM:<\"a\\\"b\"@example.org> SIZE=5 BODY=8BITMIME AUTH=<> SMTPUTF8\r\nRSET\r\n",
		"HELO x\r\nSTARTTLS\r\n\x16\x03\x01\x00\x05hello",
		"NOOP\nNOOP\r\n", "VRFY \x00\r\n", "EHLO x\r\nMAIL FROM:<@a,@b:c@d.e>\r\n", "\r\n\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(3), false)
		f.Add([]byte(seed), uint16(2000), true)
	}
	f.Fuzz(func(t *testing.T, input []byte, each uint16, normalise bool) {
		k := newListener(t, options{body: "submission = false", log: zap.NewNop(), storeless: true})
		if normalise {
			k.listener.BareNewlines = "normalise"
		}
		c := &tape{in: bytes.NewReader(input), each: int(each) + 1}
		k.listener.newSession(t.Context(), newWire(c, time.Second)).serve()
		kept := 0
		for line := range bytes.Lines(c.out.Bytes()) {
			if !replyLine.Match(line) {
				t.Errorf("reply %q to %q", line, input)
			}
			if bytes.HasPrefix(line, promise) {
				kept++
			}
		}
		if k.sink.count() != kept {
			t.Errorf("%d messages, %d promised, of %q", k.sink.count(), kept, input)
		}
		for _, m := range k.sink.messages {
			if rest := bytes.ReplaceAll([]byte(m), crlf, nil); bytes.ContainsAny(rest, "\r\n\x00") {
				t.Errorf("bare CR, LF or NUL in %q", m)
			}
		}
	})
}
