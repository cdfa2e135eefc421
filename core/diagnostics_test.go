package core_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// door is a liner that may have clients log in, and misses a certificate.
type door struct {
	liner
	Logins bool `config:"logins"`

	certificates *tls.Config
}

func (d *door) TakesLogins() bool { return d.Logins }

func (d *door) Provision(c *core.Context) error {
	d.certificates = c.Certificates()
	return d.liner.Provision(c)
}

func (d *door) Validate() core.Problems {
	var ps core.Problems
	if d.certificates == nil {
		ps.Errorf("", "the door needs a certificate")
	}
	return ps
}

// paper is a certificate that is particular about the host name.
type paper struct {
	Fails bool `config:"fails"`

	hostname string
}

func (*paper) Module() core.Info { return core.Info{ID: "tls.paper"} }

func (p *paper) Provision(c *core.Context) error {
	p.hostname = c.Hostname()
	return nil
}

func (p *paper) Validate() core.Problems {
	var ps core.Problems
	if p.hostname == "" || p.Fails {
		ps.Errorf("fails", "the paper is no good")
	}
	if p.hostname != "mx.example.test" {
		ps.Warnf("", "the paper is for mx.example.test")
	}
	return ps
}

func (*paper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }

// members serves those who have logged in.
type members struct{}

func (*members) Module() core.Info { return core.Info{ID: "handler.members"} }
func (*members) NeedsLogin() bool  { return true }
func (*members) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return mail.Continue(""), nil
}

// Where the modules of the default build belong is known at the top of the file
// too.
func init() {
	core.Register(describe{core.Info{ID: "handler.elsewhere", New: func() core.Module { return new(members) }}})
	core.Register(describe{core.Info{ID: "listener.radio", New: func() core.Module { return new(liner) }}})
	core.Register(describe{core.Info{ID: "tls.paper", New: func() core.Module { return new(paper) }}})
}

func validated(t *testing.T, text string) config.Diagnostics {
	t.Helper()
	r := newRegistry(new(journal))
	r.Register(describe{core.Info{ID: "listener.door", Stages: mail.AtAuth | mail.AtRcpt, New: func() core.Module { return new(door) }}})
	r.Register(describe{core.Info{ID: "tls.paper", New: func() core.Module { return new(paper) }}})
	r.Register(describe{core.Info{ID: "handler.key", Stages: mail.AtAuth, Authenticates: true, New: func() core.Module { return new(sink) }}})
	r.Register(describe{core.Info{ID: "handler.bouncer", Stages: mail.AtAuth | mail.AtRcpt, New: func() core.Module { return new(sink) }}})
	r.Register(describe{core.Info{ID: "handler.members", Stages: mail.AtRcpt, New: func() core.Module { return new(members) }}})
	path := file(t, text)
	ds, _ := core.Validate(options(t, path, r))
	return ds
}

// told gives diagnostics as lines of text.
func told(ds config.Diagnostics) []string {
	lines := []string{}
	for _, d := range ds {
		text := fmt.Sprintf("%d:%d %s[%s]: %s", d.Range.Start.Line, d.Range.Start.Column, d.Severity, d.Code, d.Summary)
		if d.Detail != "" {
			text += " | " + d.Detail
		}
		for _, r := range d.Related {
			text += fmt.Sprintf(" | %d:%d %s", r.Range.Start.Line, r.Range.Start.Column, r.Message)
		}
		lines = append(lines, text)
	}
	return lines
}

func compareTold(t *testing.T, ds config.Diagnostics, want []string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, told(ds)); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

