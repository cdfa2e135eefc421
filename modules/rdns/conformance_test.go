package rdns

import (
	"fmt"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestConformance(t *testing.T) {
	block := func(settings string) string { return "rdns {\n" + settings + "\n}" }
	bad := []coretest.Bad{
		{Config: block(`missing_ptr = "quarantine"`), Attribute: "missing_ptr", Code: "config/bad-value"},
		{Config: block(`unconfirmed = "defer"`), Attribute: "unconfirmed", Code: "config/bad-value"},
		{Config: block(`bad_helo = true`), Attribute: "bad_helo"},
		{Config: block(`unknown_helo = "no"`), Attribute: "unknown_helo"},
		{Config: block(`own_helo = ["reject"]`), Attribute: "own_helo"},
		{Config: block("score = -1"), Attribute: "score"},
		{Config: block("score = 1001"), Attribute: "score"},
		{Config: block(`except = "192.0.2.1/33"`), Attribute: "except"},
		{Config: block(`stage = "connect"`), Attribute: "stage", Code: "chain/stage"},
		{Config: block(`stage = "data"`), Attribute: "stage", Code: "chain/stage"},
	}
	suite := coretest.HandlerSuite{
		ID: "handler.rdns", Bad: bad,
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			if stage >= mail.StageHelo {
				tx.Session.Helo = []string{"mail.example.org", "none.example.org", "mail", "mx.example.test", "<\x1b[31m>"}[n%5]
			}
			return tx
		},
	}
	for name, config := range map[string]string{
		"defaults": block(`stage = ["helo", "mail", "rcpt"]`),
		"strict":   block("missing_ptr = \"reject\"\nunconfirmed = \"reject\"\nbad_helo = \"reject\"\nunknown_helo = \"reject\""),
		"score":    block("missing_ptr = \"score\"\nunconfirmed = \"score\"\nbad_helo = \"score\"\nunknown_helo = \"score\"\nown_helo = \"score\""),
	} {
		t.Run(name, func(t *testing.T) {
			server := dnstest.Serve(t, zone)
			// Those who ask about it are few, and the look-up ends in time.
			server.Fail("0.2.0.192.in-addr.arpa", dnstest.Silence)
			suite.Config, suite.Hanging = config, config
			suite.Base = fmt.Sprintf("%s\ndns {\n  servers  = [%q]\n  timeout  = \"500ms\"\n  attempts = 1\n}\n", coretest.Base, server.Addr())
			coretest.TestHandler(t, suite)
		})
	}
}
