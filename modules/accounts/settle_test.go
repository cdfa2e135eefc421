package accounts

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// TestGuessesLookAlike has a password checked that a later handler refuses or that
// the client never hears of: whether it was right shows neither in when the next
// one has a turn, nor in its place in line.
func TestGuessesLookAlike(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		username string
		password mail.Secret
	}{
		{alice, goodPassword},
		{alice, goodPassword},
		{alice, "correct horsf"},
		{bob, goodPassword},
	} {
		a := newAccounts(t, coretest.Options{})
		mustAdd(t, a, alice, goodPassword)
		a.hasher = newHasher(cheap, 1)
		a.hasher.rest = float64(time.Hour) // times any time at all
		answer, _ := login(t, a, imapSession(), tt.username, tt.password)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Spend(ended, imapSession()); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, %v: there is a turn right after it: error %v", tt.username, answer.OK, err)
		}
		if line := a.hasher.turns.lineOf(networkOf(imapSession().RemoteAddr.Addr())); line != lineBad {
			t.Errorf("%s, %v: its network stands in line %d", tt.username, answer.OK, line)
		}
	}
}

// TestAccepted finds that what an accepted login does is left until it is one: its
// turn ends early, its network is a good one, and its password is remembered.
func TestAccepted(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	phone := mustAddApp(t, a, "phone")
	from := networkOf(imapSession().RemoteAddr.Addr())
	reset := func() {
		a.hasher = newHasher(cheap, 1)
		a.hasher.rest = float64(time.Hour) // times any time at all
	}
	ask := func(c *mail.Credentials) Answer {
		t.Helper()
		answer, err := a.Verify(t.Context(), imapSession(), c)
		if err != nil || !answer.OK || answer.Accepted == nil {
			t.Fatal(answer.Reason, err)
		}
		return answer
	}
	for range 2 {
		reset()
		if answer := ask(&mail.Credentials{Username: alice, Password: goodPassword}); answer.Quick {
			t.Error("a password by which nobody was let in is remembered")
		}
	}
	reset()
	own := ask(&mail.Credentials{Username: alice, Password: goodPassword})
	own.Accepted(t.Context())
	if err := a.Spend(t.Context(), imapSession()); err != nil {
		t.Errorf("there is no turn after an accepted login: %v", err)
	}
	if line := a.hasher.turns.lineOf(from); line != lineGood {
		t.Errorf("the network of a user stands in line %d", line)
	}
	for name, c := range map[string]*mail.Credentials{
		"remembered": {Username: alice, Password: goodPassword}, "app password": {Username: alice, Password: phone}, "proof": {Username: alice, Proof: yes{}},
	} {
		reset()
		answer := ask(c)
		if line := a.hasher.turns.lineOf(from); line != lineNew {
			t.Errorf("%s: the network stands in line %d before the login was accepted", name, line)
		}
		answer.Accepted(t.Context())
		if line := a.hasher.turns.lineOf(from); line != lineGood {
			t.Errorf("%s: the network stands in line %d", name, line)
		}
	}
	for _, c := range []*mail.Credentials{{Username: alice, Password: "correct horsf"}, {Username: bob, Proof: yes{}}, {Username: bob, Password: phone}} {
		reset()
		if answer, err := a.Verify(t.Context(), imapSession(), c); err != nil || answer.OK || answer.Accepted != nil {
			t.Errorf("%+v, %v", answer, err)
		}
	}
}
