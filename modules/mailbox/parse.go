package mailbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/mox-like/mox-like/core/mail"
)

// Limits of a message's structure. What is beyond them is kept, as part of
// what holds it.
const (
	maxMIMEDepth    = 50
	maxMIMEParts    = 1000
	maxBoundary     = 1000 // bytes; RFC 2046 allows 70
	maxParameters   = 100
	maxStructure    = 256 << 10 // bytes of the compact form, about
	parseBufferSize = 32 << 10
)

// summary is what delivery takes from a message.
type summary struct {
	envelope  []byte
	structure []byte
	fields    []byte // References and List-Id
	sentDay   int64
	// Hashes of identifiers, 0 if there is none: the message's own, the one that
	// began the conversation, and the one that it answers.
	messageID, root, parent int64
}

// parser reads a message once, line by line, and finds its structure. It never
// refuses a message: what is broken is taken as plain text (RFC 2045 section
// 5.2). Its memory is bounded by the size of a header section.
type parser struct {
	in       *bufio.Reader
	err      error
	pos      int64 // after the last line
	lines    int64 // line ends before pos
	lineEnd  int64 // length of the last line's end
	prevEnd  int64 // that of the line before
	lastByte byte
	inLine   bool // the last piece was not the end of its line

	boundaries []byte // of the enclosing multiparts, one after the other
	bounds     []int  // where each ends
	// stop is the delimiter that was met, until the multipart that it belongs to
	// takes it.
	stop struct {
		met   bool
		level int
		final bool
	}
	end      int64 // where the body ended: before the delimiter and its line end
	endLines int64
	floor    int64 // where the part of a multipart that is read begins

	head      []byte
	content   contentFields
	fields    envelopeFields
	addresses addressParser
	arena     []byte // the nodes' compact forms
	nodes     []node
	scratch   []byte
}

var parsers = sync.Pool{New: func() any {
	return &parser{in: bufio.NewReaderSize(nil, parseBufferSize)}
}}

// parse reads a whole message. Errors are those of r.
func parse(r io.Reader) (*summary, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	p.in.Reset(r)
	p.pos, p.lines, p.lineEnd, p.prevEnd, p.inLine, p.err = 0, 0, 0, 0, false, nil
	p.boundaries, p.bounds, p.arena, p.nodes = p.boundaries[:0], p.bounds[:0], p.arena[:0], p.nodes[:0]
	p.stop.met, p.floor = false, 0
	d := new(summary)
	p.message(0, d)
	if p.err != nil && !errors.Is(p.err, io.EOF) {
		return nil, fmt.Errorf("read message: %w", p.err)
	}
	d.structure = p.appendStructure(make([]byte, 0, len(p.arena)+32*len(p.nodes)))
	return d, nil
}

// release keeps the buffers for the next message, unless they grew large.
func (p *parser) release() {
	p.in.Reset(nil)
	if cap(p.head)+cap(p.arena) <= 128<<10 {
		parsers.Put(p)
	}
}

// message reads a header section and the body after it. d takes what is known
// about the whole message; it is nil for a message within another.
func (p *parser) message(depth int, d *summary) (envelope [2]int) {
	index := p.begin()
	p.readHead()
	p.scanHead(true)
	if d != nil {
		p.describe(d)
	} else {
		if p.full() {
			p.fields = envelopeFields{}
		}
		envelope[0] = len(p.arena)
		p.arena = p.fields.appendEnvelope(p.arena, &p.addresses)
		envelope[1] = len(p.arena)
	}
	p.entity(index, depth, false)
	return envelope
}

// describe fills in all of d but the structure.
func (p *parser) describe(d *summary) {
	f := &p.fields
	p.scratch = f.appendField(p.scratch[:0], f.references)
	p.scratch = f.appendField(p.scratch, f.listID)
	d.fields = slices.Clone(p.scratch)
	p.scratch = f.appendEnvelope(p.scratch[:0], &p.addresses)
	if f.clipped {
		p.scratch = append(p.scratch, 1)
	}
	d.envelope = slices.Clone(p.scratch)
	d.sentDay = unknownDay
	if t, ok := parseDate(string(f.date)); ok {
		d.sentDay = civilDay(t)
	}
	for id := range messageIDs(f.messageID) {
		d.messageID = hashID(id)
		break
	}
	for _, value := range [...][]byte{f.inReplyTo, f.references} {
		first := true
		for id := range messageIDs(value) {
			d.parent = hashID(id)
			if first {
				d.root, first = d.parent, false
			}
		}
	}
}

// hashID gives a number that is never 0.
func hashID(id []byte) int64 {
	h := fnv.New64a()
	h.Write(id)
	return max(int64(h.Sum64()&math.MaxInt64), 1)
}

// begin appends the node of a part that begins here.
func (p *parser) begin() (index int) {
	p.nodes = append(p.nodes, node{header: p.pos})
	return len(p.nodes) - 1
}

