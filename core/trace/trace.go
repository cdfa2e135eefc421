// Package trace keeps what was decided about sessions, logins and messages: which
// handler said what, why, at which line of the configuration, and how long it
// took. It answers 'why was this refused?' by the ID that the client saw.
//
// Records are written behind: they cost no fsync, and a crash may lose the last
// second of them. The record of a message that was discarded is all that remains
// of it, so that AddTx writes it through.
package trace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

// migrations make the table. Rows are in the order in which they were added,
// which is nearly that of time; new ones come at the end of both trees.
var migrations = store.Migrations{Module: "trace", Steps: []string{
	`
	CREATE TABLE trace (
		seq    INTEGER PRIMARY KEY,
		id     TEXT NOT NULL UNIQUE,
		time   INTEGER NOT NULL,
		kind   TEXT NOT NULL,
		record BLOB NOT NULL
	)`,
}}

// A second record of the same ID stands for the first.
const insert = `INSERT INTO trace (id, time, kind, record) VALUES (?, ?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET time = excluded.time, kind = excluded.kind, record = excluded.record`

// defaultKeep is how long records stay unless the configuration says otherwise.
const defaultKeep = 14 * 24 * time.Hour

// Options configure New.
type Options struct {
	// Keep is how long records stay; 0 means 14 days.
	Keep time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger takes what no caller can be told; nil means none.
	Logger *zap.Logger
}

// Log is the log of records. It is safe for concurrent use.
type Log struct {
	store *store.Store
	keep  time.Duration
	now   func() time.Time
	log   *zap.Logger
	hub   hub

	removing sync.WaitGroup
	stop     context.CancelFunc // nil before Start
}

// New prepares the log's table in a store.
func New(s *store.Store, o Options) (*Log, error) {
	l := &Log{store: s, keep: o.Keep, now: o.Now, log: o.Logger}
	if l.keep <= 0 {
		l.keep = defaultKeep
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = zap.NewNop()
	}
	if err := s.Migrate(context.Background(), migrations); err != nil {
		return nil, err
	}
	return l, nil
}

// Start begins to remove old records. Close ends it.
func (l *Log) Start() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.removing.Go(func() { l.removeHourly(ctx) })
}

// Close stops the removal and ends the followers' channels. Records that are
// behind stay with the store, which writes them when it is closed.
func (l *Log) Close() error {
	if l.stop != nil {
		l.stop()
	}
	l.removing.Wait()
	l.hub.close()
	return nil
}

// Add shows a record to those who follow and writes it behind. It never waits.
func (l *Log) Add(r *Record) {
	l.hub.publish(r)
	data := encode(r)
	l.store.Behind(func(tx *store.Tx) error { return write(tx, r, data) })
}

// AddTx writes a record through: it is durable when the transaction is. Those
// who follow see it then.
func (l *Log) AddTx(tx *store.Tx, r *Record) error {
	tx.AfterCommit(func() { l.hub.publish(r) })
	return write(tx, r, encode(r))
}

func write(tx *store.Tx, r *Record, data []byte) error {
	if _, err := tx.Exec(insert, r.ID, r.Time, string(r.Kind), data); err != nil {
		return fmt.Errorf("write trace %s: %w", r.ID, err)
	}
	return nil
}

// Get finds the record of an ID. It gives store.ErrNotFound if there is none.
func (l *Log) Get(ctx context.Context, id string) (*Record, error) {
	list, err := l.read(ctx, "SELECT id, time, kind, record FROM trace WHERE id = ?", id)
	if err != nil {
		return nil, fmt.Errorf("find trace %s: %w", id, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("find trace %s: %w", id, store.ErrNotFound)
	}
	return list[0], nil
}

// Last gives the newest n records, the newest first.
func (l *Log) Last(ctx context.Context, n int) ([]*Record, error) {
	list, err := l.read(ctx, "SELECT id, time, kind, record FROM trace ORDER BY seq DESC LIMIT ?", n)
	if err != nil {
		return nil, fmt.Errorf("list traces: %w", err)
	}
	return list, nil
}

// read runs a query once that which is behind can be seen.
func (l *Log) read(ctx context.Context, query string, args ...any) (list []*Record, err error) {
	if err := l.store.Flush(ctx); err != nil {
		return nil, err
	}
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scan(rows)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return rows.Err()
	})
	return list, err
}

func scan(rows *store.Rows) (*Record, error) {
	r := new(Record)
	var data []byte
	if err := rows.Scan(&r.ID, &r.Time, &r.Kind, &data); err != nil {
		return nil, err
	}
	if err := decode(data, r); err != nil {
		return nil, fmt.Errorf("read trace %s: %w", r.ID, err)
	}
	return r, nil
}

// Bounds of the removal. A batch is small, since mail waits while it runs.
const (
	removeEvery  = time.Hour
	removeBatch  = 500
	betweenBatch = 50 * time.Millisecond
)

// removeHourly removes old records about every hour, not all servers at the same
// minute.
func (l *Log) removeHourly(ctx context.Context) {
	for {
		wait := removeEvery/2 + rand.N(removeEvery) //nolint:gosec // it only spreads the load
		for wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			more, err := l.removeOld(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				l.log.Error("remove old traces", zap.Error(err))
			}
			wait = 0
			if more {
				wait = betweenBatch
			}
		}
	}
}

// removeOld removes one batch of the oldest records and tells whether there are
// more. It looks at the front only: a record stays as long as an older one that
// was added before it stays.
func (l *Log) removeOld(ctx context.Context) (more bool, err error) {
	limit := l.now().Add(-l.keep)
	var last int64
	n := 0
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query("SELECT seq, time FROM trace ORDER BY seq LIMIT ?", removeBatch)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seq int64
			var t time.Time
			if err := rows.Scan(&seq, &t); err != nil {
				return err
			}
			if !t.Before(limit) {
				break
			}
			last = seq
			n++
		}
		return rows.Err()
	})
	if err != nil || n == 0 {
		return false, err
	}
	err = l.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM trace WHERE seq <= ?", last)
		return err
	})
	return n == removeBatch, err
}
