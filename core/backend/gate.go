package backend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Gate bounds how many messages one daemon is asked about at once. Those who wait
// are let in by turns, one of each client's network, so that one client with many
// messages does not keep the others waiting. Instances of a handler share it. It is
// safe for concurrent use.
type Gate struct {
	daemon string
	slots  int

	mu      sync.Mutex
	taken   int                              // guarded by mu
	waiting map[netip.Prefix][]chan struct{} // guarded by mu: in the order in which they came
	turns   []netip.Prefix                   // guarded by mu: the networks of those who wait, the next first
}

// NewGate makes a gate with so many slots. Its errors name the daemon.
func NewGate(daemon string, slots int) *Gate {
	return &Gate{daemon: daemon, slots: slots, waiting: make(map[netip.Prefix][]chan struct{})}
}

// ErrBusy is returned when no slot has come free in time: that is no outage of the
// daemon.
var ErrBusy = errors.New("busy")

// waitFraction is the part of the time for a message that may be spent in waiting
// for a slot, as a divisor; without a limit of time maxWait holds.
const (
	waitFraction = 4
	maxWait      = 15 * time.Second
)

// Enter takes a slot, which the caller gives back by Leave. If there is none it
// waits, and gives ErrBusy when that takes too long.
func (g *Gate) Enter(ctx context.Context, network netip.Prefix) error {
	turn := g.queue(network)
	if turn == nil {
		return nil
	}
	patience := maxWait
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline) / waitFraction
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-timer.C:
		err = fmt.Errorf("%s is %w: none of its %d connections came free in %s; it is slow, or max_connections too low", g.daemon, ErrBusy, g.slots, patience.Round(time.Millisecond))
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !g.withdraw(network, turn) {
		return nil // it came free in this instant
	}
	return err
}

// queue takes a slot, or gives what is closed when one is taken for the caller.
func (g *Gate) queue(network netip.Prefix) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.taken < g.slots {
		g.taken++
		return nil
	}
	turn := make(chan struct{})
	if len(g.waiting[network]) == 0 {
		g.turns = append(g.turns, network)
	}
	g.waiting[network] = append(g.waiting[network], turn)
	return turn
}

// withdraw ends a wait; it is false when the slot is there already.
func (g *Gate) withdraw(network netip.Prefix, turn chan struct{}) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting[network], turn)
	if i < 0 {
		return false
	}
	g.waiting[network] = slices.Delete(g.waiting[network], i, i+1)
	if len(g.waiting[network]) == 0 {
		delete(g.waiting, network)
		i = slices.Index(g.turns, network)
		g.turns = slices.Delete(g.turns, i, i+1)
	}
	return true
}

// Leave gives the slot to the next network's first, or back.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.turns) == 0 {
		g.taken--
		return
	}
	network := g.turns[0]
	g.turns = slices.Delete(g.turns, 0, 1)
	close(g.waiting[network][0])
	g.waiting[network] = slices.Delete(g.waiting[network], 0, 1)
	if len(g.waiting[network]) == 0 {
		delete(g.waiting, network)
		return
	}
	g.turns = append(g.turns, network)
}

// Close is there for core.Shared; a gate holds nothing that must be released.
func (*Gate) Close() error { return nil }
