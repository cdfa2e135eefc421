package dkim

import (
	"fmt"
	"os"
	"path/filepath"
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
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("rsa.pem", testKeys()["rsa"].pem)
	ed := file("ed25519.pem", testKeys()["ed25519"].pem)
	broken := file("broken.pem", []byte("hello"))
	key := func(domain, selector, file string) string {
		return fmt.Sprintf("key %q {\nselector = %q\nfile = %q\n}\n", domain, selector, file)
	}
	users := []string{"", "user@example.test", "sender1@example.org"}
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID:     "handler.dkim_sign",
		Config: "dkim_sign {\n" + key("example.org", "s1", good) + key("example.org", "s2", ed) + "expire = \"7d\"\n}",
		Bad: []coretest.Bad{
			{Config: "dkim_sign {}", Attribute: ""},
			{Config: "dkim_sign {\n" + key("example.org", "s1", broken) + "}", Attribute: "key[0].file"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", filepath.Join(dir, "none")) + "}", Attribute: "key[0].file"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", "") + "}", Attribute: "key[0].file"},
			{Config: "dkim_sign {\n" + key("example.org", "s 1", good) + "}", Attribute: "key[0].selector"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", good) + key("EXAMPLE.org", "S1", good) + "}", Attribute: "key[1].selector"},
			{Config: "dkim_sign {\n" + key("exa mple.org", "s1", good) + "}", Attribute: "key[0]"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", good) + "headers = [\"X-Good\", \"Received\"]\n}", Attribute: "headers[1]"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", good) + "headers = [\"X Bad\"]\n}", Attribute: "headers[0]"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", good) + "expire = \"-1d\"\n}", Attribute: "expire"},
			{Config: "dkim_sign {\n" + key("example.org", "s1", good) + "users = \"all\"\n}", Attribute: "users"},
		},
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			tx.Session.User = users[n%len(users)]
			return tx
		},
	})
}
