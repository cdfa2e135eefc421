package attachments

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/mox-like/mox-like/core/mail"
)

const lineBuffer = 32 << 10

var lineReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, lineBuffer) }}

// walker finds the parts of a message in one pass over its lines. What is broken
// is taken as mail programs take it, in doubt so that more is found: a delimiter
// of any enclosing multipart ends a part, and parts may follow the last one.
type walker struct {
	x   *examination
	src io.ReaderAt
	in  *bufio.Reader
	err error

	pos     int64 // after the last line
	lineEnd int64 // length of the last line's end
	prevEnd int64 // that of the line before
	inLine  bool  // the last piece was not the end of its line

	levels     int
	boundaries map[string]int          // to the level of the innermost multipart that has it
	lengths    [maxBoundary + 1]uint16 // how many of them have a length
	// stop is the delimiter that was met, until the multipart that it belongs to
	// takes it.
	stop struct {
		met   bool
		level int
		final bool
	}
	end int64 // where the body ended: before the delimiter and its line end
}

// walk examines what src has from its begin: the body of a part with these fields
// or, if these are nil, a whole message.
func (x *examination) walk(src *io.SectionReader, f *fields, isDigest bool, depth int) error {
	in := lineReaders.Get().(*bufio.Reader)
	defer func() { in.Reset(nil); lineReaders.Put(in) }()
	in.Reset(io.NewSectionReader(src, 0, src.Size()))
	w := &walker{x: x, src: src, in: in, boundaries: make(map[string]int)}
	var err error
	if f == nil {
		err = w.part(depth, false)
	} else {
		err = w.entity(*f, isDigest, depth)
	}
	if err == nil && w.err != nil && !errors.Is(w.err, io.EOF) {
		err = fmt.Errorf("%w: %w", errRead, w.err)
	}
	return err
}

// part reads a header and the body after it.
func (w *walker) part(depth int, inDigest bool) error {
	if err := w.x.countPart(); err != nil {
		return err
	}
	head, err := w.readHead()
	if err != nil {
		return err
	}
	h, _, err := mail.ParseHeaderSection(head)
	if err != nil {
		return w.x.tooComplex("the header of a part is too large")
	}
	f, isDigest := readFields(h, inDigest)
	return w.entity(f, isDigest, depth)
}

// entity reads the body of a part.
func (w *walker) entity(f fields, isDigest bool, depth int) error {
	start := w.pos
	if err := w.x.budget.spend(0); err != nil {
		return err
	}
	if f.complexity != "" {
		if err := w.x.tooComplex(f.complexity); err != nil {
			return err
		}
	}
	isDeep := f.kind() != kindLeaf && depth >= w.x.MaxDepth
	if isDeep {
		if err := w.x.tooComplex(fmt.Sprintf("parts are nested deeper than max_depth, %d", w.x.MaxDepth)); err != nil {
			return err
		}
	}
	before := w.x.parts
	switch {
	case w.stop.met: // a delimiter within the header: there is no body
		w.end = min(start, w.end)
	case f.kind() == kindMultipart && !isDeep && len(f.boundaries) > 0:
		if err := w.multipart(f.boundaries, isDigest, depth); err != nil {
			return err
		}
	case f.kind() == kindMessage && !isDeep && slices.Contains(f.encodings, identity):
		if err := w.part(depth+1, false); err != nil {
			return err
		}
	default:
		w.skip()
	}
	if err := w.x.named(f.names); err != nil {
		return err
	}
	raw := io.NewSectionReader(w.src, start, max(w.end-start, 0))
	return w.x.body(raw, f, body{isDigest: isDigest, isDeep: isDeep, depth: depth, held: w.x.parts > before})
}

// multipart reads the parts of a multipart (RFC 2046 section 5.1).
func (w *walker) multipart(boundaries []string, isDigest bool, depth int) error {
	w.levels++
	level := w.levels
	outer := make([]int, len(boundaries))
	for i, b := range boundaries {
		if outer[i] = w.boundaries[b]; outer[i] == 0 {
			w.lengths[len(b)]++
		}
		w.boundaries[b] = level
	}
	w.skip()
	var err error
	for err == nil && w.stop.met && w.stop.level == level {
		w.stop.met = false
		if w.stop.final {
			w.skip() // what comes behind, in which there may be parts all the same
			continue
		}
		err = w.part(depth+1, isDigest)
	}
	for i, b := range boundaries {
		if outer[i] == 0 {
			delete(w.boundaries, b)
			w.lengths[len(b)]--
		} else {
			w.boundaries[b] = outer[i]
		}
	}
	w.levels--
	return err
}

