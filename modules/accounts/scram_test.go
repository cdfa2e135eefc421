package accounts

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/sasl"
	"github.com/mox-like/mox-like/core/store"
)

// prove logs in by SCRAM-SHA-256 and gives the answer and the app password that it
// was. It fails the test unless the client trusts the server if it was let in.
func prove(t *testing.T, a *Accounts, s *mail.Session, username string, password mail.Secret) (Answer, string) {
	t.Helper()
	var answer Answer
	var app string
	refused := errors.New("refused")
	server, err := sasl.NewServer(sasl.ScramSHA256,
		func(username string) (mail.ScramKeys, error) { return a.ScramKeys(t.Context(), username) },
		func(c *mail.Credentials) (err error) {
			if answer, err = a.Verify(t.Context(), s, c); err == nil && !answer.OK {
				err = refused
			}
			app = c.AppPassword
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	valid, err := converse(t, server, username, password)
	if valid != answer.OK || !answer.OK && !errors.Is(err, refused) {
		t.Errorf("answer %+v; the client trusts the server: %v; %v", answer, valid, err)
	}
	if answer.OK {
		answer.Accepted(t.Context())
	}
	return answer, app
}

// converse logs in with a client that is not ours and tells whether it found the
// server's signature right.
func converse(t *testing.T, server interface {
	Next([]byte) ([]byte, bool, error)
}, username string, password mail.Secret,
) (bool, error) {
	t.Helper()
	client, err := scram.SHA256.NewClient(username, password.Reveal(), "")
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	var challenge []byte
	for done := false; !done; {
		response, err := conversation.Step(string(challenge))
		if err != nil {
			t.Fatal(err)
		}
		if challenge, done, err = server.Next([]byte(response)); err != nil {
			return false, err
		}
	}
	return conversation.Valid(), nil
}

// pencil is the password of goodScram, the one of RFC 7677 section 3.
const pencil mail.Secret = "pencil"

func TestProofOfAppPassword(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := newAccounts(t, coretest.Options{Now: c.Now})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	phone := mustAddApp(t, a, "phone", "imap")
	printer := mustAddApp(t, a, "printer", "smtp")
	gone := mustAddApp(t, a, "gone")
	short, _, err := a.AddAppPassword(t.Context(), control.AppPassword{Account: alice, Name: "guest", Expires: c.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RevokeAppPassword(t.Context(), alice, gone.Reveal()[4:12]); err != nil {
		t.Fatal(err)
	}
	for i := range maxAppPasswords - 4 {
		mustAddApp(t, a, fmt.Sprintf("program %d", i))
	}
	last := mustAddApp(t, a, "last")
	c.add(time.Hour)
	const another mail.Secret = "another horse"
	if err := a.SetPassword(t.Context(), alice, another); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		protocol mail.Protocol
		username string
		password mail.Secret
		ok       bool
		app      string
		reason   string
	}{
		{"imap", mail.ProtocolIMAP, alice, phone, true, "phone", `app password "phone" (`},
		{"smtp", mail.ProtocolSMTP, alice, printer, true, "printer", `app password "printer" (`},
		{"the last of many", mail.ProtocolSMTP, alice, last, true, "last", `app password "last" (`},
		{"other spelling of the user", mail.ProtocolIMAP, "ALICE@Example.test", phone, true, "phone", `app password "phone" (`},
		{"own password", mail.ProtocolIMAP, alice, another, true, "", ""},
		{"wrong scope", mail.ProtocolSMTP, alice, phone, false, "", "is for imap, not for smtp"},
		{"expired", mail.ProtocolIMAP, alice, short, false, "", "expired at 2026-11-01T13:00:00Z"},
		{"revoked", mail.ProtocolIMAP, alice, gone, false, "", ""},
		{"password before", mail.ProtocolIMAP, alice, goodPassword, false, "", ""},
		{"other account", mail.ProtocolIMAP, bob, phone, false, "", ""},
		{"unknown user", mail.ProtocolIMAP, "nobody@example.test", phone, false, "", ""},
		{"wrong", mail.ProtocolIMAP, alice, phone + "a", false, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := imapSession()
			s.Protocol = tt.protocol
			answer, app := prove(t, a, s, tt.username, tt.password)
			if answer.OK != tt.ok || app != tt.app || answer.Quick || !strings.Contains(answer.Reason, tt.reason) || tt.reason == "" && answer.Reason != "" {
				t.Errorf("answer %+v, app password %q, want %v, %q, %q", answer, app, tt.ok, tt.app, tt.reason)
			}
		})
	}
	used := 0
	for _, p := range listApps(t, a) {
		if !p.LastUsed.IsZero() {
			used++
		}
	}
	if used != 3 {
		t.Errorf("%d app passwords were used, want 3", used)
	}
}

// counter counts against how many keys a proof is held.
type counter struct{ tries *int }

func (c counter) Verify(_, _ []byte) bool {
	*c.tries++
	return false
}

// TestProofTriesAlike finds that a proof is held against as many keys whoever the
// user is.
func TestProofTriesAlike(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	for i := range 3 {
		mustAddApp(t, a, fmt.Sprint(i))
	}
	for _, username := range []string{alice, bob, "nobody@example.test", "nobody"} {
		tries := 0
		answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: username, Proof: counter{&tries}})
		if err != nil || answer.OK || tries != maxProofs {
			t.Errorf("%s: %+v, %v after %d tries, want %d", username, answer, err, tries, maxProofs)
		}
	}
}

// earlier is the service as it was before app passwords had SCRAM keys.
type earlier struct{}

func (earlier) Module() core.Info {
	return core.Info{ID: "service.accounts", New: func() core.Module { return earlier{} }}
}

