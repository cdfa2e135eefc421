package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// Domain is a domain that lives here.
type Domain struct {
	// Name is the domain, as it stands after the @ of its addresses. "*" holds what
	// is set for all domains that live here, where they do not set it themselves.
	Name string `config:"name,label"`
	// Aliases sends mail for a local-part to others: local-parts of this domain,
	// or whole addresses of domains that live here.
	Aliases map[string][]string `config:"aliases"`
	// CatchAll takes the mail for local-parts that nobody has: a local-part of
	// this domain, or a whole address.
	CatchAll string `config:"catch_all"`
	// Chain are chains of the domain's own, each for the listener that its label
	// names.
	Chain []*config.Block `config:"chain,block"`
	// Settings tune handlers for this domain, those of its own chains too: the label
	// is the handler's name, the attributes are the handler's.
	Settings []*config.Block `config:"settings,block"`
	// Modules are what else a domain has of its own, such as dkim, which holds its keys.
	Modules []*config.Block `config:",remain"`

	block *config.Block
}

// Block is where the domain is declared.
func (d *Domain) Block() *config.Block { return d.block }

// Domains are the domains that live here. It is immutable.
type Domains struct {
	list       []*Domain
	byName     map[string]*Domain
	template   *Domain // what holds for all of them; nil if the file says nothing
	hostname   string
	postmaster string
}

func newDomains(hostname, postmaster string) *Domains {
	return &Domains{byName: make(map[string]*Domain), hostname: hostname, postmaster: postmaster}
}

// Find gives the domain of that name, which is in normal form.
func (d *Domains) Find(name string) (*Domain, bool) {
	domain, ok := d.byName[name]
	return domain, ok
}

// All lists the domains in the order of the file.
func (d *Domains) All() []*Domain { return slices.Clone(d.list) }

// Hostname is the name by which this server calls itself.
func (d *Domains) Hostname() string { return d.hostname }

// Postmaster is the account that gets mail to postmaster where a domain has
// neither such an alias nor such an account; "" if the file names none.
func (d *Domains) Postmaster() string { return d.postmaster }

// add decodes a domain block.
func (d *Domains) add(block *config.Block) config.Diagnostics {
	domain := &Domain{block: block}
	ds := config.Decode(block, domain)
	if domain.Name == "" {
		return ds
	}
	if domain.Name == tuning.Template {
		ds.Append(d.addTemplate(domain))
		return ds
	}
	name, err := mail.ParseDomain(domain.Name)
	if err != nil || name[0] == '[' {
		ds.Errorf(block.LabelRange(0), "domain/bad-name", "%q is not a domain name", domain.Name).
			WithDetail("Write the domain as it stands after the @ of its addresses, such as \"example.org\".")
		return ds
	}
	domain.Name = name
	if first, ok := d.byName[name]; ok {
		ds.Errorf(block.LabelRange(0), "domain/duplicate", "the domain %s stands here twice", name).
			WithDetail("Move the contents of one into the other.").
			WithRelated(first.block.DefRange, "the first one stands here")
		return ds
	}
	ds.Append(domain.checkAliases())
	d.byName[name] = domain
	d.list = append(d.list, domain)
	return ds
}

// addTemplate takes the block that holds for all domains.
func (d *Domains) addTemplate(domain *Domain) (ds config.Diagnostics) {
	if d.template != nil {
		ds.Errorf(domain.block.LabelRange(0), "domain/duplicate", "the domain \"*\" stands here twice").
			WithDetail("Move the contents of one into the other.").
			WithRelated(d.template.block.DefRange, "the first one stands here")
		return ds
	}
	for _, name := range []string{"aliases", "catch_all"} {
		if a, ok := domain.block.Attribute(name); ok {
			ds.Errorf(a.NameRange, "domain/template", "%s is for one domain, not for all", name).
				WithDetail("Move it into the block of the domain that it is meant for.")
		}
	}
	for _, c := range domain.Chain {
		ds.Errorf(c.DefRange, "domain/template", "the domain \"*\" has settings and no chain").
			WithDetail("The chain of the listener holds for all domains that have none of their own.")
	}
	for _, m := range domain.Modules {
		ds.Errorf(m.DefRange, "domain/template", "%s is for one domain, not for all", m.Type).
			WithDetail("Move it into the block of the domain that it is meant for.")
	}
	d.template = domain
	return ds
}

// checkAliases holds the names of aliases against what a local-part can be.
func (d *Domain) checkAliases() config.Diagnostics {
	var ds config.Diagnostics
	for _, alias := range slices.Sorted(maps.Keys(d.Aliases)) {
		local, host, whole := strings.Cut(alias, "@")
		_, err := mail.ParseAddress(mail.Address{LocalPart: local, Domain: d.Name}.String())
		if err == nil && !whole && local != "" {
			continue
		}
		way := fmt.Sprintf("An alias is what stands in front of the @ of an address of %s, such as \"sales\".", d.Name)
		if err == nil && local != "" {
			way = fmt.Sprintf("Write %q: it is an alias of this block's domain.", local)
			if other, err := mail.ParseDomain(host); err == nil && other != d.Name {
				way = fmt.Sprintf("Write %q, in the block of domain %q.", local, other)
			}
		}
		ds.Errorf(d.block.KeyPlace("aliases", alias), "domain/bad-alias", "the alias %q is not a local-part", alias).WithDetail("%s", way)
	}
	return ds
}
