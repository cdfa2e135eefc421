package ratelimit

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newTestCounters(window time.Duration, keys int) *counters {
	c := newCounters("test", window, options{})
	c.setMax(keys)
	return c
}

// TestWindow lets random events happen and holds every window of them against
// the limit.
func TestWindow(t *testing.T) {
	t.Parallel()
	for _, window := range []time.Duration{time.Second, time.Minute + 1, time.Hour, maxWindow} {
		for _, limit := range []int{1, 3, 50} {
			t.Run(window.String(), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(1, uint64(window)+uint64(limit)))
				c := newTestCounters(window, 1000)
				now := start
				var passed []time.Time
				for range 20 * limit {
					now = now.Add(time.Duration(random.Int64N(int64(window) / int64(limit))))
					used, wait := c.take(key{1}, 1, limit, now)
					if wait > 0 {
						checkWait(t, c, limit, used, now, wait)
						continue
					}
					passed = append(passed, now)
					if used > limit {
						t.Errorf("the event was number %d of %d", used, limit)
					}
				}
				for i := limit; i < len(passed); i++ {
					if span := passed[i].Sub(passed[i-limit]); span < window {
						t.Fatalf("%d events passed within %s", limit+1, span)
					}
				}
				if len(passed) < 5*limit {
					t.Errorf("only %d events passed", len(passed))
				}
			})
		}
	}
}

// checkWait finds that wait is right to the nanosecond, on copies of the
// counter.
func checkWait(t *testing.T, c *counters, limit, used int, now time.Time, wait time.Duration) {
	t.Helper()
	window := time.Duration(c.slice * (numSlices - 1))
	if used < limit || wait > window+time.Duration(c.slice) {
		t.Errorf("%d of %d used, %s to wait", used, limit, wait)
	}
	at := func(later time.Duration) bool {
		e := *c.shard(key{1}).find(key{1}, 0, 1)
		e.roll(now.Add(later).UnixNano() / c.slice)
		return e.sum() < limit
	}
	if at(wait-1) || !at(wait) {
		t.Errorf("there is room before or not after %s", wait)
	}
}

// TestForgets finds that an event counts for a window and at most a seventh
// more.
func TestForgets(t *testing.T) {
	t.Parallel()
	const window = 7 * time.Minute
	for offset := time.Duration(0); offset < 2*time.Minute; offset += 7 * time.Second {
		c := newTestCounters(window, 1000)
		first := start.Add(offset)
		if _, wait := c.take(key{1}, 1, 1, first); wait != 0 {
			t.Fatal("the first event is refused")
		}
		if _, wait := c.take(key{1}, 1, 1, first.Add(window-1)); wait == 0 {
			t.Errorf("offset %s: a second event passes before the window has passed", offset)
		}
		if _, wait := c.take(key{1}, 1, 1, first.Add(window+window/7)); wait != 0 {
			t.Errorf("offset %s: an event still counts after the window and a seventh", offset)
		}
	}
}

func TestKeysAreApart(t *testing.T) {
	t.Parallel()
	c := newTestCounters(time.Hour, 1000)
	for i := range byte(50) {
		if _, wait := c.take(key{i}, 1, 1, start); wait != 0 {
			t.Errorf("key %d is refused at its first event", i)
		}
		if used, wait := c.take(key{i}, 1, 1, start); wait == 0 || used != 1 {
			t.Errorf("key %d passes twice", i)
		}
	}
}

