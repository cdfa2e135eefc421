package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

var errRefused = errors.New("refused")

func TestWriteIsReadAtOnce(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			var want []string
			for i := range 20 {
				want = append(want, fmt.Sprint("note ", i))
				if err := s.Write(t.Context(), addNote(want[i])); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, readNotes(t, s)); diff != "" {
					t.Fatalf("notes (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// members are functions for Write that end in different ways.
var members = map[string]func(tx *store.Tx, text string) error{
	"good": func(tx *store.Tx, text string) error { return addNote(text)(tx) },
	"bad":  func(tx *store.Tx, text string) error { return errors.Join(errRefused, addNote(text)(tx)) },
	"panic": func(tx *store.Tx, text string) error {
		if err := addNote(text)(tx); err != nil {
			return err
		}
		panic("boom")
	},
	"open": func(tx *store.Tx, text string) error { // leaves rows open
		_, err := tx.Query("INSERT INTO note (text) VALUES (?) RETURNING id", text)
		return errors.Join(errRefused, err)
	},
	"idle": func(*store.Tx, string) error { return errRefused },
}

// TestFailureUndoesOnlyItself puts good and bad members into one group. Whichever
// comes first and last, only what the bad ones did is gone.
func TestFailureUndoesOnlyItself(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for _, order := range []string{
				"good bad good", "bad good bad", "panic good", "open good open", "idle good bad", "bad bad",
				"idle bad good good panic good", "good open good",
			} {
				want := readNotes(t, s)
				groups := s.Stats().Groups
				release := hold(t, s)
				var wg sync.WaitGroup
				for i, kind := range strings.Fields(order) {
					text := fmt.Sprintf("%s: %s %d", order, kind, i)
					if kind == "good" {
						want = append(want, text)
					}
					queueUp(&wg, s, func() {
						err := s.Write(context.Background(), func(tx *store.Tx) error { return members[kind](tx, text) })
						if (err == nil) != (kind == "good") {
							t.Errorf("%s: error %v", text, err)
						}
					})
				}
				release()
				wg.Wait()
				if diff := cmp.Diff(want, readNotes(t, s)); diff != "" {
					t.Errorf("%s: notes (-want +got):\n%s", order, diff)
				}
				if got := s.Stats().Groups - groups; got != 1 {
					t.Errorf("%s: %d groups, want 1", order, got)
				}
			}
		})
	}
}

func TestPanicNamesItsPlace(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			err := s.Write(t.Context(), func(*store.Tx) error { panic("boom") })
			if err == nil || !strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "write_test.go") {
				t.Errorf("error %v does not name the panic and its place", err)
			}
		})
	}
}

// TestFailedStatementChangesNothing goes on after a statement that failed.
func TestFailedStatementChangesNothing(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				if err := addNote("one")(tx); err != nil {
					return err
				}
				if err := addNote("one")(tx); !errors.Is(err, store.ErrExists) {
					t.Errorf("second insert: error %v, want ErrExists", err)
				}
				if _, err := tx.Exec("INSERT INTO note (nothing) VALUES (1)"); err == nil {
					t.Error("insert into a column that does not exist: no error")
				}
				return addNote("two")(tx)
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"one", "two"}, readNotes(t, s)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWriteGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			ctx, cancel := context.WithCancel(t.Context())
			release := hold(t, s)
			var wg sync.WaitGroup
			queueUp(&wg, s, func() {
				if err := s.Write(ctx, addNote("too late")); !errors.Is(err, context.Canceled) {
					t.Errorf("write that waits: error %v, want Canceled", err)
				}
			})
			cancel()
			wg.Wait()
			release()
			if err := s.Write(ctx, addNote("much too late")); !errors.Is(err, context.Canceled) {
				t.Errorf("write with a context that has ended: error %v, want Canceled", err)
			}
			if got := readNotes(t, s); len(got) != 0 {
				t.Errorf("notes %q, want none", got)
			}
		})
	}
}

