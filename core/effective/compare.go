package effective

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/tuning"
)

// Change is one thing that is otherwise in the second of two configurations.
type Change struct {
	// Kind is what changes: block, listener, domain, chain, handler, order or value.
	Kind string `json:"kind" enum:"block,listener,domain,chain,handler,order,value"`
	// What is added, removed, moved or changed.
	What string `json:"what" enum:"added,removed,moved,changed"`
	// Listener is the one that it concerns, "" where it is none or every one.
	Listener string `json:"listener,omitempty"`
	// Domains are those that it concerns, nil where it is none of them in particular;
	// * stands for all that have no setting of their own.
	Domains []string `json:"domains,omitempty"`
	// Block is the header of what it concerns beside listeners, such as a handler's
	// name, Attribute what of it.
	Block     string `json:"block,omitempty"`
	Attribute string `json:"attribute,omitempty"`
	// Before and After are values, "" where there was or is none.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Where says in words where something was put.
	Where string `json:"where,omitempty"`
	// Place is where it stands, in the first configuration if it is gone.
	Place string `json:"place,omitempty"`
}

// The kinds of changes and what they say.
const (
	KindBlock    = "block"
	KindListener = "listener"
	KindDomain   = "domain"
	KindChain    = "chain"
	KindHandler  = "handler"
	KindOrder    = "order"
	KindValue    = "value"

	Added   = "added"
	Removed = "removed"
	Moved   = "moved"
	Changed = "changed"
)

// Compare tells what is otherwise in b than in a, by what it means and not by how it
// is written: order and comments of the file do not count, nor where a value comes
// from, but the order of handlers does. The same change of several domains is told
// once. Secrets differ if their fingerprints do, so both need those of one salt.
func Compare(a, b *Config) []Change {
	c := new(comparison)
	c.blocks(Change{}, a.Blocks, b.Blocks)
	c.listeners(a.Listeners, b.Listeners)
	c.domains(a, b)
	return c.joined()
}

// comparison collects changes.
type comparison struct{ list []Change }

func (c *comparison) add(change Change) { c.list = append(c.list, change) }

// joined puts the same change of several domains together, at the place of the
// first.
func (c *comparison) joined() []Change {
	type key struct{ kind, what, listener, block, attribute, before, after, where string }
	at := make(map[key]int)
	var out []Change
	for _, one := range c.list {
		k := key{one.Kind, one.What, one.Listener, one.Block, one.Attribute, one.Before, one.After, one.Where}
		i, ok := at[k]
		if !ok || len(one.Domains) == 0 || slices.Contains(one.Domains, tuning.Template) || slices.Contains(out[i].Domains, tuning.Template) || len(out[i].Domains) == 0 {
			at[k] = len(out)
			out = append(out, one)
			continue
		}
		out[i].Domains = append(out[i].Domains, one.Domains...)
	}
	for i := range out {
		slices.Sort(out[i].Domains)
		out[i].Domains = slices.Compact(out[i].Domains)
	}
	return out
}

// pairs goes through two lists whose entries have keys: f is called for each key,
// those of a in order and then those that only b has; what is not there is nil.
func pairs[T any](a, b []T, key func(*T) string, f func(before, after *T)) {
	in := make(map[string]*T, len(b))
	for i := range b {
		in[key(&b[i])] = &b[i]
	}
	had := make(map[string]bool, len(a))
	for i := range a {
		k := key(&a[i])
		had[k] = true
		f(&a[i], in[k])
	}
	for i := range b {
		if !had[key(&b[i])] {
			f(nil, &b[i])
		}
	}
}

// blocks compares blocks by their headers. about says whose they are.
func (c *comparison) blocks(about Change, a, b []Block) {
	outer := about.Block
	pairs(numbered(a), numbered(b), func(n *numberedBlock) string { return n.key }, func(before, after *numberedBlock) {
		one := about
		switch {
		case before == nil:
			one.Kind, one.What, one.Block, one.Place = KindBlock, Added, join(outer, after.key), after.Place
			c.add(one)
		case after == nil:
			one.Kind, one.What, one.Block, one.Place = KindBlock, Removed, join(outer, before.key), before.Place
			c.add(one)
		default:
			one.Block = join(outer, before.key)
			c.inside(one, before.Block, after.Block)
		}
	})
}

// inside compares what two blocks have.
func (c *comparison) inside(about Change, a, b Block) {
	c.values(about, a.Values, b.Values)
	c.blocks(about, a.Blocks, b.Blocks)
}

// numberedBlock is a block with a key that no other beside it has.
type numberedBlock struct {
	Block
	key string
}

func numbered(list []Block) []numberedBlock {
	seen := make(map[string]int)
	out := make([]numberedBlock, 0, len(list))
	for _, b := range list {
		key := header(b.Type, b.Labels...)
		seen[key]++
		if n := seen[key]; n > 1 {
			key += strings.Repeat("'", n-1)
		}
		out = append(out, numberedBlock{b, key})
	}
	return out
}

