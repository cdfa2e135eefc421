package accounts

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, "jürgen@bücher.example", "Stra\u00dfe und \u00c5")
	tests := []struct {
		name     string
		username string
		password mail.Secret
		address  string
		ok       bool
	}{
		{"right", alice, goodPassword, alice, true},
		{"right again", alice, goodPassword, alice, true},
		{"upper case", "ALICE@Example.TEST", goodPassword, alice, true},
		{"wrong", alice, "correct horsf", alice, false},
		{"other case", alice, "Correct horse", alice, false},
		{"empty", alice, "", alice, false},
		{"NUL behind", alice, goodPassword + "\x00", alice, false},
		{"too long", alice, mail.Secret(strings.Repeat("a", maxPassword+1)), alice, false},
		{"unknown user", bob, goodPassword, "", false},
		{"no domain", "alice", goodPassword, "", false},
		{"postmaster", "postmaster", goodPassword, "", false},
		{"no address", "alice@@example.test", goodPassword, "", false},
		{"empty user", "", goodPassword, "", false},
		{"not UTF-8", alice, "correct \xff horse", alice, false},
		{"IDN as A-label", "jürgen@xn--bcher-kva.example", "Stra\u00dfe und \u00c5", "jürgen@bücher.example", true},
		{"decomposed", "jürgen@bücher.example", "Stra\u00dfe und A\u030a", "jürgen@bücher.example", true},
		{"no-break space", "jürgen@bücher.example", "Stra\u00dfe\u00a0und \u212b", "jürgen@bücher.example", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: tt.username, Password: tt.password})
			if err != nil || answer.Address != tt.address || answer.OK != tt.ok {
				t.Errorf("Verify = %+v, %v, want %q, %v", answer, err, tt.address, tt.ok)
			}
		})
	}
}

// TestVerifyTakesTurns holds the one slot, so that only a call that needs no
// hash can come to an end.
func TestVerifyTakesTurns(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	if !verify(t, a, alice, goodPassword) {
		t.Fatal("the password is wrong")
	}
	a.hasher = newHasher(cheap, 1)
	if err := a.hasher.take(t.Context(), netip.Prefix{}); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ask := func(username string, password mail.Secret) (bool, error) {
		user, row, err := a.find(t.Context(), username)
		if err != nil {
			t.Fatal(err)
		}
		answer := Answer{Address: user}
		err = a.verifyPassword(ended, imapSession(), &mail.Credentials{Username: username, Password: password}, row, &answer)
		return answer.OK, err
	}
	waits := map[string]mail.Secret{
		alice:                  "correct horsf",
		bob:                    goodPassword,
		"nobody@example.test":  goodPassword,
		"not an address":       goodPassword,
		"nobody2@example.test": "correct horsf",
	}
	for username, password := range waits {
		if ok, err := ask(username, password); ok || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, %v without a hash", username, ok, err)
		}
	}
	if ok, err := ask(alice, goodPassword); !ok || err != nil {
		t.Errorf("a password that was right a moment ago: %v, %v", ok, err)
	}
	c.add(recentFor)
	if ok, err := ask(alice, goodPassword); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("a password that was right %s ago: %v, %v", recentFor, ok, err)
	}
}

