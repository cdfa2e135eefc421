package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

// memory gives the proportional set size of a server in MB: memory that several
// processes share counts once.
func memory(roots []int) (float64, error) {
	members, err := proc.Family(roots...)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range members {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) //nolint:gosec // the number of a process
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has just ended
		}
		if err != nil {
			return 0, err
		}
		_, after, _ := bytes.Cut(text, []byte("\nPss:"))
		fields := bytes.Fields(after)
		if len(fields) == 0 {
			continue // it is about to end
		}
		kB, err := strconv.ParseInt(string(fields[0]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
		}
		sum += kB
	}
	return float64(sum) * 1024 / 1e6, nil
}

// watcher samples a server's memory.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
	most   float64
	err    error
}

// sampleEvery is seldom enough that sampling does not show in the figures.
const sampleEvery = 500 * time.Millisecond

func watchMemory(ctx context.Context, roots []int) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for pause(ctx, sampleEvery) == nil && w.err == nil {
			w.sample(roots)
		}
		if w.err == nil {
			w.sample(roots)
		}
	}()
	return w
}

func (w *watcher) sample(roots []int) {
	now, err := memory(roots)
	w.most, w.err = max(w.most, now), err
}

// stop ends the sampling and gives the most that was seen.
func (w *watcher) stop(most *float64) error {
	w.cancel()
	<-w.done
	if most != nil {
		*most = w.most
	}
	return w.err
}