func TestDiagnosticsOfAddresses(t *testing.T) {
	t.Parallel()
	long := "unix:/" + strings.Repeat("x", 107)
	const (
		taken = " | Remove one of the two, or give one of them another address or port. | 6:"
		form  = ` is no address to listen on | Write host:port, such as "0.0.0.0:25" or "[::]:25", or unix:path.`
		port  = ` is no address to listen on | The port is a number from 1 to 65535, as in "0.0.0.0:25".`
	)
	for _, tt := range []struct {
		first, second string
		want          string // about the second listener's only address
	}{
		{`"127.0.0.1:2525"`, `"127.0.0.2:2525"`, ""},
		{`"127.0.0.1:0"`, `"127.0.0.1:0"`, ""},
		{`"0.0.0.0:2525", "[::]:2525"`, `"127.0.0.1:2526"`, ""},
		{`"[::]:2525"`, `"127.0.0.1:2525"`, ""},
		{`"unix:a.sock"`, `"unix:b.sock"`, ""},
		{`"127.0.0.1:2525"`, `"127.0.0.1:2525"`, `[listener/address-taken]: 127.0.0.1:2525 is already the address of listener "a"` + taken + "14 the first one stands here"},
		{`"[::1]:1", "[::1]:2525"`, `"[0:0::1]:2525"`, `[listener/address-taken]: [0:0::1]:2525 is already the address of listener "a"` + taken + "25 the first one stands here"},
		{`"127.0.0.1:2525"`, `"localhost:2525"`, `[listener/address-taken]: localhost:2525 is already the address of listener "a"` + taken + "14 the first one stands here"},
		{`"unix:a.sock"`, `"unix:./a.sock"`, `[listener/address-taken]: unix:./a.sock is already the address of listener "a"` + taken + "14 the first one stands here"},
		{`"0.0.0.0:2525"`, `"127.0.0.1:2525"`, `[listener/address-taken]: 127.0.0.1:2525 cannot be bound beside 0.0.0.0:2525 of listener "a" | 0.0.0.0:2525 is every IPv4 address of this machine. ` + taken[3:] + "14 the first one stands here"},
		{`"[::1]:2525"`, `"[::]:2525"`, `[listener/address-taken]: [::]:2525 cannot be bound beside [::1]:2525 of listener "a" | [::]:2525 is every IPv6 address of this machine. ` + taken[3:] + "14 the first one stands here"},
		{`":2525"`, `"[::]:2525"`, `[listener/address-taken]: [::]:2525 cannot be bound beside :2525 of listener "a" | [::]:2525 is every IPv6 address of this machine. ` + taken[3:] + "14 the first one stands here"},
		{`"127.0.0.1:2525"`, `":2525"`, `[listener/address-taken]: :2525 cannot be bound beside 127.0.0.1:2525 of listener "a" | :2525 is every address of this machine. ` + taken[3:] + "14 the first one stands here"},
		{`"127.0.0.1:0"`, `"2525"`, `[listener/bad-address]: "2525"` + form},
		{`"127.0.0.1:0"`, `"::1:25"`, `[listener/bad-address]: "::1:25"` + form},
		{`"127.0.0.1:0"`, `"127.0.0.1:"`, `[listener/bad-address]: "127.0.0.1:"` + port},
		{`"127.0.0.1:0"`, `"127.0.0.1:smtp"`, `[listener/bad-address]: "127.0.0.1:smtp"` + port},
		{`"127.0.0.1:0"`, `"127.0.0.1:65536"`, `[listener/bad-address]: "127.0.0.1:65536"` + port},
		{`"127.0.0.1:0"`, `"*:25"`, `[listener/bad-address]: "*:25" is no address to listen on | Write "0.0.0.0:25", "[::]:25" or both.`},
		{`"127.0.0.1:0"`, `"mx.example.test:25"`, `[listener/bad-address]: "mx.example.test:25" is no address to listen on | The host is an IP address of this machine and no name. Write "0.0.0.0:25" for every IPv4 address, "[::]:25" for every IPv6 address, or both.`},
		{`"127.0.0.1:0"`, `"unix:"`, `[listener/bad-address]: "unix:" is no address to listen on | Write unix: and the path of the socket, such as "unix:/run/mox-like/smtp.sock".`},
		{`"127.0.0.1:0"`, `"` + long + `"`, `[listener/bad-address]: "` + long + `" is no address to listen on | The path of a socket has at most 107 bytes, and ` + long[5:] + " has 108."},
	} {
		t.Run(tt.first+" "+tt.second, func(t *testing.T) {
			t.Parallel()
			var want []string
			if tt.want != "" {
				want = []string{"12:13 error" + tt.want}
			}
			compareTold(t, validated(t, "domain \"a.test\" {}"+head+`listener "liner" "a" {
  address = [`+tt.first+`]
  chain {
    sink {}
  }
}
listener "liner" "b" {
  address = `+tt.second+`
  chain {
    sink {}
  }
}`), want)
		})
	}
	t.Run("in one list", func(t *testing.T) {
		t.Parallel()
		compareTold(t, validated(t, "domain \"a.test\" {}"+head+"listener \"liner\" \"a\" {\n  address = [\":1\", \":2\", \":1\"]\n  chain {\n    sink {}\n  }\n}"), []string{
			`6:26 error[listener/address-taken]: :1 is already the address of listener "a"` + taken + "14 the first one stands here",
		})
	})
}

