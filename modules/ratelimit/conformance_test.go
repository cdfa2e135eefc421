package ratelimit

import (
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
)

func TestConformance(t *testing.T) {
	bad := []coretest.Bad{
		{Config: `ratelimit { limit = "1/1h" }`},
		{Config: "ratelimit {\nkey = \"helo\"\nlimit = \"1/1h\"\n}", Attribute: "key", Code: "config/bad-value"},
		{Config: "ratelimit {\nkey = []\nlimit = \"1/1h\"\n}", Attribute: "key"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"0/1h\"\n}", Attribute: "limit"},
		{Config: "ratelimit {\nkey = \"rcpt\"\nlimit = \"1/1h\"\nstage = \"mail\"\n}", Attribute: "stage"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\nburst = 1\n}", Attribute: "burst"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1/999ms\"\n}", Attribute: "limit"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1MB/1h\"\ncount = \"messages\"\n}", Attribute: "limit"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"100/1h\"\ncount = \"bytes\"\n}", Attribute: "limit"},
		{Config: "ratelimit {\nkey = \"from\"\nlimit = \"100/1h\"\ncount = \"connections\"\n}", Attribute: "count"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1MB/1h\"\nstage = \"mail\"\n}", Attribute: "stage"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\ncount = \"failed\"\nstage = \"connect\"\n}", Attribute: "stage"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\ncount = \"failed\"\nstage = [\"rcpt\", \"data\"]\n}", Attribute: "stage"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\ncount = \"messages\"\nstage = \"rcpt\"\n}", Attribute: "stage"},
		{Config: "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\ncount = \"messages\"\nstage = [\"mail\", \"data\"]\n}", Attribute: "stage"},
	}
	for _, config := range []string{
		"ratelimit {\nkey = \"ip\"\nlimit = \"3/1h\"\n}",
		"ratelimit {\nkey = \"user\"\nlimit = \"3/1h\"\nstage = \"auth\"\n}",
		"ratelimit {\nkey = [\"from_domain\", \"rcpt\"]\nlimit = \"3/1h\"\n}",
		"ratelimit {\nkey = \"rcpt_domain\"\nlimit = \"3KiB/1h\"\naction = \"disconnect\"\n}",
		"ratelimit {\nkey = \"ip\"\ncount = \"failed\"\nlimit = \"3/1h\"\nstage = [\"connect\", \"rcpt\"]\n}",
	} {
		coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.ratelimit", Config: config, Bad: bad})
	}
}
