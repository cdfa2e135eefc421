package imap

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// Bounds of what one FETCH may ask for. Each of the decoded parts (BINARY and
// BINARY.SIZE) is read whole for its size.
const (
	maxSections = 100
	maxDecoded  = 10
)

// Fetch serves FETCH (RFC 9051 section 6.4.5).
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, o *imap.FetchOptions) error {
	if err := checkSections(o); err != nil {
		return err
	}
	return s.do("FETCH", func(ctx context.Context) error {
		seen, err := s.markSeen(ctx, set, o)
		if err != nil {
			return err
		}
		defer s.conn.fence.out.data()()
		return s.view.Fetch(ctx, set, mailbox.ItemsOf(o), func(m *mailbox.Message) error {
			return s.fetchOne(ctx, w, m, o, seen)
		})
	})
}

// checkSections refuses what imapserver lets pass.
func checkSections(o *imap.FetchOptions) error {
	if len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) > maxSections {
		return no(imap.ResponseCodeLimit, fmt.Sprintf("At most %d body sections in one command", maxSections))
	}
	if len(o.BinarySection)+len(o.BinarySectionSize) > maxDecoded {
		return no(imap.ResponseCodeLimit, fmt.Sprintf("At most %d decoded parts in one command", maxDecoded))
	}
	var partials []*imap.SectionPartial
	for _, b := range o.BodySection {
		partials = append(partials, b.Partial)
	}
	for _, b := range o.BinarySection {
		partials = append(partials, b.Partial)
	}
	for _, p := range partials {
		if p != nil && (p.Size == 0 || p.Offset >= 1<<32 || p.Size >= 1<<32) {
			return bad("A partial is <offset.size> with a size of 1 at least")
		}
	}
	return nil
}

// markSeen sets \Seen where the client reads more than the outline, and gives
// the UIDs of the messages whose flags it changed: their FETCH tells it.
func (s *session) markSeen(ctx context.Context, set imap.NumSet, o *imap.FetchOptions) (imap.UIDSet, error) {
	reads := false
	for _, b := range o.BodySection {
		reads = reads || !b.Peek
	}
	for _, b := range o.BinarySection {
		reads = reads || !b.Peek
	}
	if !reads || s.view.ReadOnly() {
		return nil, nil
	}
	var unseen []mailbox.Number
	err := s.view.Fetch(ctx, set, mailbox.Items{}, func(m *mailbox.Message) error {
		if !slices.Contains(m.Flags, imap.FlagSeen) {
			unseen = append(unseen, mailbox.Number{SeqNum: m.SeqNum, UID: m.UID})
		}
		return nil
	})
	if err != nil || len(unseen) == 0 {
		return nil, err
	}
	uids := uidSet(unseen)
	add := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}
	_, err = s.view.Store(ctx, uids, add, &imap.StoreOptions{}, nil)
	return uids, err
}

// fetchOne writes the response for one message. What can fail is read before
// its first byte is written, since a response cannot be taken back.
func (s *session) fetchOne(ctx context.Context, w *imapserver.FetchWriter, m *mailbox.Message, o *imap.FetchOptions, seen imap.UIDSet) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sections, closer, err := openSections(ctx, m, o)
	if err != nil {
		return err
	}
	defer closer()
	response := w.CreateMessage(m.SeqNum)
	if o.UID {
		response.WriteUID(m.UID)
	}
	if o.Flags || seen.Contains(m.UID) {
		response.WriteFlags(m.Flags)
	}
	if o.InternalDate {
		response.WriteInternalDate(m.InternalDate)
	}
	if o.RFC822Size {
		response.WriteRFC822Size(m.Size)
	}
	if o.Envelope {
		response.WriteEnvelope(m.Envelope())
	}
	if o.BodyStructure != nil {
		response.WriteBodyStructure(m.BodyStructure())
	}
	for _, section := range sections {
		if err := section.write(response); err != nil {
			// The literal is incomplete: nothing that follows would be understood.
			// Close is due all the same, since imapserver holds a lock until then.
			s.conn.fence.out.mute()
			s.conn.abort()
			return errors.Join(err, response.Close())
		}
	}
	return response.Close()
}

