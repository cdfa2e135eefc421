package imap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// maxText bounds the text of one command with its literals, but for the
	// message of an APPEND. imapserver's own limit lies above it.
	maxText = 40 << 10
	// maxDiscard bounds how much of an overlong line is read and thrown away
	// before the client is cut off.
	maxDiscard = 1 << 20
	// maxLine bounds one line of a SASL exchange or of IDLE; imapserver reads
	// them with a buffer of 4096 bytes.
	maxLine = 4000
	// maxAnnouncement is the length that the announcement of a literal can have.
	maxAnnouncement = 64
	// maxBad is the number of syntax errors that a client may make, and
	// maxEarlyBad that before it has logged in.
	maxBad      = 20
	maxEarlyBad = 3
	// maxEarlyLiteral bounds a literal before the login: no name and no password
	// is longer.
	maxEarlyLiteral = 4 << 10
	// maxKept is how much memory for commands an idle session keeps.
	maxKept = 4 << 10
	// maxBlank is the number of empty lines in a row that are passed over. Some
	// clients send one before a command.
	maxBlank = 8
)

// fence stands between the client and imapserver, which gets to see nothing but
// whole, well-framed commands of one line: literals have become quoted strings,
// the message of an APPEND stays behind and is read by the session. So no byte
// of a literal can ever run as a command, whatever imapserver does with what it
// refuses (RFC 9051 section 4.3). It is also the net.Conn that imapserver
// writes to: it gathers responses until the next blocking read, keeps the
// deadlines, and puts right what imapserver gets wrong in status responses.
//
// Commands that need no mailbox (CAPABILITY, ID, ENABLE, unknown ones) are
// answered here. Reading belongs to imapserver's goroutine; writing is safe for
// concurrent use.
type fence struct {
	timeouts *Timeouts
	caps     capabilities
	loginBy  time.Time // when a client that has not logged in is cut off
	logins   int       // how many may fail, 0 for any number

	in      *bufio.Reader
	feed    []byte // what imapserver reads next
	text    []byte // the command being read, as imapserver gets it
	message literal
	secured bool // TLS is on
	authed  bool // the client has logged in

	out output

	mu      sync.Mutex
	conn    net.Conn // in the clear, or the TLS connection
	waiting bool     // blocked between commands
	over    string   // the text of a BYE that is due

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// errConfused is returned when imapserver asks for more of a command that was
// complete.
var errConfused = errors.New("imapserver wants more of a complete command")

func newFence(conn net.Conn, t *Timeouts, caps capabilities) *fence {
	f := &fence{timeouts: t, caps: caps, loginBy: time.Now().Add(t.Login), conn: conn, closed: make(chan struct{})}
	f.out.fence = f
	f.out.lineStart = true
	f.in = bufio.NewReaderSize(source{f}, 4096)
	return f
}

// source reads from the client, after all that it waits for has been sent.
type source struct{ f *fence }

func (s source) Read(p []byte) (int, error) {
	if err := s.f.out.flush(); err != nil {
		return 0, err
	}
	return s.f.net().Read(p)
}

func (f *fence) net() net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn
}

// replace goes on over a connection that wraps the first one.
func (f *fence) replace(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = conn
}

// secure goes on over another connection, the TLS one. What the client sent
// before is forgotten.
func (f *fence) secure(conn net.Conn) {
	f.replace(conn)
	f.in.Reset(source{f})
	f.secured = true
}

// untilTLS serves a client in the clear until it asks for TLS: then the error is
// errStartTLS.
func (f *fence) untilTLS() error {
	for {
		f.judge()
		err := f.await()
		if err == nil {
			err = f.readCommand()
		}
		switch {
		case errors.Is(err, errStartTLS):
			return errStartTLS
		case err != nil:
			return f.fail(err)
		}
	}
}

// Read gives imapserver the next command.
func (f *fence) Read(p []byte) (int, error) {
	for len(f.feed) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.feed)
	f.feed = f.feed[n:]
	return n, nil
}

// next fills feed.
func (f *fence) next() error {
	switch name, pending := f.out.pending(); {
	case !pending:
	case name == "IDLE":
		return f.awaitDone()
	case name == "AUTHENTICATE":
		return f.awaitResponse()
	case name == "APPEND" && f.message.present:
		// The session has read the message, or imapserver refused the command
		// without asking for it.
		f.feed = []byte("\r\n")
		if err := f.skipMessage(); err != nil {
			return f.fail(err)
		}
		return nil
	default:
		return errConfused
	}
	if err := f.skipMessage(); err != nil {
		return f.fail(err)
	}
	if cap(f.text) > maxKept {
		f.text = nil
	}
	for len(f.feed) == 0 {
		f.judge()
		if err := f.await(); err != nil {
			return f.fail(err)
		}
		if err := f.readCommand(); err != nil {
			return f.fail(err)
		}
	}
	return nil
}

// judge ends the session of a client that gets too much wrong.
func (f *fence) judge() {
	bad, logins := f.out.failures()
	switch {
	case !f.authed && f.logins > 0 && logins >= f.logins:
		f.hangUp("Too many failed logins")
	case bad > maxBad, !f.authed && bad > maxEarlyBad:
		f.hangUp("Too many syntax errors")
	}
}

