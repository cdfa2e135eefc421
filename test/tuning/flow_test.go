// Package tuning_test changes settings of domains while mail flows through real
// modules.
package tuning_test

import (
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
	"github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/deliver"
	"github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/ratelimit"
	_ "github.com/mox-like/mox-like/modules/smtp"
)

// lives are what the instances of gauge of one server went through.
type lives struct {
	provisioned, started, cleaned atomic.Int64
	again, late, handled          atomic.Int64 // cleaned up twice; asked after that; asked
}

// gauge is a handler that watches its own life.
type gauge struct {
	Text string `config:"text" default:"plain"`

	lives   *lives
	running atomic.Bool
	gone    atomic.Bool
}

func (g *gauge) Module() core.Info { return core.Info{ID: "handler.gauge"} }

func (g *gauge) Provision(*core.Context) error {
	g.lives.provisioned.Add(1)
	return nil
}

func (g *gauge) Start() error {
	g.lives.started.Add(1)
	g.running.Store(true)
	return nil
}

func (g *gauge) Cleanup() error {
	g.lives.cleaned.Add(1)
	if g.gone.Swap(true) {
		g.lives.again.Add(1)
	}
	return nil
}

func (g *gauge) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	g.lives.handled.Add(1)
	if !g.running.Load() || g.gone.Load() {
		g.lives.late.Add(1)
	}
	return mail.Continue(g.Text), nil
}

type describe struct{ info core.Info }

func (d describe) Module() core.Info { return d.info }

// build is the modules of the test, with a gauge that counts in l.
func build(l *lives) *core.Registry {
	r := new(core.Registry)
	for _, id := range []string{"listener.smtp", "handler.deliver", "handler.ratelimit", "service.accounts", "service.mailbox", "service.ratelimit"} {
		if info, ok := core.DefaultRegistry.Find(id); ok {
			r.Register(describe{info})
		}
	}
	r.Register(describe{core.Info{ID: "handler.gauge", Stages: mail.AtRcpt | mail.AtData, New: func() core.Module { return &gauge{lives: l} }}})
	return r
}

const flow = `
server {
  hostname = "mx.example.test"
}
domain "example.test" {}
domain "other.test" {}
listener "smtp" "mx" {
  address = ["127.0.0.1:0"]
  limits { connections_per_network = 100 }
  chain {
    gauge {}
    ratelimit "recipients" {
      key   = ["ip", "rcpt"]
      limit = "100000/1h"
    }
    deliver {}
  }
}
`

// send sends messages, one after the other, over one connection.
func send(server *core.Server, messages int) error {
	c, err := smtp.Dial(server.Addresses("mx")[0].String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for i := range messages {
		if err := sendOne(c, i); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	return c.Quit()
}

func sendOne(c *smtp.Client, i int) error {
	if err := c.Mail("sender@example.net"); err != nil {
		return err
	}
	if err := c.Rcpt("alice@example.test"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "Subject: message %d\r\n\r\nHello.\r\n", i); err != nil {
		return err
	}
	return w.Close()
}

// Mail flows through chains that change all the time: none is lost, none is
// refused, and each instance lives once.
func TestPerDomainChangeWhileMailFlows(t *testing.T) {
	t.Parallel()
	l := new(lives)
	s := core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: []byte(flow), DataDir: filepath.Join(t.TempDir(), "data"), Registry: build(l), Logger: zap.NewNop(),
	})
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	if err := coretest.Service[*accounts.Accounts](t, s).Add(t.Context(), "alice@example.test", "correct horse"); err != nil {
		t.Fatal(err)
	}
	const clients, messages = 4, 100
	var flows sync.WaitGroup
	for range clients {
		flows.Go(func() {
			if err := send(s, messages); err != nil {
				t.Errorf("a client: %v", err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { flows.Wait(); close(ended) }()
	changes := 0
	for flowing := true; flowing; {
		for _, domain := range []string{"example.test", "*"} {
			text, limit := fmt.Sprintf(`"text %d"`, changes), fmt.Sprintf(`"%d/1h"`, 100_000+changes)
			ds, _, err := s.Tuning().Change(t.Context(), tuning.Request{Domain: domain, Actor: "test", Changes: []tuning.Change{
				{Key: tuning.Key{Handler: "gauge", Attribute: "text"}, Value: &text},
				{Key: tuning.Key{Handler: "recipients", Attribute: "limit"}, Value: &limit},
			}})
			if err != nil {
				t.Fatal(err, ds.Err())
			}
			changes++
		}
		if _, _, err := s.Tuning().Rollback(t.Context(), "example.test", 0, "test"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
			flowing = false
		default:
		}
	}
	if got := delivered(t, s); got != clients*messages {
		t.Errorf("%d of %d messages are in the mailbox", got, clients*messages)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if l.again.Load() > 0 || l.late.Load() > 0 || l.provisioned.Load() != l.cleaned.Load() {
		t.Errorf("%d cleaned up twice, %d asked while not running, %d provisioned and %d cleaned up",
			l.again.Load(), l.late.Load(), l.provisioned.Load(), l.cleaned.Load())
	}
	if changes < 4 || l.started.Load() < int64(changes) {
		t.Errorf("only %d changes, %d instances started", changes, l.started.Load())
	}
	if l.handled.Load() != 2*clients*messages {
		t.Errorf("asked %d times", l.handled.Load())
	}
}

func delivered(t *testing.T, s *core.Server) int {
	t.Helper()
	account, err := coretest.Service[*mailbox.Service](t, s).Open(t.Context(), "alice@example.test")
	if err != nil {
		t.Fatal(err)
	}
	status, err := account.Status(t.Context(), "INBOX", &imap.StatusOptions{NumMessages: true})
	if err != nil {
		t.Fatal(err)
	}
	return int(*status.NumMessages)
}

// A limit of a rate of one domain, by a module that knows nothing of it.
func TestPerDomainLimitOfARealModule(t *testing.T) {
	t.Parallel()
	s := core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: []byte(flow), DataDir: filepath.Join(t.TempDir(), "data"), Registry: build(new(lives)), Logger: zap.NewNop(),
	})
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	for _, user := range []string{"alice@example.test", "bob@other.test"} {
		if err := coretest.Service[*accounts.Accounts](t, s).Add(t.Context(), user, "correct horse"); err != nil {
			t.Fatal(err)
		}
	}
	bad, good := `"0/1h"`, `"2/1h"`
	change := func(value *string) error {
		ds, sources, err := s.Tuning().Change(t.Context(), tuning.Request{Domain: "example.test", Actor: "test", Changes: []tuning.Change{
			{Key: tuning.Key{Handler: "recipients", Attribute: "limit"}, Value: value},
		}})
		if err != nil && (len(ds) == 0 || sources[ds[0].Range.Filename] == nil) {
			t.Errorf("no place: %v", ds)
		}
		return err
	}
	if err := change(&bad); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("a bad limit: %v", err)
	}
	if err := change(&good); err != nil {
		t.Fatal(err)
	}
	c, err := smtp.Dial(s.Addresses("mx")[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i, want := range []bool{true, true, false, false} {
		if err := sendOne(c, i); (err == nil) != want {
			t.Errorf("message %d to a limited domain: %v", i, err)
		}
		if err := c.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Mail("sender@example.net"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := c.Rcpt("bob@other.test"); err != nil {
			t.Errorf("another domain: %v", err)
		}
	}
}
