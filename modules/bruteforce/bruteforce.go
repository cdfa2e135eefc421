// Package bruteforce is handler.bruteforce: who guesses passwords is blocked, and
// the owner of an account is never locked out by those who do.
//
// Failed logins are counted by network and by account; nothing else is kept of
// them. A network with too many is blocked, by a block in the blocklist, longer
// each time: by failures in a window, by failures in a day, or by the number of
// different accounts that it tries (a password spray). An account at which many
// networks fail together (a botnet, of which each address fails once) is locked,
// in the same way.
//
// A network from which a user has logged in within 30 days is known. Neither a
// block nor a lock holds for a user in a network that is known for him, so that
// he gets in whatever others do there or elsewhere; his own failures there only
// slow him down, and a program of his that has an app password not even that. A
// locked account of which no network is known is open to
// networks that have not failed at it yet, so that its owner's first login goes
// through.
//
// The handler stands before the one that checks passwords. At connect and at
// auth it refuses those who are blocked before anything is hashed. A login at a
// locked account gets the answer of a wrong password, after the same work, so
// that neither text nor time tells the one from the other: what was refused
// stands in the trace.
//
// It learns from how the auth stage ends. 535 from a handler is a failure;
// what was deferred, refused by another reply, by this handler or because a
// handler broke down says nothing about a password. In monitor mode all is
// counted, and nothing is written into the blocklist.
package bruteforce

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

func init() {
	core.Register(new(Service))
	core.Register(new(Bruteforce))
}

// Source is the source of the blocks in the blocklist.
const Source = "bruteforce"

// Bruteforce is the handler and its settings.
type Bruteforce struct {
	// Attempts is how many failed logins of a network within the window block it.
	Attempts int `config:"attempts" default:"5" min:"1" max:"25"`
	// Window is how long a failed login counts.
	Window time.Duration `config:"window" default:"15m" min:"1m" max:"1d"`
	// DayAttempts is how many failed logins of a network within a day block it, so
	// that it does not help to stay below attempts; 0 means any number.
	DayAttempts int `config:"day_attempts" default:"50" min:"0" max:"250"`
	// Usernames is how many different accounts a network may fail at within the
	// window before it is blocked, however few its attempts at each.
	Usernames int `config:"usernames" default:"10" min:"2" max:"250"`
	// Block is how long the first block or lock lasts. Each further one within a
	// week of the end of the last is twice as long.
	Block time.Duration `config:"block" default:"1h" min:"1m" max:"30d"`
	// MaxBlock is how long a block or lock is at most.
	MaxBlock time.Duration `config:"max_block" default:"7d" min:"1m" max:"366d"`
	// AccountAttempts is how many failed logins at an account within the window lock
	// it for unknown networks, if they come from account_networks or more.
	AccountAttempts int `config:"account_attempts" default:"20" min:"2" max:"250"`
	// AccountNetworks is from how many networks these must come.
	AccountNetworks int `config:"account_networks" default:"3" min:"2" max:"250"`
	// AccountDayAttempts is how many within a day lock it as well; 0 means any number.
	AccountDayAttempts int `config:"account_day_attempts" default:"100" min:"0" max:"250"`
	// KnownFactor is how many times more may fail in a network from which users have
	// logged in within the last 30 days. App passwords of users who are known there
	// are tried even then, but for SCRAM, since nobody can guess them.
	KnownFactor int `config:"known_factor" default:"3" min:"1" max:"10"`
	// IPv4Prefix is the length of the networks that are counted and blocked.
	IPv4Prefix int `config:"ipv4_prefix" default:"32" min:"16" max:"32"`
	// IPv6Prefix is the same for IPv6, where one line commonly has a /64.
	IPv6Prefix int `config:"ipv6_prefix" default:"64" min:"32" max:"128"`
	// Exempt lists networks from which nothing is counted and nobody refused, such
	// as that of a web mailer through which all users log in.
	Exempt []netip.Prefix `config:"exempt" example:"192.0.2.10/32"`

	name     string
	limits   limits
	service  *Service
	blocks   blocker
	accounts spender    // nil if no service has accounts
	forms    recognizer // nil if no service has app passwords
	now      func() time.Time
	log      *zap.Logger
	sources  []string
	dry      bool // it blocks nobody, see core.Context.Trial
	// monitor tells that the chain does not act on what the handler says; it is
	// learned from the first stage that ends.
	monitor atomic.Bool
	// unwritten tells that the last block or lock could not be written, so that the
	// log has it once.
	unwritten atomic.Bool
}

