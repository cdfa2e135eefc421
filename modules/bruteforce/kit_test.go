package bruteforce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/blocklist"
	"github.com/mox-like/mox-like/modules/password"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const (
	alice = "alice@example.test"
	bob   = "bob@example.test"
	right = "right"
	wrong = "wrong"
	phone = "mlx-phone" // an app password of alice

	atHome   = "192.0.2.10"
	cafe     = "192.0.2.20"
	attacker = "198.51.100.66"
)

// users stands for the service of the accounts: alice and bob have the password
// "right". It counts the checks, of which each is one hash.
type users struct {
	checks  atomic.Int64
	guesses atomic.Int64 // with the password that the client gave
	fail    atomic.Bool
	wait    chan struct{} // nil, or what a check waits for
	settled chan struct{} // what it tells before
}

func (a *users) Module() core.Info {
	return core.Info{ID: "service.accounts", New: func() core.Module { return a }}
}

func (a *users) Verify(_ context.Context, _ *mail.Session, c *mail.Credentials) (accounts.Answer, error) {
	if a.wait != nil {
		a.settled <- struct{}{}
		<-a.wait
	}
	a.checks.Add(1)
	a.guesses.Add(1)
	if a.fail.Load() {
		return accounts.Answer{}, errors.New("disk is gone")
	}
	if user := strings.ToLower(c.Username); user == alice || user == bob {
		if c.Proof == nil && c.Password == phone && user == alice {
			c.AppPassword = "phone"
			return accounts.Answer{Address: user, OK: true}, nil
		}
		return accounts.Answer{Address: user, OK: c.Password == right || c.Proof != nil && c.Proof.Verify(nil, nil)}, nil
	}
	return accounts.Answer{}, nil
}

// LooksLikeAppPassword is for passwords that begin as those of alice's programs do.
func (a *users) LooksLikeAppPassword(password mail.Secret) bool {
	return strings.HasPrefix(password.Reveal(), "mlx-")
}

func (a *users) Spend(context.Context, *mail.Session) error {
	a.checks.Add(1)
	if a.fail.Load() {
		return errors.New("disk is gone")
	}
	return nil
}

// server is a chain of the real handlers and services, on a clock.
type server struct {
	t        testing.TB
	clock    *coretest.Clock
	accounts *users
	sandbox  *core.Sandbox
	service  *Service
	blocks   *blocklist.Service
	handler  *Bruteforce
	steps    []*chain.Step
	chain    *chain.Chain
	stop     func()
}

type options struct {
	settings string
	dir      string
	clock    *coretest.Clock
	monitor  bool
}

func serve(t testing.TB, o options) *server {
	t.Helper()
	s := &server{t: t, clock: o.clock, accounts: new(users)}
	if s.clock == nil {
		s.clock = coretest.NewClock(start)
	}
	registry := new(core.Registry)
	for _, m := range []core.Module{new(Service), new(Bruteforce), new(blocklist.Service), new(password.Password), s.accounts} {
		registry.Register(m)
	}
	sandbox, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, Registry: registry, DataDir: o.dir, Now: s.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	s.sandbox = sandbox
	s.stop = sync.OnceFunc(func() {
		if err := sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	s.service = coretest.Service[*Service](t, sandbox)
	s.blocks = coretest.Service[*blocklist.Service](t, sandbox)
	s.handler = coretest.Load[*Bruteforce](t, sandbox, "handler.bruteforce", "bruteforce {\n"+o.settings+"\n}")
	s.steps = []*chain.Step{
		{Name: "bruteforce", Handler: s.handler, Stages: mail.AtConnect | mail.AtAuth, Monitor: o.monitor},
		{Name: "password", Handler: coretest.Load[*password.Password](t, sandbox, "handler.password", "password {}"), Stages: mail.AtAuth},
	}
	s.chain = chain.New(s.steps, chain.Options{})
	return s
}

// answer is what a client got.
type answer struct {
	mail.Outcome
	entries []mail.Entry
}

// own gives the reason of the handler under test.
func (a answer) own() string {
	for _, e := range a.entries {
		if e.Handler == "bruteforce" {
			return e.Reason
		}
	}
	return ""
}

func (s *server) run(stage mail.Stage, addr string, c *mail.Credentials) answer {
	session := &mail.Session{ID: "session"}
	if addr != "" {
		session.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
	}
	tx := mail.NewTransaction(session.ID, session, s.clock.Now())
	tx.Credentials = c
	o := s.chain.Run(s.t.Context(), stage, tx)
	return answer{o, tx.Entries}
}

// login connects and logs in; code is 0 if it succeeds.
func (s *server) login(addr, user string, pass mail.Secret) (code int) {
	if a := s.run(mail.StageConnect, addr, nil); a.Refused() {
		return a.Reply.Code
	}
	return s.auth(addr, user, pass).Reply.Code
}

// auth logs in on a connection that is open.
func (s *server) auth(addr, user string, pass mail.Secret) answer {
	return s.run(mail.StageAuth, addr, &mail.Credentials{Mechanism: "PLAIN", Username: user, Password: pass})
}

func (s *server) want(code int, addr, user string, pass mail.Secret) {
	s.t.Helper()
	if got := s.login(addr, user, pass); got != code {
		s.t.Errorf("%s: %s from %s with the %s password: %d, want %d", s.clock.Now().Format(time.DateTime), user, addr, pass.Reveal(), got, code)
	}
}

// fails logs in with a wrong password so many times.
func (s *server) fails(times int, addr, user string) {
	s.t.Helper()
	for range times {
		s.want(535, addr, user, wrong)
	}
}

// why gives the blocks of an address.
func (s *server) why(addr string) []control.Block {
	s.t.Helper()
	list, err := s.blocks.WhyBlocked(s.t.Context(), netip.MustParseAddr(addr))
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *server) locks() []control.Lock {
	s.t.Helper()
	list, _, err := s.service.Locks(s.t.Context(), control.Page{})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// flush has all written that is behind.
func (s *server) flush() {
	s.t.Helper()
	if err := s.sandbox.Store().Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) rows(table string) (n int) {
	s.t.Helper()
	s.flush()
	err := s.sandbox.Store().Read(s.t.Context(), func(sn *store.Snapshot) error {
		return sn.QueryRow("SELECT count(*) FROM " + table).Scan(&n)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// bot gives the address of one machine of a botnet.
func bot(i int) string { return fmt.Sprintf("203.0.%d.%d", i/250, i%250) }

// blockOf gives a block of one address such as the handler makes.
func blockOf(addr string) control.Block {
	return control.Block{Network: netip.MustParsePrefix(addr + "/32"), Source: Source, Reason: "test"}
}
