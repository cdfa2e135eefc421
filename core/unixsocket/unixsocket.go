// Package unixsocket binds Unix sockets for their owner alone. It removes what a
// process that was killed has left, and nothing else.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Listen binds a path. What is there already is removed only if it is a socket
// that refuses connections. The new one has mode 0600 from the first moment.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	lc := net.ListenConfig{Control: restrict}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err // it names the path
	}
	return l, nil
}

// restrict gives the socket the mode that bind then gives its file. The umask
// would do it too, but it is the whole process's: a folder that another goroutine
// makes at this moment would come out wrong.
func restrict(_, _ string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
	if errors.Is(failed, syscall.EINVAL) {
		failed = nil // not Linux: the umask holds
	}
	return errors.Join(err, failed)
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is no socket stands there: move it away, or choose another path")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(errors.New("another process listens there"), conn.Close())
	case errors.Is(err, fs.ErrNotExist):
		return nil // it has just gone
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("a socket stands there, and whether a process listens on it cannot be told: %w; remove it if none does", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}
