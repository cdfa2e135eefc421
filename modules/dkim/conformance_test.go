package dkim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

// zoneText writes the keys of the tests as a zone.
func zoneText() string {
	var b strings.Builder
	for name, texts := range handlerZone() {
		if texts[0] == silent {
			continue
		}
		fmt.Fprintf(&b, "%s. TXT", name)
		for text := texts[0]; text != ""; {
			n := min(len(text), 250)
			fmt.Fprintf(&b, " %q", text[:n])
			text = text[n:]
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestVerifyConformance(t *testing.T) {
	messages := []string{small, craft(t, small, "rsa", tags), craft(t, small, "weak", by("weak")), craft(t, small, "rsa", by("none")), "DKIM-Signature: \x1b\r\n" + small}
	suite := coretest.HandlerSuite{
		ID: "handler.dkim_verify",
		Config: `dkim_verify {
			fail       = "reject"
			none       = "tag"
			clock_skew = "1h"
		}`,
		Bad: []coretest.Bad{
			{Config: "dkim_verify {\nfail = \"defer\"\n}", Attribute: "fail"},
			{Config: "dkim_verify {\nweak_key = \"reject\"\n}", Attribute: "weak_key"},
			{Config: "dkim_verify {\nbody_length = \"accept\"\n}", Attribute: "body_length"},
			{Config: "dkim_verify {\nmax_signatures = 0\n}", Attribute: "max_signatures"},
			{Config: "dkim_verify {\nclock_skew = \"-1s\"\n}", Attribute: "clock_skew"},
		},
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			if stage == mail.StageData {
				tx.Message = parse(tb, messages[n%len(messages)])
			}
			return tx
		},
	}
	base := func(s *dnstest.Server) string {
		return fmt.Sprintf("%s\ndns {\n  servers = [%q]\n}\n", coretest.Base, s.Addr())
	}
	t.Run("answers", func(t *testing.T) {
		suite.Base = base(dnstest.Serve(t, zoneText()))
		coretest.TestHandler(t, suite)
	})
	t.Run("no answer", func(t *testing.T) {
		s := dnstest.Serve(t, "")
		s.Fail(dnstest.Every, dnstest.ServFail)
		suite.Base = base(s)
		coretest.TestHandler(t, suite)
	})
}

func TestSignConformance(t *testing.T) {
	users := []string{"", "user@example.test", "sender1@example.org"}
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID:     "handler.dkim_sign",
		Base:   coretest.Base + "domain \"example.org\" {\n" + dkimBlocks(t) + "}\n",
		Config: "dkim_sign {\nexpire = \"7d\"\n}",
		Bad: []coretest.Bad{
			{Config: "dkim_sign {\nheaders = [\"X-Good\", \"Received\"]\n}", Attribute: "headers[1]"},
			{Config: "dkim_sign {\nheaders = [\"X Bad\"]\n}", Attribute: "headers[0]"},
			{Config: "dkim_sign {\nexpire = \"-1d\"\n}", Attribute: "expire"},
			{Config: "dkim_sign {\nusers = \"all\"\n}", Attribute: "users"},
		},
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			tx.Session.User = users[n%len(users)]
			return tx
		},
	})
}
