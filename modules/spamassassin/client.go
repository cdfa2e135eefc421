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
	gate           *backend.Gate
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
func (c *client) report(ctx context.Context, network netip.Prefix, m message) (report, error) {
	if err := c.gate.Enter(ctx, network); err != nil {
		return report{}, fmt.Errorf("wait for spamd at %s: %w", c.address, err)
	}
	defer c.gate.Leave()
	dialer := net.Dialer{Timeout: c.connectTimeout}
	conn, err := dialer.DialContext(ctx, c.address.Network, c.address.Name)
	if err != nil {
		return report{}, fmt.Errorf("connect to spamd at %s: %w; check that spamd runs and listens there", c.address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	found, err := exchange(conn, m)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w; spamd hangs, or the time limit is too short", ctx.Err())
		}
		return report{}, fmt.Errorf("ask spamd at %s: %w", c.address, err)
	}
	return found, nil
}

// exchange does one REPORT command of the protocol SPAMC/1.5. When spamd stops
// reading it has mostly said why: so the answer is read before a failed write
// counts.
func exchange(conn net.Conn, m message) (report, error) {
	writeErr := send(conn, m)
	if writeErr != nil && (errors.Is(writeErr, errMessage) || errors.Is(writeErr, os.ErrDeadlineExceeded)) {
		return report{}, writeErr
	}
	found, err := readReport(conn)
	switch {
	case err == nil && writeErr == nil:
		return found, nil
	case err == nil:
		return report{}, fmt.Errorf("%w, and yet spamd gives a score", writeErr)
	case writeErr != nil && (errors.Is(err, errEnded) || isNetwork(err)):
		return report{}, writeErr
	default:
		return report{}, err
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
func send(conn net.Conn, m message) error {
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buffer := (*pooled)[:bufferSize]
	head := fmt.Appendf(buffer[:0], "REPORT SPAMC/1.5\r\nContent-length: %d\r\n", m.size)
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
