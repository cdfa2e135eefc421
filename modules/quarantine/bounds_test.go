package quarantine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// TestBounds: the bounds that hold where the file has none, and those that it has.
func TestBounds(t *testing.T) {
	t.Parallel()
	k := newKit(t) // with two domains
	const mib = 1 << 20
	for settings, want := range map[string]bounds{
		"":                          {1024 * mib, 256 * mib, 64 * mib},
		`max_size = "16MiB"`:        {16 * mib, 4 * mib, mib},
		`max_domain_size = "0B"`:    {1024 * mib, 1024 * mib, 64 * mib},
		`max_account_size = "0B"`:   {1024 * mib, 256 * mib, 1024 * mib},
		`max_domain_size = "2MiB"`:  {1024 * mib, 2 * mib, 64 * mib},
		`max_account_size = "3MiB"`: {1024 * mib, 256 * mib, 3 * mib},
	} {
		if got := k.load(t, settings).bounds; got != want {
			t.Errorf("%q: %v, want %v", settings, got, want)
		}
	}
}

// sized makes a transaction of a message with so many bytes.
func (k *kit) sized(t *testing.T, size int, accounts ...string) *mail.Transaction {
	t.Helper()
	var list []*mail.Recipient
	for _, a := range accounts {
		list = append(list, to(t, a, a))
	}
	tx := k.transaction(t, event{to: list})
	m, err := mail.NewMessage([]byte("From: a@example.org\r\n\r\n" + strings.Repeat("x", size)))
	if err != nil {
		t.Fatal(err)
	}
	tx.Message = m
	return tx
}

// TestLargeMessages: a few large messages leave room for the small ones of others, and
// for those of the same account.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "max_size = \"8MiB\"\nmax_domain_size = \"0B\"\nmax_account_size = \"3MiB\"")
	held := func(size int, account string) bool {
		t.Helper()
		v, err := q.Handle(t.Context(), k.sized(t, size, account))
		if err != nil {
			t.Fatal(err)
		}
		return v.Action == mail.ActionAccept
	}
	const big = 1<<20 + 1
	for _, step := range []struct {
		size    int
		account string
		want    bool
	}{
		{big, alice, true},
		{big, alice, false},
		{1000, alice, true},
		{1<<20 - 100, alice, true},
		{1<<20 - 100, alice, false},
		{big, bob, true},
		{big, carol, false},
		{1000, carol, true},
	} {
		if got := held(step.size, step.account); got != step.want {
			t.Errorf("%d bytes for %s are held: %v, want %v", step.size, step.account, got, step.want)
		}
	}
	if n := k.service.refused.Load(); n != 3 {
		t.Errorf("%d are counted as refused, want 3", n)
	}
	k.consistent(t)
}

// TestManyAccounts: what a message counts grows with those that it is held for, and
// there is an end to them.
func TestManyAccounts(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.service.accounts = nil
	q := k.load(t, "")
	handle := func(n int, by string) mail.Verdict {
		t.Helper()
		var accounts []string
		for i := range n {
			accounts = append(accounts, fmt.Sprintf("user%d@example.test", i))
		}
		v, err := q.Handle(t.Context(), k.transaction(t, event{by: by, to: []*mail.Recipient{to(t, "all@example.test", accounts...)}}))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := handle(maxShares, ""); v.Action != mail.ActionAccept {
		t.Errorf("for %d: %v", maxShares, v)
	}
	if got := k.service.bytes.Load(); got < messageCost+maxShares*shareCost {
		t.Errorf("%d bytes are counted for %d accounts", got, maxShares)
	}
	if v := handle(maxShares+1, ""); v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "too many accounts: 1001, and one is held for 1000 at most: goes to Junk") {
		t.Errorf("for one more: %v", v)
	}
	if v := handle(maxShares+1, "clamav"); v.Action != mail.ActionReject || v.Reply.String()[:9] != "550 5.5.3" {
		t.Errorf("a virus for one more: %v", v)
	}
	k.consistent(t)
}

