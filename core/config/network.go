package config

import (
	"errors"
	"fmt"
	"net/netip"
)

// hostBitsError is the error of a network that names an address within it: the
// length or the address is wrong, and only the author knows which.
type hostBitsError struct {
	network netip.Prefix // what the prefix length says
	address netip.Addr   // what the address says
}

func (e *hostBitsError) Error() string {
	return fmt.Sprintf("the address has bits beyond the prefix length; the network is %s, the address alone %s", e.network, e.address)
}

// errNoNetwork is returned for a text that is neither.
var errNoNetwork = errors.New("not a network")

// parseNetwork reads a network as the file writes it: "192.0.2.0/24", or an
// address for that address alone, so that "192.0.2.1" is 192.0.2.1/32 and
// "2001:db8::1" is 2001:db8::1/128. Bits beyond the prefix length are an error.
// IPv4 in the form of IPv6, such as "::ffff:192.0.2.1", is IPv4, as which clients
// count.
func parseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, errNoNetwork
		}
		network = netip.PrefixFrom(address, address.BitLen())
	}
	if bits := network.Bits() - 96; network.Addr().Is4In6() && bits >= 0 {
		network = netip.PrefixFrom(network.Addr().Unmap(), bits)
	}
	if masked := network.Masked(); masked != network {
		return netip.Prefix{}, &hostBitsError{network: masked, address: network.Addr()}
	}
	return network, nil
}

// inNetwork tells whether a text is an address of the network.
func inNetwork(network netip.Prefix, address string) bool {
	addr, err := netip.ParseAddr(address)
	return err == nil && network.Contains(addr.Unmap().WithZone(""))
}
