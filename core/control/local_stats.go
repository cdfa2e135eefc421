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
	stats, err := l.host.Traces().Stats(ctx, q)
	if err != nil || stats.Records > 0 {
		return stats, err
	}
	if q.Listener != "" && len(stats.Listeners) > 0 && !slices.Contains(stats.Listeners, q.Listener) {
		return nil, Invalid(fmt.Errorf("count verdicts: no trace of that time is of a listener %q: there are %s", q.Listener, strings.Join(stats.Listeners, ", ")))
	}
	if _, ours := l.host.Domains().Find(q.Domain); q.Domain != "" && !ours {
		return nil, Invalid(fmt.Errorf("count verdicts: %s does not live here, and no trace of that time is of it: there are %s", q.Domain, l.someDomains()))
	}
	return stats, nil
}

// someDomains names the first of the domains.
func (l *Local) someDomains() string {
	const shown = 10
	var names []string
	for _, d := range l.host.Domains().All() {
		names = append(names, d.Name)
	}
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), more)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