// section is a piece of a message that is ready to be sent.
type section struct {
	open func(*imapserver.FetchResponseWriter) io.WriteCloser // nil for a size
	size func(*imapserver.FetchResponseWriter)
	data io.Reader
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// onlyWriter hides what else a writer can do, so that io.CopyBuffer uses the
// buffer.
type onlyWriter struct{ io.Writer }

func (s *section) write(w *imapserver.FetchResponseWriter) error {
	if s.open == nil {
		s.size(w)
		return nil
	}
	literal := s.open(w)
	buffer := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buffer)
	_, err := io.CopyBuffer(onlyWriter{literal}, s.data, *buffer)
	if closeErr := literal.Close(); err == nil {
		err = closeErr
	}
	return err
}

// openSections prepares the body sections that o asks for. The caller calls
// closer if there is no error.
func openSections(ctx context.Context, m *mailbox.Message, o *imap.FetchOptions) (list []section, closer func(), err error) {
	if len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) == 0 {
		return nil, func() {}, nil
	}
	body, err := m.OpenBody(ctx)
	if err != nil {
		return nil, nil, err
	}
	list, err = sectionsOf(ctx, m, body, o)
	if err != nil {
		_ = body.Close()
		return nil, nil, err
	}
	return list, func() { _ = body.Close() }, nil
}

func sectionsOf(ctx context.Context, m *mailbox.Message, body *store.BodyReader, o *imap.FetchOptions) ([]section, error) {
	list := make([]section, 0, len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize))
	for _, item := range o.BodySection {
		data, err := bodySection(m, body, item)
		if err != nil {
			return nil, err
		}
		list = append(list, section{data: data, open: func(w *imapserver.FetchResponseWriter) io.WriteCloser {
			return w.WriteBodySection(item, data.Size())
		}})
	}
	for _, item := range o.BinarySection {
		data, size, err := binarySection(ctx, m, body, item.Part, item.Partial)
		if err != nil {
			return nil, err
		}
		list = append(list, section{data: data, open: func(w *imapserver.FetchResponseWriter) io.WriteCloser {
			return w.WriteBinarySection(item, size)
		}})
	}
	for _, item := range o.BinarySectionSize {
		_, size, err := binarySection(ctx, m, body, item.Part, nil)
		if err != nil {
			return nil, err
		}
		list = append(list, section{size: func(w *imapserver.FetchResponseWriter) {
			w.WriteBinarySectionSize(item, uint32(min(size, 1<<32-1)))
		}})
	}
	return list, nil
}

// sized is a reader that knows its length.
type sized interface {
	io.Reader
	Size() int64
}

// bodySection finds BODY[…] in the stored bytes (RFC 9051 section 6.4.5.1). A
// section that does not exist is empty.
func bodySection(m *mailbox.Message, body *store.BodyReader, item *imap.FetchItemBodySection) (sized, error) {
	part, ok := m.Part(item.Part)
	from, to := int64(0), int64(0)
	whole := len(item.Part) == 0
	switch item.Specifier {
	case imap.PartSpecifierNone:
		from, to = part.Body, part.End
		if whole {
			from = part.Header
		}
	case imap.PartSpecifierMIME:
		from, to = part.Header, part.Body
		ok = ok && !whole
	case imap.PartSpecifierHeader:
		from, to = part.Body, part.Text
		if whole {
			from, to = part.Header, part.Body
		}
		ok = ok && to > 0
	case imap.PartSpecifierText:
		from, to = part.Text, part.End
		if whole {
			from = part.Body
		}
		ok = ok && (whole || part.Text > 0)
	}
	if !ok {
		return bytes.NewReader(nil), nil
	}
	if item.Specifier == imap.PartSpecifierHeader && len(item.HeaderFields)+len(item.HeaderFieldsNot) > 0 {
		fields, err := headerFields(io.NewSectionReader(body, from, to-from), item)
		if err != nil {
			return nil, err
		}
		return cut(bytes.NewReader(fields), 0, int64(len(fields)), item.Partial), nil
	}
	return cut(body, from, to, item.Partial), nil
}

