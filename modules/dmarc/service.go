package dmarc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
)

const schema = `
	CREATE TABLE dmarc_results (
		key           BLOB PRIMARY KEY, -- hash of all but messages and expires
		day           BIGINT NOT NULL,  -- its begin in UTC, in microseconds since 1970
		policy_domain TEXT NOT NULL,    -- whose record held
		author        TEXT NOT NULL,    -- the domain in From
		source        TEXT NOT NULL,    -- the client's address
		disposition   TEXT NOT NULL,
		override      TEXT NOT NULL,
		dkim          INTEGER NOT NULL, -- 1 if aligned and passed
		spf           INTEGER NOT NULL,
		messages      BIGINT NOT NULL,
		expires       BIGINT NOT NULL
	);
	CREATE INDEX dmarc_results_day ON dmarc_results (policy_domain, day);
	CREATE INDEX dmarc_results_expires ON dmarc_results (expires);
`

const (
	// keep is how long results stay.
	keep = 30 * 24 * time.Hour
	// maxResults bounds the rows, about 300 bytes each. Beyond it only those that
	// are there already are counted, whatever strangers make up.
	maxResults = 1_000_000
	// maxDaily bounds the rows of a policy domain and day, so that one domain with
	// made-up names below it does not take the room of all others.
	maxDaily = 10_000
)

// Why a disposition is not the policy of the record (RFC 9990, RFC 7489 appendix C).
const (
	OverrideNone    = ""
	OverrideLocal   = "local_policy"     // by the settings here
	OverrideTest    = "policy_test_mode" // by t
	OverrideSampled = "sampled_out"      // by pct
)

// Result is what a report says of the messages of one day from one client.
type Result struct {
	// Day is when the day begins, in UTC.
	Day time.Time
	// PolicyDomain is the domain whose record held, Author the one in From. Both
	// are in A-labels.
	PolicyDomain, Author string
	// Source is the client's address.
	Source netip.Addr
	// Disposition is what was done, and Override why it is not what the record says,
	// one of the constants of that name.
	Disposition Policy
	Override    string
	// DKIM and SPF tell what has passed and was aligned.
	DKIM, SPF bool
	// Messages is how many there were.
	Messages int64
}

// Service is service.dmarc: it counts, for all handlers of the kind, what domains
// that ask for aggregate reports will want to know. It is safe for concurrent use
// once started.
type Service struct {
	store *store.Store
	// most bounds the rows, daily those of a policy domain and day.
	most, daily int64

	rows, left atomic.Int64
}

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{
		ID:  "service.dmarc",
		New: func() core.Module { return new(Service) },
	}
}

// Migrations gives the table of results.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "dmarc", Steps: []string{schema}}
}

// Provision takes the store.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.most, s.daily = c.Store(), maxResults, maxDaily
	return nil
}

// Start counts the rows.
func (s *Service) Start() error {
	var n int64
	err := s.store.Read(context.Background(), func(sn *store.Snapshot) error {
		return sn.QueryRow(`SELECT count(*) FROM dmarc_results`).Scan(&n)
	})
	if err != nil {
		return fmt.Errorf("count DMARC results: %w", err)
	}
	s.rows.Store(n)
	return nil
}

// count adds one message, soon: a crash may lose the last ones.
func (s *Service) count(now time.Time, r Result) {
	r.Day = now.UTC().Truncate(24 * time.Hour)
	key := r.key()
	s.store.Behind(func(tx *store.Tx) error {
		done, err := tx.Exec(`UPDATE dmarc_results SET messages = messages + 1 WHERE key = ?`, key)
		if err != nil || done.RowsAffected > 0 {
			return err
		}
		var today int64
		err = tx.QueryRow(`SELECT count(*) FROM (SELECT 1 FROM dmarc_results WHERE policy_domain = ? AND day = ? LIMIT ?) AS rows_of_day`,
			r.PolicyDomain, r.Day, s.daily).Scan(&today)
		if err != nil {
			return err
		}
		if s.rows.Load() >= s.most || today >= s.daily {
			tx.AfterCommit(func() { s.left.Add(1) })
			return nil
		}
		_, err = tx.Exec(`INSERT INTO dmarc_results
			(key, day, policy_domain, author, source, disposition, override, dkim, spf, messages, expires)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)`,
			key, r.Day, r.PolicyDomain, r.Author, r.Source.String(), string(r.Disposition), r.Override, r.DKIM, r.SPF, r.Day.Add(keep))
		if err == nil {
			s.rows.Add(1) // at once, for those that are written in the same group
		}
		return err
	})
}

// key finds the row of a result.
func (r Result) key() []byte {
	text := fmt.Sprintf("%d %q %q %s %s %s %s %s", r.Day.Unix(), r.PolicyDomain, r.Author, r.Source, r.Disposition, r.Override,
		strconv.FormatBool(r.DKIM), strconv.FormatBool(r.SPF))
	sum := sha256.Sum256([]byte(text))
	return sum[:16]
}

// Results gives what was counted for the record of a domain on the day of a time in
// UTC, by author and source: at most 10,000 rows, beyond which none are kept.
func (s *Service) Results(ctx context.Context, policyDomain string, day time.Time) ([]Result, error) {
	var list []Result
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		list = nil
		rows, err := sn.Query(`SELECT day, policy_domain, author, source, disposition, override, dkim, spf, messages
			FROM dmarc_results WHERE policy_domain = ? AND day = ? ORDER BY author, source, disposition, override, dkim, spf LIMIT ?`,
			policyDomain, day.UTC().Truncate(24*time.Hour), maxDaily)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var r Result
			var source, disposition string
			if err := rows.Scan(&r.Day, &r.PolicyDomain, &r.Author, &source, &disposition, &r.Override, &r.DKIM, &r.SPF, &r.Messages); err != nil {
				return err
			}
			if r.Source, err = netip.ParseAddr(source); err != nil {
				return err
			}
			r.Day, r.Disposition = r.Day.UTC(), Policy(disposition)
			list = append(list, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read DMARC results of %s: %w", policyDomain, err)
	}
	return list, nil
}

// Sweep deletes what has expired.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	done, err := tx.Exec(`DELETE FROM dmarc_results WHERE key IN
		(SELECT key FROM dmarc_results WHERE expires <= ? LIMIT ?)`, now, limit)
	if err != nil {
		return 0, fmt.Errorf("delete expired DMARC results: %w", err)
	}
	tx.AfterCommit(func() { s.rows.Add(-done.RowsAffected) })
	return int(done.RowsAffected), nil
}

// Measure tells how much is kept.
func (s *Service) Measure() []core.Figure {
	return []core.Figure{
		{Name: "results", Help: "Rows that wait for aggregate reports.", Value: float64(s.rows.Load())},
		{Name: "not_counted_total", Help: "Messages that found no room for a row.", Value: float64(s.left.Load())},
	}
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
)
