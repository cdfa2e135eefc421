package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Message is a message as it came: a header section and a body (RFC 5322
// section 2). It is read as often as needed and never rewritten. It is safe for
// concurrent reading until its spool is closed.
type Message struct {
	// Size is the length of the whole message in bytes.
	Size int64
	// Header is the parsed header section.
	Header HeaderSection

	bodyOffset int64
	content    io.ReaderAt
	memory     []byte // the whole content, if it is in memory
}

// Open gives a reader of the whole message from its first byte.
func (m *Message) Open() *io.SectionReader { return io.NewSectionReader(m.content, 0, m.Size) }

// OpenBody gives a reader of the body, after the empty line that ends the
// header section.
func (m *Message) OpenBody() *io.SectionReader {
	return io.NewSectionReader(m.content, m.bodyOffset, m.Size-m.bodyOffset)
}

// NewMessage makes a message of bytes that stay in memory. The caller no longer
// changes them.
func NewMessage(raw []byte) (*Message, error) {
	header, offset, err := parseHeaderSection(raw, MaxHeaderSize, MaxHeaderFields)
	if err != nil {
		return nil, err
	}
	return &Message{
		Size: int64(len(raw)), Header: header, bodyOffset: int64(offset),
		content: bytes.NewReader(raw), memory: raw,
	}, nil
}

// Spool takes in a message as it arrives: memory up to a limit, then a
// temporary file. It belongs to one transaction and is not safe for concurrent
// use.
type Spool struct {
	dir    string
	limit  int
	memory []byte
	file   *os.File
	size   int64
	budget *SpoolBudget
	most   int64 // of the budget
	share  int64 // of the budget, taken by this spool
}

var spoolBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// NewSpool makes an empty spool that keeps up to limit bytes in memory and the
// rest of larger messages in a file in dir.
func NewSpool(dir string, limit int) *Spool {
	buffer := spoolBuffers.Get().(*[]byte)
	return &Spool{dir: dir, limit: limit, memory: (*buffer)[:0]}
}

// SpoolBudget counts what all spools that share it hold, in memory and in files.
// It is safe for concurrent use.
type SpoolBudget struct {
	used atomic.Int64
}

// NewSpoolBudget makes a budget, for core.Shared.
func NewSpoolBudget() (*SpoolBudget, error) { return new(SpoolBudget), nil }

// Close implements io.Closer for core.Shared.
func (*SpoolBudget) Close() error { return nil }

// ErrSpoolFull is returned when a spool would exceed its budget.
var ErrSpoolFull = errors.New("too many large messages are being received")

// spoolFree is how much a spool holds without being counted, so that most
// messages cost nothing and come in whatever others do.
const spoolFree = 8 << 10

// Within makes the spool take part in a budget, of which all spools together use
// at most limit bytes, and gives the spool; a nil budget bounds nothing. A spool
// may grow up to the size of what it leaves free: so a few large messages do not
// keep the small ones out.
func (s *Spool) Within(budget *SpoolBudget, limit int64) *Spool {
	s.budget, s.most = budget, limit
	return s
}

// grow takes n bytes more out of the budget.
func (s *Spool) grow(n int) error {
	more := s.size + int64(n) - spoolFree - s.share
	if s.budget == nil || more <= 0 {
		return nil
	}
	used := s.budget.used.Add(more)
	if s.share+more > s.most-used {
		s.budget.used.Add(-more)
		return ErrSpoolFull
	}
	s.share += more
	return nil
}

// Write takes in the next bytes. Errors are ErrSpoolFull or come from the file.
func (s *Spool) Write(p []byte) (int, error) {
	if err := s.grow(len(p)); err != nil {
		return 0, err
	}
	if s.file == nil {
		if len(s.memory)+len(p) <= s.limit {
			s.memory = append(s.memory, p...)
			s.size += int64(len(p))
			return len(p), nil
		}
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write spool file: %w", err)
	}
	return n, nil
}

// spill moves what is in memory to a file. The file has no name from the start,
// so that nothing is left behind by a crash.
func (s *Spool) spill() error {
	f, err := os.CreateTemp(s.dir, "spool-*")
	if err != nil {
		return fmt.Errorf("create spool file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(fmt.Errorf("unlink spool file: %w", err), f.Close())
	}
	if _, err := f.Write(s.memory); err != nil {
		return errors.Join(fmt.Errorf("write spool file: %w", err), f.Close())
	}
	s.file = f
	s.free()
	return nil
}

// free gives the memory back. A large message would hold it for as long as its
// handlers take.
func (s *Spool) free() {
	if s.memory != nil && cap(s.memory) <= maxPooled {
		buffer := s.memory[:0]
		spoolBuffers.Put(&buffer)
	}
	s.memory = nil
}

// Size is the number of bytes taken in so far.
func (s *Spool) Size() int64 { return s.size }

// Message parses the header section and gives the message. The spool takes in
// nothing more after that. Errors are ErrHeaderTooLarge or come from the file.
func (s *Spool) Message() (*Message, error) {
	if s.file == nil {
		return NewMessage(s.memory)
	}
	// The message holds what is read here for as long as it lives: so that is little
	// more than the header section, which is mostly short.
	for n := min(s.size, firstRead); ; n = min(s.size, 4*n, MaxHeaderSize+1) {
		head := make([]byte, n)
		if _, err := s.file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read spool file: %w", err)
		}
		header, offset, err := parseHeaderSection(head, MaxHeaderSize, MaxHeaderFields)
		if err != nil {
			return nil, err
		}
		if int64(offset) < n || n == s.size {
			return &Message{Size: s.size, Header: header, bodyOffset: int64(offset), content: s.file}, nil
		}
	}
}

// firstRead is how much is read of a file at first to find the header section.
const firstRead = 8 << 10

// maxPooled keeps a few large messages from pinning memory for good.
const maxPooled = 256 << 10

// Close frees the memory and the file. The message must not be used any more.
func (s *Spool) Close() error {
	s.free()
	s.size = 0
	if s.share > 0 {
		s.budget.used.Add(-s.share)
		s.share = 0
	}
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// Rendering is a message with its edits applied, ready to be stored or sent.
type Rendering struct {
	head    []byte
	body    *io.SectionReader
	message *Message
}

// render applies edits to m, and leaves out the fields with the indexes dropped,
// which are in order.
func render(m *Message, edits []edit, dropped []int) (*Rendering, error) {
	if m == nil {
		return nil, errors.New("render message: there is none at this stage")
	}
	size := int(m.bodyOffset)
	removals := false
	for _, e := range edits {
		size += len(e.field)
		removals = removals || e.remove
	}
	head := make([]byte, 0, size+4)
	for _, edit := range slices.Backward(edits) {
		head = append(head, edit.field...)
	}
	for i, f := range m.Header.Fields {
		if _, drop := slices.BinarySearch(dropped, i); drop {
			continue
		}
		if !removals || !removed(edits, f.Name) {
			head = append(head, f.Raw...)
		}
	}
	if n := len(head); n > 0 && head[n-1] != '\n' {
		head = append(head, "\r\n"...)
	}
	head = append(head, "\r\n"...)
	return &Rendering{head: head, body: m.OpenBody(), message: m}, nil
}

func removed(edits []edit, name string) bool {
	for _, e := range edits {
		if e.remove && strings.EqualFold(e.name, name) {
			return true
		}
	}
	return false
}

// Size is the length of the whole in bytes.
func (r *Rendering) Size() int64 { return int64(len(r.head)) + r.body.Size() }

// Head is the header section with the empty line after it. It must not be
// changed.
func (r *Rendering) Head() []byte { return r.head }

// Reader reads the whole from its first byte. Each call gives a reader of its
// own.
func (r *Rendering) Reader() io.Reader {
	return io.MultiReader(bytes.NewReader(r.head), r.message.OpenBody())
}

// Bytes gives the whole in one piece. Callers check Size first.
func (r *Rendering) Bytes() ([]byte, error) {
	whole := make([]byte, r.Size())
	n := copy(whole, r.head)
	if r.message.memory != nil {
		copy(whole[n:], r.message.memory[r.message.bodyOffset:])
		return whole, nil
	}
	if _, err := io.ReadFull(r.message.OpenBody(), whole[n:]); err != nil {
		return nil, fmt.Errorf("read message body: %w", err)
	}
	return whole, nil
}
