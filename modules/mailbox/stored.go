package mailbox

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// Prepared is a message that is ready to be delivered within a transaction of the
// caller's, so that it is delivered if and only if the rest of that is done. It
// belongs to one goroutine and is delivered once.
type Prepared struct{ message *message }

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
	return &Prepared{message: &message{summary: sum, bodyID: bodyID, size: body.Size(), received: received}}, nil
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
	if err := s.deliver(tx, p.message, distinct(recipients)); err != nil {
		return fmt.Errorf("deliver message: %w", err)
	}
	return nil
}
