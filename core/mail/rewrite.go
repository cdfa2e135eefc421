package mail

import (
	"errors"
	"io"
	"slices"
)

// Rewrite puts another message in the place of the one that came. The edits so far
// are forgotten: whoever makes m begins with Rendered, which has them. The
// transaction closes owned, on which m stands, when it is released; nil is nothing
// to close. Handlers that act side by side must not rewrite, see core.Info.
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
// none may be ready to take it. One that the envelope has already counts once.
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
