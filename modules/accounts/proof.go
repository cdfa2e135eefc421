package accounts

import (
	"context"
	"fmt"

	"github.com/mox-like/mox-like/core/mail"
)

// maxProofs is how many keys a proof is held against: those of the account's own
// password and of each app password.
const maxProofs = 1 + maxAppPasswords

// verifyProof checks a SCRAM proof by the keys of the account's own password and of
// its app passwords, which all have one salt. It says which one the client has by
// AppPassword of c.
//
// Every proof is held against maxProofs keys, with some that fit nothing in place
// of those that an account or an unknown user does not have, so that the time tells
// neither whether one fits and which, nor that there is such a user. What is left
// of that is the reading of the rows, a few microseconds for each.
func (a *Accounts) verifyProof(ctx context.Context, s *mail.Session, c *mail.Credentials, row protected, answer *Answer) error {
	apps, err := a.appPasswordsOf(ctx, answer.Address)
	if err != nil {
		return fmt.Errorf("read app passwords: %w", err)
	}
	keys, without, err := a.proofKeys(row, apps)
	if err != nil {
		return err
	}
	fits := -1
	for i, k := range keys {
		if c.Proof.Verify(k.StoredKey, k.ServerKey) && fits < 0 {
			fits = i
		}
	}
	if fits >= 0 { // the last key that is tried makes the server's signature
		c.Proof.Verify(keys[fits].StoredKey, keys[fits].ServerKey)
	}
	switch {
	case fits == 0:
		answer.OK = true
	case fits > 0 && fits <= len(apps):
		p := apps[fits-1]
		if answer.OK, answer.Reason = a.admit(s, p); answer.OK {
			c.AppPassword, answer.Accepted = p.Name, a.using(s, p)
		}
	case without > 0:
		answer.Reason = fmt.Sprintf("if it was of an app password made by an older version (%d of %d): those need PLAIN or LOGIN, or a new one in their place", without, len(apps))
	}
	return nil
}

// proofKeys gives maxProofs keys: that of the account's own password, one for each
// app password, and ones that fit nothing. The latter stand for app passwords
// without keys too; without counts these.
func (a *Accounts) proofKeys(row protected, apps []*appPassword) (keys []mail.ScramKeys, without int, err error) {
	own, err := decodeScram(row.scram)
	if err != nil {
		return nil, 0, err
	}
	nobody := fakeScramKeys(a.secret, "")
	keys = append(make([]mail.ScramKeys, 0, maxProofs), own)
	for _, p := range apps {
		k := nobody
		if p.scram == "" {
			without++
		} else if k, err = decodeScram(p.scram); err != nil {
			return nil, 0, fmt.Errorf("read keys of app password %s: %w", p.ID, err)
		}
		keys = append(keys, k)
	}
	for len(keys) < maxProofs {
		keys = append(keys, nobody)
	}
	return keys, without, nil
}
