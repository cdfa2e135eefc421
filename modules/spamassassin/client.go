package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/backend"
)

// client asks one spamd. Each message has a connection of its own: spamd answers
// and closes. A client is safe for concurrent use.
type client struct {
	address        backend.Address
	gate           *gate
	connectTimeout time.Duration
}

// message is what spamd is asked about.
type message struct {
	content io.Reader
	size    int64
	// user is whose settings and database spamd is to use; "" leaves it to spamd.
	user string
}

// report has spamd judge a message of a client's network. It ends when ctx does;
// the error is backend.ErrBusy when spamd could not be asked in time.
func (c *client) report(ctx context.Context, network netip.Prefix, m message) (found report, err error) {
	if err := c.gate.enter(ctx, network); err != nil {
		return report{}, fmt.Errorf("wait for spamd at %s: %w", c.address, err)
	}
	defer c.gate.leave()
	err = c.ask(ctx, "REPORT", "", m, func(conn io.Reader) (err error) {
		found, err = readReport(conn)
		return err
	})
	return found, err
}

// tellTimeout is for telling spamd one message, once there is a free connection.
const tellTimeout = 30 * time.Second

// tell has spamd learn whether a message is spam, when scanning leaves it a
// connection. It tells whether spamd has learned anything new.
func (c *client) tell(ctx context.Context, spam bool, m message) (learned bool, err error) {
	if err := c.gate.enterIdle(ctx); err != nil {
		return false, fmt.Errorf("wait for spamd at %s: %w", c.address, err)
	}
	defer c.gate.leaveIdle()
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	class := "ham"
	if spam {
		class = "spam"
	}
	err = c.ask(ctx, "TELL", "Message-class: "+class+"\r\nSet: local\r\n", m, func(conn io.Reader) (err error) {
		learned, err = readTold(conn)
		return err
	})
	return learned, err
}

// ask does one command. read reads the answer.
func (c *client) ask(ctx context.Context, command, fields string, m message, read func(io.Reader) error) error {
	dialer := net.Dialer{Timeout: c.connectTimeout}
	conn, err := dialer.DialContext(ctx, c.address.Network, c.address.Name)
	if err != nil {
		return fmt.Errorf("connect to spamd at %s: %w; check that spamd runs and listens there", c.address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := exchange(conn, command, fields, m, read); err != nil {
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w; spamd hangs, or the time limit is too short", ctx.Err())
		}
		return fmt.Errorf("ask spamd at %s: %w", c.address, err)
	}
	return nil
}

// exchange does one command of the protocol SPAMC/1.5. When spamd stops reading it
// has mostly said why: so the answer is read before a failed write counts.
func exchange(conn net.Conn, command, fields string, m message, read func(io.Reader) error) error {
	writeErr := send(conn, command, fields, m)
	if writeErr != nil && (errors.Is(writeErr, errMessage) || errors.Is(writeErr, os.ErrDeadlineExceeded)) {
		return writeErr
	}
	err := read(conn)
	switch {
	case err == nil && writeErr == nil:
		return nil
	case err == nil:
		return fmt.Errorf("%w, and yet spamd answers as if it had read all", writeErr)
	case writeErr != nil && (errors.Is(err, errEnded) || isNetwork(err)):
		return writeErr
	default:
		return err
	}
}

func isNetwork(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

// errMessage is returned when the message itself cannot be read.
var errMessage = errors.New("read message")

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// send writes the command and the message, and ends the client's side of the
// connection, as spamc does.
func send(conn net.Conn, command, fields string, m message) error {
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buffer := (*pooled)[:bufferSize]
	head := fmt.Appendf(buffer[:0], "%s SPAMC/1.5\r\nContent-length: %d\r\n%s", command, m.size, fields)
	if m.user != "" {
		head = fmt.Appendf(head, "User: %s\r\n", m.user)
	}
	head = append(head, "\r\n"...)
	filled, left := len(head), m.size
	for {
		n := int(min(left, int64(bufferSize-filled)))
		if _, err := io.ReadFull(m.content, buffer[filled:filled+n]); err != nil {
			return fmt.Errorf("%w: %w", errMessage, err)
		}
		if _, err := conn.Write(buffer[:filled+n]); err != nil {
			return fmt.Errorf("send message: %w", err)
		}
		if left -= int64(n); left == 0 {
			break
		}
		filled = 0
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return fmt.Errorf("send message: %w", err)
		}
	}
	return nil
}
