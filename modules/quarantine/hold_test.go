package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// TestHold: the message is held as the target would have stored it, and all is kept
// that an operator wants to know.
func TestHold(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	sales := to(t, "Sales@example.test", alice, bob)
	tx := k.transaction(t, event{from: "=?utf-8?q?E=C2=9Bve?= <Eve@Example.org>", subject: "=?utf-8?b?w7xiZXI=?=\x1b[2J", to: []*mail.Recipient{sales, to(t, alice, alice), to(t, carol, carol)}, results: dmarcPass()})
	v, err := q.Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionAccept {
		t.Fatalf("%v, %v", v, err)
	}
	if want := "held as 000000000000000001 for alice@example.test, bob@example.test, carol@example.com until 2026-12-01 12:00:00 UTC"; v.Reason != want {
		t.Errorf("reason %q, want %q", v.Reason, want)
	}
	for _, r := range tx.Envelope.Recipients {
		if !r.Delivered || r.Target != "quarantine" {
			t.Errorf("%s: delivered %v by %s", r.Address, r.Delivered, r.Target)
		}
	}
	want := control.Held{
		ID: tx.ID, Received: start, Expires: start.Add(30 * 24 * time.Hour), From: "E?ve <Eve@Example.org>", Author: "eve@example.org", Authenticated: "dmarc=pass",
		Subject: "über?[2J", MessageID: "<1@example.org>", ReversePath: "bounce@example.org", Handler: "scanner", Reason: "score 7.5 is over 5",
		Scores: []control.HeldScore{{Handler: "scanner", Points: 7.5}}, Listener: "mx", RemoteIP: "192.0.2.7", Accounts: 3,
		For: []control.HeldFor{{Account: alice, Recipient: "sales@example.test"}, {Account: bob, Recipient: "sales@example.test"}, {Account: carol, Recipient: carol}},
	}
	got, err := k.service.HeldMessage(t.Context(), tx.ID)
	if err != nil {
		t.Fatal(err)
	}
	want.Size = got.Size
	if diff := cmp.Diff(want, got.Held); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	content, size, err := k.service.HeldContent(t.Context(), tx.ID)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(content)
	if err != nil || content.Close() != nil {
		t.Fatal(err)
	}
	whole := "X-Mox-Like-Tags: seen\r\nReturn-Path: <bounce@example.org>\r\nFrom: =?utf-8?q?E=C2=9Bve?= <Eve@Example.org>\r\nSubject: =?utf-8?b?w7xiZXI=?=\x1b[2J\r\nMessage-ID: <1@example.org>\r\n\r\nHello.\r\n"
	if string(raw) != whole || size != int64(len(whole)) || got.Size != size {
		t.Errorf("content of %d, %d bytes: %q", size, got.Size, raw)
	}
	if header, _, _ := strings.Cut(whole, "\r\nHello"); got.Header != header {
		t.Errorf("header section %q", got.Header)
	}
	if r, err := tx.Rendered(); err != nil || strings.Contains(string(r.Head()), "Return-Path") {
		t.Errorf("afterwards the message has a Return-Path: %s, %v", r.Head(), err)
	}
	k.consistent(t)
}

// TestNotHeld: what is none of its business passes, and a trial leaves no trace.
func TestNotHeld(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q, junk := k.load(t, ""), k.load(t, `to = "junk"`)
	plain := k.transaction(t, event{})
	plain.SetJudgement(mail.Judgement{})
	discarded := k.transaction(t, event{})
	discarded.SetDiscard()
	trial := k.transaction(t, event{})
	trial.Trial = true
	for name, tt := range map[string]struct {
		q      *Quarantine
		tx     *mail.Transaction
		reason string
	}{
		"not quarantined": {q, plain, "not quarantined"},
		"discarded":       {q, discarded, "discarded"},
		"trial":           {q, trial, "trial: held as 000000000000000003 for alice@example.test until 2026-12-01 12:00:00 UTC"},
		"no account":      {q, k.transaction(t, event{to: []*mail.Recipient{to(t, "x@example.net")}}), "1 recipients have no account here and are left to the target"},
		"junk":            {junk, k.transaction(t, event{}), "goes to Junk"},
	} {
		v, err := tt.q.Handle(t.Context(), tt.tx)
		if err != nil || v.Action != mail.ActionContinue || v.Reason != tt.reason {
			t.Errorf("%s: %v, %v; want it to go on: %s", name, v, err, tt.reason)
		}
		if r := tt.tx.Envelope.Recipients[0]; r.Delivered || r.Target != "deliver" {
			t.Errorf("%s: %s has %s, delivered %v", name, r.Address, r.Target, r.Delivered)
		}
	}
	if list := held(t, k.service, control.HeldFilter{}); len(list) > 0 {
		t.Errorf("held: %v", ids(list))
	}
	k.consistent(t)
}

