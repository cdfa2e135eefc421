package spf

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base has the DNS of the test as the server's.
func base(s *dnstest.Server) string {
	return fmt.Sprintf("%s\ndns {\n  servers = [%q]\n}\n", coretest.Base, s.Addr())
}

func TestConformance(t *testing.T) {
	suite := coretest.HandlerSuite{
		ID: "handler.spf",
		Config: `spf {
			softfail = "quarantine"
			exempt   = ["198.51.100.0/24"]
		}`,
		Bad: []coretest.Bad{
			{Config: "spf {\nfail = \"defer\"\n}", Attribute: "fail"},
			{Config: "spf {\nhelo = \"no\"\n}", Attribute: "helo"},
			{Config: "spf {\nexempt = [\"192.0.2.1/33\"]\n}", Attribute: "exempt[0]"},
			{Config: "spf {\nstage = \"data\"\n}", Attribute: "stage"},
		},
	}
	for name, record := range map[string]string{
		"pass": "v=spf1 ip4:192.0.2.0/24 -all", "fail": "v=spf1 mx -all exp=why.example.org", "softfail": "v=spf1 ~all", "permerror": "v=spf1 all:",
	} {
		t.Run(name, func(t *testing.T) {
			suite.Base = base(dnstest.Serve(t, fmt.Sprintf("example.org. TXT %q\nwhy.example.org. TXT \"ask %%{c}\"\n", record)))
			coretest.TestHandler(t, suite)
		})
	}
	t.Run("no answer", func(t *testing.T) {
		s := dnstest.Serve(t, "")
		s.Fail(dnstest.Every, dnstest.ServFail)
		suite.Base = base(s)
		coretest.TestHandler(t, suite)
	})
}
