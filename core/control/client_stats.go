package control

import (
	"context"
	"strconv"

	"github.com/mox-like/mox-like/core/trace"
)

// HandlerStats counts what handlers said.
func (c *Client) HandlerStats(ctx context.Context, q trace.StatsQuery) (*trace.Stats, error) {
	values := query("handler", q.Handler, "listener", q.Listener, "domain", q.Domain)
	setTime(values, "since", q.Since)
	setTime(values, "until", q.Until)
	if q.Examples != 0 {
		values.Set("examples", strconv.Itoa(q.Examples))
	}
	stats := new(trace.Stats)
	if err := c.get(ctx, "/v1/stats/handlers", values, stats); err != nil {
		return nil, err
	}
	return stats, nil
}
