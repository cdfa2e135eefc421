package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	sqlite3 "modernc.org/sqlite/lib"
)

// coded is an error of SQLite.
type coded int

func (c coded) Error() string { return fmt.Sprintf("result code %d", int(c)) }
func (c coded) Code() int     { return int(c) }

// faulty is a connection to a disk that fails: fault is asked before each
// statement runs, and with "next" before each of its rows.
type faulty struct {
	driver.Conn
	fault func(query string) error
}

type faultyStatement struct {
	rawStatement
	query string
	fault func(string) error
}

type faultyRows struct {
	driver.Rows
	query string
	fault func(string) error
}

func (f *faulty) Prepare(query string) (driver.Stmt, error) {
	st, err := f.Conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	return &faultyStatement{st.(rawStatement), query, f.fault}, nil
}

func (f *faultyStatement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := f.fault(f.query); err != nil {
		return nil, err
	}
	return f.rawStatement.ExecContext(ctx, args)
}

func (f *faultyStatement) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := f.fault(f.query); err != nil {
		return nil, err
	}
	rows, err := f.rawStatement.QueryContext(ctx, args)
	return &faultyRows{rows, f.query, f.fault}, err
}

func (f *faultyRows) Next(dest []driver.Value) error {
	if err := f.fault("next " + f.query); err != nil {
		return err
	}
	return f.Rows.Next(dest)
}

// spoil lets a connection meet faults.
func (c *conn) spoil(fault func(query string) error) {
	c.forget()
	c.raw = &faulty{c.raw, fault}
}

// openFaulty opens a store with a table t whose writer meets faults.
func openFaulty(t *testing.T, fault func(query string) error) *Store {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // it may fail, of course
	err = s.Write(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("CREATE TABLE t (text TEXT)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var armed atomic.Bool
	late := func(query string) error {
		if armed.Load() {
			return fault(query)
		}
		return nil
	}
	if err := s.Write(t.Context(), func(tx *Tx) error { tx.conn.spoil(late); return nil }); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	return s
}

// put gives a function for Write.
func put(text string) func(*Tx) error {
	return func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO t (text) VALUES (?)", text)
		return err
	}
}

// holds checks what the table has.
func holds(t *testing.T, s *Store, want ...string) {
	t.Helper()
	var got []string
	err := s.Read(context.Background(), func(sn *Snapshot) error {
		rows, err := sn.Query("SELECT text FROM t")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			got = append(got, text)
		}
		return rows.Err()
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("table, %v (-want +got):\n%s", err, diff)
	}
}

// together runs functions in one group and gives their errors.
func together(s *Store, members ...func(*Tx) error) []error {
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	begun, queued := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		errs[0] = s.Write(context.Background(), func(tx *Tx) error {
			close(begun)
			<-queued
			return members[0](tx)
		})
	})
	<-begun
	for i, fn := range members[1:] {
		wg.Go(func() { errs[i+1] = s.Write(context.Background(), fn) })
		awaitQueue(s, i+1)
	}
	close(queued)
	wg.Wait()
	return errs
}

// awaitQueue returns once n functions wait for the writer.
func awaitQueue(s *Store, n int) {
	for s.Stats().Waiting < n {
		runtime.Gosched()
	}
}

// TestErrorWhileReading has SQLite roll back the transaction while a member reads
// rows. Members before it must not be answered as if nothing were, and what comes
// after it must not be committed a statement at a time.
func TestErrorWhileReading(t *testing.T) {
	t.Parallel()
	for title, read := range map[string]func(*Tx) error{
		"told":   func(tx *Tx) error { return tx.QueryRow("SELECT text FROM t").Scan(new(string)) },
		"hidden": func(tx *Tx) error { _ = tx.QueryRow("SELECT text FROM t").Scan(new(string)); return nil },
		"wrapped error of elsewhere": func(tx *Tx) error {
			if err := tx.conn.exec("ROLLBACK"); err != nil {
				return err
			}
			return fmt.Errorf("wrapped: %w", coded(sqlite3.SQLITE_NOMEM))
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var writer *conn
			s := openFaulty(t, func(query string) error {
				if query != "next SELECT text FROM t" {
					return nil
				}
				return errors.Join(writer.exec("ROLLBACK"), coded(sqlite3.SQLITE_IOERR_READ))
			})
			writer = s.conn
			errs := together(s, put("before"), read, func(tx *Tx) error { return errors.Join(put("after")(tx), errors.New("refused")) }, put("last"))
			for i, err := range errs {
				if (err == nil) != (i == 3) {
					t.Errorf("member %d: error %v", i, err)
				}
			}
			holds(t, s, "last")
		})
	}
}

