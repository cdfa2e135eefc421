package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// status is what /proc/PID/stat says, see proc_pid_stat(5).
type status struct {
	parent int
	// ticks are the processor time of the process and of those of its children
	// that have ended, in hundredths of a second.
	ticks int64
}

func readStatus(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return status{}, fmt.Errorf("read status of process %d: it has %d fields", pid, len(fields))
	}
	var s status
	if s.parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return status{}, err
	}
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return status{}, err
		}
		s.ticks += n
	}
	return s, nil
}

// family gives processes and their descendants, those that live.
func family(roots []int) (map[int]status, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := make(map[int]status)
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		s, err := readStatus(pid)
		if err != nil {
			continue // it has just ended
		}
		all[pid] = s
	}
	found := make(map[int]status)
	for pid := range all {
		for up, steps := pid, 0; up > 1 && steps < 100; up, steps = all[up].parent, steps+1 {
			if slices.Contains(roots, up) {
				found[pid] = all[pid]
				break
			}
		}
	}
	for _, root := range roots {
		if _, ok := found[root]; !ok {
			return nil, fmt.Errorf("find process %d: it has ended", root)
		}
	}
	return found, nil
}

// ticksPerSecond is USER_HZ, which is 100 wherever Linux runs today.
const ticksPerSecond = 100

// processorTime gives what a server has used so far. Processes that have ended
// are counted with the parents that waited for them.
func processorTime(roots []int) (time.Duration, error) {
	members, err := family(roots)
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, s := range members {
		ticks += s.ticks
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// memory gives the proportional set size of a server in MB: memory that several
// processes share counts once.
func memory(roots []int) (float64, error) {
	members, err := family(roots)
	if err != nil {
		return 0, err
	}
	var sum int64
	for pid := range members {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
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
