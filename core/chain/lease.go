package chain

import "sync/atomic"

// lease counts the runs of a chain that are going on, so that who has taken it out
// of a Set learns when nobody uses it any more.
type lease struct {
	state atomic.Int64  // the number of runs, and the bit retired
	ended chan struct{} // closed after the last run; made before the bit is set
}

// retired is the bit of a chain that no further run may begin with.
const retired = 1 << 62

// take counts a run, unless the chain is retired.
func (l *lease) take() bool {
	for {
		n := l.state.Load()
		if n&retired != 0 {
			return false
		}
		if l.state.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends a run.
func (l *lease) release() {
	if l.state.Add(-1) == retired {
		close(l.ended)
	}
}

// Retire keeps a Set from beginning further runs of a chain that has been taken
// out of it, and gives a channel that is closed when the last run has ended. It is
// called once, after Set.Replace.
func (c *Chain) Retire() <-chan struct{} {
	c.lease.ended = make(chan struct{})
	if c.lease.state.Or(retired) == 0 {
		close(c.lease.ended)
	}
	return c.lease.ended
}
