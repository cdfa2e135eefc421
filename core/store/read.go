package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxReaders bounds the read transactions at a time. Each connection takes some
// memory for its page cache.
const maxReaders = 16

// Snapshot is what a function given to Read sees of the database: what was
// committed when it first read, unchanged until its end, whatever is written
// meanwhile. It belongs to that function and its goroutine, and ends with it.
type Snapshot struct {
	conn  *conn
	files files
	ended bool
}

// Query runs a SELECT. It and the reading of its rows end with the context of
// Read.
func (sn *Snapshot) Query(query string, args ...any) (*Rows, error) {
	if sn.ended {
		return nil, errEnded
	}
	if err := sn.conn.ended(); err != nil {
		return nil, err
	}
	return sn.conn.query(query, args)
}

// QueryRow runs a SELECT that gives at most one row; its errors come with
// Row.Scan, which must be called.
func (sn *Snapshot) QueryRow(query string, args ...any) *Row {
	rows, err := sn.Query(query, args...)
	return &Row{rows: rows, err: err}
}

// readers are the connections that read.
type readers struct {
	open  func(context.Context) (*conn, error)
	slots chan struct{} // one taken for each read that runs

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

func newReaders(open func(context.Context) (*conn, error)) *readers {
	return &readers{open: open, slots: make(chan struct{}, maxReaders)}
}

// Read runs fn on a snapshot that contains every Write which has returned
// before. It never waits for writers, but for another Read when 16 run already.
// fn must not call Read itself, nor wait for a client or anything else: a long
// Read keeps the log of changes from being cleared. What fn returns is returned.
func (s *Store) Read(ctx context.Context, fn func(*Snapshot) error) error {
	c, err := s.readers.acquire(ctx)
	if err != nil {
		return err
	}
	healthy := false
	defer func() { s.readers.put(c, healthy) }()
	if err := s.memory.refresh(c); err != nil {
		return err
	}
	if err := c.exec("BEGIN"); err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	c.ended = ctx.Err
	sn := &Snapshot{conn: c, files: s.files}
	defer func() {
		sn.ended = true
		c.closeRows()
		c.ended = nil
		healthy = c.exec("ROLLBACK") == nil
	}()
	return fn(sn)
}

// acquire gives a connection that nobody else uses.
func (r *readers) acquire(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := r.get(ctx)
	if err != nil {
		<-r.slots
	}
	return c, err
}

func (r *readers) get(ctx context.Context) (*conn, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		return c, nil
	}
	r.mu.Unlock()
	c, err := r.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open connection for reading: %w", err)
	}
	return c, nil
}

// put takes a connection back; a broken one is closed.
func (r *readers) put(c *conn, healthy bool) {
	defer func() { <-r.slots }()
	if !healthy {
		_ = c.close() // it is given up in any case
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, c)
}

// close waits for the reads that run and lets no more in.
func (r *readers) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for range cap(r.slots) {
		r.slots <- struct{}{}
	}
	var errs []error
	for _, c := range r.idle {
		errs = append(errs, c.close())
	}
	r.idle = nil
	for range cap(r.slots) {
		<-r.slots
	}
	return errors.Join(errs...)
}
