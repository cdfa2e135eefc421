package password

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice = "alice@example.test"

// service stands for the accounts: alice has the password "right", which is found
// quickly, "slow", and the app password "app".
type service struct {
	err      error
	asked    int
	spent    int
	accepted int
}

func (s *service) Module() core.Info {
	return core.Info{ID: "service.accounts", New: func() core.Module { return s }}
}

func (s *service) Verify(_ context.Context, _ *mail.Session, c *mail.Credentials) (accounts.Answer, error) {
	s.asked++
	switch {
	case s.err != nil:
		return accounts.Answer{}, s.err
	case c.Username != alice:
		return accounts.Answer{Reason: c.Mechanism + " told"}, nil
	case c.Proof != nil:
		return accounts.Answer{Address: alice, OK: c.Proof.Verify(nil, nil), Accepted: s.accept}, nil
	case c.Password == "app":
		c.AppPassword = "phone"
		return accounts.Answer{Address: alice, OK: true, Quick: true, Reason: "app password \"phone\"", Accepted: s.accept}, nil
	case c.Password == "other app":
		return accounts.Answer{Address: alice, Reason: "it was revoked"}, nil
	default:
		answer := accounts.Answer{Address: alice, OK: c.Password == "right" || c.Password == "slow", Quick: c.Password == "right"}
		if answer.OK {
			answer.Accepted = s.accept
		}
		return answer, nil
	}
}

func (s *service) accept(context.Context) { s.accepted++ }

func (s *service) Spend(context.Context, *mail.Session) error {
	s.spent++
	return s.err
}

// proof is right or wrong whatever the keys are.
type proof bool

func (p proof) Verify(_, _ []byte) bool { return bool(p) }

// load makes the handler with a service of its own.
func load(t *testing.T, services ...core.Module) (*Password, error) {
	t.Helper()
	registry := new(core.Registry)
	registry.Register(&Password{})
	for _, s := range services {
		registry.Register(s)
	}
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := s.Load(t.Context(), "handler.password", `password {}`)
	if err != nil {
		return nil, err
	}
	return m.(*Password), nil
}

func transaction(c *mail.Credentials) *mail.Transaction {
	session := &mail.Session{ID: "session"}
	tx := mail.NewTransaction(session.ID, session, session.Started)
	tx.Stage, tx.Credentials = mail.StageAuth, c
	return tx
}

func TestHandle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		credentials mail.Credentials
		user        string
		reason      string
	}{
		{"right password", mail.Credentials{Mechanism: "PLAIN", Username: alice, Password: "right"}, alice, "PLAIN login of " + alice},
		{"right proof", mail.Credentials{Mechanism: "SCRAM-SHA-256", Username: alice, Proof: proof(true)}, alice, "SCRAM-SHA-256 login of " + alice},
		{"wrong password", mail.Credentials{Mechanism: "PLAIN", Username: alice, Password: "wrong"}, "", "wrong password for " + alice},
		{"wrong proof", mail.Credentials{Mechanism: "SCRAM-SHA-256", Username: alice, Proof: proof(false)}, "", "wrong proof for " + alice},
		{"app password", mail.Credentials{Mechanism: "PLAIN", Username: alice, Password: "app"}, alice, "PLAIN login of " + alice + `: app password "phone"`},
		{"wrong app password", mail.Credentials{Mechanism: "PLAIN", Username: alice, Password: "other app"}, "", "wrong password for " + alice + ": it was revoked"},
		{"unknown user", mail.Credentials{Mechanism: "PLAIN", Username: "bob@example.test", Password: "right"}, "", "unknown user: PLAIN told"},
		{"no domain", mail.Credentials{Mechanism: "LOGIN", Username: "alice", Password: "right"}, "", "unknown user: LOGIN told"},
	}
	p, err := load(t, new(service))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := transaction(&tt.credentials)
			verdict, err := p.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if tx.Authenticated() != tt.user || verdict.Reason != tt.reason {
				t.Errorf("user %q, reason %q, want %q, %q", tx.Authenticated(), verdict.Reason, tt.user, tt.reason)
			}
			want := mail.ActionContinue
			if tt.user == "" {
				want = mail.ActionReject
				if got := verdict.Reply.String(); got != "535 5.7.8 Authentication credentials invalid" {
					t.Errorf("reply %q", got)
				}
			}
			if verdict.Action != want {
				t.Errorf("action %s, want %s", verdict.Action, want)
			}
		})
	}
}

