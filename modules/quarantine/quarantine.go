// Package quarantine is handler.quarantine: what a verdict of quarantine does.
//
// Without it the target puts a quarantined message into Junk. With it the message
// goes into a place of its own, service.quarantine, where an operator can look at
// it, release it, delete it, or allow its author; after some time it is forgotten.
//
// At the data stage the handler takes the recipients that stand for accounts of this
// server. The message is on disk when the stage ends, as the target would have
// stored it, once however many accounts it is held for. Each account's share is
// released and deleted alone: a release delivers to INBOX in the same transaction
// that ends the share, so that a crash leaves one of the two, and no handler judges
// the message again.
//
// The author of a released message can be remembered, see AllowHeld. His next
// messages are not held if his domain has shown that it stands behind them: by
// DMARC, or where it has no record, by a DKIM signature or an SPF pass of the
// domain itself or one above it.
//
// On wish each account gets a daily digest of what is held for it. The time of the
// next one stands in the share, and is struck out in the transaction that delivers
// the digest.
package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func init() {
	core.Register(&Quarantine{})
	core.Register(&Service{})
}

// The values of the setting to.
const (
	toJunk  = "junk"
	toStore = "store"
)

// Quarantine says what becomes of messages that other handlers have quarantined. It
// stands behind all of these and behind what writes into the message, and in front
// of the targets. Messages for recipients without an account here, such as those
// that are sent on, are left to the target.
type Quarantine struct {
	// To is where they go: store, the quarantine that 'mox-like quarantine' works on;
	// junk, the mailbox Junk of the accounts, as without this handler, where only
	// authors who are allowed go to INBOX.
	To string `config:"to" default:"store" values:"junk,store"`
	// Expire is how long a message is held. Then it is deleted.
	Expire time.Duration `config:"expire,fileonly" default:"30d" min:"1h" max:"3650d"`
	// Keep names handlers, or modules for all handlers of theirs, whose quarantine is
	// not lifted for authors who are allowed. What they have quarantined never goes to
	// Junk for want of room, either.
	Keep []string `config:"keep" default:"clamav,attachments"`
	// MaxSize is how many bytes are held on the whole server, where each message counts
	// 2 KiB and 300 bytes an account more than it has. A message beyond it goes to Junk,
	// and one that a handler of keep has quarantined is put off with 452 4.3.1. Messages
	// over 1 MiB get half of it, and of the bounds below, so that a few of them do not
	// take the room of all others. It should be the same wherever the handler stands.
	MaxSize config.Size `config:"max_size,fileonly" default:"1GiB" min:"1MiB"`
	// MaxDomainSize is the same for the accounts of each domain, so that one domain
	// cannot fill the room of all. Without it that is a quarter of max_size where several
	// domains live here; 0 means no bound of its own.
	MaxDomainSize *config.Size `config:"max_domain_size,fileonly"`
	// MaxAccountSize is the same for each account, so that what is sent to one does not
	// fill the room of all. Without it that is a sixteenth of max_size; 0 means no bound
	// of its own. An account has 10,000 messages at most.
	MaxAccountSize *config.Size `config:"max_account_size,fileonly"`
	// Digest sends each account a message once a day that lists what is newly held for
	// it. It comes from postmaster of the account's domain.
	Digest bool `config:"digest" default:"false"`
	// DigestAt is when, as hours and minutes of the server's local time.
	DigestAt string `config:"digest_at" default:"07:00"`

	name    string
	service holder
	now     func() time.Time
	log     *zap.Logger
	clock   clockTime
	bounds  bounds
}

// holder is what the handler needs of the service.
type holder interface {
	hold(ctx context.Context, m *message) error
	withdraw(ctx context.Context, id string) error
	allowing(ctx context.Context, author mail.Address, accounts []string) (map[string]bool, error)
}

// Module describes the handler.
func (*Quarantine) Module() core.Info {
	return core.Info{
		ID:     "handler.quarantine",
		Stages: mail.AtData,
		Holds:  true,
		New:    func() core.Module { return new(Quarantine) },
	}
}

