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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const alice = "alice@example.test"

// accounts stands for the service: alice has the password "right".
type accounts struct {
	err   error
	asked int
}

func (a *accounts) Module() core.Info {
	return core.Info{ID: "service.accounts", New: func() core.Module { return a }}
}

func (a *accounts) Verify(_ context.Context, c *mail.Credentials) (string, bool, error) {
	a.asked++
	if a.err != nil {
		return "", false, a.err
	}
	if c.Username != alice {
		return "", false, nil
	}
	if c.Proof != nil {
		return alice, c.Proof.Verify(nil, nil), nil
	}
	return alice, c.Password == "right", nil
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
		{"unknown user", mail.Credentials{Mechanism: "PLAIN", Username: "bob@example.test", Password: "right"}, "", "unknown user"},
		{"no domain", mail.Credentials{Mechanism: "LOGIN", Username: "alice", Password: "right"}, "", "unknown user"},
	}
	p, err := load(t, new(accounts))
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
	service := new(accounts)
	p, err := load(t, service)
	if err != nil {
		t.Fatal(err)
	}
	tx := transaction(&mail.Credentials{Username: alice, Password: "of an app"})
	tx.Authenticate(alice)
	verdict, err := p.Handle(t.Context(), tx)
	if err != nil || verdict.Action != mail.ActionContinue || tx.Authenticated() != alice || service.asked != 0 {
		t.Errorf("verdict %+v, error %v, user %q, asked %d times", verdict, err, tx.Authenticated(), service.asked)
	}
}

func TestHandleServiceFails(t *testing.T) {
	t.Parallel()
	service := &accounts{err: errors.New("disk is gone")}
	p, err := load(t, service)
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

func TestHandleNoCredentials(t *testing.T) {
	t.Parallel()
	p, err := load(t, new(accounts))
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
