package ratelimit

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

// schema1 and schema2 are the steps of the table. Counters may be lost, so that the
// second step begins anew.
const (
	schema1 = `
	CREATE TABLE ratelimit (
		scope  TEXT NOT NULL,
		key    BLOB NOT NULL,
		slice  BIGINT NOT NULL,
		counts BLOB NOT NULL,
		ends   BIGINT NOT NULL,
		PRIMARY KEY (scope, key)
	);
	CREATE INDEX ratelimit_ends ON ratelimit (ends);
`
	schema2 = `
	DROP TABLE ratelimit;
	CREATE TABLE ratelimit (
		scope   TEXT NOT NULL,   -- listener, handler, key, count and window
		key     BLOB NOT NULL,
		slice   BIGINT NOT NULL, -- the newest slice, see type counter
		counts  BLOB NOT NULL,   -- big-endian, 4 bytes a slice
		expires BIGINT NOT NULL, -- microseconds since 1970; the row is of no use from then on
		PRIMARY KEY (scope, key)
	);
	CREATE INDEX ratelimit_expires ON ratelimit (expires);
`
)

const (
	// flushEvery is how often changes are written; a crash loses what came after.
	flushEvery = 10 * time.Second
	// keepFor is how long a row stays that counts no more, for clocks that go back.
	keepFor = 2 * time.Hour
	// batch is how many rows one write has, so that mail need not wait behind it.
	batch = 500
)

// start reads the counters and begins to write them behind. Later calls do
// nothing and give the same error.
func (c *counters) start() error {
	c.startOnce.Do(func() {
		ctx, stop := context.WithCancel(context.Background())
		if c.startErr = c.load(ctx); c.startErr != nil {
			stop()
			return
		}
		c.stop = stop
		go c.run(ctx)
	})
	return c.startErr
}

// Close writes what has changed. It is called after the last use.
func (c *counters) Close() error {
	if c.stop == nil {
		return nil
	}
	c.stop()
	<-c.stopped
	return c.flush(context.Background())
}

// run writes behind until ctx ends.
func (c *counters) run(ctx context.Context) {
	defer close(c.stopped)
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := c.flush(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot keep rate limits over a restart", zap.Error(err))
		}
		c.sweep()
	}
}

func (c *counters) sweep() {
	current := c.now().UnixNano() / c.slice
	for i := range c.shards {
		c.shards[i].sweep(current)
	}
}

// flush writes the counters that have changed since the last time. After an
// error those of this time are not tried again before they change.
func (c *counters) flush(ctx context.Context) error {
	rows := make([]counter, 0, batch)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for j := range s.list {
			if e := &s.list[j]; e.changed {
				rows = append(rows, *e)
				e.changed = false
			}
		}
		s.mu.Unlock()
		for len(rows) >= batch {
			if err := c.write(ctx, rows[:batch]); err != nil {
				return err
			}
			rows = append(rows[:0], rows[batch:]...)
		}
	}
	return c.write(ctx, rows)
}

func (c *counters) write(ctx context.Context, rows []counter) error {
	if len(rows) == 0 {
		return nil
	}
	err := c.store.Write(ctx, func(tx *store.Tx) error {
		for i := range rows {
			e := &rows[i]
			if _, err := tx.Exec(`INSERT INTO ratelimit (scope, key, slice, counts, expires) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (scope, key) DO UPDATE SET slice = excluded.slice, counts = excluded.counts, expires = excluded.expires`,
				c.scope, e.key[:], e.slice, e.encode(), c.expires(e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write rate limits: %w", err)
	}
	return nil
}

// expires is when a counter's row is of no use any more, in microseconds.
func (c *counters) expires(e *counter) int64 {
	return (e.slice+numSlices)*c.slice/1000 + keepFor.Microseconds()
}

// load reads the counters that still count.
func (c *counters) load(ctx context.Context) error {
	now := c.now()
	current := now.UnixNano() / c.slice
	err := c.store.Read(ctx, func(s *store.Snapshot) error {
		rows, err := s.Query(`SELECT key, slice, counts FROM ratelimit WHERE scope = ? AND expires > ?`, c.scope, now.UnixMicro())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name, counts []byte
			var e counter
			if err := rows.Scan(&name, &e.slice, &counts); err != nil {
				return err
			}
			if len(name) != len(e.key) || !e.decode(counts) {
				return fmt.Errorf("row of %d and %d bytes, %d and %d are right", len(name), len(counts), len(e.key), 4*numSlices)
			}
			e.key = key(name)
			c.restore(e, current)
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("read rate limits: %w", err)
	}
	return nil
}

func (c *counters) restore(e counter, current int64) {
	if e.roll(current); e.sum() == 0 {
		return
	}
	s := c.shard(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.find(e.key, current, int(c.max.Load())) = e
}

// sweepRows deletes rows of all scopes that are of no use any more.
func sweepRows(tx *store.Tx, now time.Time, limit int) (int, error) {
	result, err := tx.Exec(`DELETE FROM ratelimit WHERE rowid IN
		(SELECT rowid FROM ratelimit WHERE expires <= ? ORDER BY expires LIMIT ?)`, now.UnixMicro(), limit)
	if err != nil {
		return 0, fmt.Errorf("delete old rate limits: %w", err)
	}
	return int(result.RowsAffected), nil
}

func (e *counter) encode() []byte {
	b := make([]byte, 0, 4*numSlices)
	for _, n := range e.counts {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func (e *counter) decode(b []byte) bool {
	if len(b) != 4*numSlices {
		return false
	}
	for i := range e.counts {
		e.counts[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	return true
}
