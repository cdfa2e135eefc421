package quarantine

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestConformance(t *testing.T) {
	block := func(settings string) string { return "quarantine {\n" + settings + "\n}" }
	bad := []coretest.Bad{
		{Config: block(`to = "inbox"`), Attribute: "to", Code: "config/bad-value"},
		{Config: block(`expire = "59m"`), Attribute: "expire"},
		{Config: block(`expire = "4000d"`), Attribute: "expire"},
		{Config: block(`keep = 7`), Attribute: "keep"},
		{Config: block(`max_size = "1KB"`), Attribute: "max_size"},
		{Config: block("max_size = \"1MiB\"\nmax_domain_size = \"2MiB\""), Attribute: "max_domain_size"},
		{Config: block(`digest = "yes"`), Attribute: "digest"},
		{Config: block(`digest_at = "25:00"`), Attribute: "digest_at"},
		{Config: block(`digest_at = "7 o'clock"`), Attribute: "digest_at"},
		{Config: block(`stage = "rcpt"`), Attribute: "stage"},
	}
	for name, config := range map[string]string{"store": block("digest = true"), "junk": block(`to = "junk"`)} {
		t.Run(name, func(t *testing.T) {
			coretest.TestHandler(t, coretest.HandlerSuite{
				ID: "handler.quarantine", Config: config, Bad: bad,
				Setup:       func(tb testing.TB, h core.Host) { tb.Helper(); addAccounts(tb, h) },
				Transaction: suspect,
			})
		})
	}
}

// suspect makes transactions that are not quarantined, and trials of those that are.
// Holding takes recipients in charge, which the suite lets targets do only.
func suspect(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n)
	if stage != mail.StageData {
		return tx
	}
	switch n % 4 {
	case 1:
		tx.SetQuarantine("spam")
		tx.Trial = true
		tx.Envelope.Recipients[0].Accounts = []string{"user@example.test"}
	case 2:
		tx.SetQuarantine("spam") // for a recipient without an account
	case 3:
		tx.SetDiscard()
	}
	return tx
}
