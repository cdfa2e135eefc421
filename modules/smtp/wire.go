package smtp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var (
	// errLeaving is returned when the session shall end for the server's sake.
	errLeaving = errors.New("the server is shutting down")
	// errLineLong is returned for a command line over its limit.
	errLineLong = errors.New("command line is too long")
	// errLineEndless is returned for a command line of which no end is in sight.
	errLineEndless = errors.New("command line has no end")
	// errBareNewline is returned for a command line with a CR or LF alone, or a NUL.
	errBareNewline = errors.New("bare CR, bare LF or NUL in a command line")
)

const (
	readBuffer = 16 << 10
	// writeBuffer is how many bytes of replies are gathered at most.
	writeBuffer = 4 << 10
)

var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// wire is the client's end of a session: bytes with deadlines. Replies gather
// until the next read would wait for the client, so that a batch of pipelined
// commands costs one write (RFC 2920 section 3.2).
//
// It is used by one goroutine, interrupt and abort aside.
type wire struct {
	conn net.Conn // the TLS connection once there is one

	in         *[readBuffer]byte
	next, fill int // what is read and not yet used is in[next:fill]
	out        []byte
	received   int64 // bytes that came in

	writeTimeout time.Duration
	writeBy      time.Time
	failed       error // of the first write that failed: there are no more

	// busy keeps an interrupt from ending the session before the transaction.
	busy bool

	raw net.Conn // the socket

	mu      sync.Mutex
	readBy  time.Time // guarded by mu: the deadline that is set
	leaveBy time.Time // guarded by mu: when the session shall end, zero while it may go on
}

func newWire(raw net.Conn, writeTimeout time.Duration) *wire {
	return &wire{conn: raw, raw: raw, in: readBuffers.Get().(*[readBuffer]byte), writeTimeout: writeTimeout}
}

// buffered gives what has come in and is not used yet.
func (w *wire) buffered() []byte { return w.in[w.next:w.fill] }

// consume marks the first n bytes of buffered as used.
func (w *wire) consume(n int) { w.next += n }

// discard forgets what has come in and is not used yet.
func (w *wire) discard() { w.next, w.fill = 0, 0 }

// more waits until something has come in, for timeout or a little longer, after
// it has sent what waits to be sent. It makes room in front; a full buffer is
// the caller's mistake and io.ErrShortBuffer.
func (w *wire) more(timeout time.Duration) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.moreBy(time.Now().Add(timeout), timeout/8)
}

func (w *wire) moreBy(deadline time.Time, slack time.Duration) error {
	if w.next > 0 {
		w.fill = copy(w.in[:], w.in[w.next:w.fill])
		w.next = 0
	}
	if w.fill == len(w.in) {
		return io.ErrShortBuffer
	}
	for {
		if err := w.arm(deadline, slack); err != nil {
			return err
		}
		n, err := w.conn.Read(w.in[w.fill:])
		w.fill += n
		w.received += int64(n)
		if n > 0 {
			return nil
		}
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline)) {
			return err
		}
	}
}

// arm sets the deadline of the next read. One that is at most slack later than
// asked for stays, since setting it costs more than a small read.
func (w *wire) arm(deadline time.Time, slack time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.leaveBy.IsZero() && !w.busy {
		if !time.Now().Before(w.leaveBy) {
			return errLeaving
		}
		if w.leaveBy.Before(deadline) {
			deadline, slack = w.leaveBy, 0
		}
	}
	if !w.readBy.Before(deadline) && !w.readBy.After(deadline.Add(slack)) {
		return nil
	}
	w.readBy = deadline.Add(slack)
	return w.raw.SetReadDeadline(w.readBy)
}

// leaveGrace is how long a session that is not busy may still begin a message
// once the server wants it to end: so that a client who has just connected or
// logged in is not turned away.
const leaveGrace = time.Second

// interrupt makes the session end when it has had its grace and is not busy. It
// may be called from any goroutine.
func (w *wire) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leaveBy = time.Now().Add(leaveGrace)
	w.readBy = time.Time{}
	_ = w.raw.SetReadDeadline(time.Unix(1, 0))
}

// abort closes the connection under the session. It may be called from any
// goroutine.
func (w *wire) abort() { _ = w.raw.Close() }

// line gives the next line with its CR LF, valid until the next read. All of it
// must come in within timeout. Lines over max are skipped and errLineLong;
// after errLineEndless and errBareNewline nothing that follows can be trusted.
func (w *wire) line(max int, timeout time.Duration) ([]byte, error) {
	var deadline time.Time
	searched, long := 0, false
	for {
		if i := bytes.IndexByte(w.in[w.next+searched:w.fill], '\n'); i >= 0 {
			line := w.in[w.next : w.next+searched+i+1]
			w.next += len(line)
			if long || len(line) > max {
				return nil, errLineLong
			}
			return line, checkLine(line)
		}
		if searched = w.fill - w.next; searched > max || searched == len(w.in) {
			if long {
				return nil, errLineEndless
			}
			long = true
			w.discard()
			searched = 0
		}
		if err := w.flush(); err != nil {
			return nil, err
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(timeout)
		}
		if err := w.moreBy(deadline, timeout/8); err != nil {
			return nil, err
		}
	}
}

// checkLine refuses lines that another server could see as two.
func checkLine(line []byte) error {
	end := len(line) - 2
	if end < 0 || line[end] != '\r' || bytes.IndexByte(line[:end], '\r') >= 0 || bytes.IndexByte(line[:end], 0) >= 0 {
		return errBareNewline
	}
	return nil
}

// send gathers part of a reply.
func (w *wire) send(p []byte) error {
	w.out = append(w.out, p...)
	if len(w.out) < writeBuffer {
		return nil
	}
	return w.flush()
}

// flush sends what has gathered.
func (w *wire) flush() error {
	if len(w.out) == 0 || w.failed != nil {
		return w.failed
	}
	deadline := time.Now().Add(w.writeTimeout)
	if w.writeBy.Before(deadline) {
		w.writeBy = deadline.Add(w.writeTimeout / 8)
		if w.failed = w.conn.SetWriteDeadline(w.writeBy); w.failed != nil {
			return w.failed
		}
	}
	_, w.failed = w.conn.Write(w.out)
	w.out = w.out[:0]
	return w.failed
}

// upgrade goes on over c, which runs over the connection so far. Deadlines that
// were set by others no longer count.
func (w *wire) upgrade(c net.Conn) {
	w.conn = c
	w.writeBy = time.Time{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readBy = time.Time{}
	if !w.leaveBy.IsZero() {
		_ = w.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// linger lets the client read the last reply: closing a TCP connection with
// unread bytes in it would take the reply back. It waits for the client to
// close, for a second and a megabyte at most.
func (w *wire) linger() {
	tcp, ok := w.raw.(*net.TCPConn)
	if !ok || w.flush() != nil {
		return
	}
	if encrypted, ok := w.conn.(*tls.Conn); ok && encrypted.CloseWrite() != nil {
		return
	}
	if tcp.CloseWrite() != nil {
		return
	}
	if tcp.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	for left := lingerBytes; left > 0; {
		n, err := tcp.Read(w.in[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// close sends what has gathered and closes the connection.
func (w *wire) close() error {
	err := errors.Join(w.flush(), w.conn.Close())
	readBuffers.Put(w.in)
	w.in = nil
	return err
}
