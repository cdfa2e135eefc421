package greylist

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
)

const schema = `
	CREATE TABLE greylist (
		id        INTEGER PRIMARY KEY,
		key       BLOB NOT NULL UNIQUE, -- hash of client, sender and recipient
		client    TEXT NOT NULL,        -- a network or a domain
		sender    TEXT NOT NULL,        -- in normal form
		recipient TEXT NOT NULL,        -- an address or a domain
		open      INTEGER NOT NULL,     -- 1 if it passes
		first     BIGINT NOT NULL,      -- microseconds since 1970, like all times here
		last      BIGINT NOT NULL,
		retry     BIGINT NOT NULL,      -- it passes from then on
		expires   BIGINT NOT NULL,
		attempts  BIGINT NOT NULL,      -- how often it was deferred
		passed    BIGINT NOT NULL       -- how often it was let through
	);
	CREATE INDEX greylist_state ON greylist (open, expires);
	CREATE TABLE greylist_clients (
		client  TEXT PRIMARY KEY,
		passed  BIGINT NOT NULL,        -- how many of its triplets have passed
		expires BIGINT NOT NULL
	);
	CREATE INDEX greylist_clients_expires ON greylist_clients (expires);
	CREATE TABLE greylist_correspondents (
		key           BLOB PRIMARY KEY, -- hash of both
		user          TEXT NOT NULL,    -- who has written
		correspondent TEXT NOT NULL,    -- to whom
		expires       BIGINT NOT NULL
	);
	CREATE INDEX greylist_correspondents_expires ON greylist_correspondents (expires);
	CREATE TABLE greylist_allowed (
		subject TEXT PRIMARY KEY,
		reason  TEXT NOT NULL,
		created BIGINT NOT NULL
	);
`

const (
	// maxGreylisted bounds how many triplets wait at a time, about 300 bytes each.
	// Beyond it the oldest are forgotten, so that a flood of strangers costs those
	// a further delay that came before it, and never those that have passed.
	maxGreylisted = 1_000_000
	// keepChanged is how many changes are remembered beside the database: more than
	// the store lets wait behind.
	keepChanged = 20_000
	// refresh is how much of its time must have passed before it is written again
	// that something which lasts long was used.
	refresh = 24 * time.Hour
)

// Service is service.greylist: it remembers triplets, clients that have proved
// themselves, and who has written to whom, for all handlers of the kind, and what
// the operator allows. It is safe for concurrent use once started.
type Service struct {
	store         *store.Store
	now           func() time.Time
	maxGreylisted int64
	allowed       *allowed

	// greylisted and opened count the rows of either state.
	greylisted, opened atomic.Int64

	mu       sync.Mutex
	triplets recent[*entry]    // guarded by mu
	written  recent[time.Time] // until when it counts that somebody wrote to somebody; guarded by mu
}

// entry is a triplet in memory, guarded by the service's mu.
type entry struct{ triplet }

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{
		ID:  "service.greylist",
		New: func() core.Module { return new(Service) },
	}
}

// Migrations gives the tables of the greylist.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "greylist", Steps: []string{schema}}
}

// Provision takes the store and the clock.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now, s.maxGreylisted = c.Store(), c.Now(), maxGreylisted
	s.allowed = newAllowed()
	s.triplets, s.written = newRecent[*entry](keepChanged), newRecent[time.Time](keepChanged)
	return nil
}

// Start counts the triplets and reads what the operator allows.
func (s *Service) Start() error {
	err := s.store.Read(context.Background(), func(sn *store.Snapshot) error {
		for open, count := range map[bool]*atomic.Int64{false: &s.greylisted, true: &s.opened} {
			var n int64
			if err := sn.QueryRow(`SELECT count(*) FROM greylist WHERE open = ?`, open).Scan(&n); err != nil {
				return err
			}
			count.Store(n)
		}
		return s.allowed.load(sn)
	})
	if err != nil {
		return fmt.Errorf("read greylist: %w", err)
	}
	return nil
}

// countAfter counts rows of a state once the transaction is committed.
func (s *Service) countAfter(tx *store.Tx, open bool, n int64) {
	count := &s.greylisted
	if open {
		count = &s.opened
	}
	tx.AfterCommit(func() { count.Add(n) })
}

// Sweep deletes what has expired.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	remove := func(query string, args ...any) (int64, error) {
		if removed >= limit {
			return 0, nil
		}
		result, err := tx.Exec(query, append(args, now, limit-removed)...)
		removed += int(result.RowsAffected)
		return result.RowsAffected, err
	}
	for _, open := range []bool{false, true} {
		n, err := remove(`DELETE FROM greylist WHERE id IN
			(SELECT id FROM greylist WHERE open = ? AND expires <= ? LIMIT ?)`, open)
		if err != nil {
			return removed, fmt.Errorf("delete expired triplets: %w", err)
		}
		s.countAfter(tx, open, -n)
	}
	if _, err := remove(`DELETE FROM greylist_clients WHERE client IN
		(SELECT client FROM greylist_clients WHERE expires <= ? LIMIT ?)`); err != nil {
		return removed, fmt.Errorf("delete expired clients: %w", err)
	}
	if _, err := remove(`DELETE FROM greylist_correspondents WHERE key IN
		(SELECT key FROM greylist_correspondents WHERE expires <= ? LIMIT ?)`); err != nil {
		return removed, fmt.Errorf("delete expired correspondents: %w", err)
	}
	return removed, nil
}

// Measure tells how large the greylist is.
func (s *Service) Measure() []core.Figure {
	return []core.Figure{
		{Name: "greylisted", Help: "Triplets that wait for a retry.", Value: float64(s.greylisted.Load())},
		{Name: "passed", Help: "Triplets that have passed and pass again.", Value: float64(s.opened.Load())},
		{Name: "allowed", Help: "Clients and senders that the operator allows.", Value: float64(s.allowed.size())},
	}
}

// exceptNotFound drops the error of a query without a row.
func exceptNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
)
