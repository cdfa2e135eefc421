package core

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// builder makes a generation of a decoded file. It collects every mistake and
// goes on.
type builder struct {
	gen    *generation
	ds     config.Diagnostics
	chains map[string]*config.Block // named chains
	used   map[string]bool          // of these
	tuning map[*config.Block]bool   // settings of domains that some handler has
	taken  []takenAddress
	// handlers are the names of the handlers that the chains have, also of those
	// that could not be made. Of these broken has the names.
	handlers, broken map[string]bool
	// receives is the first listener to which mail comes.
	receives *config.Block
	// unsure says that some chain could not be read whole, so that what seems to be
	// missing may be there.
	unsure bool
	// nameless says that the server block gives no host name.
	nameless bool
	// unasked are the blocks whose modules an offline check does not ask.
	unasked []*config.Block
}

// buildGeneration makes the modules and chains of a file. What it made is
// cleaned up when there are errors; the generation is nil then.
func buildGeneration(r *runtime, s *settings) (*generation, config.Diagnostics) {
	b := newBuilder(r, s)
	b.build()
	return b.finish()
}

// build makes all that the file has.
func (b *builder) build() {
	b.placeholders()
	b.checkPostmaster()
	b.tlsSources()
	b.domainModules()
	b.namedChains()
	b.listeners()
	for _, name := range b.unusedChains() {
		b.ds.Warnf(b.chains[name].DefRange, "chain/unused", "no chain uses %q", name).
			WithDetail("Splice it in with use %q {}, or remove it.", name)
	}
}

// finish gives the generation, or cleans up what there is of it.
func (b *builder) finish() (*generation, config.Diagnostics) {
	if !b.ds.HasErrors() {
		return b.gen, b.ds
	}
	if err := b.gen.close(); err != nil {
		b.ds.Errorf(hcl.Range{Filename: b.gen.settings.file.Name}, "module/cleanup", "%v", err)
	}
	return nil, b.ds
}

func newBuilder(r *runtime, s *settings) *builder {
	return &builder{
		gen:      &generation{runtime: r, settings: s},
		chains:   make(map[string]*config.Block),
		used:     make(map[string]bool),
		tuning:   make(map[*config.Block]bool),
		handlers: make(map[string]bool),
		broken:   make(map[string]bool),
	}
}

// placeholder is the host name where the file gives none. It has errors then, and
// what is made of it does not run.
const placeholder = "localhost"

// placeholders gives the modules a host name where the server block does not, so
// that they do not miss it too.
func (b *builder) placeholders() {
	if _, err := mail.ParseDomain(b.gen.settings.Server.Hostname); err == nil {
		return
	}
	b.nameless = true
	named, server := *b.gen.settings, *b.gen.settings.Server
	server.Hostname = placeholder
	named.Server = &server
	b.gen.settings = &named
}

// one makes a module of a block: New, decode, Provision, Validate. The further
// structs take the attributes that the module does not know. The result is nil
// where there were errors.
func (b *builder) one(info Info, block *config.Block, c *Context, also ...any) Module {
	m := b.decode(info, block, also...)
	if m == nil || !b.provision(info, m, block, c) {
		return nil
	}
	return m
}

func (b *builder) decode(info Info, block *config.Block, also ...any) Module {
	m := info.New()
	ds := config.Decode(block, append([]any{m}, also...)...)
	b.ds.Append(ds)
	if ds.HasErrors() {
		return nil
	}
	return m
}

