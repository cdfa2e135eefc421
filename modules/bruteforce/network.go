package bruteforce

import (
	"net/netip"

	"github.com/mox-like/mox-like/core/mail"
)

// network is a network in 17 bytes without a pointer. IPv4 has the form of IPv6
// and 96 bits more.
type network struct {
	addr [16]byte
	bits uint8
}

// The networks from which a user logs in: an address of IPv4, and of IPv6 what
// one line commonly has.
const (
	homeIPv4 = 32
	homeIPv6 = 64
)

// networkOf gives the network of an address; bits4 or bits6 is its length.
func networkOf(addr netip.Addr, bits4, bits6 int) network {
	if addr.Is4() {
		return newNetwork(netip.PrefixFrom(addr, bits4))
	}
	return newNetwork(netip.PrefixFrom(addr, bits6))
}

// homeOf gives the network by which a user's log-ins are known.
func homeOf(addr netip.Addr) network { return networkOf(addr, homeIPv4, homeIPv6) }

func newNetwork(p netip.Prefix) network {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return network{addr: p.Masked().Addr().As16(), bits: uint8(bits)}
}

// prefix gives the network as people write it.
func (n network) prefix() netip.Prefix {
	addr := netip.AddrFrom16(n.addr)
	if addr.Is4In6() && n.bits >= 96 {
		return netip.PrefixFrom(addr.Unmap(), int(n.bits)-96)
	}
	return netip.PrefixFrom(addr, int(n.bits))
}

// String gives the network as people write it.
func (n network) String() string { return n.prefix().String() }

// bytes gives the form of the database.
func (n network) bytes() []byte { return append(n.addr[:], n.bits) }

func networkFromBytes(b []byte) (n network, ok bool) {
	if len(b) != len(n.addr)+1 || b[16] > 128 {
		return n, false
	}
	copy(n.addr[:], b)
	n.bits = b[16]
	return n, true
}

// accountOf gives the account that a user name means, in normal form, so that
// all spellings of one address count together. A name that is no address stands
// for itself.
func accountOf(username string) string {
	if address, err := mail.ParseAddress(username); err == nil {
		return address.Fold().String()
	}
	return mail.Printable(username, maxName)
}

// maxName bounds the name of an account, in bytes.
const maxName = 320
