package totp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// defaultDrift is the drift where no handler says another.
const defaultDrift = 1

// Who guesses codes knows the password. Three of a million codes are right at any
// time, so that a guesser must be slowed down wherever he comes from.
const (
	// maxMisses is how many wrong codes in a row an account may have. With the next
	// ones codes are refused for minClosed, twice as long each time, up to
	// maxClosed. Recovery codes and app passwords are not.
	maxMisses = 10
	minClosed = 15 * time.Minute
	maxClosed = 24 * time.Hour
)

// result is what came of a check. The reason is for the operator.
type result struct {
	ok     bool
	reason string
}

// VerifyTOTP tells whether a code or a recovery code is right for an account that
// has a second factor; each is right once. The error is ErrNotEnrolled, or one of
// the key, among others.
func (s *Service) VerifyTOTP(ctx context.Context, account string, code mail.Secret) (bool, error) {
	user, err := normal(account)
	if err != nil {
		return false, fmt.Errorf("verify code of %q: %w", account, err)
	}
	r, err := s.check(ctx, user, code, defaultDrift)
	return r.ok, err
}

// try is check without using up what is right, and without counting what is wrong.
func (s *Service) try(ctx context.Context, user string, code mail.Secret, drift int) (result, error) {
	var r result
	var err error
	if hash, ok := recoveryHash(code.Reveal()); ok {
		r, err = s.findRecovery(ctx, user, hash)
	} else {
		var c candidate
		if r, c, err = s.matchCode(ctx, user, code.Reveal(), drift); err == nil && c.found && c.fresh {
			r = result{ok: true, reason: fmt.Sprintf("code of the step %+d", c.step-stepAt(s.now()))}
		} else if err == nil && c.found {
			r = usedUp
		}
	}
	if err != nil {
		return result{}, fmt.Errorf("try code of %q: %w", user, err)
	}
	return r, nil
}

// findRecovery tells whether a recovery code is right.
func (s *Service) findRecovery(ctx context.Context, user string, hash []byte) (result, error) {
	if !s.isOn(user) {
		return result{}, ErrNotEnrolled
	}
	var found, all int
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow(`SELECT COUNT(CASE WHEN sha256 = ? THEN 1 END), COUNT(*) FROM totp_recovery WHERE account = ?`, hash, user).Scan(&found, &all)
	})
	switch {
	case err != nil:
		return result{}, err
	case found == 0:
		return result{reason: "the recovery code is wrong or was used"}, nil
	default:
		return result{ok: true, reason: fmt.Sprintf("recovery code, %d left", all-1)}, nil
	}
}

// check verifies a code of an account, whose address is in normal form. What is
// right is used up, durably, before check returns.
func (s *Service) check(ctx context.Context, user string, code mail.Secret, drift int) (result, error) {
	var r result
	var err error
	if hash, ok := recoveryHash(code.Reveal()); ok {
		r, err = s.redeem(ctx, user, hash)
	} else {
		r, err = s.checkCode(ctx, user, code.Reveal(), drift)
	}
	if err != nil {
		return result{}, fmt.Errorf("verify code of %q: %w", user, err)
	}
	return r, nil
}

// redeem uses up a recovery code.
func (s *Service) redeem(ctx context.Context, user string, hash []byte) (result, error) {
	if !s.isOn(user) {
		return result{}, ErrNotEnrolled
	}
	var left int
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		gone, err := tx.Exec(`DELETE FROM totp_recovery WHERE account = ? AND sha256 = ?`, user, hash)
		if err == nil && gone.RowsAffected == 0 {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE totp SET last_used = ? WHERE account = ?`, s.now().UnixMicro(), user); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT COUNT(*) FROM totp_recovery WHERE account = ?`, user).Scan(&left)
	})
	if errors.Is(err, store.ErrNotFound) {
		return result{reason: "the recovery code is wrong or was used"}, nil
	}
	if err != nil {
		return result{}, err
	}
	s.log.Warn("a recovery code was used", zap.String(logkey.User, user), zap.Int("left", left))
	return result{ok: true, reason: fmt.Sprintf("recovery code, %d left", left)}, nil
}

