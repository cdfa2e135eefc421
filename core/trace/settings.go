package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// settingsSchema is the table of settings that entries refer to by hash. A row is
// written with the first record of a day that needs it, so that last_used tells
// within a day when the last record did.
const settingsSchema = `
	CREATE TABLE trace_settings (
		hash      BLOB PRIMARY KEY,
		text      BLOB NOT NULL,
		last_used INTEGER NOT NULL
	);
	CREATE INDEX trace_settings_by_use ON trace_settings (last_used)`

// Bounds of the table. Settings stay longer than any record that needs them: by
// the day within which last_used is right, and one in which records are removed.
const (
	settingsMargin = 48 * time.Hour
	maxSettings    = 100_000 // rows
	settingsShare  = 10      // one part in so many of what records may take
	maxExplained   = 4 << 20 // bytes of settings that an answer has
)

// noted are the hashes of settings whose rows are written today, with when they were
// last needed, so that a record costs a look into a map for each of its entries.
type noted struct {
	mu     sync.RWMutex
	day    int64
	hashes map[mail.SettingsHash]*atomic.Int64 // Unix time in seconds
}

// row is a row of trace_settings to be written.
type row struct {
	hash mail.SettingsHash
	text []byte
}

// size is about how much room the row takes.
func (r *row) size() int64 { return int64(len(r.text) + rowOverhead) }

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// lacks gives the settings of a record whose rows are not written today.
func (l *Log) lacks(r *Record, now time.Time) (rows []row) {
	n := &l.noted
	n.mu.RLock()
	defer n.mu.RUnlock()
	today := n.day == dayOf(now)
	for i := range r.Entries {
		s := r.Entries[i].Settings
		if s == nil {
			continue
		}
		hash := s.Hash()
		if used, ok := n.hashes[hash]; ok && today {
			if second := now.Unix(); used.Load() < second {
				used.Store(second)
			}
			continue
		}
		again := slices.ContainsFunc(rows, func(r row) bool { return r.hash == hash })
		if !again && s.List() != nil {
			rows = append(rows, row{hash, s.Text()})
		}
	}
	return rows
}

// writeSettings writes rows with the record that needs them. One that was damaged is
// mended by that.
func (l *Log) writeSettings(tx *store.Tx, rows []row, now time.Time) error {
	var size int64
	for i := range rows {
		r := &rows[i]
		_, err := tx.Exec(`INSERT INTO trace_settings (hash, text, last_used) VALUES (?, ?, ?)
			ON CONFLICT (hash) DO UPDATE SET text = excluded.text, last_used = max(last_used, excluded.last_used)`, r.hash[:], r.text, now)
		if err != nil {
			return fmt.Errorf("write settings of handlers: %w", err)
		}
		size += r.size()
	}
	if len(rows) > 0 {
		tx.AfterCommit(func() { l.note(rows, now) })
		l.grown(tx, size)
	}
	return nil
}

func (l *Log) note(rows []row, now time.Time) {
	n := &l.noted
	n.mu.Lock()
	defer n.mu.Unlock()
	if day := dayOf(now); n.day != day || n.hashes == nil {
		n.day, n.hashes = day, make(map[mail.SettingsHash]*atomic.Int64)
	}
	for i := range rows {
		used := new(atomic.Int64)
		used.Store(now.Unix())
		n.hashes[rows[i].hash] = used
	}
}

// forget has the next record that needs settings write their row again, unless they
// were needed since lastUsed: then it gives when they were.
func (l *Log) forget(hash mail.SettingsHash, lastUsed time.Time) (used time.Time, needed bool) {
	n := &l.noted
	n.mu.Lock()
	defer n.mu.Unlock()
	if at := n.hashes[hash]; at != nil {
		if used = time.Unix(at.Load(), 0); used.After(lastUsed) {
			return used, true
		}
	}
	delete(n.hashes, hash)
	return time.Time{}, false
}

// Settings gives the settings that entries refer to by a hash. It gives
// store.ErrNotFound if they are not kept, or not any more.
func (l *Log) Settings(ctx context.Context, hash mail.SettingsHash) ([]mail.Setting, error) {
	if err := l.store.Flush(ctx); err != nil {
		return nil, err
	}
	var list []mail.Setting
	err := l.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		list, _, err = readSettings(sn, hash)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find settings %s of a trace: %w", hash, err)
	}
	return list, nil
}

