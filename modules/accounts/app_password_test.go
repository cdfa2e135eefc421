package accounts

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func mustAddApp(t testing.TB, a *Accounts, name string, scopes ...string) mail.Secret {
	t.Helper()
	secret, _, err := a.AddAppPassword(t.Context(), control.AppPassword{Account: alice, Name: name, Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// login verifies a password at a session and gives the answer and the app password
// that it was.
func login(t testing.TB, a *Accounts, s *mail.Session, username string, password mail.Secret) (Answer, string) {
	t.Helper()
	c := &mail.Credentials{Mechanism: "PLAIN", Username: username, Password: password}
	answer, err := a.Verify(t.Context(), s, c)
	if err != nil {
		t.Fatal(err)
	}
	if c.AppPassword != "" {
		answer.Accepted(t.Context())
	}
	return answer, c.AppPassword
}

func listApps(t testing.TB, a *Accounts) []control.AppPassword {
	t.Helper()
	flush(t, a)
	list, err := a.AppPasswords(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAppPassword(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	phone := mustAddApp(t, a, "phone", "imap")
	printer := mustAddApp(t, a, "printer", "smtp")
	both := mustAddApp(t, a, "laptop")
	short, _, err := a.AddAppPassword(t.Context(), control.AppPassword{Account: alice, Name: "guest", Expires: c.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	last := phone[:len(phone)-1]
	other := last + "a"
	if other == phone {
		other = last + "b"
	}
	c.add(time.Hour)
	tests := []struct {
		name     string
		protocol mail.Protocol
		username string
		password mail.Secret
		app      string // "" if it is refused
		reason   string
	}{
		{"imap", mail.ProtocolIMAP, alice, phone, "phone", `app password "phone" (`},
		{"smtp", mail.ProtocolSMTP, alice, printer, "printer", `app password "printer" (`},
		{"all scopes", mail.ProtocolSMTP, alice, both, "laptop", `app password "laptop" (`},
		{"spaces around it", mail.ProtocolIMAP, alice, "  " + phone + " ", "phone", `app password "phone" (`},
		{"other spelling of the user", mail.ProtocolIMAP, "ALICE@Example.test", phone, "phone", `app password "phone" (`},
		{"wrong scope", mail.ProtocolSMTP, alice, phone, "", "is for imap, not for smtp"},
		{"wrong scope too", mail.ProtocolIMAP, alice, printer, "", "is for smtp, not for imap"},
		{"other account", mail.ProtocolIMAP, bob, phone, "", "is that of " + alice},
		{"unknown user", mail.ProtocolIMAP, "nobody@example.test", phone, "", "is that of " + alice},
		{"expired", mail.ProtocolIMAP, alice, short, "", "expired at 2026-11-01T13:00:00Z"},
		{"wrong secret", mail.ProtocolIMAP, alice, other, "", "is another one"},
		{"upper case", mail.ProtocolIMAP, alice, mail.Secret(strings.ToUpper(phone.Reveal())), "", ""},
		{"unknown id", mail.ProtocolIMAP, alice, "mlx-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa", "", "there is no app password aaaaaaaa"},
		{"id alone", mail.ProtocolIMAP, alice, phone[:13], "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := imapSession()
			s.Protocol = tt.protocol
			answer, app := login(t, a, s, tt.username, tt.password)
			if app != tt.app || answer.OK != (tt.app != "") || answer.Quick != answer.OK || !strings.Contains(answer.Reason, tt.reason) {
				t.Errorf("answer %+v, app password %q, want %q, %q", answer, app, tt.app, tt.reason)
			}
			if tt.reason == "" && answer.Reason != "" {
				t.Errorf("reason %q", answer.Reason)
			}
		})
	}
	if !verify(t, a, alice, goodPassword) {
		t.Error("the account's own password is wrong")
	}
}

// TestOwnPasswordThatLooksLikeAppPassword finds that somebody may choose such a
// password.
func TestOwnPasswordThatLooksLikeAppPassword(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	const own = "mlx-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	mustAdd(t, a, alice, own)
	answer, app := login(t, a, imapSession(), alice, own)
	if !answer.OK || answer.Quick || app != "" {
		t.Errorf("answer %+v, app password %q", answer, app)
	}
}

func TestRevokeAppPassword(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	phone := mustAddApp(t, a, "phone", "imap")
	id := listApps(t, a)[0].ID
	for account, id := range map[string]string{bob: id, alice: "aaaaaaaa", "nobody@example.test": id, "": id} {
		if err := a.RevokeAppPassword(t.Context(), account, id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revoke %s of %q: error %v", id, account, err)
		}
	}
	if answer, _ := login(t, a, imapSession(), alice, phone); !answer.OK {
		t.Fatal("the app password is wrong before it was revoked")
	}
	if err := a.RevokeAppPassword(t.Context(), "Alice@EXAMPLE.test", id); err != nil {
		t.Fatal(err)
	}
	if answer, app := login(t, a, imapSession(), alice, phone); answer.OK || app != "" || !strings.Contains(answer.Reason, "revoked") {
		t.Errorf("answer %+v right after it was revoked", answer)
	}
	if list := listApps(t, a); len(list) != 0 {
		t.Errorf("list %+v", list)
	}
}

func TestAppPasswordArguments(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	mustAdd(t, a, alice, goodPassword)
	mustAddApp(t, a, "phone", "imap")
	tests := []struct {
		name string
		p    control.AppPassword
		want error
		kind error
	}{
		{"no name", control.AppPassword{Account: alice}, ErrAppPasswordName, control.ErrInvalid},
		{"blank name", control.AppPassword{Account: alice, Name: " "}, ErrAppPasswordName, control.ErrInvalid},
		{"long name", control.AppPassword{Account: alice, Name: strings.Repeat("ä", 65)}, ErrAppPasswordName, control.ErrInvalid},
		{"line break", control.AppPassword{Account: alice, Name: "a\nb"}, ErrAppPasswordName, control.ErrInvalid},
		{"scope", control.AppPassword{Account: alice, Name: "x", Scopes: []string{"imap", "pop3"}}, ErrAppPasswordScope, control.ErrInvalid},
		{"expired", control.AppPassword{Account: alice, Name: "x", Expires: c.Now()}, ErrAppPasswordExpires, control.ErrInvalid},
		{"same name", control.AppPassword{Account: alice, Name: "phone"}, ErrAppPasswordExists, store.ErrExists},
		{"no account", control.AppPassword{Account: bob, Name: "phone"}, ErrNotFound, store.ErrNotFound},
		{"no address", control.AppPassword{Account: "bob", Name: "phone"}, ErrNotFound, store.ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			secret, p, err := a.AddAppPassword(t.Context(), tt.p)
			if secret != "" || p.ID != "" || !errors.Is(err, tt.want) || !errors.Is(err, tt.kind) {
				t.Errorf("%+v, error %v, want %v", p, err, tt.want)
			}
		})
	}
	for i := 1; i < maxAppPasswords; i++ {
		mustAddApp(t, a, fmt.Sprintf("program %d", i))
	}
	if _, _, err := a.AddAppPassword(t.Context(), control.AppPassword{Account: alice, Name: "one more"}); !errors.Is(err, ErrAppPasswordMany) {
		t.Errorf("one more than %d: error %v", maxAppPasswords, err)
	}
	if _, err := a.AppPasswords(t.Context(), bob); !errors.Is(err, ErrNotFound) {
		t.Errorf("list of an unknown account: error %v", err)
	}
}

// TestAppPasswordUse finds what the list says: when and from where each was used,
// to the minute.
func TestAppPasswordUse(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	mustAdd(t, a, alice, goodPassword)
	secret, added, err := a.AddAppPassword(t.Context(), control.AppPassword{
		Account: "ALICE@example.test", Name: "Handy für unterwegs", Scopes: []string{"smtp", "imap", "smtp"}, Expires: c.Now().Add(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := control.AppPassword{
		ID: secret.Reveal()[4:12], Account: alice, Name: "Handy für unterwegs", Scopes: []string{"imap", "smtp"},
		Created: c.Now(), Expires: c.Now().Add(24 * time.Hour),
	}
	compare := cmp.Options{cmpopts.EquateComparable(netip.Addr{})}
	if diff := cmp.Diff(want, added, compare); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
	use := func(address string) {
		s := imapSession()
		s.RemoteAddr = netip.MustParseAddrPort(address)
		if answer, _ := login(t, a, s, alice, secret); !answer.OK {
			t.Fatal(answer)
		}
	}
	check := func(used time.Time, from string) {
		t.Helper()
		want.LastUsed, want.LastFrom = used, netip.MustParseAddr(from)
		if diff := cmp.Diff([]control.AppPassword{want}, listApps(t, a), compare); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]control.AppPassword{want}, listApps(t, a), compare); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	first := c.Now()
	use("[::ffff:192.0.2.7]:4711")
	use("198.51.100.7:4711") // before the first one is written
	check(first, "192.0.2.7")
	c.add(useInterval - time.Microsecond)
	use("203.0.113.7:4711")
	check(first, "192.0.2.7")
	c.add(time.Microsecond)
	use("[2001:db8::7]:4711")
	check(c.Now(), "2001:db8::7")
	writes := a.store.Stats().Writes
	use("192.0.2.7:4711")
	flush(t, a)
	if more := a.store.Stats().Writes - writes; more != 0 {
		t.Errorf("%d writes for a login in the same minute", more)
	}
}

func TestAppPasswordsGoWithTheAccount(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	secret := mustAddApp(t, a, "phone")
	if err := a.Remove(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, a, alice, goodPassword)
	if answer, _ := login(t, a, imapSession(), alice, secret); answer.OK || len(listApps(t, a)) != 0 {
		t.Errorf("an app password of the account that was removed: %+v", answer)
	}
}

func TestSweepAppPasswords(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	mustAdd(t, a, alice, goodPassword)
	mustAddApp(t, a, "for ever")
	for i := range 3 {
		_, _, err := a.AddAppPassword(t.Context(), control.AppPassword{Account: alice, Name: fmt.Sprint(i), Expires: c.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(limit int) (n int) {
		err := a.store.Write(t.Context(), func(tx *store.Tx) (err error) {
			n, err = a.Sweep(tx, c.Now(), limit)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	c.add(keepExpired)
	if n := sweep(2); n != 0 || len(listApps(t, a)) != 4 {
		t.Errorf("%d removed too early", n)
	}
	c.add(time.Hour)
	if n := sweep(2); n != 2 {
		t.Errorf("%d removed, the limit is 2", n)
	}
	if n := sweep(2); n != 1 {
		t.Errorf("%d removed, 1 was left", n)
	}
	if list := listApps(t, a); len(list) != 1 || list[0].Name != "for ever" {
		t.Errorf("list %+v", list)
	}
}

// TestAppPasswordIsNotKept finds that the database does not have it.
func TestAppPasswordIsNotKept(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	secret := mustAddApp(t, a, "phone")
	var sum []byte
	var columns string
	err := a.store.Read(t.Context(), func(s *store.Snapshot) error {
		return s.QueryRow(`SELECT sha256, id || account || name || scopes || last_from FROM app_passwords`).Scan(&sum, &columns)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sum) != 32 || strings.Contains(columns, secret.Reveal()[13:]) {
		t.Errorf("row %q, sum of %d bytes", columns, len(sum))
	}
}

func FuzzParseAppPassword(f *testing.F) {
	_, made := newAppPassword()
	for _, seed := range []string{
		made.Reveal(), " " + made.Reveal() + " ", "mlx-", "mlx-aaaaaaaa-", "MLX-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa",
		"mlx-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaaa", "mlx-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "mlx-aaaa\xffaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, plain string) {
		id, bare, ok := parseAppPassword(plain)
		if !ok {
			if id != "" || bare != "" {
				t.Errorf("%q: %q, %q", plain, id, bare)
			}
			return
		}
		if strings.Trim(plain, " ") != bare || len(id) != appPasswordID || len(bare) != appPasswordSize || !strings.HasPrefix(bare, appPasswordPrefix+id+"-") {
			t.Errorf("%q: %q, %q", plain, id, bare)
		}
		if again, same, ok := parseAppPassword(bare); !ok || again != id || same != bare {
			t.Errorf("%q is no app password by itself", bare)
		}
	})
}

func TestNewAppPasswords(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 100 {
		id, secret := newAppPassword()
		got, bare, ok := parseAppPassword(secret.Reveal())
		if !ok || got != id || bare != secret.Reveal() || seen[id] || seen[bare[13:]] {
			t.Fatalf("%s: %q, %q, %v", secret.Reveal(), got, bare, ok)
		}
		seen[id], seen[bare[13:]] = true, true
	}
}

func TestLooksLikeAppPassword(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	for password, want := range map[mail.Secret]bool{
		mustAddApp(t, a, "phone", "imap"): true,
		goodPassword:                      false,
		"":                                false,
		"mlx-":                            false,
		"mlx-abcdefgh-":                   false,
	} {
		if got := a.LooksLikeAppPassword(password); got != want {
			t.Errorf("%d characters: %t, want %t", len(password), got, want)
		}
	}
}
