package core

import (
	"slices"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// Domain is a domain that lives here.
type Domain struct {
	// Name is in normal form, see mail.ParseDomain.
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
	// Settings tune handlers of the listeners' chains for this domain: the label
	// is the handler's name, the attributes are the handler's own.
	Settings []*config.Block `config:"settings,block"`

	block *config.Block
}

// Block is where the domain is declared.
func (d *Domain) Block() *config.Block { return d.block }

// Domains are the domains that live here. It is immutable.
type Domains struct {
	list       []*Domain
	byName     map[string]*Domain
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
	if ds.HasErrors() {
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
			WithRelated(first.block.DefRange, "the first one stands here")
		return ds
	}
	d.byName[name] = domain
	d.list = append(d.list, domain)
	return ds
}
