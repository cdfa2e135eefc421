package store

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Bounds of a group: they keep its first member from waiting long for its last.
const (
	maxGroup     = 512
	maxGroupTime = 50 * time.Millisecond
)

// slowMember is how long a function may hold up the writer before the log says
// so.
const slowMember = time.Second

// writer is the goroutine that writes. It makes a group of what waits, runs one
// after the other in one transaction, commits, and answers all. Requests that
// arrive while it commits make the next group, so that groups grow with the
// load by themselves.
type writer struct {
	store   *Store
	queue   *queue
	conn    *conn
	pending []*request // taken from the queue, not yet run
	spare   []*request // memory for the queue
	group   []member   // ran, and waits for the commit
	open    bool       // a transaction is
	dirty   bool       // a member of the group has written
	durable bool       // commits wait for the disk
	remove  []string   // files that go after the next durable commit
}

// member is a function that ran in the group.
type member struct {
	*Tx
	done chan error // nil for Behind
	err  error
}

// run is the goroutine. It ends when the store is closed and all that was
// accepted is answered.
func (w *writer) run() {
	for range w.queue.wake {
		for w.refill() {
			w.store.checkpoint.finish(w.conn)
			w.runGroup()
		}
		if w.queue.drained() {
			return
		}
	}
}

// refill takes what waits, if nothing is pending, and tells whether anything is.
func (w *writer) refill() bool {
	if len(w.pending) == 0 {
		taken := w.queue.take(w.spare)
		if taken == nil {
			return false
		}
		w.pending, w.spare = taken, taken[:0]
	}
	return len(w.pending) > 0
}

// runGroup runs what is pending, and what arrives meanwhile, and commits it.
func (w *writer) runGroup() {
	durable := false
	for _, r := range w.pending {
		durable = durable || r.fn != nil && r.done != nil
	}
	if err := w.ready(durable); err != nil {
		w.refuse(err)
		return
	}
	start := time.Now()
	for now := start; len(w.group) < maxGroup && now.Sub(start) < maxGroupTime; {
		if len(w.pending) == 0 && (!durable || !w.refill()) {
			break
		}
		r := w.pending[0]
		w.pending[0] = nil
		w.pending = w.pending[1:]
		if r.taken.CompareAndSwap(false, true) {
			w.runMember(r)
		}
		begun := now
		if now = time.Now(); now.Sub(begun) > slowMember {
			w.store.log.Warn("slow transaction held up all writes", zap.Duration("duration", now.Sub(begun)))
		}
	}
	w.commit()
}

// ready chooses whether the commit of the next group waits for the disk. After an
// error none may be written.
func (w *writer) ready(durable bool) error {
	if err := w.store.failed(); err != nil || durable == w.durable {
		return err
	}
	level := "PRAGMA synchronous = NORMAL"
	if durable {
		level = "PRAGMA synchronous = FULL"
	}
	if err := w.conn.script(level); err != nil {
		return fmt.Errorf("choose durability: %w", err)
	}
	w.durable = durable
	return nil
}

// refuse answers all that wait with the error that the first of them met. The
// others would meet it as well, each perhaps after seconds.
func (w *writer) refuse(err error) {
	for w.refill() {
		for _, r := range w.pending {
			if r.taken.CompareAndSwap(false, true) {
				w.group = append(w.group, member{Tx: new(Tx), done: r.done, err: err})
			}
		}
		clear(w.pending)
		w.pending = nil
	}
	w.answer(err, false)
}

// runMember runs one function and puts it into the group. The function of a
// transaction that cannot begin does not run.
func (w *writer) runMember(r *request) {
	m := member{Tx: &Tx{store: w.store, conn: w.conn, savepoint: w.dirty}, done: r.done}
	var refused error
	if r.fn != nil {
		if refused = w.begin(); refused == nil {
			m.err = m.run(r.fn)
		}
	}
	w.group = append(w.group, m)
	switch {
	case refused != nil:
		w.refuse(refused)
	case m.broken != nil:
		w.rollback()
		w.answer(fmt.Errorf("write together with others: %w", m.broken), false)
	case m.undo:
		w.rollback()
	default:
		w.dirty = w.dirty || m.wrote
	}
}

// begin opens a transaction if none is open.
func (w *writer) begin() error {
	if w.open {
		return nil
	}
	if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	w.open = true
	return nil
}

// rollback ends the transaction without a trace. SQLite may have done so itself,
// and then says that there is none.
func (w *writer) rollback() {
	_ = w.conn.exec("ROLLBACK")
	w.open, w.dirty = false, false
}

// commit makes the group durable and answers it.
func (w *writer) commit() {
	var err error
	if w.open {
		err = w.conn.exec("COMMIT")
	}
	if err == nil && w.dirty {
		err = w.store.memory.publish()
	}
	if err != nil {
		w.rollback()
		err = fmt.Errorf("commit transaction: %w", err)
	}
	w.open, w.dirty = false, false
	w.answer(err, true)
	w.store.checkpoint.watch(w.conn)
}

// answer tells the members of the group how they ended. An error is that of the
// whole group.
func (w *writer) answer(err error, committing bool) {
	w.store.condemn(err)
	held := len(w.remove)
	for i := range w.group {
		m := &w.group[i]
		if m.err == nil {
			m.err = err
		}
		m.settle(m.err == nil, committing && inDoubt(err))
		if m.err == nil {
			w.remove = append(w.remove, m.remove...)
			w.runHooks(m.Tx)
		}
	}
	w.reply()
	// A crash must not bring back a row whose file is gone. A group that lets go
	// of files has deleted their rows, so that a durable commit of it was one.
	if w.durable && len(w.remove) > held {
		w.store.janitor.remove(w.remove)
		w.remove = nil
	}
}

// reply lets those go on who wait for the group, and empties it.
func (w *writer) reply() {
	w.store.countGroup(len(w.group))
	lost := 0
	var cause error // of the last that was lost
	for _, m := range w.group {
		if m.done != nil {
			m.done <- m.err
			continue
		}
		w.queue.lag.Add(-1)
		if m.err != nil {
			lost++
			cause = m.err
		}
	}
	if lost > 0 {
		w.store.log.Error("writes behind are lost", zap.Int("writes", lost), zap.Error(cause))
	}
	clear(w.group)
	w.group = w.group[:0]
}

// runHooks calls what a member left for after the commit.
func (w *writer) runHooks(tx *Tx) {
	for _, f := range tx.after {
		if err := tx.call(func(*Tx) error { f(); return nil }); err != nil {
			w.store.log.Error("after commit", zap.Error(err))
		}
	}
}
