package authres

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	block := func(settings string) string { return "authres {\n" + settings + "\n}" }
	for _, settings := range []string{"", "authserv_id = \"example.org\"\nfield = \"X-Authentication\""} {
		coretest.TestHandler(t, coretest.HandlerSuite{
			ID: "handler.authres", Config: block(settings),
			Bad: []coretest.Bad{
				{Config: block(`authserv_id = "a b"`), Attribute: "authserv_id"},
				{Config: block(`authserv_id = "a;b"`), Attribute: "authserv_id"},
				{Config: block(`field = "A B"`), Attribute: "field"},
				{Config: block(`field = ""`), Attribute: "field"},
				{Config: block(`field = 7`), Attribute: "field"},
				{Config: block(`stage = "rcpt"`), Attribute: "stage"},
			},
			Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
				tb.Helper()
				tx := coretest.Transaction(tb, stage, n)
				if stage == mail.StageData && n%2 == 0 {
					tx.SetAuthResult(mail.AuthResult{Method: "dmarc", Result: "fail", Reason: "p=reject", Properties: []mail.Property{{Type: "header", Name: "from", Value: "example.org"}}})
				}
				return tx
			},
		})
	}
}
