package senderlogin

import (
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestConformance(t *testing.T) {
	users := []string{"", "user@example.test", "sender1@example.org", "sender2@example.org"}
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID: "handler.sender_login",
		Config: `sender_login {
			allow = { "user@example.test" = ["@example.net", "sender3@example.org"] }
		}`,
		Bad: []coretest.Bad{
			{Config: "sender_login {\nheader_from = \"drop\"\n}", Attribute: "header_from"},
			{Config: "sender_login {\nnull_reverse_path = \"tag\"\n}", Attribute: "null_reverse_path"},
			{Config: "sender_login {\nallow = { \"alice\" = [\"*\"] }\n}", Attribute: "allow"},
			{Config: "sender_login {\nallow = [\"*\"]\n}", Attribute: "allow"},
		},
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			tx.Session.User = users[n%len(users)]
			return tx
		},
	})
}
