package dns

import (
	"context"
	"fmt"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/mox-like/mox-like/core/dns/internal/zone"
)

// NewZone makes a resolver that answers from the text of a zone file (RFC 1035
// section 5) and asks nobody. A name that is not in it does not exist. Names are
// relative to the root unless the text has an $ORIGIN; nothing is authentic. What a
// text can stand for is bounded, and reading it ends when ctx does.
func NewZone(ctx context.Context, text string, o Options) (*Resolver, error) {
	known, err := zone.Parse(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("read zone: %w", err)
	}
	r := New(Settings{}, o)
	r.zone = known
	return r, nil
}

// fromZone answers a question by the zone.
func (r *Resolver) fromZone(q question, s *Settings) (result, time.Duration) {
	reply := new(miekg.Msg).SetReply(newQuery(q, false))
	r.zone.Fill(reply)
	res, ttl, err := readReply(reply, q, Server{}, s)
	if err != nil {
		return result{err: q.failed("", err)}, 0
	}
	if res.err != nil {
		res.err.Server = "" // nobody was asked
	}
	return res, ttl
}
