package dkim

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

// chained has messages with chains of all kinds.
func chained(tb testing.TB) func(testing.TB, mail.Stage, int) *mail.Transaction {
	tb.Helper()
	messages := []string{
		small, chainOf(tb, small, 1), chainOf(tb, small, 3), chainOf(tb, small, 2) + "x\r\n", "ARC-Seal: \x1b\r\n" + small,
		without(tb, chainOf(tb, small, 2), "ARC-Seal", 1),
	}
	return func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
		tb.Helper()
		tx := coretest.Transaction(tb, stage, n)
		if stage == mail.StageData {
			tx.Message = parse(tb, messages[n%len(messages)])
		}
		return tx
	}
}

// conform runs a suite with names that are answered and with none.
func conform(t *testing.T, suite coretest.HandlerSuite) {
	t.Helper()
	suite.Transaction = chained(t)
	answers, none := dnstest.Serve(t, zoneText()), dnstest.Serve(t, "")
	none.Fail(dnstest.Every, dnstest.ServFail)
	for name, s := range map[string]*dnstest.Server{"answers": answers, "no answer": none} {
		t.Run(name, func(t *testing.T) {
			suite.Base = fmt.Sprintf("%s\ndns {\n  servers = [%q]\n}\n", coretest.Base, s.Addr())
			coretest.TestHandler(t, suite)
		})
	}
}

func TestARCVerifyConformance(t *testing.T) {
	conform(t, coretest.HandlerSuite{
		ID:     "handler.arc_verify",
		Config: "arc_verify {\ntrusted = [\"example.org\", \"Bücher.example\"]\ntemperror = \"defer\"\n}",
		Bad: []coretest.Bad{
			{Config: "arc_verify {\ntrusted = [\"example.org\", \"a b\"]\n}", Attribute: "trusted[1]"},
			{Config: "arc_verify {\ntrusted = [\"a@example.org\"]\n}", Attribute: "trusted[0]"},
			{Config: "arc_verify {\ntemperror = \"reject\"\n}", Attribute: "temperror"},
		},
	})
}

func TestARCSealConformance(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, broken := file("rsa.pem", testKeys()["rsa"].pem), file("broken.pem", []byte("hello"))
	block := func(domain, selector, file, more string) string {
		return fmt.Sprintf("arc_seal {\ndomain = %q\nselector = %q\nfile = %q\n%s\n}", domain, selector, file, more)
	}
	conform(t, coretest.HandlerSuite{
		ID:     "handler.arc_seal",
		Config: block("example.org", "s1", good, `authserv_id = "mx.example.org"`),
		Bad: []coretest.Bad{
			{Config: "arc_seal {}", Attribute: ""},
			{Config: block("exa mple.org", "s1", good, ""), Attribute: "domain"},
			{Config: block("example.org", "s 1", good, ""), Attribute: "selector"},
			{Config: block("example.org", "s1", "", ""), Attribute: "file"},
			{Config: block("example.org", "s1", broken, ""), Attribute: "file"},
			{Config: block("example.org", "s1", filepath.Join(dir, "none"), ""), Attribute: "file"},
			{Config: block("example.org", "s1", good, `authserv_id = "a b"`), Attribute: "authserv_id"},
		},
	})
}
