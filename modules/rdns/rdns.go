// Package rdns is handler.rdns: it holds what a client says of itself against
// the DNS. Does its address have a name that leads back to the address (iprev,
// RFC 8601 section 3)? Is what it says in HELO a host name or its own address
// literal (RFC 5321 section 4.1.1.1), is there such a host, and is it not our own
// name?
//
// Machines that are run to send mail pass all of it; many that were taken over
// pass nothing. So do some honest ones, which is why each check has an action of
// its own, and only one of them refuses unless the file says more. What the DNS
// does not say in time refuses nobody.
package rdns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(RDNS{}) }

// RDNS checks the reverse name of the client's address and the name in its HELO.
// Each check has an action: accept does nothing beyond the trace, score gives the
// message points, tag marks it for the user's filters, reject refuses with 550.
// A failure of the DNS is never a reason to refuse, and no error to which on_error
// could apply.
//
// The reverse name is noted as the result of the method iprev (RFC 8601 section
// 2.7.3): pass, fail, permerror (there is no name) or temperror. Clients that
// have logged in, and addresses that are not public, are not checked.
type RDNS struct {
	// MissingPTR is the action for an address without a reverse name. The tag is
	// rdns=missing.
	MissingPTR string `config:"missing_ptr" default:"tag" values:"accept,score,tag,reject"`
	// Unconfirmed is the action for an address of which no reverse name leads back
	// to it. The tag is rdns=unconfirmed.
	Unconfirmed string `config:"unconfirmed" default:"tag" values:"accept,score,tag,reject"`
	// BadHelo is the action for a HELO that is neither a host name with a dot in it
	// nor the client's own address in brackets. The tag is helo=bad.
	BadHelo string `config:"bad_helo" default:"tag" values:"accept,score,tag,reject"`
	// UnknownHelo is the action for a HELO with a host name that has no address and
	// takes no mail. The tag is helo=unknown.
	UnknownHelo string `config:"unknown_helo" default:"tag" values:"accept,score,tag,reject"`
	// OwnHelo is the action for a HELO with the name of this server, of a domain that
	// lives here, or with the address of this server. The tag is helo=own.
	OwnHelo string `config:"own_helo" default:"reject" values:"accept,score,tag,reject"`
	// Score is the number of points that each check gives whose action is score.
	Score float64 `config:"score" default:"1" min:"0" max:"1000"`
	// Except lists networks whose clients are not checked.
	Except []netip.Prefix `config:"except"`

	name     string
	hostname string
	domains  *core.Domains
	resolver resolver
	faults   *faults
}

// resolver is what the handler needs of the DNS.
type resolver interface {
	LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr netip.Addr) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
}

// Module describes the handler.
func (RDNS) Module() core.Info {
	return core.Info{
		ID:             "handler.rdns",
		Stages:         mail.AtHelo | mail.AtMail | mail.AtRcpt,
		StageAttribute: true,
		DefaultStages:  mail.AtRcpt, // where a domain can tune it
		Timeout:        5 * time.Second,
		New:            func() core.Module { return new(RDNS) },
	}
}

// Provision takes the resolver and what this server is called.
func (r *RDNS) Provision(c *core.Context) error {
	r.name, r.domains, r.resolver = c.Name(), c.Domains(), c.Resolver()
	r.hostname = c.Hostname()
	if hostname, err := mail.ParseDomain(r.hostname); err == nil {
		r.hostname = hostname
	}
	shared, err := core.Shared(c, "rdns/faults", func() (*faults, error) { return new(faults), nil })
	if err != nil {
		return err
	}
	r.faults = shared
	return nil
}

// faults counts questions that the DNS did not answer, over all instances.
type faults struct{ total atomic.Uint64 }

// Close does nothing; it lets the count be shared between configurations.
func (*faults) Close() error { return nil }

