package control

import (
	"context"

	"github.com/mox-like/mox-like/core/effective"
)

// EffectiveConfig describes the configuration as it holds.
func (c *Client) EffectiveConfig(ctx context.Context, q effective.Query) (*effective.Config, error) {
	out := new(effective.Config)
	if err := c.get(ctx, effectivePath, query("domain", q.Domain, "listener", q.Listener, "salt", q.Salt), out); err != nil {
		return nil, err
	}
	return out, nil
}
