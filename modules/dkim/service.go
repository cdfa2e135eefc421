package dkim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/store"
)

const schema = `
	CREATE TABLE dkim_keys (
		domain    TEXT NOT NULL,    -- in normal form
		selector  TEXT NOT NULL,    -- in A-labels
		algorithm TEXT NOT NULL,    -- of a=
		bits      INTEGER NOT NULL,
		record    TEXT NOT NULL,    -- the text that publishes it
		state     TEXT NOT NULL,    -- pending, active, retiring or retired
		created   BIGINT NOT NULL,  -- microseconds since 1970, like all times here
		since     BIGINT NOT NULL,  -- when the state began
		until     BIGINT NOT NULL,  -- the record of a retiring key must stay until then
		expires   BIGINT,           -- a retired one is forgotten then
		PRIMARY KEY (domain, selector)
	);
	CREATE INDEX dkim_keys_expires ON dkim_keys (expires);
`

// Service is service.dkim: it keeps the keys that the server manages, each in a file
// of the data directory, and their states in the database. A key is in its file before
// its row says so, and its row says that it is retired before the file goes: what a
// crash leaves between the two, the next change mends. It is safe for concurrent use
// once started.
type Service struct {
	store    *store.Store
	now      func() time.Time
	resolver zoneResolver
	dir      string // of all keys, "" without a data directory
	log      *zap.Logger

	changing chan struct{} // taken by who changes keys
	// ready are the keys that sign, by domain. The map is never changed, but replaced
	// by who has changing.
	ready atomic.Pointer[map[string][]*heldKey]
}

// zoneResolver is what a check needs of the DNS: answers that are fresh.
type zoneResolver interface {
	resolver
	Forget(name string, t dns.Type)
}

// keyFolder is where the keys are in the data directory.
const keyFolder = "dkim"

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{ID: "service.dkim", New: func() core.Module { return new(Service) }}
}

// Migrations gives the table of the keys.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "dkim", Steps: []string{schema}}
}

// Provision takes the store, the clock and the resolver.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now, s.resolver, s.log = c.Store(), c.Now(), c.Resolver(), c.Logger()
	s.changing = make(chan struct{}, 1)
	s.ready.Store(new(map[string][]*heldKey))
	if dir := c.DataDir(); dir != "" {
		s.dir = filepath.Join(dir, keyFolder)
	}
	return nil
}

// Start reads which keys sign, and deletes what is left of retired ones.
func (s *Service) Start() error {
	rows, err := s.rows(context.Background(), "")
	if err != nil {
		return err
	}
	for _, r := range inState(rows, control.DKIMRetired) {
		if !s.hasFile(r) {
			continue
		}
		text := "the private key of a retired DKIM key was still there, and is deleted now"
		if err := s.removeKey(r); err != nil {
			text = "the private key of a retired DKIM key cannot be deleted: " + err.Error()
		}
		s.log.Warn(text, zap.String(logkey.Domain, r.domain), zap.String("selector", r.selector))
	}
	ready := s.held(rows)
	s.ready.Store(&ready)
	return nil
}

// hasFile tells whether there is anything in the place of a key's file, or nobody knows.
func (s *Service) hasFile(r *row) bool {
	if s.dir == "" {
		return false
	}
	_, err := os.Lstat(s.file(r))
	return !errors.Is(err, fs.ErrNotExist)
}

// refresh takes over which keys of a domain sign. It is called by who has changing.
func (s *Service) refresh(domain string, rows []*row) {
	ready := maps.Clone(*s.ready.Load())
	ready[domain] = s.held(rows)[domain]
	s.ready.Store(&ready)
}

// Sweep forgets keys that were retired long ago. One whose file is there still is not
// forgotten: the file would be taken for that of a new key.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	old, err := expired(tx, now, limit)
	if err != nil {
		return 0, fmt.Errorf("find retired DKIM keys: %w", err)
	}
	for _, r := range old {
		query, args := `DELETE FROM dkim_keys WHERE domain = ? AND selector = ?`, []any{r.domain, r.selector}
		if s.hasFile(r) {
			query, args = `UPDATE dkim_keys SET expires = ? WHERE domain = ? AND selector = ?`, []any{now.Add(keepRetired), r.domain, r.selector}
		} else {
			removed++
		}
		if _, err := tx.Exec(query, args...); err != nil {
			return 0, fmt.Errorf("forget retired DKIM keys: %w", err)
		}
	}
	return removed, nil
}