func TestDiagnosticsOfServer(t *testing.T) {
	t.Parallel()
	const tail = `
domain "a.test" {}
tls "paper" {}
listener "door" "in" {
  address = "127.0.0.1:0"
  chain {
    sink {}
  }
}
`
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"good":          {head + tail, nil},
		"no server":     {"# nothing" + tail, []string{`1:1 error[config/missing-block]: the file needs a block "server" | Write server { … }.`}},
		"hostname typo": {"server {\n  hostnam = \"mx.example.test\"\n}" + tail, []string{`2:3 error[config/unknown-attribute]: server has no attribute "hostnam" | Did you mean "hostname"?`}},
		"no certificate": {strings.Replace(head+tail, `tls "paper" {}`, "", 1), []string{
			"8:1 error[listener.door]: the door needs a certificate",
		}},
		"bad certificate": {strings.Replace(head+tail, `tls "paper" {}`, "tls \"paper\" {\n  fails = true\n}", 1), []string{
			"8:11 error[tls.paper]: the paper is no good",
		}},
		"bad tls block": {strings.Replace(head+tail, `tls "paper" {}`, `tls "paper" { fial = true }`, 1), []string{
			`7:15 error[config/unknown-attribute]: tls "paper" has no attribute "fial" | Its only attribute is "fails".`,
		}},
		"unknown tls": {strings.Replace(head+tail, `tls "paper" {}`, `tls "papyrus" {}`, 1), []string{
			`7:5 error[config/unknown-tls]: this build has no tls "papyrus" | It has: paper.`,
		}},
		"tls without a kind": {strings.Replace(head+tail, `tls "paper" {}`, `tls {}`, 1), []string{
			`7:1 error[config/missing-label]: tls needs a label, its kind | Write tls "self_signed" {}. The kinds are: paper.`,
		}},
		"listener without a kind": {strings.Replace(head+tail, `listener "door" "in"`, `listener`, 1), []string{
			`8:1 error[config/missing-label]: listener needs a label, its kind | Write listener "smtp" "mx" { … }. The kinds are: door, liner.`,
		}},
		"store": {head + tail + `store "postgres" {}`, []string{
			`14:7 error[config/bad-value]: store "postgres": "postgres" is not a kind | Its only kind is "sqlite".`,
		}},
		"modules at the top": {head + tail + "elsewhere {}\nradio {}\npaper {}\nuse \"login\" {}", []string{
			`14:1 error[config/unknown-block]: the file has no block "elsewhere" | elsewhere is a handler: it stands in a chain { … } of a listener.`,
			`15:1 error[config/unknown-block]: the file has no block "radio" | radio is a kind of listener: write listener "radio" "NAME" { … }.`,
			`16:1 error[config/unknown-block]: the file has no block "paper" | paper is a kind of tls: write tls "paper" { … }.`,
			`17:1 error[config/unknown-block]: the file has no block "use" | use stands in a chain { … } of a listener.`,
		}},
		"handler beside the chain": {strings.Replace(head+tail, "  chain", "  probe {}\n  chain", 1), []string{
			`10:3 error[config/unknown-block]: listener "door" "in" has no block "probe" | probe is a handler: it stands in a chain { … } of a listener.`,
		}},
		"no domain": {strings.Replace(head+tail, `domain "a.test" {}`, "", 1), []string{
			`8:1 warning[domain/none]: every recipient is refused here, since the file has no domain | Write domain "example.org" {} for each domain whose mail comes here.`,
		}},
		"postmaster": {strings.Replace(head+tail, "hostname", "postmaster = \"p@A.test\"\nhostname", 1), nil},
		"postmaster elsewhere": {strings.Replace(head+tail, "hostname", "postmaster = \"p@b.example\"\nhostname", 1), []string{
			`3:16 error[server/bad-postmaster]: the postmaster p@b.example lives in no domain of this file | Name an account of one of these domains: a.test.`,
		}},
		"postmaster's typo": {strings.Replace(head+tail, "hostname", "postmaster = \"p@a.tets\"\nhostname", 1), []string{
			`3:16 error[server/bad-postmaster]: the postmaster p@a.tets lives in no domain of this file | Did you mean the domain "a.test"?`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareTold(t, validated(t, tt.text), tt.want)
		})
	}
}

