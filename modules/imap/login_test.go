package imap_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/xdg-go/scram"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/trace"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestLogin(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	account(t, s, "alice")
	plain := "\x00alice@example.test\x00" + password
	cases := []struct{ name, script string }{
		{"LOGIN", `-> a LOGIN alice@example.test "` + password + `"`},
		{"LOGIN with literals", "-> a LOGIN {18}\n<~ \\+ .*\n-> alice@example.test {28+}\n-> " + password},
		{"upper case", `-> a LOGIN Alice@EXAMPLE.test "` + password + `"`},
		{"PLAIN with initial response", "-> a AUTHENTICATE PLAIN " + b64(plain)},
		{"PLAIN", "-> a AUTHENTICATE plain\n<~ \\+ ?\n-> " + b64(plain)},
		{"AUTHENTICATE LOGIN", "-> a AUTHENTICATE LOGIN\n<- + " + b64("Username:") + "\n-> " + b64("alice@example.test") + "\n<- + " + b64("Password:") + "\n-> " + b64(password)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, s)
			client.run("<- * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN] IMAP server ready")
			client.run(c.script)
			client.run(`
				<~ a OK \[CAPABILITY (?P<caps>.*)\] .*
				-> b CAPABILITY
				<- * CAPABILITY $caps
				<- b OK CAPABILITY completed
				-> c SELECT INBOX
				<* c OK`)
		})
	}
	t.Run("SCRAM-SHA-256", func(t *testing.T) {
		t.Parallel()
		c := connect(t, s)
		c.line()
		user, err := scram.SHA256.NewClient("alice@example.test", password, "")
		if err != nil {
			t.Fatal(err)
		}
		talk := user.NewConversation()
		first, err := talk.Step("")
		if err != nil {
			t.Fatal(err)
		}
		c.send("a AUTHENTICATE SCRAM-SHA-256 " + b64(first) + "\r\n")
		for !talk.Done() {
			challenge, ok := strings.CutPrefix(c.line(), "+ ")
			if !ok {
				t.Fatal("no challenge")
			}
			raw, err := base64.StdEncoding.DecodeString(challenge)
			if err != nil {
				t.Fatal(err)
			}
			response, err := talk.Step(string(raw))
			if err != nil {
				t.Fatal(err)
			}
			c.send(b64(response) + "\r\n")
		}
		if !talk.Valid() {
			t.Error("the server did not prove that it knows the keys")
		}
		c.run("<~ a OK .*\n-> b SELECT INBOX\n<* b OK")
	})
}

// connect connects to imaps.
func connect(t testing.TB, s *core.Server) *client {
	t.Helper()
	c := dial(t, coretest.Address(t, s, "imaps"))
	c.startTLS()
	return c
}

// TestLoginRefused: all failures look the same, and end the connection after a
// few, whatever their response. Each that the chain judges is in the trace.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, "limits { auth_failures = 7 }")
	account(t, s, "alice")
	c := connect(t, s)
	c.run(`
		<* * OK
		-> a LOGIN alice@example.test wrong
		<~ a NO \[AUTHENTICATIONFAILED\] (?P<text>.*)
		-> b LOGIN nobody@example.test wrong
		<- b NO [AUTHENTICATIONFAILED] $text
		-> c AUTHENTICATE PLAIN ` + b64("\x00alice@example.test\x00wrong") + `
		<- c NO [AUTHENTICATIONFAILED] $text
		-> d AUTHENTICATE PLAIN
		<~ \+ ?
		-> *
		<~ d BAD .*
		-> e AUTHENTICATE PLAIN ???
		<~ e BAD .*
		-> f AUTHENTICATE CRAM-MD5
		<~ f NO .*
		-> g SELECT INBOX
		<~ g BAD .*
		-> h AUTHENTICATE LOGIN ` + b64("nobody@nowhere.test") + `
		<~ \+ .*
		-> ` + b64("wrong") + `
		<- h NO [AUTHENTICATIONFAILED] $text
		<~ \* BYE Too many failed logins`)
	c.closed()
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var logins int
	for _, r := range records {
		if r.Kind == trace.KindLogin && r.Outcome.Action == "reject" && r.Outcome.Handler == "password" && r.RemoteIP == "127.0.0.1" {
			logins++
		}
	}
	if logins != 4 {
		t.Errorf("%d refused logins in the trace, want 4", logins)
	}
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	account(t, s, "alice")
	c := dial(t, coretest.Address(t, s, "imap"))
	c.run(`
		<- * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID STARTTLS LOGINDISABLED] IMAP server ready
		-> a LOGIN alice@example.test {28}
		<~ a NO \[PRIVACYREQUIRED\] .*
		-> b SELECT INBOX
		<~ b BAD .*
		-> c NOOP
		<- c OK NOOP completed
		-> d STARTTLS
		<- d OK Begin TLS now`)
	c.startTLS()
	c.run(`
		-> a CAPABILITY
		<- * CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN
		<- a OK CAPABILITY completed
		-> b STARTTLS
		<~ b BAD .*
		-> c LOGIN alice@example.test "` + password + `"
		<~ c OK .*`)
}

// TestStartTLSInjection: what stands behind STARTTLS in the clear is not taken
// for a command under TLS.
func TestStartTLSInjection(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	c := dial(t, coretest.Address(t, s, "imap"))
	c.line()
	c.send("a STARTTLS\r\nb NOOP\r\n")
	c.run("<~ a BAD .*\n<~ \\* BYE .*")
	c.closed()
}

// TestLongUsername: a user name that is longer than any gets the answer to a
// wrong one, but neither the log nor the trace has it. What the log has shows
// nothing but what it is.
func TestLongUsername(t *testing.T) {
	t.Parallel()
	log, logs := observer.New(zap.InfoLevel)
	s := core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: fmt.Appendf(nil, config, "limits { auth_failures = 100 }"), DataDir: t.TempDir(), Logger: zap.New(log),
	})
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatalf("start server: %v\n%v", err, ds.Err())
	}
	t.Cleanup(func() { _ = s.Stop(context.WithoutCancel(t.Context())) })
	long := strings.Repeat("u", 39_000)
	c := connect(t, s)
	c.run(`
		<* * OK
		-> a LOGIN ` + strings.Repeat("u", 320) + ` wrong
		<~ a (?P<refused>NO \[AUTHENTICATIONFAILED\] .*)
		-> b LOGIN ` + long + ` wrong
		<- b $refused
		-> c AUTHENTICATE PLAIN ` + b64("\x00"+long[:2000]+"\x00wrong") + `
		<- c $refused
		-> d LOGIN {25+}
		-> ` + "x\u009b\u202e\u2028\u2066@example.test" + ` wrong
		<- d $refused`)
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 2 {
		t.Errorf("%d logins in the trace, want 2", len(records))
	}
	var users []any
	for _, entry := range logs.FilterMessage("login refused").All() {
		users = append(users, entry.ContextMap()["user"])
	}
	if diff := cmp.Diff([]any{strings.Repeat("u", 256) + "…", "x????@example.test"}, users); diff != "" {
		t.Errorf("users in the log (-want +got):\n%s", diff)
	}
}
