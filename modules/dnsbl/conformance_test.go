package dnsbl

import (
	"fmt"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// every lists all that it is asked about, but one; the first in silent is not
// answered.
const every = `
*.zen.example.net. A 127.0.0.2
*.zen.example.net. TXT "Listed, see https://zen.example.net/"
3.2.0.192.zen.example.net. TXT "for this address there is no listing"
example.org.dbl.example.net. A 127.0.1.2
*.allow.example.net. A 127.0.5.3
*.broken.example.net. A 127.255.255.254
*.silent.example.net. A 127.0.0.2
`

func TestConformance(t *testing.T) {
	server := dnstest.Serve(t, every)
	server.Fail("0.2.0.192.silent.example.net", dnstest.Silence)
	block := func(settings string) string { return "dnsbl {\n" + settings + "\n}" }
	bad := []coretest.Bad{
		{Config: "dnsbl {}"},
		{Config: block(`zones = ["zen.example.net", "no zone"]`), Attribute: "zones[1]"},
		{Config: block(`zones = ["zen.example.net", "Zen.example.net."]`), Attribute: "zones[1]"},
		{Config: block(`list "[192.0.2.1]" {}`), Attribute: "list[0]"},
		{Config: block("list \"zen.example.net\" {\nkind = \"domain\"\n}"), Attribute: "list[0].kind"},
		{Config: block("list \"zen.example.net\" {\nweight = -1\n}"), Attribute: "list[0].weight"},
		{Config: block("list \"zen.example.net\" {\ncodes = \"192.0.2.1\"\n}"), Attribute: "list[0].codes"},
		{Config: block("list \"zen.example.net\" {\nweights = { \"127.0.0.2\" = -1 }\n}"), Attribute: "list[0].weights"},
		{Config: block("list \"zen.example.net\" {\nweights = { \"127.0.0\" = 1 }\n}"), Attribute: "list[0].weights"},
		{Config: block("zones = \"zen.example.net\"\naction = \"defer\""), Attribute: "action", Code: "config/bad-value"},
		{Config: block("zones = \"zen.example.net\"\nthreshold = 0"), Attribute: "threshold"},
		{Config: block("zones = \"zen.example.net\"\nexcept = \"example.org\""), Attribute: "except"},
		{Config: block("zones = \"zen.example.net\"\nstage = \"data\""), Attribute: "stage", Code: "chain/stage"},
		{Config: block("list \"dbl.example.net\" {\nkind = \"from\"\n}\nstage = \"helo\""), Attribute: "stage"},
	}
	for name, config := range map[string]string{
		"reject": block(`zones = ["zen.example.net", "broken.example.net"]
			stage = ["connect", "rcpt"]`),
		"weights": block(`zones = ["zen.example.net"]
			action = "tag"
			stage  = ["mail", "rcpt"]
			list "dbl.example.net" { kind = "helo" }
			list "dbl.example.net" {
				kind    = "from"
				weights = { "127.0.1.*" = 2 }
			}
			list "allow.example.net" {
				kind  = "allow"
				codes = ["127.0.5.0/30"]
			}`),
	} {
		t.Run(name, func(t *testing.T) {
			coretest.TestHandler(t, coretest.HandlerSuite{
				ID: "handler.dnsbl", Config: config, Bad: bad,
				Base:    fmt.Sprintf("%s\ndns {\n  servers = [%q]\n}\n", coretest.Base, server.Addr()),
				Hanging: block(`zones = ["silent.example.net"]`),
			})
		})
	}
}
