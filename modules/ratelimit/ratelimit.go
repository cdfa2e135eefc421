// Package ratelimit is handler.ratelimit: no more than so many connections,
// logins, messages, recipients, bytes or refused recipients in a time, counted by
// client, user, sender or recipient.
//
// It keeps a sliding window: in no stretch of time as long as the window are
// there more than the limit's number of events. The window is kept in slices, so
// an event may count for up to a seventh longer than it must. Events count when
// they are let through here, whatever becomes of them later; what was refused
// here does not count, also in mode monitor, where it passes all the same. Who is
// over the limit is deferred, with the number of seconds after which it would
// pass.
//
// Counters live in memory, outlive a change of the configuration that leaves
// key, count and window alone, and are written behind: a restart resets none, a
// crash those of the last seconds. Each handler of each listener has its own.
package ratelimit

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// What the time of a limit can be.
const (
	minWindow = time.Second
	maxWindow = 366 * 24 * time.Hour
)

const actsAt = mail.AtConnect | mail.AtAuth | mail.AtMail | mail.AtRcpt | mail.AtData

const actionDisconnect = "disconnect"

func init() { core.Register(&Ratelimit{}) }

// Ratelimit is the handler and its settings.
type Ratelimit struct {
	// Key says what is counted by: ip, the client's network; user, who logs in or
	// has; from and from_domain, the reverse-path; rcpt and rcpt_domain, the
	// recipient. Several count by their combination. A client for which one of them
	// is not known is not counted. Nor is the null reverse-path where the key has
	// nothing but the sender; else it counts as a sender.
	Key []string `config:"key,required" values:"ip,user,from,from_domain,rcpt,rcpt_domain"`
	// Limit is how much may pass in a time: a number, "100/1h", or for bytes a
	// size, "500MB/1h". What passes here counts, whatever becomes of it later; what
	// is refused here does not. The time slides in steps of a seventh of itself, so
	// that what has passed counts for up to a seventh longer: the client is told how
	// many seconds it really has to wait, with "3/1h" up to 4115.
	Limit Limit `config:"limit,required" example:"100/1h"`
	// Count says what is counted. failed are recipients that were refused for good,
	// by this server's other handlers or because nobody has the address. Without
	// it bytes are counted where the limit is a size, else what comes at the stage:
	// connections, logins, messages or recipients.
	Count string `config:"count" values:"connections,messages,recipients,bytes,failed"`
	// Action is what happens to who is over the limit: defer tells the client when
	// it would pass, disconnect also ends its SMTP session. A connection that is one
	// too many always ends.
	Action string `config:"action" default:"defer" values:"defer,disconnect"`
	// IPv4Prefix is the length of the networks that count as one client.
	IPv4Prefix int `config:"ipv4_prefix" default:"32" min:"8" max:"32"`
	// IPv6Prefix is the same for IPv6, where a client commonly has a /64.
	IPv6Prefix int `config:"ipv6_prefix" default:"64" min:"16" max:"128"`
	// Except lists networks that are not limited.
	Except []netip.Prefix `config:"except"`
	// MaxKeys bounds how many clients, users and so on are remembered, about 120
	// bytes each. Beyond it those with the fewest events are forgotten.
	MaxKeys int `config:"max_keys,fileonly" default:"1000000" min:"1000" max:"100000000"`

	name     string
	parts    parts
	now      func() time.Time
	counters *counters
	against  string // the end of a reason
	reasons  connectReasons
}

// Module describes the handler.
func (*Ratelimit) Module() core.Info {
	return core.Info{
		ID: "handler.ratelimit", Stages: actsAt, StageAttribute: true,
		New: func() core.Module { return new(Ratelimit) },
	}
}

// Migrations gives the table of the counters.
func (*Ratelimit) Migrations() store.Migrations {
	return store.Migrations{Module: "ratelimit", Steps: []string{schema1, schema2}}
}

// Provision finds the counters, which other instances may have made.
func (r *Ratelimit) Provision(c *core.Context) error {
	r.name, r.now, r.parts = c.Name(), c.Now(), parseParts(r.Key)
	if r.Count == "" && r.Limit.Size > 0 {
		r.Count = countBytes
	}
	scope := fmt.Sprintf("%s/%s %s %s", c.Listener(), c.Name(), r.describeKey(), config.FormatDuration(r.Limit.Window))
	shared, err := core.Shared(c, "ratelimit "+scope, func() (*counters, error) {
		return newCounters(scope, r.Limit.Window, options{store: c.Store(), log: c.Logger(), now: c.Now()}), nil
	})
	if err != nil {
		return err
	}
	r.counters, r.against = shared, r.describeLimit()
	return nil
}

