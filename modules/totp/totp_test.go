package totp

import (
	"context"
	"encoding/base32"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "alice@example.test"
	bob   = "bob@example.test"

	password mail.Secret = "correct horse"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 1, 12, 0, 10, 0, time.UTC)} }

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

// kit is the service in a sandbox with the accounts of alice and bob.
type kit struct {
	*Service
	t        testing.TB
	clock    *clock
	sandbox  *core.Sandbox
	accounts *accounts.Accounts
}

func newKit(t testing.TB) *kit {
	t.Helper()
	c := newClock()
	return kitOn(t, coretest.New(t, coretest.Options{Now: c.Now}), c)
}

func kitOn(t testing.TB, s *core.Sandbox, c *clock) *kit {
	t.Helper()
	k := &kit{Service: coretest.Service[*Service](t, s), t: t, clock: c, sandbox: s, accounts: coretest.Service[*accounts.Accounts](t, s)}
	for _, address := range []string{alice, bob} {
		if err := k.accounts.Add(t.Context(), address, password); err != nil && !errors.Is(err, accounts.ErrExists) {
			t.Fatal(err)
		}
	}
	return k
}

// enrol gives an account a second factor that is on.
func (k *kit) enrol(account string) control.Enrolment {
	k.t.Helper()
	e, err := k.EnrolTOTP(k.t.Context(), account)
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.ConfirmTOTP(k.t.Context(), account, k.code(e, 0)); err != nil {
		k.t.Fatal(err)
	}
	k.clock.add(period * time.Second)
	return e
}

// code is what the user's authenticator shows, so many steps from now.
func (k *kit) code(e control.Enrolment, steps int) mail.Secret {
	k.t.Helper()
	code, err := totp.GenerateCode(e.Secret.Reveal(), k.clock.Now().Add(time.Duration(steps)*period*time.Second))
	if err != nil {
		k.t.Fatal(err)
	}
	return mail.Secret(code)
}

// wrongCode is none of the codes around now.
func (k *kit) wrongCode(e control.Enrolment) mail.Secret {
	k.t.Helper()
	for _, wrong := range []mail.Secret{"000000", "111111", "222222", "333333", "444444"} {
		right := false
		for steps := -2; steps <= 2; steps++ {
			right = right || k.code(e, steps) == wrong
		}
		if !right {
			return wrong
		}
	}
	k.t.Fatal("all codes are right")
	return ""
}

// verify tells whether a code of alice is right.
func (k *kit) verify(code mail.Secret) bool {
	k.t.Helper()
	ok, err := k.VerifyTOTP(k.t.Context(), alice, code)
	if err != nil {
		k.t.Fatal(err)
	}
	return ok
}

// handler makes the handler from the one block in source.
func (k *kit) handler(source string) *TOTP {
	k.t.Helper()
	return coretest.Load[*TOTP](k.t, k.sandbox, "handler.totp", source)
}

// transaction is that of a login for which an earlier handler has vouched.
func transaction(user string, c mail.Credentials) *mail.Transaction {
	session := &mail.Session{ID: "session", Protocol: mail.ProtocolIMAP}
	tx := mail.NewTransaction(session.ID, session, session.Started)
	tx.Stage, tx.Credentials = mail.StageAuth, &c
	tx.Authenticate(user)
	return tx
}

// oathtool gives the code of a time as another program computes it.
func oathtool(t testing.TB, secret string, at time.Time) mail.Secret {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "oathtool", "--totp", "--base32", "--now", at.UTC().Format("2006-01-02 15:04:05 UTC"), secret).Output()
	if err != nil {
		t.Fatalf("run oathtool of the package oathtool: %v", err)
	}
	return mail.Secret(strings.TrimSpace(string(out)))
}

func TestOathtool(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e, err := k.EnrolTOTP(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.ConfirmTOTP(t.Context(), alice, oathtool(t, e.Secret.Reveal(), k.clock.Now())); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		k.clock.add(time.Duration(31+i*i*977) * time.Second)
		code := oathtool(t, e.Secret.Reveal(), k.clock.Now())
		if !k.verify(code) {
			t.Errorf("at %s the code of oathtool is wrong", k.clock.Now())
		}
		if k.verify(code) {
			t.Errorf("at %s the code of oathtool is right a second time", k.clock.Now())
		}
	}
}