// TestHoldSome: recipients without accounts go on to the next target.
func TestHoldSome(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	other := to(t, "x@example.net")
	tx := k.transaction(t, event{to: []*mail.Recipient{to(t, alice, alice), other}})
	v, err := k.load(t, "").Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionContinue {
		t.Fatalf("%v, %v; want it to go on", v, err)
	}
	if !tx.Envelope.Recipients[0].Delivered || other.Delivered || tx.Quarantined() == "" {
		t.Errorf("alice: %+v, other: %+v, quarantine %q", tx.Envelope.Recipients[0], other, tx.Quarantined())
	}
}

// failing is a service that cannot hold.
type failing struct{ err error }

func (f failing) hold(context.Context, *message) error   { return f.err }
func (f failing) withdraw(context.Context, string) error { return f.err }
func (f failing) allowing(context.Context, mail.Address, []string) (map[string]bool, error) {
	return nil, f.err
}

// TestHoldFails: nobody counts as served, and the client comes back or the message
// goes to Junk.
func TestHoldFails(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	tests := map[string]struct {
		err    error
		by     string
		action mail.Action
		reply  string
	}{
		"disk full":                {fmt.Errorf("hold: %w", store.ErrFull), "", mail.ActionDefer, "452 4.3.1"},
		"other":                    {errors.New("broken"), "", mail.ActionDefer, "451 4.3.0"},
		"account gone":             {errAccountGone, "", mail.ActionDefer, "451 4.3.0"},
		"no room":                  {errNoRoom, "", mail.ActionContinue, "0"},
		"no room for a virus":      {errNoRoom, "clamav", mail.ActionDefer, "452 4.3.1"},
		"no room, own keep":        {errNoRoom, "avscan", mail.ActionDefer, "452 4.3.1"},
		"closed":                   {store.ErrClosed, "", mail.ActionDefer, "451 4.3.0"},
		"client is gone meanwhile": {context.Canceled, "", mail.ActionDefer, "451 4.3.0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &Quarantine{To: toStore, Keep: []string{"clamav", "avscan"}, name: "quarantine", service: failing{tt.err}, now: k.Now, log: zap.NewNop()}
			tx := (&kit{Clock: k.Clock}).transaction(t, event{by: tt.by})
			v, err := q.Handle(t.Context(), tx)
			if err != nil || v.Action != tt.action || !strings.HasPrefix(v.Reply.String(), tt.reply) {
				t.Errorf("%s %s (%s), %v; want %s %s", v.Action, v.Reply, v.Reason, err, tt.action, tt.reply)
			}
			if r := tx.Envelope.Recipients[0]; r.Delivered || r.Target != "deliver" {
				t.Errorf("%s has the recipient, delivered %v", r.Target, r.Delivered)
			}
			if tx.Quarantined() == "" {
				t.Error("it would go to INBOX")
			}
		})
	}
}

