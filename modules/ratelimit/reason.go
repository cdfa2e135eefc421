package ratelimit

import (
	"fmt"
	"sync/atomic"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// maxDescription leaves room for the numbers in a reason.
const maxDescription = 400

// reason says who was counted, how much, and against what.
func (r *Ratelimit) reason(tx *mail.Transaction, recipient *mail.Recipient, used int) string {
	return mail.Printable(r.describe(tx, recipient), maxDescription) + ": " + r.Limit.amount(used) + r.against
}

// describeLimit is the end of a reason.
func (r *Ratelimit) describeLimit() string {
	return fmt.Sprintf(" in %s, limit is %s", config.FormatDuration(r.Limit.Window), r.Limit)
}

// connectReasons has what is said of connections that are let through, by their
// number in the window. The text is made once: at that stage the key is the
// client's network, whose address is in the trace anyway.
type connectReasons [256]atomic.Pointer[string]

// under is the verdict on who is not over the limit, with what now counts.
func (r *Ratelimit) under(tx *mail.Transaction, recipient *mail.Recipient, used int) mail.Verdict {
	if tx.Stage != mail.StageConnect || used >= len(r.reasons) {
		return mail.Continue(r.reason(tx, recipient, used))
	}
	made := &r.reasons[used]
	if made.Load() == nil {
		text := r.keyNames() + ": " + r.Limit.amount(used) + r.against
		made.Store(&text)
	}
	return mail.Continue(*made.Load())
}

// fullest is the recipient of a message who is nearest to the limit.
type fullest struct {
	recipient *mail.Recipient
	used      int
}

func (f *fullest) see(recipient *mail.Recipient, used int) {
	if f.recipient == nil || used > f.used {
		*f = fullest{recipient, used}
	}
}

// underAll is the verdict on a message none of whose recipients is over the limit.
func (r *Ratelimit) underAll(tx *mail.Transaction, f fullest) mail.Verdict {
	if f.recipient == nil {
		return mail.Continue("not counted: part of the key is not known")
	}
	return r.under(tx, f.recipient, f.used)
}