// provision provisions and validates a decoded module. It tells whether there
// were no errors.
func (b *builder) provision(info Info, m Module, block *config.Block, c *Context) bool {
	i := &instance{module: m, name: c.name, block: block}
	b.gen.modules = append(b.gen.modules, i)
	if b.outside(info, block) {
		b.unasked = append(b.unasked, block)
		return true
	}
	if p, ok := m.(Provisioner); ok {
		if err := i.guard("set up", func() error { return p.Provision(c) }); err != nil {
			b.ds.Errorf(block.DefRange, "module/provision", "%v", err)
			return false
		}
	}
	if v, ok := m.(Validator); ok {
		found := v.Validate().Diagnostics(block, info.ID)
		if b.nameless && info.Namespace() == "tls" {
			// Warnings compare a certificate with the host name.
			found = slices.DeleteFunc(found, func(d config.Diagnostic) bool { return d.Severity == config.Warning })
		}
		b.ds.Append(found)
		return !found.HasErrors()
	}
	return true
}

// find looks a module up and says what there is when it is not there.
func (b *builder) find(namespace, name string, place hcl.Range) (Info, bool) {
	info, ok := b.gen.runtime.registry.Find(namespace + "." + name)
	if ok {
		return info, true
	}
	var names []string
	for _, m := range b.gen.runtime.registry.Modules(namespace) {
		names = append(names, m.Name())
	}
	if name == "" {
		b.ds.Errorf(place, "config/missing-label", "%s needs a label, its kind", namespace).
			WithDetail("Write %s. The kinds are: %s.", kindExamples[namespace], list(names))
		return Info{}, false
	}
	d := b.ds.Errorf(place, "config/unknown-"+namespace, "this build has no %s %q", namespace, name)
	if near := config.Suggest(name, names); near != "" {
		d.WithDetail("Did you mean %q?", near)
	} else {
		d.WithDetail("It has: %s.", list(names))
	}
	return Info{}, false
}

// kindExamples are headers with a kind.
var kindExamples = map[string]string{"tls": `tls "self_signed" {}`, "listener": `listener "smtp" "mx" { … }`}

// misplaced says where a module belongs, or a word of chains, that stands as a
// block where it is unknown; "" for other words.
func misplaced(registry *Registry, name string) string {
	if _, ok := registry.Find("handler." + name); ok {
		return fmt.Sprintf("%s is a handler: it stands in a chain { … } of a listener.", name)
	}
	if _, ok := registry.Find("listener." + name); ok {
		return fmt.Sprintf("%s is a kind of listener: write listener %q \"NAME\" { … }.", name, name)
	}
	if _, ok := registry.Find("tls." + name); ok {
		return fmt.Sprintf("%s is a kind of tls: write tls %q { … }.", name, name)
	}
	if _, ok := registry.Find("domain." + name); ok {
		return fmt.Sprintf("%s stands in the block of a domain: write domain \"example.org\" { %s { … } }.", name, name)
	}
	if slices.Contains(chainWords, name) {
		return fmt.Sprintf("%s stands in a chain { … } of a listener.", name)
	}
	return ""
}

// Hint knows where the modules of the default build belong.
func (*topLevel) Hint(name string) string { return misplaced(DefaultRegistry, name) }

// brokenSource stands for a tls block that has errors, so that listeners do not
// miss a certificate too. The file with it does not run.
type brokenSource struct{ TLSSource }

func (b *builder) context(name, listener string) *Context {
	log := b.gen.runtime.log.Named(name)
	if listener != "" && listener != name {
		log = b.gen.runtime.log.Named(listener + "." + name)
	}
	return &Context{runtime: b.gen.runtime, settings: b.gen.settings, generation: b.gen, name: name, listener: listener, log: log}
}

func (b *builder) tlsSources() {
	first := make(map[string]*config.Block)
	for _, block := range b.gen.settings.TLS {
		info, ok := b.find("tls", block.Label(0), block.LabelRange(0))
		if !ok {
			b.gen.sources = append(b.gen.sources, brokenSource{})
			continue
		}
		labels := new(tlsLabels)
		name := block.Label(0)
		if block.Label(1) != "" {
			name = block.Label(1)
		}
		if other, ok := first[name]; ok {
			b.ds.Errorf(block.DefRange, "tls/duplicate", "two tls blocks have the name %q", name).
				WithDetail("Give one of them a name of its own: tls %q \"NAME\" { … }.", block.Label(0)).
				WithRelated(other.DefRange, "the first one stands here")
			continue
		}
		first[name] = block
		source, ok := b.one(info, block, b.context(name, ""), labels).(TLSSource)
		if !ok {
			source = brokenSource{}
		}
		b.gen.sources = append(b.gen.sources, source)
	}
}

