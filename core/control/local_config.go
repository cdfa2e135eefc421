package control

import (
	"context"

	"github.com/mox-like/mox-like/core/effective"
)

// EffectiveConfig describes the configuration as it holds.
func (l *Local) EffectiveConfig(ctx context.Context, q effective.Query) (*effective.Config, error) {
	c, err := l.host.Tuning().Configuration(ctx, q)
	return c, tuned(err)
}
