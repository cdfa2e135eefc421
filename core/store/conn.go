package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// maxStatements bounds the statements that a connection keeps prepared. Queries
// are constants of the modules, so that it is met only by queries that are put
// together from parts.
const maxStatements = 512

// conn is one connection to the database with its prepared statements. It goes
// to the driver directly, since database/sql would add a pool, locks and
// conversions to each statement. It is used by one goroutine at a time.
type conn struct {
	raw        driver.Conn
	statements map[string]*statement
	args       []driver.NamedValue // of the statement that runs
	open       []*Rows             // not yet closed
	ended      func() error        // asked before each row; nil means never
	version    uint64              // of the image that a reader in memory has
}

// statement is a prepared statement.
type statement struct {
	query  string
	raw    rawStatement
	busy   bool // its rows are open
	cached bool
	reads  bool // it cannot change anything
}

// rawStatement is what the driver's statements can do.
type rawStatement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// connect opens a connection and runs the pragmas.
func connect(ctx context.Context, dsn string, pragmas ...string) (*conn, error) {
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, statements: make(map[string]*statement)}
	for _, p := range pragmas {
		if err := c.script("PRAGMA " + p); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// close frees the connection.
func (c *conn) close() error {
	c.closeRows()
	for _, st := range c.statements {
		if err := st.raw.Close(); err != nil {
			return errors.Join(err, c.raw.Close())
		}
	}
	return c.raw.Close()
}

// script runs SQL that is not worth keeping: migrations, and pragmas, of which
// SQLite runs some while it prepares them.
func (c *conn) script(query string) error {
	st, err := c.prepareRaw(query)
	if err != nil {
		return err
	}
	_, err = st.raw.ExecContext(context.Background(), nil)
	return errors.Join(describe(query, err), st.raw.Close())
}

// exec runs a statement without arguments that gives no rows.
func (c *conn) exec(query string) error {
	st, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = c.execStatement(st, nil)
	return err
}

func (c *conn) execStatement(st *statement, args []any) (Result, error) {
	defer st.drop()
	if err := c.bind(args); err != nil {
		return Result{}, describe(st.query, err)
	}
	// The statement is not given a context that ends: half done it would undo
	// the work of others in the same transaction.
	r, err := st.raw.ExecContext(context.Background(), c.args)
	clear(c.args)
	if err != nil {
		return Result{}, describe(st.query, err)
	}
	id, _ := r.LastInsertId()
	n, _ := r.RowsAffected()
	return Result{LastInsertID: id, RowsAffected: n}, nil
}

// query runs a statement that gives rows.
func (c *conn) query(query string, args []any) (*Rows, error) {
	st, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return c.queryStatement(st, args)
}

func (c *conn) queryStatement(st *statement, args []any) (*Rows, error) {
	if err := c.bind(args); err != nil {
		st.drop()
		return nil, describe(st.query, err)
	}
	raw, err := st.raw.QueryContext(context.Background(), c.args)
	clear(c.args)
	if err != nil {
		st.drop()
		return nil, describe(st.query, err)
	}
	st.busy = true
	rows := &Rows{conn: c, statement: st, raw: raw, values: make([]driver.Value, len(raw.Columns()))}
	c.open = append(c.open, rows)
	return rows, nil
}

// prepare gives the statement of a query, prepared once. If its rows are being
// read, it is prepared anew for this one use.
func (c *conn) prepare(query string) (*statement, error) {
	kept := c.statements[query]
	if kept != nil && !kept.busy {
		return kept, nil
	}
	st, err := c.prepareRaw(query)
	if err != nil || kept != nil {
		return st, err
	}
	if len(c.statements) >= maxStatements {
		c.forget()
	}
	st.cached = true
	c.statements[query] = st
	return st, nil
}

func (c *conn) prepareRaw(query string) (*statement, error) {
	// What follows the last statement would make the driver take it for a script,
	// which it prepares anew each time.
	raw, err := c.raw.Prepare(strings.TrimRight(query, " \t\r\n;"))
	if err != nil {
		return nil, describe(query, err)
	}
	st := &statement{query: query, reads: isSelect(query)}
	var ok bool
	if st.raw, ok = raw.(rawStatement); !ok {
		return nil, errors.Join(fmt.Errorf("statements of driver type %T take no context", raw), raw.Close())
	}
	return st, nil
}

// forget frees the statements that are not in use. SQLite answers with the error
// of the last execution, which was told then.
func (c *conn) forget() {
	for query, st := range c.statements {
		if !st.busy {
			_ = st.raw.Close()
			delete(c.statements, query)
		}
	}
}

// closeRows closes what a function left open.
func (c *conn) closeRows() {
	for len(c.open) > 0 {
		c.open[len(c.open)-1].Close()
	}
}

// release is called by rows that are closed.
func (c *conn) release(r *Rows) {
	if i := slices.Index(c.open, r); i >= 0 {
		c.open = slices.Delete(c.open, i, i+1)
	}
	r.statement.busy = false
	r.statement.drop()
}

// drop frees a statement that is not kept; as for the error, see forget.
func (st *statement) drop() {
	if !st.cached {
		_ = st.raw.Close()
	}
}

// bind converts args for the driver.
func (c *conn) bind(args []any) error {
	c.args = c.args[:0]
	for i, a := range args {
		v, err := toValue(a)
		if err != nil {
			return fmt.Errorf("argument %d: %w", i+1, err)
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return nil
}

// toValue converts an argument; a time becomes microseconds since 1970.
func toValue(a any) (driver.Value, error) {
	switch v := a.(type) {
	case nil, int64, string, []byte, bool, float64:
		return v, nil
	case int:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case time.Time:
		return v.UnixMicro(), nil
	}
	v, err := driver.DefaultParameterConverter.ConvertValue(a)
	if t, ok := v.(time.Time); ok {
		return t.UnixMicro(), nil
	}
	return v, err
}

// isSelect tells whether a query can do nothing but read.
func isSelect(query string) bool {
	query = strings.TrimSpace(query)
	return len(query) > 6 && strings.EqualFold(query[:6], "SELECT")
}

// describe adds the statement to an error of the database.
func describe(query string, err error) error {
	if err == nil {
		return nil
	}
	const longest = 120
	query = strings.Join(strings.Fields(query), " ")
	if len(query) > longest {
		query = query[:longest] + "…"
	}
	return fmt.Errorf("execute %q: %w", query, classify(err))
}
