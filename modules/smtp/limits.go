package smtp

import (
	"net/netip"
	"sync"
)

// connections counts who is connected. It outlives a reload, so that the
// sessions of the old configuration still count. It is safe for concurrent use.
type connections struct {
	mu       sync.Mutex
	total    int                  // guarded by mu
	networks map[netip.Prefix]int // guarded by mu
}

func newConnections() (*connections, error) {
	return &connections{networks: make(map[netip.Prefix]int)}, nil
}

// Close implements io.Closer for core.Shared.
func (*connections) Close() error { return nil }

// enter counts a connection, unless there are max of them.
func (c *connections) enter(max int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= max {
		return false
	}
	c.total++
	return true
}

// leave undoes enter.
func (c *connections) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
}

// enterNetwork counts a connection of a network, unless it has max of them.
func (c *connections) enterNetwork(network netip.Prefix, max int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[network] >= max {
		return false
	}
	c.networks[network]++
	return true
}

// leaveNetwork undoes enterNetwork.
func (c *connections) leaveNetwork(network netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[network]--; c.networks[network] == 0 {
		delete(c.networks, network)
	}
}

// networkOf gives what counts as one client: an IPv4 address, or the /64 that an
// IPv6 host can choose its addresses from. It is invalid for other sockets.
func networkOf(ip netip.Addr) netip.Prefix {
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
