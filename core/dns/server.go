package dns

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// restFor is how long a server that failed is asked after the others.
	restFor = 30 * time.Second
	// checkEvery is how often resolv.conf is looked at.
	checkEvery = 5 * time.Second
	// maxResolvConf and maxSystemServers bound what is read of it.
	maxResolvConf    = 64 << 10
	maxSystemServers = 8
)

// health knows which servers have failed lately.
type health struct {
	mu    sync.Mutex
	rests map[Server]time.Time // until when
}

// order gives the servers with those behind that failed lately. The slice is
// the caller's.
func (h *health) order(servers []Server, now time.Time) []Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Server, 0, 2*len(servers))
	var last []Server
	for _, s := range servers {
		if now.Before(h.rests[s]) {
			last = append(last, s)
		} else {
			list = append(list, s)
		}
	}
	return append(list, last...)
}

func (h *health) failed(s Server, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rests == nil {
		h.rests = make(map[Server]time.Time)
	}
	for old, until := range h.rests {
		if !now.Before(until) {
			delete(h.rests, old) // also of servers that are configured no more
		}
	}
	h.rests[s] = now.Add(restFor)
}

func (h *health) answered(s Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.rests, s)
}

// systemServers are those of resolv.conf. Its lock is held while the file is
// read: nobody can ask before that is done.
type systemServers struct {
	path string

	mu      sync.Mutex
	checked time.Time
	stamp   stamp
	servers []Server
	err     error
}

// stamp tells a changed file.
type stamp struct {
	changed time.Time
	size    int64
}

// get gives the servers, after a look at the file if the last one is some time
// ago. It never gives an empty list.
func (s *systemServers) get(now time.Time) ([]Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := now.Sub(s.checked); !s.checked.IsZero() && since >= 0 && since < checkEvery {
		return s.servers, s.err
	}
	info, err := os.Stat(s.path)
	if err == nil {
		if seen := (stamp{info.ModTime(), info.Size()}); s.checked.IsZero() || s.err != nil || seen != s.stamp {
			s.stamp = seen
			s.servers, err = readServers(s.path)
		}
	}
	s.checked = now
	if s.err = err; err != nil {
		s.servers = nil
		s.err = fmt.Errorf("no server is known: the configuration names none in dns { servers }, and the system none: %w", err)
	}
	return s.servers, s.err
}

// readServers reads the servers of a resolv.conf (resolv.conf(5)). Its options
// do not hold here.
func readServers(path string) ([]Server, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxResolvConf))
	if err != nil {
		return nil, err
	}
	servers := parseServers(text)
	if len(servers) == 0 {
		return nil, fmt.Errorf("read %s: %w", path, errors.New("it has no line \"nameserver ADDRESS\""))
	}
	return servers, nil
}

func parseServers(text []byte) []Server {
	var servers []Server
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() && len(servers) < maxSystemServers {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		var s Server
		if err := s.UnmarshalText([]byte(fields[1])); err == nil {
			servers = append(servers, s)
		}
	}
	return servers
}
