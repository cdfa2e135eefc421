package ratelimit

import (
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// trialKey finds what a transaction on trial would have counted so far.
type trialKey struct{ of *counters }

// trial is what a transaction would have counted, which counts for its own further
// recipients alone.
type trial struct {
	mu      sync.Mutex
	counted map[key]int
}

// trialOf gives the counts of a transaction on trial.
func (r *Ratelimit) trialOf(tx *mail.Transaction) *trial {
	found, _ := tx.Once(trialKey{r.counters}, func() (any, error) { return &trial{counted: make(map[key]int)}, nil })
	t, _ := found.(*trial)
	return t
}

// try judges a transaction on trial. Nothing is counted beyond it.
func (r *Ratelimit) try(tx *mail.Transaction, k key, n int) mail.Verdict {
	t := r.trialOf(tx)
	t.mu.Lock()
	defer t.mu.Unlock()
	used, wait := r.counters.peek(k, t.counted[k]+n, r.Limit.N, r.now())
	if wait > 0 {
		return r.over(tx, tx.Recipient, used+t.counted[k], wait)
	}
	used += t.counted[k]
	if r.counted(tx.Stage) {
		t.counted[k] += n
		used += n
	}
	return r.under(tx, tx.Recipient, used)
}

// tryAll judges a message on trial for each of its recipients.
func (r *Ratelimit) tryAll(tx *mail.Transaction, n int) mail.Verdict {
	var fullest fullest
	for _, recipient := range tx.Envelope.Recipients {
		k, ok := r.key(tx, recipient)
		if !ok {
			continue
		}
		used, wait := r.counters.peek(k, n, r.Limit.N, r.now())
		if wait > 0 {
			return r.over(tx, recipient, used, wait)
		}
		fullest.see(recipient, used+n)
	}
	return r.underAll(tx, fullest)
}

// peek tells what take would, and leaves the counter as it is: time on trial may be
// any. n may exceed limit.
func (c *counters) peek(k key, n, limit int, now time.Time) (used int, wait time.Duration) {
	nanos := now.UnixNano()
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	var e counter
	if i, ok := s.index[k]; ok {
		e = s.list[i]
	} else {
		e.slice = nanos / c.slice
	}
	e.roll(nanos / c.slice)
	if used = e.sum(); used > limit-n {
		return used, max(1, time.Duration(e.room(limit-n+1)*c.slice-nanos))
	}
	return used, 0
}
