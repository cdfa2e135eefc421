package control

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/mox-like/mox-like/core/unixsocket"
)

// socketName is the socket's name in the data directory.
const socketName = "control.sock"

// maxSocketPath is the length that every system has room for in sun_path; Linux
// allows 107.
const maxSocketPath = 103

// reach gives a path to the socket of a directory that is short enough for the
// system. A longer one leads through the open directory, where the system has
// /proc; release is to be called when the path is not needed any more.
func reach(dir string) (path string, release func(), err error) {
	path = filepath.Join(dir, socketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	via := filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())))
	if _, err := os.Stat(via); err != nil {
		d.Close()
		return "", nil, fmt.Errorf("the path %s has %d bytes and this system allows %d for a socket: choose a shorter data_dir", path, len(path), maxSocketPath)
	}
	return filepath.Join(via, socketName), sync.OnceFunc(func() { d.Close() }), nil
}

// listen binds the socket of a data directory, whose lock the caller holds.
func listen(ctx context.Context, dir string) (net.Listener, error) {
	path, release, err := reach(dir)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l, err := unixsocket.Listen(ctx, path)
	if err != nil {
		release()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return &socketListener{Listener: l, release: release}, nil
}

// socketListener keeps the way to its socket, which closing removes.
type socketListener struct {
	net.Listener
	release func()
}

func (l *socketListener) Close() error {
	defer l.release()
	return l.Listener.Close()
}

// dial connects to the socket of a data directory.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	path, release, err := reach(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
