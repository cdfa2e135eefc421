package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// HandlerStats counts what handlers said.
func (l *Local) HandlerStats(ctx context.Context, q trace.StatsQuery) (*trace.Stats, error) {
	if q.Examples < 0 || q.Examples > trace.MaxExamples {
		return nil, Invalid(fmt.Errorf("count verdicts: the number of examples is from 0 to %d, not %d", trace.MaxExamples, q.Examples))
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return nil, Invalid(errors.New("count verdicts: since is not before until, so that nothing can match"))
	}
	if q.Domain != "" {
		domain, err := mail.ParseDomain(q.Domain)
		if err != nil {
			return nil, Invalid(fmt.Errorf("count verdicts: domain: %w", err))
		}
		q.Domain = domain
	}
	return l.host.Traces().Stats(ctx, q)
}
