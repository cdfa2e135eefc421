package mailbox

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// Items say which parts of a Message Fetch shall fill in, beside the numbers,
// the flags and the mod-sequence, which cost nothing.
type Items struct {
	// Details are InternalDate, SaveDate, Size, EmailID and ThreadID. They come
	// with each of the following too.
	Details bool
	// Envelope lets Message.Envelope work.
	Envelope bool
	// BodyStructure lets Message.BodyStructure and Message.Part work.
	BodyStructure bool
	// Body lets Message.OpenBody work. The body is read only when that is called.
	Body bool
	// ChangedSince leaves out messages without a later mod-sequence, unless 0
	// (RFC 7162 section 3.1.4).
	ChangedSince uint64
}

// ItemsOf gives the items that a FETCH command needs.
func ItemsOf(o *imap.FetchOptions) Items {
	sections := len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) > 0
	return Items{
		Details:       o.InternalDate || o.RFC822Size,
		Envelope:      o.Envelope,
		BodyStructure: o.BodyStructure != nil || sections,
		Body:          sections,
		ChangedSince:  o.ChangedSince,
	}
}

// columns tells how much of the rows the items need, if any.
func (i Items) columns() (columns, bool) {
	switch {
	case i.BodyStructure:
		return columnsAll, true
	case i.Envelope, i.Body:
		return columnsEnvelope, true
	default:
		return columnsDetails, i.Details
	}
}

// Message is one message of a Fetch, valid until each returns.
type Message struct {
	SeqNum uint32
	UID    imap.UID
	// Flags belong to the view and must not be changed.
	Flags  []imap.Flag
	ModSeq uint64

	InternalDate time.Time
	// SaveDate is when the message came into this mailbox (RFC 8514).
	SaveDate time.Time
	// Size is the length of the whole message in bytes.
	Size int64
	// EmailID names the content, ThreadID the conversation (RFC 8474 section 5).
	EmailID, ThreadID string

	service *Service
	content *content
}

// Envelope decodes the envelope; nil if Items did not ask for it.
func (m *Message) Envelope() *imap.Envelope {
	if m.content == nil || m.content.envelope == "" {
		return nil
	}
	return readEnvelope(m.content.envelope).decode()
}

// BodyStructure decodes the structure, with the extension data; nil if Items
// did not ask for it.
func (m *Message) BodyStructure() imap.BodyStructure {
	if m.content == nil || m.content.structure == "" {
		return nil
	}
	r := blobReader{m.content.structure}
	return r.structure()
}

// Part is where a body part stands in the stored message, in bytes from its
// beginning.
type Part struct {
	// Header is where the part's own header begins: its MIME header, or the
	// message's header section for the message itself.
	Header int64
	// Body is where its body begins, after the empty line.
	Body int64
	// Text is, for a part that is a message (message/rfc822), where the body of
	// that message begins; its header section stands from Body to Text. 0 for
	// other parts.
	Text int64
	// End is behind the body's last byte.
	End int64
	// Encoding is the Content-Transfer-Encoding in lower case, "" if absent.
	Encoding string
	// Multipart tells that the part consists of others.
	Multipart bool
}

// Part finds a part by its number (RFC 9051 section 6.4.5.1); the empty path is
// the message itself. With it, a section of the body is a piece of the stored
// bytes: nothing needs to be parsed again.
func (m *Message) Part(path []int) (Part, bool) {
	if m.content == nil || m.content.structure == "" {
		return Part{}, false
	}
	r := blobReader{m.content.structure}
	p, ok := r.find(path)
	if len(path) == 0 {
		p.text = 0 // even if the message consists of another one: that is part 1
	}
	return Part{
		Header: p.header, Body: p.body, Text: p.text, End: p.end,
		Encoding: strings.ToLower(p.encoding), Multipart: p.kind == kindMultipart,
	}, ok
}

// OpenBody opens the whole message for reading at any offset. The caller closes
// the reader; it may outlive the Message.
func (m *Message) OpenBody(ctx context.Context) (*store.BodyReader, error) {
	if m.content == nil || m.content.bodyID == 0 {
		return nil, errors.New("open body: the items did not ask for it")
	}
	return m.service.store.OpenBody(ctx, m.content.bodyID)
}

// objectID makes an object identifier (RFC 8474 section 7).
func objectID(kind byte, id int64) string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	var b [14]byte
	i := len(b)
	for {
		i--
		b[i] = digits[id&31]
		if id >>= 5; id == 0 {
			break
		}
	}
	return string(kind) + string(b[i:])
}

// Fetch calls each for the messages of a set, in order. Messages that are gone
// but not yet told by Poll are left out. No transaction is open while each
// runs, so it may be as slow as its client.
func (v *View) Fetch(ctx context.Context, set imap.NumSet, items Items, each func(*Message) error) error {
	spans, err := v.resolve(ctx, set)
	if err != nil {
		return err
	}
	spans = v.wanted(spans, func(e *entry) bool { return uint64(e.modSeq) > items.ChangedSince })
	m := Message{service: v.account.service}
	visit := func(i int, r *row) error {
		e := &v.entries[i]
		m.SeqNum, m.UID, m.Flags, m.ModSeq = uint32(i+1), imap.UID(e.uid), v.list(e.flags), uint64(e.modSeq)
		if r != nil {
			m.fill(r)
		}
		return each(&m)
	}
	if read, needed := items.columns(); needed {
		return v.readRows(ctx, spans, read, visit)
	}
	for _, s := range spans {
		for i := s.begin; i < s.end; i++ {
			if err := visit(i, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanted gives the parts of spans whose entries are there and wanted.
func (v *View) wanted(spans []span, want func(*entry) bool) []span {
	var list []span
	for _, s := range spans {
		begin := s.begin
		for i := s.begin; i < s.end; i++ {
			if e := &v.entries[i]; e.gone || !want(e) {
				if begin < i {
					list = append(list, span{begin, i})
				}
				begin = i + 1
			}
		}
		if begin < s.end {
			list = append(list, span{begin, s.end})
		}
	}
	return list
}

func (m *Message) fill(r *row) {
	m.InternalDate = r.internalDate()
	m.SaveDate = time.Unix(r.saved, 0).UTC()
	m.Size = r.size
	m.EmailID, m.ThreadID = objectID('e', r.contentID), objectID('t', r.threadID)
	m.content = &r.content
}
