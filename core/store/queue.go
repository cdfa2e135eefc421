package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Bounds of what is written behind.
const (
	maxBehind   = 8192
	behindDelay = time.Second
)

// request is a function that waits for the writer.
type request struct {
	fn    func(*Tx) error // nil for Flush
	done  chan error      // nil for Behind
	taken atomic.Bool     // by the writer, or back by the caller
}

// queue holds the requests in the order in which they came.
type queue struct {
	log     *zap.Logger
	wake    chan struct{} // of capacity 1
	timer   *time.Timer   // makes what is behind due
	dropped atomic.Uint64
	lag     atomic.Int64 // functions behind that are not yet committed

	mu       sync.Mutex
	waiting  []*request
	behind   int  // how many of them nobody waits for
	due      bool // they are to be written now
	dropping bool // some were dropped, and the log says so
	closed   bool
}

func newQueue(log *zap.Logger) *queue {
	q := &queue{log: log, wake: make(chan struct{}, 1)}
	q.timer = time.AfterFunc(behindDelay, q.setDue)
	q.timer.Stop()
	return q
}

// Write runs fn exactly once in a transaction and returns when what it wrote is
// durable. Calls that come at the same time share one transaction and its one
// fsync; if fn fails or panics, only its own changes are undone, and Write
// returns its error. If the commit fails, all that share it get that error. fn
// must be quick, since all other writes wait for it, and must not call Write,
// Flush or Close.
//
// If ctx ends before fn begins, fn never runs and Write returns ctx's error.
// After that Write waits for the end whatever ctx does, since the outcome is not
// known before.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	return s.queue.submit(ctx, &request{fn: fn, done: make(chan error, 1)})
}

// Flush returns when everything that was given to Behind before is committed, so
// that Read sees it. It does not make it durable. It gives ErrUnsynced when
// nothing can be written any more.
func (s *Store) Flush(ctx context.Context) error {
	if s.queue.lag.Load() == 0 {
		return s.failed()
	}
	return s.queue.submit(ctx, &request{done: make(chan error, 1)})
}

// Behind runs fn soon in a transaction that it shares with the next writes or,
// if none comes within a second, in one that costs no fsync. A crash may lose
// it. Behind never waits: when too many wait already, fn is dropped, which is
// counted and logged. Errors of fn are logged. fn obeys the rules of Write.
func (s *Store) Behind(fn func(*Tx) error) { s.queue.add(&request{fn: fn}) }

// submit queues a request and waits for its answer.
func (q *queue) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.waiting = append(q.waiting, r)
	q.mu.Unlock()
	q.signal()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-r.done
	}
}

// add queues a request that nobody waits for.
func (q *queue) add(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.behind >= maxBehind {
		q.dropped.Add(1)
		if !q.dropping {
			q.dropping = true
			q.log.Error("writes behind are dropped, the database is too slow", zap.Int("waiting", q.behind))
		}
		return
	}
	if q.behind == 0 {
		q.timer.Reset(behindDelay)
	}
	q.waiting = append(q.waiting, r)
	q.behind++
	q.lag.Add(1)
}

// setDue wakes the writer for what is behind alone.
func (q *queue) setDue() {
	q.mu.Lock()
	q.due = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take gives all that waits, unless that is nothing but functions behind that
// are not due yet. The slice is replaced by spare, which is empty.
func (q *queue) take(spare []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == q.behind && !q.due && !q.closed {
		return nil
	}
	if q.behind > 0 {
		q.timer.Stop()
	}
	taken := q.waiting
	q.waiting, q.behind, q.due, q.dropping = spare, 0, false, false
	return taken
}

// close lets nothing more in.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.timer.Stop()
	q.mu.Unlock()
	q.signal()
}

// drained tells whether nothing waits and nothing more can come.
func (q *queue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.waiting) == 0
}

// length is the number of requests that wait.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
