package smtp

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// at makes a judge that gives one verdict at one stage. Where recipient is not
// "", only for it.
func at(stage mail.Stage, recipient string, v mail.Verdict) judge {
	return func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		if tx.Stage != stage || recipient != "" && tx.Recipient != nil && tx.Recipient.Address.LocalPart != recipient {
			return mail.Verdict{}, nil
		}
		return v, nil
	}
}

func reject(text string) mail.Verdict {
	return mail.Reject(mail.NewReply(550, 7, 1, text), "for the test")
}

const message = `
	-> DATA
	<- 354 *
	=> "Message-ID: <1@example.org>\r\n\r\nhi\r\n.\r\n"
`

// TestVerdicts pins what the client is told, and which traces are left.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	session, one := trace.KindSession, trace.KindMessage
	for _, test := range []struct {
		name   string
		judge  judge
		script string
		traces []trace.Kind
		action string // of the first trace
	}{
		{"reject at connect", at(mail.StageConnect, "", mail.Reject(mail.Reply{}, "listed")), `
			<- 554 5.7.1 No service for you (id ID)
			EOF`, []trace.Kind{session}, "reject"},
		{"defer at connect", at(mail.StageConnect, "", mail.Defer(mail.NewReply(421, 7, 0, "Come back later"), "rate")), `
			<- 421 4.7.0 Come back later (id ID)
			EOF`, []trace.Kind{session}, "defer"},
		{"reject at helo, each time", func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
			if tx.Stage == mail.StageHelo && tx.Session.Helo == "bad.example" {
				return reject("No " + tx.Session.Helo), nil
			}
			return mail.Verdict{}, nil
		}, `
			<- 220 *
			-> EHLO bad.example
			<- 550 5.7.1 No bad.example (id ID)
			-> MAIL FROM:<>
			<- 503 5.5.1 Send EHLO or HELO first
			-> EHLO good.example
			<-- 250 SIZE *
			-> MAIL FROM:<>
			<- 250 *
			-> HELO bad.example
			<- 550 5.7.1 No bad.example (id ID)
			-> RCPT TO:<alice@example.test>
			<- 250 *
			` + message + `
			<- 250 *
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one, session}, "accept"},
		{"a refused HELO leaves the name", func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
			if tx.Session.Helo == "bad.example" || tx.Stage == mail.StageData && tx.Session.Helo != "good.example" {
				return reject("Hello " + tx.Session.Helo), nil
			}
			return mail.Verdict{}, nil
		}, `
			<- 220 *
			-> EHLO good.example
			<-- 250 SIZE *
			-> EHLO bad.example
			<- 550 5.7.1 Hello bad.example (id ID)
			` + envelope + message + `
			<- 250 *
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one, session}, "accept"},
		{"quarantine at connect", func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
			switch {
			case tx.Stage == mail.StageConnect:
				return mail.Quarantine("listed"), nil
			case tx.Stage == mail.StageData && tx.Quarantined() == "listed":
				return reject("still quarantined"), nil
			}
			return mail.Verdict{}, nil
		}, hello + strings.Repeat(envelope+message+"<- 550 5.7.1 still quarantined (id ID)", 2) + `
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one, one}, "reject"},
		{"421 at rcpt ends the session", at(mail.StageRcpt, "", mail.Defer(mail.NewReply(421, 7, 0, "Go away"), "block")), hello + `
			=> "MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n"
			<- 250 *
			<- 421 4.7.0 Go away (id ID)
			EOF`, []trace.Kind{one}, "defer"},
		{"reject at mail", at(mail.StageMail, "", reject("Not you")), hello + `
			-> MAIL FROM:<bob@example.org>
			<- 550 5.7.1 Not you (id ID)
			-> RCPT TO:<alice@example.test>
			<- 503 *
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "reject"},
		{"all recipients refused, then RSET", at(mail.StageRcpt, "", reject("Not here")), hello + `
			-> MAIL FROM:<bob@example.org>
			<- 250 *
			-> RCPT TO:<alice@example.test>
			<- 550 5.7.1 Not here (id ID)
			-> RSET
			<- 250 *
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "reject"},
		{"all recipients refused, then gone", at(mail.StageRcpt, "", mail.Defer(mail.NewReply(450, 7, 1, "Greylisted"), "new")), hello + `
			-> MAIL FROM:<bob@example.org>
			<- 250 *
			-> RCPT TO:<alice@example.test>
			<- 450 4.7.1 Greylisted (id ID)
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "defer"},
		{"one recipient refused", at(mail.StageRcpt, "bert", reject("Not here")), hello + envelope + `
			-> RCPT TO:<bert@example.test>
			<- 550 5.7.1 Not here (id ID)
			` + message + `
			<- 250 *
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "accept"},
		{"no message at all", at(mail.StageData, "", reject("never")), hello + envelope + `
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{session}, "continue"},
		{"reject at data", at(mail.StageData, "", reject("Virus")), hello + envelope + message + `
			<- 550 5.7.1 Virus (id ID)
			` + envelope + `
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "reject"},
		{"discard at data", at(mail.StageData, "", mail.Discard("virus")), hello + envelope + message + `
			<- 250 2.0.0 OK: kept as ID
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "discard"},
		{"quarantine at data", at(mail.StageData, "", mail.Quarantine("spam")), hello + envelope + message + `
			<- 250 2.0.0 OK: kept as ID
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "quarantine"},
		{"text that is not fit for a reply", at(mail.StageData, "", reject("bad\r\n250 2.0.0 OK\tn\u00f6 "+strings.Repeat("x", 500))), hello + envelope + message + `
			<- 550 5.7.1 bad??250 2.0.0 OK?n? ` + strings.Repeat("x", 379) + ` (id ID)
			-> QUIT
			<- 221 *
			EOF`, []trace.Kind{one}, "reject"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{judge: test.judge})
			k.dialog(t, test.script)
			k.drained(t)
			if diff := cmp.Diff(test.traces, k.traces.kinds()); diff != "" {
				t.Fatalf("traces (-want +got):\n%s", diff)
			}
			first := k.traces.records[0]
			if len(first.Entries) == 0 || first.Entries[0].Stage != mail.StageConnect {
				t.Errorf("the first trace does not begin with the connect stage: %+v", first.Entries)
			}
			if got := first.Outcome.Action; got != test.action {
				t.Errorf("action %q, want %q", got, test.action)
			}
		})
	}
}

// TestDiscard pins that the trace of a discarded message is durable before its
// 250, and that there is no 250 without it.
func TestDiscard(t *testing.T) {
	t.Parallel()
	discard := at(mail.StageData, "", mail.Discard("virus"))
	k := newKit(t, options{judge: discard})
	k.dialog(t, hello+envelope+message+"<- 250 *\n")
	if k.traces.through != 1 || k.sink.count() != 0 {
		t.Errorf("%d traces written through, %d messages kept", k.traces.through, k.sink.count())
	}
	broken := newKit(t, options{judge: discard, broken: true})
	broken.dialog(t, hello+envelope+message+"<- 451 4.3.0 Local error in processing, try again later (id ID)\n")
}

// TestChains pins that recipients whose chains differ come in messages of their
// own.
func TestChains(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{domains: []string{"strict.test"}})
	k.dialog(t, hello+envelope+`
		-> RCPT TO:<alice@strict.test>
		<- 452 4.5.3 *
		-> RCPT TO:<bert@example.test>
		<- 250 *
		`+message+`
		<- 250 *
		-> MAIL FROM:<>
		<- 250 *
		-> RCPT TO:<alice@strict.test>
		<- 250 *
	`)
	got, _ := k.sink.last(t)
	if len(got.Recipients) != 2 {
		t.Errorf("%d recipients, want 2", len(got.Recipients))
	}
}

// panicking are chains with a mistake in them.
type panicking struct {
	chains
	stage mail.Stage
	once  sync.Once
}

// Run panics the first time at its stage.
func (p *panicking) Run(ctx context.Context, stage mail.Stage, tx *mail.Transaction) mail.Outcome {
	if stage == p.stage {
		p.once.Do(func() { panic("for the test") })
	}
	return p.chains.Run(ctx, stage, tx)
}

// TestPanic pins that a panic ends one session, is logged, and nothing else.
func TestPanic(t *testing.T) {
	t.Parallel()
	const sorry = "\n<- 421 4.3.0 Internal error, closing the connection (id ID)\nEOF"
	for _, test := range []struct {
		stage  mail.Stage
		script string
	}{
		{mail.StageConnect, "EOF"},
		{mail.StageHelo, "<- 220 *\n-> EHLO client.example.org" + sorry},
		{mail.StageMail, hello + "-> MAIL FROM:<>" + sorry},
		{mail.StageRcpt, hello + "-> MAIL FROM:<>\n<- 250 *\n-> RCPT TO:<alice@example.test>" + sorry},
		{mail.StageData, hello + envelope + message + sorry},
	} {
		t.Run(test.stage.String(), func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.ErrorLevel)
			k := newListener(t, options{log: zap.New(core)})
			k.listener.chains = &panicking{chains: k.listener.chains, stage: test.stage}
			k.listen(t)
			k.dialog(t, test.script)
			k.drained(t)
			if logs.Len() != 1 {
				t.Errorf("%d errors in the log, want 1: %v", logs.Len(), logs.All())
			}
			k.dialog(t, hello+envelope+message+"<- 250 *\n")
		})
	}
}

// TestSpoolFails pins what a client is told when its message cannot be kept
// while it comes in.
func TestSpoolFails(t *testing.T) {
	t.Parallel()
	k := newListener(t, options{})
	k.listener.spoolDir = filepath.Join(t.TempDir(), "gone")
	k.listen(t)
	k.dialog(t, hello+envelope+`
		-> DATA
		<- 354 *
		=> "\r\n`+strings.Repeat(strings.Repeat("x", 78)+`\r\n`, 4000)+`.\r\n"
		<- 451 4.3.0 Local error in processing, try again later (id ID)
		`+envelope+message+`
		<- 250 *
	`)
	for err, want := range map[error]string{syscall.ENOSPC: "452 4.3.1", syscall.EDQUOT: "452 4.3.1", syscall.EIO: "451 4.3.0"} {
		in := intake{spool: mail.NewSpool("", 0)}
		in.broken(fmt.Errorf("write spool file: %w", err))
		if got := in.fault.Reply.String(); !strings.HasPrefix(got, want) || in.fault.Action != mail.ActionDefer {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestReceived(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body, script string
		want               []string
	}{
		{"HELO", `tls = "off"`, "<- 220 *\n-> HELO (evil)\n<- 250 *" + envelope, []string{
			"from ?evil? ([127.0.0.1])", "\tby mx.example.test with SMTP", "\tid ID", "\tfor <alice@example.test>;",
		}},
		{"EHLO", "", hello + envelope, []string{
			"from client.example.org ([127.0.0.1])", "\tby mx.example.test with ESMTP", "\tid ID", "\tfor <alice@example.test>;",
		}},
		{"TLS", `tls = "implicit"`, "TLS" + hello + envelope, []string{
			"from client.example.org ([127.0.0.1])", "\tby mx.example.test with ESMTPS (TLS1.3 TLS_AES_128_GCM_SHA256)", "\tid ID", "\tfor <alice@example.test>;",
		}},
		{"login", "tls = \"implicit\"\nauth = \"required\"\nsubmission = false", "TLS" + hello + "-> AUTH PLAIN " + b64("\x00alice@example.test\x00secret") + "\n<- 235 *" + envelope, []string{
			"from client.example.org ([127.0.0.1])", "\tby mx.example.test with ESMTPSA (TLS1.3 TLS_AES_128_GCM_SHA256)", "\tid ID", "\tfor <alice@example.test>;",
		}},
		{"IPv6", trusted, `=> "PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n"` + hello + envelope, []string{
			"from client.example.org ([IPv6:2001:db8::7])", "\tby mx.example.test with ESMTP", "\tid ID", "\tfor <alice@example.test>;",
		}},
		{"SMTPUTF8 and two recipients", "", hello + "-> MAIL FROM:<> SMTPUTF8\n<- 250 *\n-> RCPT TO:<älice@example.test>\n<- 250 *\n-> RCPT TO:<bert@example.test>\n<- 250 *", []string{
			"from client.example.org ([127.0.0.1])", "\tby mx.example.test with UTF8SMTP", "\tid ID;",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: test.body, judge: login})
			k.dialog(t, test.script+message+"<- 250 *\n")
			_, raw := k.sink.last(t)
			lines := strings.Split(identifier.ReplaceAllString(raw, "ID"), "\r\n")
			got := append([]string{strings.TrimPrefix(lines[0], "Received: ")}, lines[1:len(test.want)]...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Received (-want +got):\n%s", diff)
			}
			if date := lines[len(test.want)]; !strings.HasPrefix(date, "\t") || !strings.HasSuffix(date, "+0000") {
				t.Errorf("Received ends in %q, want a date", date)
			}
		})
	}
}

func TestSubmission(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, header, reply, added string }{
		{"complete", `From: a@example.test\r\nDate: today\r\nmessage-id: <1@x>\r\n`, "250 *", ""},
		{"without Date", `From: a@example.test\r\nMessage-ID: <1@x>\r\n`, "250 *", "Date"},
		{"without Message-ID", `From: a@example.test\r\nDate: today\r\n`, "250 *", "Message-ID"},
		{"without From", `Date: today\r\n`, "554 5.6.0 The message needs one From field (id ID)", ""},
		{"two From", `From: a@example.test\r\nFrom: b@example.test\r\n`, "554 5.6.0 The message needs one From field (id ID)", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: "submission = true"})
			k.dialog(t, hello+envelope+"-> DATA\n<- 354 *\n=> \""+test.header+"\\r\\nhi\\r\\n.\\r\\n\"\n<- "+test.reply+"\n")
			if !strings.HasPrefix(test.reply, "250") {
				return
			}
			_, raw := k.sink.last(t)
			for _, name := range []string{"Date", "Message-ID"} {
				want := 1
				if got := strings.Count(strings.ToLower(raw), "\n"+strings.ToLower(name)+": "); got != want {
					t.Errorf("%d fields %s, want %d:\n%s", got, name, want, raw)
				}
			}
			if test.added != "" && strings.Index(raw, test.added+": ") > strings.Index(raw, "From: ") {
				t.Errorf("%s is not on top:\n%s", test.added, raw)
			}
		})
	}
}