// hangUp ends the session with a BYE as soon as it waits between commands, or in
// IDLE. The first text counts.
func (f *fence) hangUp(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over == "" {
		f.over = text
	}
	if f.waiting {
		_ = f.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// errOver is returned by await when a BYE is due.
var errOver = errors.New("session is over")

// await blocks until the client says something, and sets the deadline for the
// rest of it.
func (f *fence) await() error {
	if err := f.beginWait(); err != nil {
		return err
	}
	_, err := f.in.Peek(1)
	if err := f.endWait(err); err != nil {
		return err
	}
	return f.net().SetReadDeadline(f.limit(f.timeouts.Command))
}

// limit gives the deadline for something that may take d.
func (f *fence) limit(d time.Duration) time.Time {
	limit := time.Now().Add(d)
	if !f.authed && limit.After(f.loginBy) {
		return f.loginBy
	}
	return limit
}

func (f *fence) beginWait() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over != "" {
		return errOver
	}
	f.waiting = true
	return f.conn.SetReadDeadline(f.limit(f.timeouts.Idle))
}

func (f *fence) endWait(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = false
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case f.over != "":
	case !f.authed:
		f.over = "Logging in took too long"
	default:
		f.over = "Idle for too long, connect again"
	}
	return errOver
}

// fail ends the session: with a BYE where one is due or the client was too
// slow.
func (f *fence) fail(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		f.hangUp("Waited too long for the rest of a command")
	}
	f.mu.Lock()
	over := f.over
	f.mu.Unlock()
	if over != "" {
		f.bye(over)
		return io.EOF
	}
	return err
}

// bye writes a BYE and mutes what imapserver may still write.
func (f *fence) bye(text string) {
	f.out.line("* BYE " + text)
	_ = f.out.flush()
	f.out.mute()
}

// awaitDone waits for the end of IDLE (RFC 2177). imapserver always gets to see
// a DONE, since it would not wait for the session's part of IDLE otherwise.
func (f *fence) awaitDone() error {
	f.feed = []byte("DONE\r\n")
	err := f.await()
	var line []byte
	if err == nil {
		line, err = f.readLine(maxLine)
	}
	switch {
	case errors.Is(err, errLongLine), err == nil && !strings.EqualFold(string(line), "DONE"):
		f.out.override("BAD [CLIENTBUG] IDLE ends with DONE and nothing else")
	case err != nil && !errors.Is(err, errOver):
		f.hangUp("Connection lost")
	}
	return nil
}

// awaitResponse reads a line of a SASL exchange. Too long a one cancels it.
func (f *fence) awaitResponse() error {
	if err := f.await(); err != nil {
		return f.fail(err)
	}
	line, err := f.readLine(maxLine)
	switch {
	case errors.Is(err, errLongLine):
		f.out.override("BAD [CLIENTBUG] Authentication response is too long")
		f.feed = []byte("*\r\n")
	case err != nil:
		return f.fail(err)
	default:
		f.feed = append(append(f.text[:0], line...), "\r\n"...)
	}
	return nil
}

// errLongLine is returned for a line that exceeds its limit, once it has been
// read to its end. It comes with the last bytes of the line, since a literal may
// be announced there.
var errLongLine = errors.New("line is too long")

// readLine reads a line of at most limit bytes, without its end. A bare LF ends
// a line too. The line is valid until the next read.
func (f *fence) readLine(limit int) ([]byte, error) {
	line, err := f.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = f.readLongLine(line, limit)
	}
	if err != nil && !errors.Is(err, errLongLine) {
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if len(line) > limit {
		err = errLongLine
	}
	return line, err
}

// readLongLine goes on with a line that does not fit into the buffer.
func (f *fence) readLongLine(start []byte, limit int) ([]byte, error) {
	line := append([]byte(nil), start...)
	long := false
	for read := len(start); ; {
		part, err := f.in.ReadSlice('\n')
		read += len(part)
		if len(line) > limit {
			long = true
			line = append(line[:0], line[len(line)-maxAnnouncement:]...)
		}
		line = append(line, part...)
		switch {
		case err == nil && long:
			return line, errLongLine
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case read > maxDiscard:
			return nil, fmt.Errorf("read command: line is longer than %d bytes", maxDiscard)
		}
	}
}

// Write takes what imapserver writes.
func (f *fence) Write(p []byte) (int, error) { return f.out.Write(p) }

// Close sends what is left and closes the connection.
func (f *fence) Close() error {
	f.closeOnce.Do(func() {
		flushErr := f.out.flush()
		f.closeErr = errors.Join(flushErr, f.net().Close())
		close(f.closed)
	})
	return f.closeErr
}

// LocalAddr is the address that the client connected to.
func (f *fence) LocalAddr() net.Addr { return f.net().LocalAddr() }

// RemoteAddr is the peer's address.
func (f *fence) RemoteAddr() net.Addr { return f.net().RemoteAddr() }

// SetDeadline does nothing: the fence keeps deadlines of its own.
func (f *fence) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, see SetDeadline.
func (f *fence) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, see SetDeadline.
func (f *fence) SetWriteDeadline(time.Time) error { return nil }