// TestWriteWaitsOnceBegun cancels the context while the function runs.
func TestWriteWaitsOnceBegun(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			ctx, cancel := context.WithCancel(t.Context())
			err := s.Write(ctx, func(tx *store.Tx) error {
				cancel()
				return addNote("begun")(tx)
			})
			if err != nil {
				t.Errorf("write that has begun: error %v", err)
			}
			if diff := cmp.Diff([]string{"begun"}, readNotes(t, s)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAfterCommit(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			var called atomic.Int32
			hook := func(tx *store.Tx) { tx.AfterCommit(func() { called.Add(1) }) }
			const writes = 100
			for i := range int32(writes) {
				if err := s.Write(t.Context(), func(tx *store.Tx) error { hook(tx); return addNote(fmt.Sprint(i))(tx) }); err != nil {
					t.Fatal(err)
				}
				if called.Load() != i+1 {
					t.Fatal("hook not called before Write returned")
				}
			}
			if err := s.Write(t.Context(), func(tx *store.Tx) error { hook(tx); return errRefused }); !errors.Is(err, errRefused) {
				t.Errorf("error %v, want that of the function", err)
			}
			if called.Load() != writes {
				t.Error("hook called though the function failed")
			}
			if err := s.Write(t.Context(), func(tx *store.Tx) error { tx.AfterCommit(func() { panic("boom") }); return nil }); err != nil {
				t.Errorf("write whose hook panics: error %v", err)
			}
		})
	}
}

func TestUseAfterEnd(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			var kept *store.Tx
			if err := s.Write(t.Context(), func(tx *store.Tx) error { kept = tx; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := addNote("late")(kept); err == nil {
				t.Error("exec after the end: no error")
			}
			var snapshot *store.Snapshot
			if err := s.Read(t.Context(), func(sn *store.Snapshot) error { snapshot = sn; return nil }); err != nil {
				t.Fatal(err)
			}
			if _, err := selectNotes(snapshot); err == nil {
				t.Error("query after the end: no error")
			}
		})
	}
}

func TestBehindKeepsItsOrder(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.Behind(addNote("behind 1"))
			s.Behind(addNote("behind 2"))
			if err := s.Write(t.Context(), addNote("write")); err != nil {
				t.Fatal(err)
			}
			s.Behind(addNote("behind 3"))
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"behind 1", "behind 2", "write", "behind 3"}, readNotes(t, s)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDurability looks at what a commit waits for: 2 is the disk, 1 is nothing.
func TestDurability(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	prepare(t, s, err)
	level := func(into *int) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.QueryRow("PRAGMA synchronous").Scan(into) }
	}
	var write, behind, with, after int
	if err := s.Write(t.Context(), level(&write)); err != nil {
		t.Fatal(err)
	}
	s.Behind(level(&behind))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Behind(level(&with))
	if err := s.Write(t.Context(), level(&after)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2, 1, 2, 2}, []int{write, behind, with, after}); diff != "" {
		t.Errorf("levels of a write, behind alone, behind with a write, and that write (-want +got):\n%s", diff)
	}
}

func TestBehindIsWrittenAfterASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := store.OpenMemory(store.Options{})
		prepare(t, s, err)
		s.Behind(addNote("behind"))
		time.Sleep(time.Second - time.Millisecond) //nolint:forbidigo // the clock is synctest's
		synctest.Wait()
		if got := readNotes(t, s); len(got) != 0 {
			t.Errorf("notes %q before the second is over, want none", got)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // the clock is synctest's
		synctest.Wait()
		if diff := cmp.Diff([]string{"behind"}, readNotes(t, s)); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
	})
}

func TestBehindIsBounded(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	s, err := store.OpenMemory(store.Options{Logger: log})
	prepare(t, s, err)
	const room, more = 8192, 10
	release := hold(t, s)
	var ran atomic.Int32
	for range room + more {
		s.Behind(func(*store.Tx) error { ran.Add(1); return nil })
	}
	release()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().Dropped; got != more {
		t.Errorf("dropped %d, want %d", got, more)
	}
	if got := ran.Load(); got != room {
		t.Errorf("ran %d, want %d", got, room)
	}
	if got := logs.FilterMessageSnippet("dropped").Len(); got != 1 {
		t.Errorf("%d lines in the log, want 1", got)
	}
}

