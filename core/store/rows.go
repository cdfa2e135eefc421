package store

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"
)

// Rows are the result of a query, read in order:
//
//	rows, err := tx.Query("SELECT id, name FROM mailbox WHERE account = ?", account)
//	if err != nil {
//		return err
//	}
//	defer rows.Close()
//	for rows.Next() {
//		if err := rows.Scan(&id, &name); err != nil {
//			return err
//		}
//	}
//	return rows.Err()
//
// They are valid inside the function that was given the transaction.
type Rows struct {
	conn      *conn
	tx        *Tx // nil in a Snapshot
	statement *statement
	raw       driver.Rows
	values    []driver.Value
	err       error
	closed    bool
}

// Next moves to the next row and tells whether there is one. At the end the rows
// close themselves; Err tells whether it came too early.
func (r *Rows) Next() bool {
	if r.closed {
		return false
	}
	err := r.next()
	if err == nil {
		return true
	}
	if !errors.Is(err, io.EOF) {
		r.err = err
	}
	r.Close()
	return false
}

func (r *Rows) next() error {
	if r.conn.ended != nil {
		if err := r.conn.ended(); err != nil {
			return err
		}
	}
	if err := r.raw.Next(r.values); err != nil && !errors.Is(err, io.EOF) {
		return r.note(err)
	} else if err != nil {
		return io.EOF
	}
	return nil
}

// note describes an error, and tells the transaction of it, which it may have
// ended.
func (r *Rows) note(err error) error {
	err = describe(r.statement.query, err)
	if r.tx != nil {
		return r.tx.note(err)
	}
	return err
}

// Scan copies the columns of the row into the variables that dest points to:
// strings, byte slices (copies that the caller owns), numbers, bools, types made
// of these, time.Time (from microseconds since 1970), any, or a sql.Scanner.
// NULL becomes the zero value; sql.Null tells the two apart.
func (r *Rows) Scan(dest ...any) error {
	if r.closed {
		return errEnded
	}
	if len(dest) != len(r.values) {
		return fmt.Errorf("scan row: %d variables for %d columns", len(dest), len(r.values))
	}
	for i, d := range dest {
		if err := assign(d, r.values[i]); err != nil {
			return fmt.Errorf("scan column %s: %w", r.raw.Columns()[i], err)
		}
	}
	return nil
}

// Err is the error that ended the rows early, if any.
func (r *Rows) Err() error { return r.err }

// Close frees the rows. It may be called more than once.
func (r *Rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	err := r.note(r.raw.Close())
	r.conn.release(r)
	return err
}

// Row is what QueryRow gives: at most one row.
type Row struct {
	rows *Rows
	err  error
}

// Scan copies the columns of the row, see Rows.Scan. It gives ErrNotFound if
// there is no row, and passes over all rows but the first.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return ErrNotFound
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

// assign copies one value; the common types go without reflection.
func assign(dest any, v driver.Value) error {
	switch d := dest.(type) {
	case *any:
		*d = v
		return nil
	case *string:
		return assignString(d, v)
	case *[]byte:
		return assignBytes(d, v)
	case *int64:
		n, err := toInt(v)
		*d = n
		return err
	case *int:
		n, err := toInt(v)
		*d = int(n)
		return err
	case *bool:
		n, err := toInt(v)
		*d = n != 0
		return err
	case *time.Time:
		return assignTime(d, v)
	case sql.Scanner:
		return d.Scan(v)
	}
	return assignKind(dest, v)
}

func assignString(d *string, v driver.Value) error {
	switch v := v.(type) {
	case nil:
		*d = ""
	case string:
		*d = v
	case []byte:
		*d = string(v)
	case int64:
		*d = strconv.FormatInt(v, 10)
	default:
		return mismatch(d, v)
	}
	return nil
}

func assignBytes(d *[]byte, v driver.Value) error {
	switch v := v.(type) {
	case nil:
		*d = nil
	case []byte:
		*d = v
	case string:
		*d = []byte(v)
	default:
		return mismatch(d, v)
	}
	return nil
}

func assignTime(d *time.Time, v driver.Value) error {
	if v == nil {
		*d = time.Time{}
		return nil
	}
	us, err := toInt(v)
	*d = time.UnixMicro(us).UTC()
	return err
}

func toInt(v driver.Value) (int64, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case int64:
		return v, nil
	}
	return 0, fmt.Errorf("a %T is no integer", v)
}

// assignKind serves the remaining sizes of numbers and types with names of their
// own.
func assignKind(dest any, v driver.Value) error {
	pointer := reflect.ValueOf(dest)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return fmt.Errorf("%T is not a pointer to a variable", dest)
	}
	d := pointer.Elem()
	switch {
	case d.Kind() == reflect.String:
		var s string
		err := assignString(&s, v)
		d.SetString(s)
		return err
	case d.CanInt(), d.CanUint():
		return assignInteger(d, v)
	case d.Kind() == reflect.Bool:
		n, err := toInt(v)
		d.SetBool(n != 0)
		return err
	case d.CanFloat():
		return assignFloat(d, v)
	case d.Kind() == reflect.Slice && d.Type().Elem().Kind() == reflect.Uint8:
		var b []byte
		err := assignBytes(&b, v)
		d.SetBytes(b)
		return err
	}
	return mismatch(dest, v)
}

func assignInteger(d reflect.Value, v driver.Value) error {
	n, err := toInt(v)
	if err != nil {
		return err
	}
	if d.CanInt() {
		if d.OverflowInt(n) {
			return fmt.Errorf("%d does not fit into %s", n, d.Type())
		}
		d.SetInt(n)
		return nil
	}
	if n < 0 || d.OverflowUint(uint64(n)) {
		return fmt.Errorf("%d does not fit into %s", n, d.Type())
	}
	d.SetUint(uint64(n))
	return nil
}

func assignFloat(d reflect.Value, v driver.Value) error {
	if f, ok := v.(float64); ok {
		d.SetFloat(f)
		return nil
	}
	n, err := toInt(v)
	d.SetFloat(float64(n))
	return err
}

func mismatch(dest any, v driver.Value) error {
	return fmt.Errorf("a %T does not fit into %T", v, dest)
}
