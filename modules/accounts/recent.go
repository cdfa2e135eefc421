package accounts

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	// recentFor is how long a right password is remembered. Mail clients log in
	// for every folder and every few minutes.
	recentFor = 5 * time.Minute
	// maxRecent bounds how many are.
	maxRecent = 1024
)

// recent remembers which passwords were right a short while ago, so that they
// need not be hashed at each login. It keeps only a MAC, under a key of this
// process, of the password together with the hash that it fits: once the
// account's hash has changed or is gone, nothing that is remembered fits any
// more. It is safe for concurrent use.
type recent struct {
	key []byte

	mu      sync.Mutex
	entries map[[32]byte]time.Time // when each ends
}

func newRecent() *recent {
	r := &recent{key: make([]byte, 32), entries: make(map[[32]byte]time.Time)}
	rand.Read(r.key)
	return r
}

func (r *recent) has(hash, password string, now time.Time) bool {
	id := [32]byte(mac(r.key, hash, password))
	r.mu.Lock()
	defer r.mu.Unlock()
	end, ok := r.entries[id]
	return ok && now.Before(end)
}

func (r *recent) add(hash, password string, now time.Time) {
	id := [32]byte(mac(r.key, hash, password))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) >= maxRecent {
		r.makeRoom(now)
	}
	r.entries[id] = now.Add(recentFor)
}

// makeRoom drops what has ended, else any one. It is called with mu held.
func (r *recent) makeRoom(now time.Time) {
	for id, end := range r.entries {
		if !now.Before(end) {
			delete(r.entries, id)
		}
	}
	for id := range r.entries {
		if len(r.entries) < maxRecent {
			return
		}
		delete(r.entries, id)
	}
}
