package accounts

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// Answer is what Verify found.
type Answer struct {
	// Address is the account's, in normal form, whether the credentials are right
	// or not; "" means that there is no such account. The client must learn neither.
	Address string
	// OK tells that they are right.
	OK bool
	// Reason says more for the operator, such as which app password it was; it may
	// be "".
	Reason string
	// Quick tells that a right password was found so without a hash, and so in less
	// time than a wrong one takes: whoever refuses the login nevertheless calls
	// Spend before the client is told.
	Quick bool
	// Accepted is to be called once all handlers of the auth stage have let the client
	// in; nil means that there is nothing to do. Until then right credentials are
	// treated as wrong ones are: the turn at the processor rests, nothing is
	// remembered, and the network is not taken for one that users are in.
	Accepted func(ctx context.Context)
}

// Verify tells whether the credentials of a session are right. It sets AppPassword
// and Code of c. An error means that it could not be found out.
//
// A password costs one argon2id hash, also when the user is unknown, and waits
// for its turn until ctx ends. App passwords that are right, and right passwords
// by which a client was let in a short while ago, cost none.
func (a *Accounts) Verify(ctx context.Context, s *mail.Session, c *mail.Credentials) (Answer, error) {
	user, row, err := a.find(ctx, c.Username)
	if err != nil {
		return Answer{}, fmt.Errorf("verify credentials: %w", err)
	}
	answer := Answer{Address: user}
	if c.Proof != nil {
		err = a.verifyProof(ctx, s, c, row, &answer)
	} else {
		err = a.verifyPassword(ctx, s, c, row, &answer)
	}
	if err != nil {
		return Answer{Address: user}, fmt.Errorf("verify credentials of account %q: %w", user, err)
	}
	answer.OK = answer.OK && user != ""
	if !answer.OK {
		answer.Accepted = nil
		return answer, nil
	}
	from, more := networkOf(s.RemoteAddr.Addr()), answer.Accepted
	answer.Accepted = func(ctx context.Context) {
		a.hasher.turns.welcome(from)
		if more != nil {
			more(ctx)
		}
	}
	return answer, nil
}

// Spend takes the time of a wrong password, see Answer.Quick.
func (a *Accounts) Spend(ctx context.Context, s *mail.Session) error {
	if _, err := a.hasher.verify(ctx, networkOf(s.RemoteAddr.Addr()), a.hasher.dummy, ""); err != nil {
		return fmt.Errorf("spend the time of a password: %w", err)
	}
	return nil
}

// ScramKeys gives the keys of a user. Those of an unknown one are made up and
// stay the same.
func (a *Accounts) ScramKeys(ctx context.Context, username string) (mail.ScramKeys, error) {
	_, row, err := a.find(ctx, username)
	if err != nil {
		return mail.ScramKeys{}, fmt.Errorf("find SCRAM keys: %w", err)
	}
	keys, err := decodeScram(row.scram)
	if err != nil {
		return mail.ScramKeys{}, fmt.Errorf("find SCRAM keys of %q: %w", username, err)
	}
	return keys, nil
}

