package quarantine

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// lessons notes what is learned; do is called within the transaction.
type lessons struct {
	mu   sync.Mutex
	list []string
	do   func(tx *store.Tx) error
}

func (l *lessons) Learn(tx *store.Tx, account string, bodyID int64, spam bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.do != nil {
		if err := l.do(tx); err != nil {
			return err
		}
	}
	var size int64
	if err := tx.QueryRow(`SELECT size FROM body WHERE id = ?`, bodyID).Scan(&size); err != nil {
		return err
	}
	l.list = append(l.list, fmt.Sprintf("%s spam=%v", account, spam))
	return nil
}

// TestRelease: each account's share is released alone, into INBOX, as it came, and is
// told as wanted.
func TestRelease(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	var l lessons
	k.service.learner = &l
	id := k.hold(t, k.load(t, ""), event{to: []*mail.Recipient{to(t, "all@example.test", alice, bob, carol)}})
	k.Add(time.Hour)
	got, err := k.service.ReleaseHeld(t.Context(), id, bob)
	if err != nil || !slices.Equal(got, []string{bob}) {
		t.Fatalf("released for %v, %v", got, err)
	}
	if k.inbox(t, bob) != 1 || k.inbox(t, alice) != 0 || k.inbox(t, carol) != 0 {
		t.Error("it is not in INBOX of bob alone")
	}
	k.consistent(t)
	if _, err := k.service.ReleaseHeld(t.Context(), id, bob); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("again for bob: %v", err)
	}
	if got, err = k.service.DeleteHeld(t.Context(), id, carol); err != nil || !slices.Equal(got, []string{carol}) {
		t.Errorf("deleted for %v, %v", got, err)
	}
	k.consistent(t)
	if got, err = k.service.ReleaseHeld(t.Context(), id, ""); err != nil || !slices.Equal(got, []string{alice}) {
		t.Errorf("released for %v, %v", got, err)
	}
	if list := held(t, k.service, control.HeldFilter{}); len(list) > 0 {
		t.Errorf("held: %v", ids(list))
	}
	want := []string{"X-Mox-Like-Tags: seen\r\nReturn-Path: <bounce@example.org>\r\nFrom: Eve <eve@example.org>\r\nSubject: Number 1\r\nMessage-ID: <1@example.org>\r\n\r\nHello.\r\n"}
	for account, want := range map[string][]string{alice: want, bob: want, carol: nil} {
		if diff := cmp.Diff(want, texts(t, k.mail, account)); diff != "" {
			t.Errorf("INBOX of %s (-want +got):\n%s", account, diff)
		}
	}
	if diff := cmp.Diff([]string{bob + " spam=false", alice + " spam=false"}, l.list); diff != "" {
		t.Errorf("learned (-want +got):\n%s", diff)
	}
	k.consistent(t)
}

// TestReleaseOfLargeMessage: its body is a file, which stays when the quarantine lets
// go of it, and goes with the message otherwise.
func TestReleaseOfLargeMessage(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	for _, release := range []bool{true, false} {
		tx := k.transaction(t, event{})
		m, err := mail.NewMessage([]byte("From: a@example.org\r\n\r\n" + strings.Repeat("0123456789\r\n", 50_000)))
		if err != nil {
			t.Fatal(err)
		}
		tx.Message = m
		if v, err := q.Handle(t.Context(), tx); err != nil || v.Action != mail.ActionAccept {
			t.Fatalf("%v, %v", v, err)
		}
		if release {
			_, err = k.service.ReleaseHeld(t.Context(), tx.ID, "")
		} else {
			_, err = k.service.DeleteHeld(t.Context(), tx.ID, "")
		}
		if err != nil {
			t.Fatal(err)
		}
		k.consistent(t)
		if got := texts(t, k.mail, alice); len(got) != 1 || !strings.HasSuffix(got[0], "0123456789\r\n") {
			t.Errorf("%d messages in INBOX", len(got))
		}
	}
}

