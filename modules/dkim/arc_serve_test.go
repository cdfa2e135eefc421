package dkim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	_ "github.com/mox-like/mox-like/modules/authres"
	_ "github.com/mox-like/mox-like/modules/dmarc"
	_ "github.com/mox-like/mox-like/modules/spf"
)

// TestARCServe has a trusted list save a message that DMARC refuses otherwise, and
// the server seal it.
func TestARCServe(t *testing.T) {
	t.Parallel()
	names := dnstest.Serve(t, zoneText()+"list.test. TXT \"v=spf1 ip4:192.0.2.1 -all\"\n_dmarc.author.test. TXT \"v=DMARC1; p=reject; rua=mailto:r@author.test\"\n")
	listener := func(name, trusted, seal string) string {
		return fmt.Sprintf(`
		listener "smtp" %q {
		  address = "127.0.0.1:0"
		  tls     = "off"
		  proxy_protocol {
		    from = ["127.0.0.1"]
		  }
		  chain {
		    spf {}
		    dkim_verify {}
		    arc_verify {
		      %s
		    }
		    dmarc {}
		    authres {}
		    %s
		    keep {}
		  }
		}`, name, trusted, seal)
	}
	seal := fmt.Sprintf("arc_seal {\ndomain = \"example.org\"\nselector = \"rsa\"\nfile = %q\n}", write(t, "rsa.pem", testKeys()["rsa"].pem))
	s := coretest.Serve(t, fmt.Sprintf("server {\nhostname = \"mx.example.org\"\n}\ndns {\nservers = [%q]\n}\ndomain \"example.org\" {}\n", names.Addr())+
		listener("trusting", `trusted = ["example.org"]`, seal)+listener("strict", "", ""), coretest.Options{Now: atNoon})
	raw := strings.Replace(small, "alice@example.org", "alice@author.test", 1)
	list := setOf(1)
	list.results = strings.Replace(list.results, "header.from=example.org", "header.from=author.test", 1)
	good := arcCraft(t, raw, list)
	list.results = strings.Replace(list.results, "dmarc=pass", "dmarc=fail", 1)
	bad := arcCraft(t, raw, list)
	deliver := func(listener, raw, answer string) {
		t.Helper()
		coretest.Dialog(t, coretest.Address(t, s, listener), `
			-> PROXY TCP4 192.0.2.1 203.0.113.25 4711 25
			<- 220 *
			-> EHLO mail.list.test
			<-- 250 *
			-> MAIL FROM:<list@list.test>
			<- 250 *
			-> RCPT TO:<sealed@example.org>
			<- 250 *
			-> DATA
			<- 354 *
			=> `+fmt.Sprintf("%q", raw+".\r\n")+`
			<- `+answer+`
			-> QUIT
			<- 221 *
		`)
	}
	const refused = "550 5.7.26 DMARC: neither SPF nor DKIM shows that this message is from author.test, whose policy is reject (id ID)"
	deliver("trusting", raw, refused)
	deliver("trusting", bad, refused)
	deliver("trusting", good+"x\r\n", refused)
	deliver("strict", good, refused)
	deliver("trusting", good, "250 *")
	stored, ok := kept.Load("sealed")
	if !ok {
		t.Fatal("no message came")
	}
	message := stored.(string)
	if r := verifyChain(t, handlerZone(), message); r.result != chainPass || r.last != 2 || r.oldest != 0 {
		t.Errorf("%s with %d sets, %s:\n%s", r.result, r.last, r.reason, message)
	}
	if got := run(t, message, "/usr/bin/python3", "testdata/arc_dkimpy.py", "verify", zoneFile(t)); got != "pass\n" {
		t.Errorf("dkimpy says %q of\n%s", got, message)
	}
	results := parse(t, message).Header.Get("Authentication-Results")
	for _, want := range []string{"spf=pass ", "arc=pass ", "smtp.remote-ip=192.0.2.1 header.oldest-pass=0 policy.trusted=example.org policy.dmarc=pass header.from=author.test", "dmarc=fail "} {
		if !strings.Contains(results, want) {
			t.Errorf("the results do not say %q: %s", want, results)
		}
	}
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, r := range records {
		for _, e := range r.Entries {
			said += e.Handler + ", " + e.Action.String() + ": " + e.Reason + "\n"
		}
	}
	for _, want := range []string{
		"arc_verify, continue: pass, one set, by example.org; example.org is trusted and found in i=1: spf=pass, dkim=pass, dmarc=pass",
		"arc_verify, continue: fail, the ARC-Message-Signature i=1 of example.org: the body was changed",
		"dmarc, continue: ARC saves it: example.org is trusted and has sealed that DMARC passed there; author.test: fail, p=reject of _dmarc.author.test",
		"arc_seal, continue: sealed for example.org by rsa (rsa-sha256, 2048-bit key) as i=2 with cv=pass",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no trace says %q in\n%s", want, said)
		}
	}
}
