// Package spf is handler.spf: may this client send mail for this domain (RFC
// 7208)? It judges the reverse-path, and the client's name for itself (HELO).
//
// The evaluation is whole: records are held against the grammar before anything
// in them is followed, macros and explanations are expanded, and the limits of
// RFC 7208 section 4.6.4 bound what a record can make this server ask. What was
// found is computed once a transaction, and each recipient's domain judges it by
// its own settings. It is noted as the authentication results spf, first that of
// the reverse-path (smtp.mailfrom), then that of the name (smtp.helo), and in a
// field Received-SPF on top of the message. Such fields of earlier hops stay.
//
// Clients that have logged in, those on this machine and those without an IP
// address are not checked. A DNS that does not answer is the result temperror,
// for which there is a setting, and never an error of the handler.
package spf

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&SPF{}) }

// SPF checks whether the domain of the sender lets the client send mail for it.
// What is to be done with each result is accept, tag (the message gets the tag
// spf=RESULT), quarantine or reject. What a DNS means that does not answer says
// temperror, not on_error.
type SPF struct {
	// Fail is for a client that the domain does not allow: 550 5.7.23, with the
	// domain's own explanation if it has one.
	Fail string `config:"fail" default:"reject" values:"accept,tag,quarantine,reject"`
	// SoftFail is for a client that the domain probably does not allow.
	SoftFail string `config:"softfail" default:"tag" values:"accept,tag,quarantine,reject"`
	// Neutral is for a client of which the domain says nothing.
	Neutral string `config:"neutral" default:"accept" values:"accept,tag,quarantine,reject"`
	// None is for a domain without an SPF record.
	None string `config:"none" default:"accept" values:"accept,tag,quarantine,reject"`
	// TempError is for a DNS that did not answer; defer asks the client to try again
	// by 451 4.4.3.
	TempError string `config:"temperror" default:"accept" values:"accept,tag,quarantine,defer,reject"`
	// PermError is for a record that is wrong. Many honest domains have one.
	PermError string `config:"permerror" default:"accept" values:"accept,tag,quarantine,reject"`
	// Helo is for a client that may not use the name by which it calls itself; its
	// tag is spf_helo=fail. Other results for that name are only noted. With off the
	// name is not looked up.
	Helo string `config:"helo" default:"reject" values:"off,accept,tag,quarantine,reject"`
	// Exempt lists networks that are not checked, such as those of servers that
	// forward mail to this one.
	Exempt []netip.Prefix `config:"exempt" example:"192.0.2.0/24"`

	resolver resolver
	hostname string
	now      func() time.Time
}

// Module describes the handler.
func (*SPF) Module() core.Info {
	return core.Info{
		ID:             "handler.spf",
		Edits:          true,
		Stages:         mail.AtMail | mail.AtRcpt,
		StageAttribute: true,
		DefaultStages:  mail.AtRcpt,
		Timeout:        20 * time.Second, // the least that RFC 7208 section 4.6.4 allows
		New:            func() core.Module { return new(SPF) },
	}
}

// Provision takes the resolver.
func (s *SPF) Provision(c *core.Context) error {
	s.resolver, s.hostname, s.now = c.Resolver(), c.Hostname(), c.Now()
	return nil
}

// identity is what was found about one identity of a transaction.
type identity struct {
	Finding
	ip netip.Addr
	// name is the identity: an address, or a name of a host. domain is what was
	// looked up for it, in A-labels.
	name, domain string
	helo         bool
}

// onceKey names what is computed once a transaction.
type onceKey uint8

const (
	onceMail onceKey = iota
	onceHelo
	onceField
)

// Handle checks the client, or judges what another recipient's check found.
func (s *SPF) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if why := s.unchecked(tx.Session); why != "" {
		return mail.Continue("not checked: " + why), nil
	}
	ids := make([]*identity, 1, 2)
	var err error
	if ids[0], err = s.once(ctx, tx, onceMail); err != nil {
		return mail.Verdict{}, err
	}
	if s.Helo != "off" {
		helo, err := s.once(ctx, tx, onceHelo)
		if err != nil {
			return mail.Verdict{}, err
		}
		ids = append(ids, helo)
	}
	for _, id := range ids {
		tx.SetAuthResult(id.authResult())
	}
	_, err = tx.Once(onceField, func() (any, error) {
		tx.AddHeaderField("Received-SPF", receivedSPF(s.hostname, tx, ids[0]))
		return true, nil
	})
	return s.judge(tx, ids), err
}

// unchecked gives why a client is not checked, "" if it is.
func (s *SPF) unchecked(session *mail.Session) string {
	addr := session.RemoteAddr.Addr().Unmap().WithZone("")
	switch {
	case session.User != "":
		return session.User + " has logged in"
	case !addr.IsValid():
		return "the client has no IP address"
	case addr.IsLoopback():
		return addr.String() + " is this machine"
	}
	for _, network := range s.Exempt {
		if network.Contains(addr) {
			return addr.String() + " is in the exempt network " + network.String()
		}
	}
	return ""
}

// once checks an identity, or gives what was found before in this transaction.
// With the null reverse-path both are the same (RFC 7208 section 2.4).
func (s *SPF) once(ctx context.Context, tx *mail.Transaction, key onceKey) (*identity, error) {
	value, err := tx.Once(key, func() (any, error) {
		if key == onceHelo && tx.Envelope.ReversePath.IsNull() {
			same, err := s.once(ctx, tx, onceMail)
			if err != nil {
				return nil, err
			}
			helo := *same
			helo.name, helo.helo = tx.Session.Helo, true
			return &helo, nil
		}
		return s.check(ctx, tx, key == onceHelo), nil
	})
	if err != nil {
		return nil, err
	}
	id, ok := value.(*identity)
	if !ok {
		return nil, fmt.Errorf("check SPF: the finding is a %T", value)
	}
	return id, nil
}

