package smtp

import (
	"bytes"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// front is the connection as go-smtp sees it. A read gives one command line that
// the session has checked, so go-smtp holds nothing back in its buffer; a write
// is a line of a reply, which is put right and gathered. Deadlines are the
// wire's business.
type front struct {
	session *session
	// pending is what go-smtp has yet to read of the line.
	pending []byte
	// hidden counts the replies to come that answer no command of the client.
	hidden int
	// partial is the beginning of a reply line.
	partial []byte

	once   sync.Once
	closed chan struct{}
}

func newFront(s *session) *front { return &front{session: s, closed: make(chan struct{})} }

// Read gives the next line, io.EOF when the session is over for go-smtp.
func (f *front) Read(p []byte) (n int, err error) {
	select {
	case <-f.closed:
		return 0, io.EOF
	default:
	}
	defer func() {
		if r := recover(); r != nil {
			f.session.log.Error("session panicked", zap.Any(logkey.Error, r), zap.ByteString("stack", debug.Stack()))
			f.session.end(mail.NewReply(421, 3, 0, "Internal error, closing the connection"), "internal error")
			n, err = 0, io.EOF
		}
	}()
	if len(f.pending) == 0 {
		if f.pending = f.session.next(); f.pending == nil {
			return 0, io.EOF
		}
	}
	n = copy(p, f.pending)
	f.pending = f.pending[n:]
	return n, nil
}

// Write takes part of a reply.
func (f *front) Write(p []byte) (int, error) {
	rest := p
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n') + 1
		switch {
		case i == 0:
			f.partial = append(f.partial, rest...)
			return len(p), nil
		case len(f.partial) > 0:
			f.partial = append(f.partial, rest[:i]...)
			f.reply(f.partial)
			f.partial = f.partial[:0]
		default:
			f.reply(rest[:i])
		}
		rest = rest[i:]
	}
	return len(p), nil
}

// reply passes one line of a reply on, or hides it.
func (f *front) reply(line []byte) {
	last := len(line) > 3 && line[3] == ' '
	if f.hidden > 0 {
		if last {
			f.hidden--
		}
		return
	}
	f.session.answer(f.session.translate(line))
}

// Close ends the session for go-smtp. The wire stays open: it belongs to the
// session, which goes on after STARTTLS.
func (f *front) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// LocalAddr, RemoteAddr and the deadlines complete net.Conn.
func (f *front) LocalAddr() net.Addr            { return f.session.wire.raw.LocalAddr() }
func (f *front) RemoteAddr() net.Addr           { return f.session.wire.raw.RemoteAddr() }
func (*front) SetDeadline(time.Time) error      { return nil }
func (*front) SetReadDeadline(time.Time) error  { return nil }
func (*front) SetWriteDeadline(time.Time) error { return nil }

// single is a net.Listener that gives one connection and then waits for its end,
// which makes go-smtp's Serve the call that serves it.
type single struct {
	front *front
	given bool
}

// Accept gives the connection, then net.ErrClosed once it is closed.
func (s *single) Accept() (net.Conn, error) {
	if !s.given {
		s.given = true
		return s.front, nil
	}
	<-s.front.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (s *single) Close() error { return s.front.Close() }

// Addr implements net.Listener.
func (s *single) Addr() net.Addr { return s.front.LocalAddr() }
