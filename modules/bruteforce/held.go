package bruteforce

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// attach makes the limits of a handler known until detach is called.
func (s *Service) attach(b *Bruteforce) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers = append(s.handlers, b)
}

// detach forgets a handler, also one that was never attached.
func (s *Service) detach(b *Bruteforce) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers = slices.DeleteFunc(s.handlers, func(o *Bruteforce) bool { return o == b })
}

// Withheld gives why logins from an address have to wait, which no block and no
// lock tells: as many have failed as may.
func (s *Service) Withheld(addr netip.Addr, now time.Time) []control.Block {
	addr = addr.Unmap().WithZone("")
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []control.Block
	for _, h := range s.handlers {
		if h.monitor.Load() || h.excused(addr) != "" {
			continue
		}
		for _, b := range s.waits(h.attempt(addr, ""), h.limits, now) {
			if !slices.Contains(found, b) { // listeners with the same limits
				found = append(found, b)
			}
		}
	}
	return found
}

// waits gives what decide says to strangers in a network, and to the users who are
// known there. It is called with mu held.
func (s *Service) waits(a attempt, l limits, now time.Time) (found []control.Block) {
	src, at := s.failures.sources[a.network], seconds(now)
	if src == nil {
		return nil
	}
	wait := func(who, evidence string, limit int, matters func(event) bool) {
		failed := src.recent(at, l.window, matters)
		if failed < limit {
			return
		}
		found = append(found, control.Block{
			Network: a.network.prefix(), Source: Source, Evidence: evidence,
			Reason:  fmt.Sprintf("%s of %s in %s, the limit is %d", logins(failed), who, config.FormatDuration(l.window), limit),
			Created: time.Unix(int64(src.newest(matters)), 0).UTC(),
			Expires: src.until(at, l.window, limit, matters),
		})
	}
	strangers, owners := l.attempts, l.attempts*l.knownFactor
	if s.known.any(a.home, at) {
		strangers = owners
	}
	wait("users who have not logged in from there lately", "their passwords are not tried until then", strangers, ofStrangers)
	accounts := s.failures.accountsOf(a.network, at)
	slices.Sort(accounts)
	for _, account := range accounts {
		if !s.known.has(account, a.home, at) {
			continue
		}
		name := mail.Printable(account, maxShown)
		wait(name, "this user's password is not tried from there until then", owners,
			func(e event) bool { return e.kind == kindOwner && e.account == account })
	}
	return found
}

// Unlock opens an account, and forgets the failed logins at it, wherever they came
// from, and how often it was locked, so that the next lock is as short as the first
// one. store.ErrNotFound says that there was neither a lock nor a failed login.
func (s *Service) Unlock(ctx context.Context, account string) error {
	account = accountOf(account)
	now := s.now()
	s.mu.Lock()
	l, locked := s.locks[account]
	networks := s.failures.networksOf(account, seconds(now))
	s.mu.Unlock()
	if (!locked || !now.Before(l.Expires)) && len(networks) == 0 {
		return fmt.Errorf("unlock %q: it is not locked, and no login at it has failed within a day: %w", mail.Printable(account, maxName), store.ErrNotFound)
	}
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		tx.AfterCommit(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.locks, account)
			delete(s.offences, subjectOfAccount(account))
			delete(s.failures.targets, account)
			for _, n := range networks {
				s.failures.forgive(n, account)
			}
		})
		for _, n := range networks {
			if err := deleteFailures(tx, n, account); err != nil {
				return err
			}
		}
		return deleteLock(tx, account)
	})
	if err != nil {
		return fmt.Errorf("unlock %q: %w", mail.Printable(account, maxName), err)
	}
	return nil
}

// ForgetNetwork forgets the failed logins from exactly that network, and tells
// whether there were any.
func (s *Service) ForgetNetwork(ctx context.Context, network netip.Prefix) (forgotten bool, err error) {
	n, now := newNetwork(network), s.now()
	s.mu.Lock()
	accounts := s.failures.accountsOf(n, seconds(now))
	s.mu.Unlock()
	if len(accounts) == 0 {
		return false, nil
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		tx.AfterCommit(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, account := range accounts {
				s.failures.forgive(n, account)
			}
		})
		return deleteNetwork(tx, n)
	})
	if err != nil {
		return false, fmt.Errorf("forget failed logins from %s: %w", network, err)
	}
	return true, nil
}
