package totp

import (
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// TestTrialUsesNothingUp finds that codes are judged on trial as ever, and stay good;
// and that wrong ones do not close an account.
func TestTrialUsesNothingUp(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	e := k.enrol(alice)
	k.clock.add(5 * 30 * time.Second)
	h := k.handler("totp {}")
	try := func(code mail.Secret, trial bool) mail.Action {
		t.Helper()
		tx := transaction(alice, mail.Credentials{Code: code})
		tx.Stage, tx.Trial = mail.StageAuth, trial
		tx.Authenticate(alice)
		v, err := h.Handle(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		return v.Action
	}
	for range 3 * maxMisses {
		if got := try(k.wrongCode(e), true); got != mail.ActionReject {
			t.Fatalf("wrong code: %s", got)
		}
	}
	for _, code := range []mail.Secret{k.code(e, 0), e.RecoveryCodes[0]} {
		for range 3 {
			if got := try(code, true); got != mail.ActionContinue {
				t.Fatalf("on trial: %s", got)
			}
		}
		if got := try(code, false); got != mail.ActionContinue {
			t.Errorf("after the trial: %s", got)
		}
		if got := try(code, true); got != mail.ActionReject {
			t.Errorf("on trial, once it is used: %s", got)
		}
	}
}
