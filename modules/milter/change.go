package milter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what a milter may change in one message, beside its body. Real ones make a
// dozen changes.
const (
	maxChanges     = 1000
	maxChangesSize = 1 << 20
)

// change is one change that a milter wants.
type change struct {
	code  byte
	index uint32
	name  string
	value string
}

// changes are all that a milter wants of one message. Nothing is applied before it has
// decided.
type changes struct {
	client *client
	limit  int64 // of the body, in bytes
	spool  func() *mail.Spool

	list []change
	size int

	body    *mail.Spool // nil as long as it is the old one
	bodyLen int64
	lines   lines
}

// needs tells which action a change is, "" for a packet that is no change.
var needs = map[byte]wire.OptAction{
	byte(wire.ActAddRcpt):      wire.OptAddRcpt | wire.OptAddRcptWithArgs,
	answerAddRcptEx:            wire.OptAddRcptWithArgs,
	byte(wire.ActDelRcpt):      wire.OptRemoveRcpt,
	byte(wire.ActReplBody):     wire.OptChangeBody,
	byte(wire.ActAddHeader):    wire.OptAddHeader | wire.OptChangeHeader,
	byte(wire.ActInsertHeader): wire.OptAddHeader | wire.OptChangeHeader,
	byte(wire.ActChangeHeader): wire.OptChangeHeader,
	byte(wire.ActQuarantine):   wire.OptQuarantine,
	byte(wire.ActChangeFrom):   wire.OptChangeFrom,
}

func isChange(code byte) bool { return needs[code] != 0 }

// read takes a change in.
func (c *changes) read(p packet) error {
	if c.client.actions&needs[p.code] == 0 {
		return fmt.Errorf("%s: it sends %s, and did not say in the negotiation that it may", stepEnd, named(p.code))
	}
	if p.code == byte(wire.ActReplBody) {
		return c.readBody(p)
	}
	if len(c.list) == maxChanges {
		return fmt.Errorf("%s: it makes more than %d changes", stepEnd, maxChanges)
	}
	data, err := c.client.payload(stepEnd, p, maxPacket)
	if err != nil {
		return err
	}
	if c.size += len(data); c.size > maxChangesSize {
		return fmt.Errorf("%s: its changes have more than %d bytes", stepEnd, maxChangesSize)
	}
	one, err := parseChange(p.code, data)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", stepEnd, named(p.code), err)
	}
	c.list = append(c.list, one)
	return nil
}

// readBody takes a piece of a new body in, without ever having all of it in memory.
func (c *changes) readBody(p packet) error {
	if c.bodyLen += int64(p.size); c.bodyLen > c.limit {
		return fmt.Errorf("%s: its new body has more than %d bytes, which is max_body", stepEnd, c.limit)
	}
	if c.body == nil {
		c.body = c.spool()
		// The body stands in the spool behind a header section without fields.
		if _, err := c.body.Write(crlf); err != nil {
			return fmt.Errorf("%w: keep the new body: %w", errLocal, err)
		}
	}
	for rest := p.size; rest > 0; {
		piece := c.client.chunk[:min(rest, len(c.client.chunk))]
		if _, err := io.ReadFull(c.client.in, piece); err != nil {
			return fmt.Errorf("%s: %w", stepEnd, noEOF(err))
		}
		if bytes.IndexByte(piece, 0) >= 0 {
			return fmt.Errorf("%s: its new body has a NUL byte", stepEnd)
		}
		if err := c.lines.write(c.body, piece); err != nil {
			return fmt.Errorf("%w: keep the new body: %w", errLocal, err)
		}
		rest -= len(piece)
	}
	return nil
}

func (c *changes) close() {
	if c.body != nil {
		_ = c.body.Close()
	}
}

var (
	crlf       = []byte("\r\n")
	errNoIndex = errors.New("it has no index")
	errZero    = errors.New("a string in it has no end")
	errNoFirst = errors.New("its index is 0, and the first field is 1")
	errNoValue = errors.New("the value of the field is missing")
)

// parseChange reads the data of a change.
func parseChange(code byte, data []byte) (change, error) {
	c := change{code: code}
	if code == byte(wire.ActChangeHeader) || code == byte(wire.ActInsertHeader) {
		if len(data) < 4 {
			return c, errNoIndex
		}
		c.index, data = binary.BigEndian.Uint32(data), data[4:]
		if c.index == 0 && code == byte(wire.ActChangeHeader) {
			return c, errNoFirst
		}
	}
	first, rest, ok := bytes.Cut(data, []byte{0})
	if !ok {
		return c, errZero
	}
	switch code {
	case byte(wire.ActAddHeader), byte(wire.ActChangeHeader), byte(wire.ActInsertHeader):
		value, _, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return c, errNoValue
		}
		c.name, c.value = string(first), string(value)
		if err := checkName(c.name); err != nil {
			return c, fmt.Errorf("field %q: %w", mail.Printable(c.name, maxShown), err)
		}
	default:
		c.value = string(first) // parameters of an address may follow
	}
	return c, nil
}

// lines makes every line end CR LF: milters write LF, too.
type lines struct {
	cr    bool // the last byte was a CR
	begun bool // a line has begun
}

func (l *lines) write(w io.Writer, p []byte) error {
	for len(p) > 0 {
		if l.cr {
			l.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		i := bytes.IndexAny(p, "\r\n")
		end := i
		if i < 0 {
			end = len(p)
		}
		// A line that ends as it should is written with those that follow.
		if i >= 0 && i+1 < len(p) && p[i] == '\r' && p[i+1] == '\n' {
			n := wellFormed(p)
			if _, err := w.Write(p[:n]); err != nil {
				return err
			}
			p, l.begun = p[n:], false
			continue
		}
		if _, err := w.Write(p[:end]); err != nil {
			return err
		}
		l.begun = l.begun || end > 0
		if i < 0 {
			return nil
		}
		if _, err := w.Write(crlf); err != nil {
			return err
		}
		l.begun, l.cr = false, p[i] == '\r'
		p = p[i+1:]
	}
	return nil
}

// wellFormed gives the length of the lines at the beginning of p that end with CR LF
// and have neither of these elsewhere.
func wellFormed(p []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 1 || p[n+i-1] != '\r' || bytes.IndexByte(p[n:n+i-1], '\r') >= 0 {
			return n
		}
		n += i + 1
	}
}

// end ends the last line.
func (l *lines) end(w io.Writer) error {
	if !l.begun {
		return nil
	}
	_, err := w.Write(crlf)
	return err
}

// parsePath reads an address as a milter writes it: in angle brackets, or without.
func parsePath(text string) (mail.Address, error) {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		text, ok = strings.CutSuffix(inner, ">")
		if !ok {
			return mail.Address{}, mail.ErrAddressSyntax
		}
	}
	return mail.ParseAddress(text)
}
