package imap

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// watchEvery is how long a command may take before it is watched, and how often
// it is looked after from then on.
const watchEvery = time.Second

var (
	// errTooLong is why the context of a command ends that makes no progress.
	errTooLong = errors.New("timeouts.work is over")
	// errHungUp is why the context of a command ends whose client has gone.
	errHungUp = errors.New("client has hung up")
)

// do runs what the server does for one command, and turns its error into what
// the client is told. The context of f ends with the connection, and in time:
// see work.
func (s *session) do(what string, f func(ctx context.Context) error) error {
	ctx, end := s.conn.work()
	defer end()
	return s.fail(ctx, what, f(ctx))
}

// work gives a context for one command. It ends when the server has worked for
// timeouts.work without a response, and when the client hangs up; the cause says
// which. The caller calls end and does not read from the fence before.
//
// Nearly all commands end long before anybody looks after them.
func (c *conn) work() (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	w := &watch{fence: c.fence, limit: c.listener.Timeouts.Work, began: time.Now(), cancel: cancel, ended: make(chan struct{})}
	timer := time.AfterFunc(watchEvery, func() {
		defer close(w.ended)
		w.run(ctx)
	})
	return ctx, func() {
		cancel(nil)
		if !timer.Stop() {
			w.stop()
		}
	}
}

// watch looks after a command that takes long. It waits for what the client
// sends next, which stays in the fence's buffer, so as to see when it hangs up.
type watch struct {
	fence  *fence
	limit  time.Duration
	began  time.Time
	cancel context.CancelCauseFunc
	ended  chan struct{}

	mu   sync.Mutex
	over bool // the command has ended
}

func (w *watch) run(ctx context.Context) {
	progress, at := w.fence.out.progress(), w.began
	for {
		over, err := w.wait()
		if over {
			return
		}
		if err == nil {
			_, err = w.fence.in.Peek(1)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			w.cancel(errHungUp)
			return
		default: // the next command is here already
			select {
			case <-ctx.Done():
				return
			case <-time.After(watchEvery):
			}
		}
		if now := w.fence.out.progress(); now != progress {
			progress, at = now, time.Now()
		}
		if time.Since(at) >= w.limit {
			w.cancel(errTooLong)
			return
		}
	}
}

// wait sets the deadline of the next look, unless the command has ended. A
// connection that is gone may say so here already.
func (w *watch) wait() (over bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return true, nil
	}
	return false, w.fence.net().SetReadDeadline(time.Now().Add(watchEvery))
}

// stop ends the watch, and leaves the reading to whom it belongs.
func (w *watch) stop() {
	w.mu.Lock()
	w.over = true
	_ = w.fence.net().SetReadDeadline(time.Unix(1, 0))
	w.mu.Unlock()
	<-w.ended
	_ = w.fence.net().SetReadDeadline(w.fence.limit(w.fence.timeouts.Command))
}