// TestHoldIsOneWrite: whatever part of it fails, nothing is left, and it works again.
func TestHoldIsOneWrite(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	exec := func(text string) {
		t.Helper()
		err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(text); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"quarantine_messages", "quarantine_shares", "quarantine_sizes", "body"} {
		exec(`CREATE TRIGGER broken BEFORE INSERT ON ` + table + ` BEGIN SELECT RAISE(ABORT, 'the disk is broken'); END`)
		tx := k.transaction(t, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
		v, err := q.Handle(t.Context(), tx)
		if err != nil || v.Action != mail.ActionDefer || v.Reply.Code != 451 || tx.Envelope.Recipients[0].Delivered {
			t.Errorf("%s fails: %v, %v", table, v, err)
		}
		if strings.Contains(v.Reply.Text, "broken") {
			t.Errorf("the client is told %q", v.Reply.Text)
		}
		exec(`DROP TRIGGER broken`)
		if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM body`); n != 0 {
			t.Errorf("%s fails: %d bodies are left", table, n)
		}
		k.consistent(t)
	}
	k.hold(t, q, event{})
	k.consistent(t)
}

// TestAccountIsGone: nothing is held for nobody.
func TestAccountIsGone(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	tx := k.transaction(t, event{to: []*mail.Recipient{to(t, "gone@example.test", "gone@example.test"), to(t, alice, alice)}})
	v, err := q.Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionDefer || !strings.Contains(v.Reason, "gone@example.test: the account was removed meanwhile") {
		t.Errorf("%v, %v", v, err)
	}
	k.hold(t, q, event{to: []*mail.Recipient{to(t, "sales@example.test", "gone@example.test", alice)}})
	if list := held(t, k.service, control.HeldFilter{}); len(list) != 1 || list[0].Accounts != 1 {
		t.Errorf("held: %+v", list)
	}
}

// TestRoom: what is too much for the server or a domain goes to Junk.
func TestRoom(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	big := strings.Repeat("x", 400<<10)
	q := k.load(t, "max_size = \"1MiB\"\nmax_domain_size = \"512KiB\"\nmax_account_size = \"0B\"")
	send := func(accounts ...string) mail.Verdict {
		t.Helper()
		var list []*mail.Recipient
		for _, a := range accounts {
			list = append(list, to(t, a, a))
		}
		tx := k.transaction(t, event{to: list})
		m, err := mail.NewMessage([]byte("From: a@example.org\r\n\r\n" + big))
		if err != nil {
			t.Fatal(err)
		}
		tx.Message = m
		v, err := q.Handle(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := send(alice); v.Action != mail.ActionAccept {
		t.Errorf("the first: %v", v)
	}
	if v := send(bob); v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "with this message 805KiB would be held for example.test, and may be 512KiB: goes to Junk") {
		t.Errorf("the second of the domain: %v", v)
	}
	if v := send(alice, carol); v.Action != mail.ActionContinue {
		t.Errorf("one for a domain that is full and another: %v", v)
	}
	if v := send(carol); v.Action != mail.ActionAccept {
		t.Errorf("the first of another domain: %v", v)
	}
	q = k.load(t, "max_size = \"1MiB\"\nmax_domain_size = \"0B\"\nmax_account_size = \"0B\"")
	if v := send(carol); v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "quarantine is full") {
		t.Errorf("beyond the size of the server: %v", v)
	}
	if _, err := k.service.DeleteHeld(t.Context(), ids(held(t, k.service, control.HeldFilter{}))[0], ""); err != nil {
		t.Fatal(err)
	}
	if v := send(carol); v.Action != mail.ActionAccept {
		t.Errorf("once there is room again: %v", v)
	}
	k.consistent(t)
}

// TestHeld: filters and pages.
func TestHeld(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	k.hold(t, q, event{from: "News <news@example.net>"})
	k.Add(time.Hour)
	k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, carol, carol)}})
	k.Add(time.Hour)
	k.hold(t, q, event{from: "not an address", to: []*mail.Recipient{to(t, bob, bob)}})
	id := func(n int) string { return fmt.Sprintf("%018d", n) }
	for name, tt := range map[string]struct {
		f    control.HeldFilter
		want []string
	}{
		"all":              {control.HeldFilter{}, []string{id(3), id(2), id(1)}},
		"user":             {control.HeldFilter{User: alice}, []string{id(2), id(1)}},
		"domain":           {control.HeldFilter{Domain: "example.com"}, []string{id(2)}},
		"from":             {control.HeldFilter{From: "NEWS"}, []string{id(1)}},
		"reverse-path":     {control.HeldFilter{From: "bounce@"}, []string{id(3), id(2), id(1)}},
		"since":            {control.HeldFilter{Since: start.Add(time.Hour)}, []string{id(3), id(2)}},
		"user and since":   {control.HeldFilter{User: alice, Since: start.Add(time.Minute)}, []string{id(2)}},
		"nothing":          {control.HeldFilter{From: "100%"}, nil},
		"domain of nobody": {control.HeldFilter{Domain: "example.net"}, nil},
	} {
		if diff := cmp.Diff(tt.want, ids(held(t, k.service, tt.f))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if h := held(t, k.service, control.HeldFilter{Domain: "example.com"})[0]; h.Accounts != 1 || h.For[0].Account != carol {
		t.Errorf("for example.com alone: %+v", h.For)
	}
	var paged []string
	for after := ""; ; {
		list, next, err := k.service.Held(t.Context(), control.HeldFilter{}, control.Page{After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		paged = append(paged, ids(list)...)
		if after = next; after == "" {
			break
		}
	}
	if !slices.Equal(paged, []string{id(3), id(2), id(1)}) {
		t.Errorf("in pages: %v", paged)
	}
	for _, f := range []func() error{
		func() error { _, err := k.service.HeldMessage(t.Context(), "x"); return err },
		func() error { _, _, err := k.service.HeldContent(t.Context(), "x"); return err },
		func() error { _, err := k.service.ReleaseHeld(t.Context(), "x", ""); return err },
		func() error { _, err := k.service.DeleteHeld(t.Context(), id(1), bob); return err },
		func() error { _, err := k.service.AllowHeld(t.Context(), control.AllowAuthor{ID: "x"}); return err },
	} {
		if err := f(); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "it was released, deleted or has expired") {
			t.Errorf("what is not held: %v", err)
		}
	}
}
