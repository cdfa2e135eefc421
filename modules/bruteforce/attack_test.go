package bruteforce

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// One source guesses passwords: five, and it is out, at connect and on a
// connection that was open before, and nothing is hashed for it.
func TestAttackOfOneSource(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	for i := range 5 {
		s.want(535, attacker, alice, wrong)
		s.want(0, atHome, alice, right)
		if i == 2 {
			s.want(0, cafe, alice, right) // a network of which nothing is known
		}
	}
	checks := s.accounts.checks.Load()
	connect := s.run(mail.StageConnect, attacker, nil)
	if got := connect.Reply.String(); got != "421 4.7.0 Too many failed logins from your network, try again later" {
		t.Errorf("at connect: %q", got)
	}
	auth := s.auth(attacker, alice, right)
	if got := auth.Reply.String(); got != "454 4.7.0 Too many failed logins from your network, try again later" {
		t.Errorf("at auth: %q", got)
	}
	const reason = "198.51.100.66/32 is blocked until 2026-11-20T13:00:00Z: 5 failed logins in 15m, the limit is 5; see: mox-like blocklist why 198.51.100.66"
	if connect.Reason != reason || auth.Reason != reason {
		t.Errorf("reasons %q and %q, want %q", connect.Reason, auth.Reason, reason)
	}
	if n := s.accounts.checks.Load(); n != checks {
		t.Errorf("%d passwords were checked for a blocked network", n-checks)
	}
	blocks := s.why(attacker)
	if len(blocks) != 1 || blocks[0].Source != "bruteforce" || blocks[0].Evidence != "5 failed logins within a day at alice@example.test" || !blocks[0].Expires.Equal(start.Add(time.Hour)) {
		t.Errorf("blocks %+v", blocks)
	}
	s.want(0, atHome, alice, right)
	s.want(0, cafe, alice, right)
	if locks := s.locks(); len(locks) != 0 {
		t.Errorf("one source has locked the account: %+v", locks)
	}
	s.clock.Add(time.Hour)
	s.want(535, attacker, alice, wrong) // the block is over
}

// The next block is twice as long, up to the longest; after a quiet week all
// begins anew.
func TestBlocksGrow(t *testing.T) {
	t.Parallel()
	s := serve(t, options{settings: `max_block = "10h"`})
	for _, want := range []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 10 * time.Hour, 10 * time.Hour} {
		s.fails(5, attacker, alice)
		s.want(421, attacker, alice, wrong)
		blocks := s.why(attacker)
		if len(blocks) != 1 || blocks[0].Expires.Sub(s.clock.Now()) != want {
			t.Fatalf("blocks %+v, want one of %s", blocks, want)
		}
		s.clock.Add(want - time.Second)
		s.want(421, attacker, alice, wrong)
		s.clock.Add(time.Second)
	}
	s.clock.Add(7 * 24 * time.Hour)
	s.fails(5, attacker, alice)
	if blocks := s.why(attacker); len(blocks) != 1 || blocks[0].Expires.Sub(s.clock.Now()) != time.Hour {
		t.Errorf("after a quiet week: %+v, want one hour", blocks)
	}
}

// A botnet of 500 addresses, each of which fails once: the account is closed to
// networks that its owner has not used, and he comes in from his own.
func TestAttackOfABotnet(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	var refusal answer
	for i := range 500 {
		refusal = s.auth(bot(i), alice, wrong)
		if got := refusal.Reply.String(); got != "535 5.7.8 Authentication credentials invalid" {
			t.Fatalf("address %d: %q", i, got)
		}
		if i%50 == 0 {
			s.want(0, atHome, alice, right)
		}
		s.clock.Add(time.Second)
	}
	if n := s.accounts.guesses.Load() - 11; n != 20 {
		t.Errorf("the botnet had %d guesses, want 20", n)
	}
	const lock = "20 failed logins from 20 networks in 15m, the limit is 20"
	if want := "account alice@example.test is locked until 2026-11-20T13:00:19Z for networks from which its user has not logged in lately, whatever the password: " + lock; refusal.Reason != want {
		t.Errorf("reason %q, want %q", refusal.Reason, want)
	}
	locks := s.locks()
	if len(locks) != 1 || locks[0].Account != alice || locks[0].Reason != lock || !strings.HasPrefix(locks[0].Evidence, "tried from 203.0.0.0/32, 203.0.0.1/32") ||
		!strings.HasSuffix(locks[0].Evidence, " and 15 more") || !locks[0].Expires.Equal(start.Add(time.Hour+19*time.Second)) {
		t.Errorf("locks %+v", locks)
	}
	// The right password from a network that nobody knows: the same words, after as
	// many checks of a password, which is not the one that was given.
	checks, guesses := s.accounts.checks.Load(), s.accounts.guesses.Load()
	if got := s.auth(cafe, alice, right); got.Reply != refusal.Reply || !strings.Contains(got.own(), "is locked until") {
		t.Errorf("right password from a new network: %q, %q", got.Reply, got.Reason)
	}
	if c, g := s.accounts.checks.Load()-checks, s.accounts.guesses.Load()-guesses; c != 1 || g != 0 {
		t.Errorf("%d checks and %d with the right password, want 1 and 0", c, g)
	}
	s.want(0, atHome, alice, right)
	s.want(0, cafe, bob, right)
	s.clock.Add(time.Hour)
	s.want(0, cafe, alice, right)
}

