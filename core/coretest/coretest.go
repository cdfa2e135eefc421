// Package coretest is the test kit for modules: it makes a single module with
// everything that a server would give it, or runs a whole server on loopback. Its
// conformance suite, TestHandler, is what every handler must pass; Faulty is a
// backend in trouble.
package coretest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// Base is the configuration that a kit has unless Source replaces it: one
// domain, example.test.
const Base = `
server {
  hostname = "mx.example.test"
}
domain "example.test" {}
`

// Options change what New and Serve make.
type Options struct {
	// Source replaces Base.
	Source string
	// OnDisk gives New a store in a temporary directory instead of memory.
	OnDisk bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Variables are the values of the file's variables.
	Variables map[string]string
	// DataDir replaces the temporary directory of Serve.
	DataDir string
}

// New makes a sandbox for modules; it is closed when the test ends.
func New(tb testing.TB, o Options) *core.Sandbox {
	tb.Helper()
	if o.Source == "" {
		o.Source = Base
	}
	options := core.SandboxOptions{Source: o.Source, Now: o.Now, Logger: logger(tb)}
	if o.OnDisk {
		options.DataDir = tb.TempDir()
	}
	s, err := core.NewSandbox(tb.Context(), options)
	if err != nil {
		tb.Fatalf("make sandbox: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close sandbox: %v", err)
		}
	})
	return s
}

// Load makes and starts a module from the one block in source. T is the
// module's type or an interface that it implements.
func Load[T any](tb testing.TB, s *core.Sandbox, id, source string) T {
	tb.Helper()
	m, err := s.Load(tb.Context(), id, source)
	if err != nil {
		tb.Fatalf("load %s: %v", id, err)
	}
	typed, ok := m.(T)
	if !ok {
		tb.Fatalf("load %s: it is a %T", id, m)
	}
	return typed
}

// Service gives a service of the sandbox or server.
func Service[T any](tb testing.TB, h core.Host) T {
	tb.Helper()
	service, err := core.ServiceOf[T](h)
	if err != nil {
		tb.Fatalf("find service: %v", err)
	}
	return service
}

// Serve runs a whole server with the configuration in source and stops it when
// the test ends.
func Serve(tb testing.TB, source string, o Options) *core.Server {
	tb.Helper()
	s := core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: []byte(source), DataDir: dataDir(tb, o),
		Config: config.Options{Variables: o.Variables}, Logger: logger(tb), Now: o.Now,
	})
	if ds, _, err := s.Start(tb.Context()); err != nil {
		tb.Fatalf("start server: %v\n%v", err, ds.Err())
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 20*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			tb.Errorf("stop server: %v", err)
		}
	})
	return s
}

// Address gives the first address of a listener.
func Address(tb testing.TB, s *core.Server, listener string) string {
	tb.Helper()
	addresses := s.Addresses(listener)
	if len(addresses) == 0 {
		tb.Fatalf("listener %q has no address", listener)
	}
	return addresses[0].String()
}

// dataDir gives the data directory of a server, which makes it with its own mode.
func dataDir(tb testing.TB, o Options) string {
	tb.Helper()
	if o.DataDir != "" {
		return o.DataDir
	}
	return filepath.Join(tb.TempDir(), "data")
}

// logger writes to the test's log what a person should look at.
func logger(tb testing.TB) *zap.Logger {
	tb.Helper()
	return zaptest.NewLogger(tb, zaptest.Level(zap.WarnLevel))
}
