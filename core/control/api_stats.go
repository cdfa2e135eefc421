package control

import (
	"context"
	"net/http"
	"strconv"

	"github.com/mox-like/mox-like/core/trace"
)

func (a *api) statsRoutes() {
	handle(a, endpoint{
		id: "get-handler-stats", method: http.MethodGet, path: "/v1/stats/handlers", summary: "Count what the handlers said", errors: []int{422},
		text: "And what those would have done that are monitored only. It is counted from the traces, of which the newest " + strconv.Itoa(trace.MaxStats) + " of the time are looked at: cut says whether there are older ones.",
	}, "stats", func(ctx context.Context, in *statsQuery) (*answer[*trace.Stats], error) {
		stats, err := a.Operations().HandlerStats(ctx, in.query())
		return give(stats, err)
	})
}

// statsQuery are the parameters of statistics.
type statsQuery struct {
	Handler  string `query:"handler" maxLength:"255" doc:"Only this handler."`
	Listener string `query:"listener" maxLength:"255" doc:"Only what came in by this listener."`
	Domain   string `query:"domain" maxLength:"255" doc:"Only what is to this domain, or of its users."`
	Since    Moment `query:"since" doc:"Only what began at this time (RFC 3339) or later, or since so long ago, as 2h or 7d."`
	Until    Moment `query:"until" doc:"Only what began before this time, or longer ago than that."`
	Examples int    `query:"examples" minimum:"0" maximum:"100" doc:"How many of each handler, the newest."`
}

func (q *statsQuery) query() trace.StatsQuery {
	return trace.StatsQuery{Handler: q.Handler, Listener: q.Listener, Domain: q.Domain, Since: q.Since.Time, Until: q.Until.Time, Examples: q.Examples}
}