func (earlier) Migrations() store.Migrations {
	m := new(Accounts).Migrations()
	m.Steps = m.Steps[:2]
	return m
}

// TestAppPasswordsFromBefore opens a database of an earlier version: its accounts
// keep their salt and iterations, and its app passwords go on without SCRAM.
func TestAppPasswordsFromBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const old mail.Secret = "mlx-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa"
	before(t, dir, old)
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a := coretest.Service[*Accounts](t, s)
	a.hasher = newHasher(cheap, 4)
	if answer, app := login(t, a, imapSession(), alice, old); !answer.OK || app != "old" {
		t.Errorf("by PLAIN: %+v, %q", answer, app)
	}
	if answer, app := prove(t, a, imapSession(), alice, old); answer.OK || app != "" || !strings.Contains(answer.Reason, "(1 of 1): those need PLAIN") {
		t.Errorf("by SCRAM: %+v, %q", answer, app)
	}
	if answer, _ := prove(t, a, imapSession(), alice, pencil); !answer.OK || answer.Reason != "" {
		t.Errorf("own password: %+v", answer)
	}
	phone := mustAddApp(t, a, "phone")
	for _, own := range []mail.Secret{pencil, "another horse", goodPassword} {
		if own != pencil {
			if err := a.SetPassword(t.Context(), alice, own); err != nil {
				t.Fatal(err)
			}
		}
		if answer, app := prove(t, a, imapSession(), alice, phone); !answer.OK || app != "phone" {
			t.Errorf("new app password: %+v, %q", answer, app)
		}
		if answer, app := prove(t, a, imapSession(), alice, own); !answer.OK || app != "" {
			t.Errorf("own password: %+v, %q", answer, app)
		}
	}
	keys, err := a.ScramKeys(t.Context(), alice)
	if err != nil || !strings.HasPrefix(encodeScram(keys), goodScram[:strings.LastIndex(goodScram, "$")+1]) {
		t.Errorf("salt or iterations have changed: %+v, %v", keys, err)
	}
}

// before makes the database of an earlier version with alice and her app password.
func before(t *testing.T, dir string, app mail.Secret) {
	t.Helper()
	registry := new(core.Registry)
	registry.Register(earlier{})
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := newHasher(cheap, 1).hash(t.Context(), netip.Prefix{}, pencil.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(app.Reveal()))
	err = s.Store().Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO accounts (address, domain, created, password, scram) VALUES (?, 'example.test', 1, ?, ?)`, alice, hash, goodScram)
		_, errApp := tx.Exec(`INSERT INTO app_passwords (id, account, name, scopes, sha256, created, expires, last_used, last_from)
			VALUES ('aaaaaaaa', ?, 'old', 'imap', ?, 1, 0, 0, '')`, alice, sum[:])
		return errors.Join(err, errApp)
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestNewPasswordMendsDamagedKeys finds that an account whose keys cannot be read
// gets others with its next password.
func TestNewPasswordMendsDamagedKeys(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	mustAddApp(t, a, "phone")
	damage := func(statement string) {
		t.Helper()
		err := a.store.Write(t.Context(), func(tx *store.Tx) error { return affected(tx.Exec(statement)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	damage(`UPDATE accounts SET scram = 'x'`)
	if _, _, err := a.AddAppPassword(t.Context(), control.AppPassword{Account: alice, Name: "laptop"}); !errors.Is(err, errScram) {
		t.Errorf("app password under a damaged salt: error %v", err)
	}
	if err := a.SetPassword(t.Context(), alice, goodPassword); err != nil {
		t.Fatal(err)
	}
	if answer, _ := prove(t, a, imapSession(), alice, goodPassword); !answer.OK {
		t.Errorf("%+v", answer)
	}
	damage(`UPDATE app_passwords SET scram = 'x'`)
	if answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: alice, Proof: no{}}); answer.OK || !errors.Is(err, errScram) {
		t.Errorf("%+v, %v", answer, err)
	}
}

// no is a proof that fits no keys.
type no struct{}

func (no) Verify(_, _ []byte) bool { return false }

// BenchmarkVerifyProof measures a wrong proof.
func BenchmarkVerifyProof(b *testing.B) {
	a := newAccounts(b, coretest.Options{})
	mustAdd(b, a, alice, goodPassword)
	mustAdd(b, a, bob, goodPassword)
	for i := range maxAppPasswords {
		mustAddApp(b, a, fmt.Sprint(i))
	}
	for name, username := range map[string]string{"100 app passwords": alice, "none": bob, "unknown": "nobody@example.test"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if wrongProof(b, a, username) {
					b.Fatal("a wrong proof is right")
				}
			}
		})
	}
}

// wrongProof logs in with a proof that is none of the user's.
func wrongProof(b *testing.B, a *Accounts, username string) (ok bool) {
	b.Helper()
	server, err := sasl.NewServer(sasl.ScramSHA256,
		func(username string) (mail.ScramKeys, error) { return a.ScramKeys(b.Context(), username) },
		func(c *mail.Credentials) error {
			answer, err := a.Verify(b.Context(), imapSession(), c)
			ok = answer.OK
			return errors.Join(err, errors.New("refused"))
		})
	if err != nil {
		b.Fatal(err)
	}
	challenge, _, err := server.Next([]byte("n,,n=" + username + ",r=nonce"))
	if err != nil {
		b.Fatal(err)
	}
	nonce, _, _ := strings.Cut(string(challenge), ",")
	_, _, err = server.Next([]byte("c=biws," + nonce + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, sha256.Size))))
	if err == nil {
		b.Fatal("let in")
	}
	return ok
}
