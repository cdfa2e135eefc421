package control

import (
	"context"
	"io"

	"github.com/mox-like/mox-like/core/check"
)

// Checks is the operation by which a message is tried.
type Checks interface {
	// Check tells what would become of a message, which is read as it would come over
	// the wire. This server neither delivers, counts, learns nor remembers anything, so
	// that it is not in the audit trail. At most two run at a time, others wait. ErrInvalid if the
	// request makes no sense; ErrRefused comes with a report of what is wrong with the
	// configuration, where no server runs one.
	Check(ctx context.Context, r check.Request, message io.Reader) (*check.Result, *Report, error)
}
