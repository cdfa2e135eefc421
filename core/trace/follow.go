package trace

import (
	"sync"
	"sync/atomic"
)

// followBuffer is how many records a follower may lag behind.
const followBuffer = 256

// hub gives records to those who follow.
type hub struct {
	dropped atomic.Uint64

	mu        sync.RWMutex
	followers map[chan *Record]struct{}
	closed    bool
}

// Follow gives records as they are added, before they are stored. The channel is
// closed by stop, which may be called more than once, and when the log is
// closed. Records that a slow reader has no room for are dropped and counted.
func (l *Log) Follow() (records <-chan *Record, stop func()) {
	ch := make(chan *Record, followBuffer)
	h := &l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch, func() {}
	}
	if h.followers == nil {
		h.followers = make(map[chan *Record]struct{})
	}
	h.followers[ch] = struct{}{}
	return ch, func() { h.leave(ch) }
}

// Dropped is the number of records that followers had no room for.
func (l *Log) Dropped() uint64 { return l.hub.dropped.Load() }

func (h *hub) leave(ch chan *Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.followers[ch]; ok {
		delete(h.followers, ch)
		close(ch)
	}
}

func (h *hub) publish(r *Record) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for ch := range h.followers {
		select {
		case ch <- r:
		default:
			h.dropped.Add(1)
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.followers {
		delete(h.followers, ch)
		close(ch)
	}
}
