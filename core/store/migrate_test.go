package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/store"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			m := store.Migrations{Module: "m", Steps: []string{
				"CREATE TABLE m (n INTEGER); INSERT INTO m VALUES (1);\n",
				"UPDATE m SET n = n + 1 -- and no more",
			}}
			for range 2 {
				if err := s.Migrate(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			m.Steps = append(m.Steps, "UPDATE m SET n = n * 10", "UPDATE m SET n = 0; UPDATE nothing SET n = 0")
			err := s.Migrate(t.Context(), m)
			if err == nil || !strings.Contains(err.Error(), "tables of m: step 4") {
				t.Errorf("broken step: error %v", err)
			}
			var n int
			err = s.Read(t.Context(), func(sn *store.Snapshot) error { return sn.QueryRow("SELECT n FROM m").Scan(&n) })
			if err != nil || n != 20 {
				t.Errorf("got %d, %v, want the 20 of whole steps", n, err)
			}
			m.Steps = m.Steps[:1]
			err = s.Migrate(t.Context(), m)
			if !errors.Is(err, store.ErrNewer) {
				t.Errorf("older build: error %v, want ErrNewer", err)
			}
			for _, want := range []string{"tables of m", "version 3", "up to 1", "backup"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}
