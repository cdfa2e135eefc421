package lint_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/lint"

	_ "github.com/mox-like/mox-like/modules/standard"
)

// frames complete examples that stand within something.
var frames = map[string]string{
	"": "%s",
	"chain": `listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"
  chain {
%s
  }
}
`,
	"login chain": `tls "self_signed" {}
listener "smtp" "submission" {
  address = "127.0.0.1:465"
  tls     = "implicit"
  auth    = "required"
  chain {
%s
  }
}
`,
	"listener": `listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"
%s
  chain {
    deliver {}
  }
}
`,
	"domain": "domain \"example.org\" {\n%s\n}\n",
}

var (
	hasServer = regexp.MustCompile(`(?m)^server \{|# no server`)
	hasDomain = regexp.MustCompile(`(?m)^domain "[^*"]*" \{|# no domain`)
	hasTarget = regexp.MustCompile(`(?m)^\s*deliver \{`)
)

// complete makes a whole file of an example: what it does not show is added behind.
func complete(within, example string) string {
	text := example
	if strings.HasSuffix(within, "chain") {
		if within == "login chain" && !strings.Contains(text, "sender_login") {
			text += "\nsender_login {}"
		}
		if !hasTarget.MatchString(text) {
			text += "\ndeliver {}"
		}
	}
	text = strings.Replace(frames[within], "%s", text, 1) + "\n"
	if !hasServer.MatchString(text) {
		text += "server {\n  hostname = \"mx1.example.org\"\n}\n"
	}
	if !hasDomain.MatchString(text) {
		text += "domain \"example.org\" {}\n"
	}
	return text
}

func catalogue(tb testing.TB) *lint.Catalogue {
	tb.Helper()
	c, err := lint.NewCatalogue(core.DefaultRegistry)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// check checks a text that stands in an empty folder, without the variables of the
// process.
func check(tb testing.TB, c *lint.Catalogue, name, text string) *lint.Report {
	tb.Helper()
	dir := tb.TempDir()
	return lint.Check(core.Options{
		ConfigFile: filepath.Join(dir, name), Source: []byte(text), DataDir: filepath.Join(dir, "data"),
		Config: config.Options{Environ: func(string) (string, bool) { return "", false }},
	}, c)
}
