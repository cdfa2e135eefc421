// Package greylist is handler.greylist: it defers mail of strangers once, since
// programs that only send spam seldom come back.
//
// At the stage rcpt it looks at a triplet: the client, the sender and the
// recipient. A triplet that was never seen is deferred with 451 4.7.1. When the
// same client tries again after the delay and within the retry window, the
// triplet passes, and goes on to pass as long as it is used. So that a large
// sender is known again, the client is its network, or the domain for which it is
// authenticated, and of the sender only what stays the same from one message to
// the next counts: see normalSender.
//
// Not deferred are clients that have logged in, those that SPF or a list of good
// senders vouches for, those of which enough other triplets have passed, what the
// operator allows, and senders to whom the recipient has written. For the last,
// the handler belongs into the chain of the submission listener too: there it
// defers nobody and only learns to whom the users write.
//
// What is known is kept by service.greylist and shared by all listeners and
// domains. It is written behind, in the same transaction as the message or the
// one after, and costs no fsync of its own. What lets a message in is queued
// before the message is, so that it is as durable as the message once that is
// accepted; a crash forgets at most deferrals of the last second, whose clients
// then wait once more.
package greylist

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() {
	core.Register(&Greylist{})
	core.Register(&Service{})
}

// The values of the settings recipient and spf_pass.
const (
	recipientDomain = "domain"

	spfSkip   = "skip"
	spfDomain = "domain"
)

// Greylist is the handler and its settings.
type Greylist struct {
	// Delay is how long a client must wait before its retry passes, counted from
	// its first attempt. Earlier retries do not make it longer.
	Delay time.Duration `config:"delay" default:"5m" max:"1d"`
	// RetryWindow is how long after its first attempt a retry may come. A later
	// one counts as a first attempt.
	RetryWindow time.Duration `config:"retry_window" default:"2d" min:"1m" max:"30d"`
	// Expire is how long a triplet that has passed, or a client that passes
	// freely, is remembered after its last use.
	Expire time.Duration `config:"expire" default:"30d" min:"1h" max:"3650d"`
	// PassAfter is how many triplets of a client must have passed before all its
	// mail passes. 0 means that every triplet waits.
	PassAfter int `config:"pass_after" default:"5" min:"0" max:"1000000"`
	// Recipient says what counts of the recipient: address, the whole address
	// without its +tag; domain, so that a client which has reached one user of the
	// domain passes for all.
	Recipient string `config:"recipient" default:"address" values:"address,domain"`
	// IPv4Prefix is the length of the networks that count as one client.
	IPv4Prefix int `config:"ipv4_prefix" default:"24" min:"8" max:"32"`
	// IPv6Prefix is the same for IPv6.
	IPv6Prefix int `config:"ipv6_prefix" default:"64" min:"16" max:"128"`
	// SPFPass says what an SPF pass for the reverse-path means: skip, the mail is
	// not deferred; domain, it is, and the domain counts as the client, whatever
	// address it sends from; ignore, it means nothing. Needs spf before this
	// handler.
	SPFPass string `config:"spf_pass" default:"skip" values:"skip,domain,ignore"`
	// SkipDNSWL lets clients pass that a list of good senders has. Needs dnsbl with
	// such a list before this handler.
	SkipDNSWL bool `config:"skip_dnswl" default:"true"`
	// SkipCorrespondents lets senders pass to whom the recipient has written,
	// unless SPF finds them forged. In the chain of a submission listener it makes
	// the handler learn to whom users write.
	SkipCorrespondents bool `config:"skip_correspondents" default:"true"`
	// Correspondents is how long it is remembered that a user wrote to somebody.
	Correspondents time.Duration `config:"correspondents" default:"60d" min:"1h" max:"3650d"`
	// Except lists networks whose mail is never deferred, such as a relay of one's
	// own.
	Except []netip.Prefix `config:"except"`

	service *Service
	domains *core.Domains
	now     func() time.Time
}

// Module describes the handler.
func (*Greylist) Module() core.Info {
	return core.Info{
		ID:     "handler.greylist",
		Stages: mail.AtRcpt | mail.AtData,
		New:    func() core.Module { return new(Greylist) },
	}
}

