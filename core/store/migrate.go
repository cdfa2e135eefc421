package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Migrations are a module's tables, as the steps that lead to them. A step that
// was released is never changed; a change is a new step.
type Migrations struct {
	// Module owns the tables; it is the name under which the version is kept.
	Module string
	// Steps are SQL scripts without BEGIN and COMMIT. The version of the tables
	// is the number of steps applied.
	Steps []string
}

// migrationTable keeps the version of each module's tables.
const migrationTable = `CREATE TABLE IF NOT EXISTS migration (
	module  TEXT PRIMARY KEY,
	version INTEGER NOT NULL,
	changed INTEGER NOT NULL
)`

// Migrate applies the steps that are missing, each in a transaction of its own
// together with the new version, so that a crash leaves whole steps. It gives
// ErrNewer, and changes nothing, when the database has more steps than m.
func (s *Store) Migrate(ctx context.Context, m Migrations) error {
	for done := false; !done; {
		err := s.Write(ctx, func(tx *Tx) (err error) {
			done, err = migrateStep(tx, m, s.now())
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate tables of %s: %w", m.Module, err)
		}
	}
	return nil
}

// migrateStep applies the next step and tells whether it was the last.
func migrateStep(tx *Tx, m Migrations, now time.Time) (done bool, err error) {
	var version int
	err = tx.QueryRow("SELECT version FROM migration WHERE module = ?", m.Module).Scan(&version)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	switch {
	case version > len(m.Steps):
		return false, fmt.Errorf("%w: they have version %d, this build knows up to %d; "+
			"run the build that wrote them, or restore a backup from before the upgrade", ErrNewer, version, len(m.Steps))
	case version == len(m.Steps):
		return true, nil
	}
	if _, err := tx.Exec(m.Steps[version]); err != nil {
		return false, fmt.Errorf("step %d: %w", version+1, err)
	}
	version++
	_, err = tx.Exec(`INSERT INTO migration (module, version, changed) VALUES (?, ?, ?)
		ON CONFLICT (module) DO UPDATE SET version = excluded.version, changed = excluded.changed`,
		m.Module, version, now)
	return version == len(m.Steps), err
}
