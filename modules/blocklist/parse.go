package blocklist

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

const (
	// maxNetworks bounds a list: some 80 MB of IPv4, or 240 MB of IPv6. While it is
	// imported it takes up to six times that, and then holds up all other writes for
	// half a second, or nearly one with IPv6; usual lists have less than 100,000.
	maxNetworks = 10_000_000
	// maxLine bounds a line, with its comment.
	maxLine = 4096
	// maxShown is how much of a wrong line an error shows.
	maxShown = 60
)

// What can be wrong with a line.
var (
	errNoNetwork  = errors.New("this is no network: write one a line, such as 192.0.2.0/24, 2001:db8::/32, 192.0.2.7 or 192.0.2.1-192.0.2.9")
	errEverything = errors.New("this network is the whole internet: nobody could connect any more")
	errRange      = errors.New("the range ends before it begins, or is of two kinds of address")
	errTooMany    = fmt.Errorf("the list has more than %d networks: leave out what matters least", maxNetworks)
)

// parseList reads a network a line. What follows # or ; is a comment, and so is
// what follows the network after white space. A range such as
// 192.0.2.1-192.0.2.9 stands for the networks that make it up. Memory is bounded
// by maxNetworks and maxLine. A wrong line is a control.ErrInvalid that names it.
func parseList(ctx context.Context, r io.Reader) (list, error) {
	var l list
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, maxLine), maxLine)
	number := 0
	for scanner.Scan() {
		number++
		if number%4096 == 0 && ctx.Err() != nil {
			return list{}, ctx.Err()
		}
		text := scanner.Text()
		if err := l.addLine(text); err != nil {
			return list{}, control.Invalid(fmt.Errorf("line %d, %q: %w", number, mail.Printable(strings.TrimSpace(text), maxShown), err))
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return list{}, control.Invalid(fmt.Errorf("line %d: it is longer than %d bytes: is this a list of networks?", number+1, maxLine))
	} else if err != nil {
		return list{}, fmt.Errorf("read list behind line %d: %w", number, err)
	}
	l.finish()
	return l, nil
}

// addLine adds what a line names.
func (l *list) addLine(line string) error {
	if i := strings.IndexAny(line, "#;"); i >= 0 {
		line = line[:i]
	}
	line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
	if line == "" {
		return nil
	}
	if from, to, ok := strings.Cut(line, "-"); ok {
		return l.addRange(strings.TrimSpace(from), strings.TrimSpace(to))
	}
	if i := strings.IndexAny(line, " \t,"); i >= 0 {
		line = line[:i]
	}
	n, err := parseNetwork(line)
	if err != nil {
		return err
	}
	return l.addBounded(n)
}

func (l *list) addBounded(n netip.Prefix) error {
	if n.Bits() == 0 {
		return errEverything
	}
	if l.len() >= maxNetworks {
		return errTooMany
	}
	l.add(n)
	return nil
}

// addRange adds the fewest networks that make up a range.
func (l *list) addRange(from, to string) error {
	first, err1 := netip.ParseAddr(from)
	last, err2 := netip.ParseAddr(to)
	if err1 != nil || err2 != nil || first.Zone() != "" || last.Zone() != "" {
		return errNoNetwork
	}
	first, last = first.Unmap(), last.Unmap()
	if first.BitLen() != last.BitLen() || last.Less(first) {
		return errRange
	}
	for {
		n := netip.PrefixFrom(first, first.BitLen())
		for n.Bits() > 0 {
			wider := netip.PrefixFrom(first, n.Bits()-1)
			if wider.Masked() != wider || last.Less(end(wider)) {
				break
			}
			n = wider
		}
		if err := l.addBounded(n); err != nil {
			return err
		}
		if end(n) == last {
			return nil
		}
		first = end(n).Next()
	}
}

// end gives the last address of a network.
func end(n netip.Prefix) netip.Addr {
	a := n.Addr().AsSlice()
	for bit := n.Bits(); bit < len(a)*8; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(a)
	return last
}

// parseNetwork reads a network or an address, which stands for itself alone.
// Bits beyond the prefix length are cut off, since published lists have them.
func parseNetwork(text string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errNoNetwork
		}
		n = netip.PrefixFrom(addr, addr.BitLen())
	}
	return normal(n), nil
}

// normal gives a network without bits beyond its prefix length, and IPv4 in the
// form of IPv6 as IPv4, as which clients count.
func normal(n netip.Prefix) netip.Prefix {
	if bits := n.Bits() - 96; n.Addr().Is4In6() && bits >= 0 {
		n = netip.PrefixFrom(n.Addr().Unmap(), bits)
	}
	return netip.PrefixFrom(n.Addr().WithZone(""), n.Bits()).Masked()
}
