// Package trace keeps what was decided about sessions, logins and messages: which
// handler said what, why, at which line of the configuration, and how long it
// took. It answers 'why was this refused?' by the ID that the client saw.
//
// Records are written behind: they cost no fsync, and a crash may lose the last
// second of them. The record of a message that was discarded is all that remains
// of it, so that AddTx writes it through.
//
// Who may connect can make records, so that each is bounded, and so are all
// together: the oldest go when they are too old or take too much room.
package trace

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
	// Written through, so that it is kept for longer. (Read without the record,
	// since a row's 0 and 1 are in its header.)
	`ALTER TABLE trace ADD COLUMN kept INTEGER NOT NULL DEFAULT 0`,
	settingsSchema,
}}

// A second record of the same ID stands for the first.
const insert = `INSERT INTO trace (seq, id, time, kind, record, kept)
	VALUES (ifnull((SELECT max(seq) FROM trace WHERE seq >= 0), 0) + ?, ?, ?, ?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET time = excluded.time, kind = excluded.kind, record = excluded.record,
		kept = max(kept, excluded.kept)`

// lane is a range of seqs. Each record's seq is that of the one before it plus
// its own size, so that the first and the last tell how much room all take.
// (Those of builds that counted by one are taken for small.) Records are added
// to the lane of the young. When they must leave it early, for want of room,
// those that were written through move to the end of the lane of the old, where
// all others are older.
type lane struct {
	from, to int64 // without to
	room     int64 // bytes that its records may take
}

// rowOverhead is about what a record takes beside its encoding: the ID twice, the
// other columns, and what SQLite needs.
const rowOverhead = 128

// How long records stay and how much room they may take, unless the
// configuration says otherwise.
const (
	defaultKeep    = 14 * 24 * time.Hour
	defaultMaxSize = 1 << 30
)

// Options configure New.
type Options struct {
	// Keep is how long records stay; 0 means 14 days.
	Keep time.Duration
	// MaxSize is about how many bytes all records may take; 0 means 1 GiB. A
	// quarter of it is for old ones that AddTx has written. The settings that they
	// refer to may take a tenth as much beside.
	MaxSize int64
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

	young, old lane
	checkAfter int64         // bytes added after which the room is checked
	added      atomic.Int64  // bytes since the last check
	check      chan struct{} // of capacity 1

	noted        noted
	settingsRoom int64 // bytes that their rows may take
	maxSettings  int64 // maxSettings, but for tests

	searches chan struct{} // a place for each that runs
	maxStats int           // MaxStats, but for tests
	maxPage  int           // maxPage, but for tests
	removing sync.WaitGroup
	stop     context.CancelFunc // nil before Start

	mu      sync.Mutex
	removed removal        // guarded by mu
	counts  map[Count]Sums // guarded by mu
}

// Count is what records are counted by.
type Count struct {
	Kind     Kind
	Listener string
	// Action is how it ended.
	Action string
}

// Sums are the numbers of the records of one Count since the start.
type Sums struct {
	Records uint64
	// Size is the sum of the messages' sizes, in bytes.
	Size uint64
}

// Counts gives the numbers since the start.
func (l *Log) Counts() map[Count]Sums {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

// count counts a record.
func (l *Log) count(r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := Count{Kind: r.Kind, Listener: r.Listener, Action: r.Outcome.Action}
	sums := l.counts[key]
	sums.Records++
	sums.Size += uint64(max(0, r.Size))
	l.counts[key] = sums
}

// removal tells what the last round of the removal did.
type removal struct {
	at          time.Time
	last, total int64
}

// Removed tells when old records were last removed, how many went then, and how
// many since Start.
func (l *Log) Removed() (at time.Time, last, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.removed.at, l.removed.last, l.removed.total
}

// New prepares the log's table in a store.
func New(s *store.Store, o Options) (*Log, error) {
	l := &Log{store: s, keep: o.Keep, now: o.Now, log: o.Logger, check: make(chan struct{}, 1), counts: make(map[Count]Sums), searches: make(chan struct{}, maxSearches), maxStats: MaxStats, maxPage: maxPage, maxSettings: maxSettings}
	if l.keep <= 0 {
		l.keep = defaultKeep
	}
	if o.MaxSize <= 0 {
		o.MaxSize = defaultMaxSize
	}
	l.old = lane{from: math.MinInt64 / 2, to: 0, room: o.MaxSize / 4}
	l.young = lane{from: 0, to: math.MaxInt64, room: o.MaxSize - o.MaxSize/4}
	l.settingsRoom = o.MaxSize / settingsShare
	l.checkAfter = o.MaxSize / 20
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
	l.removing.Go(func() { l.remove(ctx) })
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
// What is too long is cut.
func (l *Log) Add(r *Record) {
	r = r.clipped()
	l.count(r)
	data := encode(r)
	now := l.now()
	rows := l.lacks(r, now)
	l.store.Behind(func(tx *store.Tx) error {
		if err := l.writeSettings(tx, rows, now); err != nil {
			return err
		}
		return l.write(tx, r, data, false)
	})
	l.hub.publish(r) // who sees it can ask for its settings
}

// AddTx writes a record through: it is durable when the transaction is. Those
// who follow see it then. Records that Add writes do not drive it out.
func (l *Log) AddTx(tx *store.Tx, r *Record) error {
	r = r.clipped()
	tx.AfterCommit(func() {
		l.count(r)
		l.hub.publish(r)
	})
	now := l.now()
	if err := l.writeSettings(tx, l.lacks(r, now), now); err != nil {
		return err
	}
	return l.write(tx, r, encode(r), true)
}

func (l *Log) write(tx *store.Tx, r *Record, data []byte, kept bool) error {
	size := int64(len(data) + rowOverhead)
	if _, err := tx.Exec(insert, size, r.ID, r.Time, string(r.Kind), data, kept); err != nil {
		return fmt.Errorf("write trace %s: %w", r.ID, err)
	}
	l.grown(tx, size)
	return nil
}

// grown has the room checked once much was added.
func (l *Log) grown(tx *store.Tx, size int64) {
	if l.added.Add(size) >= l.checkAfter {
		l.added.Store(0)
		tx.AfterCommit(l.wake) // since the removal does not see it before
	}
}

// wake has the room checked.
func (l *Log) wake() {
	select {
	case l.check <- struct{}{}:
	default:
	}
}

// Get finds the record of an ID. It gives store.ErrNotFound if there is none.
func (l *Log) Get(ctx context.Context, id string) (*Record, error) {
	r, err := l.get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("find trace %s: %w", id, err)
	}
	return r, nil
}

func (l *Log) get(ctx context.Context, id string) (*Record, error) {
	list, err := l.read(ctx, "SELECT id, time, kind, record FROM trace WHERE id = ?", id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, store.ErrNotFound
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
	known := make(interned)
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, _, err := scan(rows, known)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return rows.Err()
	})
	return list, err
}

