package bruteforce

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// writeTimeout is how long a block or lock may take to be written.
const writeTimeout = 10 * time.Second

// codeWrong is the reply by which handlers say that credentials are wrong (RFC
// 4954 section 6).
const codeWrong = 535

// attempt describes a login.
func (b *Bruteforce) attempt(addr netip.Addr, account string) attempt {
	return attempt{account: account, network: networkOf(addr, b.IPv4Prefix, b.IPv6Prefix), home: homeOf(addr)}
}

// Observe learns from how a login ended, and whether the chain acts on what the
// handler says.
func (b *Bruteforce) Observe(ctx context.Context, tx *mail.Transaction, outcome mail.Outcome) {
	own := entryOf(tx, outcome.Stage, b.name)
	if own != nil && (own.Note == "" || own.Note == chain.NoteMonitor) {
		if monitor := own.Note == chain.NoteMonitor; b.monitor.Load() != monitor {
			b.monitor.Store(monitor)
		}
	}
	if outcome.Stage != mail.StageAuth || tx.Credentials == nil || own != nil && own.Note == chain.NoteSkipped {
		return
	}
	addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
	if b.excused(addr) != "" {
		return
	}
	a := b.attempt(addr, accountOf(tx.Credentials.Username))
	if own != nil && own.Action == mail.ActionContinue && own.Note != chain.NoteError && own.Note != chain.NoteTimeout {
		b.service.finished(a.network)
	}
	switch {
	case !outcome.Refused():
		a.account = accountOf(tx.Authenticated())
		a.random = tx.Credentials.AppPassword != "" && b.recognizes(tx.Credentials)
		b.service.succeeded(a, b.now())
	case b.wrong(tx, outcome):
		b.failed(context.WithoutCancel(ctx), a)
	}
}

// entryOf gives the last answer of a handler at a stage, nil if it was not asked.
func entryOf(tx *mail.Transaction, stage mail.Stage, name string) *mail.Entry {
	for i := len(tx.Entries) - 1; i >= 0; i-- {
		if e := &tx.Entries[i]; e.Stage == stage && e.Handler == name {
			return e
		}
	}
	return nil
}

// wrong tells whether a handler found that the credentials are wrong. The chain
// itself may refuse, or say so for a handler that broke down: that tells nothing
// about them.
func (b *Bruteforce) wrong(tx *mail.Transaction, outcome mail.Outcome) bool {
	if outcome.Reply.Code != codeWrong || outcome.Handler == "" || outcome.Handler == b.name {
		return false
	}
	e := entryOf(tx, outcome.Stage, outcome.Handler)
	return e == nil || e.Note == ""
}

// failed counts, blocks and locks. A client that hangs up does not escape: ctx
// does not end with its session.
func (b *Bruteforce) failed(ctx context.Context, a attempt) {
	now, trial := b.now().UTC(), b.monitor.Load()
	block, lock := b.service.failed(a, b.limits, trial, now)
	if block.reason == "" && lock.reason == "" {
		return
	}
	defer b.service.unjudge(a.network, a.account)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var err error
	if block.reason != "" {
		err = b.blockNetwork(ctx, a.network, block, trial, now)
	}
	if lock.reason != "" {
		if lockErr := b.lockAccount(ctx, a.account, lock, trial, now); lockErr != nil {
			err = lockErr
		}
	}
	if err == nil {
		b.unwritten.Store(false)
	} else if !b.unwritten.Swap(true) {
		b.log.Error("blocks and locks are not written, the next failed login tries again", zap.Error(err))
	}
}

func (b *Bruteforce) blockNetwork(ctx context.Context, n network, f finding, trial bool, now time.Time) error {
	block := control.Block{
		Network: n.prefix(), Source: Source, Reason: f.reason, Evidence: f.evidence, Created: now,
		Expires: now.Add(b.service.term(subjectOf(n), b.Block, b.MaxBlock, now)),
	}
	if trial {
		b.service.try(n, block)
		return nil
	}
	if err := b.blocks.AddBlock(ctx, block); err != nil {
		return err
	}
	b.service.blocked(n, block)
	b.log.Info("network blocked", zap.Stringer(logkey.RemoteIP, block.Network), zap.String(logkey.Reason, f.reason),
		zap.String("evidence", f.evidence), zap.Time("expires", block.Expires))
	return nil
}

func (b *Bruteforce) lockAccount(ctx context.Context, account string, f finding, trial bool, now time.Time) error {
	lock := control.Lock{
		Account: account, Reason: f.reason, Evidence: f.evidence, Created: now,
		Expires: now.Add(b.service.term(subjectOfAccount(account), b.Block, b.MaxBlock, now)),
	}
	if trial {
		b.service.tryLock(lock)
		return nil
	}
	if err := b.service.lock(ctx, lock); err != nil {
		return err
	}
	b.log.Info("account locked for unknown networks", zap.String(logkey.User, mail.Printable(account, maxName)), zap.String(logkey.Reason, f.reason),
		zap.String("evidence", f.evidence), zap.Time("expires", lock.Expires))
	return nil
}