func expired(tx *store.Tx, now time.Time, limit int) ([]*row, error) {
	rows, err := tx.Query(`SELECT domain, selector FROM dkim_keys WHERE expires <= ? ORDER BY expires LIMIT ?`, now, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*row
	for rows.Next() {
		r := new(row)
		if err := rows.Scan(&r.domain, &r.selector); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// keepRetired is for how long a retired key is remembered, so that its selector is not
// taken again while others may remember its record.
const keepRetired = 365 * 24 * time.Hour

// row is a key in the database.
type row struct {
	domain, selector, algorithm string
	bits                        int
	record, state               string
	created, since, until       time.Time
}

// rows reads the keys of a domain, of all if it is "", in the order in which they were
// made.
func (s *Service) rows(ctx context.Context, domain string) ([]*row, error) {
	var list []*row
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		list = nil
		rows, err := sn.Query(`SELECT domain, selector, algorithm, bits, record, state, created, since, until FROM dkim_keys
			WHERE ? IN ('', domain) ORDER BY domain, rowid`, domain)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r := new(row)
			if err := rows.Scan(&r.domain, &r.selector, &r.algorithm, &r.bits, &r.record, &r.state, &r.created, &r.since, &r.until); err != nil {
				return err
			}
			list = append(list, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read DKIM keys: %w", err)
	}
	return list, nil
}

// put writes keys durably, all of them or none; of those that are there already it
// writes the state.
func (s *Service) put(ctx context.Context, list ...*row) error {
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		for _, r := range list {
			var expires any
			if r.state == control.DKIMRetired {
				expires = r.since.Add(keepRetired)
			}
			if _, err := tx.Exec(`INSERT INTO dkim_keys (domain, selector, algorithm, bits, record, state, created, since, until, expires)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (domain, selector) DO UPDATE SET state = excluded.state, since = excluded.since, until = excluded.until, expires = excluded.expires`, r.domain, r.selector, r.algorithm, r.bits, r.record, r.state, r.created, r.since, r.until, expires); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write DKIM keys: %w", err)
	}
	return nil
}

// drop forgets a key.
func (s *Service) drop(ctx context.Context, r *row) error {
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM dkim_keys WHERE domain = ? AND selector = ?`, r.domain, r.selector)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget DKIM key %s of %s: %w", r.selector, r.domain, err)
	}
	return nil
}

// Keys lists the keys of a domain: those in files, then those that the server manages.
func (s *Service) Keys(ctx context.Context, d control.DKIMDomain) ([]control.DKIMKey, error) {
	list := []control.DKIMKey{}
	for _, b := range d.Blocks {
		if !b.Managed {
			list = append(list, keyInFile(d.Name, b))
		}
	}
	rows, err := s.rows(ctx, d.Name)
	for _, r := range rows {
		list = append(list, s.noun(r))
	}
	return list, err
}

// keyInFile gives a key that the configuration names, with a finding if it cannot be
// read.
func keyInFile(domain string, b control.DKIMBlock) control.DKIMKey {
	ascii, _ := asciiName(domain)
	k := control.DKIMKey{Domain: domain, Selector: b.Selector, State: control.DKIMInFile, File: b.KeyFile, Name: recordName(b.Selector, ascii)}
	private, err := loadPrivateKey(b.KeyFile)
	if err == nil {
		k.Algorithm, k.Bits = private.algorithm(), private.bits
		k.Value, err = private.record()
	}
	if err != nil {
		k.Findings = []control.DKIMFinding{{Code: "unreadable", Text: err.Error(), Wrong: true}}
	}
	return k
}

// noun gives a key as operators see it.
func (s *Service) noun(r *row) control.DKIMKey {
	ascii, _ := asciiName(r.domain)
	k := control.DKIMKey{
		Domain: r.domain, Selector: r.selector, Algorithm: r.algorithm, Bits: r.bits, State: r.state,
		Created: r.created.UTC(), Since: r.since.UTC(), Name: recordName(r.selector, ascii), Value: r.record,
	}
	if r.state != control.DKIMRetired {
		k.File = s.file(r)
	}
	if r.state == control.DKIMRetiring {
		k.Until = r.until.UTC()
	}
	return k
}

func (s *Service) nouns(rows []*row) []control.DKIMKey {
	var list []control.DKIMKey
	for _, r := range rows {
		list = append(list, s.noun(r))
	}
	return list
}

// errNoDirectory is returned where keys cannot be kept.
var errNoDirectory = errors.New("there is no data directory to keep keys in")

// inState gives the keys of a state.
func inState(rows []*row, state string) []*row {
	return slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.state != state })
}

// Interface guards.
var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
)