// Provision finds the service that holds the messages.
func (q *Quarantine) Provision(c *core.Context) error {
	service, err := core.Service[*Service](c)
	if err != nil {
		return err
	}
	q.name, q.service, q.now, q.log = c.Name(), service, c.Now(), c.Logger()
	q.clock, _ = parseClock(q.DigestAt)
	q.bounds = bounds{server: q.MaxSize, domain: q.MaxSize, account: q.MaxSize / 16}
	if len(c.Domains().All()) > 1 {
		q.bounds.domain = q.MaxSize / 4
	}
	for _, b := range []struct{ set, of *config.Size }{{q.MaxDomainSize, &q.bounds.domain}, {q.MaxAccountSize, &q.bounds.account}} {
		switch {
		case b.set == nil:
		case *b.set == 0:
			*b.of = q.MaxSize
		default:
			*b.of = *b.set
		}
	}
	return nil
}

// Validate checks the settings against each other.
func (q *Quarantine) Validate() core.Problems {
	var problems core.Problems
	if _, err := parseClock(q.DigestAt); err != nil {
		problems.Errorf("digest_at", "%q is not a time of the day: write hours and minutes, such as \"07:00\"", q.DigestAt)
	}
	if q.MaxDomainSize != nil && *q.MaxDomainSize > q.MaxSize {
		problems.Errorf("max_domain_size", "%s for a domain are more than the %s that max_size has for the whole server", *q.MaxDomainSize, q.MaxSize)
	}
	if q.MaxAccountSize != nil && *q.MaxAccountSize > q.MaxSize {
		problems.Errorf("max_account_size", "%s for an account are more than the %s that max_size has for the whole server", *q.MaxAccountSize, q.MaxSize)
	}
	if q.To == toJunk && q.Digest {
		problems.Warnf("digest", "with to = \"junk\" nothing is held, so that there is nothing to list in a digest")
	}
	return problems
}

var (
	full      = mail.NewReply(452, 3, 1, "Not enough room on this server, try again later")
	temporary = mail.NewReply(451, 3, 0, "Local error in processing, try again later")
	tooMany   = mail.NewReply(550, 5, 3, "Too many recipients for a message of this kind")
)

// maxReason is how many bytes of a reason the trace shows.
const maxReason = 480

// Handle holds a message that is quarantined.
func (q *Quarantine) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	switch {
	case tx.Discarded():
		return mail.Continue("discarded"), nil
	case tx.Quarantined() == "":
		return mail.Continue("not quarantined"), nil
	}
	c := &consideration{Quarantine: q, tx: tx}
	c.by, c.modules = quarantiners(tx)
	c.sort(ctx)
	v := c.act(ctx)
	v.Reason = mail.Printable(v.Reason, maxReason)
	return v, nil
}

// quarantiners names the handlers whose verdict of quarantine holds for the message,
// the first one first, and the module of each. What was said about a recipient that
// was refused does not count.
func quarantiners(tx *mail.Transaction) (names, modules []string) {
	for _, e := range tx.Entries {
		if e.Action != mail.ActionQuarantine || e.Note != "" || slices.Contains(names, e.Handler) {
			continue
		}
		has := func(r *mail.Recipient) bool { return r.Address.String() == e.Recipient }
		if e.Recipient == "" || slices.ContainsFunc(tx.Envelope.Recipients, has) {
			names, modules = append(names, e.Handler), append(modules, e.Module)
		}
	}
	return names, modules
}

// consideration is what is thought about one message.
type consideration struct {
	*Quarantine
	tx *mail.Transaction
	by []string // who quarantined it
	// modules are those of the handlers in by.
	modules []string
	author  author
	// hold are the shares to be held; free are the recipients with accounts that have
	// allowed the author, and which of their accounts; other are recipients without
	// accounts.
	hold  []share
	free  map[*mail.Recipient][]string
	held  []*mail.Recipient // recipients all of whose accounts are in hold
	other int
	// kept is why the author was not asked about although somebody may have allowed
	// him, for the trace.
	kept string
}