// TestManyForOne: an account has a number of messages at most, since some changes
// touch all of them.
func TestManyForOne(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.fill(t, maxPerAccount-1, alice)
	q := k.load(t, "")
	k.hold(t, q, event{})
	v, err := q.Handle(t.Context(), k.transaction(t, event{}))
	if err != nil || v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "10000 messages are held for alice@example.test: goes to Junk") {
		t.Errorf("%v, %v", v, err)
	}
	k.hold(t, q, event{to: []*mail.Recipient{to(t, bob, bob)}})
}

// fill puts rows of many messages into the database, with one body.
func (k *kit) fill(t *testing.T, n int, account string) {
	t.Helper()
	k.n += n // the ids of the others are behind these
	body, err := k.sandbox.Store().PrepareBody(nil, strings.NewReader("From: a@b\r\n\r\nx\r\n"), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Discard()
	m := &message{shares: []share{{account, account}}, expire: time.Hour, bounds: bounds{1 << 40, 1 << 40, 1 << 40}}
	err = k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error {
		id, err := tx.InsertBody(body, n)
		if err != nil {
			return err
		}
		for i := range n {
			m.ID = fmt.Sprintf("0%017d", i)
			if err := k.service.take(tx, m, 16, true, m.shares); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO quarantine_messages VALUES (?, ?, 16, ?, ?, '', '', 'a@b.org', '', 'a@b.org', '', '', '', '', '', '[]')`, m.ID, id, start, start.Add(time.Hour)); err != nil {
				return err
			}
			if err := insertShares(tx, m, m.shares, start); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestScan: a page looks at a bounded number of rows, and all pages together find what
// there is.
func TestScan(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	want := fmt.Sprintf("0%017d", 3)
	k.fill(t, maxPerAccount-1, alice)
	for range 5 {
		k.hold(t, q, event{to: []*mail.Recipient{to(t, bob, bob)}})
	}
	k.fillOne(t, want)
	for _, f := range []control.HeldFilter{{}, {User: alice}, {Domain: "example.test"}} {
		f.From = "needle"
		var got []string
		pages := 0
		for after := ""; ; pages++ {
			list, next, err := k.service.Held(t.Context(), f, control.Page{After: after, Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ids(list)...)
			if after = next; after == "" {
				break
			}
		}
		if !slices.Equal(got, []string{want}) {
			t.Errorf("%+v: %v, want %v", f, got, want)
		}
		if f.User == "" && pages == 0 {
			t.Errorf("%+v: %d rows are one page", f, maxPerAccount+1)
		}
	}
}

// fillOne makes one of the messages of fill one that is looked for, and gives it
// another share, so that its rows may be cut by the end of a page.
func (k *kit) fillOne(t *testing.T, id string) {
	t.Helper()
	err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`UPDATE quarantine_messages SET from_field = 'Needle' WHERE id = ?`, id); err != nil {
			return err
		}
		return insertShares(tx, &message{Held: control.Held{ID: id}}, []share{{bob, bob}, {carol, carol}}, start)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSenders: as what an author is looked for, whatever the length of his domain.
func TestSenders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a.", 100)
	for domain, want := range map[string][]string{
		"example.org":         {"example.org"},
		"a.b.example.co.uk":   {"a.b.example.co.uk", "b.example.co.uk", "example.co.uk"},
		"example.github.io":   {"example.github.io"},
		"org":                 {"org"},
		"mail.bücher.example": {"mail.bücher.example", "bücher.example"},
		long + "example.org":  {long + "example.org", "a.a.a.a.a.a.example.org", "a.a.a.a.a.example.org", "a.a.a.a.example.org", "a.a.a.example.org", "a.a.example.org", "a.example.org", "example.org"},
	} {
		if diff := cmp.Diff(append([]string{"x@" + domain}, want...), senders(mail.Address{LocalPart: "x", Domain: domain})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", domain, diff)
		}
	}
}

// TestAllowable: nobody allows what belongs to nobody.
func TestAllowable(t *testing.T) {
	t.Parallel()
	for sender, ok := range map[string]bool{
		"com": false, "co.uk": false, "github.io": false, "CO.UK": false, "example.co.uk": true, "x@co.uk": true, "example.com": true, "中国": false, "example.中国": true,
	} {
		if _, err := allowable(sender); (err == nil) != ok || !ok && !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%s: %v", sender, err)
		}
	}
}

// TestRefusedInTheEnd: a message that others have refused is not held, however often
// the client sends it; one that was taken is.
func TestRefusedInTheEnd(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	for _, v := range []mail.Verdict{mail.Defer(temporary, ""), mail.Reject(tooMany, ""), mail.Defer(temporary, "")} {
		tx := k.transaction(t, event{to: []*mail.Recipient{to(t, alice, alice), to(t, "x@example.net")}})
		if _, err := q.Handle(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		if n := len(held(t, k.service, control.HeldFilter{})); n != 1 {
			t.Errorf("%d are held", n)
		}
		q.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageData, Verdict: v})
		if n := len(held(t, k.service, control.HeldFilter{})); n != 0 {
			t.Errorf("%s: %d are held after it", v.Action, n)
		}
		k.consistent(t)
	}
	tx := k.transaction(t, event{})
	if _, err := q.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	q.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageData, Verdict: mail.Accept("")})
	q.Observe(t.Context(), k.transaction(t, event{}), mail.Outcome{Stage: mail.StageData, Verdict: mail.Defer(temporary, "")})
	if n := len(held(t, k.service, control.HeldFilter{})); n != 1 {
		t.Errorf("%d are held, want the one that was taken", n)
	}
}

// TestHeldTwice: another handler of the chain holds the same message for others.
func TestHeldTwice(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	tx := k.transaction(t, event{})
	for _, r := range []*mail.Recipient{to(t, alice, alice), to(t, "all@example.test", alice, bob, carol)} {
		tx.Envelope.Recipients = []*mail.Recipient{r}
		if v, err := q.Handle(t.Context(), tx); err != nil || v.Action != mail.ActionAccept {
			t.Fatalf("%v, %v", v, err)
		}
		k.consistent(t)
	}
	if m, err := k.service.HeldMessage(t.Context(), tx.ID); err != nil || m.Accounts != 3 {
		t.Errorf("held for %d, %v", m.Accounts, err)
	}
}

// TestWhatBecame: whoever asks for a message later is told what has become of it, for
// as long as it would have been held.
func TestWhatBecame(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	core, logs := observer.New(zap.InfoLevel)
	k.service.log = zap.New(core)
	q := k.load(t, `expire = "2d"`)
	ctx := control.WithActor(t.Context(), control.Actor{Name: "token \"desk\"", Via: control.ViaAPI})
	one := k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	old := k.hold(t, q, event{})
	if _, err := k.service.ReleaseHeld(ctx, one, alice); err != nil {
		t.Fatal(err)
	}
	k.Add(time.Hour)
	if _, err := k.service.DeleteHeld(ctx, one, ""); err != nil {
		t.Fatal(err)
	}
	told := func(id, want string) {
		t.Helper()
		_, showErr := k.service.HeldMessage(t.Context(), id)
		_, _, contentErr := k.service.HeldContent(t.Context(), id)
		_, releaseErr := k.service.ReleaseHeld(t.Context(), id, "")
		_, deleteErr := k.service.DeleteHeld(t.Context(), id, "")
		for _, err := range []error{showErr, contentErr, releaseErr, deleteErr} {
			if !errors.Is(err, store.ErrNotFound) || err.Error() != fmt.Sprintf("the message %q is not held: it was %s", id, want) {
				t.Errorf("%v; want %s", err, want)
			}
		}
	}
	const mistyped = "released, deleted or has expired, or the id is mistyped"
	told(one, `deleted for bob@example.test at 2026-11-01 13:00:00 UTC by token "desk" by api, and released for alice@example.test at 2026-11-01 12:00:00 UTC by token "desk" by api`)
	told("x", mistyped)
	sweep := func() {
		t.Helper()
		if err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error { _, err := k.service.Sweep(tx, k.Now(), 100); return err }); err != nil {
			t.Fatal(err)
		}
	}
	k.Add(48 * time.Hour)
	sweep()
	told(old, "expired at 2026-11-03 13:00:00 UTC")
	told(one, mistyped)
	if n := logs.FilterMessage("messages of the quarantine have expired").FilterField(zap.Int("messages", 1)).Len(); n != 1 {
		t.Errorf("%d lines in the log: %v", n, logs.All())
	}
	k.Add(48 * time.Hour)
	sweep()
	told(old, mistyped)
	if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM quarantine_ended`); n != 0 {
		t.Errorf("%d rows stay", n)
	}
}

// TestLostContent: damage to one message does not keep the others from going.
func TestLostContent(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.service.log = zap.NewNop()
	q := k.load(t, `expire = "1h"`)
	k.hold(t, q, event{})
	k.Add(time.Second)
	k.hold(t, q, event{})
	k.Add(time.Hour)
	err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM body WHERE id = (SELECT min(id) FROM body)`); err != nil {
			return err
		}
		_, err := k.service.Sweep(tx, k.Now(), 100)
		return err
	})
	if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM quarantine_messages`); err != nil || n != 0 {
		t.Errorf("%d are left, %v", n, err)
	}
}

// TestMigration: what was held before rows counted is counted with them.
func TestMigration(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	st, err := store.Open(t.Context(), t.TempDir()+"/data", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	steps := k.service.Migrations()
	before := steps
	before.Steps = steps.Steps[:1]
	if err := st.Migrate(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	err = st.Write(t.Context(), func(tx *store.Tx) error {
		for _, text := range []string{
			`INSERT INTO quarantine_messages VALUES ('a', 1, 100, 0, 0, '', '', '', '', '', '', '', '', '', '', '[]'), ('b', 1, 1000, 0, 0, '', '', '', '', '', '', '', '', '', '', '[]')`,
			`INSERT INTO quarantine_shares (message, account, domain, recipient) VALUES ('a', 'x@a.test', 'a.test', ''), ('a', 'y@a.test', 'a.test', ''), ('b', 'x@a.test', 'a.test', ''), ('b', '', 'b.test', '')`,
			`INSERT INTO quarantine_sizes VALUES ('', 2, 1100), ('a.test', 2, 1100), ('b.test', 1, 1000)`,
		} {
			if _, err := tx.Exec(text); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Migrate(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]total{
		"": {2, 1100 + 2*messageCost + 4*shareCost}, "a.test": {2, 1100 + 2*messageCost + 3*shareCost}, "b.test": {1, 1000 + messageCost + shareCost},
		"x@a.test": {2, 1100 + 2*messageCost + 2*shareCost}, "y@a.test": {1, 100 + messageCost + shareCost},
	} {
		var got total
		err := st.Read(t.Context(), func(sn *store.Snapshot) error {
			return sn.QueryRow(`SELECT messages, bytes FROM quarantine_sizes WHERE domain = ?`, key).Scan(&got.messages, &got.bytes)
		})
		if err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", key, got, err, want)
		}
	}
}

// TestDigestAcrossGaps: the time of a digest is always ahead, on the day that is
// meant, in zones on both sides of Greenwich.
func TestDigestAcrossGaps(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ zone, now, at, want string }{
		{"America/Santiago", "2027-09-04T23:30:00-04:00", "00:00", "2027-09-05T01:00:00-03:00"},
		{"America/Havana", "2027-03-13T12:00:00-05:00", "00:00", "2027-03-14T01:00:00-04:00"},
		{"America/New_York", "2027-03-14T00:00:00-05:00", "02:30", "2027-03-14T03:30:00-04:00"},
		{"Europe/Berlin", "2027-03-28T00:00:00+01:00", "02:30", "2027-03-28T03:30:00+02:00"},
	} {
		zone, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		at, err := parseClock(tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := at.next(now.In(zone)).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s, %s after %s: %s, want %s", tt.zone, tt.at, tt.now, got, tt.want)
		}
		now = now.In(zone)
		for range 200 {
			next := at.next(now)
			if !next.After(now) || next.Sub(now) > 26*time.Hour {
				t.Fatalf("%s, %s after %s: %s", tt.zone, tt.at, now, next)
			}
			now = now.Add(20 * time.Minute)
		}
	}
}

// TestUnlinked: nothing in it is a link to a mail program, nor looks like a line of
// the server's.
func TestUnlinked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"evil.example/login":                        "evil[.]example/login",
		"Www.evil.example":                          "Www[.]evil[.]example",
		"mailto:x@evil.example":                     "mailto[:]x[@]evil[.]example",
		"https://192.0.2.1/x":                       "https[:]//192.0.2.1/x",
		"evil\u3002example":                         "evil[\u3002]example",
		"x" + strings.Repeat(" ", 60) + "Id:  call": "x Id: call",
		"a\u2800\u3164\u00a0b":                      "a b",
		"score 7.5 is over 5. Really.":              "score 7.5 is over 5. Really.",
		strings.Repeat("x", 300):                    strings.Repeat("x", maxShown) + "…",
	} {
		if got := unlinked(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := quoted(`a" b`); got != `"a' b"` {
		t.Errorf("quoted: %s", got)
	}
}

// TestMonitored: in mode monitor it only says what it would do, in a server, and the
// message goes where it went without it.
func TestMonitored(t *testing.T) {
	t.Parallel()
	source := strings.Replace(server, "quarantine {}\n", "quarantine {\n mode = \"monitor\"\n}\n", 1)
	s := coretest.Serve(t, source, coretest.Options{})
	addAccounts(t, s)
	st := &site{s, control.NewLocal(s, t.TempDir(), nil), coretest.Service[*mailbox.Service](t, s)}
	id := st.send(t, "one", alice)
	if list, _, err := st.ops.Held(t.Context(), control.HeldFilter{}, control.Page{}); err != nil || len(list) > 0 {
		t.Errorf("held: %v, %v", ids(list), err)
	}
	records, err := st.ops.LastTraces(t.Context(), 1)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d traces, %v", len(records), err)
	}
	if !slices.ContainsFunc(records[0].Entries, func(e mail.Entry) bool {
		return e.Handler == "quarantine" && e.Note == "monitor" && e.Action == mail.ActionAccept && strings.HasPrefix(e.Reason, "held as "+id)
	}) {
		t.Errorf("the trace says %+v", records[0].Entries)
	}
	if j := st.subjects(t, alice, "Junk"); !slices.Equal(j, []string{"one"}) {
		t.Errorf("in Junk: %v", j)
	}
}

// TestNotToBeTuned: what a domain's admin sets does not take the room of others.
func TestNotToBeTuned(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for attribute, value := range map[string]string{"max_domain_size": `"0B"`, "max_account_size": `"0B"`, "max_size": `"1TB"`, "expire": `"3650d"`} {
		report, err := s.ops.ChangeDomain(t.Context(), "example.test", []tuning.Change{{Key: tuning.Key{Handler: "quarantine", Attribute: attribute}, Value: &value}}, "")
		if err == nil || !strings.Contains(fmt.Sprint(report, err), "file") {
			t.Errorf("%s: %v, %v", attribute, report, err)
		}
	}
}

// TestKeepNames: names that nothing has are warned of.
func TestKeepNames(t *testing.T) {
	t.Parallel()
	known := []string{"clamav", "attachments", "avscan"}
	for keep, want := range map[string]string{"clamav avscan": "", "clamv": `"clamv" is neither a handler of this chain nor a module, so that nothing is kept for it; did you mean "clamav"?`} {
		problems := (&Quarantine{Keep: strings.Fields(keep)}).ValidateNames(known)
		if got := fmt.Sprint(problems); (want == "") != (len(problems) == 0) || !strings.Contains(got, want) {
			t.Errorf("%s: %v", keep, got)
		}
	}
}
