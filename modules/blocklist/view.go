package blocklist

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/mox-like/mox-like/core/control"
)

// view is all blocks at one moment. It is never changed: each change makes
// another one that shares with it what has stayed the same, so that a look-up
// takes no lock.
type view struct {
	// single are the blocks that were added one by one, by network; those of one
	// network are in the order of their sources.
	single *bart.Table[[]*control.Block]
	// imports are the lists, in the order of their sources.
	imports []*imported
}

// imported is a list that came in one piece.
type imported struct {
	source           string
	created, expires time.Time
	networks         list
}

func newView() *view { return &view{single: new(bart.Table[[]*control.Block])} }

func live(expires, now time.Time) bool { return expires.IsZero() || now.Before(expires) }

// block describes one network of the list.
func (i *imported) block(n netip.Prefix) control.Block {
	return control.Block{Network: n, Source: i.source, Reason: "in an imported list", Created: i.created, Expires: i.expires}
}

func heeded(source string, sources []string) bool {
	return len(sources) == 0 || slices.Contains(sources, source)
}

// find gives a block that covers an address in normal form: the most specific
// single one, else one of a list.
func (v *view) find(addr netip.Addr, now time.Time, sources []string) (control.Block, bool) {
	if blocks, ok := v.single.Lookup(addr); ok {
		if b := first(blocks, now, sources); b != nil {
			return *b, true
		}
		if b := v.wider(addr, now, sources); b != nil {
			return *b, true
		}
	}
	for _, i := range v.imports {
		if !live(i.expires, now) || !heeded(i.source, sources) {
			continue
		}
		if n, ok := i.networks.find(addr); ok {
			return i.block(n), true
		}
	}
	return control.Block{}, false
}

// wider looks further when the most specific network has no block that counts.
func (v *view) wider(addr netip.Addr, now time.Time, sources []string) *control.Block {
	for _, blocks := range v.single.Supernets(netip.PrefixFrom(addr, addr.BitLen())) {
		if b := first(blocks, now, sources); b != nil {
			return b
		}
	}
	return nil
}

// first gives the first block that counts, nil if none does.
func first(blocks []*control.Block, now time.Time, sources []string) *control.Block {
	for _, b := range blocks {
		if live(b.Expires, now) && heeded(b.Source, sources) {
			return b
		}
	}
	return nil
}

// why gives all blocks that cover an address, the most specific first.
func (v *view) why(addr netip.Addr, now time.Time) []control.Block {
	found := []control.Block{}
	for _, blocks := range v.single.Supernets(netip.PrefixFrom(addr, addr.BitLen())) {
		for _, b := range blocks {
			if live(b.Expires, now) {
				found = append(found, *b)
			}
		}
	}
	for _, i := range v.imports {
		if n, ok := i.networks.find(addr); ok && live(i.expires, now) {
			found = append(found, i.block(n))
		}
	}
	slices.SortStableFunc(found, func(a, b control.Block) int { return b.Network.Bits() - a.Network.Bits() })
	return found
}

// with gives a view in which a block stands in the place of that of the same
// network and source.
func (v *view) with(b *control.Block) *view {
	return v.change(b.Network, func(blocks []*control.Block) []*control.Block {
		i, found := bySource(blocks, b.Source)
		if found {
			blocks = slices.Clone(blocks)
			blocks[i] = b
			return blocks
		}
		return slices.Insert(slices.Clip(blocks), i, b)
	})
}

func bySource(blocks []*control.Block, source string) (int, bool) {
	return slices.BinarySearchFunc(blocks, source, func(b *control.Block, s string) int { return strings.Compare(b.Source, s) })
}

// withoutSingle gives a view that lacks the single blocks of a network for which
// gone is true.
func (v *view) withoutSingle(n netip.Prefix, gone func(*control.Block) bool) *view {
	return v.change(n, func(blocks []*control.Block) []*control.Block {
		return slices.DeleteFunc(slices.Clone(blocks), gone)
	})
}

func (v *view) change(n netip.Prefix, f func([]*control.Block) []*control.Block) *view {
	table := v.single.ModifyPersist(n, func(blocks []*control.Block, _ bool) ([]*control.Block, bool) {
		blocks = f(blocks)
		return blocks, len(blocks) == 0
	})
	return &view{single: table, imports: v.imports}
}

// withImport gives a view in which a list stands in the place of all that its
// source had.
func (v *view) withImport(list *imported) *view {
	changed := v.withoutSource(list.source)
	i, _ := slices.BinarySearchFunc(changed.imports, list.source, func(i *imported, s string) int { return strings.Compare(i.source, s) })
	changed.imports = slices.Insert(slices.Clip(changed.imports), i, list)
	return changed
}

// withoutSource gives a view that has nothing of a source.
func (v *view) withoutSource(source string) *view {
	changed := v
	for n, blocks := range v.single.All() {
		if _, found := bySource(blocks, source); found {
			changed = changed.withoutSingle(n, func(b *control.Block) bool { return b.Source == source })
		}
	}
	return changed.withoutImport(source)
}

// withoutImport gives a view that lacks the list of a source.
func (v *view) withoutImport(source string) *view {
	return &view{single: v.single, imports: slices.DeleteFunc(slices.Clone(v.imports), func(i *imported) bool { return i.source == source })}
}

// withoutNetwork gives a view that has no block of exactly that network.
func (v *view) withoutNetwork(n netip.Prefix) *view {
	changed := v.withoutSingle(n, func(*control.Block) bool { return true })
	changed.imports = slices.Clone(changed.imports)
	for i, list := range changed.imports {
		if list.networks.has(n) {
			less := *list
			less.networks = list.networks.without(n)
			changed.imports[i] = &less
		}
	}
	return changed
}

// count gives how many networks are blocked singly and by lists.
func (v *view) count() (single, lists int) {
	for _, i := range v.imports {
		lists += i.networks.len()
	}
	return v.single.Size(), lists
}
