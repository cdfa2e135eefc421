package store

import (
	"fmt"
	"runtime/debug"
)

// Querier is what Tx and Snapshot have in common, for functions that read
// inside of either.
type Querier interface {
	Query(query string, args ...any) (*Rows, error)
	QueryRow(query string, args ...any) *Row
}

var (
	_ Querier = (*Tx)(nil)
	_ Querier = (*Snapshot)(nil)
)

// Tx is what a function given to Write or Behind sees of the database: all that
// is committed, what earlier members of the same group have written, and its own
// changes. It belongs to that function and its goroutine, and ends with it.
//
// Statements are prepared once and kept by their text, so that queries should be
// constants, with ? for every value.
type Tx struct {
	store     *Store
	conn      *conn
	savepoint bool  // others have written before, so that undoing needs one
	saved     bool  // it is set
	wrote     bool  // something may have changed
	undo      bool  // the writer must roll the transaction back to undo it
	ended     bool  // the function has returned
	broken    error // SQLite may have rolled back the whole transaction
	after     []func()
	bodies    []*Body  // inserted here
	remove    []string // files that nothing names once this is durable
}

// Result tells what a statement did.
type Result struct {
	// LastInsertID is the rowid of the row inserted last.
	LastInsertID int64
	// RowsAffected is the number of rows inserted, updated or deleted.
	RowsAffected int64
}

// Exec runs a statement that gives no rows. A statement that fails has changed
// nothing, and the function may go on.
func (tx *Tx) Exec(query string, args ...any) (Result, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return Result{}, err
	}
	r, err := tx.conn.execStatement(st, args)
	return r, tx.note(err)
}

// Query runs a statement that gives rows.
func (tx *Tx) Query(query string, args ...any) (*Rows, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := tx.conn.queryStatement(st, args)
	if err != nil {
		return nil, tx.note(err)
	}
	rows.tx = tx
	return rows, nil
}

// QueryRow runs a statement that gives at most one row; its errors come with
// Row.Scan, which must be called.
func (tx *Tx) QueryRow(query string, args ...any) *Row {
	rows, err := tx.Query(query, args...)
	return &Row{rows: rows, err: err}
}

// AfterCommit has f called when the transaction is committed, before Write
// returns, in the writer's goroutine: all writes wait for it, so that it must
// not wait itself. It is not called if the transaction fails. After Behind the
// commit may be one that a crash undoes.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

// prepare gives the statement of a query, and sets the savepoint before the
// first one that may change something.
func (tx *Tx) prepare(query string) (*statement, error) {
	if tx.ended {
		return nil, errEnded
	}
	if tx.broken != nil {
		return nil, tx.broken
	}
	st, err := tx.conn.prepare(query)
	if err != nil {
		return nil, tx.note(err)
	}
	if st.reads {
		return st, nil
	}
	tx.wrote = true
	if tx.savepoint && !tx.saved {
		tx.saved = true
		if err := tx.conn.exec("SAVEPOINT member"); err != nil {
			return nil, tx.note(err)
		}
	}
	return st, nil
}

// note remembers an error after which the transaction may be gone. Later
// statements would each be a transaction of their own, so that none may run.
func (tx *Tx) note(err error) error {
	if tx.broken == nil && endsTransaction(err) {
		tx.broken = err
	}
	return err
}

// run calls fn and ends the member's part of the transaction: it is released if
// fn succeeded, undone if not. A panic is an error of this member alone. What fn
// returns is noted too, in case that it is an error which came another way.
func (tx *Tx) run(fn func(*Tx) error) error {
	err := tx.note(tx.call(fn))
	tx.ended = true
	tx.conn.closeRows()
	switch {
	case tx.broken != nil:
		return tx.broken
	case err != nil && tx.saved:
		tx.broken = tx.exec("ROLLBACK TO member", "RELEASE member")
	case err != nil:
		tx.undo = tx.wrote
	case tx.saved:
		tx.broken = tx.exec("RELEASE member")
		err = tx.broken
	}
	return err
}

func (tx *Tx) exec(queries ...string) error {
	for _, query := range queries {
		if err := tx.conn.exec(query); err != nil {
			return err
		}
	}
	return nil
}

// call turns a panic of fn into an error that shows where it was.
func (tx *Tx) call(fn func(*Tx) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(tx)
}
