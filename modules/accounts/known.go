package accounts

import "sync"

// known is the set of addresses that have an account. All of them are in memory,
// some 100 bytes each, so that mail to guessed addresses costs no query.
type known struct {
	mu  sync.RWMutex
	set map[string]struct{}
}

func newKnown() *known { return &known{set: make(map[string]struct{})} }

func (k *known) has(address string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.set[address]
	return ok
}

func (k *known) add(address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set[address] = struct{}{}
}

func (k *known) remove(address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.set, address)
}
