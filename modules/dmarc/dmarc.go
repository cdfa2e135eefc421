// Package dmarc is handler.dmarc: does the owner of the domain in From stand behind
// a message, and what is to be done with one that comes from somebody else (RFC
// 9989, which follows RFC 7489)?
//
// It takes what the handlers spf and dkim_verify have found and compares the domains
// with that of the author. The record that holds, and what belongs to one
// organization, is found by the DNS tree walk of RFC 9989 with at most eight
// questions a domain, or by the public suffix list as in RFC 7489. It is noted as
// the authentication result dmarc (header.from, policy.dmarc).
//
// A message fails only if both SPF and DKIM were asked and answered: one without a
// result of either, and one whose DNS does not answer, is a temperror, for which
// there is a setting.
//
// A message that fails, and for whose domain there is no override, passes all the same if arc_verify says that a trusted sealer found
// that it passed (RFC 8617 section 7.2.1), which counts as local policy. For that, its
// result arc has the properties policy.trusted, the sealer, policy.dmarc, what he found,
// and header.from, the author's domain then.
//
// Clients that have logged in and those on this machine are not checked. What was
// found is counted by day for the domains that ask for aggregate reports, and kept
// for 30 days. The reports are not sent yet.
package dmarc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

func init() {
	core.Register(&DMARC{})
	core.Register(&Service{})
}

// DMARC applies the policy that the owner of the domain in From has published for
// messages that neither SPF nor DKIM shows to be from that domain. accept lets them pass, tag gives them the tag
// dmarc=fail, quarantine keeps them out of the inbox, and reject refuses them with
// 550 5.7.26. It stands behind spf and dkim_verify, and behind arc_verify, whose trusted
// sealers can save a message from policies, though not from overrides.
type DMARC struct {
	// Reject is for a message that fails where the policy is reject. Mailing lists
	// that change messages make honest ones fail: quarantine is what RFC 9989
	// wants of those who look at nothing else.
	Reject string `config:"reject" default:"reject" values:"accept,tag,quarantine,reject"`
	// Quarantine is for a message that fails where the policy is quarantine.
	Quarantine string `config:"quarantine" default:"quarantine" values:"accept,tag,quarantine,reject"`
	// None is for a message that fails where the policy is none.
	None string `config:"none" default:"accept" values:"accept,tag,quarantine,reject"`
	// TempError is for a message of which it cannot be said now whether it fails, where
	// the policy is quarantine or reject, or is not known itself; where it is none, the
	// message passes. defer asks the client to try again by 451 4.4.3, since a stranger
	// can cause such errors, by names in his message that have no answer, and would get
	// past every policy by them. It does nothing about a message that was not checked by
	// spf or dkim_verify. The tag is dmarc=temperror.
	TempError string `config:"temperror" default:"defer" values:"accept,tag,quarantine,defer"`
	// BadFrom is for a message without a From field, or with one in which no
	// address with a domain can be found, so that nobody can say whom it is from.
	// Its tag is dmarc=permerror.
	BadFrom string `config:"bad_from" default:"reject" values:"accept,tag,quarantine,reject"`
	// SeveralFrom is for a message with several From fields, or with addresses of
	// several domains in them: it is refused by 550 5.7.1, or every domain is judged
	// and the severest policy holds of those that fail. More than eight domains are
	// bad_from.
	SeveralFrom string `config:"several_from" default:"reject" values:"reject,judge"`
	// Override replaces the policy of domains: what happens to a message that fails,
	// by the domain in From or one above it, where the longest holds. It goes before
	// what trusted sealers say; with accept a temperror does not matter, either.
	Override map[string]string `config:"override"`
	// OrganizationalDomain is how the domains of one organization are found: by the
	// DNS tree walk of RFC 9989, or by the public suffix list that the program
	// brings along, as in RFC 7489.
	OrganizationalDomain string `config:"organizational_domain" default:"tree_walk" values:"tree_walk,public_suffix_list"`
	// Exempt lists networks whose messages are not checked, such as those of servers
	// that forward mail to this one.
	Exempt []netip.Prefix `config:"exempt" example:"192.0.2.0/24"`

	name      string
	resolver  resolver
	service   *Service
	now       func() time.Time
	overrides map[string]string // by domain in A-labels
}

// Module describes the handler.
func (*DMARC) Module() core.Info {
	return core.Info{
		ID:      "handler.dmarc",
		Stages:  mail.AtData,
		Timeout: 20 * time.Second, // for a record and the domains beside it
		New:     func() core.Module { return new(DMARC) },
	}
}

// Provision takes the resolver and the service that counts.
func (d *DMARC) Provision(c *core.Context) (err error) {
	d.name, d.resolver, d.now = c.Name(), c.Resolver(), c.Now()
	d.overrides = make(map[string]string, len(d.Override))
	for name, action := range d.Override {
		if domain, err := mail.ParseDomain(name); err == nil {
			d.overrides[normal(domain)] = action
		}
	}
	d.service, err = core.Service[*Service](c)
	return err
}