func TestDiagnosticsOfDomains(t *testing.T) {
	t.Parallel()
	const before = head + `listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "one" {}
    sink {}
  }
}
domain "a.test" {
`
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"aliases": {before + "  aliases = { \"sales\" = [\"a\"], \"x+y.z\" = [\"a\"], postmaster = [\"a\"] }\n}", nil},
		"addresses as aliases": {before + "  aliases = {\n    \"bad@a.test\"  = [\"a\"]\n    \"bad@b.test\"  = [\"a\"]\n    \"@a.test\" = [\"a\"]\n  }\n}", []string{
			`14:5 error[domain/bad-alias]: the alias "bad@a.test" is not a local-part | Write "bad": it is an alias of this block's domain.`,
			`15:5 error[domain/bad-alias]: the alias "bad@b.test" is not a local-part | Write "bad", in the block of domain "b.test".`,
			`16:5 error[domain/bad-alias]: the alias "@a.test" is not a local-part | An alias is what stands in front of the @ of an address of a.test, such as "sales".`,
		}},
		"settings typo": {before + "  settings \"onee\" {}\n}", []string{
			`13:12 error[domain/unknown-handler]: no chain that holds for a.test has a handler "onee" | Did you mean "one"?`,
		}},
		"settings of nothing": {before + "  settings \"greylist\" {}\n}", []string{
			`13:12 error[domain/unknown-handler]: no chain that holds for a.test has a handler "greylist" | settings names a handler of a chain, by its label if it has one.`,
		}},
		"settings of a chain that is not used": {before + "  chain \"in\" {\n    sink {}\n  }\n  settings \"one\" {}\n}", []string{
			`16:12 error[domain/unknown-handler]: no chain that holds for a.test has a handler "one" | settings names a handler of a chain, by its label if it has one.`,
		}},
		"settings without a label": {before + "  settings {}\n}", []string{
			`13:3 error[config/missing-label]: settings needs a label | Write settings "HANDLER" { … }.`,
		}},
		"settings twice": {before + "  settings \"one\" {}\n  settings \"one\" {}\n}", []string{
			`14:12 error[domain/duplicate]: this domain has settings "one" twice | Move the contents of one into the other. | 13:3 the first one stands here`,
		}},
		"chain typo": {before + "  chain \"inn\" {}\n}", []string{
			`13:9 error[domain/unknown-listener]: no listener has the name "inn" | Did you mean "in"?`,
		}},
		"settings of a broken handler": {strings.Replace(before, "\"one\" {}", "\"one\" { text = 1 }", 1) + "  settings \"one\" {}\n}", []string{
			`8:26 error[config/wrong-type]: attribute "text" must be a string | Here stands a number. Write it as text = "text".`,
		}},
		"settings of a broken listener": {strings.Replace(before, "liner", "lnr", 1) + "  chain \"in\" {}\n  settings \"two\" {}\n}\nchain \"spare\" {}", []string{
			`5:10 error[config/unknown-listener]: this build has no listener "lnr" | It has: door, liner.`,
		}},
		"settings of an unknown chain": {strings.Replace(before, "sink {}", "use \"spam\" {}", 1) + "  settings \"two\" {}\n}", []string{
			`9:9 error[chain/unknown]: there is no chain "spam" | Named chains of this file: none.`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareTold(t, validated(t, tt.text), tt.want)
		})
	}
}

func TestDiagnosticsOfLogins(t *testing.T) {
	t.Parallel()
	const after = `
tls "paper" {}
domain "a.test" {}
`
	door := func(logins, chain string) string {
		return head + "listener \"door\" \"in\" {\n  address = \"127.0.0.1:0\"\n  logins  = " + logins + "\n  chain {\n" + chain + "\n    sink {}\n  }\n}" + after
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"password":        {door("true", "key {}"), nil},
		"members":         {door("true", "key {}\nmembers {}"), nil},
		"nobody logs in":  {door("false", ""), nil},
		"broken password": {door("true", "key { x = 1 }"), []string{`9:7 error[config/unknown-attribute]: key has no attribute "x" | Its attributes are "when", "on_error", "on_timeout", "timeout", "enabled" and "mode".`}},
		"no password": {door("true", "bouncer {}"), []string{
			`8:3 warning[chain/no-login]: nobody can log in at listener "in" | Write password {} into the chain.`,
		}},
		"no password of a domain": {strings.Replace(door("true", "key {}"), "\"a.test\" {}", "\"a.test\" {\n  chain \"in\" {\n    sink {}\n  }\n}", 1), []string{
			`15:3 warning[chain/no-login]: nobody of domain a.test can log in at listener "in" | Write password {} into the chain.`,
		}},
		"inherited password": {strings.Replace(door("true", "key {}"), "\"a.test\" {}", "\"a.test\" {\n  chain \"in\" {\n    inherit {}\n    sink {}\n  }\n}", 1), nil},
		"password for nobody": {door("false", "key {}"), []string{
			`9:1 warning[chain/never-runs]: key acts at auth, which listener "in" never has | Let clients log in there, or remove it.`,
		}},
		"members of nothing": {door("false", "members {}"), []string{
			`9:1 warning[chain/never-runs]: members is for clients that have logged in, and nobody can at listener "in" | Let clients log in there, or remove it.`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareTold(t, validated(t, tt.text), tt.want)
		})
	}
}
