package password

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
)

func TestConformance(t *testing.T) {
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID:     "handler.password",
		Config: `password {}`,
		Bad:    []coretest.Bad{{Config: `password { minimum = 8 }`, Attribute: "minimum", Code: "config/unknown-attribute"}},
		Setup: func(tb testing.TB, h core.Host) {
			tb.Helper()
			if err := coretest.Service[*accounts.Accounts](tb, h).Add(tb.Context(), alice, "correct horse"); err != nil {
				tb.Fatal(err)
			}
		},
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			if stage == mail.StageAuth && n%2 == 0 {
				tx.Credentials.Username, tx.Credentials.Password = alice, "correct horse"
			}
			return tx
		},
	})
}
