package accounts

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// Verify tells whether credentials are right. The address is the account's, in
// normal form, whether they are or not; "" means that there is no such account.
// The client must learn neither. An error means that it could not be found out.
//
// A password costs one argon2id hash, also when the user is unknown, and waits
// for its turn until ctx ends.
func (a *Accounts) Verify(ctx context.Context, c *mail.Credentials) (address string, ok bool, err error) {
	user, row, err := a.find(ctx, c.Username)
	if err != nil {
		return "", false, fmt.Errorf("verify credentials: %w", err)
	}
	if c.Proof != nil {
		ok, err = verifyProof(c.Proof, row)
	} else {
		ok, err = a.verifyPassword(ctx, c.Password.Reveal(), user, row)
	}
	if err != nil {
		return user, false, fmt.Errorf("verify credentials of account %q: %w", user, err)
	}
	return user, ok && user != "", nil
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

// verifyProof checks a SCRAM proof.
func verifyProof(p mail.Proof, row protected) (bool, error) {
	keys, err := decodeScram(row.scram)
	if err != nil {
		return false, err
	}
	return p.Verify(keys.StoredKey, keys.ServerKey), nil
}

// verifyPassword checks a password that the client has sent.
func (a *Accounts) verifyPassword(ctx context.Context, plain, user string, row protected) (bool, error) {
	if plain == "" || len(plain) > maxPassword || strings.IndexByte(plain, 0) >= 0 {
		return false, nil
	}
	prepared := prepare(plain)
	if a.recent.has(row.password, prepared, a.now()) {
		return true, nil
	}
	ok, outdated, err := a.hasher.verify(ctx, row.password, prepared)
	if err != nil || !ok {
		return false, err
	}
	if outdated {
		a.renew(ctx, user, row, prepared)
	} else {
		a.recent.add(row.password, prepared, a.now())
	}
	return true, nil
}

// renew replaces a hash of old costs now that the password is at hand. The login
// does not depend on it; a password that was set meanwhile stays.
func (a *Accounts) renew(ctx context.Context, user string, old protected, prepared string) {
	fresh, err := a.derive(ctx, prepared)
	if err != nil {
		a.log.Warn("cannot renew password hash", zap.String("user", user), zap.Error(err))
		return
	}
	a.store.Behind(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE accounts SET password = ?, scram = ? WHERE address = ? AND password = ?`,
			fresh.password, fresh.scram, user, old.password)
		return err
	})
}
