package greylist

import (
	"fmt"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

var (
	accepted = mail.Outcome{Verdict: mail.Accept("queued")}
	refused  = mail.Outcome{Verdict: mail.Reject(mail.Reply{}, "virus")}
)

// TestCorrespondents lets alice write to somebody, and a stranger answer.
func TestCorrespondents(t *testing.T) {
	t.Parallel()
	const (
		alice = "alice@example.test"
		sales = "sales@example.test"
		bob   = "bob7@example.org"
		day   = 24 * time.Hour
	)
	reply := func(from, to string) event { return event{ip: "203.0.113.9", from: from, to: to} }
	forged := reply(bob, alice)
	forged.results = []mail.AuthResult{spf("fail", "mailfrom", bob)}
	tests := []struct {
		name       string
		user, from string
		to         []string
		outcome    mail.Outcome
		times      int // how often alice writes
		pause      time.Duration
		settings   string // for the reply
		reply      event
		passes     bool
	}{
		{name: "reply", user: alice, from: alice, to: []string{bob}, reply: reply(bob, alice), passes: true},
		{
			name: "other spelling", user: alice, from: "Alice+x@example.test", to: []string{"BOB7+y@example.org"},
			reply: reply("prvs=0123abcdef=bob7@example.org", "alice+z@example.test"), passes: true,
		},
		{
			name: "one of many", user: alice, from: alice, to: []string{"x@example.org", bob, "y@example.org"},
			reply: reply(bob, alice), passes: true,
		},
		{name: "to an alias", user: alice, from: sales, to: []string{bob}, reply: reply(bob, sales), passes: true},
		{name: "of an alias, to the account", user: alice, from: sales, to: []string{bob}, reply: reply(bob, alice), passes: true},
		{name: "under a foreign address", user: alice, from: "a@example.com", to: []string{bob}, reply: reply(bob, "a@example.com")},
		{name: "to another user", user: alice, from: alice, to: []string{bob}, reply: reply(bob, "carol@example.test")},
		{name: "of another sender", user: alice, from: alice, to: []string{bob}, reply: reply("bob8@example.org", alice)},
		{name: "of a stranger who writes like a forwarder", user: alice, from: alice, to: []string{bob}, reply: reply("SRS0=A=B=example.org=bob7@example.net", alice)},
		{name: "to what a stranger made of another", user: alice, from: alice, to: []string{"SRS0=A=B=example.org=bob7@example.net"}, reply: reply(bob, alice)},
		{name: "null reverse-path", user: alice, from: alice, to: []string{bob}, reply: reply("", alice)},
		{name: "forged by SPF", user: alice, from: alice, to: []string{bob}, reply: forged},
		{name: "refused", user: alice, from: alice, to: []string{bob}, outcome: refused, reply: reply(bob, alice)},
		{name: "not logged in", from: alice, to: []string{bob}, reply: reply(bob, alice)},
		{
			name: "somebody who lives here", user: alice, from: alice, to: []string{"carol@example.test"},
			reply: reply("carol@example.test", alice),
		},
		{name: "long ago", user: alice, from: alice, to: []string{bob}, pause: 60*day - 1, reply: reply(bob, alice), passes: true},
		{name: "forgotten", user: alice, from: alice, to: []string{bob}, pause: 60 * day, reply: reply(bob, alice)},
		{
			name: "again and again", user: alice, from: alice, to: []string{bob}, times: 3, pause: 25 * day,
			reply: reply(bob, alice), passes: true,
		},
		{
			name: "switched off", user: alice, from: alice, to: []string{bob}, settings: "skip_correspondents = false",
			reply: reply(bob, alice),
		},
	}
	for _, tt := range tests {
		for _, forget := range []bool{false, true} { // what the memory beside the database knows
			t.Run(fmt.Sprintf("%s/%t", tt.name, forget), func(t *testing.T) {
				t.Parallel()
				k := newKit(t, "", coretest.Options{})
				outcome := tt.outcome
				if outcome == (mail.Outcome{}) {
					outcome = accepted
				}
				for range max(1, tt.times) {
					k.send(t, tt.user, tt.from, outcome, tt.to...)
					k.Add(tt.pause)
				}
				if forget {
					k.flush(t)
					k.service.written = newRecent[time.Time](10)
				}
				k.greylist = k.load(t, tt.settings)
				if tt.passes {
					k.passes(t, tt.reply, "has written to bob7@example.org")
				} else {
					k.waits(t, tt.reply, "first seen")
				}
			})
		}
	}
}

// TestHeldMessageTeachesNothing finds that a message which was accepted but goes
// nowhere makes no correspondents.
func TestHeldMessageTeachesNothing(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(*mail.Transaction){
		"quarantined": func(tx *mail.Transaction) { tx.SetQuarantine("spam") },
		"discarded":   func(tx *mail.Transaction) { tx.SetDiscard() },
	} {
		k := newKit(t, "", coretest.Options{})
		tx := k.send(t, "alice@example.test", "alice@example.test", refused, "bob@example.org")
		hold(tx)
		k.greylist.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageData, Verdict: mail.Accept("kept")})
		if n := k.count(t, `SELECT count(*) FROM greylist_correspondents`); n != 0 {
			t.Errorf("%s: %d correspondents were learned", name, n)
		}
	}
}
