// Package effective describes a configuration as it holds: with the values of its
// variables, what it includes, the defaults of the modules and the settings of the
// database in it, and says of each value where it comes from. Package core makes a
// Config of what runs or of a file; here it is printed as a file (Print), compared
// with another (Compare), and freed of all names (Anonymise).
//
// A Config is data for programs too: its JSON is what the API gives. It is not
// changed once made, and then safe for concurrent use.
package effective

import (
	"time"

	"github.com/mox-like/mox-like/core/tuning"
)

// Config is a configuration as it holds.
type Config struct {
	// Files are those that were read, the main file first.
	Files []string `json:"files"`
	// Domain is the one for which the chains hold, "" where they are the listeners'
	// own and the domains have what they change.
	Domain string `json:"domain,omitempty"`
	// Blocks are those at the top that are neither listeners nor domains.
	Blocks []Block `json:"blocks"`
	// Listeners and Domains are in the order of the file.
	Listeners []Listener `json:"listeners"`
	Domains   []Domain   `json:"domains"`
}

// Block is a block with the values that hold in it.
type Block struct {
	Type   string   `json:"type"`
	Labels []string `json:"labels,omitempty"`
	// Place is where it stands, as "file:line"; "" if no file has it.
	Place  string  `json:"place,omitempty"`
	Values []Value `json:"values,omitempty"`
	Blocks []Block `json:"blocks,omitempty"`
}

// Value is an attribute as it holds.
type Value struct {
	Name string `json:"name"`
	// Text is an expression without variables; stars stand for secrets.
	Text string `json:"value"`
	// Source is the layer that the value is of.
	Source tuning.Source `json:"source"`
	// Place is where it stands, as "file:line" or "database: domain example.org"; ""
	// for a default.
	Place string `json:"place,omitempty"`
	// Since is when it was set in the database.
	Since time.Time `json:"since,omitzero"`
	// Uses is what a value of the file was made of.
	Uses []Use `json:"uses,omitempty"`
	// Secret says that stars stand in Text.
	Secret bool `json:"secret,omitempty"`
	// Free says that the value may be any text: neither a number, a time, a size nor
	// one word of a few.
	Free bool `json:"free,omitempty"`
	// Fingerprint tells secrets apart, where it was asked for.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Use is what a value was made of: a variable, a variable of the environment, or a
// file.
type Use struct {
	Kind string `json:"kind" enum:"variable,environment,file"`
	Name string `json:"name"`
	// Source says where a variable has its value from, By which variable of the
	// environment gives it, Place where its default stands.
	Source string `json:"source,omitempty" enum:"given,environment,default"`
	By     string `json:"by,omitempty"`
	Place  string `json:"place,omitempty"`
}

// Listener is a listener and its chain.
type Listener struct {
	// Block is what the listener has beside its chain; its labels are the kind and
	// the name.
	Block Block `json:"block"`
	// Stages are those that it runs, in order.
	Stages []string `json:"stages,omitempty"`
	// Chain is its chain, with the named chains that it uses spliced in.
	Chain []Step `json:"chain,omitempty"`
	// Own says that the chain is one that the domain has of its own.
	Own bool `json:"own,omitempty"`
}

// Name is what domains call the listener.
func (l Listener) Name() string { return l.Block.Labels[len(l.Block.Labels)-1] }

// Step is a place in a chain: a handler, several in parallel, or all that the
// listener has.
type Step struct {
	// Name is the handler's own, Block its module's block.
	Name  string `json:"name,omitempty"`
	Block Block  `json:"block"`
	// Stages are those at which it acts.
	Stages []string `json:"stages,omitempty"`
	// Via are the uses of named chains that lead here from the chain, the outermost
	// first.
	Via []Via `json:"via,omitempty"`
	// Target says that the handler delivers.
	Target bool `json:"target,omitempty"`
	// Disabled says that it is left out, Monitor that nothing is done about what it
	// says.
	Disabled bool `json:"disabled,omitempty"`
	Monitor  bool `json:"monitor,omitempty"`
	// Inherit says that the listener's handlers up to its targets stand here, and of
	// one of those, where the domain's chain is spliced together, that it is one.
	Inherit   bool `json:"inherit,omitempty"`
	Inherited bool `json:"inherited,omitempty"`
	// Parallel are handlers that act side by side. The step is no handler then.
	Parallel []Step `json:"parallel,omitempty"`
}

// Via is a use of a named chain.
type Via struct {
	Chain string `json:"chain"`
	Place string `json:"place"`
}

// Domain is what a domain has of its own.
type Domain struct {
	Name   string  `json:"name"`
	Place  string  `json:"place,omitempty"`
	Values []Value `json:"values,omitempty"`
	// Blocks are its modules, such as dkim.
	Blocks []Block `json:"blocks,omitempty"`
	// Settings tune handlers, each by a block of type settings; they are those of the
	// file with those of the database over them.
	Settings []Block `json:"settings,omitempty"`
	// Chains are its own.
	Chains []DomainChain `json:"chains,omitempty"`
	// Apart says that the settings of * in the database do not fit the domain and do
	// not hold for it.
	Apart bool `json:"apart,omitempty"`
}

// DomainChain is the chain that a domain has for a listener.
type DomainChain struct {
	Listener string `json:"listener"`
	Place    string `json:"place,omitempty"`
	Chain    []Step `json:"chain"`
}

// Query says what is wanted of a configuration.
type Query struct {
	// Domain asks for the chains as they hold for one domain, with its settings in
	// them.
	Domain string
	// Listener leaves the others out.
	Listener string
	// Salt asks for fingerprints of what is secret, keyed by it.
	Salt string
}

// Handlers gives the handlers of a chain in order, those in parallel among them.
func Handlers(chain []Step) []Step {
	var list []Step
	for _, s := range chain {
		switch {
		case s.Parallel != nil:
			list = append(list, s.Parallel...)
		case !s.Inherit:
			list = append(list, s)
		}
	}
	return list
}