func (s *SPF) check(ctx context.Context, tx *mail.Transaction, helo bool) *identity {
	q := Query{
		IP:   tx.Session.RemoteAddr.Addr().Unmap().WithZone(""),
		Helo: tx.Session.Helo, Domain: tx.Session.Helo, LocalPart: "postmaster",
		Receiver: s.hostname, Now: s.now(),
	}
	id := &identity{ip: q.IP, name: q.Domain, helo: helo}
	if !helo {
		if path := tx.Envelope.ReversePath; !path.IsNull() {
			q.LocalPart, q.Domain = path.LocalPart, path.Domain
		}
		id.name = mail.Address{LocalPart: q.LocalPart, Domain: q.Domain}.String()
	}
	id.domain = asciiDomain(q.Domain)
	id.Finding = check(ctx, s.resolver, q)
	return id
}

// authResult is the result for the other handlers (RFC 8601 section 2.7.2).
func (id *identity) authResult() mail.AuthResult {
	property := mail.Property{Type: "smtp", Name: "mailfrom", Value: id.name}
	if id.helo {
		property = mail.Property{Type: "smtp", Name: "helo", Value: oneLine(id.domain, maxName)}
	}
	return mail.AuthResult{
		Method: "spf", Result: string(id.Result), Reason: oneLine(id.Problem, maxExplanation),
		Properties: []mail.Property{property},
	}
}

// actions are what the settings can ask for, from the mildest on.
var actions = [...]string{"accept", "tag", "quarantine", "defer", "reject"}

// action gives what the settings say of a result.
func (s *SPF) action(id *identity) string {
	if id.helo {
		if id.Result == Fail {
			return s.Helo
		}
		return "accept"
	}
	switch id.Result {
	case Fail:
		return s.Fail
	case SoftFail:
		return s.SoftFail
	case Neutral:
		return s.Neutral
	case None:
		return s.None
	case TempError:
		return s.TempError
	case PermError:
		return s.PermError
	default:
		return "accept"
	}
}

// judge gives the severest verdict that the settings have for the findings.
func (s *SPF) judge(tx *mail.Transaction, ids []*identity) mail.Verdict {
	reason, worst, level := "", ids[0], 0
	for i, id := range ids {
		if i > 0 {
			reason += "; "
		}
		reason += mail.Printable(id.String(), maxReason/len(ids))
		action := s.action(id)
		if action == "tag" {
			tx.AddTag(id.tag())
		}
		if l := slices.Index(actions[:], action); l > level {
			worst, level = id, l
		}
	}
	switch actions[level] {
	case "quarantine":
		return mail.Quarantine(reason)
	case "defer":
		return mail.Defer(worst.deferral(), reason)
	case "reject":
		return mail.Reject(worst.rejection(), reason)
	default:
		return mail.Continue(reason)
	}
}

func (id *identity) tag() string {
	if id.helo {
		return "spf_helo=" + string(id.Result)
	}
	return "spf=" + string(id.Result)
}

// String says what was found, for the operator.
func (id *identity) String() string {
	what := "MAIL"
	if id.helo {
		what = "HELO"
	}
	text := fmt.Sprintf("%s %s: %s for %s", what, id.name, id.Result, id.ip)
	switch {
	case id.Problem != "":
		return text + ", " + id.Problem
	case id.Term != "":
		return text + " by " + id.Term + " of " + id.Domain + ", whose record is " + strconv.Quote(id.Record)
	case id.Record != "":
		return text + ", no mechanism of " + id.Domain + " matches, whose record is " + strconv.Quote(id.Record)
	case id.Domain != "":
		return text + ", " + id.Domain + " has no SPF record"
	default:
		return text + ", " + strconv.Quote(id.domain) + " is no domain with a record"
	}
}

// rejection is what the client is told (RFC 7372 section 3.2).
func (id *identity) rejection() mail.Reply {
	detail, text := 23, ""
	switch id.Result {
	case TempError:
		detail, text = 24, "SPF record of "+id.domain+" cannot be looked up"
	case PermError:
		detail, text = 24, "SPF: "+id.Problem
	case None:
		text = "SPF: " + id.domain + " has no record"
	case Fail:
		text = fmt.Sprintf("SPF: %s may not send mail for %s", id.ip, id.domain)
		if id.helo {
			text = fmt.Sprintf("SPF: %s may not call itself %s", id.ip, id.domain)
		}
	default:
		text = fmt.Sprintf("SPF: %s is not known to send mail for %s", id.ip, id.domain)
	}
	if id.Explanation != "" {
		text += ". The domain " + id.Domain + " explains: " + id.Explanation
	}
	return mail.NewReply(550, 7, detail, oneLine(text, maxReply))
}

func (id *identity) deferral() mail.Reply {
	return mail.NewReply(451, 4, 3, oneLine("SPF record of "+id.domain+" cannot be looked up now, try again later", maxReply))
}

// Bounds of what goes into a trace and into a reply, in bytes.
const (
	maxReason = 480
	maxReply  = 400
)

var (
	_ core.Provisioner = (*SPF)(nil)
	_ core.Handler     = (*SPF)(nil)
)
