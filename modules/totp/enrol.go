package totp

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// The states of an account's second factor.
const (
	stateOff     = "off"
	statePending = "pending"
	stateOn      = "on"
)

// Errors of enrolment, to be compared with errors.Is.
var (
	// ErrNoAccount is returned when there is no account of that address. It is a
	// store.ErrNotFound.
	ErrNoAccount = fmt.Errorf("an account of this address: %w", store.ErrNotFound)
	// ErrNotEnrolled is returned when the account has no second factor, nor one that
	// waits for its first code. It is a store.ErrNotFound.
	ErrNotEnrolled = fmt.Errorf("a second factor of the account: %w", store.ErrNotFound)
	// ErrEnrolled is returned when the account has a second factor already. It is a
	// store.ErrExists.
	ErrEnrolled = fmt.Errorf("a second factor of the account %w: remove it before you enrol another", store.ErrExists)
	// ErrCode is returned when the first code is wrong. It is a control.ErrInvalid.
	ErrCode = control.Invalid(errors.New("the code is wrong: type the six digits that the authenticator shows now, and check that the clocks of both are right"))
)

// EnrolTOTP begins an enrolment: it makes a secret and recovery codes, which are
// shown now and never again. The second factor is in force once ConfirmTOTP has
// seen a first code; until then another enrolment replaces this one. Errors are
// ErrNoAccount, ErrEnrolled and those of the key among others.
func (s *Service) EnrolTOTP(ctx context.Context, account string) (control.Enrolment, error) {
	fail := func(err error) (control.Enrolment, error) {
		return control.Enrolment{}, fmt.Errorf("enrol second factor of %q: %w", account, err)
	}
	user, err := normal(account)
	if err != nil {
		return fail(err)
	}
	k, err := s.keyForNew(ctx)
	if err != nil {
		return fail(err)
	}
	secret := make([]byte, secretSize)
	rand.Read(secret)
	codes := newRecoveryCodes()
	err = s.store.Write(ctx, func(tx *store.Tx) error { return s.insert(tx, user, k, secret, codes) })
	if err != nil {
		return fail(err)
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	return control.Enrolment{Account: user, Secret: mail.Secret(text), URI: keyURI(s.issuer, user, text), RecoveryCodes: codes}, nil
}

// keyForNew gives the key for another secret. It makes one only if there are no
// secrets yet: those that there are would be lost by a new key.
func (s *Service) keyForNew(ctx context.Context) (*key, error) {
	var id string
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow(`SELECT key_id FROM totp LIMIT 1`).Scan(&id)
	})
	if errors.Is(err, store.ErrNotFound) {
		return s.keys.make()
	}
	if err != nil {
		return nil, err
	}
	return s.keyOf(id)
}

