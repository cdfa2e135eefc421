package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// mailTables are like those of a mailbox service: what one message costs.
var mailTables = store.Migrations{Module: "bench", Steps: []string{
	`
	CREATE TABLE mailbox (id INTEGER PRIMARY KEY, uid_next INTEGER NOT NULL, mod_seq INTEGER NOT NULL);
	CREATE TABLE message (
		mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, body INTEGER NOT NULL,
		flags INTEGER NOT NULL, received INTEGER NOT NULL, mod_seq INTEGER NOT NULL,
		PRIMARY KEY (mailbox, uid)
	) WITHOUT ROWID;
	CREATE TABLE trail (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data BLOB NOT NULL);
	INSERT INTO mailbox (id, uid_next, mod_seq)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i, 1, 1 FROM n`,
}}

// deliver writes what a message of a mailbox service writes.
func deliver(tx *store.Tx, b *store.Body, n int64, trail []byte) error {
	id, err := tx.InsertBody(b, 1)
	if err != nil {
		return err
	}
	mailbox := n%100 + 1
	if _, err := tx.Exec("INSERT INTO message (mailbox, uid, body, flags, received, mod_seq) VALUES (?, ?, ?, 0, ?, ?)", mailbox, n, id, n, n); err != nil {
		return err
	}
	if _, err := tx.Exec("UPDATE mailbox SET uid_next = uid_next + 1, mod_seq = mod_seq + 1 WHERE id = ?", mailbox); err != nil {
		return err
	}
	_, err = tx.Exec("INSERT INTO trail (id, data) VALUES (?, ?)", fmt.Sprintf("%018x", n), trail)
	return err
}

// processorTime is what this process has used so far.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// openMail opens a store with the tables for the time of a benchmark.
func openMail(b *testing.B, limit int64) *store.Store {
	b.Helper()
	s, err := store.Open(b.Context(), b.TempDir(), store.Options{BodyLimit: limit})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := s.Migrate(b.Context(), mailTables); err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkWrite measures durable messages of 4 KB with 1 to 200 writers that
// each wait for their answer.
func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 10, 50, 200} {
		b.Run(fmt.Sprintf("writers=%d", writers), delivery(writers, 4<<10, 0))
	}
}

// BenchmarkBody looks for the size from which a file is cheaper than a BLOB.
func BenchmarkBody(b *testing.B) {
	for _, size := range []int64{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10} {
		for _, writers := range []int{1, 10, 50} {
			for form, limit := range map[string]int64{"blob": 1 << 20, "file": 1} {
				b.Run(fmt.Sprintf("size=%dK/writers=%d/%s", size>>10, writers, form), delivery(writers, size, limit))
			}
		}
	}
}

// delivery is a benchmark of messages of one size.
func delivery(writers int, size, limit int64) func(*testing.B) {
	return func(b *testing.B) {
		s := openMail(b, limit)
		content, trail := make([]byte, size), make([]byte, 400)
		rand.Read(content)
		for range 256 { // makes the folders, which is done once in the life of a server
			body, err := s.PrepareBody(nil, bytes.NewReader(content), size)
			if err != nil {
				b.Fatal(err)
			}
			body.Discard()
		}
		var n atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		start, used := time.Now(), processorTime(b)
		before := s.Stats()
		inParallel(writers, func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				body, err := s.PrepareBody(nil, bytes.NewReader(content), size)
				if err != nil {
					b.Error(err)
					return
				}
				err = s.Write(context.Background(), func(tx *store.Tx) error { return deliver(tx, body, i, trail) })
				body.Discard()
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.StopTimer()
		after := s.Stats()
		b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "messages/s")
		b.ReportMetric(float64((processorTime(b)-used).Microseconds())/float64(b.N), "cpu-µs/op")
		b.ReportMetric(float64(after.Writes-before.Writes)/float64(after.Groups-before.Groups), "group")
	}
}

// BenchmarkRead measures one query on a snapshot of its own.
func BenchmarkRead(b *testing.B) {
	s := openMail(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		err := s.Read(context.Background(), func(sn *store.Snapshot) error {
			var next int64
			return sn.QueryRow("SELECT uid_next FROM mailbox WHERE id = ?", 7).Scan(&next)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenBody reads bodies of 4 KB here and there in a database of 40 MB.
func BenchmarkOpenBody(b *testing.B) {
	s := openMail(b, 0)
	const bodies = 10_000
	content := make([]byte, 4<<10)
	err := s.Write(context.Background(), func(tx *store.Tx) error {
		for range bodies {
			body, err := s.PrepareBody(nil, bytes.NewReader(content), int64(len(content)))
			if err != nil {
				return err
			}
			if _, err := tx.InsertBody(body, 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for id := int64(1); b.Loop(); id = id*7919%bodies + 1 {
		r, err := s.OpenBody(context.Background(), id)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
