package mailbox

import (
	"sync"
	"sync/atomic"
)

// hub tells views that their mailbox has changed. It keeps no changes: a view
// that is told, or asks, compares mod-sequences and reads from the database
// what it has missed. So a slow session costs nothing and misses nothing.
type hub struct {
	mu        sync.Mutex
	mailboxes map[int64]*watch
}

// watch is a mailbox that some views look at.
type watch struct {
	// modSeq is the highest mod-sequence committed since the first view came; 0
	// if there was no change.
	modSeq atomic.Int64
	views  map[*View]struct{}
}

// join makes a view one that is told of changes to its mailbox.
func (h *hub) join(v *View) *watch {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.mailboxes[v.mailboxID]
	if w == nil {
		w = &watch{views: make(map[*View]struct{})}
		if h.mailboxes == nil {
			h.mailboxes = make(map[int64]*watch)
		}
		h.mailboxes[v.mailboxID] = w
	}
	w.views[v] = struct{}{}
	return w
}

// leave is the end of join.
func (h *hub) leave(v *View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.mailboxes[v.mailboxID]
	if w == nil {
		return
	}
	delete(w.views, v)
	if len(w.views) == 0 {
		delete(h.mailboxes, v.mailboxID)
	}
}

// pinned gives the mod-sequence up to which the record of a mailbox's expunges
// must stay as it is: views that have not loaded yet tell by it which messages
// were there when they were opened.
func (h *hub) pinned(mailboxID int64) (modSeq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.mailboxes[mailboxID]; w != nil {
		for v := range w.views {
			modSeq = max(modSeq, v.pin.Load())
		}
	}
	return modSeq
}

// changed is called after the commit of a change to a mailbox. It never waits.
func (h *hub) changed(mailboxID, modSeq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.mailboxes[mailboxID]
	if w == nil {
		return
	}
	w.modSeq.Store(max(w.modSeq.Load(), modSeq))
	for v := range w.views {
		select {
		case v.changed <- struct{}{}:
		default:
		}
	}
}
