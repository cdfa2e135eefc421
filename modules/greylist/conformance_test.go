package greylist

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestConformance(t *testing.T) {
	block := func(settings string) string { return "greylist {\n" + settings + "\n}" }
	bad := []coretest.Bad{
		{Config: block(`delay = "-1s"`), Attribute: "delay"},
		{Config: block(`delay = "25h"`), Attribute: "delay"},
		{Config: block("delay = \"5m\"\nretry_window = \"5m\""), Attribute: "delay"},
		{Config: block(`retry_window = "31d"`), Attribute: "retry_window"},
		{Config: block(`expire = "30"`), Attribute: "expire"},
		{Config: block("pass_after = -1"), Attribute: "pass_after"},
		{Config: block(`recipient = "user"`), Attribute: "recipient", Code: "config/bad-value"},
		{Config: block("ipv4_prefix = 33"), Attribute: "ipv4_prefix"},
		{Config: block("ipv6_prefix = 8"), Attribute: "ipv6_prefix"},
		{Config: block(`spf_pass = "accept"`), Attribute: "spf_pass", Code: "config/bad-value"},
		{Config: block(`skip_dnswl = "no"`), Attribute: "skip_dnswl"},
		{Config: block(`correspondents = "1m"`), Attribute: "correspondents"},
		{Config: block(`except = "example.org"`), Attribute: "except"},
		{Config: block(`stage = "mail"`), Attribute: "stage"},
	}
	for name, config := range map[string]string{
		"defaults": block(""),
		"domains":  block("delay = \"0s\"\npass_after = 1\nrecipient = \"domain\"\nspf_pass = \"domain\"\nexcept = [\"192.0.2.3/32\"]"),
	} {
		t.Run(name, func(t *testing.T) {
			coretest.TestHandler(t, coretest.HandlerSuite{
				ID: "handler.greylist", Config: config, Bad: bad,
				Setup: func(tb testing.TB, h core.Host) {
					tb.Helper()
					if err := coretest.Service[*Service](tb, h).AllowGreylist(tb.Context(), control.Allowed{Subject: "sender4@example.org"}); err != nil {
						tb.Fatal(err)
					}
				},
				Transaction: visitor,
			})
		})
	}
}

// visitor has few triplets, so that some come again, users who have logged in, and
// clients for which another handler vouches.
func visitor(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n%8)
	switch n % 8 {
	case 5:
		tx.Session.User = "user@example.test"
	case 6:
		tx.SetAuthResult(mail.AuthResult{
			Method: "spf", Result: "pass",
			Properties: []mail.Property{{Type: "smtp", Name: "mailfrom", Value: "sender6@example.org"}},
		})
	case 7:
		tx.Envelope.ReversePath = mail.Address{}
	}
	return tx
}
