package failopen_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// backend is what a handler asks, with all the ways in which it fails.
type backend struct {
	handler string // the type of its block
	faults  map[string]func(testing.TB) *trouble
}

// trouble is a backend that fails.
type trouble struct {
	// settings are those of the handler that asks it, dns the server's name server.
	settings string
	dns      netip.AddrPort
	// begin is called once the server runs; nil if it fails from the start.
	begin func()
	// heal lets the backend be well again; nil if it cannot.
	heal func()
	// hangs says that only a time limit ends the call.
	hangs bool
	// want is in the error.
	want string
}

// backends are those of all handlers for which an outage is an error.
func backends() []backend {
	return []backend{clamd(), rspamd(), milter(), webHook(), program(), lists()}
}

// overTCP fails in the ways of coretest.Faults, most of them by way of a front that
// passes connections on, so that the backend can be replaced by a sound one. bad is
// an answer that refuses the message, good one that does not.
func overTCP(bad, good string, settings func(network, address string) string, sound func(testing.TB, net.Listener), wants map[coretest.Fault]string) map[string]func(testing.TB) *trouble {
	faults := map[string]func(testing.TB) *trouble{
		"refused": func(tb testing.TB) *trouble {
			tb.Helper()
			b := coretest.Faulty(tb, coretest.FaultRefused, "")
			return &trouble{settings: settings("tcp", b.Address), want: wants[coretest.FaultRefused]}
		},
		"refused by a socket": func(tb testing.TB) *trouble {
			tb.Helper()
			path := socketPath(tb)
			left := listen(tb, "unix", path)
			left.(*net.UnixListener).SetUnlinkOnClose(false)
			_ = left.Close()
			heal := func() {
				if err := os.Remove(path); err != nil {
					tb.Fatal(err)
				}
				sound(tb, listen(tb, "unix", path))
			}
			return &trouble{settings: settings("unix", path), heal: heal, want: wants[coretest.FaultRefused]}
		},
		"late": func(tb testing.TB) *trouble {
			tb.Helper()
			b := coretest.Faulty(tb, coretest.FaultLate, good)
			return &trouble{settings: settings("tcp", b.Address), heal: b.Release, hangs: true, want: wants[coretest.FaultHanging]}
		},
	}
	for _, fault := range []coretest.Fault{coretest.FaultHanging, coretest.FaultCut, coretest.FaultGarbage} {
		faults[string(fault)] = func(tb testing.TB) *trouble {
			tb.Helper()
			f := newFront(tb, coretest.Faulty(tb, fault, bad).Address)
			heal := func() {
				l := listen(tb, "tcp", "127.0.0.1:0")
				sound(tb, l)
				f.turn(l.Addr().String())
			}
			return &trouble{settings: settings("tcp", f.address), heal: heal, hangs: fault == coretest.FaultHanging, want: wants[fault]}
		}
	}
	return faults
}

func clamd() backend {
	return backend{"clamav", overTCP("stream: Eicar FOUND\x00", "stream: OK\x00", atAddress, soundClamd, map[coretest.Fault]string{
		coretest.FaultRefused: "connection refused; check that clamd runs",
		coretest.FaultHanging: "clamd hangs, or the time limit is too short",
		coretest.FaultCut:     "scan by clamd at tcp:127.0.0.1:",
		coretest.FaultGarbage: "scan by clamd at tcp:127.0.0.1:",
	})}
}

// soundClamd finds every stream clean.
func soundClamd(tb testing.TB, l net.Listener) {
	tb.Helper()
	serve(tb, l, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if _, err := in.ReadString(0); err != nil {
			return
		}
		for {
			var size uint32
			if err := binary.Read(in, binary.BigEndian, &size); err != nil {
				return
			}
			if size == 0 {
				_, _ = io.WriteString(conn, "stream: OK\x00")
				return
			}
			if _, err := in.Discard(int(size)); err != nil {
				return
			}
		}
	})
}

