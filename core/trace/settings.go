package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
)

// noted are the hashes of settings whose rows are written today, so that a record
// costs a look into a map for each of its entries.
type noted struct {
	mu     sync.RWMutex
	day    int64
	hashes map[mail.SettingsHash]struct{}
}

// row is a row of trace_settings to be written.
type row struct {
	hash mail.SettingsHash
	text []byte
}

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
		if _, ok := n.hashes[hash]; ok && today {
			continue
		}
		again := slices.ContainsFunc(rows, func(r row) bool { return r.hash == hash })
		if !again && s.List() != nil {
			rows = append(rows, row{hash, s.Text()})
		}
	}
	return rows
}

// writeSettings writes rows with the record that needs them.
func (l *Log) writeSettings(tx *store.Tx, rows []row, now time.Time) error {
	for _, r := range rows {
		_, err := tx.Exec(`INSERT INTO trace_settings (hash, text, last_used) VALUES (?, ?, ?)
			ON CONFLICT (hash) DO UPDATE SET last_used = max(last_used, excluded.last_used)`, r.hash[:], r.text, now)
		if err != nil {
			return fmt.Errorf("write settings of handlers: %w", err)
		}
	}
	if len(rows) > 0 {
		tx.AfterCommit(func() { l.note(rows, now) })
	}
	return nil
}

func (l *Log) note(rows []row, now time.Time) {
	n := &l.noted
	n.mu.Lock()
	defer n.mu.Unlock()
	if day := dayOf(now); n.day != day || n.hashes == nil {
		n.day, n.hashes = day, make(map[mail.SettingsHash]struct{})
	}
	for _, r := range rows {
		n.hashes[r.hash] = struct{}{}
	}
}

// Settings gives the settings that entries refer to by a hash. It gives
// store.ErrNotFound if they are not kept, or not any more.
func (l *Log) Settings(ctx context.Context, hash mail.SettingsHash) ([]mail.Setting, error) {
	if err := l.store.Flush(ctx); err != nil {
		return nil, err
	}
	var list []mail.Setting
	err := l.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		list, err = readSettings(sn, hash)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find settings %s of a trace: %w", hash, err)
	}
	return list, nil
}

func readSettings(q store.Querier, hash mail.SettingsHash) ([]mail.Setting, error) {
	var text []byte
	if err := q.QueryRow("SELECT text FROM trace_settings WHERE hash = ?", hash[:]).Scan(&text); err != nil {
		return nil, err
	}
	return mail.ParseSettings(text)
}

// explain puts the settings into records that their entries refer to.
func (l *Log) explain(ctx context.Context, records []*Record) error {
	known := make(map[mail.SettingsHash][]mail.Setting)
	return l.store.Read(ctx, func(sn *store.Snapshot) error {
		for _, r := range records {
			for i := range r.Entries {
				hash := r.Entries[i].Settings.Hash()
				if hash == (mail.SettingsHash{}) {
					continue
				}
				list, ok := known[hash]
				if !ok {
					var err error
					if list, err = readSettings(sn, hash); err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					known[hash] = list
				}
				if list == nil {
					continue
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

// removeSettings removes one batch of settings that no record can refer to any
// more, and tells whether there may be more. Beyond the most that are kept, those
// go that were not used for the longest.
func (l *Log) removeSettings(ctx context.Context) (more bool, err error) {
	unused := l.now().Add(-l.keep - settingsMargin)
	var count int64
	var old bool
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow(`SELECT (SELECT count(*) FROM trace_settings),
			EXISTS (SELECT 1 FROM trace_settings WHERE last_used < ?)`, unused).Scan(&count, &old)
	})
	if err != nil || !old && count <= maxSettings {
		return false, err
	}
	if !old {
		unused = l.now()
	}
	err = l.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`DELETE FROM trace_settings WHERE hash IN
			(SELECT hash FROM trace_settings WHERE last_used < ? ORDER BY last_used LIMIT ?)`, unused, removeBatch)
		more = result.RowsAffected == removeBatch
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remove old settings: %w", err)
	}
	return more, nil
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
