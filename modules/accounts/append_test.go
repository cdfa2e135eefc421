package accounts

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// splitter stands for the service of second factors: alice sends a code behind a
// slash.
type splitter struct{ err error }

func (s *splitter) AppendsCode(_ context.Context, account string) (bool, error) {
	return account == alice, s.err
}

func (*splitter) SplitCode(password mail.Secret) (rest, code mail.Secret) {
	before, after, _ := strings.Cut(password.Reveal(), "/")
	return mail.Secret(before), mail.Secret(after)
}

func TestVerifyWithCode(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	codes := new(splitter)
	a.codes = codes
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword+"/1")
	phone := mustAddApp(t, a, "phone")
	tests := []struct {
		name     string
		username string
		password mail.Secret
		ok       bool
		code     mail.Secret
		app      string
	}{
		{"with a code", alice, goodPassword + "/123456", true, "123456", ""},
		{"with another code", alice, goodPassword + "/123457", true, "123457", ""},
		{"without", alice, goodPassword, true, "", ""},
		{"wrong password", alice, "correct horsf/123456", false, "123456", ""},
		{"code alone", alice, "/123456", false, "123456", ""},
		{"app password", alice, phone, true, "", "phone"},
		{"user who sends none", bob, goodPassword + "/1", true, "", ""},
		{"user who sends none, wrong", bob, goodPassword, false, "", ""},
		{"unknown user", "nobody@example.test", goodPassword + "/1", false, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &mail.Credentials{Username: tt.username, Password: tt.password}
			answer, err := a.Verify(t.Context(), imapSession(), c)
			if err != nil || answer.OK != tt.ok || c.Code != tt.code || c.AppPassword != tt.app {
				t.Errorf("%+v, code %q, app password %q, %v", answer, c.Code.Reveal(), c.AppPassword, err)
			}
		})
	}
	codes.err = errors.New("cannot tell")
	if answer, err := a.Verify(t.Context(), imapSession(), &mail.Credentials{Username: alice, Password: goodPassword}); answer.OK || !errors.Is(err, codes.err) {
		t.Errorf("%+v, %v", answer, err)
	}
}

// TestRefusalsCostOneHash lets the one turn rest for long after a hash: whatever is
// wrong takes it, and a second hash would never come to an end.
func TestRefusalsCostOneHash(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	a.codes = new(splitter)
	mustAdd(t, a, alice, goodPassword)
	mustAdd(t, a, bob, goodPassword)
	phone := mustAddApp(t, a, "phone", "smtp")
	gone := mustAddApp(t, a, "gone")
	if err := a.RevokeAppPassword(t.Context(), alice, gone.Reveal()[4:12]); err != nil {
		t.Fatal(err)
	}
	if !verify(t, a, alice, goodPassword+"/123456") || !verify(t, a, bob, goodPassword) {
		t.Fatal("the password is wrong")
	}
	hashes := func(do func()) bool {
		a.hasher = newHasher(cheap, 1)
		a.hasher.rest = float64(time.Hour) // times any time at all
		do()
		a.hasher.turns.mu.Lock()
		defer a.hasher.turns.mu.Unlock()
		return a.hasher.turns.free == 0
	}
	for _, wrong := range []mail.Secret{
		"correct horsf", "correct horsf/123456", "/123456", "123456", phone, phone + "a", gone, "mlx-aaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa",
	} {
		for _, username := range []string{alice, bob, "nobody@example.test", "nobody"} {
			if !hashes(func() {
				if verify(t, a, username, wrong) {
					t.Errorf("%s, %q is right", username, wrong.Reveal())
				}
			}) {
				t.Errorf("%s, %q: refused without a hash", username, wrong.Reveal())
			}
		}
	}
	if !hashes(func() { login(t, a, imapSession(), alice, goodPassword+"/123456") }) {
		t.Error("a password with a code cost no hash")
	}
	if hashes(func() { login(t, a, imapSession(), bob, goodPassword) }) {
		t.Error("a password that was right a moment ago cost a hash")
	}
	if !hashes(func() {
		if err := a.Spend(t.Context(), imapSession()); err != nil {
			t.Error(err)
		}
	}) {
		t.Error("Spend cost no hash")
	}
}
