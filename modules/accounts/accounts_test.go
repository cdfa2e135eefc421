package accounts

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap are costs that a test can afford.
var cheap = costs{memory: 8, passes: 1, lanes: 1}

const (
	alice = "alice@example.test"
	bob   = "bob@example.test"

	goodPassword mail.Secret = "correct horse"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newAccounts gives the service of a fresh sandbox.
func newAccounts(t testing.TB, o coretest.Options) *Accounts {
	t.Helper()
	a := coretest.Service[*Accounts](t, coretest.New(t, o))
	a.hasher = newHasher(cheap, 4)
	return a
}

func mustAdd(t testing.TB, a *Accounts, address string, password mail.Secret) {
	t.Helper()
	if err := a.Add(t.Context(), address, password); err != nil {
		t.Fatal(err)
	}
}

func exists(t testing.TB, a *Accounts, address string) bool {
	t.Helper()
	ok, err := a.Exists(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// verify tells whether a password is an account's, and lets its client in then.
func verify(t testing.TB, a *Accounts, username string, password mail.Secret) bool {
	t.Helper()
	answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Mechanism: "PLAIN", Username: username, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if answer.OK {
		answer.Accepted(t.Context())
	}
	return answer.OK
}

// imapSession is that of a client.
func imapSession() *mail.Session {
	return &mail.Session{ID: "session", Protocol: mail.ProtocolIMAP, RemoteAddr: netip.MustParseAddrPort("192.0.2.1:4711")}
}

func TestAddRemove(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	if exists(t, a, alice) {
		t.Error("an account exists in an empty database")
	}
	mustAdd(t, a, "Alice@EXAMPLE.test", goodPassword)
	if !exists(t, a, alice) {
		t.Error("the account does not exist right after Add")
	}
	for _, spelling := range []string{alice, "ALICE@example.test", `"alice"@example.test`} {
		if err := a.Add(t.Context(), spelling, goodPassword); !errors.Is(err, ErrExists) {
			t.Errorf("Add(%s) a second time: error %v, want %v", spelling, err, ErrExists)
		}
	}
	if err := a.Remove(t.Context(), "ALICE@example.test"); err != nil {
		t.Fatal(err)
	}
	if exists(t, a, alice) || verify(t, a, alice, goodPassword) {
		t.Error("the account exists right after Remove")
	}
	mustAdd(t, a, alice, "another horse")
	if verify(t, a, alice, goodPassword) || !verify(t, a, alice, "another horse") {
		t.Error("an account that was added again has not the new password")
	}
}

func TestAddAtOnce(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	const many = 8
	errs := make(chan error, many)
	for range many {
		go func() { errs <- a.Add(t.Context(), alice, goodPassword) }()
	}
	added := 0
	for range many {
		if err := <-errs; err == nil {
			added++
		} else if !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if added != 1 {
		t.Errorf("%d of %d calls added the one account", added, many)
	}
}

func TestAddressErrors(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	for _, address := range []string{"", "alice", "postmaster", "@example.test", "alice@", "alice@exa mple.test", strings.Repeat("a", 65) + "@example.test"} {
		if err := a.Add(t.Context(), address, goodPassword); err == nil || errors.Is(err, ErrExists) {
			t.Errorf("Add(%q) = %v", address, err)
		}
		if err := a.SetPassword(t.Context(), address, goodPassword); !errors.Is(err, ErrNotFound) {
			t.Errorf("SetPassword(%q) = %v, want %v", address, err, ErrNotFound)
		}
		if err := a.Remove(t.Context(), address); !errors.Is(err, ErrNotFound) {
			t.Errorf("Remove(%q) = %v, want %v", address, err, ErrNotFound)
		}
	}
	if err := a.SetPassword(t.Context(), alice, goodPassword); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("SetPassword of an unknown account: error %v", err)
	}
	if err := a.Remove(t.Context(), alice); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Remove of an unknown account: error %v", err)
	}
}

func TestListFirst(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	began := c.Now()
	for _, address := range []string{"zoe@example.test", alice, "carol@example.org"} {
		mustAdd(t, a, address, goodPassword)
		c.add(time.Second)
	}
	got, err := a.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []mail.Account{
		{Address: alice, Created: began.Add(time.Second)},
		{Address: "carol@example.org", Created: began.Add(2 * time.Second)},
		{Address: "zoe@example.test", Created: began},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	for domain, want := range map[string]string{"example.test": "zoe@example.test", "example.org": "carol@example.org", "example.net": ""} {
		if got, err := a.First(t.Context(), domain); got != want || err != nil {
			t.Errorf("First(%s) = %q, %v, want %q", domain, got, err, want)
		}
	}
}

func TestExistsIn(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	err := a.store.Read(t.Context(), func(s *store.Snapshot) error {
		for address, want := range map[string]bool{alice: true, bob: false} {
			if got, err := a.ExistsIn(s, address); err != nil || got != want {
				t.Errorf("%s: %v, %v", address, got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSetPassword(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	before, err := a.ScramKeys(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if !verify(t, a, alice, goodPassword) {
		t.Fatal("the first password is wrong")
	}
	if err := a.SetPassword(t.Context(), "Alice@example.test", "another horse"); err != nil {
		t.Fatal(err)
	}
	if verify(t, a, alice, goodPassword) {
		t.Error("the old password is still right, as it was a moment ago")
	}
	if !verify(t, a, alice, "another horse") {
		t.Error("the new password is wrong")
	}
	if !verify(t, a, bob, goodPassword) {
		t.Error("another account's password has changed")
	}
	after, err := a.ScramKeys(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Equal(before.StoredKey, after.StoredKey) || cmp.Equal(before.ServerKey, after.ServerKey) {
		t.Error("the SCRAM keys have not changed")
	}
	if !cmp.Equal(before.Salt, after.Salt) || before.Iterations != after.Iterations {
		t.Error("the salt has changed, under which the keys of app passwords are")
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var fake [2]mail.ScramKeys
	for i := range fake {
		s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		a := coretest.Service[*Accounts](t, s)
		a.hasher = newHasher(cheap, 4)
		if i == 0 {
			mustAdd(t, a, alice, goodPassword)
		} else if !exists(t, a, alice) || exists(t, a, bob) || !verify(t, a, alice, goodPassword) {
			t.Error("the account is not there after a restart")
		}
		if fake[i], err = a.ScramKeys(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(fake[0], fake[1]); diff != "" {
		t.Errorf("keys of an unknown user change with a restart:\n%s", diff)
	}
}

// mailbox stands for the service that keeps the mail.
type mailbox struct {
	removed []string
	err     error
}

func (m *mailbox) Module() core.Info {
	return core.Info{ID: "service.mailbox", New: func() core.Module { return m }}
}

func (m *mailbox) RemoveAccount(tx *store.Tx, address string) error {
	m.removed = append(m.removed, address)
	if _, err := tx.Exec(`DELETE FROM accounts_secret`); err != nil {
		return err
	}
	return m.err
}

func TestRemoveMail(t *testing.T) {
	t.Parallel()
	m := new(mailbox)
	registry := new(core.Registry)
	registry.Register(&Accounts{})
	registry.Register(m)
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := coretest.Service[*Accounts](t, s)
	a.hasher = newHasher(cheap, 4)
	mustAdd(t, a, alice, goodPassword)

	if err := a.Remove(t.Context(), bob); !errors.Is(err, ErrNotFound) || len(m.removed) > 0 {
		t.Errorf("Remove of an unknown account: error %v, mail removed of %q", err, m.removed)
	}
	m.err = errors.New("cannot remove")
	if err := a.Remove(t.Context(), alice); !errors.Is(err, m.err) {
		t.Errorf("error %v, want that of the mailbox", err)
	}
	if !exists(t, a, alice) || !verify(t, a, alice, goodPassword) || secrets(t, a) != 1 {
		t.Error("the account is gone although its mail is not")
	}
	m.err = nil
	if err := a.Remove(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{alice, alice}, m.removed); diff != "" || secrets(t, a) != 0 {
		t.Errorf("mail removed of (-want +got):\n%s", diff)
	}
}

// secrets counts the rows that the mailbox above deletes.
func secrets(t *testing.T, a *Accounts) (n int) {
	t.Helper()
	err := a.store.Read(t.Context(), func(s *store.Snapshot) error {
		return s.QueryRow(`SELECT COUNT(*) FROM accounts_secret`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func BenchmarkExists(b *testing.B) {
	a := newAccounts(b, coretest.Options{})
	mustAdd(b, a, alice, goodPassword)
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := a.Exists(context.Background(), alice); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
