// Package core is the framework that mox-like is made of: a registry of
// modules, their life cycle, and the running server that loads a configuration,
// swaps it for another and stops.
//
// The core knows no module. It reads the configuration (core/config), builds
// the modules that the file names, puts the handlers into chains (core/chain)
// and gives the listeners their sockets.
package core

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// Module is a unit of the server that the configuration can name. Its value is
// its configuration: the struct that New returns is decoded from the block, see
// package config for the tags. What else a module does, it says by implementing
// Provisioner, Validator, Starter, Cleaner, and one of Handler, Listener,
// TLSSource or a service's interface.
type Module interface {
	Module() Info
}

// Info describes a module to the registry.
type Info struct {
	// ID is namespace.name, such as handler.greylist. Namespaces are handler,
	// listener, tls, domain (blocks inside that of a domain) and service. The name is
	// the block's type in the file.
	ID string
	// Stages are those at which a handler may act, and for a listener those that
	// it feeds. Without a stage attribute in the file a handler acts at all of
	// them.
	Stages mail.Stages
	// StageAttribute lets the file choose one of Stages by the attribute stage;
	// DefaultStages then hold where it is absent.
	StageAttribute bool
	DefaultStages  mail.Stages
	// Target marks a handler that takes recipients in charge at the rcpt stage
	// and makes the message durable for them at the data stage.
	Target bool
	// Edits marks a handler that adds, changes or removes header fields. Signs marks
	// one that signs the message as it is then, so that those which edit belong in
	// front of it. Rewrites marks one that may put another message or other
	// recipients in the place of those that came, which it cannot do in parallel.
	Edits, Signs, Rewrites bool
	// Holds marks one that takes recipients in charge at the data stage although it is
	// no target, as a quarantine does. It cannot stand in parallel either.
	Holds bool
	// Conditional marks a handler that says the same about everything: without when,
	// what stands behind it is of no use.
	Conditional bool
	// Authenticates marks a handler that can find, at the auth stage, that a client
	// is the user that it claims to be.
	Authenticates bool
	// Looks names the attributes and nested blocks whose values have Provision or
	// Validate look at files beside the configuration, or at the users of the machine;
	// "" means that they do so in any case. 'validate --offline' does not call them
	// where the block has one of these.
	Looks []string
	// Timeout bounds each call of a handler that asks a backend, where the file
	// has no timeout attribute; 0 leaves the stage's own deadline.
	Timeout time.Duration
	// New gives an empty value, a pointer to a struct, and does nothing else.
	New func() Module
}

// Namespace is the part of the ID before the dot.
func (i Info) Namespace() string { ns, _, _ := strings.Cut(i.ID, "."); return ns }

// Name is the part of the ID after the dot.
func (i Info) Name() string { _, name, _ := strings.Cut(i.ID, "."); return name }

// Registry holds the modules of a build. It is safe for concurrent use.
type Registry struct {
	mu      sync.RWMutex
	modules map[string]Info
}

// DefaultRegistry is the one that Register fills and the commands use.
var DefaultRegistry = new(Registry)

// Register adds a module to the default registry; modules call it in init. A
// malformed or duplicate ID panics, since it is a mistake of the build.
func Register(m Module) { DefaultRegistry.Register(m) }

var validID = regexp.MustCompile(`^(handler|listener|tls|domain|service)\.[a-z][a-z0-9_]*$`)

// Register adds a module, see the function of that name.
func (r *Registry) Register(m Module) {
	info := m.Module()
	if !validID.MatchString(info.ID) {
		panic(fmt.Sprintf("core: module ID %q is not of the form namespace.name", info.ID))
	}
	if info.New == nil {
		panic(fmt.Sprintf("core: module %s has no New", info.ID))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.modules[info.ID]; ok {
		panic(fmt.Sprintf("core: module %s is registered twice", info.ID))
	}
	if r.modules == nil {
		r.modules = make(map[string]Info)
	}
	r.modules[info.ID] = info
}

// Find gives the module of that ID.
func (r *Registry) Find(id string) (Info, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	info, ok := r.modules[id]
	return info, ok
}

// Modules lists the modules of a namespace, of all if it is "", by ID.
func (r *Registry) Modules(namespace string) []Info {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var list []Info
	for _, info := range r.modules {
		if namespace == "" || info.Namespace() == namespace {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.ID, b.ID) })
	return list
}
