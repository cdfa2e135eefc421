package mailbox

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// Prepared is a message that is ready to be delivered within a transaction of the
// caller's, so that it is delivered if and only if the rest of that is done. It
// belongs to one goroutine and is delivered once.
type Prepared struct {
	message *message
	// bodyID is that of a body which the store has already, 0 for one that comes with
	// the message.
	bodyID int64
}

// Prepare reads a message of size bytes. received becomes the INTERNALDATE. The
// caller discards it in the end.
func (s *Service) Prepare(open func() io.Reader, size int64, received time.Time) (*Prepared, error) {
	m, err := s.take(open, size, received)
	if err != nil {
		return nil, fmt.Errorf("prepare message: %w", err)
	}
	return &Prepared{message: m}, nil
}

// PrepareStored is Prepare for a message whose body is in the store already, and
// is not stored again.
func (s *Service) PrepareStored(ctx context.Context, bodyID int64, received time.Time) (*Prepared, error) {
	body, err := s.store.OpenBody(ctx, bodyID)
	if err != nil {
		return nil, fmt.Errorf("prepare message: %w", err)
	}
	defer func() { _ = body.Close() }()
	sum, err := parse(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return nil, fmt.Errorf("prepare message: %w", err)
	}
	return &Prepared{message: &message{summary: sum, size: body.Size(), received: received}, bodyID: bodyID}, nil
}

// Discard frees what was not delivered.
func (p *Prepared) Discard() {
	if p.message.body != nil {
		p.message.body.Discard()
	}
}

// DeliverIn puts a message into mailboxes within the caller's transaction; it is
// durable with that. Otherwise it is Deliver.
func (s *Service) DeliverIn(tx *store.Tx, p *Prepared, recipients []Target) error {
	targets := make([]Target, 0, len(recipients))
	for _, t := range recipients {
		if t.Mailbox = normalName(t.Mailbox); t.Mailbox == "" {
			t.Mailbox = inbox
		}
		if !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	deliver := s.deliver
	if p.bodyID != 0 {
		deliver = func(tx *store.Tx, m *message, targets []Target) error {
			return s.deliverStored(tx, m, p.bodyID, targets)
		}
	}
	if err := deliver(tx, p.message, targets); err != nil {
		return fmt.Errorf("deliver message: %w", err)
	}
	return nil
}

// deliverStored is deliver for a message whose body is there.
func (s *Service) deliverStored(tx *store.Tx, m *message, bodyID int64, targets []Target) error {
	if err := tx.AddBodyRefs(bodyID, 1); err != nil {
		return err
	}
	m.contentID = max(s.lastContent.Load()+1, s.now().UnixMilli()<<20)
	s.lastContent.Store(m.contentID)
	_, err := tx.Exec("INSERT INTO mailbox_contents (id, body_id, refs, sent_day, envelope, structure, fields) VALUES (?, ?, ?, ?, ?, ?, ?)",
		m.contentID, bodyID, len(targets), m.sentDay, m.envelope, m.structure, m.fields)
	if err != nil {
		return err
	}
	told := make([]taken, len(targets))
	for i, t := range targets {
		if told[i], err = s.takeUID(tx, t, 0, m.size); err != nil {
			return fmt.Errorf("find mailbox %s of %s: %w", t.Mailbox, t.Account, err)
		}
		if err := s.insertMessage(tx, m, told[i], 0); err != nil {
			return err
		}
	}
	tx.AfterCommit(func() {
		for _, box := range told {
			s.hub.changed(box.id, box.modSeq)
		}
	})
	return nil
}