// sort finds out for whom the message is held.
func (c *consideration) sort(ctx context.Context) {
	c.author = authorOf(c.tx)
	var accounts []string
	for _, r := range c.tx.Envelope.Recipients {
		if !r.Delivered {
			accounts = append(accounts, r.Accounts...)
		}
	}
	allowed := c.allowed(ctx, accounts)
	c.free = make(map[*mail.Recipient][]string)
	seen := make(map[string]bool)
	for _, r := range c.tx.Envelope.Recipients {
		if r.Delivered {
			continue
		}
		if len(r.Accounts) == 0 {
			c.other++
			continue
		}
		c.divide(r, allowed, seen)
	}
	if len(c.free) > 0 && (c.other > 0 || c.To == toJunk && len(c.hold) > 0) {
		c.kept = "; the author is allowed for some, but not for all recipients, who share this message"
		for _, r := range c.tx.Envelope.Recipients {
			if c.free[r] != nil {
				c.divide(r, nil, seen)
			}
		}
		clear(c.free)
	}
}

// divide puts the accounts of a recipient on either side.
func (c *consideration) divide(r *mail.Recipient, allowed, seen map[string]bool) {
	var free []string
	for _, account := range r.Accounts {
		switch {
		case allowed[account]:
			free = append(free, account)
		case !seen[account]:
			seen[account] = true
			c.hold = append(c.hold, share{account: account, recipient: r.Address.Fold().String()})
		}
	}
	if free != nil {
		c.free[r] = free
		return
	}
	c.held = append(c.held, r)
}

// allowed gives the accounts for which the author's messages are not held. If that
// cannot be read, the message is held.
func (c *consideration) allowed(ctx context.Context, accounts []string) map[string]bool {
	if len(accounts) == 0 || c.author.address.IsNull() {
		return nil
	}
	allowed, err := c.service.allowing(ctx, c.author.address, accounts)
	if err != nil {
		c.log.Warn("cannot find whom the quarantine allows", zap.String(logkey.Message, c.tx.ID), zap.Error(err))
		c.kept = "; whether the author is allowed cannot be read: " + err.Error()
	}
	if len(allowed) == 0 {
		return nil
	}
	switch keeper := c.keeper(); {
	case len(c.by) == 0:
		c.kept = "; the author is allowed, but it is not known who quarantined this"
	case keeper != "":
		c.kept = "; the author is allowed, but not what " + keeper + " quarantines"
	case c.author.authenticated == "":
		c.kept = "; the author is allowed, but " + c.author.why
	default:
		return allowed
	}
	return nil
}

// keeper gives a handler of keep that has quarantined the message, "" if none has.
func (c *consideration) keeper() string {
	for i, name := range c.by {
		if slices.Contains(c.Keep, name) || slices.Contains(c.Keep, c.modules[i]) {
			return name
		}
	}
	return ""
}

// act does what was found to be right.
func (c *consideration) act(ctx context.Context) mail.Verdict {
	would := c.outlook()
	all := len(c.held) > 0 && c.To == toStore && len(c.free) == 0 && c.other == 0
	switch {
	case c.tx.Trial:
		return mail.Continue("trial: " + would)
	case c.tx.Monitored && all:
		return mail.Accept(would)
	case c.tx.Monitored:
		return mail.Continue(would)
	case c.To == toStore && len(c.hold) > 0:
		if v, done := c.store(ctx); done {
			return v
		}
	}
	if len(c.free) > 0 && (c.To == toStore || len(c.hold) == 0) {
		c.lift()
	}
	if all {
		return mail.Accept(would)
	}
	return mail.Continue(would)
}

