package core

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/logkey"
)

// DomainModules gives the modules of a domain's block that are a T, an interface or
// type of the caller's, in the order of the file. A handler finds all of them at
// Provision, a module of the domain those in front of it. The name is in normal
// form; a domain that does not live here has none.
func DomainModules[T any](c *Context, domain string) []T {
	if c.generation == nil {
		return nil // a service outlives what the file says of domains
	}
	return modulesOf[T](c.generation.domainModules[domain])
}

// DomainModulesOf gives the modules of a domain's block of a host, as DomainModules
// does: those of the configuration in force, or, where no server runs, those that the
// file has now, which are not started then. They are for looking at, and good until a
// reload. The error is ErrInvalid if the file has errors there.
func DomainModulesOf[T any](ctx context.Context, h Host, domain string) ([]T, error) {
	modules, err := h.domainModules(ctx, domain)
	return modulesOf[T](modules), err
}

func modulesOf[T any](modules []Module) []T {
	var list []T
	for _, m := range modules {
		if t, ok := m.(T); ok {
			list = append(list, t)
		}
	}
	return list
}

// domainModules makes the modules in the blocks of all domains.
func (b *builder) domainModules() {
	for _, d := range b.gen.settings.domains.list {
		b.modulesIn(d)
	}
}

// modulesIn makes the modules in the block of a domain.
func (b *builder) modulesIn(d *Domain) {
	for _, block := range d.Modules {
		info, ok := b.gen.runtime.registry.Find("domain." + block.Type)
		if !ok {
			b.unknownInDomain(d, block)
			continue
		}
		name := block.Type
		if block.Label(0) != "" {
			name = block.Label(0)
		}
		c := b.context(name, "")
		c.domain, c.log = d.Name, c.log.With(zap.String(logkey.Domain, d.Name))
		if m := b.one(info, block, c); m != nil {
			if b.gen.domainModules == nil {
				b.gen.domainModules = make(map[string][]Module)
			}
			b.gen.domainModules[d.Name] = append(b.gen.domainModules[d.Name], m)
		}
	}
}

// unknownInDomain says what to do about a block that a domain does not have.
func (b *builder) unknownInDomain(d *Domain, block *config.Block) {
	registry := b.gen.runtime.registry
	found := b.ds.Errorf(block.TypeRange, "config/unknown-block", "%s has no block %q", d.block.Header(), block.Type)
	names := []string{"chain", "settings"}
	for _, m := range registry.Modules("domain") {
		names = append(names, m.Name())
	}
	slices.Sort(names)
	if way := misplaced(registry, block.Type); way != "" {
		found.WithDetail("%s", way)
	} else if near := config.Suggest(block.Type, append([]string{"aliases", "catch_all"}, names...)); near != "" {
		found.WithDetail("Did you mean %q?", near)
	} else {
		found.WithDetail("Its blocks are: %s.", list(names))
	}
}

// domainModules gives those in force.
func (s *Server) domainModules(_ context.Context, domain string) ([]Module, error) {
	run := s.inForce()
	if run == nil {
		return nil, errStopped
	}
	return run.domainModules[domain], nil
}

// domainModules makes those of one domain, which need nothing else of the file to be
// right, when they are first asked for.
func (o *Offline) domainModules(ctx context.Context, domain string) ([]Module, error) {
	d, ok := o.settings.domains.Find(domain)
	if !ok {
		return nil, nil
	}
	if err := o.making.take(ctx); err != nil {
		return nil, fmt.Errorf("wait for another look at the file: %w", err)
	}
	defer o.making.pass()
	if gen, ok := o.made[domain]; ok {
		return gen.domainModules[domain], nil
	}
	b := newBuilder(o.runtime, o.settings)
	b.modulesIn(d)
	if b.ds.HasErrors() {
		return nil, joinClose(&fileError{ds: b.ds.Unique(), sources: o.settings.file.Sources}, b.gen)
	}
	o.made[domain] = b.gen
	return b.gen.domainModules[domain], nil
}

// joinClose cleans up what was made in vain.
func joinClose(err error, gen *generation) error {
	if second := gen.close(); second != nil {
		return fmt.Errorf("%w; and then: %w", err, second)
	}
	return err
}

// domainModules gives those that the sandbox has started.
func (s *Sandbox) domainModules(_ context.Context, domain string) ([]Module, error) { //nolint:unparam // in the form of Host
	return s.gen.domainModules[domain], nil
}
