package mail

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
)

// MaxRewrittenSize bounds the header section of a rewritten message, in bytes. One that
// was taken in has half of that at most, and what the server and its filters add must
// not be what makes it too large. There is no bound on the fields.
const MaxRewrittenSize = 2 * MaxHeaderSize

// ErrRewriteTooLarge is returned when the header section of a rewritten message
// exceeds MaxRewrittenSize.
var ErrRewriteTooLarge = errors.New("rewritten header section is larger than 512 KiB")

// SplitRendered takes the header section of a Rendering apart, whatever was added to
// that of the message as it came: unlike ParseHeaderSection it has no bound.
func SplitRendered(head []byte) HeaderSection {
	section, _, _ := parseHeaderSection(head, math.MaxInt, math.MaxInt) // the only error is that of the bounds
	return section
}

// NewMessageWithBody makes a message of a header section, which ends with the empty
// line after it, and the body of another message, which must stay as it is for as
// long as the new one is read: nothing is copied but what is in memory. The caller no
// longer changes head. The error is ErrRewriteTooLarge.
func NewMessageWithBody(head []byte, of *Message) (*Message, error) {
	raw := head
	if of.memory != nil {
		raw = slices.Concat(head, of.memory[of.bodyOffset:])
	}
	header, offset, err := parseHeaderSection(raw, MaxRewrittenSize, math.MaxInt)
	if err != nil {
		return nil, ErrRewriteTooLarge
	}
	if of.memory != nil {
		return &Message{Size: int64(len(raw)), Header: header, bodyOffset: int64(offset), content: bytes.NewReader(raw), memory: raw}, nil
	}
	body := of.OpenBody()
	return &Message{
		Size: int64(len(head)) + body.Size(), Header: header, bodyOffset: int64(offset),
		content: &joined{head: bytes.NewReader(head), body: body},
	}, nil
}

// joined is a head in memory with a body behind it.
type joined struct {
	head *bytes.Reader
	body *io.SectionReader
}

// ReadAt implements io.ReaderAt. It is safe for concurrent use, as its parts are.
func (j *joined) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	if offset < j.head.Size() {
		n, _ = j.head.ReadAt(p, offset) // it ends where the body begins
		if n == len(p) {
			return n, nil
		}
	}
	m, err := j.body.ReadAt(p[n:], offset+int64(n)-j.head.Size())
	return n + m, err
}

// Rewrite puts another message in the place of the one that came. The edits so far
// are forgotten: whoever makes m begins with Rendered, which has them. The
// transaction closes owned, on which m stands, when it is released; nil is nothing
// to close. Handlers that act side by side must not rewrite, see core.Info. What was
// found out by Once stays: it is about the message that came.
func (tx *Transaction) Rewrite(m *Message, owned io.Closer) {
	tx.Message, tx.edits, tx.dropped = m, nil, nil
	if owned != nil {
		tx.owned = append(tx.owned, owned)
	}
}

// Release closes what rewritten messages stand on. The listener calls it once
// nothing reads the message any more.
func (tx *Transaction) Release() error {
	var errs []error
	for _, c := range tx.owned {
		errs = append(errs, c.Close())
	}
	tx.owned = nil
	return errors.Join(errs...)
}

// AddRecipient has the message go to one more recipient, at the data stage only.
// The chain asks its targets for it once the handler is done, as at the rcpt stage:
// none may be ready to take it. They are those of the chain that judges the message,
// also for a recipient whose domain has one of its own. One that the envelope has
// already counts once.
func (tx *Transaction) AddRecipient(a Address) {
	has := func(r *Recipient) bool { return r.Address == a }
	if !slices.ContainsFunc(tx.Envelope.Recipients, has) && !slices.Contains(tx.added, a) {
		tx.added = append(tx.added, a)
	}
}

// AddedRecipients gives those of AddRecipient and forgets them.
func (tx *Transaction) AddedRecipients() []Address {
	added := tx.added
	tx.added = nil
	return added
}

// RemoveRecipient has the message not go to a recipient, at the data stage only,
// and tells whether it was there.
func (tx *Transaction) RemoveRecipient(a Address) bool {
	before := len(tx.Envelope.Recipients)
	tx.Envelope.Recipients = slices.DeleteFunc(slices.Clone(tx.Envelope.Recipients), func(r *Recipient) bool { return r.Address == a })
	tx.added = slices.DeleteFunc(tx.added, func(o Address) bool { return o == a })
	return len(tx.Envelope.Recipients) < before
}

// Content is what a transaction delivers, and to whom.
type Content struct {
	message     *Message
	edits       []edit
	dropped     []int
	reversePath Address
	recipients  []*Recipient
	was         []Recipient // what recipients point to
	added       []Address
}

// Content gives what would be delivered now.
func (tx *Transaction) Content() Content {
	was := make([]Recipient, len(tx.Envelope.Recipients))
	for i, r := range tx.Envelope.Recipients {
		was[i] = *r
	}
	return Content{
		message: tx.Message, edits: slices.Clone(tx.edits), dropped: slices.Clone(tx.dropped),
		reversePath: tx.Envelope.ReversePath, recipients: slices.Clone(tx.Envelope.Recipients), was: was, added: slices.Clone(tx.added),
	}
}

// SetContent takes back Rewrite and changes of the envelope and of its recipients,
// such as who has them in charge, since Content gave c.
// Header fields that were added or removed without Rewrite stay so.
func (tx *Transaction) SetContent(c Content) {
	if tx.Message != c.message {
		tx.Message, tx.edits, tx.dropped = c.message, c.edits, c.dropped
	}
	for i, r := range c.recipients {
		if was := &c.was[i]; r.Target != was.Target || r.Delivered != was.Delivered || r.Address != was.Address || !slices.Equal(r.Accounts, was.Accounts) {
			*r = *was // nobody else may look at it then, as in parallel
		}
	}
	tx.Envelope.ReversePath, tx.Envelope.Recipients, tx.added = c.reversePath, c.recipients, c.added
}
