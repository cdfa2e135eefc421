// Package dnsbl is handler.dnsbl: it asks lists in the DNS about the client and
// the names that it gives, all at once, and weighs what they say. There are
// lists of addresses that send unwanted mail (RFC 5782), of domains that do, and
// of addresses that are known to send wanted mail (RFC 8904).
//
// A list that says nothing in time, or nothing that a list can say, is passed
// over, and so is one that keeps failing, for a minute in which others are asked.
// Only when none of them has an answer is that an error of the handler; then all
// are tried again after some seconds. Error codes are never
// taken for listings: many lists answer with one whom they do not want to serve,
// such as those who ask by way of a public resolver.
package dnsbl

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(DNSBL{}) }

// DNSBL asks lists in the DNS about the client's address, the name in its HELO
// and the domain of the reverse-path. The weights of the lists that have them
// are added up, those of allow lists subtracted; the sum is the message's score
// in every case, and action says what else it means.
//
// It acts at the stage rcpt unless the file says otherwise, where a domain can
// tune it, and where postmaster can be let through by when. At the stage connect
// it costs spammers less of the server's time.
//
// A list that gives no answer is passed over, and one that keeps failing is not
// asked for a minute. When none of them gives an answer, on_error says what that
// means, and they are asked again after some seconds.
//
// Clients that have logged in, and addresses that are not public, are not asked
// about. A hit in an allow list is noted as the result pass of the method dnswl
// (RFC 8904) and as the tag dnswl=ZONE, for later handlers.
type DNSBL struct {
	// Zones are lists of addresses, each with the weight 1, for which every code
	// counts. Write a list block where one needs more than that.
	Zones []string `config:"zones" example:"zen.dnsbl.example.net"`
	// List is one list with its own settings; the label is its zone.
	List []*List `config:"list,block"`
	// Action is what happens when the sum of the weights reaches threshold: reject
	// refuses with 550, tag marks the message with dnsbl=ZONE, score does nothing
	// beyond the score.
	Action string `config:"action" default:"reject" values:"reject,tag,score"`
	// Threshold is the sum from which on action holds.
	Threshold float64 `config:"threshold" default:"1" min:"0.001" max:"100000"`
	// Except lists networks whose clients are not asked about.
	Except []netip.Prefix `config:"except"`

	name     string
	lists    []*list
	resolver resolver
	zones    *zones
	now      func() time.Time
}

// resolver is what the handler needs of the DNS.
type resolver interface {
	LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Module describes the handler.
func (DNSBL) Module() core.Info {
	return core.Info{
		ID:             "handler.dnsbl",
		Stages:         mail.AtConnect | mail.AtHelo | mail.AtMail | mail.AtRcpt,
		StageAttribute: true,
		DefaultStages:  mail.AtRcpt,
		// One deadline for all lists.
		Timeout: 5 * time.Second,
		New:     func() core.Module { return new(DNSBL) },
	}
}

// Provision makes the lists. What is known of the zones is shared by all
// handlers.
func (d *DNSBL) Provision(c *core.Context) error {
	d.name, d.resolver, d.now = c.Name(), c.Resolver(), c.Now()
	shared, err := core.Shared(c, "dnsbl/zones", func() (*zones, error) { return newZones(c.Logger()), nil })
	if err != nil {
		return err
	}
	d.zones = shared
	for _, zone := range d.Zones {
		d.lists = append(d.lists, newList(&List{Zone: zone, Kind: kindIP, Weight: 1}, shared))
	}
	for _, l := range d.List {
		d.lists = append(d.lists, newList(l, shared))
	}
	return nil
}

// Validate checks the lists.
func (d *DNSBL) Validate() core.Problems {
	var problems core.Problems
	if len(d.lists) == 0 {
		problems.Errorf("", "there is no list to ask: write zones = [\"ZONE\"] or list \"ZONE\" { … }")
	}
	seen := make(map[string]bool)
	for i, l := range d.lists {
		attribute := fmt.Sprintf("zones[%d]", i)
		if i >= len(d.Zones) {
			attribute = fmt.Sprintf("list[%d]", i-len(d.Zones))
		}
		if zone, err := mail.ParseDomain(l.Zone); err != nil || strings.HasPrefix(zone, "[") {
			problems.Errorf(attribute, "%q is not the name of a zone: write it as the list's page has it, such as \"zen.dnsbl.example.net\"", l.Zone)
		}
		key := l.Kind + " " + strings.ToLower(l.Zone)
		if seen[key] {
			problems.Errorf(attribute, "the list %s stands here twice for %s", l.Zone, l.Kind)
		}
		seen[key] = true
		for _, err := range l.wrong {
			problems.Errorf(attribute+".weights", "%v", err)
		}
	}
	return problems
}

// ValidateStages refuses a stage at which it is not known yet what a list is
// asked about.
func (d *DNSBL) ValidateStages(stages mail.Stages) core.Problems {
	var problems core.Problems
	for _, l := range d.lists {
		since := map[string]mail.Stage{kindHelo: mail.StageHelo, kindFrom: mail.StageMail}[l.Kind]
		for stage := range since {
			if stages.Has(stage) {
				problems.Errorf("stage", "at the stage %s it is not known yet what the list %s is asked about: a list of the kind %s needs the stage %s or a later one",
					stage, l.Zone, l.Kind, since)
			}
		}
	}
	return problems
}

// Handle asks the lists and weighs their answers.
func (d *DNSBL) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if why := d.exempt(tx); why != "" {
		return mail.Continue(why), nil
	}
	if tx.Trial {
		d = d.aside()
	}
	findings := d.ask(ctx, tx)
	if err := outage(findings); err != nil {
		return mail.Verdict{}, err
	}
	return d.judge(tx, findings), nil
}