// outlook says what becomes of the message.
func (c *consideration) outlook() string {
	var parts []string
	if n := len(c.hold); n > 0 && c.To == toStore {
		parts = append(parts, fmt.Sprintf("held as %s for %s until %s", c.tx.ID, names(c.hold), c.now().Add(c.Expire).UTC().Format(time.DateTime+" MST")))
	} else if n > 0 {
		parts = append(parts, "goes to Junk")
	}
	if len(c.free) > 0 {
		parts = append(parts, fmt.Sprintf("not held for %d recipients who allow %s (%s)", len(c.free), c.author.address, c.author.authenticated))
	}
	if c.other > 0 {
		parts = append(parts, fmt.Sprintf("%d recipients have no account here and are left to the target", c.other))
	}
	return strings.Join(parts, "; ") + c.kept
}

// names lists the first of the accounts.
func names(shares []share) string {
	const shown = 3
	list := make([]string, 0, shown)
	for _, s := range shares[:min(len(shares), shown)] {
		list = append(list, s.account)
	}
	text := strings.Join(list, ", ")
	if more := len(shares) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// lift ends the quarantine of those recipients who allow the author. What else was
// said about the message stays.
func (c *consideration) lift() {
	tx := c.tx
	scores, tags := tx.Scores(), tx.Tags()
	tx.SetJudgement(mail.Judgement{})
	for _, s := range scores {
		tx.SetScore(s.Source, s.Points)
	}
	for _, tag := range tags {
		tx.AddTag(tag)
	}
	for r, accounts := range c.free {
		r.Accounts = accounts
	}
}

// store holds the message. If done is false, there is no room, and the target puts
// it into Junk.
func (c *consideration) store(ctx context.Context) (v mail.Verdict, done bool) {
	tx := c.tx
	tx.RemoveHeaderFields("Return-Path")
	tx.AddHeaderField("Return-Path", "<"+tx.Envelope.ReversePath.String()+">")
	defer tx.RemoveHeaderFields("Return-Path")
	m, err := c.message()
	if err == nil {
		err = c.service.hold(ctx, m)
	}
	noRoom := errors.Is(err, errNoRoom) || errors.Is(err, errTooMany)
	if !noRoom && !errors.Is(err, errAccountGone) {
		_, _ = tx.Once(heldKey{}, func() (any, error) { return true, nil })
	}
	switch {
	case err == nil:
		for _, r := range c.held {
			r.Delivered, r.Target = true, c.name
		}
		return mail.Verdict{}, false
	case noRoom && c.keeper() == "":
		c.log.Warn("quarantine does not take the message: it goes to Junk", zap.String(logkey.Message, tx.ID), zap.Error(err))
		clear(c.free)
		c.hold, c.held = nil, nil
		return mail.Continue(err.Error() + ": goes to Junk"), true
	case errors.Is(err, errTooMany):
		return mail.Reject(tooMany, err.Error()), true
	case noRoom, errors.Is(err, store.ErrFull):
		return mail.Defer(full, err.Error()), true
	default:
		return mail.Defer(temporary, err.Error()), true
	}
}

// heldKey marks transactions of which something is held, or may be.
type heldKey struct{}

// maxWithdraw bounds how long it may take to take back what is held.
const maxWithdraw = 10 * time.Second

// Observe takes back what is held of a message that was refused in the end, to all of
// its recipients: the client has it still, and either sends it again or tells its
// author.
func (q *Quarantine) Observe(ctx context.Context, tx *mail.Transaction, outcome mail.Outcome) {
	if outcome.Stage != mail.StageData || !outcome.Refused() {
		return
	}
	if may, _ := tx.Once(heldKey{}, func() (any, error) { return false, nil }); may != true {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxWithdraw)
	defer cancel()
	if err := q.service.withdraw(ctx, tx.ID); err != nil {
		q.log.Error("message is held although it was refused", zap.String(logkey.Message, tx.ID), zap.Error(err))
	}
}

// Interface guards.
var (
	_ core.Observer    = (*Quarantine)(nil)
	_ core.Provisioner = (*Quarantine)(nil)
	_ core.Validator   = (*Quarantine)(nil)
	_ core.Handler     = (*Quarantine)(nil)
)