// readSettings gives store.ErrNotFound for what cannot be read, too: no record is
// hidden by that.
func readSettings(q store.Querier, hash mail.SettingsHash) (list []mail.Setting, size int, err error) {
	var text []byte
	if err := q.QueryRow("SELECT text FROM trace_settings WHERE hash = ?", hash[:]).Scan(&text); err != nil {
		return nil, 0, err
	}
	if list, err = mail.ParseSettings(text); err != nil {
		return nil, 0, fmt.Errorf("%w: what is stored is damaged: %w", store.ErrNotFound, err)
	}
	return list, len(text), nil
}

// explain puts the settings into records that their entries refer to: each once, with
// the first that needs it, and no more than maxExplained.
func (l *Log) explain(ctx context.Context, records []*Record) error {
	known := make(map[mail.SettingsHash]struct{})
	room := maxExplained
	return l.store.Read(ctx, func(sn *store.Snapshot) error {
		for _, r := range records {
			for i := range r.Entries {
				hash := r.Entries[i].Settings.Hash()
				if _, ok := known[hash]; ok || hash == (mail.SettingsHash{}) {
					continue
				}
				known[hash] = struct{}{}
				list, size, err := readSettings(sn, hash)
				switch {
				case errors.Is(err, store.ErrNotFound):
					continue
				case err != nil:
					return err
				}
				if room -= size; room < 0 {
					return nil
				}
				if r.Settings == nil {
					r.Settings = make(map[string][]mail.Setting)
				}
				r.Settings[hash.String()] = list
			}
		}
		return nil
	})
}

// removeSettings removes one batch of settings, and tells whether there may be more:
// those that no record can refer to any more. If there are too many others, those go
// that were not needed for the longest.
func (l *Log) removeSettings(ctx context.Context) (more bool, err error) {
	unused := l.now().Add(-l.keep - settingsMargin)
	var rows, size int64
	var old bool
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow(`SELECT count(*), ifnull(sum(length(text)), 0) + count(*) * ?,
			EXISTS (SELECT 1 FROM trace_settings WHERE last_used < ?) FROM trace_settings`, rowOverhead, unused).Scan(&rows, &size, &old)
	})
	if err != nil {
		return false, err
	}
	rows, size = rows-l.maxSettings, size-l.settingsRoom
	if !old && rows <= 0 && size <= 0 {
		return false, nil
	}
	if !old {
		unused = time.Unix(1<<40, 0) // all of them
	}
	err = l.store.Write(ctx, func(tx *store.Tx) error {
		list, err := oldestSettings(tx, unused)
		for i := 0; i < len(list) && err == nil && (old || rows > 0 || size > 0); i++ {
			var removed bool
			if removed, err = l.removeSetting(tx, &list[i]); removed {
				rows, size = rows-1, size-list[i].size
			}
		}
		more = len(list) == removeBatch || !old && (rows > 0 || size > 0)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remove old settings: %w", err)
	}
	return more, nil
}

// usedRow is a row that may have to go.
type usedRow struct {
	hash     []byte
	size     int64
	lastUsed time.Time
}

// oldestSettings gives a batch of the rows that were last used before a time.
func oldestSettings(tx *store.Tx, before time.Time) (list []usedRow, err error) {
	rows, err := tx.Query("SELECT hash, length(text) + ?, last_used FROM trace_settings WHERE last_used < ? ORDER BY last_used LIMIT ?", rowOverhead, before, removeBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r usedRow
		if err := rows.Scan(&r.hash, &r.size, &r.lastUsed); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// removeSetting removes a row, unless it was needed since the database was told so:
// then it is told.
func (l *Log) removeSetting(tx *store.Tx, r *usedRow) (removed bool, err error) {
	var hash mail.SettingsHash
	copy(hash[:], r.hash)
	if used, needed := l.forget(hash, r.lastUsed); needed {
		_, err = tx.Exec("UPDATE trace_settings SET last_used = ? WHERE hash = ?", used, r.hash)
		return false, err
	}
	_, err = tx.Exec("DELETE FROM trace_settings WHERE hash = ?", r.hash)
	return true, err
}

// Explain puts the settings of entries that were not stored yet into the record.
func (r *Record) Explain() {
	for i := range r.Entries {
		list := r.Entries[i].Settings.List()
		if list == nil {
			continue
		}
		if r.Settings == nil {
			r.Settings = make(map[string][]mail.Setting)
		}
		r.Settings[r.Entries[i].Settings.Hash().String()] = list
	}
}
