package bruteforce

import (
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestConformance(t *testing.T) {
	block := func(settings string) string { return "bruteforce {\n" + settings + "\n}" }
	bad := []coretest.Bad{
		{Config: block(`max_block = "1m"`), Attribute: "max_block"},
		{Config: block("block = \"2h\"\nmax_block = \"1h\""), Attribute: "max_block"},
		{Config: block("attempts = 10\nday_attempts = 5"), Attribute: "day_attempts"},
		{Config: block("account_day_attempts = 19"), Attribute: "account_day_attempts"},
		{Config: block("account_attempts = 2\naccount_networks = 3"), Attribute: "account_attempts"},
		{Config: block(`exempt = "::/0"`), Attribute: "exempt"},
		{Config: block(`exempt = "192.0.2.0/33"`), Attribute: "exempt"},
		{Config: block("attempts = 0"), Attribute: "attempts"},
		{Config: block("usernames = 1"), Attribute: "usernames"},
		{Config: block(`window = "2d"`), Attribute: "window"},
		{Config: block("ipv4_prefix = 33"), Attribute: "ipv4_prefix"},
		{Config: block("ipv6_prefix = 16"), Attribute: "ipv6_prefix"},
		{Config: block(`known_factor = "many"`), Attribute: "known_factor"},
	}
	for name, config := range map[string]string{
		"defaults": block(""),
		"strict":   block("attempts = 1\nusernames = 2\nday_attempts = 1\naccount_attempts = 2\naccount_networks = 2\naccount_day_attempts = 2\nipv4_prefix = 24"),
	} {
		t.Run(name, func(t *testing.T) {
			coretest.TestHandler(t, coretest.HandlerSuite{
				ID: "handler.bruteforce", Config: config, Bad: bad,
				// Few clients and accounts, so that some are blocked and locked; Spend takes
				// the time of an argon2.
				Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
					tb.Helper()
					return coretest.Transaction(tb, stage, n%4)
				},
				Rounds: 3,
			})
		})
	}
}