// blocker is the service that keeps the blocks.
type blocker interface {
	// AddBlock blocks a network, durably before it returns.
	AddBlock(ctx context.Context, b control.Block) error
	// BlockedBy gives a block of one of the sources that covers an address.
	BlockedBy(addr netip.Addr, now time.Time, sources []string) (control.Block, bool)
}

// spender is the service that knows the accounts.
type spender interface {
	// Spend takes the time of a wrong password.
	Spend(ctx context.Context, s *mail.Session) error
}

// recognizer is the service that makes app passwords.
type recognizer interface {
	// LooksLikeAppPassword tells, by its form alone, whether a password is one of
	// those with at least 128 random bits that the service makes. It takes no time.
	LooksLikeAppPassword(password mail.Secret) bool
}

// Module describes the handler.
func (*Bruteforce) Module() core.Info {
	return core.Info{
		ID:     "handler.bruteforce",
		Stages: mail.AtConnect | mail.AtAuth,
		New:    func() core.Module { return new(Bruteforce) },
	}
}

// Provision finds the services.
func (b *Bruteforce) Provision(c *core.Context) error {
	service, err := core.Service[*Service](c)
	if err != nil {
		return fmt.Errorf("find the memory of failed logins: %w", err)
	}
	blocks, err := core.Service[blocker](c)
	if err != nil {
		return fmt.Errorf("bruteforce needs a blocklist for its blocks: %w", err)
	}
	if accounts, err := core.Service[spender](c); err == nil {
		b.accounts = accounts
	}
	if forms, err := core.Service[recognizer](c); err == nil {
		b.forms = forms
	}
	b.service, b.blocks, b.sources = service, blocks, []string{Source}
	b.name, b.now, b.log, b.dry = c.Name(), c.Now(), c.Logger(), c.Trial()
	b.limits = limits{
		window: b.Window, attempts: b.Attempts, dayAttempts: b.DayAttempts, usernames: b.Usernames,
		accountAttempts: b.AccountAttempts, accountDayAttempts: b.AccountDayAttempts,
		accountNetworks: b.AccountNetworks, knownFactor: b.KnownFactor,
	}
	return nil
}

// Start makes the limits known to those who ask why an address waits.
func (b *Bruteforce) Start() error {
	if !b.dry {
		b.service.attach(b)
	}
	return nil
}

// Cleanup undoes Start. A handler that could not be provisioned has no service.
func (b *Bruteforce) Cleanup() error {
	if b.service != nil {
		b.service.detach(b)
	}
	return nil
}

// Validate checks the settings against each other.
func (b *Bruteforce) Validate() core.Problems {
	var problems core.Problems
	if b.MaxBlock < b.Block {
		problems.Errorf("max_block", "max_block is %s, less than block, %s: write at least that",
			config.FormatDuration(b.MaxBlock), config.FormatDuration(b.Block))
	}
	if b.DayAttempts != 0 && b.DayAttempts < b.Attempts {
		problems.Errorf("day_attempts", "day_attempts is %d, less than attempts, %d, which would never count: write more, or 0",
			b.DayAttempts, b.Attempts)
	}
	if b.AccountDayAttempts != 0 && b.AccountDayAttempts < b.AccountAttempts {
		problems.Errorf("account_day_attempts", "account_day_attempts is %d, less than account_attempts, %d, which would never count: write more, or 0",
			b.AccountDayAttempts, b.AccountAttempts)
	}
	if b.AccountAttempts < b.AccountNetworks {
		problems.Errorf("account_attempts", "account_attempts is %d, less than account_networks, %d: write at least that",
			b.AccountAttempts, b.AccountNetworks)
	}
	for _, n := range b.Exempt {
		if n.Bits() == 0 {
			problems.Errorf("exempt", "%s is the whole internet: nothing would be counted; to switch the handler off, take it out", n)
		}
	}
	return problems
}

// What clients are told.
const (
	textBlocked = "Too many failed logins from your network, try again later"
	textSlow    = "Too many logins at once or in a row, try again later"
)

// refused is word for word what a wrong password gets.
var (
	refused   = mail.NewReply(535, 7, 8, "Authentication credentials invalid")
	temporary = mail.NewReply(454, 7, 0, "Temporary authentication failure, try again later")
)

