// Package ratelimit is handler.ratelimit: no more than so many connections,
// logins, messages or recipients in a time, counted by client, user, sender or
// recipient.
//
// It keeps a sliding window: in no stretch of time as long as the window are
// there more than the limit's number of events. The window is kept in slices, so
// an event may count for up to a seventh longer than it must. What was refused
// does not count. Who is over the limit is deferred, with the number of seconds
// after which it would pass.
//
// Counters live in memory, outlive a change of the configuration that leaves
// key and window alone, and are written behind: a restart resets none, a crash
// those of the last seconds. Each handler of each listener has its own.
package ratelimit

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// What the time of a limit can be.
const (
	minWindow = time.Second
	maxWindow = 366 * 24 * time.Hour
)

func init() { core.Register(&Ratelimit{}) }

// Ratelimit is the handler and its settings.
type Ratelimit struct {
	// Key says what is counted by: ip, the client's network; user, who logs in or
	// has; from and from_domain, the reverse-path; rcpt, the recipient. Several
	// count by their combination. A client for which one of them is not known is
	// not counted.
	Key []string `config:"key,required" values:"ip,user,from,from_domain,rcpt"`
	// Limit is how many may pass in a time.
	Limit config.Rate `config:"limit,required"`
	// IPv4Prefix is the length of the networks that count as one client.
	IPv4Prefix int `config:"ipv4_prefix" default:"32" min:"8" max:"32"`
	// IPv6Prefix is the same for IPv6, where a client commonly has a /64.
	IPv6Prefix int `config:"ipv6_prefix" default:"64" min:"16" max:"128"`
	// Except lists networks that are not limited.
	Except []netip.Prefix `config:"except"`
	// MaxKeys bounds how many clients, users and so on are remembered, about 120
	// bytes each. Beyond it those with the fewest events are forgotten.
	MaxKeys int `config:"max_keys" default:"1000000" min:"1000" max:"100000000"`

	parts    parts
	now      func() time.Time
	counters *counters
}

// Module describes the handler.
func (*Ratelimit) Module() core.Info {
	return core.Info{
		ID:             "handler.ratelimit",
		Stages:         mail.AtConnect | mail.AtAuth | mail.AtMail | mail.AtRcpt,
		StageAttribute: true,
		New:            func() core.Module { return new(Ratelimit) },
	}
}

// DefaultStages is the first stage at which everything is known that the key
// names.
func (r *Ratelimit) DefaultStages() mail.Stages { return mail.At(r.parts.known()) }

// Migrations gives the table of the counters.
func (*Ratelimit) Migrations() store.Migrations {
	return store.Migrations{Module: "ratelimit", Steps: []string{schema}}
}

// Provision finds the counters, which other instances may have made.
func (r *Ratelimit) Provision(c *core.Context) error {
	r.parts = parseParts(r.Key)
	r.now = c.Now()
	scope := fmt.Sprintf("%s/%s %s %s", c.Listener(), c.Name(), r.describeKey(), config.FormatDuration(r.Limit.Window))
	shared, err := core.Shared(c, "ratelimit "+scope, func() (*counters, error) {
		return newCounters(scope, r.Limit.Window, options{store: c.Store(), log: c.Logger(), now: c.Now()}), nil
	})
	if err != nil {
		return err
	}
	r.counters = shared
	return nil
}

// describeKey tells apart what must not share counters.
func (r *Ratelimit) describeKey() string {
	key := strings.Join(r.Key, "+")
	if r.parts.has(partIP) {
		key += fmt.Sprintf("/%d/%d", r.IPv4Prefix, r.IPv6Prefix)
	}
	return key
}

// Validate refuses an empty key and a window that cannot be kept.
func (r *Ratelimit) Validate() core.Problems {
	var problems core.Problems
	if len(r.parts) == 0 {
		problems.Errorf("key", "the key is empty, so there is nothing to count by: write what, such as \"ip\"")
	}
	if r.Limit.Window < minWindow || r.Limit.Window > maxWindow {
		problems.Errorf("limit", "the time of the limit is %s: write one between %s and %s, such as \"100/1h\"",
			config.FormatDuration(r.Limit.Window), config.FormatDuration(minWindow), config.FormatDuration(maxWindow))
	}
	return problems
}

// ValidateStages refuses a stage at which part of the key is never known.
func (r *Ratelimit) ValidateStages(stages mail.Stages) core.Problems {
	var problems core.Problems
	known := r.parts.known()
	if known == mail.StageMail && r.parts.onlyUser() {
		known = mail.StageAuth // where the client names the user
	}
	for stage := range known {
		if stages.Has(stage) {
			problems.Errorf("stage", "at the stage %s it is not known yet what is counted by: the key %s is known from %s on",
				stage, strings.Join(r.Key, ", "), known)
		}
	}
	return problems
}

// NeedsLogin tells whether events are counted by user.
func (r *Ratelimit) NeedsLogin() bool { return r.parts.has(partUser) }

// Start reads what was counted before a restart.
func (r *Ratelimit) Start() error {
	r.counters.setMax(r.MaxKeys)
	return r.counters.start()
}

// Handle counts the event, or refuses it.
func (r *Ratelimit) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if r.excepted(tx.Session.RemoteAddr.Addr()) {
		return mail.Continue("network is excepted"), nil
	}
	k, ok := r.key(tx)
	if !ok {
		return mail.Continue("not counted: part of the key is not known"), nil
	}
	used, wait := r.counters.take(k, r.Limit.N, r.now())
	if wait == 0 {
		return mail.Continue("under the limit"), nil
	}
	return mail.Defer(tooMany(tx.Stage, wait), fmt.Sprintf("%s: %d in %s, limit is %s",
		r.describe(tx), used, config.FormatDuration(r.Limit.Window), r.Limit)), nil
}

func (r *Ratelimit) excepted(addr netip.Addr) bool {
	if len(r.Except) == 0 {
		return false
	}
	addr = addr.Unmap()
	for _, network := range r.Except {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// tooMany is what a client over the limit is told (RFC 5321 section 4.2.2, RFC
// 4954 section 6).
func tooMany(stage mail.Stage, wait time.Duration) mail.Reply {
	text := func(what string) string {
		return fmt.Sprintf("Too many %s, try again in %d seconds", what, (wait+time.Second-1)/time.Second)
	}
	switch stage {
	case mail.StageConnect:
		return mail.NewReply(421, 7, 0, text("connections"))
	case mail.StageAuth:
		return mail.NewReply(454, 7, 0, text("logins"))
	case mail.StageRcpt:
		return mail.NewReply(450, 7, 1, text("recipients"))
	default:
		return mail.NewReply(450, 7, 1, text("messages"))
	}
}

var (
	_ core.Provisioner = (*Ratelimit)(nil)
	_ core.Validator   = (*Ratelimit)(nil)
	_ core.Migrator    = (*Ratelimit)(nil)
	_ core.Starter     = (*Ratelimit)(nil)
	_ core.Handler     = (*Ratelimit)(nil)

	_ core.LoginHandler = (*Ratelimit)(nil)
)
