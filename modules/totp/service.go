package totp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// Service is service.totp: who has a second factor, and whether a code is right.
// It is safe for concurrent use once started.
type Service struct {
	store    *store.Store
	log      *zap.Logger
	now      func() time.Time
	issuer   string
	accounts accountService
	keys     *keyring

	mu     sync.Mutex
	states map[string]*state // guarded by mu, as the states are
}

// state is what is remembered about an account that has a second factor.
type state struct {
	appendCode bool
	keyID      string // of the key that encrypted the secret
	// misses is how many wrong codes came since the last right one, and closed until
	// when codes are refused therefore.
	misses int
	closed time.Time
}

// accountService is the service that knows the accounts.
type accountService interface {
	// ExistsIn tells whether there is an account of that address in normal form.
	ExistsIn(q store.Querier, address string) (bool, error)
}

const tables = `
	CREATE TABLE totp (
		account     TEXT PRIMARY KEY,
		secret      BLOB NOT NULL,    -- nonce and AES-256-GCM of the shared secret
		key_id      TEXT NOT NULL,    -- which key encrypted it
		confirmed   INTEGER NOT NULL, -- 1 once a first code was right
		append_code INTEGER NOT NULL, -- 1: clients may send the code behind the password
		last_step   BIGINT NOT NULL,  -- of the last code that was taken, -1 for none
		enrolled    BIGINT NOT NULL,  -- microseconds since 1970
		last_used   BIGINT NOT NULL   -- the same, 0: never
	);
	CREATE TABLE totp_recovery (
		account TEXT NOT NULL,
		sha256  BLOB NOT NULL,
		PRIMARY KEY (account, sha256)
	);
`

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{
		ID:  "service.totp",
		New: func() core.Module { return new(Service) },
	}
}

// Migrations gives the service's tables.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "totp", Steps: []string{tables}}
}

// Provision finds the accounts and reads the key's environment variable.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.log, s.now, s.issuer = c.Store(), c.Logger(), c.Now(), c.Hostname()
	s.states = make(map[string]*state)
	var err error
	if s.accounts, err = core.Service[accountService](c); err != nil {
		return fmt.Errorf("totp needs the accounts of this server: %w", err)
	}
	s.keys, err = newKeyring(c.DataDir())
	return err
}

// Start reads who has a second factor and says so when their key is not there.
// The server starts nevertheless: mail goes on, and they have app passwords.
func (s *Service) Start() error {
	ids := make(map[string]bool)
	err := s.store.Read(context.Background(), func(sn *store.Snapshot) error {
		rows, err := sn.Query(`SELECT account, key_id, confirmed, append_code FROM totp`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var account, id string
			var confirmed, appendCode bool
			if err := rows.Scan(&account, &id, &confirmed, &appendCode); err != nil {
				return err
			}
			ids[id] = true
			if confirmed {
				s.turnOn(account, id, appendCode)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("read second factors: %w", err)
	}
	for id := range ids {
		if _, err := s.keyOf(id); err != nil {
			s.log.Error("second factors cannot be checked: users who have one get in by an app password only", zap.Error(err))
			return nil
		}
	}
	return nil
}

// keyOf gives the key if it is the one of that id.
func (s *Service) keyOf(id string) (*key, error) {
	k, err := s.keys.get()
	if err == nil && k.id != id {
		err = fmt.Errorf("%w: secrets are encrypted by another key than that of %s", ErrKeyWrong, k.from)
	}
	return k, err
}

// Measure tells whether second factors can be checked.
func (s *Service) Measure() []core.Figure {
	ids := make(map[string]bool)
	s.mu.Lock()
	for _, state := range s.states {
		ids[state.keyID] = true
	}
	s.mu.Unlock()
	missing := 0.0
	for id := range ids {
		if _, err := s.keyOf(id); err != nil {
			missing = 1
		}
	}
	return []core.Figure{{
		Name: "key_missing", Value: missing,
		Help: "1 if users have second factors that cannot be checked, since their key is missing or another one, else 0.",
	}}
}

// turnOn remembers that an account has a second factor.
func (s *Service) turnOn(account, keyID string, appendCode bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[account] = &state{appendCode: appendCode, keyID: keyID}
}

// turnOff forgets an account.
func (s *Service) turnOff(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.states, account)
}

// isOn tells whether an account has a second factor. It answers from memory.
func (s *Service) isOn(account string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.states[account]
	return ok
}

// AppendsCode tells whether clients send the code behind the account's password.
// The address is in normal form. It answers from memory.
func (s *Service) AppendsCode(_ context.Context, account string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.states[account]
	return ok && state.appendCode, nil
}

// RemoveAccount deletes all that is kept for an account.
func (s *Service) RemoveAccount(tx *store.Tx, address string) error {
	if _, err := removeRows(tx, address); err != nil {
		return fmt.Errorf("remove second factor of %s: %w", address, err)
	}
	tx.AfterCommit(func() { s.turnOff(address) })
	return nil
}

// removeRows deletes an account's rows and tells whether there were any.
func removeRows(tx *store.Tx, account string) (bool, error) {
	if _, err := tx.Exec(`DELETE FROM totp_recovery WHERE account = ?`, account); err != nil {
		return false, err
	}
	result, err := tx.Exec(`DELETE FROM totp WHERE account = ?`, account)
	return result.RowsAffected > 0, err
}

// normal gives the normal form of an account's address.
func normal(address string) (string, error) {
	a, err := mail.ParseAddress(address)
	if err == nil && a.Domain == "" {
		err = mail.ErrAddressSyntax
	}
	if err != nil {
		return "", control.Invalid(err)
	}
	return a.Fold().String(), nil
}

// row is a row of the table.
type row struct {
	secret     []byte
	keyID      string
	confirmed  bool
	appendCode bool
	lastStep   int64
	enrolled   int64
	lastUsed   int64
	recovery   int
}

// find reads an account's row. The error is ErrNotEnrolled among others.
func (s *Service) find(ctx context.Context, account string) (row, error) {
	var r row
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow(`SELECT secret, key_id, confirmed, append_code, last_step, enrolled, last_used,
				(SELECT COUNT(*) FROM totp_recovery AS r WHERE r.account = totp.account)
			FROM totp WHERE account = ?`, account).
			Scan(&r.secret, &r.keyID, &r.confirmed, &r.appendCode, &r.lastStep, &r.enrolled, &r.lastUsed, &r.recovery)
	})
	if errors.Is(err, store.ErrNotFound) {
		return row{}, ErrNotEnrolled
	}
	return r, err
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
)
