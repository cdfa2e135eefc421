package bruteforce

import (
	"context"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// Times are microseconds since 1970 where a column does not say seconds. Every row
// says when it is of no use any more.
const schema = `
	CREATE TABLE bruteforce_failure (
		id      INTEGER PRIMARY KEY,
		network BLOB NOT NULL,     -- see type network
		account TEXT NOT NULL,
		at      BIGINT NOT NULL,   -- seconds since 1970
		kind    INTEGER NOT NULL,  -- see type kind
		expires BIGINT NOT NULL
	);
	CREATE INDEX bruteforce_failure_network ON bruteforce_failure (network, account);
	CREATE INDEX bruteforce_failure_expires ON bruteforce_failure (expires);
	CREATE TABLE bruteforce_known (
		account TEXT NOT NULL,
		network BLOB NOT NULL,
		last    BIGINT NOT NULL,   -- seconds since 1970
		expires BIGINT NOT NULL,
		PRIMARY KEY (account, network)
	);
	CREATE INDEX bruteforce_known_expires ON bruteforce_known (expires);
	CREATE TABLE bruteforce_offence (
		subject TEXT PRIMARY KEY,  -- a network or an account
		count   INTEGER NOT NULL,
		last    BIGINT NOT NULL,   -- seconds since 1970
		expires BIGINT NOT NULL
	);
	CREATE INDEX bruteforce_offence_expires ON bruteforce_offence (expires);
	CREATE TABLE bruteforce_lock (
		account  TEXT PRIMARY KEY,
		reason   TEXT NOT NULL,
		evidence TEXT NOT NULL,
		created  BIGINT NOT NULL,
		expires  BIGINT NOT NULL
	);
	CREATE INDEX bruteforce_lock_expires ON bruteforce_lock (expires);
`

// Migrations gives the service's tables.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "bruteforce", Steps: []string{schema}}
}

// keepFailures is how long a failure's row is kept.
const keepFailures = day

func micros(seconds uint32) int64 { return int64(seconds) * int64(time.Second/time.Microsecond) }

func insertFailure(tx *store.Tx, n network, e event) error {
	_, err := tx.Exec(`INSERT INTO bruteforce_failure (network, account, at, kind, expires) VALUES (?, ?, ?, ?, ?)`,
		n.bytes(), e.account, int64(e.at), int64(e.kind), micros(e.at)+keepFailures.Microseconds())
	return err
}

func deleteFailures(tx *store.Tx, n network, account string) error {
	_, err := tx.Exec(`DELETE FROM bruteforce_failure WHERE network = ? AND account = ?`, n.bytes(), account)
	return err
}

// deleteNetwork removes all failures of a network.
func deleteNetwork(tx *store.Tx, n network) error {
	_, err := tx.Exec(`DELETE FROM bruteforce_failure WHERE network = ?`, n.bytes())
	return err
}

// insertKnown keeps the newest maxKnown of the account.
func insertKnown(tx *store.Tx, account string, n network, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO bruteforce_known (account, network, last, expires) VALUES (?, ?, ?, ?)
		ON CONFLICT (account, network) DO UPDATE SET last = excluded.last, expires = excluded.expires`,
		account, n.bytes(), now.Unix(), now.Add(knownFor).UnixMicro())
	if err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM bruteforce_known WHERE account = ? AND network IN
		(SELECT network FROM bruteforce_known WHERE account = ? ORDER BY last DESC LIMIT -1 OFFSET ?)`, account, account, maxKnown)
	return err
}

func insertOffence(tx *store.Tx, subject string, o offence) error {
	_, err := tx.Exec(`INSERT INTO bruteforce_offence (subject, count, last, expires) VALUES (?, ?, ?, ?)
		ON CONFLICT (subject) DO UPDATE SET count = excluded.count, last = excluded.last, expires = excluded.expires`,
		subject, o.count, int64(o.last), micros(o.forget))
	return err
}

func insertLock(tx *store.Tx, l control.Lock) error {
	_, err := tx.Exec(`INSERT INTO bruteforce_lock (account, reason, evidence, created, expires) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account) DO UPDATE SET reason = excluded.reason, evidence = excluded.evidence,
			created = excluded.created, expires = excluded.expires`,
		l.Account, l.Reason, l.Evidence, l.Created.UnixMicro(), l.Expires.UnixMicro())
	return err
}

func deleteLock(tx *store.Tx, account string) error {
	if _, err := tx.Exec(`DELETE FROM bruteforce_lock WHERE account = ?`, account); err != nil {
		return err
	}
	// The time of the offence stays, so that what led to the lock counts no more
	// after a restart either.
	_, err := tx.Exec(`UPDATE bruteforce_offence SET count = 0 WHERE subject = ?`, subjectOfAccount(account))
	return err
}

