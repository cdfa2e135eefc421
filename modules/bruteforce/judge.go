package bruteforce

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// limits are a handler's settings as the service needs them.
type limits struct {
	window                           time.Duration
	attempts, dayAttempts, usernames int
	accountAttempts, accountNetworks int
	accountDayAttempts               int
	knownFactor                      int
}

// atOnce is how many times as many logins as may fail may wait for the check of
// their passwords: programs log in with several connections at once, and an
// attacker must not try a hundred passwords before the first has failed.
const atOnce = 4

// attempt is who wants to log in from where.
type attempt struct {
	account string
	network network // by which it is counted
	home    network // by which it is known
	// random tells that the password has the form of an app password, which nobody
	// guesses.
	random bool
	// trial says that nobody logs in: nothing is remembered, and finished not called.
	trial bool
}

// decisions of decide.
type decisionKind uint8

const (
	decidedPass decisionKind = iota
	decidedBlocked
	decidedSlow
	decidedLocked
)

// decision says whether a password may be tried.
type decision struct {
	kind   decisionKind
	reason string
	lock   control.Lock
}

// decide tells whether a login may have its password checked. One that may is
// pending until finished is called. blocked tells that the network is; trial that
// the chain does not act on the decision.
func (s *Service) decide(a attempt, l limits, blocked, trial bool, now time.Time) decision {
	at := seconds(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := s.known.has(a.account, a.home, at)
	if blocked && !owner {
		return decision{kind: decidedBlocked}
	}
	src := s.failures.source(a.network, at)
	defer s.failures.drop(a.network, src)
	limit := l.attempts
	if owner || s.known.any(a.home, at) {
		limit *= l.knownFactor
	}
	matters, most := ofStrangers, atOnce*limit
	if owner {
		matters = func(e event) bool { return e.kind == kindOwner && e.account == a.account }
	}
	failed := src.recent(at, l.window, matters)
	window := config.FormatDuration(l.window)
	switch {
	case failed < limit:
	case owner && a.random:
		most = min(most, maxEvents) // of so many a network is remembered
	default:
		return decision{kind: decidedSlow, reason: fmt.Sprintf("%s from %s in %s, the limit is %d: wait until %s; see: mox-like blocklist why %s",
			logins(failed), a.network, window, limit, src.until(at, l.window, limit, matters).Format(time.RFC3339), a.network.prefix().Addr())}
	}
	if lock, ok := s.lockFor(a, src, owner, trial, now); ok {
		return decision{kind: decidedLocked, lock: lock}
	}
	if failed+src.pending >= most {
		return decision{kind: decidedSlow, reason: fmt.Sprintf("logins from %[2]s: %[1]d wait for their check and %[3]d have failed in %[4]s", src.pending, a.network, failed, window)}
	}
	if !a.trial {
		src.pending++
	}
	return decision{reason: fmt.Sprintf("%s from %s in %s, the limit is %d; no lock of account %s holds there",
		logins(failed), a.network, window, limit, mail.Printable(a.account, maxName))}
}

// ofStrangers are the failures that count for who has not logged in from there
// lately.
func ofStrangers(e event) bool { return e.kind != kindOwner }

// logins counts failed logins in words.
func logins(n int) string {
	switch n {
	case 0:
		return "no failed logins"
	case 1:
		return "1 failed login"
	}
	return fmt.Sprintf("%d failed logins", n)
}

// lockFor gives the lock that holds for a login. What it refuses counts for its
// network, so that nobody has passwords hashed for ever. It is called with mu
// held.
func (s *Service) lockFor(a attempt, src *source, owner, trial bool, now time.Time) (control.Lock, bool) {
	if owner {
		return control.Lock{}, false
	}
	at := seconds(now)
	lock, ok := s.locks[a.account]
	if ok = ok && now.Before(lock.Expires); ok {
		if s.known.empty(a.account, at) && !src.failedAt(a.account) {
			return control.Lock{}, false
		}
		if a.trial {
			return lock, true
		}
		src.events = appendBounded(src.events, event{account: a.account, at: at, kind: kindDenied})
		return lock, true
	}
	if !trial {
		return control.Lock{}, false
	}
	lock, ok = s.trial.locks[a.account]
	return lock, ok && now.Before(lock.Expires)
}

// failedAt tells whether the network has failed at an account within a day.
func (s *source) failedAt(account string) bool {
	return slices.ContainsFunc(s.events, func(e event) bool { return e.account == account })
}

// finished ends what decide has let pass.
func (s *Service) finished(n network) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src := s.failures.sources[n]; src != nil && src.pending > 0 {
		src.pending--
		s.failures.drop(n, src)
	}
}