// describeKey tells apart what must not share counters.
func (r *Ratelimit) describeKey() string {
	key := strings.Join(r.Key, "+")
	if r.parts.has(partIP) {
		key += fmt.Sprintf("/%d/%d", r.IPv4Prefix, r.IPv6Prefix)
	}
	if r.Count != "" {
		key += " " + r.Count
	}
	return key
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
	n := r.weight(tx)
	if n > r.Limit.N {
		return mail.Reject(mail.NewReply(552, 3, 4, "Message is larger than may be sent in "+config.FormatDuration(r.Limit.Window)),
			fmt.Sprintf("message of %s, limit is %s", r.Limit.amount(n), r.Limit)), nil
	}
	if tx.Stage == mail.StageData && r.parts.hasRecipient() {
		if tx.Trial {
			return r.tryAll(tx, n), nil
		}
		return r.handleAll(tx, n), nil
	}
	k, ok := r.key(tx, tx.Recipient)
	if !ok {
		return mail.Continue("not counted: part of the key is not known"), nil
	}
	if tx.Trial {
		return r.try(tx, k, n), nil
	}
	ask := r.counters.look
	if r.counted(tx.Stage) {
		ask = r.counters.take
	}
	used, wait := ask(k, n, r.Limit.N, r.now())
	if wait > 0 {
		return r.over(tx, tx.Recipient, used, wait), nil
	}
	return r.under(tx, tx.Recipient, used), nil
}

// handleAll counts a message for each of its recipients, or for none of them: it
// is refused as a whole.
func (r *Ratelimit) handleAll(tx *mail.Transaction, n int) mail.Verdict {
	now := r.now()
	taken := make(map[key]bool, len(tx.Envelope.Recipients))
	var fullest fullest
	for _, recipient := range tx.Envelope.Recipients {
		k, ok := r.key(tx, recipient)
		if !ok || taken[k] {
			continue
		}
		used, wait := r.counters.take(k, n, r.Limit.N, now)
		if wait > 0 {
			for k := range taken {
				r.counters.give(k, n, now)
			}
			return r.over(tx, recipient, used, wait)
		}
		taken[k] = true
		fullest.see(recipient, used)
	}
	return r.underAll(tx, fullest)
}

// over is the verdict on who is over the limit.
func (r *Ratelimit) over(tx *mail.Transaction, recipient *mail.Recipient, used int, wait time.Duration) mail.Verdict {
	return mail.Defer(r.tooMuch(tx.Stage, wait), r.reason(tx, recipient, used))
}

// Observe counts a recipient that was refused for good, by whomever, but not where
// when keeps this handler out.
func (r *Ratelimit) Observe(_ context.Context, tx *mail.Transaction, outcome mail.Outcome) {
	if r.Count != countFailed || outcome.Stage != mail.StageRcpt || outcome.Action != mail.ActionReject ||
		r.excepted(tx.Session.RemoteAddr.Addr()) || r.skipped(tx) {
		return
	}
	if k, ok := r.key(tx, tx.Recipient); ok {
		r.counters.add(k, r.now())
	}
}

// skipped tells whether this handler's when was false for the recipient.
func (r *Ratelimit) skipped(tx *mail.Transaction) bool {
	for i := len(tx.Entries) - 1; i >= 0 && tx.Entries[i].Stage == mail.StageRcpt; i-- {
		if e := &tx.Entries[i]; e.Handler == r.name {
			return e.Note == chain.NoteSkipped && tx.Recipient != nil && e.Recipient == tx.Recipient.Address.String()
		}
	}
	return false
}

// Sweep deletes the rows of counters that count no more.
func (*Ratelimit) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	return sweepRows(tx, now, limit)
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

// names lists stages for a sentence.
func names(stages mail.Stages) string { return strings.Join(stages.Names(), ", ") }

func (r *Ratelimit) keyNames() string { return strings.Join(r.Key, ", ") }

var (
	_ core.Provisioner    = (*Ratelimit)(nil)
	_ core.Validator      = (*Ratelimit)(nil)
	_ core.StageChooser   = (*Ratelimit)(nil)
	_ core.StageValidator = (*Ratelimit)(nil)
	_ core.LoginHandler   = (*Ratelimit)(nil)
	_ core.Migrator       = (*Ratelimit)(nil)
	_ core.Sweeper        = (*Ratelimit)(nil)
	_ core.Starter        = (*Ratelimit)(nil)
	_ core.Handler        = (*Ratelimit)(nil)
	_ core.Observer       = (*Ratelimit)(nil)
)
