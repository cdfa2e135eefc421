// Package connections counts who is connected to a listener, in all and by
// network, so that neither one client nor many at once can take every place.
package connections

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// Counter counts the connections of one listener. It outlives a reload, so that the
// sessions of the old configuration still count. It is safe for concurrent use.
type Counter struct {
	total    atomic.Int64
	entered  atomic.Uint64
	refused  atomic.Uint64
	mu       sync.Mutex
	networks map[netip.Prefix]int // guarded by mu
}

// New makes a counter, for core.Shared.
func New() (*Counter, error) {
	return &Counter{networks: make(map[netip.Prefix]int)}, nil
}

// Close implements io.Closer for core.Shared.
func (*Counter) Close() error { return nil }

// Enter counts a connection, unless there are limit of them.
func (c *Counter) Enter(limit int) bool {
	if c.total.Add(1) > int64(limit) {
		c.total.Add(-1)
		c.refused.Add(1)
		return false
	}
	c.entered.Add(1)
	return true
}

// Numbers gives how many are connected now, and how many have entered and were
// refused a place since the start.
func (c *Counter) Numbers() (open int64, entered, refused uint64) {
	return c.total.Load(), c.entered.Load(), c.refused.Load()
}

// Leave undoes Enter.
func (c *Counter) Leave() { c.total.Add(-1) }

// Crowded tells whether more than four fifths of limit are taken.
func (c *Counter) Crowded(limit int) bool { return c.total.Load()*5 > int64(limit)*4 }

// EnterNetwork counts a connection of a network, unless it has limit of them.
func (c *Counter) EnterNetwork(network netip.Prefix, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[network] >= limit {
		c.refused.Add(1)
		return false
	}
	c.networks[network]++
	return true
}

// LeaveNetwork undoes EnterNetwork.
func (c *Counter) LeaveNetwork(network netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[network]--; c.networks[network] == 0 {
		delete(c.networks, network)
	}
}

// NetworkOf gives what counts as one client: an IPv4 address, or the /64 that an
// IPv6 host can choose its addresses from. It is invalid for other sockets.
func NetworkOf(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip = ip.Unmap(); ip.Is4() {
		bits = 32
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}
