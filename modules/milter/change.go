package milter

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what a milter may change in one message, beside its body, and beside what
// the message has: some change or delete each field of it. Real ones make a dozen
// changes.
const (
	moreChanges     = 1000
	moreChangesSize = 1 << 20
)

// change is one change that a milter wants.
type change struct {
	code    byte
	index   uint32
	name    string
	value   string
	address mail.Address // of CHGFROM, ADDRCPT and DELRCPT
}

// changes are all that a milter wants of one message. Nothing is applied before it has
// decided.
type changes struct {
	client *client
	limit  int64 // of the body, in bytes
	spool  func() *mail.Spool

	list       []change
	most       int // changes
	size       int
	mostSize   int
	quarantine string // the reason, "" for none

	body    *mail.Spool // nil as long as it is the old one
	bodyLen int64
	noBody  bool // there is none, since it cannot be
	lines   lines

	// complex says what cannot be done since it is too much, and fault what makes no
	// sense; "" and nil for nothing. The former may be the sender's choice, and is
	// never an error of the milter's.
	complex string
	fault   error
}

// tooComplex notes the first thing that is too much.
func (c *changes) tooComplex(format string, args ...any) {
	if c.complex == "" {
		c.complex = fmt.Sprintf(format, args...)
	}
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

// read takes a change in. One that cannot be made is noted and left out, since the
// milter's decision is still to come, and holds; an error is one of the conversation.
func (c *changes) read(p packet) error {
	if c.client.actions&needs[p.code] == 0 {
		return fmt.Errorf("%s: it sends %s, and did not say in the negotiation that it may", stepEnd, named(p.code))
	}
	if p.code == byte(wire.ActReplBody) {
		return c.readBody(p)
	}
	isQuarantine := p.code == byte(wire.ActQuarantine)
	switch {
	case p.size > maxPacket:
		c.tooComplex("it sends %s with %d bytes, and %d are the most", named(p.code), p.size, maxPacket)
		if isQuarantine {
			c.quarantine = "for a reason that is too long"
		}
		return c.skip(p.size)
	case len(c.list) >= c.most && !isQuarantine:
		c.tooComplex("it makes more than %d changes", c.most)
		return c.skip(p.size)
	case c.size+p.size > c.mostSize && !isQuarantine:
		c.tooComplex("its changes have more than %d bytes", c.mostSize)
		return c.skip(p.size)
	}
	data, err := c.client.payload(stepEnd, p, maxPacket)
	if err != nil {
		return err
	}
	one, err := parseChange(p.code, data)
	switch {
	case isQuarantine:
		if c.quarantine = mail.Printable(one.value, maxShown); c.quarantine == "" {
			c.quarantine = "no reason given"
		}
	case errors.Is(err, errReversePath):
		// It is made of the sender's, which may be as long as an address can be.
		c.tooComplex("%s: %s", named(p.code), err)
	case err != nil:
		c.fault = cmp.Or(c.fault, fmt.Errorf("%s: %s: %w", stepEnd, named(p.code), err))
	default:
		c.size += p.size
		c.list = append(c.list, one)
	}
	return nil
}

// skip reads what is not kept.
func (c *changes) skip(size int) error {
	if _, err := c.client.in.Discard(size); err != nil {
		return fmt.Errorf("%s: %w", stepEnd, noEOF(err))
	}
	return nil
}

// readBody takes a piece of a new body in, without ever having all of it in memory.
func (c *changes) readBody(p packet) error {
	if c.bodyLen += int64(p.size); c.bodyLen > c.limit {
		c.dropBody("its new body has more than %d bytes, which is max_body", c.limit)
	}
	if c.noBody {
		return c.skip(p.size)
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
		rest -= len(piece)
		if bytes.IndexByte(piece, 0) >= 0 {
			c.dropBody("its new body has a NUL byte")
			return c.skip(rest)
		}
		if err := c.lines.write(c.body, piece); err != nil {
			return fmt.Errorf("%w: keep the new body: %w", errLocal, err)
		}
	}
	return nil
}

// dropBody leaves the message its old body.
func (c *changes) dropBody(format string, args ...any) {
	c.tooComplex(format, args...)
	c.close()
	c.noBody = true
}

func (c *changes) close() {
	if c.body != nil {
		_ = c.body.Close()
	}
	c.body = nil
}

var (
	crlf       = []byte("\r\n")
	errNoIndex = errors.New("it has no index")
	errZero    = errors.New("a string in it has no end")
	errNoFirst = errors.New("its index is 0, and the first field is 1")
	errNoValue = errors.New("the value of the field is missing")

	errReversePath = errors.New("reverse-path")
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
	case byte(wire.ActQuarantine):
		c.value = string(first)
	default:
		return c, c.parseAddress(string(first)) // parameters may follow
	}
	return c, nil
}

// parseAddress reads the address of a change of the envelope.
func (c *change) parseAddress(path string) error {
	isFrom := c.code == byte(wire.ActChangeFrom)
	if isFrom && (path == "" || path == "<>") {
		return nil
	}
	var err error
	if c.address, err = parsePath(path); err == nil {
		return nil
	}
	err = fmt.Errorf("address %q: %w", mail.Printable(path, maxShown), err)
	if isFrom {
		return fmt.Errorf("%w: %w", errReversePath, err)
	}
	return err
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

// shown is the name of the field as reasons have it.
func (one change) shown() string { return mail.Printable(one.name, maxShown) }
