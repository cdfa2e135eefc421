package rspamd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp" // the listener of the test
)

// step puts a handler in a chain.
func step(r *Rspamd, policy chain.Policy, limit time.Duration) *chain.Chain {
	return chain.New([]*chain.Step{{
		Name: "rspamd", Handler: r, Stages: mail.AtData, OnError: policy, Timeout: limit, Breaker: chain.NewBreaker("rspamd", nil),
	}}, chain.Options{})
}

// TestCongestionIsNoFailure: messages that wait too long are deferred, whatever
// on_error is, and do not rest the handler.
func TestCongestionIsNoFailure(t *testing.T) {
	t.Parallel()
	r := newHandler(t, fake(t, respond(passes)), func(r *Rspamd) { r.MaxConnections = 1 })
	chained := step(r, chain.PolicyContinue, 2*time.Second)
	tx := newTransaction(t, letter(""))
	network := tx.Session.RemoteAddr.Addr()
	prefix, err := network.Prefix(32)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.client.gate.Enter(t.Context(), prefix); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			o := chained.Run(t.Context(), mail.StageData, newTransaction(t, letter("")))
			if want := mail.NewReply(451, 3, 2, "Spam filter is busy, try again later"); o.Reply != want || !strings.Contains(o.Reason, "max_connections") {
				t.Errorf("got %v, %q; want %v", o.Reply, o.Reason, want)
			}
		})
	}
	wg.Wait()
	r.client.gate.Leave()
	chained.Run(t.Context(), mail.StageData, tx)
	if e := tx.Entries[0]; e.Note != "" || !strings.HasPrefix(e.Reason, "rspamd says no action, score 0.5") {
		t.Errorf("after the crowd: %+v", e)
	}
}

// restsAfter is how many errors in a row rest a handler.
const restsAfter = 5

// TestOutage has rspamd fail in each way until the handler rests: the policy alone
// says what that means for the message, and no mark is left in it.
func TestOutage(t *testing.T) {
	t.Parallel()
	outages := make(map[string]func(testing.TB) backend.Address)
	for name, fault := range faulty() {
		outages[name] = func(tb testing.TB) backend.Address { tb.Helper(); return fake(tb, respond(fault.answer)) }
	}
	for _, fault := range coretest.Faults {
		outages["backend "+string(fault)] = func(tb testing.TB) backend.Address {
			tb.Helper()
			return backend.Address{Network: "tcp", Name: coretest.Faulty(tb, fault, rejects).Address}
		}
	}
	wants := map[chain.Policy]mail.Action{
		chain.PolicyContinue: mail.ActionContinue, chain.PolicyDefer: mail.ActionDefer, chain.PolicyReject: mail.ActionReject,
	}
	for name, start := range outages {
		for policy, want := range wants {
			t.Run(fmt.Sprintf("%s/%s", name, chain.PolicyNames[policy]), func(t *testing.T) {
				t.Parallel()
				chained := step(newHandler(t, start(t), nil), policy, 100*time.Millisecond)
				for n := range restsAfter + 2 {
					tx := newTransaction(t, letter("X-Spam-Flag: NO\r\n"))
					chained.Run(t.Context(), mail.StageData, tx)
					e := tx.Entries[0]
					if resting := e.Note == chain.NoteResting; e.Action != want || e.Note == "" || resting != (n >= restsAfter) {
						t.Errorf("message %d: %+v", n, e)
					}
					for _, field := range fieldsOf(t, tx).Fields {
						if isMark(field.Name) && n < restsAfter {
							t.Errorf("message %d has %q", n, field.Raw)
						}
					}
				}
			})
		}
	}
}

// TestRecovery: an rspamd that is back before the handler rests is asked as before.
func TestRecovery(t *testing.T) {
	t.Parallel()
	b := coretest.Faulty(t, coretest.FaultLate, rejects)
	chained := step(newHandler(t, backend.Address{Network: "tcp", Name: b.Address}, nil), chain.PolicyContinue, time.Second)
	for n, want := range []mail.Action{mail.ActionContinue, mail.ActionReject, mail.ActionReject} {
		tx := newTransaction(t, letter(""))
		chained.Run(t.Context(), mail.StageData, tx)
		if e := tx.Entries[0]; e.Action != want || (e.Note != "") != (n == 0) {
			t.Errorf("message %d: %+v", n, e)
		}
		b.Release()
	}
}

func init() { core.Register(swallow{}) }

// swallow is a target for every recipient.
type swallow struct{}

func (swallow) Module() core.Info {
	return core.Info{
		ID: "handler.swallow", Stages: mail.AtRcpt | mail.AtData, Target: true,
		New: func() core.Module { return new(swallow) },
	}
}

func (swallow) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept("swallowed"), nil
}

// serve runs a server with a handler in front of a target and gives the address
// of its listener.
func serve(t *testing.T, handler string) string {
	t.Helper()
	s := coretest.Serve(t, coretest.Base+`
		listener "smtp" "mx" {
			address = "127.0.0.1:0"
			tls     = "off"
			chain {
				`+handler+`
				swallow {}
			}
		}`, coretest.Options{})
	return coretest.Address(t, s, "mx")
}

// transfer is a dialog that ends with the reply to a message.
func transfer(raw, reply string) string {
	return fmt.Sprintf(`
		<- 220 *
		-> EHLO client.example.org
		<-- 250 SIZE *
		-> MAIL FROM:<alice@example.org>
		<- 250 *
		-> RCPT TO:<user@example.test>
		<- 250 *
		-> DATA
		<- 354 *
		=> %q
		<- %s
		-> QUIT
		<- 221 *
	`, raw+"\r\n.\r\n", reply)
}

func TestServer(t *testing.T) {
	t.Parallel()
	address := serve(t, block(rspamd.Unix))
	coretest.Dialog(t, address, transfer(header+"\r\n"+gtube("X"), "550 5.7.1 Gtube pattern (id *"))
	coretest.Dialog(t, address, transfer(letter(""), "250 2.0.0 OK: kept as ID"))
	coretest.Dialog(t, address, transfer(letter("X-Test-Action: soft reject\r\nX-Test-Message: Later please\r\n"), "451 4.7.1 Later please (id *"))
	lenient := serve(t, block(rspamd.TCP, `reject = "tag"`))
	coretest.Dialog(t, lenient, transfer(header+"\r\n"+gtube("X"), "250 2.0.0 OK: kept as ID"))
}

// TestFaultsInAServer has an SMTP client meet rspamds that are in trouble.
func TestFaultsInAServer(t *testing.T) {
	t.Parallel()
	policies := map[string]string{
		"continue": "250 2.0.0 OK: kept as ID",
		"defer":    "451 4.3.0 *",
		"reject":   "550 5.7.1 Refused by local policy*",
	}
	for _, fault := range coretest.Faults {
		for policy, reply := range policies {
			t.Run(string(fault)+"/"+policy, func(t *testing.T) {
				t.Parallel()
				b := coretest.Faulty(t, fault, rejects)
				address := serve(t, block("tcp:"+b.Address, fmt.Sprintf("on_error = %q", policy), `timeout = "1s"`))
				coretest.Dialog(t, address, transfer(letter(""), reply))
				if fault == coretest.FaultLate { // and well again
					b.Release()
					coretest.Dialog(t, address, transfer(letter(""), "550 5.7.1 Message looks like spam*"))
				}
			})
		}
	}
}
