package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/unixsocket"
)

// socket is a listening socket. It outlives configurations: each generation
// takes connections from it by a lease.
type socket struct {
	address string
	net.Listener
	conns chan net.Conn
	done  chan struct{} // closed when accepting has ended
	log   *zap.Logger
}

// listenOn binds an address of the form host:port or unix:path. Sockets that the
// service manager handed over are taken from given.
func listenOn(ctx context.Context, address, dataDir string, given map[string]net.Listener, log *zap.Logger) (*socket, error) {
	l, ok := given[address]
	if ok {
		// It is closed with this socket, and cannot be had again under any spelling.
		maps.DeleteFunc(given, func(_ string, other net.Listener) bool { return other == l })
	} else {
		var err error
		if l, err = bind(ctx, address, dataDir); err != nil {
			return nil, err
		}
	}
	s := &socket{address: address, Listener: l, conns: make(chan net.Conn), done: make(chan struct{}), log: log}
	go s.accept()
	return s, nil
}

func bind(ctx context.Context, address, dataDir string) (net.Listener, error) {
	if path, ok := unixPath(address); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dataDir, path)
		}
		return unixsocket.Listen(ctx, path)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, listenNetwork(address), address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w%s", address, err, bindAdvice(err))
	}
	return l, nil
}

// unixPath gives the path of an address of the form unix:path.
func unixPath(address string) (string, bool) { return strings.CutPrefix(address, "unix:") }

// accept passes connections on to whoever holds a lease.
func (s *socket) accept() {
	defer close(s.done)
	for {
		conn, err := s.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, mostly: wait for some to be given back.
			s.log.Warn("accept connection", zap.String("address", s.address), zap.Error(err))
			<-time.After(50 * time.Millisecond)
			continue
		}
		s.conns <- conn
	}
}

// close ends accepting. No lease must be waited for any more.
func (s *socket) close() {
	if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("close socket", zap.String("address", s.address), zap.Error(err))
	}
	for {
		select {
		case conn := <-s.conns:
			_ = conn.Close()
		case <-s.done:
			return
		}
	}
}

// lease is a generation's share of a socket: a net.Listener that can be closed
// without closing the socket.
type lease struct {
	socket *socket
	once   sync.Once
	ended  chan struct{}
}

func (s *socket) lease() *lease { return &lease{socket: s, ended: make(chan struct{})} }

// Accept gives the next connection; net.ErrClosed after Close.
func (l *lease) Accept() (net.Conn, error) {
	select {
	case <-l.ended:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-l.socket.conns:
		return conn, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close ends the lease; the socket stays.
func (l *lease) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

// Addr is the socket's address.
func (l *lease) Addr() net.Addr { return l.socket.Addr() }
