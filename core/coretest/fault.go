package coretest

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
)

// Fault is a way in which a backend fails.
type Fault string

// The faults of Faulty.
const (
	FaultRefused Fault = "refused" // nobody listens
	FaultHanging Fault = "hanging" // it takes connections and says nothing
	FaultCut     Fault = "cut"     // it closes in the middle of its answer
	FaultGarbage Fault = "garbage" // it answers with what makes no sense, and much of it
	FaultLate    Fault = "late"    // it answers when Release is called
)

// Faults are all of them, for a table of tests.
var Faults = [...]Fault{FaultRefused, FaultHanging, FaultCut, FaultGarbage, FaultLate}

// Backend is a TCP server on loopback that is in trouble.
type Backend struct {
	// Address is where it listens, "127.0.0.1:port".
	Address string

	fault  Fault
	answer []byte
	asked  chan struct{}
	late   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup

	mu    sync.Mutex
	ended bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
}

// garbageSize is how much garbage a backend sends.
const garbageSize = 1 << 20

// Faulty starts a backend that fails in one way until the test ends. answer is
// what a sound one would say to the first thing that it is told, without regard
// to what that is: half of it is sent by one that is cut, all of it by one that
// is late. It may be called outside of a suite's server, before it.
func Faulty(tb testing.TB, fault Fault, answer string) *Backend {
	tb.Helper()
	b := &Backend{
		fault: fault, answer: []byte(answer), asked: make(chan struct{}, 1024), late: make(chan struct{}),
		conns: make(map[net.Conn]struct{}),
	}
	if fault == FaultRefused {
		b.Address = refusing(tb)
		return b
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	b.Address = l.Addr().String()
	b.wg.Go(func() { b.accept(l) })
	tb.Cleanup(func() {
		_ = l.Close()
		b.end()
		b.wg.Wait()
	})
	return b
}

// Asked receives a value for each connection that was told something.
func (b *Backend) Asked() <-chan struct{} { return b.asked }

// Release lets a late backend answer, on the connections that are open then and
// on all later ones.
func (b *Backend) Release() { b.once.Do(func() { close(b.late) }) }

func (b *Backend) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.ended {
			b.mu.Unlock()
			_ = conn.Close()
			return
		}
		b.conns[conn] = struct{}{}
		b.mu.Unlock()
		b.wg.Go(func() {
			b.serve(conn)
			_ = conn.Close()
			b.mu.Lock()
			delete(b.conns, conn)
			b.mu.Unlock()
		})
	}
}

func (b *Backend) end() {
	b.Release()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for conn := range b.conns {
		_ = conn.Close()
	}
}

func (b *Backend) serve(conn net.Conn) {
	if _, err := conn.Read(make([]byte, 1<<10)); err != nil {
		return
	}
	select {
	case b.asked <- struct{}{}:
	default:
	}
	drained := make(chan struct{})
	b.wg.Go(func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, conn)
	})
	switch b.fault {
	case FaultCut:
		_, _ = conn.Write(b.answer[:len(b.answer)/2])
	case FaultGarbage:
		garbage := make([]byte, garbageSize)
		for i := range garbage {
			garbage[i] = byte(i*i>>3 + i)
		}
		_, _ = conn.Write(garbage)
	case FaultLate:
		select {
		case <-b.late:
			_, _ = conn.Write(b.answer)
		case <-drained:
		}
	default:
		<-drained
	}
}

// refusing gives an address that refuses connections: its port is taken until the
// test ends, and nobody listens there.
func refusing(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatalf("make socket: %v", err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatalf("bind socket: %v", err)
	}
	name, err := syscall.Getsockname(fd)
	bound, ok := name.(*syscall.SockaddrInet4)
	if err != nil || !ok {
		tb.Fatalf("read address of socket: %v", errors.Join(err, syscall.EAFNOSUPPORT))
	}
	return (&net.TCPAddr{IP: bound.Addr[:], Port: bound.Port}).String()
}
