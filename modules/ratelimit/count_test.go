package ratelimit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestStagesOfCounts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		settings string
		want     mail.Stages
	}{
		{`key = "ip"` + "\n" + `count = "connections"`, mail.AtConnect},
		{`key = "ip"` + "\n" + `count = "messages"`, mail.AtMail},
		{`key = "user"` + "\n" + `count = "messages"`, mail.AtMail},
		{`key = "rcpt"` + "\n" + `count = "messages"`, mail.AtRcpt},
		{`key = "ip"` + "\n" + `count = "recipients"`, mail.AtRcpt},
		{`key = "from"` + "\n" + `count = "recipients"`, mail.AtRcpt},
		{`key = "ip"` + "\n" + `count = "failed"`, mail.AtRcpt},
		{`key = "user"` + "\n" + `limit = "1MB/1h"`, mail.AtMail | mail.AtData},
		{`key = "rcpt_domain"` + "\n" + `limit = "1MB/1h"`, mail.AtRcpt | mail.AtData},
	} {
		if !strings.Contains(tt.settings, "limit") {
			tt.settings += "\n" + `limit = "5/1h"`
		}
		r := load(t, coretest.NewClock(start), "ratelimit {\n"+tt.settings+"\n}")
		got := r.DefaultStages()
		if got != tt.want {
			t.Errorf("%s: stages %q, want %q", tt.settings, got.Names(), tt.want.Names())
		}
		if problems := r.ValidateStages(got); problems != nil {
			t.Errorf("%s: its own stages are wrong: %v", tt.settings, problems)
		}
	}
}

// message makes a transaction at the data stage.
func message(t testing.TB, e event, size int, recipients ...string) *mail.Transaction {
	t.Helper()
	e.stage = mail.StageData
	tx := e.transaction(t)
	for _, r := range recipients {
		a, err := mail.ParseAddress(r)
		if err != nil {
			t.Fatal(err)
		}
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{Address: a})
	}
	const header = "Subject: a\r\n\r\n"
	var err error
	if tx.Message, err = mail.NewMessage([]byte(header + strings.Repeat("x", size-len(header)))); err != nil {
		t.Fatal(err)
	}
	return tx
}

func judge(t testing.TB, r *Ratelimit, tx *mail.Transaction) mail.Verdict {
	t.Helper()
	v, err := r.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBytes(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	r := load(t, c, "ratelimit {\nkey = \"user\"\nlimit = \"10KiB/7m\"\n}")
	alice := event{user: "alice@example.test"}
	declared := func(size int64) mail.Verdict {
		e := alice
		e.stage = mail.StageMail
		tx := e.transaction(t)
		tx.Envelope.Size = size
		return judge(t, r, tx)
	}
	for range 3 {
		if v := declared(3000); v.Action != mail.ActionContinue {
			t.Fatalf("verdict %+v on a declared size", v)
		}
		if v := judge(t, r, message(t, alice, 3000)); v.Action != mail.ActionContinue { // counts as 3 KiB
			t.Fatalf("verdict %+v below the limit", v)
		}
	}
	if v := declared(1024); v.Action != mail.ActionContinue {
		t.Errorf("verdict %+v on the last KiB", v)
	}
	want := mail.Verdict{Action: mail.ActionDefer, Reason: "user alice@example.test: 9KiB in 7m, limit is 10KiB/7m"}
	for _, v := range []mail.Verdict{declared(1025), judge(t, r, message(t, alice, 1025))} {
		if !strings.HasPrefix(v.Reply.String(), "450 4.7.1 Too much mail, try again in ") {
			t.Errorf("reply %q", v.Reply)
		}
		v.Reply = mail.Reply{}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("verdict (-want +got):\n%s", diff)
		}
	}
	if v := judge(t, r, message(t, event{user: "bob@example.test"}, 10240)); v.Action != mail.ActionContinue {
		t.Errorf("verdict %+v on another user", v)
	}
	for _, v := range []mail.Verdict{declared(10241), judge(t, r, message(t, alice, 10241))} {
		if v.Action != mail.ActionReject || v.Reply.String() != "552 5.3.4 Message is larger than may be sent in 7m" {
			t.Errorf("verdict %+v on what never passes", v)
		}
	}
	c.Add(8 * time.Minute)
	if v := judge(t, r, message(t, alice, 10240)); v.Action != mail.ActionContinue {
		t.Errorf("verdict %+v once nothing counts any more", v)
	}
}

