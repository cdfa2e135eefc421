// Package dnstest is a DNS server for tests: in the process, on loopback, with
// zones that the test writes and faults that it wants to see. No test asks the
// system's servers.
package dnstest

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/internal/zone"
)

// Fault is what goes wrong with the questions for a name.
type Fault int

// The faults.
const (
	// None heals the name.
	None Fault = iota
	// ServFail answers SERVFAIL, with an extended error that says why.
	ServFail
	// Refused answers REFUSED.
	Refused
	// Silence answers nothing.
	Silence
	// Truncated answers by UDP that the answer does not fit, and by TCP in full.
	Truncated
	// Cut answers by UDP that the answer does not fit, and ends the TCP connection
	// in the middle of the answer.
	Cut
	// Garbage sends bytes that are no message, by UDP and by TCP, and no answer.
	Garbage
	// WrongID sends an answer of another ID, with a forged record, and then the
	// right one.
	WrongID
	// WrongQuestion sends an answer to another question, with a forged record, and
	// then the right one.
	WrongQuestion
	// WrongSource sends an answer with a forged record from another port, and then
	// the right one.
	WrongSource
	// Flood sends a hundred answers of other IDs by UDP, and then the right one.
	Flood
	// NoEDNS answers FORMERR, and the question without EDNS in full.
	NoEDNS
)

// Forged is the address (A) and the text (TXT) that forged records have.
const Forged = "192.0.2.66"

// Every is the name that stands for all names in Fail, and in Questions.
const Every = "*"

// Server is a DNS server on 127.0.0.1, for UDP and TCP on the same port. It is
// safe for concurrent use.
type Server struct {
	tb      testing.TB
	addr    netip.AddrPort
	servers []*miekg.Server
	stop    sync.Once
	running sync.WaitGroup
	conns   sync.Map // of tracked

	mu        sync.Mutex
	zone      *zone.Zone
	faults    map[string]Fault
	holds     map[string]chan struct{}
	authentic bool
	questions map[question]int
}

type question struct {
	name string
	typ  dns.Type // 0 counts all
}

// Serve begins to serve a zone: the text of a zone file (RFC 1035 section 5),
// with names that are relative to the root and a default TTL of 5 minutes. Names
// that begin with "*." are wildcards. A name without records in it does not
// exist; an SOA record in the zone says for how long that may be remembered, else
// it is a minute. The server stops when the test ends.
func Serve(tb testing.TB, zoneText string) *Server {
	tb.Helper()
	s := &Server{tb: tb, faults: make(map[string]Fault), holds: make(map[string]chan struct{}), questions: make(map[question]int)}
	s.Set(zoneText)
	packets, listener := listen(tb)
	s.addr = listener.Addr().(*net.TCPAddr).AddrPort()
	var ready sync.WaitGroup
	ready.Add(2)
	for _, server := range []*miekg.Server{{PacketConn: packets}, {Listener: tracked{listener, &s.conns}}} {
		server.Handler = miekg.HandlerFunc(s.serve)
		server.NotifyStartedFunc = ready.Done
		s.servers = append(s.servers, server)
		s.running.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				tb.Errorf("serve DNS: %v", err)
			}
		})
	}
	ready.Wait()
	tb.Cleanup(s.Stop)
	return s
}

// listen finds a port that is free for both protocols.
func listen(tb testing.TB) (net.PacketConn, net.Listener) {
	tb.Helper()
	var config net.ListenConfig
	for range 20 {
		packets, err := config.ListenPacket(tb.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			tb.Fatalf("listen for DNS: %v", err)
		}
		listener, err := config.Listen(tb.Context(), "tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, listener
		}
		if err := packets.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatal("listen for DNS: no port is free for UDP and TCP")
	return nil, nil
}

// Stop ends the server before the test does: its port refuses from then on.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.mu.Lock()
		for name, held := range s.holds {
			close(held)
			delete(s.holds, name)
		}
		s.mu.Unlock()
		for _, server := range s.servers {
			if err := server.Shutdown(); err != nil {
				s.tb.Errorf("stop DNS: %v", err)
			}
		}
		s.running.Wait()
	})
}

// Addr is where the server listens, by UDP and TCP.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Resolver gives a resolver that asks this server alone, and is closed when the
// test ends. A question that gets no answer fails after two seconds.
func (s *Server) Resolver(tb testing.TB) *dns.Resolver {
	tb.Helper()
	return s.ResolverWith(tb, dns.Settings{Timeout: time.Second, Attempts: 2}, dns.Options{})
}

// ResolverWith is Resolver with settings and a clock; the servers of the
// settings are asked after this one.
func (s *Server) ResolverWith(tb testing.TB, settings dns.Settings, o dns.Options) *dns.Resolver {
	tb.Helper()
	settings.Servers = append([]dns.Server{{AddrPort: s.addr}}, settings.Servers...)
	r := dns.New(settings, o)
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Errorf("close resolver: %v", err)
		}
	})
	return r
}

// Set replaces the zone. What resolvers have kept of the old one stays there for
// its TTL.
func (s *Server) Set(zoneText string) {
	s.tb.Helper()
	z, err := zone.Parse(s.tb.Context(), zoneText)
	if err != nil {
		s.tb.Fatalf("read zone: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = z
}

// Fail lets the questions for a name fail, whatever their type, until it is
// called with None. Every stands for all names that have no fault of their own.
func (s *Server) Fail(name string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[zone.Fold(name)] = f
}

// Hold keeps the answers for a name back until release is called, once.
func (s *Server) Hold(name string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.holds[zone.Fold(name)] = held
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.holds[zone.Fold(name)] == held {
			delete(s.holds, zone.Fold(name))
			close(held)
		}
	})
}

// SetAuthentic lets answers have the AD bit, or not. They come without.
func (s *Server) SetAuthentic(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authentic = on
}

// Questions counts the messages that came with a question of that name and type,
// retries too. Every stands for all names, the type 0 for all types.
func (s *Server) Questions(name string, t dns.Type) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.questions[question{zone.Fold(name), t}]
}
