package bruteforce

import (
	"net/netip"
	"testing"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/blocklist"
	"github.com/mox-like/mox-like/modules/password"
)

// The handler before the one that checks real passwords of real accounts, with
// the blocks of both handlers that refuse.
func TestRealAccounts(t *testing.T) {
	t.Parallel()
	sandbox := coretest.New(t, coretest.Options{OnDisk: true})
	const secret = "correct horse battery"
	if err := coretest.Service[*accounts.Accounts](t, sandbox).Add(t.Context(), alice, secret); err != nil {
		t.Fatal(err)
	}
	bruteforce := coretest.Load[*Bruteforce](t, sandbox, "handler.bruteforce", "bruteforce { attempts = 3 }")
	block := coretest.Load[*blocklist.Blocklist](t, sandbox, "handler.blocklist", "blocklist {}")
	check := coretest.Load[*password.Password](t, sandbox, "handler.password", "password {}")
	run := func(stage mail.Stage, addr string, pass mail.Secret) mail.Outcome {
		session := &mail.Session{ID: "session", RemoteAddr: netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)}
		tx := mail.NewTransaction(session.ID, session, session.Started)
		tx.Credentials = &mail.Credentials{Mechanism: "LOGIN", Username: alice, Password: pass}
		return chain.New([]*chain.Step{
			{Name: "blocklist", Handler: block, Stages: mail.AtConnect},
			{Name: "bruteforce", Handler: bruteforce, Stages: mail.AtConnect | mail.AtAuth},
			{Name: "password", Handler: check, Stages: mail.AtAuth},
		}, chain.Options{}).Run(t.Context(), stage, tx)
	}
	if o := run(mail.StageAuth, atHome, secret); o.Refused() {
		t.Fatalf("owner: %v", o.Reply)
	}
	for range 3 {
		if o := run(mail.StageAuth, attacker, "guess"); o.Handler != "password" || o.Reply != refused {
			t.Errorf("a guess: %v of %q, want %v", o.Reply, o.Handler, refused)
		}
	}
	if o := run(mail.StageAuth, attacker, secret); o.Handler != "bruteforce" || o.Reply.Code != 454 {
		t.Errorf("after three guesses: %v of %q", o.Reply, o.Handler)
	}
	if o := run(mail.StageConnect, attacker, ""); o.Handler != "blocklist" || o.Reply.Code != 554 {
		t.Errorf("the attacker at connect: %v of %q", o.Reply, o.Handler)
	}
	// A block of the owner's network does not hold for him.
	if err := coretest.Service[*blocklist.Service](t, sandbox).AddBlock(t.Context(), blockOf(atHome)); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []mail.Stage{mail.StageConnect, mail.StageAuth} {
		if o := run(stage, atHome, secret); o.Refused() {
			t.Errorf("owner at %s in his network that is blocked: %v of %q", stage, o.Reply, o.Handler)
		}
	}
}