func program() backend {
	const reject = `{"action":"reject"}`
	faulty := func(text, want string, hangs bool) func(testing.TB) *trouble {
		return func(tb testing.TB) *trouble {
			tb.Helper()
			path := filepath.Join(tb.TempDir(), "judge")
			script(tb, path, text)
			heal := func() { script(tb, path, `cat >/dev/null; echo '{"action":"continue"}'`) }
			return &trouble{settings: fmt.Sprintf("command = [%q]", path), heal: heal, hangs: hangs, want: want}
		}
	}
	missing := func(tb testing.TB) *trouble {
		tb.Helper()
		t := faulty("echo '"+reject+"'", "no such file or directory", false)(tb)
		t.begin = func() {
			var path string
			if _, err := fmt.Sscanf(t.settings, "command = [%q]", &path); err != nil {
				tb.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				tb.Fatal(err)
			}
		}
		return t
	}
	return backend{"exec", map[string]func(testing.TB) *trouble{
		"missing": missing,
		"hanging": faulty("exec sleep 1000", "it was killed", true),
		"cut":     faulty(`cat >/dev/null; printf '%.9s' '`+reject+`'`, "read the hook's answer", false),
		"garbage": faulty(`cat >/dev/null; printf '\377\000{{{'`, "read the hook's answer", false),
		"huge":    faulty(`exec cat /dev/zero`, "its answer is longer than", false),
		"crash":   faulty(`echo '`+reject+`'; exit 3`, "exit status 3", false),
		"late":    faulty(`echo '`+reject+`'; exec sleep 1000`, "it was killed", true),
	}}
}

// script writes a shell script at a path, whatever runs there. No process is
// started meanwhile, since it would have the file open for writing, and the system
// does not run such files.
func script(tb testing.TB, path, text string) {
	tb.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fresh := path + ".new"
	if err := os.WriteFile(fresh, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(fresh, path); err != nil {
		tb.Fatal(err)
	}
}

// listed has every client of the tests on a list of the DNS.
const listed = "*.zen.example.net. A 127.0.0.2"

func lists() backend {
	faults := map[string]func(testing.TB) *trouble{
		"refused": func(tb testing.TB) *trouble {
			tb.Helper()
			s := dnstest.Serve(tb, listed)
			s.Stop()
			return &trouble{settings: `zones = ["zen.example.net"]`, dns: s.Addr(), want: "ask list zen.example.net"}
		},
	}
	for name, fault := range nameServerFaults {
		faults[name] = func(tb testing.TB) *trouble {
			tb.Helper()
			s := dnstest.Serve(tb, listed)
			s.Fail(dnstest.Every, fault)
			heal := func() {
				s.Set("zen.example.net. A 192.0.2.1")
				s.Fail(dnstest.Every, dnstest.None)
			}
			return &trouble{
				settings: `zones = ["zen.example.net"]`, dns: s.Addr(), heal: heal,
				hangs: waits(fault), want: "ask list zen.example.net",
			}
		}
	}
	return backend{"dnsbl", faults}
}

// nameServerFaults are those of a name server that runs.
var nameServerFaults = map[string]dnstest.Fault{
	"hanging": dnstest.Silence, "cut": dnstest.Cut, "garbage": dnstest.Garbage, "servfail": dnstest.ServFail, "declined": dnstest.Refused,
}

// waits tells the faults after which an answer may still come: that is waited for.
func waits(f dnstest.Fault) bool { return f == dnstest.Silence || f == dnstest.Garbage }

// socketPath gives a path that is short enough for a Unix socket.
func socketPath(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "failopen") //nolint:usetesting // the name of a test would make the path too long
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return filepath.Join(dir, "socket")
}

func listen(tb testing.TB, network, address string) net.Listener {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), network, address)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// serve answers each connection of a listener until the test ends.
func serve(tb testing.TB, l net.Listener, answer func(net.Conn)) {
	tb.Helper()
	var running sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			running.Go(func() {
				answer(conn)
				_ = conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
}

// front passes connections on to a backend that can be replaced.
type front struct {
	address string

	mu sync.Mutex
	to string // guarded by mu
}

func newFront(tb testing.TB, to string) *front {
	tb.Helper()
	l := listen(tb, "tcp", "127.0.0.1:0")
	f := &front{address: l.Addr().String(), to: to}
	serve(tb, l, f.pass)
	return f
}

// turn lets new connections go elsewhere.
func (f *front) turn(to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
}

// pass ends both connections when one of them ends.
func (f *front) pass(client net.Conn) {
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	behind, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(behind, client)
		_ = behind.Close()
	})
	_, _ = io.Copy(client, behind)
	_ = client.Close()
	sending.Wait()
}