// TestAllRecipientsOrNone counts a message for each mailbox that it goes to, once
// for each, or for none.
func TestAllRecipientsOrNone(t *testing.T) {
	t.Parallel()
	r := load(t, coretest.NewClock(start), "ratelimit {\nkey = \"rcpt\"\nlimit = \"2KiB/1h\"\n}")
	send := func(recipients ...string) mail.Verdict { return judge(t, r, message(t, event{}, 1000, recipients...)) }
	if v := send("alice@example.test", "Alice+x@example.test", "bob@example.test"); v.Action != mail.ActionContinue {
		t.Fatalf("verdict %+v on the first message", v)
	}
	if v := send("bob@example.test"); v.Action != mail.ActionContinue {
		t.Fatalf("verdict %+v on the second message to bob", v)
	}
	v := send("alice@example.test", "carol@example.test", "bob@example.test")
	if want := "rcpt bob@example.test: 2KiB in 1h, limit is 2KiB/1h"; v.Action != mail.ActionDefer || v.Reason != want {
		t.Errorf("verdict %+v, want the reason %q", v, want)
	}
	if v := send("alice@example.test"); v.Action != mail.ActionContinue {
		t.Errorf("verdict %+v: a message that was refused counts", v)
	}
	if v := send("alice@example.test"); v.Action != mail.ActionDefer {
		t.Errorf("verdict %+v on the third message to alice", v)
	}
	if v := send("carol@example.test"); v.Action != mail.ActionContinue {
		t.Errorf("verdict %+v on the first message to carol", v)
	}
}

// TestFailed counts recipients that others refuse for good.
func TestFailed(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	r := load(t, c, "ratelimit {\nkey = \"ip\"\ncount = \"failed\"\nlimit = \"2/7m\"\nexcept = \"198.51.100.0/24\"\nstage = [\"connect\", \"rcpt\"]\n}")
	attempt := func(ip string, action mail.Action, handler, note string) mail.Verdict {
		tx := event{ip: ip, rcpt: "nobody@example.test", stage: mail.StageRcpt}.transaction(t)
		v := judge(t, r, tx)
		if v.Action != mail.ActionContinue {
			return v
		}
		tx.Entries = append(tx.Entries, mail.Entry{Stage: mail.StageRcpt, Handler: "ratelimit", Recipient: "nobody@example.test", Note: note})
		r.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageRcpt, Handler: handler, Verdict: mail.Verdict{Action: action}})
		return v
	}
	for range 5 {
		attempt("192.0.2.1", mail.ActionAccept, "deliver", "")
		attempt("192.0.2.1", mail.ActionDefer, "greylist", "")
		attempt("192.0.2.1", mail.ActionReject, "deliver", chain.NoteSkipped)
		attempt("198.51.100.1", mail.ActionReject, "", "")
	}
	for i := range 2 {
		if v := attempt("192.0.2.1", mail.ActionReject, "", ""); v.Action != mail.ActionContinue {
			t.Fatalf("verdict %+v after %d refused recipients", v, i)
		}
	}
	v := attempt("192.0.2.1", mail.ActionAccept, "deliver", "")
	if v.Action != mail.ActionDefer || !strings.HasPrefix(v.Reply.String(), "450 4.7.1 Too many refused recipients, try again in ") {
		t.Errorf("verdict %+v after two refused recipients", v)
	}
	v = handle(t, r, event{ip: "192.0.2.1", stage: mail.StageConnect})
	if v.Action != mail.ActionDefer || v.Reply.Code != 421 {
		t.Errorf("verdict %+v at connect", v)
	}
	for _, ip := range []string{"192.0.2.2", "198.51.100.1"} {
		if v := attempt(ip, mail.ActionAccept, "deliver", ""); v.Action != mail.ActionContinue {
			t.Errorf("verdict %+v on %s", v, ip)
		}
	}
	c.Add(8 * time.Minute)
	if v := attempt("192.0.2.1", mail.ActionAccept, "deliver", ""); v.Action != mail.ActionContinue {
		t.Errorf("verdict %+v once nothing counts any more", v)
	}
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	for _, stage := range []mail.Stage{mail.StageConnect, mail.StageAuth, mail.StageMail, mail.StageRcpt} {
		r := load(t, coretest.NewClock(start), "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\naction = \"disconnect\"\n}")
		e := event{ip: "192.0.2.1", stage: stage}
		handle(t, r, e)
		if v := handle(t, r, e); v.Action != mail.ActionDefer || !strings.HasPrefix(v.Reply.String(), "421 4.7.0 Too many ") {
			t.Errorf("at %s: verdict %+v", stage, v)
		}
	}
}

