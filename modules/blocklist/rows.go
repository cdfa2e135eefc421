package blocklist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

const schema = `
	CREATE TABLE blocklist (
		network  BLOB NOT NULL,    -- see func key
		source   TEXT NOT NULL,
		reason   TEXT NOT NULL,
		evidence TEXT NOT NULL,
		created  BIGINT NOT NULL,  -- microseconds since 1970
		expires  BIGINT,           -- the same, NULL for no end
		PRIMARY KEY (network, source)
	);
	CREATE INDEX blocklist_expires ON blocklist (expires) WHERE expires IS NOT NULL;
	CREATE INDEX blocklist_source ON blocklist (source);
	CREATE TABLE blocklist_import (
		source  TEXT PRIMARY KEY,
		created BIGINT NOT NULL,
		expires BIGINT
	);
	CREATE TABLE blocklist_part (
		source   TEXT NOT NULL,
		first    BLOB NOT NULL,    -- the key of the first network
		networks BLOB NOT NULL,    -- the keys of all, in order
		PRIMARY KEY (source, first)
	);
`

// Migrations gives the service's tables.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "blocklist", Steps: []string{schema}}
}

// micros gives a time as a row has it.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func insert(tx *store.Tx, b *control.Block) error {
	_, err := tx.Exec(`INSERT INTO blocklist (network, source, reason, evidence, created, expires) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (network, source) DO UPDATE SET reason = excluded.reason, evidence = excluded.evidence,
			created = excluded.created, expires = excluded.expires`,
		key(b.Network), b.Source, b.Reason, b.Evidence, micros(b.Created), micros(b.Expires))
	return err
}

// replace puts a list in the place of all that its source has.
func replace(tx *store.Tx, i *imported) error {
	for _, query := range []string{
		`DELETE FROM blocklist WHERE source = ?`,
		`DELETE FROM blocklist_part WHERE source = ?`,
		`DELETE FROM blocklist_import WHERE source = ?`,
	} {
		if _, err := tx.Exec(query, i.source); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`INSERT INTO blocklist_import (source, created, expires) VALUES (?, ?, ?)`,
		i.source, micros(i.created), micros(i.expires)); err != nil {
		return err
	}
	return i.networks.parts(func(first, networks []byte) error {
		_, err := tx.Exec(`INSERT INTO blocklist_part (source, first, networks) VALUES (?, ?, ?)`, i.source, first, networks)
		return err
	})
}

// remove deletes exactly that network from all sources and tells how many had
// it.
func remove(tx *store.Tx, network netip.Prefix) (removed int, err error) {
	k := key(network)
	result, err := tx.Exec(`DELETE FROM blocklist WHERE network = ?`, k)
	if err != nil {
		return 0, err
	}
	removed = int(result.RowsAffected)
	sources, err := importSources(tx)
	if err != nil {
		return 0, err
	}
	for _, source := range sources {
		found, err := removeImported(tx, source, k)
		if err != nil {
			return 0, err
		}
		if found {
			removed++
		}
	}
	return removed, nil
}

func importSources(q store.Querier) (sources []string, err error) {
	rows, err := q.Query(`SELECT source FROM blocklist_import`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var source string
		if err := rows.Scan(&source); err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, rows.Err()
}

// removeImported cuts a network out of the part of a list that may have it.
func removeImported(tx *store.Tx, source string, k []byte) (bool, error) {
	var first, networks []byte
	err := tx.QueryRow(`SELECT first, networks FROM blocklist_part WHERE source = ? AND first <= ? ORDER BY first DESC LIMIT 1`,
		source, k).Scan(&first, &networks)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if keySize(networks) != len(k) {
		return false, nil
	}
	keys := slices.Collect(slices.Chunk(networks, len(k)))
	i, found := slices.BinarySearchFunc(keys, k, bytes.Compare)
	if !found {
		return false, nil
	}
	if len(keys) == 1 {
		_, err = tx.Exec(`DELETE FROM blocklist_part WHERE source = ? AND first = ?`, source, first)
	} else {
		rest := bytes.Join(slices.Delete(keys, i, i+1), nil)
		_, err = tx.Exec(`UPDATE blocklist_part SET first = ?, networks = ? WHERE source = ? AND first = ?`, rest[:len(k)], rest, source, first)
	}
	return true, err
}

// single reads a page of the blocks that were added one by one.
func single(ctx context.Context, st *store.Store, from netip.Prefix, behind string, now time.Time, limit int) (list []control.Block, err error) {
	k := []byte{}
	if from.IsValid() {
		k = key(from)
	}
	err = st.Read(ctx, func(s *store.Snapshot) error {
		rows, err := s.Query(`SELECT network, source, reason, evidence, created, expires FROM blocklist
			WHERE (network, source) > (?, ?) AND (expires IS NULL OR expires > ?) ORDER BY network, source LIMIT ?`,
			k, behind, now.UnixMicro(), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			b, err := scan(rows)
			if err != nil {
				return err
			}
			list = append(list, b)
		}
		return rows.Err()
	})
	return list, err
}

func scan(rows *store.Rows) (b control.Block, err error) {
	var k []byte
	if err := rows.Scan(&k, &b.Source, &b.Reason, &b.Evidence, &b.Created, &b.Expires); err != nil {
		return b, err
	}
	n, ok := fromKey(k)
	if !ok {
		return b, fmt.Errorf("row of blocklist has the network %x, which is none", k)
	}
	b.Network = n
	return b, nil
}

// load reads all that counts.
func load(ctx context.Context, st *store.Store, now time.Time) (*view, error) {
	v := newView()
	err := st.Read(ctx, func(s *store.Snapshot) error {
		if err := loadSingle(s, v, now); err != nil {
			return err
		}
		return loadImports(s, v, now)
	})
	return v, err
}

func loadSingle(s *store.Snapshot, v *view, now time.Time) error {
	rows, err := s.Query(`SELECT network, source, reason, evidence, created, expires FROM blocklist
		WHERE expires IS NULL OR expires > ? ORDER BY network, source`, now.UnixMicro())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		b, err := scan(rows)
		if err != nil {
			return err
		}
		v.single.Modify(b.Network, func(blocks []*control.Block, _ bool) ([]*control.Block, bool) {
			return append(blocks, &b), false
		})
	}
	return rows.Err()
}

