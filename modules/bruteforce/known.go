package bruteforce

import (
	"slices"
	"time"
)

const (
	// knownFor is how long a good login makes its network known.
	knownFor = 30 * 24 * time.Hour
	// knownAgain is the time after which a further login is written down.
	knownAgain = time.Hour
	// maxKnown bounds the networks of one account; the oldest go first. Only who
	// has the password can add any.
	maxKnown = 32
	// maxKnownNetworks bounds those of all accounts together.
	maxKnownNetworks = 1_000_000
)

// home is a network from which an account's user has logged in.
type home struct {
	network network
	last    uint32
}

// known are the networks from which users have logged in lately. It is guarded
// by the mutex of its owner.
type known struct {
	homes    map[string][]home
	networks map[network]uint32 // the last login of anybody
}

func newKnown() *known {
	return &known{homes: make(map[string][]home), networks: make(map[network]uint32)}
}

// has tells whether the account's user has logged in from there lately.
func (k *known) has(account string, n network, now uint32) bool {
	for _, h := range k.homes[account] {
		if h.network == n {
			return within(h.last, now, knownFor)
		}
	}
	return false
}

// any tells whether somebody has logged in from there lately.
func (k *known) any(n network, now uint32) bool {
	last, ok := k.networks[n]
	return ok && within(last, now, knownFor)
}

// empty tells that the account's user has not logged in from anywhere lately.
func (k *known) empty(account string, now uint32) bool {
	return !slices.ContainsFunc(k.homes[account], func(h home) bool { return within(h.last, now, knownFor) })
}

// add notes a login, and tells whether it is worth to be written down.
func (k *known) add(account string, n network, at uint32) bool {
	last, ok := k.networks[n]
	if !ok {
		tidy(k.networks, maxKnownNetworks, func(last uint32) int {
			if !within(last, at, knownFor) {
				return 0
			}
			return int(last)
		})
	}
	k.networks[n] = max(last, at)
	homes := k.homes[account]
	i := slices.IndexFunc(homes, func(h home) bool { return h.network == n })
	if i >= 0 {
		if within(homes[i].last, at, knownAgain) {
			return false
		}
		homes[i].last = at
		return true
	}
	if len(homes) >= maxKnown {
		oldest := 0
		for i, h := range homes {
			if h.last < homes[oldest].last {
				oldest = i
			}
		}
		homes = slices.Delete(homes, oldest, oldest+1)
	}
	k.homes[account] = append(homes, home{n, at})
	return true
}

// forget drops what is older than a login must be to count.
func (k *known) forget(account string, n network, now uint32) {
	old := func(last uint32) bool { return !within(last, now, knownFor) }
	homes := slices.DeleteFunc(k.homes[account], func(h home) bool { return h.network == n && old(h.last) })
	if len(homes) == 0 {
		delete(k.homes, account)
	} else {
		k.homes[account] = homes
	}
	if last, ok := k.networks[n]; ok && old(last) {
		delete(k.networks, n)
	}
}
