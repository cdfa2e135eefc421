package connections

import (
	"net/netip"
	"testing"
)

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1/32",
		"::ffff:192.0.2.1":     "192.0.2.1/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
	} {
		if got := NetworkOf(netip.MustParseAddr(ip)).String(); got != want {
			t.Errorf("network of %s is %s, want %s", ip, got, want)
		}
	}
	if got := NetworkOf(netip.Addr{}); got.IsValid() {
		t.Errorf("network of no address is %s", got)
	}
}

// TestCounters: networks that have left take no memory.
func TestCounters(t *testing.T) {
	t.Parallel()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	network := netip.MustParsePrefix("192.0.2.1/32")
	for n, want := range []bool{true, true, false} {
		if got := c.EnterNetwork(network, 2); got != want {
			t.Errorf("connection %d enters: %t", n+1, got)
		}
	}
	c.LeaveNetwork(network)
	c.LeaveNetwork(network)
	if len(c.networks) != 0 {
		t.Errorf("%d networks are left", len(c.networks))
	}
}

func TestCrowded(t *testing.T) {
	t.Parallel()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 12; n++ {
		if got, want := c.Enter(10), n <= 10; got != want {
			t.Errorf("connection %d enters: %t", n, got)
		}
		if got, want := c.Crowded(10), n > 8; got != want {
			t.Errorf("crowded by %d connections: %t", n, got)
		}
	}
	c.Leave()
	c.Leave()
	if c.Crowded(10) {
		t.Error("crowded by 8 connections")
	}
}
