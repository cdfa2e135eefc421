package core_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// journal is what the modules of a test did, in order.
type journal struct {
	mu    sync.Mutex
	lines []string      // guarded by mu
	added chan struct{} // guarded by mu, closed at the next line

	held chan struct{} // a start that hangs waits until it is closed
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
	if j.added != nil {
		close(j.added)
		j.added = nil
	}
}

// await takes a line out, once it is there.
func (j *journal) await(t testing.TB, line string) {
	t.Helper()
	for {
		j.mu.Lock()
		if i := slices.Index(j.lines, line); i >= 0 {
			j.lines = slices.Delete(j.lines, i, i+1)
			j.mu.Unlock()
			return
		}
		if j.added == nil {
			j.added = make(chan struct{})
		}
		added := j.added
		j.mu.Unlock()
		select {
		case <-added:
		case <-t.Context().Done():
			t.Fatalf("never happened: %s", line)
		}
	}
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return lines
}

// probe is a handler that writes down its life.
type probe struct {
	Text  string `config:"text" default:"plain"`
	Fails string `config:"fails" values:",provision,validate,start,panic,hang" default:""`

	journal *journal
	name    string
	counter *counter
}

type counter struct {
	journal *journal
	n       int
}

func (c *counter) Close() error {
	c.journal.add("counter closed at %d", c.n)
	return nil
}

func (*probe) Module() core.Info { return core.Info{ID: "handler.probe"} }

func (p *probe) Provision(c *core.Context) error {
	p.name = c.Name()
	switch p.Fails {
	case "provision":
		return errors.New("no provision today")
	case "panic":
		panic("provision fell over")
	}
	p.journal.add("provision %s", p.name)
	var err error
	p.counter, err = core.Shared(c, "probes", func() (*counter, error) { return &counter{journal: p.journal}, nil })
	return err
}

func (p *probe) Validate() core.Problems {
	var problems core.Problems
	if p.Fails == "validate" {
		problems.Errorf("text", "the text %q does not please", p.Text)
	}
	return problems
}

func (p *probe) Start() error {
	if p.Fails == "start" {
		return errors.New("no start today")
	}
	if p.Fails == "hang" {
		p.journal.add("hang %s", p.name)
		<-p.journal.held
	}
	p.counter.n++
	p.journal.add("start %s", p.name)
	return nil
}

func (p *probe) Cleanup() error {
	p.journal.add("cleanup %s", p.name)
	return nil
}

func (p *probe) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return mail.Continue(p.Text), nil
}

// sink is a target.
type sink struct{}

func (*sink) Module() core.Info { return core.Info{ID: "handler.sink"} }

func (*sink) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept(""), nil
}

// liner is a listener: each line that it reads is a recipient, and the answer
// lists the reasons of the handlers that were asked. "QUIT" ends the session.
type liner struct {
	Address []string `config:"address,required"`
	Deaf    bool     `config:"deaf"` // does not hear that its socket is closed

	chains   *chain.Set
	sessions sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool // guarded by mu
}

func (*liner) Module() core.Info { return core.Info{ID: "listener.liner"} }

func (l *liner) Provision(c *core.Context) error {
	l.chains, l.conns = c.Chains(), make(map[net.Conn]bool)
	return nil
}

func (l *liner) Sockets() []string { return l.Address }

func (l *liner) Serve(ctx context.Context, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			if l.Deaf {
				<-ctx.Done()
			}
			return nil
		}
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.conns[conn] = true
		l.mu.Unlock()
		l.sessions.Go(func() {
			defer conn.Close()
			l.session(ctx, conn)
		})
	}
}

func (l *liner) session(ctx context.Context, conn net.Conn) {
	for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != "QUIT"; {
		tx := mail.NewTransaction("t", &mail.Session{}, tx0)
		address, err := mail.ParseAddress(lines.Text())
		if err != nil {
			fmt.Fprintln(conn, err)
			continue
		}
		tx.Recipient = &mail.Recipient{Address: address}
		l.chains.Run(ctx, mail.StageRcpt, tx)
		for _, e := range tx.Entries {
			fmt.Fprintf(conn, "%s=%s;", e.Handler, e.Reason)
		}
		fmt.Fprintln(conn)
	}
}

func (l *liner) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() { l.sessions.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	for conn := range l.conns {
		_ = conn.Close()
	}
	l.mu.Unlock()
	<-done
	return ctx.Err()
}

// newRegistry holds the fakes, which write into j.
func newRegistry(j *journal) *core.Registry {
	r := new(core.Registry)
	r.Register(describe{core.Info{ID: "handler.probe", Stages: mail.AtRcpt | mail.AtData, New: func() core.Module { return &probe{journal: j} }}})
	r.Register(describe{core.Info{ID: "handler.sink", Stages: mail.AtRcpt | mail.AtData, Target: true, New: func() core.Module { return new(sink) }}})
	r.Register(describe{core.Info{ID: "handler.greeter", Stages: mail.AtConnect, New: func() core.Module { return &probe{journal: j} }}})
	r.Register(describe{core.Info{ID: "listener.liner", Stages: mail.AtRcpt | mail.AtData, New: func() core.Module { return new(liner) }}})
	return r
}

type describe struct{ info core.Info }

func (d describe) Module() core.Info { return d.info }

// client speaks to a liner.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Scanner
}

func dial(t testing.TB, address net.Addr) *client {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), address.Network(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t: t, conn: conn, in: bufio.NewScanner(conn)}
}

func (c *client) ask(line string) string {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		c.t.Fatal(err)
	}
	if !c.in.Scan() {
		c.t.Fatalf("session ended: %v", c.in.Err())
	}
	return c.in.Text()
}