// exempt says why nobody is asked, "" if somebody is.
func (d *DNSBL) exempt(tx *mail.Transaction) string {
	addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
	switch {
	case tx.Session.User != "":
		return "not asked: the client has logged in"
	case !public(addr):
		return "not asked: the client's address is not public"
	}
	for _, network := range d.Except {
		if network.Contains(addr) {
			return fmt.Sprintf("not asked: the network %s is excepted", network)
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

// aside gives the handler for a trial: what it finds about the zones is for nobody
// else, and it asks those that rest, too.
func (d *DNSBL) aside() *DNSBL {
	aside := *d
	aside.zones, aside.lists = newZones(zap.NewNop()), nil
	for _, l := range d.lists {
		one := *l
		one.zone = aside.zones.of(l.Zone)
		aside.lists = append(aside.lists, &one)
	}
	return &aside
}

// ask asks all lists at once, and gives what they say in their order.
func (d *DNSBL) ask(ctx context.Context, tx *mail.Transaction) []*finding {
	findings := make([]*finding, 0, len(d.lists))
	now, alone := d.now(), true
	for _, l := range d.lists {
		if subject, query := l.subject(tx); subject != "" {
			findings = append(findings, &finding{list: l, subject: subject, query: query})
			alone = alone && !l.zone.ready(now)
		}
	}
	var wg sync.WaitGroup
	for _, f := range findings {
		wg.Go(func() { d.fill(ctx, tx, f, alone) })
	}
	wg.Wait()
	return findings
}

// fill asks one list; alone says that all others rest. What it said is kept for the whole transaction, a failure
// too, so that no list holds up every recipient.
func (d *DNSBL) fill(ctx context.Context, tx *mail.Transaction, f *finding, alone bool) {
	found, err := tx.Once(askedKey{f.query, f.list.Kind == kindAllow}, func() (any, error) {
		return f.list.lookup(ctx, d.resolver, f.query, alone, d.now)
	})
	if err != nil {
		f.err = err
		return
	}
	said := found.(answer)
	f.text = said.text
	f.codes, f.weight = f.list.weigh(said.codes)
}

type askedKey struct {
	query string
	allow bool
}

// judge gives the verdict on what was found, and notes it for later handlers.
func (d *DNSBL) judge(tx *mail.Transaction, findings []*finding) mail.Verdict {
	sum, listed := 0.0, (*finding)(nil)
	hits := false
	for _, f := range findings {
		switch {
		case len(f.codes) == 0:
			continue
		case f.list.Kind == kindAllow:
			sum -= f.weight
			tx.SetAuthResult(f.authResult())
			tx.AddTag("dnswl=" + f.list.Zone)
		default:
			sum += f.weight
			if listed == nil || f.weight > listed.weight {
				listed = f
			}
		}
		hits = true
	}
	if hits {
		tx.SetScore(d.name, sum)
	}
	reason := describe(findings, sum, d.Threshold)
	if listed == nil || sum < d.Threshold {
		return mail.Continue(reason)
	}
	switch d.Action {
	case "reject":
		return mail.Reject(listed.reply(tx.Stage), reason)
	case "tag":
		for _, f := range findings {
			if len(f.codes) > 0 && f.list.Kind != kindAllow {
				tx.AddTag("dnsbl=" + f.list.Zone)
			}
		}
	}
	return mail.Continue(reason)
}

// Measure gives the figures of all lists together.
func (d *DNSBL) Measure() []core.Figure { return d.zones.measure(d.now()) }

// Interface guards.
var (
	_ core.Provisioner    = (*DNSBL)(nil)
	_ core.Validator      = (*DNSBL)(nil)
	_ core.StageValidator = (*DNSBL)(nil)
	_ core.Handler        = (*DNSBL)(nil)
	_ core.Measurer       = (*DNSBL)(nil)
)
