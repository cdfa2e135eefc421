package bruteforce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// maxKeys bounds how many networks and how many accounts are remembered, each:
// some 150 bytes for one with a single failure. Every failure costs the server a
// password hash, so that nobody gets there within a window.
const maxKeys = 1_000_000

// quiet is how long after its end a block or lock is remembered. The next one
// within that time is twice as long.
const quiet = 7 * 24 * time.Hour

// Service is service.bruteforce: the memory that all handlers of the kind share,
// whatever their listener or domain. It is safe for concurrent use.
type Service struct {
	store *store.Store
	now   func() time.Time

	mu       sync.Mutex
	failures *failures
	known    *known
	locks    map[string]control.Lock
	// offences are the blocks and locks that there were, by subject.
	offences map[string]offence
	// trial has what handlers in monitor mode would have done.
	trial trial
	// handlers are those that are started.
	handlers []*Bruteforce
}

// offence is how often a subject has been blocked or locked.
type offence struct {
	count  int
	last   uint32 // when the last one began: what was before counts no more
	forget uint32
}

// trial are the blocks and locks that are not in force.
type trial struct {
	blocks map[network]control.Block
	locks  map[string]control.Lock
}

// Subjects of offences.
func subjectOf(n network) string       { return "network " + n.String() }
func subjectOfAccount(a string) string { return "account " + a }

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{ID: "service.bruteforce", New: func() core.Module { return new(Service) }}
}

// Provision takes the store and the clock.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now = c.Store(), c.Now()
	s.failures, s.known = newFailures(maxKeys), newKnown()
	s.locks, s.offences = make(map[string]control.Lock), make(map[string]offence)
	s.trial = trial{blocks: make(map[network]control.Block), locks: make(map[string]control.Lock)}
	return nil
}

// Start reads what was known before a restart.
func (s *Service) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(context.Background(), s.now()); err != nil {
		return fmt.Errorf("read failed logins: %w", err)
	}
	return nil
}

// Spares tells that a block of this package's handlers must not close an address
// altogether, since a user has logged in from there lately: the handlers tell him
// from the others.
func (s *Service) Spares(source string, addr netip.Addr, now time.Time) bool {
	if source != Source {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known.any(homeOf(addr.Unmap()), seconds(now))
}

// Locks lists the accounts that are locked, by name, and gives the After of the
// next page, "" at the end.
func (s *Service) Locks(_ context.Context, p control.Page) (list []control.Lock, next string, err error) {
	now, limit := s.now(), p.Limit
	if limit <= 0 || limit > control.MaxPage {
		limit = control.MaxPage
	}
	list = []control.Lock{}
	s.mu.Lock()
	for account, l := range s.locks {
		if account > p.After && now.Before(l.Expires) {
			list = append(list, l)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b control.Lock) int { return strings.Compare(a.Account, b.Account) })
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].Account
	}
	return list, next, nil
}

// Measure gives the sizes of what is remembered.
func (s *Service) Measure() []core.Figure {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	locked := 0
	for _, l := range s.locks {
		if now.Before(l.Expires) {
			locked++
		}
	}
	return []core.Figure{
		{Name: "failing_networks", Help: "Networks from which logins have failed within a day.", Value: float64(len(s.failures.sources))},
		{Name: "failing_accounts", Help: "Accounts at which logins have failed within a day.", Value: float64(len(s.failures.targets))},
		{Name: "locked_accounts", Help: "Accounts that are closed to unknown networks.", Value: float64(locked)},
	}
}

// succeeded notes a good login: it clears the failures of that network at that
// account, and of no other, and makes the address known. An app password clears
// none: it passes whatever has failed, and a program that uses it all the time
// would give a guesser in the same network one attempt after the other.
func (s *Service) succeeded(a attempt, now time.Time) {
	at := seconds(now)
	s.mu.Lock()
	forgiven := !a.random && s.failures.forgive(a.network, a.account)
	fresh := s.known.add(a.account, a.home, at)
	s.mu.Unlock()
	if forgiven {
		s.store.Behind(func(tx *store.Tx) error { return deleteFailures(tx, a.network, a.account) })
	}
	if fresh {
		s.store.Behind(func(tx *store.Tx) error { return insertKnown(tx, a.account, a.home, now) })
	}
}