// Provision finds the service that remembers.
func (g *Greylist) Provision(c *core.Context) error {
	service, err := core.Service[*Service](c)
	if err != nil {
		return err
	}
	g.service, g.domains, g.now = service, c.Domains(), c.Now()
	return nil
}

// Validate refuses a delay after which no retry can come in time.
func (g *Greylist) Validate() core.Problems {
	var problems core.Problems
	if g.Delay >= g.RetryWindow {
		problems.Errorf("delay", "the delay of %s is not shorter than retry_window, %s, so that no retry could ever pass: make the delay shorter, or the window longer",
			formatDuration(g.Delay), formatDuration(g.RetryWindow))
	}
	return problems
}

// Handle judges a recipient. At the data stage it has nothing to say, see
// Observe.
func (g *Greylist) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage != mail.StageRcpt || tx.Recipient == nil {
		return mail.Continue(g.atData(tx)), nil
	}
	if reason := g.excused(tx); reason != "" {
		return mail.Continue(reason), nil
	}
	q, ok := g.question(tx)
	if !ok {
		return mail.Continue("not greylisted: the client has no IP address"), nil
	}
	q.trial = tx.Trial
	a, err := g.service.judge(ctx, q, g.now())
	if err != nil {
		return mail.Verdict{}, err
	}
	return a.verdict(q), nil
}

// atData says what becomes of a message, which is never deferred itself.
func (g *Greylist) atData(tx *mail.Transaction) string {
	if tx.Session.User != "" && g.SkipCorrespondents {
		return "once the message is accepted, its recipients may write back without delay"
	}
	return "each recipient was judged before; the message itself is not"
}

// excused tells why the client need not be known, "" if it must.
func (g *Greylist) excused(tx *mail.Transaction) string {
	if tx.Session.User != "" {
		return "not greylisted: the client has logged in"
	}
	addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(g.Except, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return "not greylisted: network is excepted"
	}
	if domain := spfPassed(tx); domain != "" && g.SPFPass == spfSkip {
		return "not greylisted: SPF pass for " + domain
	}
	if r, ok := tx.AuthResult("dnswl"); ok && r.Result == "pass" && g.SkipDNSWL {
		return "not greylisted: the client is on a list of good senders"
	}
	if subject, ok := g.service.allowed.find(addr, tx.Envelope.ReversePath); ok {
		return "not greylisted: the operator allows " + subject
	}
	return ""
}

// Observe learns, when the message of a user was accepted, to whom the user
// writes.
func (g *Greylist) Observe(_ context.Context, tx *mail.Transaction, outcome mail.Outcome) {
	user := tx.Session.User
	if outcome.Stage != mail.StageData || user == "" || !g.SkipCorrespondents ||
		outcome.Refused() || tx.Discarded() || tx.Quarantined() != "" {
		return
	}
	users := make([]string, 0, 2)
	if a, err := mail.ParseAddress(user); err == nil {
		users = append(users, plainAddress(a).String())
	}
	// Replies go to the address from which the user wrote, such as an alias.
	if from := plainAddress(tx.Envelope.ReversePath); g.local(from) && !slices.Contains(users, from.String()) {
		users = append(users, from.String())
	}
	var others []string
	for _, r := range tx.Envelope.Recipients {
		// Mail that claims to come from here and does not is no reply.
		if a := plainAddress(r.Address); a.Domain != "" && !g.local(a) {
			others = append(others, bounded(a.String()))
		}
	}
	g.service.learn(users, others, g.now().Add(g.Correspondents))
}

// local tells whether an address is of a domain that lives here.
func (g *Greylist) local(a mail.Address) bool {
	_, ok := g.domains.Find(a.Domain)
	return ok
}

var (
	_ core.Provisioner = (*Greylist)(nil)
	_ core.Validator   = (*Greylist)(nil)
	_ core.Handler     = (*Greylist)(nil)
	_ core.Observer    = (*Greylist)(nil)
)
