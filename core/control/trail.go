package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

func init() { core.Register(new(Service)) }

// keepAudit is how long entries of the audit trail stay.
const keepAudit = 2 * 365 * 24 * time.Hour

// maxAuditValue bounds what is kept of a value before or after a change, in
// bytes of JSON.
const maxAuditValue = 64 << 10

// Service is service.control: what the operations on a data directory share,
// whoever asks for them. It keeps the audit trail, and has the operations of the
// process that runs the server for those who offer them to others.
type Service struct {
	store *store.Store
	now   func() time.Time
	live  atomic.Pointer[live]
}

// live is what a running server has to offer.
type live struct {
	operations Operations
	metrics    http.Handler
}

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{ID: "service.control", New: func() core.Module { return new(Service) }}
}

// Migrations gives the table of the audit trail.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "control", Steps: []string{`
		CREATE TABLE control_audit (
			id        INTEGER PRIMARY KEY,
			time      BIGINT NOT NULL,  -- microseconds since 1970
			expires   BIGINT NOT NULL,  -- likewise
			actor     TEXT NOT NULL,
			via       TEXT NOT NULL,
			address   TEXT NOT NULL,
			operation TEXT NOT NULL,
			object    TEXT NOT NULL,
			before    TEXT,             -- JSON
			after     TEXT,             -- JSON
			done      INTEGER NOT NULL  -- 0 while it is being done
		);
		CREATE INDEX control_audit_expires ON control_audit (expires);
	`}}
}

// Provision takes the store.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now = c.Store(), c.Now()
	return nil
}

// Sweep removes entries that are too old, of the history of domains' settings too,
// which is no module's.
func (*Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	result, err := tx.Exec(`DELETE FROM control_audit WHERE id IN (
		SELECT id FROM control_audit WHERE expires <= ? ORDER BY expires LIMIT ?)`, now.UnixMicro(), limit)
	if err != nil {
		return 0, fmt.Errorf("remove old audit entries: %w", err)
	}
	removed = int(result.RowsAffected)
	more, err := tuning.SweepHistory(tx, now, limit-removed)
	return removed + more, err
}

// Offer gives the listeners of the API what they serve. It is called once the
// server serves.
func (s *Service) Offer(o Operations, metrics http.Handler) { s.live.Store(&live{o, metrics}) }

// Offered gives what Offer was given, nil before.
func (s *Service) Offered() (Operations, http.Handler) {
	if l := s.live.Load(); l != nil {
		return l.operations, l.metrics
	}
	return nil, nil
}

// audited makes a change and writes it into the trail, both durably. The entry is
// written first, so that no crash leaves a change of which nothing is known, and
// taken away again if nothing was changed.
func (s *Service) audited(ctx context.Context, e AuditEntry, before any, do func() (after any, err error)) error {
	id, err := s.begin(ctx, e, before)
	if err != nil {
		return err
	}
	after, err := do()
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return joined(err, s.write(ctx, `DELETE FROM control_audit WHERE id = ?`, id))
	}
	if err := s.write(ctx, `UPDATE control_audit SET after = ?, done = 1 WHERE id = ?`, auditValue(after), id); err != nil {
		return fmt.Errorf("the change is made, and its entry stays unfinished: %w", err)
	}
	return nil
}

// joined adds a second error to one whose text stays that of the first alone where
// there is no second.
func joined(err, second error) error {
	if second == nil {
		return err
	}
	return errors.Join(err, second)
}

func (s *Service) begin(ctx context.Context, e AuditEntry, before any) (id int64, err error) {
	actor, now := actorOf(ctx), s.now()
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`INSERT INTO control_audit (time, expires, actor, via, address, operation, object, before, done)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)`,
			now.UnixMicro(), now.Add(keepAudit).UnixMicro(), actor.Name, actor.Via, actor.Address, e.Operation, e.Object, auditValue(before))
		id = result.LastInsertID
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("write audit trail: %w; nothing has changed", err)
	}
	return id, nil
}

func (s *Service) write(ctx context.Context, query string, args ...any) error {
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	return nil
}

// auditValue gives a value as JSON, nil for none. One that is too long is left
// out, which the trail says.
func auditValue(v any) any {
	if v == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil || len(text) > maxAuditValue {
		return fmt.Sprintf(`{"omitted":"%d bytes"}`, len(text))
	}
	return string(text)
}

// list reads a page of the trail, the newest first.
func (s *Service) list(ctx context.Context, f ChangeFilter, p Page) (list []AuditEntry, next string, err error) {
	limit, err := p.limit()
	if err != nil {
		return nil, "", err
	}
	before := int64(1) << 62
	if p.After != "" {
		if before, err = strconv.ParseInt(p.After, 10, 64); err != nil {
			return nil, "", Invalid(fmt.Errorf("list audit trail: after is no entry: %q", p.After))
		}
	}
	where, args := f.where()
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		list = nil
		rows, err := sn.Query(`SELECT id, time, actor, via, address, operation, object, before, after, done FROM control_audit
			WHERE id < ?`+where+` ORDER BY id DESC LIMIT ?`, append(append([]any{before}, args...), limit+1)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e AuditEntry
			var done bool
			if err := rows.Scan(&e.ID, &e.Time, &e.Actor, &e.Via, &e.Address, &e.Operation, &e.Object, (*[]byte)(&e.Before), (*[]byte)(&e.After), &done); err != nil {
				return err
			}
			e.Unfinished = !done
			list = append(list, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, "", fmt.Errorf("list audit trail: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = strconv.FormatInt(list[limit-1].ID, 10)
	}
	return list, next, nil
}

// where gives the conditions of a filter.
func (f ChangeFilter) where() (sql string, args []any) {
	var b strings.Builder
	for _, c := range []struct{ column, value string }{{"actor", f.Actor}, {"operation", f.Operation}, {"object", f.Object}} {
		if c.value != "" {
			fmt.Fprintf(&b, " AND %s = ?", c.column)
			args = append(args, c.value)
		}
	}
	return b.String(), args
}

// limit gives how many entries the page has.
func (p Page) limit() (int, error) {
	switch {
	case p.Limit == 0:
		return MaxPage, nil
	case p.Limit < 0 || p.Limit > MaxPage:
		return 0, Invalid(fmt.Errorf("a page has from 1 to %d entries, not %d", MaxPage, p.Limit))
	}
	return p.Limit, nil
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
)