// term gives how long the next block or lock of a subject is: base, doubled for
// each one that there was lately, and at most longest.
func (s *Service) term(subject string, base, longest time.Duration, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.offences[subject]
	if o.forget <= seconds(now) {
		return base
	}
	for range o.count {
		if base *= 2; base >= longest {
			return longest
		}
	}
	return base
}

// next gives the offence of a subject that is blocked or locked until a time. It
// is called with mu held.
func (s *Service) next(subject string, now, until time.Time) offence {
	o := s.offences[subject]
	if o.forget <= seconds(now) {
		o.count = 0
	}
	return offence{count: o.count + 1, last: seconds(now), forget: seconds(until.Add(quiet))}
}

// offended notes an offence. It is called with mu held.
func (s *Service) offended(subject string, o offence) {
	tidy(s.offences, maxKeys, func(other offence) int {
		if other.forget <= o.last {
			return 0
		}
		return other.count
	})
	s.offences[subject] = o
}

// lock closes an account, durably before it returns.
func (s *Service) lock(ctx context.Context, l control.Lock) error {
	subject := subjectOfAccount(l.Account)
	s.mu.Lock()
	o := s.next(subject, l.Created, l.Expires)
	s.mu.Unlock()
	return s.store.Write(ctx, func(tx *store.Tx) error {
		tx.AfterCommit(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			putLock(s.locks, l)
			s.offended(subject, o)
			delete(s.failures.targets, l.Account)
		})
		if err := insertOffence(tx, subject, o); err != nil {
			return err
		}
		return insertLock(tx, l)
	})
}

func putLock(locks map[string]control.Lock, l control.Lock) {
	tidy(locks, maxKeys, func(o control.Lock) int {
		if !l.Created.Before(o.Expires) {
			return 0
		}
		return int(o.Expires.Unix())
	})
	locks[l.Account] = l
}

// blocked notes that the blocklist has a block, so that the failures which led
// to it count no more.
func (s *Service) blocked(n network, b control.Block) {
	subject := subjectOf(n)
	s.mu.Lock()
	o := s.next(subject, b.Created, b.Expires)
	s.offended(subject, o)
	s.clear(n)
	s.mu.Unlock()
	s.store.Behind(func(tx *store.Tx) error { return insertOffence(tx, subject, o) })
}

// clear forgets the failures of a network. It is called with mu held.
func (s *Service) clear(n network) {
	if src := s.failures.sources[n]; src != nil {
		src.events, src.judged = nil, false
		s.failures.drop(n, src)
	}
}

// try notes a block that a handler in monitor mode would have made.
func (s *Service) try(n network, b control.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tidy(s.trial.blocks, maxKeys, func(o control.Block) int {
		if !b.Created.Before(o.Expires) {
			return 0
		}
		return int(o.Expires.Unix())
	})
	s.trial.blocks[n] = b
}

// tryLock is try for a lock.
func (s *Service) tryLock(l control.Lock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	putLock(s.trial.locks, l)
}

// tried gives the block of a network that is not in force.
func (s *Service) tried(n network, now time.Time) (control.Block, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.trial.blocks[n]
	return b, ok && now.Before(b.Expires)
}

// unjudge lets the next failure of a network or account be judged again, after a
// block or lock could not be written.
func (s *Service) unjudge(n network, account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src := s.failures.sources[n]; src != nil {
		src.judged = false
	}
	if t := s.failures.targets[account]; t != nil {
		t.judged = false
	}
}

var errBroken = errors.New("a row is broken")

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
)
