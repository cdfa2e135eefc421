package blocklist

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// list is a set of networks of which none covers another, in order, in as little
// memory as they need: 8 bytes for one of IPv4 and 24 for one of IPv6. So a list
// of millions of networks has no pointers that the garbage collector follows. A
// list in use is not changed.
type list struct {
	v4 []uint64 // address << 8 | prefix length
	v6 []network6
	// top4 and top6 have each stride-th element, of IPv6 the upper half, so that most
	// of a search stays in the processor's cache.
	top4, top6 []uint64
}

const stride = 64

// network6 is a network of IPv6.
type network6 struct {
	high, low uint64
	bits      uint8
}

func (n network6) compare(o network6) int {
	return cmp.Or(cmp.Compare(n.high, o.high), cmp.Compare(n.low, o.low), cmp.Compare(n.bits, o.bits))
}

func pack4(n netip.Prefix) uint64 {
	a := n.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(n.Bits())
}

func unpack4(n uint64) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(n>>8))
	return netip.PrefixFrom(netip.AddrFrom4(a), int(n&0xff))
}

func pack6(n netip.Prefix) network6 {
	a := n.Addr().As16()
	return network6{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint8(n.Bits())}
}

func (n network6) prefix() netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], n.high)
	binary.BigEndian.PutUint64(a[8:], n.low)
	return netip.PrefixFrom(netip.AddrFrom16(a), int(n.bits))
}

// add appends a network; finish makes a list of what was added.
func (l *list) add(n netip.Prefix) {
	if n.Addr().Is4() {
		l.v4 = append(l.v4, pack4(n))
	} else {
		l.v6 = append(l.v6, pack6(n))
	}
}

// finish sorts and drops networks that another one covers.
func (l *list) finish() {
	slices.Sort(l.v4)
	slices.SortFunc(l.v6, network6.compare)
	kept4 := l.v4[:0]
	for _, n := range l.v4 {
		if k := len(kept4); k == 0 || !covers4(kept4[k-1], uint32(n>>8)) {
			kept4 = append(kept4, n)
		}
	}
	kept6 := l.v6[:0]
	for _, n := range l.v6 {
		if k := len(kept6); k == 0 || !kept6[k-1].prefix().Contains(n.prefix().Addr()) {
			kept6 = append(kept6, n)
		}
	}
	l.v4, l.v6 = kept4, kept6
	l.index()
}

// index makes what find needs of a list that is sorted, and gives back the memory
// that growing has taken.
func (l *list) index() {
	l.v4, l.v6 = slices.Clone(l.v4), slices.Clone(l.v6)
	l.top4, l.top6 = nil, nil
	for i := 0; i < len(l.v4); i += stride {
		l.top4 = append(l.top4, l.v4[i])
	}
	for i := 0; i < len(l.v6); i += stride {
		l.top6 = append(l.top6, l.v6[i].high)
	}
}

func covers4(n uint64, address uint32) bool {
	return (uint32(n>>8)^address)>>(32-n&0xff) == 0
}

func (l *list) len() int { return len(l.v4) + len(l.v6) }

// find gives the network that covers an address without a zone, which is not
// IPv4 in the form of IPv6.
func (l *list) find(addr netip.Addr) (netip.Prefix, bool) {
	if addr.Is4() {
		a := addr.As4()
		address := binary.BigEndian.Uint32(a[:])
		// The network that begins at the address or last before it.
		i := l.after4(uint64(address)<<8 | 0xff)
		if i == 0 || !covers4(l.v4[i-1], address) {
			return netip.Prefix{}, false
		}
		return unpack4(l.v4[i-1]), true
	}
	if len(l.v6) == 0 || !addr.IsValid() {
		return netip.Prefix{}, false
	}
	i := l.after6(pack6(netip.PrefixFrom(addr, 128)))
	if i == 0 {
		return netip.Prefix{}, false
	}
	n := l.v6[i-1].prefix()
	return n, n.Contains(addr)
}

// after4 gives the index of the first network of IPv4 above n.
func (l *list) after4(n uint64) int {
	block := after(l.top4, n)
	low := max(0, block-1) * stride
	return low + after(l.v4[low:min(block*stride, len(l.v4))], n)
}

