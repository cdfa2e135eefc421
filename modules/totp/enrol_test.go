package totp

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pquerna/otp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/accounts"
)

func (k *kit) factor(account string) control.SecondFactor {
	k.t.Helper()
	f, err := k.SecondFactor(k.t.Context(), account)
	if err != nil {
		k.t.Fatal(err)
	}
	return f
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	began := k.clock.Now()
	same := func(want control.SecondFactor) {
		t.Helper()
		if diff := cmp.Diff(want, k.factor("ALICE@example.test")); diff != "" {
			t.Errorf("second factor (-want +got):\n%s", diff)
		}
	}
	same(control.SecondFactor{Account: alice, State: "off"})
	first, err := k.EnrolTOTP(t.Context(), "Alice@EXAMPLE.test")
	if err != nil {
		t.Fatal(err)
	}
	same(control.SecondFactor{Account: alice, State: "pending", Enrolled: began, RecoveryCodes: 10})
	if k.isOn(alice) {
		t.Error("a pending second factor is on")
	}
	k.clock.add(time.Minute)
	second, err := k.EnrolTOTP(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if first.Secret == second.Secret || first.RecoveryCodes[0] == second.RecoveryCodes[0] {
		t.Error("two enrolments have the same secret or the same recovery codes")
	}
	if err := k.ConfirmTOTP(t.Context(), alice, k.code(first, 0)); !errors.Is(err, ErrCode) || !errors.Is(err, control.ErrInvalid) {
		t.Errorf("confirmed by a code of the enrolment that was replaced: error %v", err)
	}
	if _, err := k.VerifyTOTP(t.Context(), alice, k.code(second, 0)); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("a code of a pending second factor: error %v", err)
	}
	if _, err := k.VerifyTOTP(t.Context(), alice, second.RecoveryCodes[0]); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("a recovery code of a pending second factor: error %v", err)
	}
	if err := k.ConfirmTOTP(t.Context(), "ALICE@example.test", k.code(second, 0)); err != nil {
		t.Fatal(err)
	}
	same(control.SecondFactor{Account: alice, State: "on", Enrolled: began.Add(time.Minute), LastUsed: k.clock.Now(), RecoveryCodes: 10})
	if k.verify(k.code(second, 0)) {
		t.Error("the first code is right a second time")
	}
	if err := k.ConfirmTOTP(t.Context(), alice, k.code(second, 1)); !errors.Is(err, store.ErrExists) {
		t.Errorf("confirmed again: error %v", err)
	}
	if _, err := k.EnrolTOTP(t.Context(), alice); !errors.Is(err, store.ErrExists) {
		t.Errorf("enrolled again: error %v", err)
	}
	k.clock.add(time.Hour)
	if !k.verify(second.RecoveryCodes[9]) {
		t.Error("a recovery code is wrong")
	}
	same(control.SecondFactor{Account: alice, State: "on", Enrolled: began.Add(time.Minute), LastUsed: k.clock.Now(), RecoveryCodes: 9})
	if err := k.RemoveTOTP(t.Context(), "Alice@example.test"); err != nil {
		t.Fatal(err)
	}
	same(control.SecondFactor{Account: alice, State: "off"})
	if err := k.RemoveTOTP(t.Context(), alice); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed again: error %v", err)
	}
	if k.isOn(alice) || k.rows() != 0 {
		t.Errorf("on %v, %d rows after it was removed", k.isOn(alice), k.rows())
	}
}