func TestHandle(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	wrong := k.wrongCode(e)
	const (
		in      = mail.ActionContinue
		out     = mail.ActionReject
		trouble = mail.ActionDefer
	)
	tests := []struct {
		name     string
		settings string
		user     string
		c        mail.Credentials
		action   mail.Action
		reason   string
	}{
		{"off", `enforce = "off"`, alice, mail.Credentials{}, in, "enforce is off"},
		{"off, not vouched for", `enforce = "off"`, "", mail.Credentials{}, in, "enforce is off"},
		{"not vouched for", ``, "", mail.Credentials{}, trouble, "behind password"},
		{"own password", ``, alice, mail.Credentials{}, out, "has a second factor"},
		{"own password, not enrolled", ``, bob, mail.Credentials{}, in, "no second factor"},
		{"own password, not enrolled, all", `enforce = "all"`, bob, mail.Credentials{}, out, "enforce is all"},
		{"app password", ``, alice, mail.Credentials{AppPassword: "phone"}, in, "app password"},
		{"app password, all", `enforce = "all"`, bob, mail.Credentials{AppPassword: "phone"}, in, "app password"},
		{"proof", ``, alice, mail.Credentials{Mechanism: "SCRAM-SHA-256"}, out, "has a second factor"},
		{"proof, not enrolled", ``, bob, mail.Credentials{Mechanism: "SCRAM-SHA-256"}, in, "no second factor"},
		{"wrong code", ``, alice, mail.Credentials{Code: wrong}, out, "wrong code"},
		{"no code at all", ``, alice, mail.Credentials{Code: "12345"}, out, "neither a code nor a recovery code"},
		{"wrong recovery code", ``, alice, mail.Credentials{Code: "aaaa-aaaa-aaaa-aaaa"}, out, "recovery code is wrong"},
		{"not allowed", `append_code = false`, alice, mail.Credentials{Code: k.code(e, 0)}, out, "append_code is false"},
		{"right code", ``, alice, mail.Credentials{Code: k.code(e, 0)}, in, "code of the step +0"},
		{"again", ``, alice, mail.Credentials{Code: k.code(e, 0)}, out, "used already"},
		{"beyond drift", `drift = 0`, alice, mail.Credentials{Code: k.code(e, 1)}, out, "wrong code"},
		{"more drift", `drift = 3`, alice, mail.Credentials{Code: k.code(e, 3)}, in, "code of the step +3"},
		{"recovery code", ``, alice, mail.Credentials{Code: e.RecoveryCodes[0]}, in, "recovery code, 9 left"},
		{"recovery code again", ``, alice, mail.Credentials{Code: e.RecoveryCodes[0]}, out, "was used"},
		{"code of a user who has none, all", `enforce = "all"`, bob, mail.Credentials{Code: k.code(e, 3)}, out, "enforce is all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tx := transaction(tt.user, tt.c)
			verdict, err := k.handler("totp {\n"+tt.settings+"\n}").Handle(t.Context(), tx)
			if err != nil || verdict.Action != tt.action || !strings.Contains(verdict.Reason, tt.reason) {
				t.Errorf("verdict %+v, error %v, want %s, %q", verdict, err, tt.action, tt.reason)
			}
			want := ""
			switch tt.action {
			case out:
				want = "535 5.7.8 Authentication credentials invalid"
			case trouble:
				want = "454 4.7.0 Temporary authentication failure, try again later"
			default:
			}
			if want != "" && verdict.Reply.String() != want {
				t.Errorf("reply %q, want %q", verdict.Reply, want)
			}
			if code := tt.c.Code.Reveal(); code != "" && strings.Contains(verdict.Reason, code) {
				t.Errorf("the reason shows the code: %s", verdict.Reason)
			}
		})
	}
}

// TestHandleFailsClosed finds that nobody with a second factor gets in, nor is told
// that the password is wrong, when the code cannot be checked.
func TestHandleFailsClosed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, code := range []mail.Secret{k.code(e, 0), e.RecoveryCodes[0]} {
		tx := transaction(alice, mail.Credentials{Code: code})
		verdict, err := k.handler("totp {}").Handle(ended, tx)
		if err != nil || verdict.Action != mail.ActionDefer || verdict.Reply.Code != 454 {
			t.Errorf("verdict %+v, error %v", verdict, err)
		}
		if tx.Stage = mail.StageAuth; !k.verify(code) {
			t.Error("a code that could not be checked was used up")
		}
	}
}

