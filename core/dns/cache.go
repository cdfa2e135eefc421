package dns

import (
	"container/list"
	"sync"
	"time"
)

// entrySize is what an answer may take on average. Beyond that the cache holds
// fewer, so that large answers cannot fill the memory.
const entrySize = 1024

// cache keeps results until they are too old, and the latest used ones of them.
// It is safe for concurrent use.
type cache struct {
	mu      sync.Mutex
	max     int
	size    int // of all entries in bytes, about
	entries map[question]*list.Element
	used    *list.List // of *entry, the latest used in front
}

type entry struct {
	question
	result  *result
	expires time.Time
	size    int
}

func newCache(size int) *cache {
	return &cache{max: size, entries: make(map[question]*list.Element), used: list.New()}
}

// get gives a result and for how long it holds from now on, nil if none is known.
func (c *cache) get(q question, now time.Time) (*result, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.entries[q]
	if element == nil {
		return nil, 0
	}
	e := element.Value.(*entry)
	ttl := e.expires.Sub(now)
	if ttl <= 0 {
		c.remove(element)
		return nil, 0
	}
	c.used.MoveToFront(element)
	return e.result, ttl
}

// put keeps a result, which is not changed any more.
func (c *cache) put(q question, r *result, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[q]; old != nil {
		c.remove(old)
	}
	e := &entry{question: q, result: r, expires: expires, size: len(q.name) + r.answer.size()}
	c.entries[q] = c.used.PushFront(e)
	c.size += e.size
	c.shrink()
}

// resize changes how many results are kept.
func (c *cache) resize(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.max = size
	c.shrink()
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// shrink forgets what was not used for the longest time.
func (c *cache) shrink() {
	for len(c.entries) > c.max || c.size > c.max*entrySize {
		c.remove(c.used.Back())
	}
}

func (c *cache) remove(element *list.Element) {
	e := c.used.Remove(element).(*entry)
	c.size -= e.size
	delete(c.entries, e.question)
}

// size is about how many bytes an answer takes.
func (a *Answer) size() int {
	const base, each = 400, 32
	size := base + len(a.Name) + each*(len(a.Addrs)+len(a.Texts)+len(a.Exchangers)+len(a.Names)+2*len(a.TLSA))
	for _, text := range a.Texts {
		size += len(text)
	}
	for _, mx := range a.Exchangers {
		size += len(mx.Host)
	}
	for _, name := range a.Names {
		size += len(name)
	}
	for _, t := range a.TLSA {
		size += len(t.Data)
	}
	return size
}