// delimiter tells whether the line just read is a delimiter of an enclosing
// multipart, and if so sets stop and end.
func (w *walker) delimiter(line []byte) bool {
	if len(line) < 3 || line[0] != '-' || line[1] != '-' || w.levels == 0 {
		return false
	}
	text := line[2:]
	for len(text) > 0 && text[len(text)-1] <= ' ' {
		text = text[:len(text)-1]
	}
	level, final := w.boundaries[string(text)], false
	if level == 0 && bytes.HasSuffix(text, []byte("--")) {
		level, final = w.boundaries[string(text[:len(text)-2])], true
	}
	if level == 0 {
		level, final = w.beginsWith(text), false
	}
	if level == 0 {
		return false
	}
	w.stop.met, w.stop.level, w.stop.final = true, level, final
	w.end = w.pos - int64(len(line)) - w.prevEnd
	return true
}

// beginsWith gives the level of the longest boundary that a text begins with, since
// a delimiter may have more on its line (RFC 2046 section 5.1.1).
func (w *walker) beginsWith(text []byte) int {
	for n := min(len(text), maxBoundary); n > 0; n-- {
		if w.lengths[n] == 0 {
			continue
		}
		if level := w.boundaries[string(text[:n])]; level != 0 {
			return level
		}
	}
	return 0
}

// skip reads up to the next delimiter, or to the end.
func (w *walker) skip() {
	for {
		line, begins, ok := w.next()
		if !ok {
			w.end = w.pos
			return
		}
		if begins && w.delimiter(line) {
			return
		}
	}
}

// next reads a line with its end, or a piece of a line that is longer than the
// buffer; begins tells whether the line begins here.
func (w *walker) next() (line []byte, begins, ok bool) {
	if w.err != nil {
		return nil, false, false
	}
	line, err := w.in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		w.err = err
	}
	if len(line) == 0 {
		return nil, false, false
	}
	begins = !w.inLine
	if begins {
		w.prevEnd = w.lineEnd
	}
	// The time may be up while a large body is read.
	if w.pos>>16 != (w.pos+int64(len(line)))>>16 && w.err == nil {
		w.err = w.x.budget.spend(0)
	}
	w.pos += int64(len(line))
	w.inLine = line[len(line)-1] != '\n'
	w.lineEnd = 0
	if !w.inLine {
		w.lineEnd = 1
		if len(line) > 1 && line[len(line)-2] == '\r' {
			w.lineEnd = 2
		}
	}
	return line, begins, true
}

// readHead reads a header with the empty line after it.
func (w *walker) readHead() ([]byte, error) {
	var head []byte
	limit := int(w.x.MaxHeader)
	for {
		line, begins, ok := w.next()
		if !ok {
			w.end = w.pos
			return head, nil
		}
		if begins && (isEmptyLine(line) || w.delimiter(line)) {
			return head, nil
		}
		if len(head)+len(line) > limit {
			if err := w.x.tooComplex(fmt.Sprintf("the header of a part is larger than max_header, %s", w.x.MaxHeader)); err != nil {
				return nil, err
			}
			limit = 0 // the rest is not looked at
			continue
		}
		head = append(head, line...)
	}
}

func isEmptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// zipNames are ends of the names of files that are zip archives.
var zipNames = []string{".zip", ".jar", ".docx", ".docm", ".xlsx", ".xlsm", ".pptx", ".pptm", ".apk", ".xpi", ".odt", ".ods", ".epub"}

func isZipName(names []string) bool {
	for _, name := range names {
		for _, variant := range variants(name) {
			for _, end := range zipNames {
				if strings.HasSuffix(variant, end) {
					return true
				}
			}
		}
	}
	return false
}