// The owner of an account of which no network is known logs in for the first
// time while a botnet guesses.
func TestBotnetAndFirstLogin(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	for i := range 200 {
		s.want(535, bot(i), alice, wrong)
	}
	if len(s.locks()) != 1 {
		t.Fatal("the account is not locked")
	}
	guesses := s.accounts.guesses.Load()
	s.want(535, bot(0), alice, wrong)
	if n := s.accounts.guesses.Load(); n != guesses {
		t.Error("an address that has failed may guess again")
	}
	s.want(0, atHome, alice, right)
	s.want(535, cafe, alice, right) // now there is a network that is known
	s.want(0, atHome, alice, right)
}

// What a lock refuses does not let a network have passwords hashed for ever.
func TestLockedAccountCostsLittle(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	for i := range 20 {
		s.want(535, bot(i), alice, wrong)
	}
	checks := s.accounts.checks.Load()
	codes := make(map[int]int)
	for range 100 {
		codes[s.auth(attacker, alice, wrong).Reply.Code]++
	}
	if n := s.accounts.checks.Load() - checks; n != 5 || codes[535] != 5 || codes[454] != 95 {
		t.Errorf("%d checks, answers %v", n, codes)
	}
	if blocks, _, err := s.blocks.Blocks(t.Context(), control.Page{}); err != nil || len(blocks) != 0 {
		t.Errorf("blocked for what a lock refused: %+v, %v", blocks, err)
	}
}

// One password for a thousand users, from many addresses of one /64.
func TestAttackBySpray(t *testing.T) {
	t.Parallel()
	address := func(i int) string { return fmt.Sprintf("2001:db8:1:2::%x", i+1) }
	spray := func(s *server) (failed int) {
		for i := range 1000 {
			if s.login(address(i), fmt.Sprintf("user%d@example.test", i), wrong) == 535 {
				failed++
			}
			s.clock.Add(time.Second)
		}
		return failed
	}
	t.Run("from an unknown network", func(t *testing.T) {
		t.Parallel()
		s := serve(t, options{})
		s.want(0, atHome, alice, right)
		if n := spray(s); n != 5 {
			t.Errorf("%d guesses, want 5", n)
		}
		s.want(0, atHome, alice, right)
		s.want(421, address(2000), alice, right)
		s.want(0, "2001:db8:1:3::1", alice, right) // the next /64
	})
	t.Run("more attempts than names", func(t *testing.T) {
		t.Parallel()
		s := serve(t, options{settings: "attempts = 25"})
		if n := spray(s); n != 10 {
			t.Errorf("%d guesses, want 10", n)
		}
		if b := s.why(address(0)); len(b) != 1 || b[0].Reason != "failed logins at 10 accounts in 15m, the limit is 10" || !strings.HasSuffix(b[0].Evidence, " and 5 more") {
			t.Errorf("blocks %+v", b)
		}
	})
	// The machine of a neighbour sprays from the network of the owner.
	t.Run("from the owner's network", func(t *testing.T) {
		t.Parallel()
		s := serve(t, options{})
		s.want(0, address(0), alice, right)
		if n := spray(s); n != 10 {
			t.Errorf("%d guesses, want 10", n)
		}
		s.want(0, address(77), alice, right)
		s.want(454, address(77), bob, right) // nobody has seen him there
		s.want(0, atHome, bob, right)
		if got := s.run(mail.StageConnect, address(0), nil); !strings.Contains(got.own(), "so only they may") {
			t.Errorf("at connect: %q", got.own())
		}
	})
}

// An attack that stays under the limit of the window ends within a day.
func TestSlowAttack(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	tried := 0
	for range 30 {
		for range 4 {
			if s.login(attacker, alice, wrong) == 535 {
				tried++
			}
		}
		s.want(0, atHome, alice, right)
		s.want(0, cafe, bob, right)
		s.clock.Add(15 * time.Minute)
	}
	// 50 within twelve hours; the block of an hour ends before the test does.
	if b := s.why(attacker); tried < 50 || tried > 120-16 {
		t.Errorf("%d attempts, blocks %+v", tried, b)
	}
	if n := s.rows("blocklist"); n != 1 {
		t.Errorf("%d rows of blocks", n)
	}
}

