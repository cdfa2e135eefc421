package quarantine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// limit lets the database grow by a number of pages only, as a disk does that is
// nearly full.
func (k *kit) limit(t *testing.T, more int64) {
	t.Helper()
	err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error {
		var pages, most int64
		if err := tx.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
			return err
		}
		return tx.QueryRow(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+more)).Scan(&most)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull: a full disk puts mail off and loses none, and all works again once
// there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.service.learner = &lessons{do: func(tx *store.Tx) error {
		_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS ballast AS SELECT randomblob(200000)`)
		return err
	}}
	q := k.load(t, "")
	id := k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	k.limit(t, 0)
	var deferred *mail.Transaction
	for range 1000 { // until the pages that are there have no room left
		tx := k.transaction(t, event{})
		v, err := q.Handle(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		if v.Action == mail.ActionDefer {
			if got := v.Reply.String()[:9]; got != "452 4.3.1" {
				t.Errorf("the reply is %s (%s)", v.Reply, v.Reason)
			}
			deferred = tx
			break
		}
	}
	if deferred == nil {
		t.Fatal("the disk is never full")
	}
	if r := deferred.Envelope.Recipients[0]; r.Delivered || r.Target != "deliver" {
		t.Errorf("%s has the recipient, delivered %v", r.Target, r.Delivered)
	}
	k.consistent(t)
	if _, err := k.service.ReleaseHeld(t.Context(), id, ""); !errors.Is(err, store.ErrFull) {
		t.Errorf("release on a full disk: %v", err)
	}
	k.consistent(t)
	if m, err := k.service.HeldMessage(t.Context(), id); err != nil || m.Accounts != 2 || k.inbox(t, alice)+k.inbox(t, bob) != 0 {
		t.Errorf("%+v, %v; %d and %d in INBOX", m, err, k.inbox(t, alice), k.inbox(t, bob))
	}
	k.limit(t, 1000)
	if _, err := k.service.ReleaseHeld(t.Context(), id, ""); err != nil || k.inbox(t, alice) != 1 || k.inbox(t, bob) != 1 {
		t.Errorf("release once there is room: %v", err)
	}
	if v, err := q.Handle(t.Context(), deferred); err != nil || v.Action != mail.ActionAccept {
		t.Errorf("the next try of the client: %v, %v", v, err)
	}
	k.consistent(t)
}

// BenchmarkHandle measures what the handler costs a message that nobody has
// quarantined, and one that is held.
func BenchmarkHandle(b *testing.B) {
	k := newKit(b)
	q := k.load(b, `max_size = "1TB"`)
	b.Run("passes", func(b *testing.B) {
		tx := k.transaction(b, event{})
		tx.SetJudgement(mail.Judgement{})
		b.ReportAllocs()
		for b.Loop() {
			if v, err := q.Handle(b.Context(), tx); err != nil || v.Action != mail.ActionContinue {
				b.Fatal(v, err)
			}
		}
	})
	b.Run("held", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.hold(b, q, event{})
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := k.service.Held(b.Context(), control.HeldFilter{User: alice}, control.Page{Limit: 100}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