// scan reads a row. The second result is the size of its encoding.
func scan(rows *store.Rows, known interned) (*Record, int, error) {
	r := new(Record)
	var data []byte
	if err := rows.Scan(&r.ID, &r.Time, &r.Kind, &data); err != nil {
		return nil, 0, err
	}
	if err := decode(data, r, known); err != nil {
		return nil, 0, fmt.Errorf("read trace %s: %w", r.ID, err)
	}
	return r, len(data), nil
}

// Bounds of the removal. A batch is small, since mail waits while it runs.
const (
	removeEvery  = time.Hour
	removeBatch  = 500
	removeBytes  = 4 << 20
	betweenBatch = 50 * time.Millisecond
)

// remove removes old records at the start, then about every hour, not all
// servers at the same minute, and when many were added.
func (l *Log) remove(ctx context.Context) {
	for {
		var removed int64
		for _, from := range []*lane{&l.young, &l.old} {
			for more := true; more; {
				n, again, err := l.removeOld(ctx, from)
				if err != nil && ctx.Err() == nil {
					l.log.Error("remove old traces", zap.Error(err))
				}
				removed, more = removed+int64(n), again
				if more && !pause(ctx, betweenBatch, nil) {
					return
				}
			}
		}
		for more := true; more; {
			again, err := l.removeSettings(ctx)
			if err != nil && ctx.Err() == nil {
				l.log.Error("remove old settings of traces", zap.Error(err))
			}
			if more = again; more && !pause(ctx, betweenBatch, nil) {
				return
			}
		}
		l.mu.Lock()
		l.removed = removal{at: l.now(), last: removed, total: l.removed.total + removed}
		l.mu.Unlock()
		if !pause(ctx, removeEvery/2+rand.N(removeEvery), l.check) { //nolint:gosec // it only spreads the load
			return
		}
	}
}

// pause waits for so long or until woken, and tells whether to go on.
func pause(ctx context.Context, wait time.Duration, woken <-chan struct{}) bool {
	select {
	case <-time.After(wait):
	case <-woken:
	case <-ctx.Done():
		return false
	}
	return true
}

// removeOld removes one batch of the oldest records of a lane, and tells how many
// they were and whether there are more. It looks at the front only: a record stays as long as an older
// one that was added before it stays.
func (l *Log) removeOld(ctx context.Context, from *lane) (removed int, more bool, err error) {
	b, err := l.findOld(ctx, from)
	if err != nil || b.n == 0 {
		return 0, false, err
	}
	err = l.store.Write(ctx, func(tx *store.Tx) error {
		for _, seq := range b.moved {
			_, err := tx.Exec(`UPDATE trace SET seq = ifnull((SELECT max(seq) FROM trace WHERE seq < 0), ?) + length(record) + ?
				WHERE seq = ?`, l.old.from, rowOverhead, seq)
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec("DELETE FROM trace WHERE seq >= ? AND seq <= ?", from.from, b.last)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	return b.n - len(b.moved), b.more, nil
}

// batch are the first records of a lane, which must leave it.
type batch struct {
	n     int
	last  int64   // seq
	moved []int64 // seqs of those that go to the lane of the old
	more  bool    // must leave
}

// findOld finds those that are too old or for which there is no room.
func (l *Log) findOld(ctx context.Context, from *lane) (b batch, err error) {
	oldest := l.now().Add(-l.keep)
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		var first, newest int64
		err := sn.QueryRow("SELECT max(seq) FROM trace WHERE seq >= ? AND seq < ?", from.from, from.to).Scan(&newest)
		if err != nil {
			return err
		}
		rows, err := sn.Query("SELECT seq, time, kept FROM trace WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
			from.from, from.to, removeBatch+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seq int64
			var t time.Time
			var kept bool
			if err := rows.Scan(&seq, &t, &kept); err != nil {
				return err
			}
			tooOld := t.Before(oldest)
			if !tooOld && newest-seq < from.room {
				break
			}
			if b.n == 0 {
				first = seq
			}
			if b.more = b.n == removeBatch || seq-first > removeBytes; b.more {
				break
			}
			if kept && !tooOld && from == &l.young {
				b.moved = append(b.moved, seq)
			}
			b.last = seq
			b.n++
		}
		return rows.Err()
	})
	return b, err
}
