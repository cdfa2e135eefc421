// Package proc is what the benchmarks have in common: the server's binary, free
// addresses, and what a tree of processes has used.
package proc

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Build makes the server's binary from the source that the benchmark belongs to, in
// dir, and gives its path.
func Build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "mox-like-binary")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/mox-like/mox-like/cmd/mox-like") //nolint:gosec // the operator says where
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mox-like: %w\n%s", err, output)
	}
	return binary, nil
}

// FreeAddress gives an address of a host that nobody listens on.
func FreeAddress(ctx context.Context, host string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

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

// Family gives processes and their descendants, those that live. A root that has
// ended is an error.
func Family(roots ...int) ([]int, error) {
	found, err := family(roots)
	return slices.Collect(maps.Keys(found)), err
}

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

// Time gives the processor time that processes and their descendants have used so
// far. Processes that have ended are counted with the parents that waited for them.
func Time(roots ...int) (time.Duration, error) {
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