// Handle refuses networks that are blocked and logins at accounts that are
// locked.
func (b *Bruteforce) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
	if reason := b.excused(addr); reason != "" {
		return mail.Continue(reason), nil
	}
	if tx.Stage != mail.StageAuth {
		return b.connect(addr), nil
	}
	if tx.Credentials == nil {
		return mail.Continue("the login has no credentials"), nil
	}
	return b.auth(ctx, addr, tx)
}

// excused tells why nothing is counted from an address, "" if it is.
func (b *Bruteforce) excused(addr netip.Addr) string {
	if !addr.IsValid() {
		return "the client has no address"
	}
	for _, n := range b.Exempt {
		if n.Contains(addr) {
			return fmt.Sprintf("%s is in the exempt network %s", addr, n)
		}
	}
	return ""
}

// block gives the block of an address, which in monitor mode may be one that was
// not made.
func (b *Bruteforce) block(addr netip.Addr, now time.Time) (control.Block, bool) {
	block, ok := b.blocks.BlockedBy(addr, now, b.sources)
	if !ok && b.monitor.Load() {
		return b.service.tried(networkOf(addr, b.IPv4Prefix, b.IPv6Prefix), now)
	}
	return block, ok
}

func (b *Bruteforce) connect(addr netip.Addr) mail.Verdict {
	now := b.now()
	block, ok := b.block(addr, now)
	switch {
	case !ok:
		return mail.Continue("the client's address is not blocked by " + Source)
	case b.service.Spares(Source, addr, now):
		return mail.Continue(describe(block) + "; users have logged in from this address lately, so only they may")
	default:
		return mail.Defer(mail.NewReply(421, 7, 0, textBlocked), describe(block)+"; see: mox-like blocklist why "+addr.String())
	}
}

// describe says who is blocked, until when and why.
func describe(block control.Block) string {
	return fmt.Sprintf("%s is blocked until %s: %s", block.Network, block.Expires.UTC().Format(time.RFC3339), block.Reason)
}

// auth decides whether a password may be tried.
func (b *Bruteforce) auth(ctx context.Context, addr netip.Addr, tx *mail.Transaction) (mail.Verdict, error) {
	now := b.now()
	a := b.attempt(addr, accountOf(tx.Credentials.Username))
	a.random, a.trial = b.recognizes(tx.Credentials), tx.Trial
	block, blocked := b.block(addr, now)
	d := b.service.decide(a, b.limits, blocked, b.monitor.Load(), now)
	switch d.kind {
	case decidedBlocked:
		return mail.Defer(mail.NewReply(454, 7, 0, textBlocked), describe(block)+"; see: mox-like blocklist why "+addr.String()), nil
	case decidedSlow:
		return mail.Defer(mail.NewReply(454, 7, 0, textSlow), d.reason), nil
	case decidedLocked:
		return b.locked(ctx, tx, d.lock)
	default:
		return mail.Continue(d.reason), nil
	}
}

// recognizes tells credentials that have the form of an app password. Those of
// SCRAM do not show theirs.
func (b *Bruteforce) recognizes(c *mail.Credentials) bool {
	return b.forms != nil && c.Proof == nil && b.forms.LooksLikeAppPassword(c.Password)
}

// locked answers as a wrong password is answered, and as late: a password costs a
// hash, a proof does not.
func (b *Bruteforce) locked(ctx context.Context, tx *mail.Transaction, l control.Lock) (mail.Verdict, error) {
	reason := fmt.Sprintf("account %s is locked until %s for networks from which its user has not logged in lately, whatever the password: %s",
		mail.Printable(l.Account, maxName), l.Expires.UTC().Format(time.RFC3339), l.Reason)
	if b.accounts != nil && tx.Credentials.Proof == nil && !tx.Trial {
		if err := b.accounts.Spend(ctx, tx.Session); err != nil {
			return mail.Defer(temporary, reason+"; a password could not be checked either: "+mail.Printable(err.Error(), maxName)), nil
		}
	}
	return mail.Reject(refused, reason), nil
}

var (
	_ core.Provisioner = (*Bruteforce)(nil)
	_ core.Validator   = (*Bruteforce)(nil)
	_ core.Starter     = (*Bruteforce)(nil)
	_ core.Cleaner     = (*Bruteforce)(nil)
	_ core.Handler     = (*Bruteforce)(nil)
	_ chain.Observer   = (*Bruteforce)(nil)
)
