package clamav

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/backend"
)

// client asks one clamd. Each scan has a connection of its own: clamd answers
// and closes. Keeping connections by IDSESSION saves 50 µs of 360 over a Unix
// socket and 100 of 430 over TCP, but then an idle one may be closed by clamd
// just when it is used, answers come out of order and carry numbers to be
// matched, and one message that clamd chokes on takes others with it. A client
// is safe for concurrent use.
type client struct {
	address        backend.Address
	gate           *backend.Gate
	connectTimeout time.Duration
	version        *version // nil in a client that does not ask for it
}

// status is what clamd says of a message.
type status int

const (
	statusClean status = iota
	statusInfected
	statusTooLarge
)

// answer is clamd's answer to a scan.
type answer struct {
	status status
	// detail is the name of the signature, or of the limit, in printable ASCII.
	detail string
}

// scan sends a message of a client's network to clamd and gives what it says. It
// ends when ctx does; the error is backend.ErrBusy when clamd could not be asked in time.
func (c *client) scan(ctx context.Context, network netip.Prefix, message io.Reader) (answer, error) {
	if err := c.gate.Enter(ctx, network); err != nil {
		return answer{}, fmt.Errorf("wait for clamd at %s: %w", c.address, err)
	}
	defer c.gate.Leave()
	dialer := net.Dialer{Timeout: c.connectTimeout}
	conn, err := dialer.DialContext(ctx, c.address.Network, c.address.Name)
	if err != nil {
		return answer{}, fmt.Errorf("connect to clamd at %s: %w; check that clamd runs and listens there", c.address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	found, err := exchange(conn, message)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w; clamd hangs, or the time limit is too short", ctx.Err())
		}
		return answer{}, fmt.Errorf("scan by clamd at %s: %w", c.address, err)
	}
	return found, nil
}

// exchange does one INSTREAM command. When clamd stops reading, over its
// StreamMaxLength for instance, it has mostly said why: so the answer is read
// before a failed write counts.
func exchange(conn net.Conn, message io.Reader) (answer, error) {
	writeErr := send(conn, message)
	if writeErr != nil && (errors.Is(writeErr, errMessage) || errors.Is(writeErr, os.ErrDeadlineExceeded)) {
		return answer{}, writeErr
	}
	line, err := readAnswer(conn)
	if err != nil {
		if writeErr != nil {
			return answer{}, writeErr
		}
		return answer{}, err
	}
	found, err := parseAnswer(line)
	if err == nil && writeErr != nil && found.status != statusTooLarge {
		return answer{}, fmt.Errorf("%w, after the answer %.80q", writeErr, line)
	}
	return found, err
}

const (
	command   = "zINSTREAM\x00"
	chunkSize = 64 << 10
	// maxAnswer bounds what is read of an answer; real ones have a signature's
	// name and little more.
	maxAnswer = 1 << 10
)

// chunks are buffers for the command, one chunk with its length, and the zero
// length that ends the stream.
var chunks = sync.Pool{New: func() any { b := make([]byte, len(command)+4+chunkSize+4); return &b }}

// errMessage is returned when the message itself cannot be read.
var errMessage = errors.New("read message")

// send writes the command and the message, each chunk of which is preceded by
// its length in four bytes, big-endian. A message of one chunk is one write.
func send(conn io.Writer, message io.Reader) error {
	pooled := chunks.Get().(*[]byte)
	defer chunks.Put(pooled)
	buffer := *pooled
	start := copy(buffer, command)
	for {
		data := buffer[start+4 : start+4+chunkSize]
		n, err := io.ReadFull(message, data)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return fmt.Errorf("%w: %w", errMessage, err)
		}
		end := start
		if n > 0 {
			binary.BigEndian.PutUint32(buffer[start:], uint32(n))
			end += 4 + n
		}
		if last {
			binary.BigEndian.PutUint32(buffer[end:], 0)
			end += 4
		}
		if _, err := conn.Write(buffer[:end]); err != nil {
			return fmt.Errorf("send message: %w", err)
		}
		if last {
			return nil
		}
		start = 0
	}
}

// readAnswer reads up to the zero byte that ends an answer.
func readAnswer(conn io.Reader) (string, error) {
	buffer := make([]byte, 0, maxAnswer)
	for {
		n, err := conn.Read(buffer[len(buffer):cap(buffer)])
		seen := len(buffer)
		buffer = buffer[:seen+n]
		if i := bytes.IndexByte(buffer[seen:], 0); i >= 0 {
			return string(buffer[:seen+i]), nil
		}
		switch {
		case err == io.EOF:
			return "", fmt.Errorf("read answer: connection closed after %.80q", buffer)
		case err != nil:
			return "", fmt.Errorf("read answer: %w", err)
		case len(buffer) == cap(buffer):
			return "", fmt.Errorf("read answer: more than %d bytes, beginning with %.80q; is it clamd that listens there?", maxAnswer, buffer)
		}
	}
}

// parseAnswer understands "stream: OK", "stream: NAME FOUND" and "TEXT ERROR".
// What clamd finds about its own limits is not a virus.
func parseAnswer(line string) (answer, error) {
	if line == "stream: OK" {
		return answer{status: statusClean}, nil
	}
	if line == "INSTREAM size limit exceeded. ERROR" {
		return answer{status: statusTooLarge, detail: "StreamMaxLength is exceeded"}, nil
	}
	if text, ok := strings.CutSuffix(line, " ERROR"); ok {
		return answer{}, fmt.Errorf("clamd answers with an error: %.200q", text)
	}
	name, ok := strings.CutPrefix(line, "stream: ")
	if ok {
		name, ok = strings.CutSuffix(name, " FOUND")
	}
	if !ok || name == "" {
		return answer{}, fmt.Errorf("answer %.80q makes no sense; is it clamd that listens there?", line)
	}
	name = printable(name)
	if strings.HasPrefix(name, "Heuristics.Limits.Exceeded") {
		return answer{status: statusTooLarge, detail: name}, nil
	}
	return answer{status: statusInfected, detail: name}, nil
}

// maxSignature bounds the name of a signature in replies and header fields.
const maxSignature = 128

// printable gives a signature's name without what ExtendedDetectionInfo appends
// to it, "(hash:size)", and fit for replies and header fields.
func printable(name string) string {
	if i := strings.LastIndexByte(name, '('); i > 0 && strings.HasSuffix(name, ")") {
		name = name[:i]
	}
	name = name[:min(len(name), maxSignature)]
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
}
