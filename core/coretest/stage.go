package coretest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// The names of what stands around a handler under test.
const (
	listenerOne  = "one"
	listenerTwo  = "two"
	listenerKind = "suite"
	targetName   = "suite_target"
)

const allStages = mail.AtConnect | mail.AtHelo | mail.AtAuth | mail.AtMail | mail.AtRcpt | mail.AtData

// served is a listener of a generation that serves, with its chains.
type served struct {
	listener string
	chains   *chain.Set
}

// quiet is a listener that speaks no protocol: it tells the suite which chains
// it was given once it serves.
type quiet struct {
	// Address is a port on loopback.
	Address []string `config:"address,required"`

	name   string
	chains *chain.Set
	serves chan<- served
}

func (*quiet) Module() core.Info { return core.Info{ID: "listener." + listenerKind} }

func (q *quiet) Provision(c *core.Context) error {
	q.name, q.chains = c.Listener(), c.Chains()
	return nil
}

func (q *quiet) Sockets() []string { return q.Address }

func (q *quiet) Serve(_ context.Context, l net.Listener) error {
	q.serves <- served{q.name, q.chains}
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}

func (*quiet) Drain(context.Context) error { return nil }

// target takes all that a handler under test lets pass.
type target struct{}

func (*target) Module() core.Info { return core.Info{ID: "handler." + targetName} }

func (*target) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept("taken"), nil
}

// described registers a module by its description.
type described struct{ info core.Info }

func (d described) Module() core.Info { return d.info }

// newRegistry holds all modules of the test's build and those of the suite.
func newRegistry(serves chan<- served) *core.Registry {
	r := new(core.Registry)
	for _, info := range core.DefaultRegistry.Modules("") {
		r.Register(described{info})
	}
	r.Register(described{core.Info{
		ID: "listener." + listenerKind, Stages: allStages,
		New: func() core.Module { return &quiet{serves: serves} },
	}})
	r.Register(described{core.Info{
		ID: "handler." + targetName, Stages: mail.AtRcpt | mail.AtData, Target: true,
		New: func() core.Module { return new(target) },
	}})
	return r
}

// stage is a server around a handler, which stands in the chains of two
// listeners.
type stage struct {
	*core.Server
	serves chan served
	// chain is that of the first listener, in the generation that serves.
	chain *chain.Chain
}

// patience is how long the suite waits for what comes at once unless something
// is broken.
const patience = 20 * time.Second

// newStage starts a server.
func newStage(tb testing.TB, source string, o Options) *stage {
	tb.Helper()
	s := &stage{serves: make(chan served, 8)}
	s.Server = core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: []byte(source), DataDir: dataDir(tb, o), Registry: newRegistry(s.serves),
		Config: config.Options{Variables: o.Variables}, Logger: logger(tb), Now: o.Now,
	})
	if ds, _, err := s.Start(tb.Context()); err != nil {
		tb.Fatalf("start server: %v\n%v\n%s", err, ds.Err(), source)
	}
	return s
}

// handlers waits until a generation serves and gives the handler's steps at both
// listeners.
func (s *stage) handlers(tb testing.TB) (one, two *chain.Step) {
	tb.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for one == nil || two == nil {
		select {
		case l := <-s.serves:
			c := l.chains.Domain("")
			if l.listener == listenerOne {
				s.chain, one = c, c.Steps()[0]
			} else {
				two = c.Steps()[0]
			}
		case <-timer.C:
			tb.Fatal("the server does not serve")
		}
	}
	return one, two
}

// stop ends the server.
func (s *stage) stop(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Errorf("stop server: %v", err)
	}
}
