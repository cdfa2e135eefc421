package spamassassin

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/mox-like/mox-like/core/backend"
)

// gate bounds how many messages spamd is asked about at once. Scanning takes turns;
// learning waits until no message that is scanned would have to wait for it, and has
// one connection at most. It is safe for concurrent use.
type gate struct {
	*backend.Gate
	slots int

	mu    sync.Mutex
	scans int           // guarded by mu: that have a connection or wait for one
	told  bool          // guarded by mu: learning has one
	idle  chan struct{} // guarded by mu: closed when there may be room for learning; nil if none waits for it
}

func newGate(slots int) *gate { return &gate{Gate: backend.NewGate("spamd", slots), slots: slots} }

// enter takes a connection for scanning, as Enter does; leave gives it back.
func (g *gate) enter(ctx context.Context, network netip.Prefix) error {
	g.mu.Lock()
	g.scans++
	g.mu.Unlock()
	err := g.Enter(ctx, network)
	if err != nil {
		g.ended()
	}
	return err
}

func (g *gate) leave() {
	g.Leave()
	g.ended()
}

// ended is called after each scan.
func (g *gate) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.scans--
	g.signal()
}

// signal lets those look who wait for room. The caller holds mu.
func (g *gate) signal() {
	if g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// enterIdle takes a connection for learning once one is free, however long that
// takes: until ctx ends. leaveIdle gives it back.
func (g *gate) enterIdle(ctx context.Context) error {
	for {
		wait := g.tryIdle()
		if wait == nil {
			return g.takeIdle(ctx)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("%w: scanning needs all of its %d connections: %w", backend.ErrBusy, g.slots, ctx.Err())
		}
	}
}

// tryIdle takes the place of learning, or gives what is closed when there may be
// room for it.
func (g *gate) tryIdle() (wait chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.told && g.scans < g.slots {
		g.told = true
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	return g.idle
}

// takeIdle takes the connection that was free an instant ago.
func (g *gate) takeIdle(ctx context.Context) error {
	err := g.Enter(ctx, netip.Prefix{})
	if err != nil {
		g.endIdle()
	}
	return err
}

func (g *gate) leaveIdle() {
	g.Leave()
	g.endIdle()
}

func (g *gate) endIdle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = false
	g.signal()
}
