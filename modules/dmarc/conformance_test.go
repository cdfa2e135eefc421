package dmarc

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base has the DNS of the test as the server's.
func base(s *dnstest.Server) string {
	return fmt.Sprintf("%s\ndns {\n  servers = [%q]\n}\n", coretest.Base, s.Addr())
}

func block(settings string) string { return "dmarc {\n" + settings + "\n}" }

func TestConformance(t *testing.T) {
	suite := coretest.HandlerSuite{
		ID: "handler.dmarc",
		Bad: []coretest.Bad{
			{Config: block(`reject = "defer"`), Attribute: "reject", Code: "config/bad-value"},
			{Config: block(`quarantine = "no"`), Attribute: "quarantine"},
			{Config: block(`none = "discard"`), Attribute: "none"},
			{Config: block(`temperror = "reject"`), Attribute: "temperror"},
			{Config: block(`bad_from = "judge"`), Attribute: "bad_from"},
			{Config: block(`several_from = "accept"`), Attribute: "several_from"},
			{Config: block(`override = { "example.org" = "defer" }`), Attribute: "override"},
			{Config: block(`override = { "no domain" = "accept" }`), Attribute: "override"},
			{Config: block(`override = { "[192.0.2.1]" = "accept" }`), Attribute: "override"},
			{Config: block(`organizational_domain = "psl"`), Attribute: "organizational_domain"},
			{Config: block(`exempt = ["192.0.2.1/33"]`), Attribute: "exempt[0]"},
			{Config: block(`stage = "rcpt"`), Attribute: "stage"},
		},
		Transaction: mixed,
	}
	s := dnstest.Serve(t, "_dmarc.example.org. TXT \"v=DMARC1; p=reject; rua=mailto:r@example.org\"\n_dmarc.example.net. TXT \"v=DMARC1; p=quarantine; t=y\"")
	suite.Base = base(s)
	for name, settings := range map[string]string{
		"defaults": "",
		"others":   "several_from = \"judge\"\nbad_from = \"quarantine\"\nnone = \"tag\"\noverride = { \"org\" = \"quarantine\" }\norganizational_domain = \"public_suffix_list\"",
	} {
		t.Run(name, func(t *testing.T) {
			suite.Config = block(settings)
			coretest.TestHandler(t, suite)
		})
	}
	t.Run("no answer", func(t *testing.T) {
		s.Fail(dnstest.Every, dnstest.ServFail)
		suite.Config = block(`temperror = "defer"`)
		coretest.TestHandler(t, suite)
	})
}

// mixed has messages that pass and fail, without results, and of several authors or
// none.
func mixed(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n)
	if stage != mail.StageData {
		return tx
	}
	froms := []string{"a@example.org", "a@example.org, b@example.net", "", "a@x.example.net", "a@sub.example.org"}
	m, err := mail.NewMessage([]byte("From: " + froms[n%len(froms)] + "\r\n\r\nhi\r\n"))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = m
	if n%3 > 0 {
		tx.SetAuthResult(result(tb, "spf=pass bounce@example.org"))
		tx.SetAuthResult(result(tb, "dkim=fail example.net"))
	}
	return tx
}