// finding is why something is to be blocked or locked; the zero finding says
// that it is not.
type finding struct {
	reason, evidence string
}

// failed counts a failed login, and says whether the network is to be blocked
// and the account to be locked. Each is said once: what has been done about it is
// told by blocked, lock, or unjudge.
func (s *Service) failed(a attempt, l limits, trial bool, now time.Time) (block, lock finding) {
	at := seconds(now)
	e := event{account: a.account, at: at}
	s.mu.Lock()
	if s.known.has(a.account, a.home, at) {
		e.kind = kindOwner
	}
	src, target := s.failures.add(a.network, e)
	if target != nil {
		block = s.judgeNetwork(a, src, l, trial, now)
		lock = s.judgeAccount(a, target, l, trial, now)
	}
	s.mu.Unlock()
	s.store.Behind(func(tx *store.Tx) error { return insertFailure(tx, a.network, e) })
	return block, lock
}

// judgeNetwork is called with mu held.
func (s *Service) judgeNetwork(a attempt, src *source, l limits, trial bool, now time.Time) finding {
	if b, ok := s.trial.blocks[a.network]; src.judged || trial && ok && now.Before(b.Expires) {
		return finding{}
	}
	at, factor := seconds(now), 1
	if s.known.any(a.home, at) {
		factor = l.knownFactor
	}
	recent, daily := src.count(at, l.window), src.count(at, day)
	window := config.FormatDuration(l.window)
	var reason string
	switch {
	case recent.accounts >= l.usernames:
		reason = fmt.Sprintf("failed logins at %d accounts in %s, the limit is %d", recent.accounts, window, l.usernames)
	case recent.failures >= l.attempts*factor:
		reason = fmt.Sprintf("%s in %s, the limit is %d", logins(recent.failures), window, l.attempts*factor)
	case l.dayAttempts > 0 && daily.failures >= min(l.dayAttempts*factor, maxEvents):
		reason = fmt.Sprintf("%s within a day, the limit is %d", logins(daily.failures), min(l.dayAttempts*factor, maxEvents))
	default:
		return finding{}
	}
	src.judged = true
	return finding{reason, fmt.Sprintf("%s within a day at %s", logins(daily.failures), some(src.names()))}
}

// judgeAccount is called with mu held.
func (s *Service) judgeAccount(a attempt, t *target, l limits, trial bool, now time.Time) finding {
	locks := s.locks
	if trial {
		locks = s.trial.locks
	}
	if lock, ok := locks[a.account]; t.judged || ok && now.Before(lock.Expires) {
		return finding{}
	}
	at := seconds(now)
	recent, daily := t.count(at, l.window), t.count(at, day)
	var reason string
	switch {
	case recent.failures >= l.accountAttempts && recent.networks >= l.accountNetworks:
		reason = fmt.Sprintf("%d failed logins from %d networks in %s, the limit is %d",
			recent.failures, recent.networks, config.FormatDuration(l.window), l.accountAttempts)
	case l.accountDayAttempts > 0 && daily.failures >= l.accountDayAttempts && daily.networks >= l.accountNetworks:
		reason = fmt.Sprintf("%d failed logins from %d networks within a day, the limit is %d", daily.failures, daily.networks, l.accountDayAttempts)
	default:
		return finding{}
	}
	t.judged = true
	return finding{reason, "tried from " + some(t.origins())}
}

// maxNamed and maxShown bound what evidence says.
const (
	maxNamed = 5
	maxShown = 64
)

// some names the first few of a list.
func some(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i == maxNamed {
			fmt.Fprintf(&b, " and %d more", len(names)-maxNamed)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(mail.Printable(name, maxShown))
	}
	return b.String()
}