func TestDrift(t *testing.T) {
	t.Parallel()
	secret := []byte("12345678901234567890")
	at := func(s int64) string {
		code, err := totp.GenerateCode(base32.StdEncoding.EncodeToString(secret), time.Unix(s*period, 0))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	const now = int64(59_000_000)
	tests := []struct {
		name         string
		code         string
		now          int64
		drift        int
		last         int64
		step         int64
		found, fresh bool
	}{
		{"now", at(now), now, 1, -1, now, true, true},
		{"ahead", at(now + 1), now, 1, -1, now + 1, true, true},
		{"behind", at(now - 1), now, 1, -1, now - 1, true, true},
		{"too far ahead", at(now + 2), now, 1, -1, 0, false, false},
		{"too far behind", at(now - 2), now, 1, -1, 0, false, false},
		{"no drift", at(now), now, 0, -1, now, true, true},
		{"no drift, ahead", at(now + 1), now, 0, -1, 0, false, false},
		{"no drift, behind", at(now - 1), now, 0, -1, 0, false, false},
		{"much drift", at(now - 10), now, 10, -1, now - 10, true, true},
		{"used", at(now), now, 1, now, now, true, false},
		{"before the used one", at(now - 1), now, 1, now, now - 1, true, false},
		{"after the used one", at(now + 1), now, 1, now, now + 1, true, true},
		{"at the beginning of time", at(0), 0, 1, -1, 0, true, true},
		{"RFC 6238 appendix B at 59 s", "287082", 1, 1, -1, 1, true, true},
		{"RFC 6238 appendix B at 1111111109 s", "081804", 1111111109 / period, 1, -1, 1111111109 / period, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			step, found, fresh, err := match(secret, tt.code, tt.now, tt.drift, tt.last)
			if err != nil || step != tt.step || found != tt.found || fresh != tt.fresh {
				t.Errorf("step %d, %v, %v, %v, want %d, %v, %v", step, found, fresh, err, tt.step, tt.found, tt.fresh)
			}
		})
	}
}

// TestDriftByTheClock finds the seconds at which a code begins and ends to be
// right.
func TestDriftByTheClock(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	h := k.handler("totp {\ndrift = 1\n}")
	k.clock.add(-k.clock.Now().Sub(k.clock.Now().Truncate(period * time.Second))) // the first second of a step
	in := func(c mail.Secret) bool {
		verdict, err := h.Handle(t.Context(), transaction(alice, mail.Credentials{Code: c}))
		if err != nil {
			t.Fatal(err)
		}
		return verdict.Action == mail.ActionContinue
	}
	first, second := k.code(e, 2), k.code(e, 3)
	k.clock.add(period*time.Second - time.Nanosecond)
	if in(first) {
		t.Error("a code is right more than a step before its own")
	}
	k.clock.add(time.Nanosecond)
	if !in(first) {
		t.Error("a code is wrong a step before its own")
	}
	k.clock.add(4*period*time.Second - time.Nanosecond)
	if k.clock.add(-period * time.Second); !in(second) {
		t.Error("a code is wrong in the last moment of the step after its own")
	}
	third := k.code(e, 1)
	k.clock.add(3*period*time.Second + time.Nanosecond)
	if in(third) {
		t.Error("a code is right more than a step after its own")
	}
}

// TestCodeOnce has one code used by many at once, and steps come out of order.
func TestCodeOnce(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	const many = 50
	right := func(code mail.Secret) (n int) {
		results := make(chan bool, many)
		for range many {
			go func() {
				ok, err := k.VerifyTOTP(t.Context(), alice, code)
				if err != nil {
					t.Error(err)
				}
				results <- ok
			}()
		}
		for range many {
			if <-results {
				n++
			}
		}
		return n
	}
	if n := right(k.code(e, 0)); n != 1 {
		t.Errorf("a code was right %d times", n)
	}
	if n := right(e.RecoveryCodes[3]); n != 1 {
		t.Errorf("a recovery code was right %d times", n)
	}
	if !k.verify(k.code(e, 1)) {
		t.Error("the code of the next step is wrong")
	}
	if k.verify(k.code(e, 0)) || k.verify(k.code(e, -1)) {
		t.Error("a code of a step before the last one is right")
	}
	k.clock.add(2 * period * time.Second)
	if !k.verify(k.code(e, 0)) {
		t.Error("the code of a later step is wrong")
	}
}