// TestDiskDoesNotSync fails softly once and then no more: a second fsync would
// succeed, though what the first should have written is lost.
func TestDiskDoesNotSync(t *testing.T) {
	t.Parallel()
	for title, code := range map[string]int{"file": sqlite3.SQLITE_IOERR_FSYNC, "directory": sqlite3.SQLITE_IOERR_DIR_FSYNC} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var once atomic.Bool
			s := openFaulty(t, func(query string) error {
				if query == "COMMIT" && once.CompareAndSwap(false, true) {
					return coded(code)
				}
				return nil
			})
			checkUnsynced(t, s.Write(t.Context(), put("lost")))
			checkStopped(t, s)
			holds(t, s)
		})
	}
	t.Run("checkpoint", func(t *testing.T) {
		t.Parallel()
		s := openFaulty(t, func(string) error { return nil })
		err := s.Write(t.Context(), func(tx *Tx) error {
			c := s.checkpoint
			c.commits, c.next = watchEvery, 0
			c.conn.spoil(func(string) error { return coded(sqlite3.SQLITE_IOERR_FSYNC) })
			return put("durable")(tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		// The writer looks at the log once it has answered.
		for s.checkpoint.state.Load() != checkpointFailed {
			runtime.Gosched()
		}
		checkStopped(t, s)
		holds(t, s, "durable")
	})
	t.Run("folder of bodies", func(t *testing.T) {
		t.Parallel()
		s := openFaulty(t, func(string) error { return nil })
		s.condemn(fmt.Errorf("prepare body: %w", unsynced(errors.New("input/output error"))))
		checkStopped(t, s)
	})
}

func checkUnsynced(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnsynced) || !strings.Contains(err.Error(), "restart the server") {
		t.Errorf("error %v, want ErrUnsynced", err)
	}
}

// checkStopped makes sure that nothing is written any more, and that the probe of
// the watchdog, which flushes, notices.
func checkStopped(t *testing.T, s *Store) {
	t.Helper()
	checkUnsynced(t, s.Flush(t.Context()))
	checkUnsynced(t, s.Write(t.Context(), put("later")))
	s.Behind(put("behind"))
	checkUnsynced(t, s.Flush(t.Context()))
	checkUnsynced(t, s.Flush(t.Context()))
}

// TestDurabilityCannotBeChosen makes sure that a member that is to be durable is
// never committed as one behind.
func TestDurabilityCannotBeChosen(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	s := openFaulty(t, func(query string) error {
		if broken.Load() && query == "PRAGMA synchronous = FULL" {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	s.Behind(put("behind"))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if err := s.Write(t.Context(), put("refused")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want that of the pragma", err)
	}
	broken.Store(false)
	if err := s.Write(t.Context(), put("durable")); err != nil {
		t.Error(err)
	}
	holds(t, s, "behind", "durable")
}

// TestForeignLock lets all that wait know at once, since each attempt to begin
// takes as long as the busy time.
func TestForeignLock(t *testing.T) {
	t.Parallel()
	var begins atomic.Int32
	begun, queued := make(chan struct{}), make(chan struct{})
	s := openFaulty(t, func(query string) error {
		if query != "BEGIN IMMEDIATE" || begins.Add(1) > 1 {
			return nil
		}
		close(begun)
		<-queued
		return coded(sqlite3.SQLITE_BUSY)
	})
	const writes = 5
	refused := make(chan error, writes)
	write := func() { refused <- s.Write(context.Background(), put("refused")) }
	go write()
	<-begun
	for i := range writes - 1 {
		go write()
		awaitQueue(s, i+1)
	}
	close(queued)
	for range writes {
		if err := <-refused; resultCode(err) != sqlite3.SQLITE_BUSY {
			t.Errorf("error %v, want that of BEGIN", err)
		}
	}
	if n := begins.Load(); n != 1 {
		t.Errorf("%d attempts to begin, want 1", n)
	}
	if err := s.Write(t.Context(), put("later")); err != nil {
		t.Error(err)
	}
	holds(t, s, "later")
}

// TestMakeDirs notes which directories are made durable.
func TestMakeDirs(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	var synced []string
	note := func(dir string) error { synced = append(synced, strings.TrimPrefix(dir, top)); return nil }
	for range 2 {
		if err := makeDir(top+"/a/b/c", note); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"", "/a", "/a/b"}, synced); diff != "" {
		t.Errorf("synced (-want +got):\n%s", diff)
	}
}
