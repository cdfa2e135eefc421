package milter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/backend"
)

// Codes that package go-milter has no names for.
const (
	codeAbort = byte(wire.CodeAbort)
	codeQuit  = byte(wire.CodeQuit)

	answerProgress  = 'p' // SMFIR_PROGRESS: it works on it
	answerShutdown  = '4' // SMFIR_SHUTDOWN: 421 for the client
	answerConnFail  = 'f' // SMFIR_CONN_FAIL: break the connection
	answerAddRcptEx = '2' // SMFIR_ADDRCPT_PAR: a recipient with parameters
)

// The version that is offered, and the oldest that is taken.
const (
	version       = 6
	oldestVersion = 2
)

// What is offered: all that Postfix offers.
const (
	offeredActions = wire.OptAddHeader | wire.OptChangeBody | wire.OptAddRcpt | wire.OptRemoveRcpt | wire.OptChangeHeader |
		wire.OptQuarantine | wire.OptChangeFrom | wire.OptAddRcptWithArgs | wire.OptSetSymList
	offeredProtocol = wire.OptNoConnect | wire.OptNoHelo | wire.OptNoMailFrom | wire.OptNoRcptTo | wire.OptNoBody |
		wire.OptNoHeaders | wire.OptNoEOH | wire.OptNoUnknown | wire.OptNoData | wire.OptSkip | wire.OptRcptRej |
		wire.OptNoHeaderReply | wire.OptNoConnReply | wire.OptNoHeloReply | wire.OptNoMailReply | wire.OptNoRcptReply |
		wire.OptNoDataReply | wire.OptNoUnknownReply | wire.OptNoEOHReply | wire.OptNoBodyReply | wire.OptHeaderLeadingSpace
)

const (
	// maxPacket bounds what is read of one answer, but for a piece of a body, which is
	// not kept in memory. libmilter's own are of 64 KiB at most.
	maxPacket = 256 << 10
	// maxFrame bounds a packet of any kind: one that is larger is none.
	maxFrame = 64 << 20
	// maxReply bounds what is read of an answer that is not a change. The longest is a
	// reply of 32 lines.
	maxReply = 32 << 10
)

// client is a connection to a milter. It belongs to one message.
type client struct {
	address backend.Address
	conn    net.Conn
	*buffers
	stop func() bool // of what watches the context

	actions  wire.OptAction
	protocol wire.OptProtocol
}

// buffers are what a connection needs; they are used again and again.
type buffers struct {
	in    *bufio.Reader
	out   *bufio.Writer
	chunk [wire.MaxBodyChunk]byte
}

var pool = sync.Pool{New: func() any {
	return &buffers{in: bufio.NewReaderSize(nil, 4<<10), out: bufio.NewWriterSize(nil, 8<<10)}
}}

// errLocal is returned when the message cannot be read, or a new one kept: that is not the
// milter's fault, and not told as such.
var errLocal = errors.New("local error")

// dial connects to a milter and agrees with it on what is to be said. Reading and
// writing end when ctx does.
func dial(ctx context.Context, address backend.Address, timeout time.Duration) (*client, error) {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, address.Network, address.Name)
	if err != nil {
		return nil, fmt.Errorf("connect to the milter at %s: %w; check that it runs and listens there", address, err)
	}
	c := newClient(conn, address)
	c.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if err := c.negotiate(); err != nil {
		err = c.explain(ctx, err)
		c.close()
		return nil, err
	}
	return c, nil
}

func newClient(conn net.Conn, address backend.Address) *client {
	c := &client{address: address, conn: conn, buffers: pool.Get().(*buffers), stop: func() bool { return true }}
	c.in.Reset(conn)
	c.out.Reset(conn)
	return c
}

// close says that no more comes, and ends the connection.
func (c *client) close() {
	c.send(codeQuit)
	_ = c.out.Flush() // who has gone needs no farewell
	c.stop()
	_ = c.conn.Close()
	c.in.Reset(nil)
	c.out.Reset(nil)
	pool.Put(c.buffers)
	c.buffers = nil
}

// explain makes an error of the conversation one for the operator.
func (c *client) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errLocal):
		return err
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("ask the milter at %s: %w in the step %w; it hangs, or the time limit is too short", c.address, ctx.Err(), err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("ask the milter at %s: %w: it has closed the connection", c.address, err)
	default:
		return fmt.Errorf("ask the milter at %s: %w", c.address, err)
	}
}

// negotiate agrees on what the milter may change, and on what it wants to be told.
func (c *client) negotiate() error {
	const step = "option negotiation"
	var offer [12]byte
	binary.BigEndian.PutUint32(offer[0:], version)
	binary.BigEndian.PutUint32(offer[4:], uint32(offeredActions))
	binary.BigEndian.PutUint32(offer[8:], uint32(offeredProtocol))
	c.send(byte(wire.CodeOptNeg), offer[:])
	p, err := c.receive(step)
	if err != nil {
		return err
	}
	if p.code != byte(wire.CodeOptNeg) {
		return fmt.Errorf("%s: it answers with %s; is it a milter that listens there?", step, named(p.code))
	}
	data, err := c.payload(step, p, maxReply)
	if err != nil {
		return err
	}
	if len(data) < len(offer) {
		return fmt.Errorf("%s: its answer has %d bytes, less than %d", step, len(data), len(offer))
	}
	// What may follow are the names of macros that it wants: it is sent all anyway.
	v := binary.BigEndian.Uint32(data)
	c.actions, c.protocol = wire.OptAction(binary.BigEndian.Uint32(data[4:])), wire.OptProtocol(binary.BigEndian.Uint32(data[8:]))
	switch {
	case v < oldestVersion || v > version:
		return fmt.Errorf("%s: it speaks version %d, and this server %d to %d", step, v, oldestVersion, version)
	case c.actions&^offeredActions != 0:
		return fmt.Errorf("%s: it wants the actions %#x, which were not offered", step, uint32(c.actions&^offeredActions))
	case c.protocol&^offeredProtocol != 0:
		return fmt.Errorf("%s: it wants the protocol flags %#x, which were not offered", step, uint32(c.protocol&^offeredProtocol))
	}
	return nil
}

