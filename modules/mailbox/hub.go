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
	// joined has, by mailbox, the mod-sequence with which the record of expunges
	// was last changed, perhaps, in a transaction that may not be committed yet.
	joined map[int64]int64
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
// were there when they were opened. The caller may change what comes after that,
// in the change of the mailbox that gets the mod-sequence next. A view that joins
// from now on asks mayHaveJoined.
func (h *hub) pinned(mailboxID, next int64) (modSeq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.joined == nil {
		h.joined = make(map[int64]int64)
	}
	h.joined[mailboxID] = next
	if w := h.mailboxes[mailboxID]; w != nil {
		for v := range w.views {
			modSeq = max(modSeq, v.pin.Load())
		}
	}
	return modSeq
}

// mayHaveJoined tells whether the record of expunges may be about to change for
// a view that joined and has then read the mailbox as it was at modSeq.
func (h *hub) mayHaveJoined(mailboxID, modSeq int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return modSeq < h.joined[mailboxID]
}

// forget is called when a mailbox that nothing can find any more goes.
func (h *hub) forget(mailboxID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.joined, mailboxID)
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
