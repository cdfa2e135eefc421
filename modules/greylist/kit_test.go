package greylist

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// kit is the module in a sandbox.
type kit struct {
	*coretest.Clock
	sandbox  *core.Sandbox
	service  *Service
	greylist *Greylist
}

// newKit loads the handler with settings.
func newKit(t testing.TB, settings string, o coretest.Options) *kit {
	t.Helper()
	k := &kit{Clock: coretest.NewClock(start)}
	o.Now = k.Now
	k.sandbox = coretest.New(t, o)
	k.service = coretest.Service[*Service](t, k.sandbox)
	k.greylist = k.load(t, settings)
	return k
}

func (k *kit) load(t testing.TB, settings string) *Greylist {
	t.Helper()
	return coretest.Load[*Greylist](t, k.sandbox, "handler.greylist", "greylist {\n"+settings+"\n}")
}

// flush waits until what is behind is in the database.
func (k *kit) flush(t testing.TB) {
	t.Helper()
	if err := k.sandbox.Store().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// count gives the number of rows of a query.
func (k *kit) count(t testing.TB, query string) (n int) {
	t.Helper()
	k.flush(t)
	err := k.sandbox.Store().Read(t.Context(), func(s *store.Snapshot) error { return s.QueryRow(query).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// event is what a transaction of a test is made of.
type event struct {
	ip, user, from, to string
	results            []mail.AuthResult
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// stranger is a first attempt.
var stranger = event{ip: "192.0.2.1", from: "bob@example.org", to: "alice@example.test"}

func (e event) transaction(t testing.TB) *mail.Transaction {
	t.Helper()
	session := &mail.Session{ID: "session", User: e.user}
	if e.ip != "" {
		session.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(e.ip), 4711)
	}
	tx := mail.NewTransaction("tx", session, start)
	tx.Stage = mail.StageRcpt
	tx.Envelope.ReversePath = address(t, e.from)
	tx.Recipient = &mail.Recipient{Address: address(t, e.to)}
	for _, r := range e.results {
		tx.SetAuthResult(r)
	}
	return tx
}

func handle(t testing.TB, g *Greylist, e event) mail.Verdict {
	t.Helper()
	v, err := g.Handle(t.Context(), e.transaction(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// passes wants an event to pass, for a reason that contains a text.
func (k *kit) passes(t testing.TB, e event, reason string) {
	t.Helper()
	if v := handle(t, k.greylist, e); v.Action != mail.ActionContinue || !strings.Contains(v.Reason, reason) {
		t.Errorf("verdict %s (%s), want continue (%s)", v.Action, v.Reason, reason)
	}
}

// waits wants an event to be deferred, for a reason that contains a text.
func (k *kit) waits(t testing.TB, e event, reason string) {
	t.Helper()
	if v := handle(t, k.greylist, e); v.Action != mail.ActionDefer || !strings.Contains(v.Reason, reason) {
		t.Errorf("verdict %s (%s), want defer (%s)", v.Action, v.Reason, reason)
	}
}

// send lets a user's message be accepted or not.
func (k *kit) send(t testing.TB, user, from string, outcome mail.Outcome, to ...string) *mail.Transaction {
	t.Helper()
	tx := mail.NewTransaction("tx", &mail.Session{ID: "session", User: user}, start)
	tx.Stage = mail.StageData
	tx.Envelope.ReversePath = address(t, from)
	for _, r := range to {
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{Address: address(t, r)})
	}
	outcome.Stage = mail.StageData
	k.greylist.Observe(t.Context(), tx, outcome)
	return tx
}

func spf(result, name, value string) mail.AuthResult {
	return mail.AuthResult{Method: "spf", Result: result, Properties: []mail.Property{{Type: "smtp", Name: name, Value: value}}}
}