// Validate checks the overrides.
func (d *DMARC) Validate() core.Problems {
	var problems core.Problems
	for name, action := range d.Override {
		if domain, err := mail.ParseDomain(name); err != nil || domain[0] == '[' {
			problems.Errorf("override", "%q is not a domain name", name)
		}
		if !slices.Contains(actions[:], action) || action == actionDefer {
			problems.Errorf("override", "the override for %s is %q: write accept, tag, quarantine or reject", name, action)
		}
	}
	return problems
}

// onceKey is for what was found about a message: it depends on these settings alone.
type onceKey struct{ suffixes bool }

func (d *DMARC) onceKey() onceKey { return onceKey{d.OrganizationalDomain == "public_suffix_list"} }

// Handle judges the message.
func (d *DMARC) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if why := d.unchecked(tx.Session); why != "" {
		return mail.Continue("not checked: " + why), nil
	}
	authors, fields, err := authorDomains(tx.Message.Header)
	switch {
	case err != nil:
		return d.badFrom(tx, err), nil
	case d.SeveralFrom != "judge" && (fields > 1 || len(authors) > 1):
		reason := fmt.Sprintf("%d From fields with addresses of %d domains", fields, len(authors))
		return mail.Reject(mail.NewReply(550, 7, 1, "The message has several From fields or authors of several domains: write one From field with one address"), reason), nil
	}
	key := d.onceKey()
	value, err := tx.Once(key, func() (any, error) {
		e := evaluation{
			discovery: discovery{resolver: d.resolver, suffixes: key.suffixes},
			ids:       identifiers(tx), sample: sampleOf(tx.ID),
		}
		findings := make([]*finding, 0, len(authors))
		for i, author := range authors {
			share, cancel := shareTime(ctx, len(authors)-i)
			findings = append(findings, e.judge(share, author))
			cancel()
		}
		return findings, nil
	})
	findings, ok := value.([]*finding)
	if err != nil || !ok {
		return mail.Verdict{}, fmt.Errorf("evaluate DMARC: the finding is a %T: %w", value, err)
	}
	return d.judge(tx, findings), nil
}

// unchecked gives why a client is not checked, "" if it is.
func (d *DMARC) unchecked(session *mail.Session) string {
	addr := session.RemoteAddr.Addr().Unmap().WithZone("")
	switch {
	case session.User != "":
		return session.User + " has logged in"
	case !addr.IsValid():
		return "the client has no IP address"
	case addr.IsLoopback():
		return addr.String() + " is this machine"
	}
	for _, network := range d.Exempt {
		if network.Contains(addr) {
			return addr.String() + " is in the exempt network " + network.String()
		}
	}
	return ""
}

// badFrom judges a message that nobody can be asked about.
func (d *DMARC) badFrom(tx *mail.Transaction, err error) mail.Verdict {
	tx.SetAuthResult(mail.AuthResult{Method: "dmarc", Result: resultPermError, Reason: err.Error()})
	if d.BadFrom == actionTag {
		tx.AddTag("dmarc=" + resultPermError)
	}
	reply := mail.NewReply(550, 7, 1, "It cannot be told whom the message is from: "+err.Error())
	return verdict(d.BadFrom, reply, err.Error())
}

// Observe counts what was found for reports, with what was done about it here.
func (d *DMARC) Observe(_ context.Context, tx *mail.Transaction, _ mail.Outcome) {
	value, err := tx.Once(d.onceKey(), func() (any, error) { return nil, nil }) //nolint:nilnil // the handler was not asked
	findings, ok := value.([]*finding)
	if err != nil || !ok {
		return
	}
	monitored := slices.ContainsFunc(tx.Entries, func(e mail.Entry) bool {
		return e.Stage == mail.StageData && e.Handler == d.name && e.Note == chain.NoteMonitor
	})
	for _, f := range findings {
		if f.record == nil || !f.reports || f.result != resultPass && f.result != resultFail {
			continue
		}
		d.service.count(d.now(), d.outcome(tx, f, monitored))
	}
}

// outcome is what the report says of a finding (RFC 9990).
func (d *DMARC) outcome(tx *mail.Transaction, f *finding, monitored bool) Result {
	r := Result{
		PolicyDomain: f.domain, Author: f.author, Source: tx.Session.RemoteAddr.Addr().Unmap().WithZone(""),
		Disposition: PolicyNone, DKIM: f.dkim, SPF: f.spf,
	}
	action, _ := d.action(tx, f)
	switch {
	case monitored:
	case action == actionQuarantine:
		r.Disposition = PolicyQuarantine
	case action == actionReject:
		r.Disposition = PolicyReject
	}
	switch {
	case f.result != resultFail:
	case r.Disposition != f.applied:
		r.Override = OverrideLocal
	case f.test && f.milder != "":
		r.Override = OverrideTest
	case f.milder != "":
		r.Override = OverrideSampled
	}
	return r
}

var (
	_ core.Provisioner = (*DMARC)(nil)
	_ core.Validator   = (*DMARC)(nil)
	_ core.Handler     = (*DMARC)(nil)
	_ core.Observer    = (*DMARC)(nil)
)