// TestReleaseAtOnce: of many who release the same at once, one does it.
func TestReleaseAtOnce(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	id := k.hold(t, k.load(t, ""), event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	var mu sync.Mutex
	done := make(map[string]int)
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			user := []string{"", alice, bob}[i%3]
			var got []string
			var err error
			if i%2 == 0 {
				got, err = k.service.ReleaseHeld(t.Context(), id, user)
			} else {
				var a control.AllowedHeld
				a, err = k.service.AllowHeld(t.Context(), control.AllowAuthor{ID: id, User: user, Scope: control.ScopeUser})
				got = a.Accounts
			}
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("release for %q: %v", user, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, account := range got {
				done[account]++
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[string]int{alice: 1, bob: 1}, done); diff != "" {
		t.Errorf("released (-want +got):\n%s", diff)
	}
	if k.inbox(t, alice) != 1 || k.inbox(t, bob) != 1 {
		t.Errorf("%d and %d messages in INBOX", k.inbox(t, alice), k.inbox(t, bob))
	}
	k.consistent(t)
}

// TestReleaseFails: where anything fails, nothing has changed.
func TestReleaseFails(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	broken := errors.New("broken")
	id := k.hold(t, k.load(t, ""), event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	n := 0
	for name, do := range map[string]func(*store.Tx) error{
		"error":        func(*store.Tx) error { return broken },
		"panic":        func(*store.Tx) error { panic("broken") },
		"the last one": func(*store.Tx) error { n++; return map[bool]error{true: broken}[n == 2] },
	} {
		k.service.learner = &lessons{do: do}
		if _, err := k.service.AllowHeld(t.Context(), control.AllowAuthor{ID: id, Scope: control.ScopeAll}); err == nil {
			t.Errorf("%s: no error", name)
		}
		if k.inbox(t, alice)+k.inbox(t, bob) != 0 || len(held(t, k.service, control.HeldFilter{})) != 1 {
			t.Errorf("%s: something was delivered", name)
		}
		if list, _, err := k.service.AllowedAuthors(t.Context(), control.Page{}); err != nil || len(list) > 0 {
			t.Errorf("%s: allowed %v, %v", name, list, err)
		}
		k.consistent(t)
	}
	k.service.learner = nil
	if _, err := k.service.ReleaseHeld(t.Context(), id, ""); err != nil || k.inbox(t, alice) != 1 {
		t.Errorf("afterwards: %v", err)
	}
}

// image copies the data directory as a crash at this instant would leave it.
func image(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || strings.HasSuffix(rel, "-shm") {
			return err // the index of the log is made anew
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// revive counts what a start after the crash finds.
func revive(t *testing.T, dir string) (held, inbox int64) {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	return query(t, s, `SELECT count(*) FROM quarantine_shares`),
		query(t, s, `SELECT count(*) FROM mailbox_messages m JOIN mailbox_contents c ON c.id = m.content_id JOIN body b ON b.id = c.body_id`)
}

// TestCrash: at whatever point the process dies, each account's message is in one of
// both places.
func TestCrash(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	dir := k.sandbox.Store().Dir()
	q := k.load(t, "")
	check := func(when, dir string, wantHeld, wantInbox int64) {
		t.Helper()
		if held, inbox := revive(t, dir); held != wantHeld || inbox != wantInbox {
			t.Errorf("%s: %d are held, and %d in INBOX; want %d, %d", when, held, inbox, wantHeld, wantInbox)
		}
	}
	id := k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	check("after the 250", image(t, dir), 2, 0)
	var during []string
	l := &lessons{do: func(*store.Tx) error { during = append(during, image(t, dir)); return nil }}
	k.service.learner = l
	if _, err := k.service.ReleaseHeld(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	check("after the release", image(t, dir), 0, 2)
	if len(during) != 2 {
		t.Fatalf("%d images", len(during))
	}
	for i, dir := range during {
		check(fmt.Sprint("during the release, ", i), dir, 2, 0)
	}
}

// TestExpiry: what is old goes in bounded steps, with its bodies.
func TestExpiry(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q, short := k.load(t, ""), k.load(t, `expire = "1h"`)
	sweep := func(limit int) (n int) {
		t.Helper()
		err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) (err error) { n, err = k.service.Sweep(tx, k.Now(), limit); return err })
		if err != nil {
			t.Fatal(err)
		}
		k.consistent(t)
		return n
	}
	for range 3 {
		k.hold(t, short, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob), to(t, carol, carol)}})
	}
	k.hold(t, q, event{})
	if n := sweep(100); n != 0 {
		t.Errorf("%d shares went before their time", n)
	}
	k.Add(time.Hour)
	if a, b, c := sweep(4), sweep(4), sweep(4); a != 4 || b != 4 || c != 1 {
		t.Errorf("%d, %d and %d shares went, want 4, 4, 1", a, b, c)
	}
	if list := held(t, k.service, control.HeldFilter{}); len(list) != 1 {
		t.Errorf("held: %v", ids(list))
	}
	if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM body`); n != 1 {
		t.Errorf("%d bodies", n)
	}
}

// TestAccountRemoved: what was held for it is nobody's from then on, also if the
// address is given again.
func TestAccountRemoved(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "digest = true")
	both := k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	alone := k.hold(t, q, event{})
	if _, err := k.service.AllowHeld(t.Context(), control.AllowAuthor{ID: k.hold(t, q, event{}), Scope: control.ScopeUser}); err != nil {
		t.Fatal(err)
	}
	service, err := core.ServiceOf[*accounts.Accounts](k.sandbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Remove(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	k.consistent(t)
	if err := service.Add(t.Context(), alice, "a long enough password"); err != nil {
		t.Fatal(err)
	}
	list := held(t, k.service, control.HeldFilter{})
	if len(list) != 1 || list[0].ID != both || list[0].Accounts != 1 || list[0].For[0].Account != bob {
		t.Errorf("held: %+v", list)
	}
	for _, f := range []control.HeldFilter{{User: alice}, {Domain: "example.com"}} {
		if list := held(t, k.service, f); len(list) > 0 {
			t.Errorf("%+v: %v", f, ids(list))
		}
	}
	if _, err := k.service.HeldMessage(t.Context(), alone); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("show: %v", err)
	}
	if _, _, err := k.service.HeldContent(t.Context(), alone); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("content: %v", err)
	}
	if _, err := k.service.ReleaseHeld(t.Context(), alone, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("release: %v", err)
	}
	if allowed, err := k.service.allowing(t.Context(), mail.Address{LocalPart: "eve", Domain: "example.org"}, []string{alice}); err != nil || len(allowed) > 0 {
		t.Errorf("allowed: %v, %v", allowed, err)
	}
	err = k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error { _, err := k.service.Sweep(tx, k.Now(), 100); return err })
	if err != nil {
		t.Fatal(err)
	}
	k.consistent(t)
	if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM quarantine_shares`); n != 1 {
		t.Errorf("%d shares are left, want that of bob", n)
	}
}

