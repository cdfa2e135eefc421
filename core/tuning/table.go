package tuning

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// schema is the first version of the tables.
const schema = `
CREATE TABLE domain_setting (
	domain    TEXT NOT NULL,
	handler   TEXT NOT NULL,
	attribute TEXT NOT NULL,
	value     TEXT NOT NULL,
	changed   INTEGER NOT NULL,
	actor     TEXT NOT NULL,
	PRIMARY KEY (domain, handler, attribute)
);
CREATE TABLE domain_setting_history (
	id        INTEGER PRIMARY KEY,
	time      INTEGER NOT NULL,
	actor     TEXT NOT NULL,
	domain    TEXT NOT NULL,
	handler   TEXT NOT NULL,
	attribute TEXT NOT NULL,
	was       TEXT,
	became    TEXT,
	note      TEXT NOT NULL
);
CREATE INDEX domain_setting_history_by_domain ON domain_setting_history (domain, id);
`

// Table is the settings and their history in a store. It is safe for concurrent
// use.
type Table struct {
	store *store.Store
	now   func() time.Time
}

// Open prepares the tables in a store.
func Open(ctx context.Context, s *store.Store, now func() time.Time) (*Table, error) {
	if err := s.Migrate(ctx, store.Migrations{Module: "tuning", Steps: []string{schema}}); err != nil {
		return nil, err
	}
	return &Table{store: s, now: now}, nil
}

// keepHistory is how long a change can be looked up and rolled back to.
const keepHistory = 2 * 365 * 24 * time.Hour

// SweepHistory removes at most limit changes that are too old. Identifiers are in
// the order of time, so that it looks at the oldest only.
func SweepHistory(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	result, err := tx.Exec(`DELETE FROM domain_setting_history WHERE id IN (
		SELECT id FROM (SELECT id, time FROM domain_setting_history ORDER BY id LIMIT ?) AS oldest WHERE time < ?)`,
		limit, now.Add(-keepHistory))
	if err != nil {
		return 0, fmt.Errorf("remove old changes of settings: %w", err)
	}
	return int(result.RowsAffected), nil
}

// All gives the settings of all domains, by domain, handler and attribute.
func (t *Table) All(ctx context.Context) ([]Setting, error) {
	return t.settings(ctx, "SELECT domain, handler, attribute, value, changed, actor FROM domain_setting ORDER BY domain, handler, attribute")
}

// Of gives the settings of one domain, by handler and attribute.
func (t *Table) Of(ctx context.Context, domain string) ([]Setting, error) {
	return t.settings(ctx, "SELECT domain, handler, attribute, value, changed, actor FROM domain_setting WHERE domain = ? ORDER BY handler, attribute", domain)
}

func (t *Table) settings(ctx context.Context, query string, args ...any) (list []Setting, err error) {
	err = t.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s Setting
			if err := rows.Scan(&s.Domain, &s.Handler, &s.Attribute, &s.Value, &s.Changed, &s.Actor); err != nil {
				return err
			}
			list = append(list, s)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read settings of domains: %w", err)
	}
	return list, nil
}