// rows counts what is kept.
func (k *kit) rows() (n int) {
	k.t.Helper()
	err := k.store.Read(k.t.Context(), func(s *store.Snapshot) error {
		return s.QueryRow(`SELECT (SELECT COUNT(*) FROM totp) + (SELECT COUNT(*) FROM totp_recovery)`).Scan(&n)
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}

func TestEnrolmentOfNobody(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	for address, want := range map[string]error{"nobody@example.test": store.ErrNotFound, "alice": control.ErrInvalid, "": control.ErrInvalid, "postmaster": control.ErrInvalid} {
		_, enrolled := k.EnrolTOTP(t.Context(), address)
		_, found := k.SecondFactor(t.Context(), address)
		_, verified := k.VerifyTOTP(t.Context(), address, "123456")
		for what, err := range map[string]error{
			"enrol": enrolled, "find": found, "verify": verified, "confirm": k.ConfirmTOTP(t.Context(), address, "123456"),
			"remove": k.RemoveTOTP(t.Context(), address), "append": k.SetAppendCode(t.Context(), address, true),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%s %q: error %v, want %v", what, address, err, want)
			}
		}
	}
	if k.rows() != 0 {
		t.Errorf("%d rows", k.rows())
	}
}

func TestEnrolAtOnce(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	const many = 8
	done := make(chan control.Enrolment, many)
	for range many {
		go func() {
			e, err := k.EnrolTOTP(t.Context(), alice)
			if err != nil {
				t.Error(err)
			}
			done <- e
		}()
	}
	made := make([]control.Enrolment, many)
	for i := range made {
		made[i] = <-done
	}
	confirmed := 0
	for _, e := range made {
		if k.ConfirmTOTP(t.Context(), alice, k.code(e, 0)) == nil {
			confirmed++
		}
	}
	if confirmed != 1 || k.factor(alice).RecoveryCodes != recoveryCodes {
		t.Errorf("%d of %d enrolments were confirmed, %d recovery codes", confirmed, many, k.factor(alice).RecoveryCodes)
	}
}

// TestURI reads the URI as an authenticator does.
func TestURI(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	const odd = `o'hara+"odd name"@example.test`
	if err := k.accounts.Add(t.Context(), `"o'hara+ odd"@example.test`, password); err != nil {
		t.Fatal(err)
	}
	for account, shown := range map[string]string{alice: alice, `"o'hara+ odd"@example.test`: `"o'hara+ odd"@example.test`} {
		e, err := k.EnrolTOTP(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		key, err := otp.NewKeyFromURL(e.URI.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if key.Type() != "totp" || key.Issuer() != "mx.example.test" || key.AccountName() != shown || key.Secret() != e.Secret.Reveal() ||
			key.Period() != 30 || key.Digits() != otp.DigitsSix || key.Algorithm() != otp.AlgorithmSHA1 {
			t.Errorf("URI %s", e.URI.Reveal())
		}
		if u, err := url.Parse(e.URI.Reveal()); err != nil || len(u.Query().Get("secret")) != 32 {
			t.Errorf("secret %q is not 160 bits in base32, %v", u.Query().Get("secret"), err)
		}
		if strings.Contains(e.URI.String(), e.Secret.Reveal()) {
			t.Error("the URI prints with the secret")
		}
	}
	if _, err := k.EnrolTOTP(t.Context(), odd); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("an address that is none: error %v", err)
	}
}

func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	if len(e.RecoveryCodes) != 10 {
		t.Fatalf("%d recovery codes", len(e.RecoveryCodes))
	}
	spellings := []func(string) string{
		func(s string) string { return s },
		strings.ToUpper,
		func(s string) string { return strings.ReplaceAll(s, "-", "") },
		func(s string) string { return " " + strings.ReplaceAll(s, "-", " ") + " " },
	}
	seen := make(map[mail.Secret]bool)
	for i, code := range e.RecoveryCodes {
		spelled := mail.Secret(spellings[i%len(spellings)](code.Reveal()))
		if seen[code] || !k.verify(spelled) || k.verify(code) || k.verify(spelled) {
			t.Errorf("recovery code %d as %q is wrong, or right twice", i, spelled.Reveal())
		}
		seen[code] = true
	}
	if f := k.factor(alice); f.RecoveryCodes != 0 {
		t.Errorf("%d recovery codes are left", f.RecoveryCodes)
	}
	if !k.verify(k.code(e, 0)) {
		t.Error("a code is wrong after all recovery codes were used")
	}
	other := k.enrol(bob)
	if k.verify(other.RecoveryCodes[0]) {
		t.Error("another account's recovery code is right")
	}
	if n := k.factor(bob).RecoveryCodes; n != 10 {
		t.Errorf("%d recovery codes of bob are left", n)
	}
}

func TestAppendCode(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	appends := func(account string) bool {
		on, err := k.AppendsCode(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	e, err := k.EnrolTOTP(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetAppendCode(t.Context(), "Alice@example.test", true); err != nil {
		t.Fatal(err)
	}
	if appends(alice) {
		t.Error("it is in force before the second factor is")
	}
	if err := k.ConfirmTOTP(t.Context(), alice, k.code(e, 0)); err != nil {
		t.Fatal(err)
	}
	if !appends(alice) || !k.factor(alice).AppendCode || appends(bob) {
		t.Error("it is not in force, or not for alice alone")
	}
	if err := k.SetAppendCode(t.Context(), alice, false); err != nil {
		t.Fatal(err)
	}
	if appends(alice) || k.factor(alice).AppendCode {
		t.Error("it is in force after it was switched off")
	}
	if err := k.SetAppendCode(t.Context(), bob, true); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("for who has no second factor: error %v", err)
	}
}

func TestGoesWithTheAccount(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.enrol(alice)
	e := k.enrol(bob)
	if err := k.accounts.Remove(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	if k.isOn(alice) || k.rows() != 11 {
		t.Errorf("on %v, %d rows, of which bob has 11", k.isOn(alice), k.rows())
	}
	if err := k.accounts.Remove(t.Context(), "nobody@example.test"); !errors.Is(err, accounts.ErrNotFound) {
		t.Error(err)
	}
	if err := k.accounts.Add(t.Context(), alice, password); err != nil {
		t.Fatal(err)
	}
	if f := k.factor(alice); f.State != "off" {
		t.Errorf("an account of the same name has the second factor of the one before: %+v", f)
	}
	if ok, err := k.VerifyTOTP(t.Context(), bob, k.code(e, 0)); !ok || err != nil {
		t.Errorf("bob's code: %v, %v", ok, err)
	}
}

// TestGuessing finds that wrong codes in a row close the way of codes, for longer
// each time, and no other way.
func TestGuessing(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	miss := func(n int) {
		t.Helper()
		for range n {
			if k.verify(k.wrongCode(e)) {
				t.Fatal("a wrong code is right")
			}
		}
	}
	miss(maxMisses - 1)
	if !k.verify(k.code(e, 0)) {
		t.Error("a code is refused one miss too early")
	}
	k.clock.add(period * time.Second)
	closed := minClosed
	for range 9 {
		miss(maxMisses)
		if r, err := k.check(t.Context(), alice, k.code(e, 0), 1); r.ok || err != nil || !strings.Contains(r.reason, "in a row") {
			t.Fatalf("the right code after %d wrong ones: %+v, %v", maxMisses, r, err)
		}
		k.clock.add(closed - time.Nanosecond)
		if k.verify(k.code(e, 0)) {
			t.Errorf("codes are taken again before %s have passed", closed)
		}
		k.clock.add(time.Nanosecond)
		closed = min(2*closed, maxClosed)
	}
	miss(maxMisses)
	if !k.verify(e.RecoveryCodes[0]) {
		t.Error("a recovery code is refused too")
	}
	k.clock.add(maxClosed)
	for range 2 {
		if !k.verify(k.code(e, 0)) {
			t.Error("the right code is refused after the time has passed")
		}
		for range 2 * maxMisses { // the same code again is no guess
			k.verify(k.code(e, 0))
		}
		k.clock.add(period * time.Second)
	}
	miss(maxMisses - 1)
	if !k.verify(k.code(e, 0)) {
		t.Error("a right code did not begin the count again")
	}
}