// insert writes a pending second factor over one that is pending.
func (s *Service) insert(tx *store.Tx, user string, k *key, secret []byte, codes []mail.Secret) error {
	there, err := s.accounts.ExistsIn(tx, user)
	if err != nil {
		return err
	}
	if !there {
		return ErrNoAccount
	}
	var confirmed bool
	err = tx.QueryRow(`SELECT confirmed FROM totp WHERE account = ?`, user).Scan(&confirmed)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if confirmed {
		return ErrEnrolled
	}
	if _, err := removeRows(tx, user); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO totp (account, secret, key_id, confirmed, append_code, last_step, enrolled, last_used) VALUES (?, ?, ?, 0, 0, -1, ?, 0)`,
		user, k.seal(user, secret), k.id, s.now().UnixMicro())
	if err != nil {
		return err
	}
	for _, code := range codes {
		hash, _ := recoveryHash(code.Reveal())
		if _, err := tx.Exec(`INSERT INTO totp_recovery (account, sha256) VALUES (?, ?)`, user, hash); err != nil {
			return err
		}
	}
	return nil
}

// keyURI is what authenticators read from a QR code
// (https://github.com/google/google-authenticator/wiki/Key-Uri-Format).
func keyURI(issuer, account, secret string) mail.Secret {
	u := url.URL{
		Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + account,
		// Not url.Values: some authenticators take a + for what it is.
		RawQuery: "secret=" + secret + "&issuer=" + url.PathEscape(issuer) +
			"&algorithm=SHA1&digits=" + strconv.Itoa(digits) + "&period=" + strconv.Itoa(period),
	}
	return mail.Secret(u.String())
}

// ConfirmTOTP puts a pending second factor in force, since the code shows that the
// user's authenticator has the secret. That code is used by it. Errors are
// ErrNotEnrolled, ErrEnrolled, ErrCode and those of the key among others.
func (s *Service) ConfirmTOTP(ctx context.Context, account string, code mail.Secret) error {
	if err := s.confirm(ctx, account, code); err != nil {
		return fmt.Errorf("confirm second factor of %q: %w", account, err)
	}
	return nil
}

func (s *Service) confirm(ctx context.Context, account string, code mail.Secret) error {
	user, err := normal(account)
	if err != nil {
		return err
	}
	r, err := s.find(ctx, user)
	if err != nil {
		return err
	}
	if r.confirmed {
		return ErrEnrolled
	}
	secret, err := s.open(user, r)
	if err != nil {
		return err
	}
	step, found, _, err := match(secret, code.Reveal(), stepAt(s.now()), defaultDrift, r.lastStep)
	if err != nil {
		return err
	}
	if !found {
		return ErrCode
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`UPDATE totp SET confirmed = 1, last_step = ?, last_used = ? WHERE account = ? AND confirmed = 0 AND secret = ?`,
			step, s.now().UnixMicro(), user, r.secret)
		if err == nil && result.RowsAffected == 0 {
			err = ErrNotEnrolled // another enrolment or the end of this one came first
		}
		if err != nil {
			return err
		}
		var appendCode bool
		if err := tx.QueryRow(`SELECT append_code FROM totp WHERE account = ?`, user).Scan(&appendCode); err != nil {
			return err
		}
		tx.AfterCommit(func() {
			s.turnOn(user, r.keyID, appendCode)
			s.log.Info("second factor is on", zap.String(logkey.User, user))
		})
		return nil
	})
}

// RemoveTOTP ends an account's second factor, or the enrolment of one. The error
// is ErrNotEnrolled among others.
func (s *Service) RemoveTOTP(ctx context.Context, account string) error {
	user, err := normal(account)
	if err != nil {
		return fmt.Errorf("remove second factor of %q: %w", account, err)
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		if there, err := removeRows(tx, user); err != nil || !there {
			return errors.Join(err, notEnrolled(there))
		}
		tx.AfterCommit(func() {
			s.turnOff(user)
			s.log.Info("second factor is off", zap.String(logkey.User, user))
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove second factor of %q: %w", user, err)
	}
	return nil
}

// notEnrolled is ErrNotEnrolled unless the second factor is there.
func notEnrolled(there bool) error {
	if there {
		return nil
	}
	return ErrNotEnrolled
}

// SetAppendCode says whether clients may send the code behind the account's
// password, such as "password123456". The error is ErrNotEnrolled among others.
//
// Where it is on, and enforce is off at a listener, a password that itself ends in
// six digits must be followed by a code there too.
func (s *Service) SetAppendCode(ctx context.Context, account string, on bool) error {
	user, err := normal(account)
	if err != nil {
		return fmt.Errorf("set place of code of %q: %w", account, err)
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`UPDATE totp SET append_code = ? WHERE account = ?`, on, user)
		if err != nil || result.RowsAffected == 0 {
			return errors.Join(err, notEnrolled(result.RowsAffected > 0))
		}
		tx.AfterCommit(func() { s.setAppendCode(user, on) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("set place of code of %q: %w", user, err)
	}
	return nil
}

func (s *Service) setAppendCode(account string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, ok := s.states[account]; ok {
		state.appendCode = on
	}
}

// SecondFactor tells how an account stands. The error is ErrNoAccount among
// others.
func (s *Service) SecondFactor(ctx context.Context, account string) (control.SecondFactor, error) {
	fail := func(err error) (control.SecondFactor, error) {
		return control.SecondFactor{}, fmt.Errorf("find second factor of %q: %w", account, err)
	}
	user, err := normal(account)
	if err != nil {
		return fail(err)
	}
	r, err := s.find(ctx, user)
	if errors.Is(err, ErrNotEnrolled) {
		if err := s.mustExist(ctx, user); err != nil {
			return fail(err)
		}
		return control.SecondFactor{Account: user, State: stateOff}, nil
	}
	if err != nil {
		return fail(err)
	}
	f := control.SecondFactor{
		Account: user, State: statePending, AppendCode: r.appendCode, Enrolled: time.UnixMicro(r.enrolled), RecoveryCodes: r.recovery,
	}
	if r.confirmed {
		f.State = stateOn
	}
	if r.lastUsed > 0 {
		f.LastUsed = time.UnixMicro(r.lastUsed)
	}
	return f, nil
}

func (s *Service) mustExist(ctx context.Context, user string) error {
	return s.store.Read(ctx, func(sn *store.Snapshot) error {
		there, err := s.accounts.ExistsIn(sn, user)
		if err == nil && !there {
			err = ErrNoAccount
		}
		return err
	})
}
