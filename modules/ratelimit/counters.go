package ratelimit

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

const (
	// numSlices is into how many slices time is cut that counts: the one that
	// runs, and as many whole ones as make a window.
	numSlices = 8
	numShards = 64
	// sample is how many counters are looked at to find one to forget.
	sample = 8
)

// options are what counters take from the server.
type options struct {
	store *store.Store
	log   *zap.Logger
	now   func() time.Time
}

// counters are the sliding windows of one handler, one a key. They outlive its
// instances and are safe for concurrent use.
type counters struct {
	options
	scope string
	// slice is a seventh of the window, in nanoseconds.
	slice int64
	// max is how many keys a shard has at most.
	max    atomic.Int64
	seed   maphash.Seed
	shards [numShards]shard

	startOnce sync.Once
	startErr  error
	stop      context.CancelFunc // nil before start
	stopped   chan struct{}
}

// shard is a part of the keys. Counters stand in a list without pointers, so
// that the garbage collector has nothing to follow.
type shard struct {
	mu    sync.Mutex
	index map[key]uint32
	list  []counter
	hand  int // where the search for one to forget goes on
}

// counter holds the events of one key in the last slices. It fills one cache
// line.
type counter struct {
	key key
	// slice is the number, since 1970, of the newest slice that is counted.
	slice int64
	// counts are the events by slice number modulo numSlices.
	counts [numSlices]uint32
	// changed tells that the database does not have it yet.
	changed bool
}

func newCounters(scope string, window time.Duration, o options) *counters {
	c := &counters{options: o, scope: scope, seed: maphash.MakeSeed(), stopped: make(chan struct{})}
	const whole = numSlices - 1
	c.slice = max(1, (int64(window)+whole-1)/whole)
	for i := range c.shards {
		c.shards[i].index = make(map[key]uint32)
	}
	return c
}

// setMax bounds the number of keys.
func (c *counters) setMax(keys int) { c.max.Store(int64(max(1, keys/numShards))) }

// take counts n of a key. If there would be more than limit of them then, it
// counts nothing and gives their number and the time until there is room; n must
// not exceed limit.
func (c *counters) take(k key, n, limit int, now time.Time) (used int, wait time.Duration) {
	nanos := now.UnixNano()
	current := nanos / c.slice
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(k, current, int(c.max.Load()))
	e.roll(current)
	used = e.sum()
	if used > limit-n {
		return used, time.Duration(e.room(limit-n+1)*c.slice - nanos)
	}
	e.counts[slot(e.slice)] += uint32(n)
	e.changed = true
	return used + n, 0
}

// look is take without counting.
func (c *counters) look(k key, n, limit int, now time.Time) (used int, wait time.Duration) {
	nanos := now.UnixNano()
	current := nanos / c.slice
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[k]
	if !ok {
		return 0, 0
	}
	e := &s.list[i]
	e.roll(current)
	if used = e.sum(); used > limit-n {
		return used, time.Duration(e.room(limit-n+1)*c.slice - nanos)
	}
	return used, 0
}

// most is what one slice can hold so that sums stay in the bounds of an int32.
const most = 1 << 27

// add counts one, whatever the limit.
func (c *counters) add(k key, now time.Time) {
	current := now.UnixNano() / c.slice
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(k, current, int(c.max.Load()))
	e.roll(current)
	if n := &e.counts[slot(e.slice)]; *n < most {
		*n++
		e.changed = true
	}
}

// give takes back what take has counted at that time.
func (c *counters) give(k key, n int, now time.Time) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[k]
	if !ok {
		return // forgotten meanwhile
	}
	e := &s.list[i]
	count := &e.counts[slot(now.UnixNano()/c.slice)]
	*count -= min(*count, uint32(n))
	e.changed = true
}

func (c *counters) shard(k key) *shard {
	return &c.shards[maphash.Bytes(c.seed, k[:])%numShards]
}

// find gives the key's counter, a fresh one if it has none. It is called with mu
// held, and its result is good as long as mu is.
func (s *shard) find(k key, current int64, limit int) *counter {
	if i, ok := s.index[k]; ok {
		return &s.list[i]
	}
	i := s.place(current, limit)
	s.list[i] = counter{key: k, slice: current}
	s.index[k] = uint32(i)
	return &s.list[i]
}

// place gives a place for a new counter. When the shard is full, the one with
// the fewest events of a few is forgotten: a flood of new keys pushes itself out
// and not those that are near their limit.
func (s *shard) place(current int64, limit int) int {
	if len(s.list) < limit {
		s.list = append(s.list, counter{})
		return len(s.list) - 1
	}
	victim, fewest := 0, int(^uint(0)>>1)
	for range min(sample, len(s.list)) {
		s.hand = (s.hand + 1) % len(s.list)
		e := &s.list[s.hand]
		e.roll(current)
		if n := e.sum(); n < fewest {
			victim, fewest = s.hand, n
		}
	}
	delete(s.index, s.list[victim].key)
	return victim
}

// roll moves the counter on to a slice and forgets what is too old. A clock that
// was set back a little leaves it where it is; one that was far ahead when it
// counted is not believed.
func (e *counter) roll(current int64) {
	switch ahead := current - e.slice; {
	case ahead >= numSlices || ahead < -numSlices:
		e.counts = [numSlices]uint32{}
		e.slice = current
	default:
		for ; e.slice < current; e.slice++ {
			e.counts[slot(e.slice+1)] = 0
		}
	}
}

// slot is where a counter keeps the slice of that number.
func slot(slice int64) int { return int(uint64(slice) % numSlices) }

// sum gives the number of events that count.
func (e *counter) sum() int {
	sum := 0
	for _, n := range e.counts {
		sum += int(n)
	}
	return sum
}

// room gives the number of the slice in which fewer than limit events will
// count.
func (e *counter) room(limit int) int64 {
	left := e.sum()
	for i := e.slice - numSlices + 1; i < e.slice; i++ {
		if left -= int(e.counts[slot(i)]); left < limit {
			return i + numSlices
		}
	}
	return e.slice + numSlices
}

// sweep drops counters without events and gives their memory back when it is
// much.
func (s *shard) sweep(current int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.list) - 1; i >= 0; i-- {
		e := &s.list[i]
		if e.roll(current); e.sum() > 0 {
			continue
		}
		delete(s.index, e.key)
		last := len(s.list) - 1
		if i != last {
			s.list[i] = s.list[last]
			s.index[s.list[i].key] = uint32(i)
		}
		s.list = s.list[:last]
	}
	if cap(s.list) < 1024 || len(s.list) > cap(s.list)/4 {
		return
	}
	s.list = slices.Clone(s.list)
	s.index = make(map[key]uint32, len(s.list))
	for i := range s.list {
		s.index[s.list[i].key] = uint32(i)
	}
	s.hand = 0
}