// Measure gives the count.
func (r *RDNS) Measure() []core.Figure {
	return []core.Figure{{
		Name: "errors_total", Help: "Clients about whom the DNS did not give all the answers.", Value: float64(r.faults.total.Load()),
	}}
}

// Handle checks the client and acts on what is wrong with it.
func (r *RDNS) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
	if why := r.exempt(tx, addr); why != "" {
		return mail.Continue(why), nil
	}
	if tx.Trial {
		aside := *r
		aside.faults = new(faults) // counts for nobody
		r = &aside
	}
	reverse, helo := r.check(ctx, tx, addr)
	tx.SetAuthResult(reverse.authResult(addr))
	return r.judge(tx, addr, reverse, helo), nil
}

// exempt says why a client is not checked, "" if it is.
func (r *RDNS) exempt(tx *mail.Transaction, addr netip.Addr) string {
	switch {
	case tx.Session.User != "":
		return "not checked: the client has logged in"
	case !public(addr):
		return "not checked: the client's address is not public"
	}
	for _, network := range r.Except {
		if network.Contains(addr) {
			return fmt.Sprintf("not checked: the network %s is excepted", network)
		}
	}
	return ""
}

// sharedSpace are the addresses behind a provider's translation (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// public tells addresses that a client on the internet can have.
func public(addr netip.Addr) bool {
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !sharedSpace.Contains(addr)
}

// The keys of what is found out once a transaction.
type (
	reverseKey struct{}
	heloKey    struct{ helo string }
)

// check looks both up at once. What was found is kept for the transaction, a
// failure too, so that a dead DNS does not hold up every recipient.
func (r *RDNS) check(ctx context.Context, tx *mail.Transaction, addr netip.Addr) (reverseName, heloName) {
	var wg sync.WaitGroup
	var reverse, helo any
	wg.Go(func() {
		reverse, _ = tx.Once(reverseKey{}, func() (any, error) { return r.reverse(ctx, addr), nil })
	})
	helo, _ = tx.Once(heloKey{tx.Session.Helo}, func() (any, error) { return r.helo(ctx, tx.Session, addr), nil })
	wg.Wait()
	return reverse.(reverseName), helo.(heloName)
}

// judge lets each thing that is wrong have its action. The first that refuses
// gives the reply.
func (r *RDNS) judge(tx *mail.Transaction, addr netip.Addr, reverse reverseName, helo heloName) mail.Verdict {
	points, reasons := 0.0, []string{reverse.reason(), helo.reason()}
	var refused *mail.Reply
	for _, f := range []fault{reverse.fault, helo.fault} {
		switch r.action(f) {
		case "score":
			points += r.Score
		case "tag":
			tx.AddTag(f.tag())
		case "reject":
			if refused == nil {
				reply := f.reply(addr)
				refused = &reply
			}
		}
	}
	if points > 0 {
		tx.SetScore(r.name, points)
		reasons = append(reasons, inWords(points))
	}
	reasons = slices.DeleteFunc(reasons, func(reason string) bool { return reason == "" })
	reason := strings.Join(reasons, "; ")
	if refused != nil {
		return mail.Reject(*refused, reason)
	}
	return mail.Continue(reason)
}

func inWords(points float64) string {
	if points == 1 {
		return "1 point"
	}
	return fmt.Sprintf("%g points", points)
}

// action gives what the settings say about a fault.
func (r *RDNS) action(f fault) string {
	switch f {
	case faultMissing:
		return r.MissingPTR
	case faultUnconfirmed:
		return r.Unconfirmed
	case faultBadHelo:
		return r.BadHelo
	case faultUnknownHelo:
		return r.UnknownHelo
	case faultOwnHelo:
		return r.OwnHelo
	default:
		return "accept"
	}
}

// Interface guards.
var (
	_ core.Provisioner = (*RDNS)(nil)
	_ core.Handler     = (*RDNS)(nil)
	_ core.Measurer    = (*RDNS)(nil)
)
