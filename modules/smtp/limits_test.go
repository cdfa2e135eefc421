package smtp

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/trace"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, script, reason string }{
		{"errors", "limits { errors = 2 }", hello + `
			-> FOO
			<- 500 *
			-> MAIL FROM:<x>
			<- 501 *
			-> RCPT TO:<alice@example.test>
			<- 503 *
			<- 421 4.7.0 Too many errors, closing the connection (id ID)
			EOF`, "too many errors"},
		{"refused recipients are errors", "limits { errors = 2 }", hello + `
			-> MAIL FROM:<>
			<- 250 *
			=> "` + strings.Repeat(`RCPT TO:<a@example.net>\r\n`, 10) + `"
			<- 550 *
			<- 550 *
			<- 550 *
			<- 421 4.7.0 Too many errors, closing the connection (id ID)
			EOF`, "too many errors"},
		{"a message makes errors good", "limits { errors = 2 }", hello + strings.Repeat(`
			-> FOO
			<- 500 *
			-> FOO
			<- 500 *
			`+envelope+message+`
			<- 250 *`, 3) + `
			-> QUIT
			<- 221 *
			EOF`, ""},
		{"logins that are put off are errors", "tls = \"implicit\"\nauth = \"optional\"\nlimits { errors = 2 }", underTLS + strings.Repeat(`
			-> AUTH PLAIN `+b64("\x00slow@example.test\x00secret")+`
			<- 454 *`, 3) + `
			<- 421 4.7.0 Too many errors, closing the connection (id ID)
			EOF`, "too many errors"},
		{"commands", "limits { commands = 10 }\nmax_recipients = 1", hello + strings.Repeat(`
			-> NOOP
			<- 250 *`, 9) + `
			-> NOOP
			<- 421 4.7.0 Too many commands, closing the connection (id ID)
			EOF`, "too many commands"},
		{"large chunks are no commands", "limits { commands = 10 }\nmax_recipients = 1", hello + envelope + `
			=> "` + strings.Repeat(`BDAT 1024\r\n`+strings.Repeat("x", 1022)+`\r\n`, 30) + `"` + strings.Repeat(`
			<- 250 2.0.0 1024 octets received`, 30) + `
			-> QUIT
			<- 221 *
			EOF`, ""},
		{"large chunks that come slowly are", "limits {\ncommands = 10\ndata_rate = \"1MB\"\n}\nmax_recipients = 1", hello + envelope + strings.Repeat(`
			=> "BDAT 1024\r\n`+strings.Repeat("x", 512)+`"
			PAUSE
			=> "`+strings.Repeat("x", 510)+`\r\n"
			<- 250 2.0.0 1024 octets received`, 7) + `
			-> BDAT 1024
			<- 421 4.7.0 Too many commands, closing the connection (id ID)
			EOF`, "too many commands"},
		{"small chunks are", "limits { commands = 10 }\nmax_recipients = 1", hello + envelope + `
			=> "` + strings.Repeat(`BDAT 2\r\n\r\n`, 30) + `"` + strings.Repeat(`
			<- 250 2.0.0 2 octets received`, 7) + `
			<- 421 4.7.0 Too many commands, closing the connection (id ID)
			EOF`, "too many commands"},
		{"a message makes commands good", "limits { commands = 10 }\nmax_recipients = 1", hello + strings.Repeat(envelope+message+"<- 250 *", 5) + `
			-> QUIT
			<- 221 *
			EOF`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: test.body, judge: login})
			k.dialog(t, test.script)
			k.drained(t)
			var reason string
			for _, r := range k.traces.records {
				if r.Kind == trace.KindSession {
					reason = r.Outcome.Reason
				}
			}
			if reason != test.reason {
				t.Errorf("reason %q, want %q", reason, test.reason)
			}
		})
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, reply string }{
		{"in all", "limits {\nconnections = 2\nconnections_per_network = 2\n}", "421 4.7.0 Too many connections, try again later\r\n"},
		{"of a network", "limits { connections_per_network = 2 }", "421 4.7.0 Too many connections from your network, try again later (id ID)\r\n"},
		{"in all, under TLS", "tls = \"implicit\"\nlimits {\nconnections = 2\nconnections_per_network = 2\n}", ""},
		{"of a network, under TLS", "tls = \"implicit\"\nlimits { connections_per_network = 2 }", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: test.body})
			first := ""
			if test.reply == "" {
				first = "TLS"
			}
			one, two := k.dial(t), k.dial(t)
			coretest.Talk(t, one, first+hello)
			coretest.Talk(t, two, first+hello)
			got := regexp.MustCompile(`\(id [0-9a-z]{18}\)`).ReplaceAllString(readAll(t, k.dial(t)), "(id ID)")
			if got != test.reply {
				t.Errorf("third connection: %q, want %q", got, test.reply)
			}
			if err := one.Close(); err != nil {
				t.Fatal(err)
			}
			if err := two.Close(); err != nil {
				t.Fatal(err)
			}
			k.drained(t)
			k.dialog(t, first+hello)
		})
	}
}