// usedUp is the result of a code that was right once.
var usedUp = result{reason: "the code was used already, or one that came after it"}

// candidate is what six digits may be.
type candidate struct {
	sealed []byte // the secret
	step   int64
	// tried tells that they were compared, found that they are a code of the step,
	// fresh that the step was not used yet.
	tried, found, fresh bool
}

// matchCode looks for the step of six digits. The result holds unless one is found.
func (s *Service) matchCode(ctx context.Context, user, code string, drift int) (result, candidate, error) {
	if !isCode(code) {
		return result{reason: "this is neither a code nor a recovery code"}, candidate{}, nil
	}
	if until := s.closedUntil(user); !until.IsZero() {
		return result{reason: fmt.Sprintf("%d or more wrong codes in a row: codes are refused until %s, recovery codes are not",
			maxMisses, until.UTC().Format(time.RFC3339))}, candidate{}, nil
	}
	r, err := s.find(ctx, user)
	if err != nil {
		return result{}, candidate{}, err
	}
	if !r.confirmed {
		return result{}, candidate{}, ErrNotEnrolled
	}
	secret, err := s.open(user, r)
	if err != nil {
		return result{}, candidate{}, err
	}
	c := candidate{sealed: r.secret, tried: true}
	c.step, c.found, c.fresh, err = match(secret, code, stepAt(s.now()), drift, r.lastStep)
	return result{reason: "wrong code"}, c, err
}

// checkCode verifies six digits.
func (s *Service) checkCode(ctx context.Context, user, code string, drift int) (result, error) {
	r, c, err := s.matchCode(ctx, user, code, drift)
	switch {
	case err != nil || !c.tried:
		return r, err
	case !c.found:
		s.missed(user)
		return r, nil
	case c.fresh:
		c.fresh, err = s.use(ctx, user, c.sealed, c.step)
	}
	if err != nil {
		return result{}, err
	}
	if !c.fresh {
		return usedUp, nil
	}
	s.hit(user)
	return result{ok: true, reason: fmt.Sprintf("code of the step %+d", c.step-stepAt(s.now()))}, nil
}

// use takes a step, durably, and tells whether nobody took it or a later one
// before.
func (s *Service) use(ctx context.Context, user string, sealed []byte, step int64) (bool, error) {
	var first bool
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		taken, err := tx.Exec(`UPDATE totp SET last_step = ?, last_used = ? WHERE account = ? AND secret = ? AND confirmed = 1 AND last_step < ?`,
			step, s.now().UnixMicro(), user, sealed, step)
		first = taken.RowsAffected == 1
		return err
	})
	return first && err == nil, err
}

// open decrypts a row's secret.
func (s *Service) open(user string, r row) ([]byte, error) {
	k, err := s.keys.get()
	if err != nil {
		return nil, err
	}
	return k.open(user, r.keyID, r.secret)
}

// closedUntil gives until when an account's codes are refused, the zero time if
// they are not.
func (s *Service) closedUntil(user string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.states[user]
	if !ok || !s.now().Before(state.closed) {
		return time.Time{}
	}
	return state.closed
}

// missed counts a wrong code.
func (s *Service) missed(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.states[user]
	if !ok {
		return
	}
	state.misses++
	if state.misses%maxMisses != 0 {
		return
	}
	// After seven times it stays at maxClosed.
	d := min(maxClosed, minClosed<<min(state.misses/maxMisses-1, 7))
	state.closed = s.now().Add(d)
	s.log.Warn("wrong codes in a row: somebody may know the password", zap.String(logkey.User, user),
		zap.Int("codes", state.misses), zap.Time("until", state.closed))
}

// hit forgets wrong codes after a right one.
func (s *Service) hit(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, ok := s.states[user]; ok {
		state.misses, state.closed = 0, time.Time{}
	}
}
