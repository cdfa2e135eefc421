package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// gate bounds how many messages one spamd is asked about at once. Those who wait
// are let in by turns, one of each client's network, so that one client with many
// messages does not keep the others waiting. Instances of the handler share it.
type gate struct {
	slots int

	mu      sync.Mutex
	taken   int                              // guarded by mu
	waiting map[netip.Prefix][]chan struct{} // guarded by mu: in the order in which they came
	turns   []netip.Prefix                   // guarded by mu: the networks of those who wait, the next first
}

func newGate(slots int) *gate {
	return &gate{slots: slots, waiting: make(map[netip.Prefix][]chan struct{})}
}

// errBusy is returned when no slot has come free in time.
var errBusy = errors.New("spamd is busy")

// waitFraction is the part of the time for a message that may be spent in waiting
// for a slot, as a divisor; without a limit of time maxWait holds.
const (
	waitFraction = 4
	maxWait      = 15 * time.Second
)

// enter takes a slot. If there is none it waits, and gives errBusy when that
// takes too long.
func (g *gate) enter(ctx context.Context, network netip.Prefix) error {
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
		err = fmt.Errorf("%w: none of its %d connections came free in %s; it is slow, or max_connections too low", errBusy, g.slots, patience.Round(time.Millisecond))
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !g.withdraw(network, turn) {
		return nil // it came free in this instant
	}
	return err
}

// queue takes a slot, or gives what is closed when one is taken for the caller.
func (g *gate) queue(network netip.Prefix) chan struct{} {
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
func (g *gate) withdraw(network netip.Prefix, turn chan struct{}) bool {
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

// leave gives the slot to the next network's first, or back.
func (g *gate) leave() {
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
func (*gate) Close() error { return nil }