// find reads an account's row. If there is none, user is "" and the row is a
// made-up one that no credentials fit. It is made for known users too, so that
// all is the same for both.
func (a *Accounts) find(ctx context.Context, username string) (user string, row protected, err error) {
	name, valid := normal(username)
	if !valid {
		name = username // no account has it
	}
	row = protected{password: a.hasher.dummy, scram: encodeScram(fakeScramKeys(a.secret, name))}
	err = a.store.Read(ctx, func(s *store.Snapshot) error {
		return s.QueryRow(`SELECT password, scram FROM accounts WHERE address = ?`, name).Scan(&row.password, &row.scram)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", row, nil
	case err != nil:
		return "", protected{}, fmt.Errorf("read account: %w", err)
	}
	return name, row, nil
}

// verifyPassword checks a password that the client has sent: as an app password
// if it looks like one, then as the account's own.
func (a *Accounts) verifyPassword(ctx context.Context, s *mail.Session, c *mail.Credentials, row protected, answer *Answer) error {
	plain := c.Password.Reveal()
	if plain == "" || len(plain) > maxPassword || strings.IndexByte(plain, 0) >= 0 {
		return nil
	}
	app, reason, err := a.verifyAppPassword(ctx, s, answer.Address, plain)
	if err != nil {
		return err
	}
	answer.Reason = reason
	if app != nil {
		c.AppPassword, answer.OK, answer.Quick = app.Name, true, true
		answer.Accepted = a.using(s, app)
		return nil
	}
	if err := a.splitCode(ctx, answer.Address, c, &plain); err != nil {
		return err
	}
	prepared := prepare(plain)
	if c.Code == "" && a.recent.has(row.password, prepared, a.now()) {
		answer.OK, answer.Quick = true, true
		return nil
	}
	from := networkOf(s.RemoteAddr.Addr())
	found, err := a.hasher.verify(ctx, from, row.password, prepared)
	if err != nil || !found.ok {
		return err
	}
	answer.OK = true
	user, withCode := answer.Address, c.Code != ""
	answer.Accepted = func(ctx context.Context) {
		found.release()
		switch {
		case found.outdated:
			a.renew(ctx, from, user, row, prepared)
		case !withCode: // no code is good twice: nobody comes back with it
			a.recent.add(row.password, prepared, a.now())
		}
	}
	return nil
}

// verifyAppPassword gives the user's app password that plain is, nil if it is none
// that lets this session in. The reason is "" if it does not look like one.
func (a *Accounts) verifyAppPassword(ctx context.Context, s *mail.Session, user, plain string) (p *appPassword, reason string, err error) {
	id, bare, ok := parseAppPassword(plain)
	if !ok {
		return nil, "", nil
	}
	err = a.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		p, err = scanAppPassword(sn.QueryRow(selectApp+` WHERE id = ?`, id))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Sprintf("there is no app password %s, or it was revoked", id), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read app password: %w", err)
	}
	sum := sha256.Sum256([]byte(bare))
	switch right := subtle.ConstantTimeCompare(sum[:], p.sum) == 1; {
	case !right:
		return nil, fmt.Sprintf("it has the id of app password %s and is another one", id), nil
	case p.Account != user:
		return nil, fmt.Sprintf("app password %s is that of %s", id, p.Account), nil
	}
	if ok, reason = a.admit(s, p); !ok {
		return nil, reason, nil
	}
	return p, reason, nil
}

// admit tells whether an app password that a client has lets this session in, and
// the reason.
func (a *Accounts) admit(s *mail.Session, p *appPassword) (ok bool, reason string) {
	now := a.now()
	switch {
	case !p.Expires.IsZero() && !now.Before(p.Expires):
		return false, fmt.Sprintf("app password %q (%s) expired at %s", p.Name, p.ID, p.Expires.UTC().Format(time.RFC3339))
	case !slices.Contains(p.Scopes, string(s.Protocol)):
		return false, fmt.Sprintf("app password %q (%s) is for %s, not for %s", p.Name, p.ID, strings.Join(p.Scopes, " and "), s.Protocol)
	}
	return true, fmt.Sprintf("app password %q (%s)", p.Name, p.ID)
}

// using gives what is to be done once a login by an app password was accepted.
func (a *Accounts) using(s *mail.Session, p *appPassword) func(context.Context) {
	return func(context.Context) { a.used(p, s.RemoteAddr.Addr().Unmap(), a.now()) }
}

// used notes when and from where an app password was used, if that was not noted
// a short while ago.
func (a *Accounts) used(p *appPassword, from netip.Addr, now time.Time) {
	latest := now.Add(-useInterval)
	if p.LastUsed.After(latest) || !a.uses.note(p.ID, now) {
		return
	}
	var last string
	if from.IsValid() {
		last = from.String()
	}
	a.store.Behind(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE app_passwords SET last_used = ?, last_from = ? WHERE id = ? AND last_used <= ?`,
			now.UnixMicro(), last, p.ID, latest.UnixMicro())
		return err
	})
}

// splitCode moves the code behind the password of a user who sends one there into
// the credentials.
func (a *Accounts) splitCode(ctx context.Context, user string, c *mail.Credentials, plain *string) error {
	if user == "" || a.codes == nil {
		return nil
	}
	appends, err := a.codes.AppendsCode(ctx, user)
	if err != nil || !appends {
		return err
	}
	rest, code := a.codes.SplitCode(mail.Secret(*plain))
	*plain, c.Code = rest.Reveal(), code
	return nil
}

// renew replaces a hash of old costs now that the password is at hand. The login
// does not depend on it; a password that was set meanwhile stays.
func (a *Accounts) renew(ctx context.Context, from netip.Prefix, user string, old protected, prepared string) {
	account, err := decodeScram(old.scram)
	if err != nil {
		account = newScramSalt()
	}
	fresh, err := a.derive(ctx, from, prepared, account)
	if err != nil {
		a.log.Warn("cannot renew password hash", zap.String(logkey.User, user), zap.Error(err))
		return
	}
	a.store.Behind(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE accounts SET password = ?, scram = ? WHERE address = ? AND password = ?`,
			fresh.password, fresh.scram, user, old.password)
		return err
	})
}
