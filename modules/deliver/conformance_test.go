package deliver

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
)

func TestConformance(t *testing.T) {
	const user, gone = "user@example.test", "gone@example.test"
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID:     "handler.deliver",
		Config: `deliver {}`,
		Bad: []coretest.Bad{
			{Config: `deliver { mailbox = "Junk" }`, Attribute: "mailbox", Code: "config/unknown-attribute"},
			{Config: `deliver { on_error = "continue" }`, Attribute: "on_error", Code: "chain/target-error"},
			{Config: `deliver { mode = "monitor" }`, Attribute: "mode", Code: "chain/target-monitor"},
			{Config: `deliver { stage = "data" }`, Attribute: "stage"},
		},
		Setup: func(tb testing.TB, h core.Host) {
			tb.Helper()
			if err := coretest.Service[*accounts.Accounts](tb, h).Add(tb.Context(), user, "a long password"); err != nil {
				tb.Fatal(err)
			}
		},
		// Recipients are somebody, nobody, and elsewhere; at the data stage somebody and
		// an account that was removed meanwhile.
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			switch stage {
			case mail.StageRcpt:
				tx.Recipient.Address = []mail.Address{
					{LocalPart: "User+x", Domain: "Example.TEST"}, {LocalPart: "nobody", Domain: "example.test"}, {LocalPart: "user", Domain: "example.org"},
				}[n%3]
			case mail.StageData:
				r := tx.Envelope.Recipients[0]
				r.Target, r.Accounts = "deliver", []string{[]string{user, gone}[n%2]}
			default:
			}
			return tx
		},
		Rounds: 4,
	})
}