// load reads what counts at now. It is called with mu held.
func (s *Service) load(ctx context.Context, now time.Time) error {
	return s.store.Read(ctx, func(sn *store.Snapshot) error {
		for _, read := range []func(*store.Snapshot, time.Time) error{s.loadOffences, s.loadLocks, s.loadKnown, s.loadFailures} {
			if err := read(sn, now); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) loadOffences(sn *store.Snapshot, now time.Time) error {
	rows, err := sn.Query(`SELECT subject, count, last, expires FROM bruteforce_offence WHERE expires > ? ORDER BY expires DESC LIMIT ?`,
		now.UnixMicro(), maxKeys)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var subject string
		var o offence
		var forget time.Time
		if err := rows.Scan(&subject, &o.count, &o.last, &forget); err != nil {
			return err
		}
		o.forget = seconds(forget)
		s.offences[subject] = o
	}
	return rows.Err()
}

func (s *Service) loadLocks(sn *store.Snapshot, now time.Time) error {
	rows, err := sn.Query(`SELECT account, reason, evidence, created, expires FROM bruteforce_lock WHERE expires > ? ORDER BY expires DESC LIMIT ?`,
		now.UnixMicro(), maxKeys)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var l control.Lock
		if err := rows.Scan(&l.Account, &l.Reason, &l.Evidence, &l.Created, &l.Expires); err != nil {
			return err
		}
		s.locks[l.Account] = l
	}
	return rows.Err()
}

func (s *Service) loadKnown(sn *store.Snapshot, now time.Time) error {
	rows, err := sn.Query(`SELECT account, network, last FROM bruteforce_known WHERE expires > ?`, now.UnixMicro())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var account string
		var b []byte
		var last uint32
		if err := rows.Scan(&account, &b, &last); err != nil {
			return err
		}
		n, ok := networkFromBytes(b)
		if !ok {
			return fmt.Errorf("read known networks of %q: %w", account, errBroken)
		}
		s.known.add(account, n, last)
	}
	return rows.Err()
}

// loadFailures reads the newest failures in their order. Those that have led to a
// block or lock are over.
func (s *Service) loadFailures(sn *store.Snapshot, now time.Time) error {
	rows, err := sn.Query(`SELECT network, account, at, kind FROM
		(SELECT id, network, account, at, kind FROM bruteforce_failure WHERE expires > ? ORDER BY id DESC LIMIT ?) ORDER BY id`,
		now.UnixMicro(), maxKeys)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		var e event
		if err := rows.Scan(&b, &e.account, &e.at, &e.kind); err != nil {
			return err
		}
		n, ok := networkFromBytes(b)
		if !ok {
			return fmt.Errorf("read failed logins of %q: %w", e.account, errBroken)
		}
		s.failures.add(n, e)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for n, src := range s.failures.sources {
		if o, ok := s.offences[subjectOf(n)]; ok {
			src.events = after(src.events, func(e event) bool { return e.at > o.last })
			s.failures.drop(n, src)
		}
	}
	for account, t := range s.failures.targets {
		if o, ok := s.offences[subjectOfAccount(account)]; ok {
			t.hits = after(t.hits, func(h hit) bool { return h.at > o.last })
		}
	}
	return nil
}

// after gives the end of the list that begins with the first element for which
// counts is true.
func after[E any](list []E, counts func(E) bool) []E {
	for i, e := range list {
		if counts(e) {
			return list[i:]
		}
	}
	return nil
}

// Sweep removes rows that are of no use any more, and forgets the networks and
// locks that they stand for.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	for _, query := range []string{
		`DELETE FROM bruteforce_failure WHERE id IN (SELECT id FROM bruteforce_failure WHERE expires <= ? LIMIT ?)`,
		`DELETE FROM bruteforce_offence WHERE subject IN (SELECT subject FROM bruteforce_offence WHERE expires <= ? LIMIT ?)`,
		`DELETE FROM bruteforce_lock WHERE account IN (SELECT account FROM bruteforce_lock WHERE expires <= ? LIMIT ?)`,
	} {
		result, err := tx.Exec(query, now.UnixMicro(), limit-removed)
		if err != nil {
			return 0, err
		}
		if removed += int(result.RowsAffected); removed >= limit {
			return removed, nil
		}
	}
	forgotten, err := s.sweepKnown(tx, now, limit-removed)
	return removed + forgotten, err
}

func (s *Service) sweepKnown(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	type row struct {
		account string
		network []byte
	}
	var old []row
	rows, err := tx.Query(`SELECT account, network FROM bruteforce_known WHERE expires <= ? LIMIT ?`, now.UnixMicro(), limit)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.account, &r.network); err != nil {
			return 0, err
		}
		old = append(old, r)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	for _, r := range old {
		if _, err := tx.Exec(`DELETE FROM bruteforce_known WHERE account = ? AND network = ?`, r.account, r.network); err != nil {
			return 0, err
		}
	}
	tx.AfterCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range old {
			if n, ok := networkFromBytes(r.network); ok {
				s.known.forget(r.account, n, seconds(now))
			}
		}
		for account, l := range s.locks {
			if !now.Before(l.Expires) {
				delete(s.locks, account)
			}
		}
	})
	return len(old), nil
}
