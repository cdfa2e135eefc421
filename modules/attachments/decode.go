package attachments

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// encoding is a Content-Transfer-Encoding (RFC 2045 section 6) as far as it
// changes the bytes.
type encoding uint8

const (
	identity encoding = iota
	base64
	quotedPrintable
	// base64Whole and base64Parts are how some programs read base64 with padding
	// amid it: the former skips it, the latter ends a group with every sign of it.
	base64Whole
	base64Parts
	// uuencode is that of a file in a text, see uuencoded.
	uuencode
)

// encodingsOf gives the encodings that a part may be read by. A part has one; if
// it has several fields that disagree, or comments in one, programs do about which
// counts.
func encodingsOf(h mail.HeaderSection) []encoding {
	var list []encoding
	for f := range h.All("Content-Transfer-Encoding") {
		for _, value := range readings(f.Value()) {
			word := strings.ToLower(strings.Trim(value, " \t\""))
			if i := strings.IndexAny(word, " \t;(\""); i >= 0 {
				word = word[:i]
			}
			e := identity
			switch word {
			case "base64":
				e = base64
			case "quoted-printable":
				e = quotedPrintable
			}
			if !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
	}
	if list == nil {
		return []encoding{identity}
	}
	return list
}

// decoder is the state of decoding. It is a value: a copy of it decodes again from
// where it was taken.
type decoder struct {
	encoding encoding
	bits     uint32 // base64: those of an unfinished group
	digits   uint8  // base64: how many digits they are; quoted-printable: 1 behind "=", 2 behind a digit, 3 behind "=" and white space
	digit    byte   // quoted-printable: the first digit
	padded   bool   // base64: behind a sign of padding
	isOdd    bool   // base64: digits followed padding, so that programs differ
	inLine   bool   // uuencode: behind the first sign of a line
	left     uint8  // uuencode: how many bytes the line still has
}

// base64Values has the value of each digit, and 0xff for what is none.
var base64Values = func() (values [256]byte) {
	for i := range values {
		values[i] = 0xff
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(digits) {
		values[digits[i]] = byte(i)
	}
	return values
}()

// append decodes src behind dst. What is no digit is skipped (RFC 2045 section
// 6.8), and it goes on behind padding, as many programs do.
func (d *decoder) append(dst, src []byte) []byte {
	switch d.encoding {
	case quotedPrintable:
		return d.appendQuoted(dst, src)
	case uuencode:
		return d.appendUU(dst, src)
	case identity:
		return append(dst, src...)
	default:
		return d.appendBase64(dst, src)
	}
}

// appendBase64 decodes base64. Padding ends a group where it makes it whole; other
// signs of it are skipped.
func (d *decoder) appendBase64(dst, src []byte) []byte {
	bits, digits, padded := d.bits, d.digits, d.padded
	for _, c := range src {
		v := base64Values[c]
		if v == 0xff {
			if c != '=' {
				continue
			}
			if d.encoding == base64Parts || d.encoding == base64 && (digits == 3 || digits == 2 && padded) {
				d.bits, d.digits = bits, digits
				dst = d.finish(dst)
				bits, digits = 0, 0
			}
			padded = true
			continue
		}
		if padded {
			padded, d.isOdd = false, true
		}
		bits = bits<<6 | uint32(v)
		if digits++; digits == 4 {
			dst = append(dst, byte(bits>>16), byte(bits>>8), byte(bits))
			bits, digits = 0, 0
		}
	}
	d.bits, d.digits, d.padded = bits, digits, padded
	return dst
}

// appendQuoted decodes quoted-printable; what is no valid escape stays as it is.
func (d *decoder) appendQuoted(dst, src []byte) []byte {
	for _, c := range src {
		switch {
		case d.digits == 0 && c == '=':
			d.digits = 1
		case d.digits == 0:
			dst = append(dst, c)
		case c == '\n' && d.digits != 2: // a soft line break
			d.digits = 0
		case (c == ' ' || c == '\t' || c == '\r') && d.digits != 2:
			d.digits = 3
		case d.digits == 1 && hexValue(c) < 16:
			d.digits, d.digit = 2, c
		case d.digits == 2 && hexValue(c) < 16:
			dst = append(dst, hexValue(d.digit)<<4|hexValue(c))
			d.digits = 0
		default:
			dst = d.finish(dst)
			if c == '=' {
				d.digits = 1
			} else {
				dst = append(dst, c)
			}
		}
	}
	return dst
}

// finish appends what is left of an unfinished group.
func (d *decoder) finish(dst []byte) []byte {
	switch {
	case d.encoding == quotedPrintable && d.digits > 0:
		dst = append(dst, '=')
		if d.digits == 2 {
			dst = append(dst, d.digit)
		}
	case d.encoding == quotedPrintable:
	case d.encoding == uuencode:
		dst = d.finishUU(dst)
	case d.digits == 2:
		dst = append(dst, byte(d.bits>>4))
	case d.digits == 3:
		dst = append(dst, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.digits = 0, 0
	return dst
}

func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return 0xff
	}
}

// blockSize is how much of an encoded part is decoded at once.
const blockSize = 16 << 10

// errRead is returned when the message itself cannot be read, or its time is up.
var errRead = errors.New("read message")

// errWork is returned when the work on a message is more than it is worth. It is
// an errRead, so that nobody takes it for a fault of a file.
var errWork = fmt.Errorf("%w: too much to decode", errRead)

// Bounds of the work on a message: every byte of it may be looked at so often, and
// so much more for all.
const (
	workFactor = 6
	workBase   = 16 << 20
)

// budget is how much work on a message is left.
type budget struct {
	// alive gives an error when the work must end.
	alive func() error
	left  int64 // bytes
}

// newBudget gives that of a message by its size.
func newBudget(size int64, alive func() error) *budget {
	return &budget{alive: alive, left: workFactor*size + workBase}
}

// spend takes n bytes of the budget. Its errors are errRead.
func (b *budget) spend(n int) error {
	if err := b.alive(); err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	if b.left -= int64(n); b.left < 0 {
		return errWork
	}
	return nil
}

// content is what a part has inside, decoded, to be read at any place. It decodes
// block by block and remembers the state at the begin of each, so that it takes
// little memory whatever the size.
type content struct {
	raw    *io.SectionReader
	budget *budget

	encoding encoding
	marks    []mark  // one a block that was decoded, in order
	total    int64   // decoded bytes of these
	last     decoder // the state behind them
	input    []byte
	block    []byte // the decoded block
	number   int    // its number, -1 for none
}

// mark is the state at the begin of a block.
type mark struct {
	offset int64 // in the decoded bytes
	state  decoder
}

func newContent(raw *io.SectionReader, e encoding, b *budget) *content {
	return &content{raw: raw, encoding: e, budget: b, last: decoder{encoding: e}, number: -1}
}

// sub gives a part of the content that is read at any place, too.
func (c *content) sub(offset, size int64) *content {
	return newContent(io.NewSectionReader(c, offset, size), identity, c.budget)
}

// reader reads all of it.
func (c *content) reader() io.Reader { return io.NewSectionReader(c, 0, math.MaxInt64) }

// size is the number of decoded bytes. It may decode all of them.
func (c *content) size() (int64, error) {
	if c.encoding == identity {
		return c.raw.Size(), nil
	}
	for c.more() {
		if err := c.decode(len(c.marks)); err != nil {
			return 0, err
		}
	}
	return c.total, nil
}

// more tells whether there are blocks that were not decoded yet.
func (c *content) more() bool { return int64(len(c.marks))*blockSize < c.raw.Size() }

// ReadAt implements io.ReaderAt. Errors other than io.EOF are errRead.
func (c *content) ReadAt(p []byte, offset int64) (int, error) {
	if err := c.budget.spend(0); err != nil {
		return 0, err
	}
	if c.encoding == identity {
		n, err := c.raw.ReadAt(p, offset)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errRead) {
			return n, fmt.Errorf("%w: %w", errRead, err)
		}
		if spent := c.budget.spend(n); spent != nil {
			return n, spent
		}
		return n, err
	}
	if offset < 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) {
		at := offset + int64(n)
		for at >= c.total && c.more() {
			if err := c.decode(len(c.marks)); err != nil {
				return n, err
			}
		}
		if at >= c.total {
			return n, io.EOF
		}
		i := sort.Search(len(c.marks), func(i int) bool { return c.marks[i].offset > at }) - 1
		if err := c.decode(i); err != nil {
			return n, err
		}
		n += copy(p[n:], c.block[at-c.marks[i].offset:])
	}
	return n, nil
}

// decode makes a block the current one: one that was decoded before, or the next.
func (c *content) decode(number int) error {
	if number == c.number {
		return nil
	}
	if c.input == nil {
		c.input, c.block = make([]byte, blockSize), make([]byte, 0, blockSize)
	}
	start := int64(number) * blockSize
	input := c.input[:min(blockSize, c.raw.Size()-start)]
	if err := c.budget.spend(len(input)); err != nil {
		return err
	}
	if n, err := c.raw.ReadAt(input, start); n < len(input) {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	isNew := number == len(c.marks)
	if isNew {
		c.marks = append(c.marks, mark{offset: c.total, state: c.last})
	}
	state := c.marks[number].state
	c.block, c.number = state.append(c.block[:0], input), number
	if start+int64(len(input)) == c.raw.Size() {
		c.block = state.finish(c.block)
	}
	if isNew {
		c.total, c.last = c.total+int64(len(c.block)), state
	}
	return nil
}
