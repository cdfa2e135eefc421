package totp

import (
	"fmt"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
)

func TestConformance(t *testing.T) {
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID:     "handler.totp",
		Config: `totp {}`,
		Bad: []coretest.Bad{
			{Config: `totp { enforce = "maybe" }`, Attribute: "enforce"},
			{Config: `totp { drift = -1 }`, Attribute: "drift"},
			{Config: `totp { drift = 11 }`, Attribute: "drift"},
			{Config: `totp { append_code = "sometimes" }`, Attribute: "append_code"},
		},
		Setup: func(tb testing.TB, h core.Host) {
			tb.Helper()
			if err := coretest.Service[*accounts.Accounts](tb, h).Add(tb.Context(), alice, password); err != nil {
				tb.Fatal(err)
			}
			service := coretest.Service[*Service](tb, h)
			e, err := service.EnrolTOTP(tb.Context(), alice)
			if err != nil {
				tb.Fatal(err)
			}
			k := &kit{Service: service, t: tb, clock: &clock{now: service.now()}}
			if err := service.ConfirmTOTP(tb.Context(), alice, k.code(e, 0)); err != nil {
				tb.Fatal(err)
			}
		},
		Transaction: login,
	})
}

// login makes the nth login of a user with or without a second factor, and at other
// stages what a client does there.
func login(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n)
	if stage != mail.StageAuth {
		return tx
	}
	if n%3 > 0 {
		tx.Authenticate(alice)
	}
	if n%3 == 2 {
		tx.Credentials.Code = mail.Secret(fmt.Sprintf("%06d", n))
	}
	return tx
}
