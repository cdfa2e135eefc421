package smtp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// TestLog pins the lines that a session leaves at each level, the keys, and that
// no password is in them.
func TestLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	k := newKit(t, options{body: "tls = \"implicit\"\nauth = \"required\"\nlimits { errors = 1 }", judge: login, log: zap.New(core)})
	k.dialog(t, "TLS"+hello+`
		-> AUTH LOGIN
		<- 334 *
		-> `+b64("alice@example.test")+`
		<- 334 *
		-> `+b64("not the password")+`
		<- 535 *
		-> AUTH PLAIN `+b64("\x00alice@example.test\x00secret")+`
		<- 235 *
		`+envelope+`
		-> DATA
		<- 354 *
		=> "From: a@example.test\r\n\r\nhi\r\n.\r\n"
		<- 250 *
		-> FOO
		<- 500 *
		-> FOO
		<- 500 *
		<- 421 *
		EOF
	`)
	k.drained(t)
	known := []string{
		logkey.Session, logkey.Message, logkey.RemoteIP, logkey.Listener, logkey.Helo, logkey.ReversePath, logkey.Recipient, logkey.User, logkey.Size,
		logkey.ReplyCode, logkey.Reply, logkey.Handler, logkey.Verdict, logkey.Reason, logkey.Command, logkey.Duration, logkey.Error, logkey.Mechanism,
	}
	var info []string
	for _, e := range logs.All() {
		if e.Level == zap.InfoLevel {
			info = append(info, e.Message)
		}
		for _, f := range e.Context {
			if !slices.Contains(known, f.Key) {
				t.Errorf("unknown key %q", f.Key)
			}
		}
		text := fmt.Sprint(e.Message, e.ContextMap())
		for _, secret := range []string{"secret", "not the password", b64("secret"), b64("not the password"), b64("\x00alice@example.test\x00secret")} {
			if strings.Contains(text, secret) {
				t.Errorf("password in %s", text)
			}
		}
	}
	want := []string{"login refused", "login accepted", "message accepted", "session ended"}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestErrorLog pins that what go-smtp has to say reaches the log.
func TestErrorLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	k := newListener(t, options{log: zap.New(core), storeless: true})
	k.listener.errorLog.Printf("panic serving %d", 1)
	k.listener.errorLog.Println("panic", 2)
	var got []string
	for _, e := range logs.FilterLevelExact(zap.ErrorLevel).All() {
		got = append(got, e.Message)
	}
	if diff := cmp.Diff([]string{"panic serving 1", "panic 2"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestLogOfStrangers pins that nothing that a client says is long in the log, or
// moves a terminal's cursor.
func TestLogOfStrangers(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	k := newKit(t, options{body: "tls = \"implicit\"\nauth = \"optional\"", log: zap.New(core), judge: func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		if tx.Stage == mail.StageAuth {
			return mail.Defer(mail.NewReply(454, 7, 0, "Later"), "no user "+strings.Repeat(tx.Credentials.Username, 10)), nil
		}
		return mail.Verdict{}, nil
	}})
	name := strings.Repeat("\u202e\u009b2J\n", 35)
	k.dialog(t, underTLS+`
		-> AUTH PLAIN `+b64("\x00"+name+"\x00secret")+`
		<- 454 *
		-> QUIT
		<- 221 *
	`)
	k.drained(t)
	refused := logs.FilterMessage("login refused").All()
	if len(refused) != 1 {
		t.Fatalf("%d lines, want one", len(refused))
	}
	for _, e := range refused {
		for key, value := range e.ContextMap() {
			text := fmt.Sprint(value)
			if len(text) > maxLogReason+len("…") || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("%s: %q", key, text)
			}
		}
	}
}

// TestLogOfRefusedRecipients: the line about a message that nobody got says who
// was to get it.
func TestLogOfRefusedRecipients(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	k := newKit(t, options{log: zap.New(core), judge: func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		if tx.Stage == mail.StageRcpt {
			return mail.Reject(mail.NewReply(550, 7, 1, "No"), "not today"), nil
		}
		return mail.Verdict{}, nil
	}})
	k.dialog(t, `
		<- 220 *
		-> HELO client.example.org
		<- 250 *
		-> MAIL FROM:<stranger@example.org>
		<- 250 *
		-> RCPT TO:<alice@example.test>
		<- 550 *
		-> QUIT
		<- 221 *
	`)
	k.drained(t)
	refused := logs.FilterMessage("message refused").All()
	if len(refused) != 1 {
		t.Fatalf("%d lines, want one", len(refused))
	}
	if diff := cmp.Diff([]any{"alice@example.test"}, refused[0].ContextMap()["recipient"]); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
}
