package store_test

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/store"
)

// TestSnapshotStays writes while a read runs, which sees nothing of it, and
// neither waits for the other.
func TestSnapshotStays(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			if err := s.Write(t.Context(), addNote("before")); err != nil {
				t.Fatal(err)
			}
			err := s.Read(t.Context(), func(sn *store.Snapshot) error {
				for range 3 {
					got, err := selectNotes(sn)
					if err != nil {
						return err
					}
					if diff := cmp.Diff([]string{"before"}, got); diff != "" {
						t.Errorf("notes in the snapshot (-want +got):\n%s", diff)
					}
					if err := s.Write(t.Context(), addNote(time.Now().String())); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(readNotes(t, s)); got != 4 {
				t.Errorf("%d notes afterwards, want 4", got)
			}
		})
	}
}

// TestReadDoesNotWait reads while a write is under way.
func TestReadDoesNotWait(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				if err := addNote("under way")(tx); err != nil {
					return err
				}
				return s.Read(context.Background(), func(sn *store.Snapshot) error {
					got, err := selectNotes(sn)
					if len(got) != 0 {
						t.Errorf("a read sees %q of a write under way", got)
					}
					return err
				})
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for _, text := range []string{"one", "two", "three"} {
				if err := s.Write(t.Context(), addNote(text)); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			err := s.Read(ctx, func(sn *store.Snapshot) error {
				rows, err := sn.Query("SELECT text FROM note")
				if err != nil {
					return err
				}
				n := 0
				for rows.Next() {
					n++
					cancel()
				}
				if n != 1 {
					t.Errorf("%d rows after the end of the context, want 1", n)
				}
				return rows.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want Canceled", err)
			}
		})
	}
}

func TestSnapshotCannotWrite(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			err := s.Read(t.Context(), func(sn *store.Snapshot) error {
				rows, err := sn.Query("INSERT INTO note (text) VALUES ('x')")
				if err == nil {
					rows.Close()
				}
				return err
			})
			if err == nil {
				t.Error("a snapshot wrote")
			}
		})
	}
}

// TestSameQueryInsideItself reads the rows of a query while it runs the query
// again, in a write and in a read.
func TestSameQueryInsideItself(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			pairs := func(q store.Querier) error {
				rows, err := q.Query("SELECT text FROM note ORDER BY id")
				if err != nil {
					return err
				}
				defer rows.Close()
				n := 0
				for rows.Next() {
					inner, err := selectNotes(q)
					if err != nil {
						return err
					}
					n += len(inner)
				}
				if n != 9 {
					t.Errorf("%d pairs, want 9", n)
				}
				return rows.Err()
			}
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				for _, text := range []string{"one", "two", "three"} {
					if err := addNote(text)(tx); err != nil {
						return err
					}
				}
				return errors.Join(pairs(tx), pairs(tx))
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Read(t.Context(), func(sn *store.Snapshot) error { return pairs(sn) }); err != nil {
				t.Fatal(err)
			}
		})
	}
}

type name string

// TestValues writes values of all kinds and reads them back.
func TestValues(t *testing.T) {
	t.Parallel()
	moment := time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)
	for _, tc := range []struct {
		title    string
		in, want any
		into     any // a pointer
	}{
		{"string", "text", "text", new(string)},
		{"empty string", "", "", new(string)},
		{"named string", name("n"), name("n"), new(name)},
		{"bytes", []byte{0, 1, 2}, []byte{0, 1, 2}, new([]byte)},
		{"bytes as string", []byte("abc"), "abc", new(string)},
		{"string as bytes", "abc", []byte("abc"), new([]byte)},
		{"int", 7, 7, new(int)},
		{"int64", int64(-1 << 63), int64(-1 << 63), new(int64)},
		{"uint32", uint32(1<<32 - 1), uint32(1<<32 - 1), new(uint32)},
		{"uint64", uint64(1 << 62), uint64(1 << 62), new(uint64)},
		{"int as string", 42, "42", new(string)},
		{"bool", true, true, new(bool)},
		{"float", 1.5, 1.5, new(float64)},
		{"int as float", 2, 2.0, new(float64)},
		{"duration", time.Minute, time.Minute, new(time.Duration)},
		{"time", moment, moment, new(time.Time)},
		{"zero time", time.Time{}, time.Time{}, new(time.Time)},
		{"null as string", nil, "", new(string)},
		{"null as time", nil, time.Time{}, new(time.Time)},
		{"null as bytes", nil, []byte(nil), new([]byte)},
		{"null as int", nil, 0, new(int)},
		{"null told apart", nil, sql.Null[string]{}, new(sql.Null[string])},
		{"any", int64(3), any(int64(3)), new(any)},
	} {
		t.Run(tc.title, func(t *testing.T) {
			t.Parallel()
			s, err := store.OpenMemory(store.Options{})
			prepare(t, s, err)
			err = s.Read(t.Context(), func(sn *store.Snapshot) error {
				return sn.QueryRow("SELECT ?", tc.in).Scan(tc.into)
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, reflect.ValueOf(tc.into).Elem().Interface()); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValuesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		title string
		in    any
		into  []any
		want  string
	}{
		{"too large", 300, []any{new(int8)}, "does not fit"},
		{"negative", -1, []any{new(uint32)}, "does not fit"},
		{"text as number", "x", []any{new(int)}, "no integer"},
		{"no pointer", 1, []any{7}, "not a pointer"},
		{"nil", 1, []any{nil}, "not a pointer"},
		{"too few variables", 1, nil, "0 variables for 1 columns"},
		{"argument of no kind", struct{}{}, []any{new(int)}, "argument 1"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			t.Parallel()
			s, err := store.OpenMemory(store.Options{})
			prepare(t, s, err)
			err = s.Read(t.Context(), func(sn *store.Snapshot) error {
				return sn.QueryRow("SELECT ?", tc.in).Scan(tc.into...)
			})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
}

func TestQueryRow(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			err := s.Read(t.Context(), func(sn *store.Snapshot) error {
				return sn.QueryRow("SELECT text FROM note").Scan(new(string))
			})
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("no row: error %v, want ErrNotFound", err)
			}
			err = s.Read(t.Context(), func(sn *store.Snapshot) error {
				return sn.QueryRow("SELECT nothing FROM note").Scan(new(string))
			})
			if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "nothing") {
				t.Errorf("no such column: error %v", err)
			}
		})
	}
}