// TestCountsAreApart finds that the same key has a counter for each thing that is
// counted.
func TestCountsAreApart(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	s := coretest.New(t, coretest.Options{Now: c.Now})
	for _, count := range []string{"", `count = "messages"`, `count = "recipients"`, `count = "failed"`} {
		r := coretest.Load[*Ratelimit](t, s, "handler.ratelimit", "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\n"+count+"\n}")
		if v := handle(t, r, event{ip: "192.0.2.1", stage: mail.StageMail}); v.Action != mail.ActionContinue {
			t.Errorf("%s: verdict %+v on the first event", count, v)
		}
	}
}

// TestManyAtOnce has clients at all stages at once: exactly as many events pass
// as the limit allows.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := load(t, coretest.NewClock(start), "ratelimit {\nkey = \"rcpt\"\nlimit = \"100KiB/1h\"\n}")
	recipients := []string{"alice@example.test", "bob@example.test"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 8 {
		wg.Go(func() {
			for range 25 {
				v := judge(t, r, message(t, event{}, 1000, recipients...))
				mu.Lock()
				if v.Action == mail.ActionContinue {
					passed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if passed > 100 || passed < 50 { // one who is given back may keep another out for a moment
		t.Errorf("%d messages passed, the limit is 100", passed)
	}
	for _, recipient := range recipients {
		for judge(t, r, message(t, event{}, 1000, recipient)).Action == mail.ActionContinue {
			passed++
		}
		if used, _ := r.counters.look(mustKey(t, r, recipient), 1, r.Limit.N, r.now()); used != 100 {
			t.Errorf("%s: %d KiB are counted, want 100", recipient, used)
		}
	}
}

func mustKey(t *testing.T, r *Ratelimit, recipient string) key {
	t.Helper()
	a, err := mail.ParseAddress(recipient)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := r.key(event{}.transaction(t), &mail.Recipient{Address: a})
	if !ok {
		t.Fatal(fmt.Errorf("no key for %s", recipient))
	}
	return k
}

// TestRecipientKeys holds the limit "1/1h" against two recipients.
func TestRecipientKeys(t *testing.T) {
	t.Parallel()
	for second, refused := range map[string]bool{"bob@example.test": true, "alice@EXAMPLE.test": true, "alice@example.org": false} {
		r := load(t, coretest.NewClock(start), "ratelimit {\nkey = \"rcpt_domain\"\nlimit = \"1/1h\"\n}")
		handle(t, r, event{rcpt: "alice@example.test", stage: mail.StageRcpt})
		v := handle(t, r, event{rcpt: second, stage: mail.StageRcpt})
		if (v.Action == mail.ActionDefer) != refused {
			t.Errorf("%s after alice@example.test: verdict %+v", second, v)
		}
	}
}