func join(outer, inner string) string {
	if outer == "" {
		return inner
	}
	return outer + " " + inner
}

// values compares attributes.
func (c *comparison) values(about Change, a, b []Value) {
	pairs(a, b, func(v *Value) string { return v.Name }, func(before, after *Value) {
		one := about
		one.Attribute = cmp.Or(before, after).Name
		c.value(one, before, after)
	})
}

// value compares one attribute, of which about says all but the values.
func (c *comparison) value(about Change, before, after *Value) {
	if before.same(after) {
		return
	}
	about.Kind, about.What = KindValue, Changed
	if before != nil {
		about.Before, about.Place = before.Text, before.Place
	}
	if after != nil {
		about.After, about.Place = after.Text, after.Place
	}
	c.add(about)
}

// listeners compares listeners by their names.
func (c *comparison) listeners(a, b []Listener) {
	pairs(a, b, func(l *Listener) string { return header("", l.Block.Labels...) }, func(before, after *Listener) {
		switch {
		case before == nil:
			c.add(Change{Kind: KindListener, What: Added, Listener: after.Name(), Block: after.Block.Labels[0], Place: after.Block.Place})
		case after == nil:
			c.add(Change{Kind: KindListener, What: Removed, Listener: before.Name(), Block: before.Block.Labels[0], Place: before.Block.Place})
		default:
			c.inside(Change{Listener: before.Name()}, before.Block, after.Block)
			c.chain(Change{Listener: before.Name()}, before.Chain, after.Chain)
		}
	})
}

// link is a handler of a chain that is compared, with those beside it.
type link struct {
	Step
	beside string
}

func links(chain []Step) []link {
	var out []link
	for _, s := range chain {
		switch {
		case s.Inherit:
			s.Name = "inherit"
			out = append(out, link{Step: s})
		case s.Parallel != nil:
			for i, p := range s.Parallel {
				var names []string
				for j, other := range s.Parallel {
					if j != i {
						names = append(names, other.Name)
					}
				}
				out = append(out, link{p, strings.Join(names, ", ")})
			}
		default:
			out = append(out, link{Step: s})
		}
	}
	return out
}

// chain compares two chains: who is there, in which order, and with which settings.
func (c *comparison) chain(about Change, a, b []Step) {
	before, after := links(a), links(b)
	key := func(l *link) string { return l.Block.Type + " " + l.Name }
	pairs(before, after, key, func(old, now *link) {
		one := about
		one.Kind = KindHandler
		switch {
		case now == nil:
			one.What, one.Block, one.Place = Removed, old.Name, old.Block.Place
			c.add(one)
		case old == nil:
			one.What, one.Block, one.Place, one.Where = Added, now.Name, now.Block.Place, where(after, now)
			c.add(one)
		default:
			one.Kind, one.Block = "", now.Name
			c.beside(one, old, now)
			c.inside(one, old.Block, now.Block)
		}
	})
	for _, i := range moved(before, after, key) {
		one := about
		one.Kind, one.What, one.Block, one.Place, one.Where = KindOrder, Moved, after[i].Name, after[i].Block.Place, where(after, &after[i])
		c.add(one)
	}
}

// beside tells that a handler has others beside it, or no more.
func (c *comparison) beside(about Change, old, now *link) {
	if old.beside == now.beside {
		return
	}
	about.Kind, about.What, about.Place, about.Where = KindOrder, Changed, now.Block.Place, "one after the other with the rest"
	if now.beside != "" {
		about.Where = "in parallel with " + now.beside
	}
	c.add(about)
}

// where says between whom a handler stands.
func where(chain []link, l *link) string {
	i := slices.IndexFunc(chain, func(o link) bool { return o.Name == l.Name && o.Block.Type == l.Block.Type })
	switch {
	case len(chain) == 1:
		return "alone"
	case i == 0:
		return "in front of " + chain[1].Name
	default:
		return "behind " + chain[i-1].Name
	}
}

// moved gives the handlers of after, by their index, that changed places among those
// that both chains have: all but those of a longest common order.
func moved(before, after []link, key func(*link) string) []int {
	had := make(map[string]int, len(before))
	for i := range before {
		had[key(&before[i])] = i
	}
	type kept struct{ at, was int }
	var both []kept
	for i := range after {
		if was, ok := had[key(&after[i])]; ok {
			both = append(both, kept{i, was})
		}
	}
	// The longest run of rising places, in the way of patience.
	best, from := make([]int, len(both)), make([]int, len(both))
	end := -1
	for i := range both {
		best[i], from[i] = 1, -1
		for j := range i {
			if both[j].was < both[i].was && best[j]+1 > best[i] {
				best[i], from[i] = best[j]+1, j
			}
		}
		if end < 0 || best[i] > best[end] {
			end = i
		}
	}
	stays := make(map[int]bool)
	for ; end >= 0; end = from[end] {
		stays[end] = true
	}
	var out []int
	for i := range both {
		if !stays[i] {
			out = append(out, both[i].at)
		}
	}
	return out
}
