// Package accounts is service.accounts: who has an account on this server, and
// whether a login's credentials are right.
//
// An account is named by a whole address in normal form (mail.ParseAddress, then
// Fold and String). Its password is kept as an argon2id hash (RFC 9106) and,
// beside it, as the keys that SCRAM-SHA-256 needs (RFC 5802, RFC 7677); neither
// gives the password back. Unknown users are answered like known ones with a
// wrong password, in the same time.
//
// A program can have an app password instead: 128 random bits and more, good for
// some protocols only and revocable, see AppPasswords. All mechanisms take it: its
// SCRAM keys have the salt of its account, which stays when the password changes.
//
// Hashing is slow on purpose, so it is bounded: see newHasher and turns. A login
// that is refused costs one hash whatever is wrong, and also when nothing is but
// the second factor; see Verify, Answer and Spend.
//
// The package knows nothing of second factors but that some users send a code
// behind their password, and nothing of brute force or rate limits; these are
// handlers around it. Mail belongs to the mailbox service.
package accounts

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func init() { core.Register(&Accounts{}) }

// Accounts is the service. It is safe for concurrent use once started.
type Accounts struct {
	store  *store.Store
	log    *zap.Logger
	now    func() time.Time
	others []remover
	codes  codeSplitter // nil in a build without second factors
	hasher *hasher
	recent *recent
	known  *known
	uses   *uses
	// secret makes the salts of unknown users; it is this database's own.
	secret []byte
}

// remover is another service that keeps something for accounts, such as mail.
type remover interface {
	// RemoveAccount deletes all that is kept for an account.
	RemoveAccount(tx *store.Tx, address string) error
}

// codeSplitter is the service that knows whose password is followed by the code
// of a second factor.
type codeSplitter interface {
	// AppendsCode tells whether clients send the code behind the account's password.
	AppendsCode(ctx context.Context, account string) (bool, error)
	// SplitCode takes the code off; "" if the password does not end in one.
	SplitCode(password mail.Secret) (rest, code mail.Secret)
}

var (
	// ErrExists is returned when an account of that address exists.
	ErrExists = errors.New("an account of this address exists already")
	// ErrNotFound is returned when there is no account of that address. It is a
	// store.ErrNotFound too.
	ErrNotFound error = notFoundError{}
)

// notFoundError is the type of ErrNotFound.
type notFoundError struct{}

func (notFoundError) Error() string { return "no account has this address" }

// Is makes it a store.ErrNotFound for those who do not import this package.
func (notFoundError) Is(target error) bool { return target == store.ErrNotFound }

// Module describes the service.
func (*Accounts) Module() core.Info {
	return core.Info{
		ID:  "service.accounts",
		New: func() core.Module { return new(Accounts) },
	}
}

// Migrations gives the service's tables.
func (*Accounts) Migrations() store.Migrations {
	return store.Migrations{Module: "accounts", Steps: []string{`
		CREATE TABLE accounts (
			address  TEXT PRIMARY KEY,
			domain   TEXT NOT NULL,
			created  BIGINT NOT NULL, -- microseconds since 1970
			password TEXT NOT NULL,   -- argon2id in PHC string format
			scram    TEXT NOT NULL    -- SCRAM-SHA-256 as RFC 5803 has it
		);
		CREATE INDEX accounts_domain ON accounts (domain, created, address);
		CREATE TABLE accounts_secret (
			id    INTEGER PRIMARY KEY,
			value BLOB NOT NULL
		);
	`, appTables, appScram}}
}

// Provision takes the store and finds the services that keep something for
// accounts.
func (a *Accounts) Provision(c *core.Context) error {
	a.store, a.log, a.now = c.Store(), c.Logger(), c.Now()
	a.others = core.Services[remover](c)
	if codes, err := core.Service[codeSplitter](c); err == nil {
		a.codes = codes
	}
	a.hasher = newHasher(owasp, runtime.GOMAXPROCS(0))
	a.recent = newRecent()
	a.known = newKnown()
	a.uses = newUses()
	return nil
}

// Start reads which accounts exist and makes the database's secret when it has
// none.
func (a *Accounts) Start() error {
	ctx := context.Background()
	fresh := make([]byte, 32)
	rand.Read(fresh)
	err := a.store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(`INSERT INTO accounts_secret (id, value) VALUES (1, ?) ON CONFLICT (id) DO NOTHING`, fresh); err != nil {
			return err
		}
		return tx.QueryRow(`SELECT value FROM accounts_secret WHERE id = 1`).Scan(&a.secret)
	})
	if err != nil {
		return fmt.Errorf("read secret of accounts: %w", err)
	}
	list, err := a.List(ctx)
	if err != nil {
		return err
	}
	for _, account := range list {
		a.known.add(account.Address)
	}
	return nil
}

// Exists tells whether there is an account of that address, which is in normal
// form. It answers from memory.
func (a *Accounts) Exists(_ context.Context, address string) (bool, error) {
	return a.known.has(address), nil
}

