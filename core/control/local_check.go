package control

import (
	"context"
	"errors"
	"io"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/check"
)

// Check tells what would become of a message.
func (l *Local) Check(ctx context.Context, r check.Request, message io.Reader) (*check.Result, *Report, error) {
	result, err := check.Run(ctx, l.host, r, message)
	switch {
	case errors.Is(err, core.ErrInvalid):
		ds, sources := core.TrialReport(err)
		return nil, &Report{Diagnostics: ds, Sources: sources}, ErrRefused
	case errors.Is(err, check.ErrRequest):
		return nil, nil, Invalid(err)
	case errors.Is(err, check.ErrSlow):
		return nil, nil, &kindError{kind: context.DeadlineExceeded, err: err}
	default:
		return result, nil, err
	}
}
