package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

// memory is what /proc/PID/status says, in kB, see proc_pid_status(5).
type memory struct {
	resident int64 // VmRSS
	most     int64 // VmHWM, since the process began
	anon     int64 // RssAnon: without the program itself and what is mapped of files
}

func readMemory(pid int) (m memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) //nolint:gosec // the number of a process
	if err != nil {
		return m, err
	}
	for name, value := range map[string]*int64{"VmRSS": &m.resident, "VmHWM": &m.most, "RssAnon": &m.anon} {
		_, after, _ := bytes.Cut(text, []byte("\n"+name+":"))
		fields := bytes.Fields(after)
		if len(fields) == 0 {
			return m, fmt.Errorf("read memory of process %d: there is no %s", pid, name)
		}
		if *value, err = strconv.ParseInt(string(fields[0]), 10, 64); err != nil {
			return m, fmt.Errorf("read %s of process %d: %w", name, pid, err)
		}
	}
	return m, nil
}

// measure runs a load and looks at the server's memory meanwhile.
func measure(ctx context.Context, s *site, l *load) (result, error) {
	r := result{load: l.name}
	pid := s.server.Process.Pid
	var err error
	if r.before, err = readMemory(pid); err != nil {
		return r, err
	}
	cpu, err := proc.Time(pid)
	if err != nil {
		return r, err
	}
	done := make(chan struct{})
	sampled := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			m, err := readMemory(pid)
			if err != nil {
				sampled <- err
				return
			}
			r.anon, r.peak = max(r.anon, m.anon), m
			select {
			case <-ticker.C:
			case <-done:
				sampled <- nil
				return
			}
		}
	}()
	began := time.Now()
	r.longest, err = l.send(ctx, s.roots)
	r.took = time.Since(began)
	close(done)
	if err := <-sampled; err != nil {
		return r, err
	}
	if err != nil {
		return r, err
	}
	after, err := proc.Time(pid)
	r.cpu = after - cpu
	return r, err
}