// tlsLabels are what every tls block has.
type tlsLabels struct {
	// Kind is where the certificates come from: the name of the module.
	Kind string `config:"kind,label"`
	// Name tells several blocks of one kind apart.
	Name string `config:"name,label,optional"`
}

func (b *builder) namedChains() {
	for _, block := range b.gen.settings.Chain {
		name := block.Label(0)
		if len(block.Labels) != 1 {
			b.ds.Errorf(block.DefRange, "chain/no-name", "a chain that others use has one name").
				WithDetail(`Write chain "NAME" { … } and splice it in with use "NAME" {}.`)
			continue
		}
		if first, ok := b.chains[name]; ok {
			b.ds.Errorf(block.LabelRange(0), "chain/duplicate", "two chains have the name %q", name).
				WithDetail("Give one of them another name, or move the handlers of one into the other.").
				WithRelated(first.DefRange, "the first one stands here")
			continue
		}
		b.chains[name] = block
	}
}

func (b *builder) unusedChains() []string {
	var names []string
	for name := range b.chains {
		if !b.used[name] && !b.unsure {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// listenerSettings are what the core takes from a listener block.
type listenerSettings struct {
	// Kind is the protocol: the name of the listener's module.
	Kind string `config:"kind,label"`
	// Name is what domains, logs and traces call the listener.
	Name string `config:"name,label"`
	// Chain holds the handlers, in the order in which they are asked.
	Chain *config.Block `config:"chain,block"`

	registry *Registry
}

// Hint knows where modules belong that stand beside the chain.
func (s *listenerSettings) Hint(name string) string { return misplaced(s.registry, name) }

func (b *builder) listeners() {
	first := make(map[string]*config.Block)
	for _, block := range b.gen.settings.Listener {
		name := block.Label(1)
		info, ok := b.find("listener", block.Label(0), block.LabelRange(0))
		if !ok {
			first[name], b.unsure = block, true
			continue
		}
		if other, ok := first[name]; ok && name != "" {
			b.ds.Errorf(block.LabelRange(1), "listener/duplicate", "two listeners have the name %q", name).
				WithDetail("Give one of them another name; one listener may have several addresses.").
				WithRelated(other.DefRange, "the first one stands here")
			continue
		}
		first[name] = block
		b.listener(info, name, block)
	}
	b.checkDomains(first)
	b.checkSettings()
	b.checkFamilies()
}

// listener makes the handlers between decoding and Provision: which of them can
// act depends on the settings, and Provision takes the chains.
func (b *builder) listener(info Info, name string, block *config.Block) {
	c := b.context(name, name)
	m := b.decode(info, block, &listenerSettings{registry: b.gen.runtime.registry})
	cb := &chainBuilder{builder: b, listener: name, feeds: info.Stages, log: b.gen.runtime.log.Named(name)}
	if m != nil && !takesLogins(m) {
		cb.feeds &^= mail.AtAuth
	}
	cb.needsLogin = m != nil && cb.feeds.Has(mail.StageAuth)
	if info.Stages.Has(mail.StageRcpt) && b.receives == nil {
		b.receives = block
	}
	steps := []*step{}
	if bodies := block.Blocks("chain"); len(bodies) > 0 {
		steps = cb.steps(bodies[0], nil)
		cb.check(steps, bodies[0])
	} else if info.Stages.Has(mail.StageRcpt) {
		b.ds.Errorf(block.DefRange, "chain/missing", "%s has no chain", block.Header()).
			WithDetail("Write into it, with the handlers that shall judge in front of deliver:\nchain {\n  deliver {}\n}")
	} else {
		cb.checkLogin(steps, block)
	}
	chains := cb.domainChains(steps)
	chains.info, chains.module, chains.block = info, m, block
	b.gen.chains = append(b.gen.chains, chains)
	c.chains = chains.set
	l, ok := m.(Listener)
	if ok && b.addresses(l, name, block) && b.provision(info, m, block, c) {
		b.gen.listeners = append(b.gen.listeners, &listener{name: name, module: l, block: block})
	}
}

// takesLogins tells whether clients can log in at a listener that feeds the auth
// stage.
func takesLogins(m Module) bool {
	l, ok := m.(LoginListener)
	return !ok || l.TakesLogins()
}

// checkPostmaster refuses a postmaster that cannot have a mailbox here.
func (b *builder) checkPostmaster() {
	s := b.gen.settings
	address := s.Server.Postmaster
	var names []string
	for _, domain := range s.domains.list {
		names = append(names, domain.Name)
	}
	declared := len(names)
	if s.domains.template != nil {
		declared++
	}
	if address.IsNull() || slices.Contains(names, address.Domain) || declared < len(s.Domain) {
		return
	}
	d := b.ds.Errorf(s.file.Root.Blocks("server")[0].Place("postmaster"), "server/bad-postmaster", "the postmaster %s lives in no domain of this file", address)
	if near := config.Suggest(address.Domain, names); near != "" {
		d.WithDetail("Did you mean the domain %q?", near)
	} else {
		d.WithDetail("Name an account of one of these domains: %s.", list(names))
	}
}

// checkDomains finds domain blocks that name what is not there, and a file that
// has none although mail comes in.
func (b *builder) checkDomains(listeners map[string]*config.Block) {
	var names []string
	for name := range listeners {
		names = append(names, name)
	}
	slices.Sort(names)
	if domains := b.gen.settings.domains; b.receives != nil && (len(b.gen.settings.Domain) == 0 || len(domains.list) == 0 && domains.template != nil) {
		b.ds.Warnf(b.receives.DefRange, "domain/none", "every recipient is refused here, since the file has no domain").
			WithDetail("Write domain \"example.org\" {} for each domain whose mail comes here.")
	}
	for _, domain := range b.gen.settings.domains.list {
		first := make(map[string]*config.Block)
		for _, c := range domain.Chain {
			name := c.Label(0)
			if !b.labelled(c, first, "LISTENER") || listeners[name] != nil {
				continue
			}
			d := b.ds.Errorf(c.LabelRange(0), "domain/unknown-listener", "no listener has the name %q", name)
			if near := config.Suggest(name, names); near != "" {
				d.WithDetail("Did you mean %q?", near)
			} else {
				d.WithDetail("A domain's chain is named after the listener by which the mail comes in: %s.", list(names))
			}
		}
	}
}

// labelled refuses a block of a domain that has no label, or the same as one
// before it, of which first has the blocks.
func (b *builder) labelled(block *config.Block, first map[string]*config.Block, label string) bool {
	name := block.Label(0)
	other, again := first[name]
	switch {
	case name == "":
		b.ds.Errorf(block.DefRange, "config/missing-label", "%s needs a label", block.Type).
			WithDetail("Write %s %q { … }.", block.Type, label)
	case again:
		b.ds.Errorf(block.LabelRange(0), "domain/duplicate", "this domain has %s twice", block.Header()).
			WithDetail("Move the contents of one into the other.").WithRelated(other.DefRange, "the first one stands here")
	default:
		first[name] = block
		return true
	}
	return false
}

// list joins names for a sentence.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// position says where a block stands, for traces: relative to the main file.
func (b *builder) position(block *config.Block) string { return b.positionOf(block.DefRange) }

func (b *builder) positionOf(place hcl.Range) string {
	name := place.Filename
	if relative, err := filepath.Rel(b.gen.settings.baseDir, name); err == nil {
		name = relative
	}
	return fmt.Sprintf("%s:%d", name, place.Start.Line)
}