// cut gives the bytes from from to to, or the part of them that is asked for.
func cut(r io.ReaderAt, from, to int64, partial *imap.SectionPartial) *io.SectionReader {
	if partial != nil {
		from = min(from+partial.Offset, to)
		to = min(from+partial.Size, to)
	}
	return io.NewSectionReader(r, from, max(to-from, 0))
}

// headerFields gives the fields that HEADER.FIELDS or HEADER.FIELDS.NOT choose,
// as they came, and the empty line.
func headerFields(r *io.SectionReader, item *imap.FetchItemBodySection) ([]byte, error) {
	raw := make([]byte, min(r.Size(), mail.MaxHeaderSize))
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("read header section: %w", err)
	}
	header, _, err := mail.ParseHeaderSection(raw)
	if err != nil {
		return nil, fmt.Errorf("parse header section: %w", err)
	}
	names, want := item.HeaderFields, true
	if len(names) == 0 {
		names, want = item.HeaderFieldsNot, false
	}
	out := make([]byte, 0, 512)
	for _, f := range header.Fields {
		if f.Name != "" && hasFold(names, f.Name) == want {
			out = append(out, f.Raw...)
		}
	}
	return append(out, "\r\n"...), nil
}

func hasFold(list []string, name string) bool {
	for _, s := range list {
		if strings.EqualFold(s, name) {
			return true
		}
	}
	return false
}

// binarySection decodes a part (RFC 3516 section 4.2). The size is found by
// decoding once for nothing, so that a large part is never held in memory.
func binarySection(ctx context.Context, m *mailbox.Message, body *store.BodyReader, path []int, partial *imap.SectionPartial) (io.Reader, int64, error) {
	part, ok := m.Part(path)
	if !ok {
		return strings.NewReader(""), 0, nil
	}
	from := part.Body
	if len(path) == 0 {
		from = part.Header
		part.Encoding = ""
	}
	open := func() io.Reader { return &endingReader{ctx.Err, io.NewSectionReader(body, from, part.End-from)} }
	decoded, err := decoder(part.Encoding)
	if err != nil {
		return nil, 0, err
	}
	size, err := io.Copy(io.Discard, decoded(open()))
	switch {
	case ctx.Err() != nil:
		return nil, 0, ctx.Err()
	case err != nil:
		return nil, 0, no(imap.ResponseCodeUnknownCTE, "Body part cannot be decoded, fetch it by BODY")
	}
	if partial == nil {
		return decoded(open()), size, nil
	}
	skip := min(partial.Offset, size)
	reader := decoded(open())
	if _, err := io.CopyN(io.Discard, reader, skip); err != nil {
		return nil, 0, fmt.Errorf("skip to offset: %w", err)
	}
	size = min(partial.Size, size-skip)
	return io.LimitReader(reader, size), size, nil
}

// endingReader reads until a context ends.
type endingReader struct {
	ended func() error
	r     io.Reader
}

// Read gives the context's error after its end.
func (e *endingReader) Read(p []byte) (int, error) {
	if err := e.ended(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

// decoder gives the decoder of a Content-Transfer-Encoding.
func decoder(encoding string) (func(io.Reader) io.Reader, error) {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return func(r io.Reader) io.Reader { return r }, nil
	case "base64":
		return func(r io.Reader) io.Reader { return base64.NewDecoder(base64.StdEncoding, r) }, nil
	case "quoted-printable":
		return func(r io.Reader) io.Reader { return quotedprintable.NewReader(r) }, nil
	default:
		return nil, no(imap.ResponseCodeUnknownCTE, "Body part has an unknown encoding, fetch it by BODY")
	}
}