// leading tells whether values of header fields have their leading white space in both
// directions.
func (c *client) leading() bool { return c.protocol&wire.OptHeaderLeadingSpace != 0 }

// send puts a packet of some pieces into the buffer. An error stays there, and the
// next flush has it.
func (c *client) send(code byte, pieces ...[]byte) {
	size := 1
	for _, p := range pieces {
		size += len(p)
	}
	c.header(code, size)
	for _, p := range pieces {
		_, _ = c.out.Write(p)
	}
}

// sendStrings is send for a packet of strings, each of which it ends with a zero.
// Zeros in them are left out.
func (c *client) sendStrings(code byte, prefix []byte, list ...string) {
	size := 1 + len(prefix)
	for _, s := range list {
		size += stringSize(s)
	}
	c.header(code, size)
	_, _ = c.out.Write(prefix)
	for _, s := range list {
		c.writeString(s)
	}
}

// header begins a packet; size counts the code.
func (c *client) header(code byte, size int) {
	var header [5]byte
	binary.BigEndian.PutUint32(header[:], uint32(size))
	header[4] = code
	_, _ = c.out.Write(header[:])
}

// stringSize is how many bytes writeString writes.
func stringSize(s string) int {
	n := 1
	for i := range len(s) {
		if s[i] != 0 {
			n++
		}
	}
	return n
}

func (c *client) writeString(s string) {
	for i := range len(s) {
		if s[i] != 0 {
			_ = c.out.WriteByte(s[i])
		}
	}
	_ = c.out.WriteByte(0)
}

// packet is the beginning of a packet of the milter's: size bytes follow.
type packet struct {
	code byte
	size int
}

// receive sends what is in the buffer and reads the beginning of the next packet,
// past those that say that the milter works on it.
func (c *client) receive(step string) (packet, error) {
	if err := c.out.Flush(); err != nil && c.in.Buffered() == 0 {
		// It may have said why before it closed the connection.
		if _, readErr := c.in.Peek(5); readErr != nil {
			return packet{}, fmt.Errorf("%s: %w", step, err)
		}
	}
	for {
		var header [5]byte
		if _, err := io.ReadFull(c.in, header[:]); err != nil {
			return packet{}, fmt.Errorf("%s: %w", step, err)
		}
		size := binary.BigEndian.Uint32(header[:])
		if size == 0 || size > maxFrame {
			return packet{}, fmt.Errorf("%s: it sends a packet of %d bytes, beginning with %q; is it a milter that listens there?", step, size, header[:])
		}
		p := packet{code: header[4], size: int(size) - 1}
		if p.code != answerProgress {
			return p, nil
		}
		if _, err := c.payload(step, p, maxReply); err != nil {
			return packet{}, err
		}
	}
}

// payload reads the rest of a packet of at most limit bytes.
func (c *client) payload(step string, p packet, limit int) ([]byte, error) {
	if p.size > limit {
		return nil, fmt.Errorf("%s: it sends %s with %d bytes, and %d are the most", step, named(p.code), p.size, limit)
	}
	data := make([]byte, p.size)
	if _, err := io.ReadFull(c.in, data); err != nil {
		return nil, fmt.Errorf("%s: %w", step, noEOF(err))
	}
	return data, nil
}

// noEOF is the error of a packet that ends too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// names are what the documents of libmilter call the codes of answers.
var names = map[byte]string{
	byte(wire.ActAccept):       "ACCEPT",
	byte(wire.ActContinue):     "CONTINUE",
	byte(wire.ActDiscard):      "DISCARD",
	byte(wire.ActReject):       "REJECT",
	byte(wire.ActTempFail):     "TEMPFAIL",
	byte(wire.ActReplyCode):    "REPLYCODE",
	byte(wire.ActSkip):         "SKIP",
	answerProgress:             "PROGRESS",
	answerShutdown:             "SHUTDOWN",
	answerConnFail:             "CONN_FAIL",
	byte(wire.ActAddRcpt):      "ADDRCPT",
	answerAddRcptEx:            "ADDRCPT_PAR",
	byte(wire.ActDelRcpt):      "DELRCPT",
	byte(wire.ActReplBody):     "REPLBODY",
	byte(wire.ActAddHeader):    "ADDHEADER",
	byte(wire.ActChangeHeader): "CHGHEADER",
	byte(wire.ActInsertHeader): "INSHEADER",
	byte(wire.ActQuarantine):   "QUARANTINE",
	byte(wire.ActChangeFrom):   "CHGFROM",
	byte(wire.CodeOptNeg):      "OPTNEG",
}

// named gives a code as an error shows it.
func named(code byte) string {
	if name, ok := names[code]; ok {
		return fmt.Sprintf("%s (%q)", name, code)
	}
	return fmt.Sprintf("the unknown code %q", code)
}
