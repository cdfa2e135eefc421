package chain_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

func named(name string) *chain.Chain {
	return chain.New([]*chain.Step{step(name, mail.AtRcpt|mail.AtData, says(mail.Continue(""))), deliver()}, chain.Options{})
}

func rcpt(t testing.TB, set *chain.Set, tx *mail.Transaction, to string) mail.Outcome {
	t.Helper()
	tx.Recipient = &mail.Recipient{Address: address(t, to)}
	o := set.Run(t.Context(), mail.StageRcpt, tx)
	if !o.Refused() {
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, tx.Recipient)
	}
	return o
}

func TestSetReplacesChains(t *testing.T) {
	t.Parallel()
	file := named("file")
	set := chain.NewSet(named("listener"), map[string]*chain.Chain{"own.test": file})
	says := func(want string) {
		t.Helper()
		tx := newTransaction()
		rcpt(t, set, tx, "a@own.test")
		if got := tx.Entries[0].Handler; got != want {
			t.Errorf("the chain of %q runs, want %q", got, want)
		}
	}
	says("file")
	set.Replace(map[string]*chain.Chain{"own.test": named("tuned")})
	says("tuned")
	set.Replace(map[string]*chain.Chain{"own.test": nil})
	says("listener")
	set.Replace(map[string]*chain.Chain{"own.test": file})
	says("file")
}

func TestSetActsWhereSettingsMayHaveIt(t *testing.T) {
	t.Parallel()
	all := chain.New([]*chain.Step{step("a", mail.AtConnect|mail.AtMail, says(mail.Continue("")))}, chain.Options{})
	set := chain.NewSet(chain.New(nil, chain.Options{}), map[string]*chain.Chain{"own.test": all})
	set.SetTunable(mail.AtHelo | mail.AtData)
	for stage, want := range map[mail.Stage]bool{
		mail.StageConnect: false, mail.StageHelo: false, // before anybody knows a domain
		mail.StageAuth: false, mail.StageMail: true, mail.StageRcpt: false, mail.StageData: true,
	} {
		if got := set.Acts(stage); got != want {
			t.Errorf("acts at %s: %v", stage, got)
		}
	}
}

func TestRetiredChainEndsAfterItsLastRun(t *testing.T) {
	t.Parallel()
	began, finish := make(chan struct{}), make(chan struct{})
	slow := chain.New([]*chain.Step{step("slow", mail.AtRcpt, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) {
		close(began)
		<-finish
		return mail.Continue(""), nil
	})), deliver()}, chain.Options{})
	set := chain.NewSet(named("listener"), map[string]*chain.Chain{"own.test": slow})
	var running sync.WaitGroup
	running.Go(func() { rcpt(t, set, newTransaction(), "a@own.test") })
	<-began
	set.Replace(map[string]*chain.Chain{"own.test": named("fresh")})
	ended := slow.Retire()
	tx := newTransaction()
	if o := rcpt(t, set, tx, "a@own.test"); o.Refused() || tx.Entries[0].Handler != "fresh" {
		t.Errorf("a new run waits for the old one: %+v", tx.Entries)
	}
	select {
	case <-ended:
		t.Error("it ended while a run goes on")
	default:
	}
	close(finish)
	<-ended
	running.Wait()

	idle := named("idle")
	<-idle.Retire()
}

// Settings that change between the recipients and the data must not give a
// recipient the verdict of another's settings.
func TestSetDefersMixedMessages(t *testing.T) {
	t.Parallel()
	set := chain.NewSet(named("listener"), nil)
	tx := newTransaction()
	rcpt(t, set, tx, "a@example.test")
	rcpt(t, set, tx, "b@own.test")
	set.Replace(map[string]*chain.Chain{"own.test": named("tuned")})
	o := set.Run(t.Context(), mail.StageData, tx)
	if o.Reply.Code != 451 || o.Action != mail.ActionDefer || tx.Entries[len(tx.Entries)-1].Note != chain.NoteOtherChain {
		t.Errorf("outcome %+v, entries %+v", o, tx.Entries)
	}
	// For a user who has logged in one domain's settings hold for all.
	tx = newTransaction()
	tx.Session.User = "x@own.test"
	rcpt(t, set, tx, "a@example.test")
	rcpt(t, set, tx, "b@own.test")
	if o := set.Run(t.Context(), mail.StageData, tx); o.Refused() {
		t.Errorf("mail of a user: %+v", o)
	}
	// All of one domain go on with whatever holds now.
	set = chain.NewSet(named("listener"), nil)
	tx = newTransaction()
	rcpt(t, set, tx, "a@own.test")
	set.Replace(map[string]*chain.Chain{"own.test": named("tuned")})
	if o := rcpt(t, set, tx, "b@own.test"); o.Refused() {
		t.Errorf("second recipient: %+v", o)
	}
	if o := set.Run(t.Context(), mail.StageData, tx); o.Refused() || tx.Entries[len(tx.Entries)-2].Handler != "tuned" {
		t.Errorf("data: %+v", tx.Entries)
	}
}

// No run begins on a chain that is cleaned up, and none is refused.
func TestSetReplacedWhileItRuns(t *testing.T) {
	t.Parallel()
	var refused, late atomic.Int64
	type generation struct {
		*chain.Chain
		cleaned *atomic.Bool
	}
	fresh := func() generation {
		g := generation{cleaned: new(atomic.Bool)}
		g.Chain = chain.New([]*chain.Step{step("a", mail.AtRcpt, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) {
			if g.cleaned.Load() {
				late.Add(1)
			}
			return mail.Continue(""), nil
		})), deliver()}, chain.Options{})
		return g
	}
	now := fresh()
	set := chain.NewSet(named("listener"), map[string]*chain.Chain{"own.test": now.Chain})
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if o := rcpt(t, set, newTransaction(), "a@own.test"); o.Refused() {
					refused.Add(1)
				}
			}
		})
	}
	for range 500 {
		next := fresh()
		set.Replace(map[string]*chain.Chain{"own.test": next.Chain})
		<-now.Retire()
		now.cleaned.Store(true)
		now = next
	}
	close(stop)
	running.Wait()
	if refused.Load() > 0 || late.Load() > 0 {
		t.Errorf("%d refused, %d on a chain that was cleaned up", refused.Load(), late.Load())
	}
}

// What a set costs beside the chain itself.
func BenchmarkSetRun(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		domains := make(map[string]*chain.Chain)
		for i := range n {
			domains[fmt.Sprintf("d%d.test", i)] = named("tuned")
		}
		for name, to := range map[string]string{"unchanged": "a@example.test", "tuned": "a@d77.test"} {
			if n == 0 && name == "tuned" {
				continue
			}
			b.Run(fmt.Sprintf("domains=%d/%s", n, name), func(b *testing.B) {
				set := chain.NewSet(chain.New(nil, chain.Options{}), domains)
				for d := range domains {
					domains[d] = chain.New(nil, chain.Options{})
				}
				tx := newTransaction()
				tx.Recipient = &mail.Recipient{Address: address(b, to), Target: "deliver"}
				b.ReportAllocs()
				for b.Loop() {
					set.Run(b.Context(), mail.StageRcpt, tx)
				}
			})
		}
	}
}

func BenchmarkSetReplace(b *testing.B) {
	domains := make(map[string]*chain.Chain)
	for i := range 10_000 {
		domains[fmt.Sprintf("d%d.test", i)] = named("tuned")
	}
	set := chain.NewSet(named("listener"), domains)
	c := named("fresh")
	for b.Loop() {
		set.Replace(map[string]*chain.Chain{"d1.test": c})
	}
}
