package accounts

import (
	"sync"
	"time"
)

// maxUses bounds how many app passwords are remembered.
const maxUses = 4096

// uses remembers whose use was noted a short while ago and may not be in the
// database yet, so that a client that logs in all the time does not make a write
// each time. It is safe for concurrent use.
type uses struct {
	mu    sync.Mutex
	noted map[string]time.Time // by id
}

func newUses() *uses { return &uses{noted: make(map[string]time.Time)} }

// note tells whether the use is to be written.
func (u *uses) note(id string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.noted[id]; ok && now.Sub(last) < useInterval {
		return false
	}
	if len(u.noted) >= maxUses {
		clear(u.noted)
	}
	u.noted[id] = now
	return true
}