func TestHandleVouchedFor(t *testing.T) {
	t.Parallel()
	fake := new(service)
	p, err := load(t, fake)
	if err != nil {
		t.Fatal(err)
	}
	tx := transaction(&mail.Credentials{Username: alice, Password: "of an app"})
	tx.Authenticate(alice)
	verdict, err := p.Handle(t.Context(), tx)
	if err != nil || verdict.Action != mail.ActionContinue || tx.Authenticated() != alice || fake.asked != 0 {
		t.Errorf("verdict %+v, error %v, user %q, asked %d times", verdict, err, tx.Authenticated(), fake.asked)
	}
}

func TestHandleServiceFails(t *testing.T) {
	t.Parallel()
	p, err := load(t, &service{err: errors.New("disk is gone")})
	if err != nil {
		t.Fatal(err)
	}
	tx := transaction(&mail.Credentials{Username: alice, Password: "right"})
	verdict, err := p.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Action != mail.ActionDefer || verdict.Reply.Code != 454 || tx.Authenticated() != "" {
		t.Errorf("verdict %+v, user %q", verdict, tx.Authenticated())
	}
	if strings.Contains(verdict.Reply.Text, "disk") || !strings.Contains(verdict.Reason, "disk") {
		t.Errorf("the client is told %q, the operator %q", verdict.Reply.Text, verdict.Reason)
	}
}

// TestObserve finds that a refusal by a later handler costs the hash that a right
// password has not cost, and that the accounts hear of accepted logins alone.
func TestObserve(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		credentials mail.Credentials
		action      mail.Action
		spent       int
		accepted    int
	}{
		{"quick and refused", mail.Credentials{Username: alice, Password: "right"}, mail.ActionReject, 1, 0},
		{"quick and deferred", mail.Credentials{Username: alice, Password: "right"}, mail.ActionDefer, 1, 0},
		{"app password and refused", mail.Credentials{Username: alice, Password: "app"}, mail.ActionReject, 1, 0},
		{"quick and let in", mail.Credentials{Username: alice, Password: "right"}, mail.ActionContinue, 0, 1},
		{"app password and let in", mail.Credentials{Username: alice, Password: "app"}, mail.ActionAccept, 0, 1},
		{"slow and refused", mail.Credentials{Username: alice, Password: "slow"}, mail.ActionReject, 0, 0},
		{"slow and let in", mail.Credentials{Username: alice, Password: "slow"}, mail.ActionContinue, 0, 1},
		{"wrong", mail.Credentials{Username: alice, Password: "wrong"}, mail.ActionReject, 0, 0},
		{"wrong, and the handler only watches", mail.Credentials{Username: alice, Password: "wrong"}, mail.ActionContinue, 0, 0},
		{"proof and refused", mail.Credentials{Username: alice, Proof: proof(true)}, mail.ActionReject, 0, 0},
		{"proof and let in", mail.Credentials{Username: alice, Proof: proof(true)}, mail.ActionContinue, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := new(service)
			p, err := load(t, fake)
			if err != nil {
				t.Fatal(err)
			}
			tx := transaction(&tt.credentials)
			if _, err := p.Handle(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			p.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageAuth, Verdict: mail.Verdict{Action: tt.action}})
			if fake.spent != tt.spent || fake.accepted != tt.accepted || fake.asked != 1 {
				t.Errorf("%d hashes spent, want %d; %d accepted, want %d; %d verified", fake.spent, tt.spent, fake.accepted, tt.accepted, fake.asked)
			}
		})
	}
	fake := new(service)
	p, err := load(t, fake)
	if err != nil {
		t.Fatal(err)
	}
	p.Observe(t.Context(), transaction(&mail.Credentials{Username: alice, Password: "right"}),
		mail.Outcome{Stage: mail.StageAuth, Verdict: mail.Reject(refused, "by a handler in front")})
	if fake.spent != 0 || fake.accepted != 0 || fake.asked != 0 {
		t.Errorf("a login that was refused before: %d spent, %d accepted, %d verified", fake.spent, fake.accepted, fake.asked)
	}
}

func TestHandleNoCredentials(t *testing.T) {
	t.Parallel()
	p, err := load(t, new(service))
	if err != nil {
		t.Fatal(err)
	}
	tx := transaction(nil)
	if _, err := p.Handle(t.Context(), tx); !errors.Is(err, errNoCredentials) || tx.Authenticated() != "" {
		t.Errorf("error %v, user %q", err, tx.Authenticated())
	}
}

func TestNeedsAccounts(t *testing.T) {
	t.Parallel()
	if _, err := load(t); err == nil || !strings.Contains(err.Error(), "accounts") {
		t.Errorf("loaded without accounts: error %v", err)
	}
}
