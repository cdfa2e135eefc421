package accounts

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

// turns bounds how many hash a password at a time, and says who is next. There are
// three lines, which have their turns one after the other: of networks from which
// somebody has logged in, of new ones, and of those from which only logins came
// that were not accepted. In each, the networks that wait have a turn each before
// any has another. So many who guess passwords from one network delay nobody else,
// and many networks that guess neither delay the owner at home nor, for long,
// abroad. It is safe for concurrent use.
type turns struct {
	mu    sync.Mutex
	free  int
	lines [3]line
	last  int // the line that had the last turn
	// known are the networks of the lines but that of new ones.
	known [3]map[netip.Prefix]struct{}
}

// The lines.
const (
	lineNew = iota
	lineGood
	lineBad
)

// maxKnown bounds how many networks are remembered for a line, some 100 bytes
// each. Beyond it any one is forgotten.
const maxKnown = 4096

// line holds who waits, by network.
type line struct {
	order    *list.List // of *network, the next one in front
	networks map[netip.Prefix]*network
}

// network is who waits in one network; it is in its line while anybody does.
type network struct {
	prefix  netip.Prefix
	waiters *list.List // of *waiter
	place   *list.Element
}

type waiter struct {
	ready chan struct{} // closed when it is its turn
}

func newTurns(slots int) *turns {
	t := &turns{free: slots}
	for i := range t.lines {
		t.lines[i] = line{order: list.New(), networks: make(map[netip.Prefix]*network)}
		t.known[i] = make(map[netip.Prefix]struct{})
	}
	t.welcome(netip.Prefix{}) // the operator's commands, Unix sockets
	return t
}

// networkOf gives what counts as one network here: about what one customer of a
// provider, or one rented machine, can have.
func networkOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// welcome remembers that somebody has logged in from a network.
func (t *turns) welcome(prefix netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known[lineBad], prefix)
	t.remember(lineGood, prefix)
}

// suspect remembers that a password came from a network, unless somebody has
// logged in from it.
func (t *turns) suspect(prefix netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lineOf(prefix) == lineNew {
		t.remember(lineBad, prefix)
	}
}

// lineOf gives the line of a network. It is called with mu held, as remember is.
func (t *turns) lineOf(prefix netip.Prefix) int {
	for line, known := range t.known {
		if _, ok := known[prefix]; ok {
			return line
		}
	}
	return lineNew
}

func (t *turns) remember(line int, prefix netip.Prefix) {
	known := t.known[line]
	if _, ok := known[prefix]; ok {
		return
	}
	for forgotten := range known {
		if len(known) < maxKnown {
			break
		}
		if forgotten.IsValid() {
			delete(known, forgotten)
		}
	}
	known[prefix] = struct{}{}
}

// take waits for a turn until ctx ends; the caller ends it by give or giveAfter.
func (t *turns) take(ctx context.Context, prefix netip.Prefix) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	l := &t.lines[t.lineOf(prefix)]
	w := &waiter{ready: make(chan struct{})}
	n, place := l.join(prefix, w)
	t.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.ready: // its turn came at the same moment: it goes to the next one
		t.pass()
	default:
		l.leave(n, place)
	}
	return ctx.Err()
}

// give ends a turn.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// giveAfter ends a turn once d has passed, or when early is called.
func (t *turns) giveAfter(d time.Duration) (early func()) {
	timer := time.AfterFunc(d, t.give)
	return func() {
		if timer.Stop() {
			t.give()
		}
	}
}

// pass hands a turn to who is next. It is called with mu held.
func (t *turns) pass() {
	for range t.lines {
		t.last = (t.last + 1) % len(t.lines)
		if w := t.lines[t.last].next(); w != nil {
			close(w.ready)
			return
		}
	}
	t.free++
}

// join puts a waiter at the end of its network's.
func (l *line) join(prefix netip.Prefix, w *waiter) (*network, *list.Element) {
	n := l.networks[prefix]
	if n == nil {
		n = &network{prefix: prefix, waiters: list.New()}
		n.place = l.order.PushBack(n)
		l.networks[prefix] = n
	}
	return n, n.waiters.PushBack(w)
}

// leave takes a waiter out.
func (l *line) leave(n *network, place *list.Element) {
	n.waiters.Remove(place)
	if n.waiters.Len() == 0 {
		l.order.Remove(n.place)
		delete(l.networks, n.prefix)
	}
}

// next takes out the first waiter of the network in front, which goes to the end;
// nil if nobody waits.
func (l *line) next() *waiter {
	front := l.order.Front()
	if front == nil {
		return nil
	}
	n := front.Value.(*network)
	l.order.MoveToBack(front)
	first := n.waiters.Front()
	l.leave(n, first)
	return first.Value.(*waiter)
}
