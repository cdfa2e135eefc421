package dkim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
)

// wholeBody is the limit of a signature without l=.
const wholeBody = -1

// bodyForm is what a signature hashes of a body.
type bodyForm struct {
	canonicalization canonicalization
	// limit is how many bytes of the canonical body are hashed, or wholeBody.
	limit int64
}

// bodySum is what came out.
type bodySum struct {
	hash []byte
	// size is that of the whole canonical body.
	size int64
}

// chunkSize is what is read of a body at once.
const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

// hashBody reads a body once and hashes it in all forms that are wanted. Memory
// does not grow with the body.
func hashBody(r io.Reader, wanted []bodyForm) (map[bodyForm]bodySum, error) {
	var bodies [2]*body
	for _, form := range wanted {
		b := bodies[form.canonicalization]
		if b == nil {
			b = newBody(form.canonicalization, sha256.New())
			bodies[form.canonicalization] = b
		}
		b.want(form.limit)
	}
	if err := feed(r, bodies[:]); err != nil {
		return nil, err
	}
	sums := make(map[bodyForm]bodySum, len(wanted))
	for _, form := range wanted {
		b := bodies[form.canonicalization]
		sums[form] = bodySum{hash: b.sumAt(form.limit), size: b.size}
	}
	return sums, nil
}

// feed writes all that r gives to the bodies that are not nil, and closes them.
func feed(r io.Reader, bodies []*body) error {
	pooled := chunks.Get().(*[]byte)
	defer chunks.Put(pooled)
	for {
		n, err := r.Read(*pooled)
		for _, b := range bodies {
			if b != nil {
				b.write((*pooled)[:n])
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			for _, b := range bodies {
				if b != nil {
					b.close()
				}
			}
			return nil
		case err != nil:
			return fmt.Errorf("read body: %w", err)
		}
	}
}

// body makes the canonical form of a body as it comes (RFC 6376 section 3.4.3 and
// 3.4.4). Lines end with CR LF or LF; a CR elsewhere is text. What may belong to
// the end of the body is held back, as numbers. It hashes all once, whatever the
// number of limits.
type body struct {
	canonicalization canonicalization
	hash             hash.Hash
	whole            bool             // the hash of all is wanted
	limits           []int64          // that are still ahead, from the least on
	sums             map[int64][]byte // of the limits behind
	out              []byte           // on its way to the hash
	size             int64            // of what has gone there
	breaks           int64            // line ends held back
	cr               bool             // a CR held back, perhaps of a line end
	space            bool             // white space held back; only in relaxed
	text             bool             // there was text
}

const outSize = 4 << 10

func newBody(c canonicalization, h hash.Hash) *body {
	return &body{canonicalization: c, hash: h, sums: make(map[int64][]byte), out: make([]byte, 0, outSize)}
}

// want asks for the hash up to a limit, before anything is written.
func (b *body) want(limit int64) {
	if limit == wholeBody {
		b.whole = true
		return
	}
	if i, found := slices.BinarySearch(b.limits, limit); !found {
		b.limits = slices.Insert(b.limits, i, limit)
	}
}

// sumAt gives the hash up to a limit that was wanted, once the body is closed; up to
// its end if the limit is beyond.
func (b *body) sumAt(limit int64) []byte {
	if s, ok := b.sums[limit]; ok {
		return s
	}
	return sum(b.hash)
}

// write takes the next bytes of the body.
func (b *body) write(p []byte) {
	for len(p) > 0 {
		line, ended := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, ended = p[:i], true
			p = p[i+1:]
		} else {
			p = nil
		}
		b.line(line, ended)
	}
}

// line takes a line, or a part of one, without its LF; ended tells whether one
// follows.
func (b *body) line(line []byte, ended bool) {
	if b.cr && (len(line) > 0 || !ended) {
		b.loneCR()
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line, b.cr = line[:n-1], true
	}
	if b.canonicalization == relaxed {
		b.words(line)
	} else if len(line) > 0 {
		b.begin()
		b.emit(line)
	}
	if ended {
		b.cr, b.space = false, false
		b.breaks++
	}
}

// words takes text of a line in relaxed form: each run of white space is one space,
// and none at the end of the line.
func (b *body) words(p []byte) {
	for len(p) > 0 {
		n := 0
		for n < len(p) && isWSP(p[n]) {
			n++
		}
		b.space = b.space || n > 0
		if p = p[n:]; len(p) == 0 {
			return
		}
		b.begin()
		if len(b.out) > outSize/2 {
			b.flush()
		}
		piece := p[:min(len(p), outSize/2)]
		p = p[len(piece):]
		out, space := b.out, false
		for _, c := range piece {
			if isWSP(c) {
				space = true
				continue
			}
			if space {
				out, space = append(out, ' '), false
			}
			out = append(out, c)
		}
		b.out, b.space = out, space
	}
}

// loneCR lets go a CR that was held back and is text.
func (b *body) loneCR() {
	b.begin()
	b.emitByte('\r')
	b.cr = false
}

var manyBreaks = bytes.Repeat([]byte(crlf), 512)

// begin lets go the line ends and the space that text follows.
func (b *body) begin() {
	b.text = true
	for b.breaks > 0 {
		n := min(b.breaks, int64(len(manyBreaks)/len(crlf)))
		b.emit(manyBreaks[:n*int64(len(crlf))])
		b.breaks -= n
	}
	if b.space {
		b.emitByte(' ')
		b.space = false
	}
}

func (b *body) emitByte(c byte) {
	if len(b.out) == outSize {
		b.flush()
	}
	b.out = append(b.out, c)
}

// emit sends canonical text to the hash.
func (b *body) emit(p []byte) {
	if len(b.out)+len(p) > outSize {
		b.flush()
	}
	if len(p) > outSize {
		b.pass(p)
		return
	}
	b.out = append(b.out, p...)
}

func (b *body) flush() {
	b.pass(b.out)
	b.out = b.out[:0]
}

func (b *body) pass(p []byte) {
	for len(b.limits) > 0 && b.limits[0] <= b.size+int64(len(p)) {
		limit := b.limits[0]
		n := limit - b.size
		b.hash.Write(p[:n])
		b.sums[limit] = sum(b.hash)
		p, b.size, b.limits = p[n:], limit, b.limits[1:]
	}
	b.size += int64(len(p))
	if b.whole || len(b.limits) > 0 {
		b.hash.Write(p)
	}
}

// close ends the body: with one line end, which an empty one has in simple alone.
func (b *body) close() {
	if b.cr {
		b.loneCR()
	}
	if b.text || b.canonicalization == simple {
		b.emit(manyBreaks[:len(crlf)])
	}
	b.flush()
}