// Domains lists the domains that have settings, in the order of their names behind
// after, at most limit.
func (t *Table) Domains(ctx context.Context, after string, limit int) (list []string, err error) {
	err = t.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query("SELECT DISTINCT domain FROM domain_setting WHERE domain > ? ORDER BY domain LIMIT ?", after, clip(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var domain string
			if err := rows.Scan(&domain); err != nil {
				return err
			}
			list = append(list, domain)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list domains with settings: %w", err)
	}
	return list, nil
}

// clip bounds what a list has.
func clip(limit int) int {
	if limit < 1 || limit > MaxPage {
		return MaxPage
	}
	return limit
}

// Apply makes the changes of a request durable, together with their history.
// What is so already is left out of that.
func (t *Table) Apply(ctx context.Context, r Request) error {
	now := r.At
	if now.IsZero() {
		now = t.now()
	}
	err := t.store.Write(ctx, func(tx *store.Tx) error {
		for _, c := range r.Changes {
			if err := apply(tx, r, c, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store settings of %s: %w", r.Domain, err)
	}
	return nil
}

func apply(tx *store.Tx, r Request, c Change, now time.Time) error {
	var was sql.Null[string]
	err := tx.QueryRow("SELECT value FROM domain_setting WHERE domain = ? AND handler = ? AND attribute = ?", r.Domain, c.Handler, c.Attribute).Scan(&was)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if c.Value == nil && !was.Valid || c.Value != nil && was.Valid && was.V == *c.Value {
		return nil
	}
	var became any
	if c.Value == nil {
		_, err = tx.Exec("DELETE FROM domain_setting WHERE domain = ? AND handler = ? AND attribute = ?", r.Domain, c.Handler, c.Attribute)
	} else {
		became = *c.Value
		_, err = tx.Exec(`INSERT INTO domain_setting (domain, handler, attribute, value, changed, actor) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (domain, handler, attribute) DO UPDATE SET value = excluded.value, changed = excluded.changed, actor = excluded.actor`,
			r.Domain, c.Handler, c.Attribute, *c.Value, now, r.Actor)
	}
	if err != nil {
		return err
	}
	var before any
	if was.Valid {
		before = was.V
	}
	_, err = tx.Exec("INSERT INTO domain_setting_history (time, actor, domain, handler, attribute, was, became, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		now, r.Actor, r.Domain, c.Handler, c.Attribute, before, became, r.Note)
	return err
}

// History gives the newest revisions of a domain that are older than the one
// before, 0 standing for the newest of all; the newest first, at most limit.
func (t *Table) History(ctx context.Context, domain string, before int64, limit int) (list []Revision, err error) {
	err = t.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query(`SELECT id, time, actor, domain, handler, attribute, was, became, note FROM domain_setting_history
			WHERE domain = ? AND (? <= 0 OR id < ?) ORDER BY id DESC LIMIT ?`, domain, before, before, clip(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r Revision
			var was, became sql.Null[string]
			if err := rows.Scan(&r.ID, &r.Time, &r.Actor, &r.Domain, &r.Handler, &r.Attribute, &was, &became, &r.Note); err != nil {
				return err
			}
			r.Before, r.After = pointer(was), pointer(became)
			list = append(list, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read history of settings of %s: %w", domain, err)
	}
	return list, nil
}

func pointer(s sql.Null[string]) *string {
	if !s.Valid {
		return nil
	}
	return &s.V
}

// Undo gives the changes that bring the settings of a domain to what they were
// right after a revision, 0 standing for none at all. It gives store.ErrNotFound
// if the domain has no such revision.
func (t *Table) Undo(ctx context.Context, domain string, to int64) (list []Change, err error) {
	err = t.store.Read(ctx, func(sn *store.Snapshot) error {
		var id int64
		if to != 0 {
			if err := sn.QueryRow("SELECT id FROM domain_setting_history WHERE id = ? AND domain = ?", to, domain).Scan(&id); err != nil {
				return err
			}
		}
		query, args := `SELECT handler, attribute, was FROM domain_setting_history WHERE id IN
			(SELECT min(id) FROM domain_setting_history WHERE domain = ? AND id > ? GROUP BY handler, attribute)
			ORDER BY handler, attribute`, []any{domain, to}
		if to == 0 { // nothing at all; the history may not reach back so far
			query, args = "SELECT handler, attribute, NULL FROM domain_setting WHERE domain = ? ORDER BY handler, attribute", []any{domain}
		}
		rows, err := sn.Query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var c Change
			var was sql.Null[string]
			if err := rows.Scan(&c.Handler, &c.Attribute, &was); err != nil {
				return err
			}
			c.Value = pointer(was)
			list = append(list, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("find revision %d of the settings of %s: %w", to, domain, err)
	}
	return list, nil
}