// after6 gives the index of the first network of IPv6 above n.
func (l *list) after6(n network6) int {
	low := 0 // of the last block that begins with a smaller upper half
	if n.high > 0 {
		low = max(0, after(l.top6, n.high-1)-1) * stride
	}
	high := min(after(l.top6, n.high)*stride, len(l.v6))
	i, found := slices.BinarySearchFunc(l.v6[low:high], n, network6.compare)
	if found {
		i++
	}
	return low + i
}

// after gives the index of the first element above n.
func after(sorted []uint64, n uint64) int {
	low, high := 0, len(sorted)
	for low < high {
		if middle := int(uint(low+high) >> 1); sorted[middle] <= n {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// has tells whether exactly that network is in the list.
func (l *list) has(n netip.Prefix) bool {
	found, ok := l.find(n.Addr())
	return ok && found == n
}

// without gives a list that lacks a network.
func (l *list) without(n netip.Prefix) list {
	less := list{v4: l.v4, v6: l.v6}
	if n.Addr().Is4() {
		drop := pack4(n)
		less.v4 = slices.DeleteFunc(slices.Clone(l.v4), func(o uint64) bool { return o == drop })
	} else {
		drop := pack6(n)
		less.v6 = slices.DeleteFunc(slices.Clone(l.v6), func(o network6) bool { return o == drop })
	}
	less.index()
	return less
}

// behind gives at most limit networks from n on, in order; the invalid prefix
// stands for the beginning.
func (l *list) behind(n netip.Prefix, limit int) []netip.Prefix {
	i, j := 0, 0
	if n.IsValid() && n.Addr().Is4() {
		i, _ = slices.BinarySearch(l.v4, pack4(n))
	} else if n.IsValid() {
		i = len(l.v4)
		j, _ = slices.BinarySearchFunc(l.v6, pack6(n), network6.compare)
	}
	var found []netip.Prefix
	for ; i < len(l.v4) && len(found) < limit; i++ {
		found = append(found, unpack4(l.v4[i]))
	}
	for ; j < len(l.v6) && len(found) < limit; j++ {
		found = append(found, l.v6[j].prefix())
	}
	return found
}

// key gives a network in the form that sorts as the lists do: IPv4 first, by
// address, the wider network first.
func key(n netip.Prefix) []byte {
	k := make([]byte, 0, 18)
	if n.Addr().Is4() {
		k = append(k, 4)
	} else {
		k = append(k, 6)
	}
	k = append(k, n.Addr().AsSlice()...)
	return append(k, byte(n.Bits()))
}

// fromKey reads what key has made.
func fromKey(k []byte) (netip.Prefix, bool) {
	if len(k) != 6 && len(k) != 18 {
		return netip.Prefix{}, false
	}
	addr, _ := netip.AddrFromSlice(k[1 : len(k)-1])
	n := netip.PrefixFrom(addr, int(k[len(k)-1]))
	return n, n.IsValid() && (k[0] == 4) == addr.Is4()
}

// partSize is how many networks one row has.
const partSize = 8192

// parts cuts the list into rows: the key of the first network, and the keys of
// all.
func (l *list) parts(row func(first, networks []byte) error) error {
	var networks []byte
	count := 0
	flush := func() error {
		if count == 0 {
			return nil
		}
		size := len(networks) / count
		err := row(networks[:size], networks)
		networks, count = networks[:0], 0
		return err
	}
	add := func(n netip.Prefix) error {
		networks = append(networks, key(n)...)
		if count++; count < partSize {
			return nil
		}
		return flush()
	}
	for _, n := range l.v4 {
		if err := add(unpack4(n)); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	for _, n := range l.v6 {
		if err := add(n.prefix()); err != nil {
			return err
		}
	}
	return flush()
}

// addPart adds the networks of a row. They come in order.
func (l *list) addPart(networks []byte) bool {
	size := keySize(networks)
	if size == 0 || len(networks)%size != 0 {
		return false
	}
	for k := range slices.Chunk(networks, size) {
		n, ok := fromKey(k)
		if !ok {
			return false
		}
		l.add(n)
	}
	return true
}

// keySize is the length of the keys in a row, 0 for a row that is broken.
func keySize(networks []byte) int {
	switch {
	case len(networks) == 0:
		return 0
	case networks[0] == 4:
		return 6
	default:
		return 18
	}
}