func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := newRecent()
	for i := range 3 * maxRecent {
		r.add("hash", strings.Repeat("x", i), c.Now())
		if !r.has("hash", strings.Repeat("x", i), c.Now()) {
			t.Fatal("what was added is not there")
		}
		if len(r.entries) > maxRecent {
			t.Fatalf("%d entries, at most %d", len(r.entries), maxRecent)
		}
	}
	c.add(recentFor)
	r.add("hash", "y", c.Now())
	if len(r.entries) != 1 {
		t.Errorf("%d entries, all but one of which have ended", len(r.entries))
	}
	if r.has("hash", "z", c.Now()) || r.has("other", "y", c.Now()) {
		t.Error("another password or another hash is remembered")
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	_, old, err := a.find(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	a.hasher = newHasher(costs{memory: 16, passes: 2, lanes: 1}, 1)
	if verify(t, a, alice, "correct horsf") {
		t.Error("a wrong password is right")
	}
	flush(t, a)
	if _, row, _ := a.find(t.Context(), alice); row != old {
		t.Error("a wrong password renewed the hash")
	}
	if answer, _ := login(t, a, imapSession(), alice, goodPassword); !answer.OK {
		t.Error("the password is wrong under the old costs")
	}
	flush(t, a)
	if _, row, _ := a.find(t.Context(), alice); row != old {
		t.Error("a login that was not accepted renewed the hash")
	}
	if !verify(t, a, alice, goodPassword) {
		t.Error("the password is wrong the second time")
	}
	flush(t, a)
	_, row, err := a.find(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(row.password, "$m=16,t=2,p=1$") {
		t.Errorf("the hash was not renewed: %s", row.password)
	}
	if row.scram != old.scram {
		t.Error("the salt has changed, under which the keys of app passwords are")
	}
	if !verify(t, a, alice, goodPassword) || verify(t, a, alice, "correct horsf") {
		t.Error("the renewed hash is not that of the password")
	}
	a.renew(t.Context(), netip.Prefix{}, alice, old, "overtaken")
	flush(t, a)
	if _, after, _ := a.find(t.Context(), alice); after != row {
		t.Error("a renewal replaced a password that was set meanwhile")
	}
}

func flush(t testing.TB, a *Accounts) {
	t.Helper()
	if err := a.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestScramKeysOfUnknownUsers(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	keys := func(a *Accounts, username string) mail.ScramKeys {
		t.Helper()
		k, err := a.ScramKeys(t.Context(), username)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	known, unknown := keys(a, alice), keys(a, bob)
	if len(known.Salt) != len(unknown.Salt) || known.Iterations != unknown.Iterations {
		t.Errorf("known: salt of %d bytes, %d iterations; unknown: %d, %d",
			len(known.Salt), known.Iterations, len(unknown.Salt), unknown.Iterations)
	}
	if diff := cmp.Diff(unknown, keys(a, "BOB@Example.test")); diff != "" {
		t.Errorf("keys depend on the spelling:\n%s", diff)
	}
	if diff := cmp.Diff(known, keys(a, "ALICE@Example.test")); diff != "" {
		t.Errorf("keys of an account depend on the spelling:\n%s", diff)
	}
	if cmp.Equal(unknown.Salt, keys(a, "carol@example.test").Salt) || cmp.Equal(keys(a, "x").Salt, keys(a, "y").Salt) {
		t.Error("two unknown users have the same salt")
	}
	if cmp.Equal(unknown.Salt, keys(newAccounts(t, coretest.Options{}), bob).Salt) {
		t.Error("two databases have the same salt for an unknown user")
	}
}

func TestVerifyProof(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, "пароль и ключ")
	tests := []struct {
		name, username string
		password       mail.Secret
		address        string
		ok             bool
	}{
		{"right", alice, goodPassword, alice, true},
		{"upper case", "Alice@EXAMPLE.test", goodPassword, alice, true},
		{"UTF-8", bob, "пароль и\u00a0ключ", bob, true},
		{"wrong", alice, "correct horsf", alice, false},
		{"unknown user", "carol@example.test", goodPassword, "", false},
		{"no address", "alice", goodPassword, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answer, app := prove(t, a, imapSession(), tt.username, tt.password)
			if answer.Address != tt.address || answer.OK != tt.ok || app != "" {
				t.Errorf("Verify = %+v, app password %q", answer, app)
			}
		})
	}
}

// TestBrokenRow finds that a damaged row is an error and no wrong password.
func TestBrokenRow(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	err := a.store.Write(t.Context(), func(tx *store.Tx) error {
		return affected(tx.Exec(`UPDATE accounts SET password = 'x', scram = 'x'`))
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: alice, Password: goodPassword}); answer.OK || !errors.Is(err, errHash) {
		t.Errorf("Verify = %+v, %v, want %v", answer, err, errHash)
	}
	if _, err := a.ScramKeys(t.Context(), alice); !errors.Is(err, errScram) {
		t.Errorf("ScramKeys: error %v, want %v", err, errScram)
	}
	if answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: alice, Proof: yes{}}); answer.OK || !errors.Is(err, errScram) {
		t.Errorf("Verify of a proof = %+v, %v, want %v", answer, err, errScram)
	}
	if answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: bob, Proof: yes{}}); answer.OK || err != nil {
		t.Errorf("Verify of an unknown user's proof = %+v, %v", answer, err)
	}
}

// yes is a proof that fits all keys.
type yes struct{}

func (yes) Verify(_, _ []byte) bool { return true }

func BenchmarkVerify(b *testing.B) {
	bench := func(password mail.Secret, username string, again time.Duration) func(*testing.B) {
		return func(b *testing.B) {
			b.Helper()
			c := newClock()
			a := newAccounts(b, coretest.Options{Now: c.Now})
			a.hasher = newHasher(owasp, runtime.GOMAXPROCS(0))
			mustAdd(b, a, alice, goodPassword)
			b.ReportAllocs()
			for b.Loop() {
				verify(b, a, username, password)
				c.add(again)
			}
		}
	}
	b.Run("right", bench(goodPassword, alice, recentFor))
	b.Run("recent", bench(goodPassword, alice, 0))
	b.Run("wrong", bench("correct horsf", alice, 0))
	b.Run("unknown", bench(goodPassword, bob, 0))
}

func BenchmarkScramKeys(b *testing.B) {
	a := newAccounts(b, coretest.Options{})
	mustAdd(b, a, alice, goodPassword)
	for name, username := range map[string]string{"known": alice, "unknown": bob} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.ScramKeys(b.Context(), username); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