// ExistsIn tells whether there is an account of that address, which is in normal
// form, as the transaction q sees it.
func (*Accounts) ExistsIn(q store.Querier, address string) (bool, error) {
	var one int
	err := q.QueryRow(`SELECT 1 FROM accounts WHERE address = ?`, address).Scan(&one)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find account %q: %w", address, err)
	}
	return true, nil
}

// First gives the oldest account of a domain, "" if it has none. The domain is
// in normal form.
func (a *Accounts) First(ctx context.Context, domain string) (string, error) {
	var address string
	err := a.store.Read(ctx, func(s *store.Snapshot) error {
		return s.QueryRow(`SELECT address FROM accounts WHERE domain = ? ORDER BY created, address LIMIT 1`, domain).Scan(&address)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("find first account of %s: %w", domain, err)
	}
	return address, nil
}

// List gives all accounts in the order of their addresses.
func (a *Accounts) List(ctx context.Context) ([]mail.Account, error) {
	var list []mail.Account
	err := a.store.Read(ctx, func(s *store.Snapshot) error {
		rows, err := s.Query(`SELECT address, created FROM accounts ORDER BY address`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var account mail.Account
			var created int64
			if err := rows.Scan(&account.Address, &created); err != nil {
				return err
			}
			account.Created = time.UnixMicro(created)
			list = append(list, account)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list, nil
}

// Add makes an account. The address need not be in normal form. Errors are
// ErrExists and those of CheckPassword among others.
func (a *Accounts) Add(ctx context.Context, address string, password mail.Secret) error {
	name, err := parse(address)
	if err != nil {
		return fmt.Errorf("add account %q: %w", address, err)
	}
	user := name.String()
	if a.known.has(user) {
		return fmt.Errorf("add account %q: %w", user, ErrExists)
	}
	row, err := a.protect(ctx, password, newScramSalt())
	if err != nil {
		return fmt.Errorf("add account %q: %w", user, err)
	}
	err = a.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`INSERT INTO accounts (address, domain, created, password, scram) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (address) DO NOTHING`, user, name.Domain, a.now().UnixMicro(), row.password, row.scram)
		if err != nil {
			return err
		}
		if result.RowsAffected == 0 {
			return ErrExists
		}
		tx.AfterCommit(func() { a.known.add(user) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("add account %q: %w", user, err)
	}
	return nil
}

// SetPassword gives an account another password. Errors are ErrNotFound and
// those of CheckPassword among others.
func (a *Accounts) SetPassword(ctx context.Context, address string, password mail.Secret) error {
	user, ok := normal(address)
	if !ok || !a.known.has(user) {
		return fmt.Errorf("set password of account %q: %w", address, ErrNotFound)
	}
	_, old, err := a.find(ctx, user)
	if err != nil {
		return fmt.Errorf("set password of account %q: %w", user, err)
	}
	salt, err := decodeScram(old.scram)
	if err != nil { // a new password mends a damaged row
		salt = newScramSalt()
	}
	row, err := a.protect(ctx, password, salt)
	if err != nil {
		return fmt.Errorf("set password of account %q: %w", user, err)
	}
	err = a.store.Write(ctx, func(tx *store.Tx) error {
		return affected(tx.Exec(`UPDATE accounts SET password = ?, scram = ? WHERE address = ?`, row.password, row.scram, user))
	})
	if err != nil {
		return fmt.Errorf("set password of account %q: %w", user, err)
	}
	return nil
}

// Remove deletes an account and all that this and other services keep for it, all
// or nothing. The error is ErrNotFound among others.
func (a *Accounts) Remove(ctx context.Context, address string) error {
	user, ok := normal(address)
	if !ok {
		return fmt.Errorf("remove account %q: %w", address, ErrNotFound)
	}
	err := a.store.Write(ctx, func(tx *store.Tx) error {
		if err := affected(tx.Exec(`DELETE FROM accounts WHERE address = ?`, user)); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM app_passwords WHERE account = ?`, user); err != nil {
			return err
		}
		for _, other := range a.others {
			if err := other.RemoveAccount(tx, user); err != nil {
				return err
			}
		}
		tx.AfterCommit(func() { a.known.remove(user) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove account %q: %w", user, err)
	}
	return nil
}

// affected makes ErrNotFound of a statement that met no row.
func affected(result store.Result, err error) error {
	if err == nil && result.RowsAffected == 0 {
		return ErrNotFound
	}
	return err
}

// parse reads the name of an account. A bare postmaster is none.
func parse(address string) (mail.Address, error) {
	name, err := mail.ParseAddress(address)
	if err != nil {
		return mail.Address{}, err
	}
	if name.Domain == "" {
		return mail.Address{}, mail.ErrAddressSyntax
	}
	return name.Fold(), nil
}

// normal gives the normal form of a user name as a client gives it.
func normal(username string) (string, bool) {
	name, err := parse(username)
	if err != nil {
		return "", false
	}
	return name.String(), true
}

var (
	_ core.Provisioner = (*Accounts)(nil)
	_ core.Migrator    = (*Accounts)(nil)
	_ core.Starter     = (*Accounts)(nil)
)
