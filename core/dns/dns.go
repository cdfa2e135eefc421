// Package dns is the resolver that the whole server shares: it asks the
// configured servers by UDP and then by TCP (RFC 1035, RFC 7766), with EDNS0
// (RFC 6891), keeps answers for as long as they may be kept (also negative ones,
// RFC 2308), and asks one question once however many want to know.
//
// Names may be in Unicode; they are sent as A-labels (RFC 5891). All bytes of
// other names are sent as they are, also those that no host name has. A machine
// without DNS makes look-ups fail soon, and nothing hang: every question has a
// deadline of its own, beside that of who asks it.
//
// It is a stub resolver: the servers recurse, and validate DNSSEC if they are
// to be believed with it.
package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/dns/internal/zone"
)

// Settings is the dns block.
type Settings struct {
	// Servers are asked in order, as "address" or "address:port"; the port is 53
	// where there is none. They must recurse. Without any the system's are taken
	// from /etc/resolv.conf, which is read again when it has changed.
	Servers []Server `config:"servers" example:"127.0.0.1"`
	// TrustAD lists the networks of servers that are believed when they say that an
	// answer is authentic (DNSSEC): servers that validate, on this machine or behind
	// a network that nobody else writes to.
	TrustAD []netip.Prefix `config:"trust_ad" example:"127.0.0.1"`
	// Timeout is how long one try may take.
	Timeout time.Duration `config:"timeout" default:"2s" min:"10ms" max:"30s"`
	// Attempts is how often a question is sent in all, to one server after the
	// other, before it fails.
	Attempts int `config:"attempts" default:"3" min:"1" max:"10"`
	// CacheSize is how many answers are kept, about 1 KiB each at most.
	CacheSize int `config:"cache_size" default:"20000" min:"100" max:"10000000"`
	// MaxTTL bounds the time for which an answer is kept, whatever it says itself.
	MaxTTL time.Duration `config:"max_ttl" default:"1d" min:"1s" max:"7d"`
	// MaxQueries bounds how many questions are being asked at once. Beyond it
	// look-ups fail for the time being.
	MaxQueries int `config:"max_queries" default:"1000" min:"10" max:"100000"`
}

// withDefaults fills in what a program left out.
func (s Settings) withDefaults() *Settings {
	fill(&s.Timeout, 2*time.Second)
	fill(&s.Attempts, 3)
	fill(&s.CacheSize, 20_000)
	fill(&s.MaxTTL, 24*time.Hour)
	fill(&s.MaxQueries, 1000)
	return &s
}

func fill[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Problems warns of trust in servers that are not asked.
func (s *Settings) Problems() config.Problems {
	var problems config.Problems
	for i, network := range s.TrustAD {
		asked := func(server Server) bool { return network.Contains(server.Addr().Unmap().WithZone("")) }
		if len(s.Servers) > 0 && !slices.ContainsFunc(s.Servers, asked) {
			problems.Warnf(fmt.Sprintf("trust_ad[%d]", i), "none of the servers is in %s, so the trust has no effect", network)
		}
	}
	return problems
}

// trusts tells whether the AD bit of a server is believed.
func (s *Settings) trusts(server Server) bool {
	addr := server.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(s.TrustAD, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// Server is the address of a name server with its port.
type Server struct {
	netip.AddrPort
}

// UnmarshalText reads "address" or "address:port".
func (s *Server) UnmarshalText(text []byte) error {
	address, err := netip.ParseAddrPort(string(text))
	if err != nil {
		addr, err := netip.ParseAddr(string(text))
		if err != nil {
			return fmt.Errorf("%q is no IP address, with or without a port: write one such as \"192.0.2.53\" or \"[2001:db8::53]:53\"", text)
		}
		address = netip.AddrPortFrom(addr, 53)
	}
	if address.Port() == 0 || address.Addr().IsUnspecified() || address.Addr().IsMulticast() {
		return fmt.Errorf("no server can have the address %q: write one such as \"192.0.2.53\"", text)
	}
	s.AddrPort = address
	return nil
}

// Options replace what tests replace.
type Options struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// ResolvConf is the file with the system's servers; "" means /etc/resolv.conf.
	ResolvConf string
	// Logger is told when no server answers, and when one does again; nil means none.
	Logger *zap.Logger
}

// Resolver answers questions. It is safe for concurrent use.
type Resolver struct {
	now      func() time.Time
	settings atomic.Pointer[Settings]
	cache    *cache
	system   systemServers
	health   health
	counters counters
	outage   outage
	zone     *zone.Zone // of NewZone: it answers in the servers' place

	running sync.WaitGroup // the flights

	mu      sync.Mutex
	flights map[question]*flight
	closed  bool
}

// New makes a resolver. It opens no socket and reads no file before the first
// look-up.
func New(s Settings, o Options) *Resolver {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	r := &Resolver{now: o.Now, outage: outage{log: o.Logger}, system: systemServers{path: o.ResolvConf}, flights: make(map[question]*flight)}
	r.settings.Store(s.withDefaults())
	r.cache = newCache(r.settings.Load().CacheSize)
	return r
}

// Configure puts other settings in force. Answers that are known stay known;
// questions that are being asked go on with the settings before.
func (r *Resolver) Configure(s Settings) {
	r.settings.Store(s.withDefaults())
	r.cache.resize(r.settings.Load().CacheSize)
}

// Close ends what is being asked and waits for it. Look-ups fail from then on.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	for _, f := range r.flights {
		f.cancel()
	}
	r.mu.Unlock()
	r.running.Wait()
	return nil
}

// LookupTXT gives the TXT records of a name, the strings of each joined.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.Query(ctx, name, TypeTXT)
	return slices.Clone(a.Texts), err
}

// LookupIP gives the addresses of a name. network is ip4, ip6, or ip for both,
// where addresses of one kind are given although the look-up of the other
// failed.
func (r *Resolver) LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error) {
	switch network {
	case "ip4":
		a, err := r.Query(ctx, name, TypeA)
		return slices.Clone(a.Addrs), err
	case "ip6":
		a, err := r.Query(ctx, name, TypeAAAA)
		return slices.Clone(a.Addrs), err
	}
	// Both are asked before the first answer is waited for.
	four, six := r.ask(ctx, name, TypeA), r.ask(ctx, name, TypeAAAA)
	a4, err4 := r.wait(ctx, four)
	a6, err6 := r.wait(ctx, six)
	addrs := slices.Concat(a4.Addrs, a6.Addrs)
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case Temporary(err6) && !Temporary(err4):
		return nil, err6
	default:
		return nil, err4
	}
}

// LookupMX gives the mail exchangers of a name by preference, without the last
// dot. The null MX (RFC 7505) comes as the host ".".
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := r.Query(ctx, name, TypeMX)
	if err != nil {
		return nil, err
	}
	list := make([]*net.MX, len(a.Exchangers))
	for i, mx := range a.Exchangers {
		list[i] = &mx
	}
	return list, nil
}

// LookupAddr gives the names of an address (PTR), without the last dot. They are
// whatever the owner of the address says, and nothing is known of them yet.
func (r *Resolver) LookupAddr(ctx context.Context, addr netip.Addr) ([]string, error) {
	a, err := r.Query(ctx, ReverseName(addr, ""), TypePTR)
	return slices.Clone(a.Names), err
}