func loadImports(s *store.Snapshot, v *view, now time.Time) error {
	rows, err := s.Query(`SELECT source, created, expires FROM blocklist_import WHERE expires IS NULL OR expires > ? ORDER BY source`, now.UnixMicro())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		i := new(imported)
		if err := rows.Scan(&i.source, &i.created, &i.expires); err != nil {
			return err
		}
		v.imports = append(v.imports, i)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, i := range v.imports {
		if err := loadParts(s, i); err != nil {
			return err
		}
	}
	return nil
}

func loadParts(s *store.Snapshot, i *imported) error {
	rows, err := s.Query(`SELECT networks FROM blocklist_part WHERE source = ? ORDER BY first`, i.source)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var networks []byte
		if err := rows.Scan(&networks); err != nil {
			return err
		}
		if !i.networks.addPart(networks) {
			return fmt.Errorf("a row of the list %q is broken: import it again", i.source)
		}
	}
	i.networks.index()
	return rows.Err()
}

// Sweep removes blocks that have ended, and the lists that have.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	ended, err := endedBlocks(tx, now, limit)
	if err != nil {
		return 0, err
	}
	for _, b := range ended {
		if _, err := tx.Exec(`DELETE FROM blocklist WHERE network = ? AND source = ?`, key(b.Network), b.Source); err != nil {
			return 0, err
		}
	}
	removed = len(ended)
	tx.AfterCommit(func() {
		v := s.view.Load()
		for _, b := range ended {
			v = v.withoutSingle(b.Network, func(o *control.Block) bool { return !live(o.Expires, now) })
		}
		s.view.Store(v)
	})
	if removed == limit {
		return removed, nil
	}
	lists, err := s.sweepImports(tx, now, limit-removed)
	return removed + lists, err
}

func endedBlocks(tx *store.Tx, now time.Time, limit int) (ended []control.Block, err error) {
	rows, err := tx.Query(`SELECT network, source, reason, evidence, created, expires FROM blocklist
		WHERE expires <= ? ORDER BY expires LIMIT ?`, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		b, err := scan(rows)
		if err != nil {
			return nil, err
		}
		ended = append(ended, b)
	}
	return ended, rows.Err()
}

// sweepImports removes the parts of one list that has ended, and then its row.
func (s *Service) sweepImports(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	var source string
	err = tx.QueryRow(`SELECT source FROM blocklist_import WHERE expires <= ? LIMIT 1`, now.UnixMicro()).Scan(&source)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	result, err := tx.Exec(`DELETE FROM blocklist_part WHERE (source, first) IN
		(SELECT source, first FROM blocklist_part WHERE source = ? LIMIT ?)`, source, limit)
	if err != nil {
		return 0, err
	}
	removed = int(result.RowsAffected)
	if removed < limit {
		if _, err := tx.Exec(`DELETE FROM blocklist_import WHERE source = ?`, source); err != nil {
			return 0, err
		}
		removed++
	}
	tx.AfterCommit(func() { s.view.Store(s.view.Load().withoutImport(source)) })
	return removed, nil
}
