package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Trace finds the record of a message or a login, or a page of those of a session.
func (l *Local) Trace(ctx context.Context, id, after string) (*trace.Found, error) {
	return l.host.Traces().Lookup(ctx, id, after)
}

// FindTraces gives the newest n records that match, the oldest of them first.
func (l *Local) FindTraces(ctx context.Context, f trace.Filter, n int) (*trace.Found, error) {
	if n < 1 || n > MaxTraces {
		return nil, &kindError{kind: ErrInvalid, err: fmt.Errorf("list traces: the number is from 1 to %d, not %d", MaxTraces, n)}
	}
	if verdicts := trace.Verdicts(); f.Verdict != "" && !slices.Contains(verdicts, f.Verdict) {
		return nil, Invalid(fmt.Errorf("list traces: the verdict is one of %s, not %q", strings.Join(verdicts, ", "), f.Verdict))
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return nil, Invalid(errors.New("list traces: since is not before until, so that nothing can match"))
	}
	found, err := l.host.Traces().Find(ctx, f, n)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found.Records, func(a, b *trace.Record) int { return a.Time.Compare(b.Time) })
	return found, nil
}

// TraceSettings gives the settings of a handler that entries refer to by a hash.
func (l *Local) TraceSettings(ctx context.Context, hash string) ([]mail.Setting, error) {
	h, err := mail.ParseSettingsHash(hash)
	if err != nil || hash == "" {
		return nil, Invalid(fmt.Errorf("find settings of a trace: %q is no hash of settings", hash))
	}
	return l.host.Traces().Settings(ctx, h)
}

// LastTraces gives the newest n records, the oldest of them first.
func (l *Local) LastTraces(ctx context.Context, n int) ([]*trace.Record, error) {
	return recordsOf(l.FindTraces(ctx, trace.Filter{}, n))
}

// recordsOf gives what was found alone.
func recordsOf(found *trace.Found, err error) ([]*trace.Record, error) {
	if err != nil {
		return nil, err
	}
	return found.Records, nil
}

// FollowTraces shows each record as it is added.
func (l *Local) FollowTraces(ctx context.Context, show func(*trace.Record) error) error {
	if l.process == nil {
		return fmt.Errorf("follow traces: %w", ErrNotRunning)
	}
	records, stop := l.host.Traces().Follow()
	defer stop()
	for {
		select {
		case r, ok := <-records:
			if !ok {
				return nil
			}
			if err := show(r); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
