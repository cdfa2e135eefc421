package blocklist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/mox-like/mox-like/core"
)

var errNoFile = errors.New("it is not a file")

// listFile is the file of a handler, which is read once for all instances that
// have it: domains that tune the handler, and a configuration that takes the
// place of another. It is safe for concurrent use.
type listFile struct {
	path string

	mu   sync.Mutex
	read bool // guarded by mu
	list list // guarded by mu until read is set, then not changed any more
}

// shareFile gives the file at a path. One that was changed since is another one.
func shareFile(c *core.Context, path string) (*listFile, error) {
	name := "blocklist.file " + path
	if info, err := os.Stat(path); err == nil {
		name += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			name += fmt.Sprintf(" %d:%d", stat.Dev, stat.Ino)
		}
	}
	return core.Shared(c, name, func() (*listFile, error) { return &listFile{path: path}, nil })
}

// networks gives what the file blocks, reading it if nobody has.
func (f *listFile) networks() (list, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read {
		return f.list, nil
	}
	networks, err := readFile(f.path)
	if err != nil {
		return list{}, err
	}
	f.list, f.read = networks, true
	return f.list, nil
}

// Close is there for core.Shared; nothing is open.
func (*listFile) Close() error { return nil }

func readFile(path string) (list, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // a pipe would keep the start waiting
		return list{}, fmt.Errorf("the list of blocked networks cannot be read: %s: %w", path, errNoFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return list{}, fmt.Errorf("the list of blocked networks cannot be read: %w", err)
	}
	defer f.Close()
	networks, err := parseList(context.Background(), f)
	if err != nil {
		return list{}, fmt.Errorf("%s, %w", path, err)
	}
	return networks, nil
}
