package store

import (
	"sync/atomic"

	"go.uber.org/zap"
)

// checkpointPages is the number of pages in the write-ahead log at which they
// are copied into the database file. It is SQLite's own default; the throughput
// was measured flat between 500 and 16,000 pages.
const checkpointPages = 1000

// watchEvery is the number of commits after which the writer looks at the
// length of the log.
const watchEvery = 8

// The states of a checkpoint.
const (
	checkpointIdle    = iota
	checkpointRunning // in its own goroutine
	checkpointReady   // the writer is to copy the rest
	checkpointFailed
)

// checkpointer copies the write-ahead log into the database file. Most of it is
// done beside the writer, on a connection of its own. The log can begin anew only
// when all of it is copied, which under load is never so, since the writer adds
// to it meanwhile; so the writer itself copies the little that is left, between
// two groups. A nil checkpointer, that of a store in memory, does nothing.
type checkpointer struct {
	conn  *conn
	log   *zap.Logger
	fail  func(error)   // is told each error
	wake  chan struct{} // of capacity 1, closed at the end
	state atomic.Int32

	// For the writer alone.
	commits int
	pages   int // in the log when the last one began
	next    int // pages at which to begin
}

func newCheckpointer(c *conn, log *zap.Logger, fail func(error)) *checkpointer {
	return &checkpointer{conn: c, log: log, fail: fail, wake: make(chan struct{}, 1), next: checkpointPages}
}

// run is the goroutine beside the writer. It ends when wake is closed.
func (c *checkpointer) run() {
	for range c.wake {
		if _, _, err := walCheckpoint(c.conn, "PASSIVE"); err != nil {
			c.log.Error("checkpoint database", zap.Error(err))
			c.fail(err)
			c.state.Store(checkpointFailed)
			continue
		}
		c.state.Store(checkpointReady)
	}
}

// watch is called by the writer after each commit.
func (c *checkpointer) watch(writer *conn) {
	if c == nil {
		return
	}
	if c.commits++; c.commits < watchEvery || c.state.Load() != checkpointIdle {
		return
	}
	c.commits = 0
	pages, _, err := walCheckpoint(writer, "NOOP")
	if err != nil || pages < c.next {
		return
	}
	c.pages = pages
	c.state.Store(checkpointRunning)
	c.wake <- struct{}{}
}

// finish is called by the writer before each group. When a reader still needs old
// pages, or the disk is full, the log grows on, and the next attempt is due when
// it has grown as much again.
func (c *checkpointer) finish(writer *conn) {
	if c == nil {
		return
	}
	switch c.state.Load() {
	case checkpointFailed:
		c.next = c.pages + checkpointPages
	case checkpointReady:
		c.next = checkpointPages
		pages, copied, err := walCheckpoint(writer, "PASSIVE")
		if err != nil {
			c.log.Error("checkpoint database", zap.Error(err))
			c.fail(err)
		}
		if err != nil || copied < pages {
			c.next = max(c.pages, pages) + checkpointPages
		}
	default:
		return
	}
	c.state.Store(checkpointIdle)
}

// walCheckpoint runs a checkpoint and gives the pages in the log and how many of
// them are copied.
func walCheckpoint(c *conn, mode string) (pages, copied int, err error) {
	rows, err := c.query("PRAGMA wal_checkpoint("+mode+")", nil)
	if err != nil {
		return 0, 0, err
	}
	var busy int
	err = (&Row{rows: rows}).Scan(&busy, &pages, &copied)
	return pages, copied, err
}
