package store_test

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// notes is a table to write into.
var notes = store.Migrations{Module: "notes", Steps: []string{
	"CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
}}

// kinds open a store on disk and one in memory, which must not differ, for the
// time of a test. Both have the table of notes and keep bodies of up to 100 bytes
// in the database.
var kinds = map[string]func(*testing.T) *store.Store{
	"disk": func(t *testing.T) *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), t.TempDir(), store.Options{BodyLimit: 100})
		prepare(t, s, err)
		return s
	},
	"memory": func(t *testing.T) *store.Store {
		t.Helper()
		s, err := store.OpenMemory(store.Options{BodyLimit: 100})
		prepare(t, s, err)
		return s
	},
}

func prepare(t *testing.T, s *store.Store, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
}

// observed gives a logger and what it was told.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return zap.New(core), logs
}

// inParallel runs f in n goroutines and waits for them.
func inParallel(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

// addNote gives a function for Write or Behind.
func addNote(text string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO note (text) VALUES (?)", text)
		return err
	}
}

// readNotes gives all notes in the order in which they were written.
func readNotes(t *testing.T, s *store.Store) []string {
	t.Helper()
	var list []string
	err := s.Read(context.Background(), func(sn *store.Snapshot) (err error) {
		list, err = selectNotes(sn)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func selectNotes(q store.Querier) ([]string, error) {
	rows, err := q.Query("SELECT text FROM note ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []string{}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, rows.Err()
}

// hold keeps the writer busy until release is called, so that what is queued
// meanwhile makes one group.
func hold(t *testing.T, s *store.Store) (release func()) {
	t.Helper()
	held, released, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Write(context.Background(), func(*store.Tx) error {
			close(held)
			<-released
			return nil
		})
	}()
	<-held
	return sync.OnceFunc(func() {
		close(released)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// queueUp runs write in a goroutine and returns once it waits for the writer,
// which is held.
func queueUp(wg *sync.WaitGroup, s *store.Store, write func()) {
	before := s.Stats().Waiting
	wg.Go(write)
	for s.Stats().Waiting == before {
		runtime.Gosched()
	}
}