// entity reads the body of the part whose header was scanned.
func (p *parser) entity(index, depth int, inDigest bool) {
	contentType := p.contentType(inDigest)
	n := &p.nodes[index]
	n.body, n.kind = p.pos, contentType.kind
	n.meta[0] = len(p.arena)
	p.appendMeta(contentType)
	n.meta[1] = len(p.arena)
	startLines := p.lines
	switch {
	case p.stop.met: // a delimiter within the header: there is no body
	case n.kind == kindMultipart && depth < maxMIMEDepth && p.push(p.parameter(contentType.parameters, "boundary")):
		p.multipart(index, depth, contentType.digest)
	case n.kind == kindMessage && depth < maxMIMEDepth:
		child := len(p.nodes)
		envelope := p.message(depth+1, nil)
		p.nodes[index].envelope = envelope
		p.nodes[index].text = p.nodes[child].body
	default:
		p.skip()
	}
	n = &p.nodes[index]
	// The line end before the delimiter is not the part's own, even if it is that
	// of the empty line after the header.
	n.header, n.body, n.end = min(n.header, p.end), min(n.body, p.end), p.end
	n.lines = max(p.endLines-startLines, 0)
	if n.kind == kindMultipart && n.children == 0 || n.kind == kindMessage && n.text == 0 {
		p.makePlain(n)
	}
}

// makePlain turns a node that cannot be what it claims into plain text.
func (p *parser) makePlain(n *node) {
	n.kind = kindText
	n.meta[0] = len(p.arena)
	p.content = contentFields{}
	p.appendMeta(plainText)
	n.meta[1] = len(p.arena)
}

// multipart reads the parts after its boundary was pushed.
func (p *parser) multipart(index, depth int, isDigest bool) {
	level := len(p.bounds)
	p.skip()
	for p.stop.met && p.stop.level == level && !p.stop.final && len(p.nodes) < maxMIMEParts {
		p.stop.met = false
		p.nodes[index].children++
		child := p.begin()
		p.floor = p.pos
		p.readHead()
		p.scanHead(false)
		p.entity(child, depth+1, isDigest)
	}
	p.pop()
	if p.stop.met && p.stop.level == level {
		p.stop.met = false
		p.skip()
	}
}

// push adds a boundary to those that are looked for.
func (p *parser) push(boundary []byte) bool {
	boundary = bytes.TrimRight(boundary, " \t")
	if len(boundary) == 0 || len(boundary) > maxBoundary {
		return false
	}
	p.boundaries = append(p.boundaries, boundary...)
	p.bounds = append(p.bounds, len(p.boundaries))
	return true
}

func (p *parser) pop() {
	p.bounds = p.bounds[:len(p.bounds)-1]
	p.boundaries = p.boundaries[:p.boundBegin(len(p.bounds))]
}

func (p *parser) boundBegin(i int) int {
	if i == 0 {
		return 0
	}
	return p.bounds[i-1]
}

// delimiter tells whether the line just read is a delimiter of an enclosing
// multipart (RFC 2046 section 5.1.1), and if so sets stop and end.
func (p *parser) delimiter(line []byte) bool {
	if len(line) < 3 || line[0] != '-' || line[1] != '-' || len(p.bounds) == 0 {
		return false
	}
	text := bytes.TrimRight(line[2:], " \t\r\n")
	for i, end := range slices.Backward(p.bounds) {
		rest, ok := bytes.CutPrefix(text, p.boundaries[p.boundBegin(i):end])
		if !ok || len(rest) != 0 && string(rest) != "--" {
			continue
		}
		p.stop.met, p.stop.level, p.stop.final = true, i+1, len(rest) != 0
		p.end, p.endLines = max(p.pos-int64(len(line))-p.prevEnd, p.floor), p.lines-1
		if p.prevEnd > 0 && p.lineEnd > 0 {
			p.endLines--
		}
		return true
	}
	return false
}

// skip reads up to the next delimiter, or to the end of the message.
func (p *parser) skip() {
	for {
		line, begins, ok := p.next()
		if !ok {
			p.end, p.endLines = p.pos, p.lines
			return
		}
		if begins && p.delimiter(line) {
			return
		}
	}
}

// next reads a line with its end, or a piece of a line that is longer than the
// buffer; begins tells whether the line begins here.
func (p *parser) next() (line []byte, begins, ok bool) {
	if p.err != nil {
		return nil, false, false
	}
	line, err := p.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		p.err = err
	}
	if len(line) == 0 {
		return nil, false, false
	}
	begins = !p.inLine
	if begins {
		p.prevEnd, p.lastByte = p.lineEnd, 0
	}
	p.pos += int64(len(line))
	p.inLine = line[len(line)-1] != '\n'
	p.lineEnd = 0
	if !p.inLine {
		p.lines++
		p.lineEnd = 1
		if before := line[:len(line)-1]; len(before) > 0 && before[len(before)-1] == '\r' || len(before) == 0 && p.lastByte == '\r' {
			p.lineEnd = 2
		}
	}
	p.lastByte = line[len(line)-1]
	return line, begins, true
}

// readHead reads a header with the empty line after it into head, as much as
// is looked at.
func (p *parser) readHead() {
	p.head = p.head[:0]
	for {
		line, begins, ok := p.next()
		if !ok || begins && (isEmptyLine(line) || p.delimiter(line)) {
			return
		}
		if len(p.head)+len(line) <= mail.MaxHeaderSize {
			p.head = append(p.head, line...)
		}
	}
}

func isEmptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}
