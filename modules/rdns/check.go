package rdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

const (
	// maxNames is how many reverse names of an address are followed; an address can
	// have any number (compare RFC 7208 section 4.6.4).
	maxNames = 10
	// maxShown bounds a name in a reason.
	maxShown = 100
)

// fault is what is wrong with a client.
type fault int

const (
	faultNone fault = iota
	faultMissing
	faultUnconfirmed
	faultBadHelo
	faultUnknownHelo
	faultOwnHelo
)

// tag gives the tag of a fault.
func (f fault) tag() string {
	return [...]string{"", "rdns=missing", "rdns=unconfirmed", "helo=bad", "helo=unknown", "helo=own"}[f]
}

// reply is what a client is told that is refused. RFC 7372 section 3.3 has the
// code for reverse names.
func (f fault) reply(addr netip.Addr) mail.Reply {
	switch f {
	case faultMissing:
		return mail.NewReply(550, 7, 25, "Client host "+addr.String()+" has no reverse name")
	case faultUnconfirmed:
		return mail.NewReply(550, 7, 25, "Client host "+addr.String()+" has a reverse name that does not lead back to it")
	case faultBadHelo:
		return mail.NewReply(550, 7, 1, "HELO needs a full host name, or your address in brackets")
	case faultUnknownHelo:
		return mail.NewReply(550, 7, 1, "HELO has a host name that does not exist")
	default:
		return mail.NewReply(550, 7, 1, "HELO has a name of this server, which you are not")
	}
}

// reverseName is what the DNS says about the client's address.
type reverseName struct {
	fault fault
	name  string // the one that leads back, else the first
	err   error  // why nothing is known
}

func (n reverseName) reason() string {
	switch {
	case n.err != nil:
		return fmt.Sprintf("reverse name unknown: %v", n.err)
	case n.fault == faultMissing:
		return "no reverse name"
	case n.fault == faultUnconfirmed:
		return fmt.Sprintf("reverse name %s does not lead back", mail.Printable(n.name, maxShown))
	default:
		return fmt.Sprintf("reverse name %s", mail.Printable(n.name, maxShown))
	}
}

// authResult gives the result of iprev (RFC 8601 sections 2.7.3 and 3).
func (n reverseName) authResult(addr netip.Addr) mail.AuthResult {
	r := mail.AuthResult{Method: "iprev", Result: "pass", Properties: []mail.Property{{Type: "policy", Name: "iprev", Value: addr.String()}}}
	switch {
	case n.err != nil:
		r.Result = "temperror"
	case n.fault == faultMissing:
		r.Result = "permerror"
	case n.fault == faultUnconfirmed:
		r.Result, r.Reason = "fail", mail.Printable(n.name, maxShown)
	default:
		r.Reason = mail.Printable(n.name, maxShown)
	}
	return r
}

// reverse looks for a name of the address that leads back to it.
func (r *RDNS) reverse(ctx context.Context, addr netip.Addr) reverseName {
	names, err := r.resolver.LookupAddr(ctx, addr)
	switch {
	case errors.Is(err, dns.ErrNotFound):
		return reverseName{fault: faultMissing}
	case err != nil:
		r.faults.total.Add(1)
		return reverseName{err: err}
	}
	names = names[:min(maxNames, len(names))]
	network := "ip4"
	if addr.Is6() {
		network = "ip6"
	}
	confirmed, errs := make([]bool, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			addrs, err := r.resolver.LookupIP(ctx, network, name)
			confirmed[i] = slices.Contains(addrs, addr)
			if dns.Temporary(err) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	if i := slices.Index(confirmed, true); i >= 0 {
		return reverseName{name: names[i]}
	}
	for _, err := range errs {
		if err != nil {
			r.faults.total.Add(1)
			return reverseName{err: err}
		}
	}
	return reverseName{fault: faultUnconfirmed, name: names[0]}
}

// heloName is what is known about the name in HELO.
type heloName struct {
	fault fault
	helo  string
	err   error // why it is not known whether it exists
}

func (h heloName) reason() string {
	helo := mail.Printable(h.helo, maxShown)
	switch {
	case h.helo == "":
		return ""
	case h.err != nil:
		return fmt.Sprintf("HELO %s not looked up: %v", helo, h.err)
	case h.fault == faultBadHelo:
		return fmt.Sprintf("HELO %s is no host name and not the client's address", helo)
	case h.fault == faultUnknownHelo:
		return fmt.Sprintf("HELO %s has neither an address nor a mail exchanger", helo)
	case h.fault == faultOwnHelo:
		return fmt.Sprintf("HELO %s is our own", helo)
	default:
		return "HELO " + helo
	}
}

// helo judges the argument of HELO.
func (r *RDNS) helo(ctx context.Context, s *mail.Session, addr netip.Addr) heloName {
	h := heloName{helo: s.Helo}
	if s.Helo == "" {
		return h // the client has not said any yet
	}
	name, err := mail.ParseDomain(strings.TrimSuffix(s.Helo, "."))
	switch {
	case err != nil:
		h.fault = faultBadHelo
	case strings.HasPrefix(name, "["):
		h.fault = literalFault(name, s, addr)
	case r.isOwn(name):
		h.fault = faultOwnHelo
	case !isHostName(name):
		h.fault = faultBadHelo
	default:
		exists, err := r.exists(ctx, name)
		if h.err = err; err != nil {
			r.faults.total.Add(1)
		} else if !exists {
			h.fault = faultUnknownHelo
		}
	}
	return h
}

// literalFault judges an address literal: it must be the client's.
func literalFault(literal string, s *mail.Session, addr netip.Addr) fault {
	own := s.LocalAddr.Addr().Unmap().WithZone("")
	switch literalAddr(literal) {
	case addr:
		return faultNone
	case own:
		return faultOwnHelo
	default:
		return faultBadHelo
	}
}

// literalAddr gives the address of a literal that ParseDomain has made.
func literalAddr(literal string) netip.Addr {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(literal, "["), "IPv6:"), "]")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// isOwn tells the names of this server.
func (r *RDNS) isOwn(name string) bool {
	_, here := r.domains.Find(name)
	return here || name == r.hostname
}

// isHostName tells whether a domain can be that of a host: it has a dot, and it
// is no bare address.
func isHostName(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return false
	}
	_, err := strconv.ParseUint(name[dot+1:], 10, 64)
	return err != nil
}

// exists tells whether a name has an address or a mail exchanger. Both are
// asked at once.
func (r *RDNS) exists(ctx context.Context, name string) (bool, error) {
	var wg sync.WaitGroup
	var exchangers []*net.MX
	var errMX error
	wg.Go(func() { exchangers, errMX = r.resolver.LookupMX(ctx, name) })
	addrs, err := r.resolver.LookupIP(ctx, "ip", name)
	wg.Wait()
	switch {
	case len(addrs) > 0 || slices.ContainsFunc(exchangers, takesMail):
		return true, nil
	case dns.Temporary(err):
		return false, err
	case dns.Temporary(errMX):
		return false, errMX
	default:
		return false, nil
	}
}

// takesMail tells all exchangers but the null MX (RFC 7505).
func takesMail(mx *net.MX) bool { return mx.Host != "." }