// A botnet that stays under the limit of the window is found within a day.
func TestSlowBotnet(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	guesses := s.accounts.guesses.Load()
	for i := range 200 {
		s.want(535, bot(i), alice, wrong)
		s.clock.Add(5 * time.Minute)
	}
	if n := s.accounts.guesses.Load() - guesses; n < 100 || n > 195 {
		t.Errorf("%d guesses, want 100 and what follows the lock of an hour", n)
	}
	if n := s.rows("bruteforce_offence"); n != 1 {
		t.Errorf("%d offences", n)
	}
	s.want(0, atHome, alice, right)
}

// The owner's own mistakes at home slow him down and do nothing else.
func TestOwnerMistypes(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	s.want(0, atHome, bob, right)
	s.fails(14, atHome, alice)
	s.want(0, atHome, alice, right) // which clears them
	s.fails(15, atHome, alice)
	got := s.auth(atHome, alice, right)
	if got.Reply.Code != 454 || got.Reason != "15 failed logins from 192.0.2.10/32 in 15m, the limit is 15: wait until 2026-11-20T12:15:00Z; see: mox-like blocklist why 192.0.2.10" {
		t.Errorf("after 15 failures: %q, %q", got.Reply, got.Reason)
	}
	s.want(0, atHome, bob, right)
	wait := []control.Block{{
		Network: netip.MustParsePrefix(atHome + "/32"), Source: Source,
		Reason: "15 failed logins of alice@example.test in 15m, the limit is 15", Evidence: "this user's password is not tried from there until then",
		Created: start, Expires: start.Add(15 * time.Minute),
	}}
	if diff := cmp.Diff(wait, s.why(atHome), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || len(s.locks()) != 0 {
		t.Errorf("locks %+v, why (-want +got)\n%s", s.locks(), diff)
	}
	s.clock.Add(15 * time.Minute)
	if list := s.why(atHome); len(list) != 0 {
		t.Errorf("waits after the end: %+v", list)
	}
	s.want(0, atHome, alice, right)
}

// Failures at other accounts count in a network that somebody uses, but for more
// of them.
func TestInfectedMachineInAnOffice(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.want(0, atHome, alice, right)
	s.fails(14, atHome, bob)
	if len(s.why(atHome)) != 0 {
		t.Fatalf("blocked too early: %+v", s.why(atHome))
	}
	s.want(535, atHome, bob, wrong)
	if b := s.why(atHome); len(b) != 1 || b[0].Reason != "15 failed logins in 15m, the limit is 15" {
		t.Errorf("blocks %+v", b)
	}
	s.want(454, atHome, bob, right)
	s.want(0, atHome, alice, right)
	s.want(0, cafe, bob, right)
}

// A success clears the failures of its account and network, and no others.
func TestSuccessClears(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	s.fails(4, cafe, alice)
	s.want(0, cafe, alice, right)
	s.fails(4, cafe, alice)
	s.want(0, cafe, alice, right)
	if n := s.rows("bruteforce_failure"); n != 0 {
		t.Errorf("%d rows of failures are left", n)
	}
	// Who has an account here himself does not get rid of what he does to others.
	s.fails(4, attacker, alice)
	s.want(0, attacker, bob, right)
	s.fails(10, attacker, alice)
	s.want(0, attacker, bob, right)
	s.want(535, attacker, alice, wrong)
	s.want(454, attacker, alice, right)
	if len(s.why(attacker)) != 1 {
		t.Error("not blocked")
	}
}

// Names that mean one account count together, and a name that nobody has counts
// as well.
func TestNamesOfOneAccount(t *testing.T) {
	t.Parallel()
	s := serve(t, options{settings: "attempts = 25\nusernames = 2"})
	for _, name := range []string{alice, "ALICE@example.test", "alice@EXAMPLE.test", "alice@ｅxample.test", `"alice"@example.test`} {
		s.want(535, attacker, name, wrong)
	}
	if len(s.why(attacker)) != 0 {
		t.Errorf("spellings of one name are taken for several: %+v", s.why(attacker))
	}
	s.want(535, attacker, "no such \x1b[2J user", wrong)
	b := s.why(attacker)
	if len(b) != 1 || b[0].Evidence != "6 failed logins within a day at alice@example.test, no such ?[2J user" {
		t.Errorf("blocks %+v", b)
	}
}