// TestReleaseToNobody: an account that the mailboxes do not find leaves all as it was.
func TestReleaseToNobody(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.service.accounts = nil
	id := k.hold(t, k.load(t, ""), event{to: []*mail.Recipient{to(t, "gone@example.test", "gone@example.test"), to(t, alice, alice)}})
	if _, err := k.service.ReleaseHeld(t.Context(), id, ""); !errors.Is(err, control.ErrInvalid) || !errors.Is(err, mailbox.ErrGone) || !strings.Contains(err.Error(), "--user") {
		t.Errorf("for both: %v", err)
	}
	if k.inbox(t, alice) != 0 {
		t.Error("alice has it")
	}
	if _, err := k.service.ReleaseHeld(t.Context(), id, alice); err != nil {
		t.Errorf("for alice: %v", err)
	}
	k.consistent(t)
}

// TestAnyOrder: whatever is done in whatever order, what is counted is what is there.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.service.learner = new(lessons)
	q := k.load(t, "expire = \"2h\"\ndigest = true")
	people := []string{alice, bob, carol}
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		list := ids(held(t, k.service, control.HeldFilter{}))
		id := "none"
		if len(list) > 0 {
			id = list[random.IntN(len(list))]
		}
		user := append(people, "")[random.IntN(4)]
		var err error
		switch random.IntN(7) {
		case 0, 1, 2:
			var recipients []*mail.Recipient
			for _, i := range random.Perm(3)[:1+random.IntN(3)] {
				recipients = append(recipients, to(t, people[i], people[i]))
			}
			_, err = q.Handle(t.Context(), k.transaction(t, event{to: recipients}))
		case 3:
			_, err = k.service.ReleaseHeld(t.Context(), id, user)
		case 4:
			_, err = k.service.DeleteHeld(t.Context(), id, user)
		case 5:
			k.Add(30 * time.Minute)
			k.service.sendDue(t.Context())
		case 6:
			err = k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error { _, err := k.service.Sweep(tx, k.Now(), 2); return err })
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		k.consistent(t)
	}
}
