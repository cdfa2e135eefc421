package store

import (
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of the store, to be compared with errors.Is.
var (
	// ErrLocked is returned when another process uses the data directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrNewer is returned when a newer build has written the database.
	ErrNewer = errors.New("database is newer than this build")
	// ErrFull is returned when the disk or the quota is full. The write had no
	// effect, and works again once there is room: a protocol answers for now
	// (452 4.3.1).
	ErrFull = errors.New("no space left for the data directory")
	// ErrUnsynced is returned when the disk has not taken what was written, and for
	// all writes after that: the system may have dropped it and say the next time
	// that all is well. Only a restart reads what is really there.
	ErrUnsynced = errors.New("the disk did not take what was written; check it, then restart the server")
	// ErrClosed is returned when the store is closed.
	ErrClosed = errors.New("store is closed")
	// ErrNotFound is returned by Row.Scan when the query gave no row, and when a
	// body does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned when a row breaks a PRIMARY KEY or UNIQUE constraint.
	ErrExists = errors.New("exists already")
)

// errEnded is returned when a Tx or a Snapshot is used after its function.
var errEnded = errors.New("transaction has ended")

// classify adds the sentinel that callers look for.
func classify(err error) error {
	switch code := resultCode(err); {
	case err == nil:
		return nil
	case code&0xff == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR_SHMSIZE, isFull(err):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE, code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", ErrExists, err)
	case code == sqlite3.SQLITE_IOERR_FSYNC, code == sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return unsynced(err)
	}
	return err
}

// unsynced marks the error of an fsync.
func unsynced(err error) error { return fmt.Errorf("%w: %w", ErrUnsynced, err) }

// isFull tells whether the system refused to grow a file.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// resultError is what the driver's errors are.
type resultError interface {
	error
	Code() int
}

var _ resultError = (*sqlite.Error)(nil)

// resultCode gives SQLite's extended result code, 0 for other errors.
func resultCode(err error) int {
	if e, ok := errors.AsType[resultError](err); ok {
		return e.Code()
	}
	return sqlite3.SQLITE_OK
}

// endsTransaction tells whether SQLite may have rolled back the whole
// transaction together with the statement that failed
// (https://www.sqlite.org/lang_transaction.html, section 3).
func endsTransaction(err error) bool {
	switch resultCode(err) & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY,
		sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_ABORT:
		return true
	}
	return false
}

// inDoubt tells whether a commit that failed may still be found in the log after
// a crash. It is not when the log could not be written to its end.
func inDoubt(err error) bool {
	return err != nil && resultCode(err)&0xff != sqlite3.SQLITE_FULL
}