func TestClockSetBack(t *testing.T) {
	t.Parallel()
	c := newTestCounters(time.Hour, 1000)
	take := func(at time.Duration) bool {
		_, wait := c.take(key{1}, 1, 2, start.Add(at))
		return wait == 0
	}
	if !take(30*time.Minute) || !take(0) || take(0) {
		t.Error("events before the newest one are not counted with it")
	}
	if !take(-24 * time.Hour) {
		t.Error("events of a clock that was a day ahead are believed")
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	const keys = 64 * 20
	c := newTestCounters(time.Hour, keys)
	heavy := key{0xff, 0xff, 0xff, 0xff}
	for range 10 {
		c.take(heavy, 1, 10, start)
	}
	for i := range 20 * keys {
		k := key{byte(i), byte(i >> 8), byte(i >> 16)}
		if _, wait := c.take(k, 1, 1, start); wait != 0 && i < keys {
			t.Fatalf("key %d is refused at its first event", i)
		}
	}
	held := 0
	for i := range c.shards {
		s := &c.shards[i]
		held += len(s.list)
		if len(s.list) != len(s.index) {
			t.Fatalf("%d counters, %d in the index", len(s.list), len(s.index))
		}
	}
	if held > keys {
		t.Errorf("%d keys are held, at most %d", held, keys)
	}
	if used, wait := c.take(heavy, 1, 10, start); used != 10 || wait == 0 {
		t.Errorf("a flood of keys made the one over its limit forgotten: %d used", used)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	c := newTestCounters(time.Hour, 1_000_000)
	c.now = func() time.Time { return start.Add(2 * time.Hour) }
	const many = 100_000
	for i := range many {
		k := key{byte(i), byte(i >> 8), byte(i >> 16)}
		at := start
		if i%1000 == 0 {
			at = start.Add(2*time.Hour - time.Minute)
		}
		c.take(k, 1, 1, at)
	}
	c.sweep()
	held, room := 0, 0
	for i := range c.shards {
		s := &c.shards[i]
		held, room = held+len(s.list), room+cap(s.list)
		for k, at := range s.index {
			if s.list[at].key != k {
				t.Fatal("the index is wrong")
			}
		}
	}
	if held != many/1000 {
		t.Errorf("%d counters are left, want %d", held, many/1000)
	}
	if room > many/10 {
		t.Errorf("memory for %d counters is kept", room)
	}
	for i := range many / 1000 {
		i *= 1000
		if _, wait := c.take(key{byte(i), byte(i >> 8), byte(i >> 16)}, 1, 1, c.now()); wait == 0 {
			t.Errorf("counter %d was forgotten", i)
		}
	}
}

func TestTakeAtOnce(t *testing.T) {
	t.Parallel()
	c := newTestCounters(time.Hour, 1000)
	const workers, each, limit = 8, 500, 1000
	passed := make([]int, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if _, wait := c.take(key{1}, 1, limit, start.Add(time.Duration(i)*time.Second)); wait == 0 {
					passed[w]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range passed {
		sum += n
	}
	if sum != limit {
		t.Errorf("%d events passed, want %d", sum, limit)
	}
}

func TestEncodeCounter(t *testing.T) {
	t.Parallel()
	want := counter{counts: [numSlices]uint32{1, 0, 1 << 31, 3, 4, 5, 6, 1e9}}
	var got counter
	if !got.decode(want.encode()) {
		t.Fatal("what encode wrote cannot be read")
	}
	if diff := cmp.Diff(want.counts, got.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if got.decode(nil) || got.decode(make([]byte, 33)) {
		t.Error("a text of the wrong length can be read")
	}
}

func BenchmarkTake(b *testing.B) {
	for name, keys := range map[string]int{"1 key": 1, "1M keys": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			c := newTestCounters(time.Hour, 1_000_000)
			for i := range keys {
				c.take(key{byte(i), byte(i >> 8), byte(i >> 16)}, 1, 1, start)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i = (i + 7919) % keys
				c.take(key{byte(i), byte(i >> 8), byte(i >> 16)}, 1, 1<<30, start)
			}
		})
	}
	b.Run("flood", func(b *testing.B) {
		c := newTestCounters(time.Hour, 100_000)
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			i++
			c.take(key{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}, 1, 1, start)
		}
	})
}

// BenchmarkMemory fills a table with a million keys and tells what each takes.
func BenchmarkMemory(b *testing.B) {
	const keys = 1_000_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		c := newTestCounters(time.Hour, keys)
		for i := range 2 * keys { // the second half finds it full
			c.take(key{byte(i), byte(i >> 8), byte(i >> 16)}, 1, 1<<30, start)
		}
		b.ReportMetric(float64(heap()-before)/keys, "B/key")
		runtime.KeepAlive(c)
	}
}
