package core

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
)

// generation is everything that one version of the file made: modules and their
// chains. A reload makes a new one beside it.
type generation struct {
	runtime  *runtime
	settings *settings
	// modules are in the order in which they were made: started in it, cleaned up
	// in reverse.
	modules   []*instance
	listeners []*listener
	chains    []*listenerChains // of each listener
	sources   []TLSSource
	// domainModules are those in the blocks of domains, by domain.
	domainModules map[string][]Module
	shared        []string // names of shared values that it holds
	tuned         *tuned   // settings of the database, from start on
}

// instance is one module of the file, or a service.
type instance struct {
	module Module
	name   string
	block  *config.Block // nil for services
	// off says that its handler is disabled, so that it is not started.
	off bool
}

// listener is a listener block with its module.
type listener struct {
	name   string
	module Listener
	block  *config.Block
}

// start migrates and starts the modules, and then makes what the database sets for
// domains. After an error those that were started are to be cleaned up by close, as
// are the others.
func (g *generation) start(ctx context.Context) error {
	if err := startAll(ctx, g.runtime, g.modules); err != nil {
		return err
	}
	g.tuned = newTuned(g, false)
	return g.tuned.load(ctx, g.runtime.tuning)
}

func startAll(ctx context.Context, r *runtime, modules []*instance) error {
	migrated := make(map[string]bool)
	for _, i := range modules {
		m, ok := i.module.(Migrator)
		if !ok || migrated[i.module.Module().ID] {
			continue
		}
		migrated[i.module.Module().ID] = true
		if err := r.store.Migrate(ctx, m.Migrations()); err != nil {
			return fmt.Errorf("migrate tables of %s: %w", i.describe(), err)
		}
	}
	return startModules(modules)
}

func startModules(modules []*instance) error {
	for _, i := range modules {
		if s, ok := i.module.(Starter); ok && !i.off {
			if err := i.guard("start", s.Start); err != nil {
				return err
			}
		}
	}
	return nil
}

// close cleans everything up in reverse order and lets go of what is shared.
func (g *generation) close() error {
	err := errors.Join(g.tuned.close(), cleanupAll(g.modules))
	for _, name := range g.shared {
		err = errors.Join(err, g.runtime.release(name))
	}
	g.modules, g.shared = nil, nil
	return err
}

func cleanupAll(modules []*instance) error {
	var all error
	for _, module := range slices.Backward(modules) {
		if c, ok := module.module.(Cleaner); ok {
			all = errors.Join(all, module.guard("clean up", c.Cleanup))
		}
	}
	return all
}

// guard calls a step of a module's life, names the module in its error and turns
// a panic into one.
func (i *instance) guard(step string, call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s %s: panic: %v\n%s", step, i.describe(), r, debug.Stack())
		}
	}()
	if err := call(); err != nil {
		return fmt.Errorf("%s %s: %w", step, i.describe(), err)
	}
	return nil
}

// describe names the module and its place for an error.
func (i *instance) describe() string {
	id := i.module.Module().ID
	if i.block == nil {
		return id
	}
	return fmt.Sprintf("%s (%s:%d)", id, i.block.DefRange.Filename, i.block.DefRange.Start.Line)
}

// share gives a value that outlives the generation, and holds it.
func (g *generation) share(name string, make func() (closer, error)) (closer, error) {
	if g == nil {
		return nil, fmt.Errorf("share %q: a service lives as long as the server and has no need to", name)
	}
	value, err := g.runtime.acquire(name, make)
	if err != nil {
		return nil, err
	}
	g.shared = append(g.shared, name)
	return value, nil
}

// tlsConfig asks the TLS sources in the order of the file.
func (g *generation) tlsConfig() *tls.Config {
	if g == nil || len(g.sources) == 0 {
		return nil
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		GetCertificate:         g.certificate,
	}
}

// certificate gives the first source's that has one for the name; a client that
// asks for a name that nobody has gets the first of all, since many ask for
// none or for the wrong one and do not check.
func (g *generation) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	for _, source := range g.sources {
		if cert, err := source.Certificate(hello); cert != nil || err != nil {
			return cert, err
		}
	}
	anyName := *hello
	anyName.ServerName = ""
	for _, source := range g.sources {
		if cert, err := source.Certificate(&anyName); cert != nil || err != nil {
			return cert, err
		}
	}
	g.runtime.log.Warn("no certificate for client", zap.String("server_name", hello.ServerName))
	return nil, errors.New("no certificate for this client")
}
