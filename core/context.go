package core

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// Context is what a module gets at Provision: the services of the server and
// its own place in the configuration. It is valid during Provision only.
type Context struct {
	runtime    *runtime
	settings   *settings
	generation *generation // nil for services, which outlive generations
	name       string
	listener   string
	domain     string // of the block that it stands in
	chains     *chain.Set
	log        *zap.Logger
}

// Name is the module's name in the file: its label, else its block's type.
func (c *Context) Name() string { return c.name }

// Listener is the name of the listener that the module is, or in whose chain it
// stands; "" elsewhere.
func (c *Context) Listener() string { return c.listener }

// Domain is the domain in whose block the module stands, in normal form; ""
// elsewhere.
func (c *Context) Domain() string { return c.domain }

// Logger gives a logger that names the module.
func (c *Context) Logger() *zap.Logger { return c.log }

// Store gives the database that all modules share. Under validate it is empty
// and in memory.
func (c *Context) Store() *store.Store { return c.runtime.store }

// Traces gives the log of decisions.
func (c *Context) Traces() *trace.Log { return c.runtime.traces }

// Resolver gives the DNS; a module takes it as an interface that it declares.
func (c *Context) Resolver() *dns.Resolver { return c.runtime.resolver }

// Now gives the time by the server's clock, which tests replace.
func (c *Context) Now() func() time.Time { return c.runtime.now }

// Hostname is the name by which this server calls itself.
func (c *Context) Hostname() string { return c.settings.Server.Hostname }

// DataDir is the data directory, "" under validate.
func (c *Context) DataDir() string { return c.runtime.store.Dir() }

// DataDirSetting is the data directory that the configuration names, under validate
// too: for a module that looks there for what it needs at the start.
func (c *Context) DataDirSetting() string { return c.settings.Server.DataDir }

// Path resolves a path of the configuration: relative ones stand beside the
// file that the server was started with.
func (c *Context) Path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.settings.baseDir, p)
}

// User is the user that the server becomes after the start, nil if it stays who it
// is.
func (c *Context) User() *SystemUser {
	if os.Geteuid() != 0 {
		return nil
	}
	return c.settings.user
}

// Trial tells that the module is made to be asked what it would say, and not to
// serve: at Start it makes itself known to nobody.
func (c *Context) Trial() bool { return c.runtime.lender != nil }

// Domains gives the domains that live here.
func (c *Context) Domains() *Domains { return c.settings.domains }

// Chains gives a listener its chains; nil for other modules.
func (c *Context) Chains() *chain.Set { return c.chains }

// Certificates gives a TLS configuration that asks the file's tls blocks in
// order, nil if there is none. Session tickets are disabled: a ticket of one
// listener must not resume a session on another, and some clients break off
// STARTTLS when they are sent one (golang/go#70232).
func (c *Context) Certificates() *tls.Config { return c.generation.tlsConfig() }

// Shared gives what must outlive an instance of a module: counters, pools,
// caches. The first caller under that name makes it; it is closed when no
// configuration uses it any more. A value of another type under that name is an
// error.
func Shared[T interface{ Close() error }](c *Context, name string, make func() (T, error)) (T, error) {
	value, err := c.generation.share(name, func() (closer, error) { return make() })
	if err != nil {
		var none T
		return none, err
	}
	t, ok := value.(T)
	if !ok {
		return t, fmt.Errorf("shared value %q is a %T: another module uses this name", name, value)
	}
	return t, nil
}

// Service finds the service module that implements T, an interface that the
// caller declares. Services are made when the server starts and live as long as
// it does; at Provision all of them are there, and none is started.
func Service[T any](c *Context) (T, error) { return serviceOf[T](c.runtime) }

// Services finds all service modules that implement T, in the order of their
// IDs; see Service.
func Services[T any](c *Context) []T {
	var list []T
	for _, m := range c.runtime.services {
		if t, ok := m.(T); ok {
			list = append(list, t)
		}
	}
	return list
}

func serviceOf[T any](r *runtime) (T, error) {
	for _, m := range r.services {
		if t, ok := m.(T); ok {
			return t, nil
		}
	}
	var none T
	return none, fmt.Errorf("no module of this build is a service of the kind %T: add the one that the handler needs to the build", &none)
}