func TestBehindLogsErrors(t *testing.T) {
	t.Parallel()
	log, logs := observed()
	s, err := store.OpenMemory(store.Options{Logger: log})
	prepare(t, s, err)
	s.Behind(func(tx *store.Tx) error { return members["bad"](tx, "bad") })
	s.Behind(func(tx *store.Tx) error { return members["panic"](tx, "panic") })
	s.Behind(addNote("good"))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"good"}, readNotes(t, s)); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if got := logs.FilterMessage("writes behind are lost").FilterField(zap.Int("writes", 2)).Len(); got != 1 {
		t.Errorf("log %v, want one line about both", logs.All())
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			release := hold(t, s)
			var wg sync.WaitGroup
			queueUp(&wg, s, func() {
				if err := s.Write(context.Background(), addNote("waits")); err != nil {
					t.Errorf("write that was accepted before the end: error %v", err)
				}
			})
			var behind atomic.Bool
			s.Behind(func(*store.Tx) error { behind.Store(true); return nil })
			wg.Go(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			release()
			wg.Wait()
			if !behind.Load() {
				t.Error("what was behind is lost")
			}
			if err := s.Write(t.Context(), addNote("late")); !errors.Is(err, store.ErrClosed) {
				t.Errorf("write after the end: error %v, want ErrClosed", err)
			}
			if err := s.Read(t.Context(), func(*store.Snapshot) error { return nil }); !errors.Is(err, store.ErrClosed) {
				t.Errorf("read after the end: error %v, want ErrClosed", err)
			}
			s.Behind(func(*store.Tx) error { t.Error("ran after the end"); return nil })
		})
	}
}

// TestFull lets the database grow no more for a while.
func TestFull(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			limit := func(pages int) {
				err := s.Write(t.Context(), func(tx *store.Tx) error {
					return tx.QueryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages)).Scan(new(int))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Write(t.Context(), addNote("before")); err != nil {
				t.Fatal(err)
			}
			limit(1) // what is there, and no more
			large := strings.Repeat("x", 1<<20)
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				err := addNote(large)(tx)
				if later := addNote("after the error")(tx); later == nil {
					t.Error("a statement ran after the one that broke the transaction")
				}
				return err
			})
			if !errors.Is(err, store.ErrFull) {
				t.Errorf("error %v, want ErrFull", err)
			}
			if err := s.Write(t.Context(), func(tx *store.Tx) error { _ = addNote(large)(tx); return nil }); !errors.Is(err, store.ErrFull) {
				t.Errorf("write that hides the error: error %v, want ErrFull", err)
			}
			limit(1 << 20)
			if err := s.Write(t.Context(), addNote("after")); err != nil {
				t.Errorf("write once there is room: error %v", err)
			}
			if diff := cmp.Diff([]string{"before", "after"}, readNotes(t, s)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestManyAtOnce has writers and readers in each other's way: each write moves a
// unit from one row to another, so that every snapshot has the same sum.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			accounts := store.Migrations{Module: "accounts", Steps: []string{`
				CREATE TABLE account (id INTEGER PRIMARY KEY, units INTEGER NOT NULL);
				INSERT INTO account (id, units) VALUES (0, 100), (1, 100), (2, 100), (3, 100)`}}
			if err := s.Migrate(t.Context(), accounts); err != nil {
				t.Fatal(err)
			}
			const writers, writes = 16, 30
			var n atomic.Int64
			var moved atomic.Int64
			move := func(i int64) func(*store.Tx) error {
				return func(tx *store.Tx) error {
					if _, err := tx.Exec("UPDATE account SET units = units - 1 WHERE id = ?", i%4); err != nil {
						return err
					}
					if i%5 == 0 {
						return errRefused
					}
					_, err := tx.Exec("UPDATE account SET units = units + 1 WHERE id = ?", (i+1)%4)
					return err
				}
			}
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range writes {
						i := n.Add(1)
						if err := s.Write(t.Context(), move(i)); err == nil {
							moved.Add(1)
						} else if !errors.Is(err, errRefused) {
							t.Error(err)
						}
						s.Behind(move(n.Add(1)))
					}
				})
			}
			for range 4 {
				wg.Go(func() {
					for moved.Load() < writers*writes/2 && !t.Failed() {
						checkSum(t, s)
					}
				})
			}
			wg.Wait()
			checkSum(t, s)
		})
	}
}

func checkSum(t *testing.T, s *store.Store) {
	t.Helper()
	err := s.Read(context.Background(), func(sn *store.Snapshot) error {
		sums := make([]int, 2)
		for i := range sums {
			if err := sn.QueryRow("SELECT sum(units) FROM account").Scan(&sums[i]); err != nil {
				return err
			}
		}
		if !slices.Equal(sums, []int{400, 400}) {
			t.Errorf("sums %d in one snapshot, want 400", sums)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
