package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

var update = flag.Bool("update", false, "write the golden files")

// records are of all kinds, with all notes.
func records() []*trace.Record {
	at := time.Date(2026, 11, 3, 14, 5, 9, 0, time.UTC)
	return []*trace.Record{
		{
			ID: "01jq3k5m7n8p9r0s1t", Kind: trace.KindMessage, Time: at, Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.7",
			ReversePath: "stranger@example.org", Recipients: []string{"alice@example.test"}, Size: 4096,
			Outcome: trace.Outcome{Action: "accept", Handler: "deliver"},
			Entries: []mail.Entry{
				{Stage: mail.StageConnect, Handler: "ratelimit", Position: "mox-like.hcl:56", Reason: "1 of 60 in 1m for 192.0.2.7", Duration: 3 * time.Microsecond},
				{Stage: mail.StageRcpt, Handler: "deliver", Position: "mox-like.hcl:64", Action: mail.ActionAccept, Recipient: "alice@example.test", Reason: "account alice@example.test", Duration: 950 * time.Nanosecond},
				{Stage: mail.StageData, Handler: "clamav", Position: "mox-like.hcl:60", Reason: "clean", Duration: 21400 * time.Microsecond},
				{Stage: mail.StageData, Handler: "deliver", Position: "mox-like.hcl:64", Action: mail.ActionAccept, Duration: 1234 * time.Millisecond},
			},
		},
		{
			ID: "01jq3k5m7n8p9r0s2t", Kind: trace.KindMessage, Time: at, Listener: "mx", RemoteIP: "2001:db8::7",
			Recipients: []string{"a@example.test", "b@example.test", "c@example.test", "d@example.test", "e@example.test"},
			Outcome:    trace.Outcome{Action: "reject", Handler: "clamav", Reply: "554 5.7.1 Virus found: Eicar"},
			Entries: []mail.Entry{
				{Stage: mail.StageRcpt, Handler: "a-handler-with-a-long-name-of-its-own", Position: "conf.d/mx.hcl:7", Recipient: "a@example.test", Action: mail.ActionAccept},
				{Stage: mail.StageRcpt, Handler: "deliver", Position: "mox-like.hcl:64", Recipient: "b@example.test", Action: mail.ActionAccept, Reason: "alias all"},
				{Stage: mail.StageData, Handler: "spf", Position: "mox-like.hcl:58", Note: chain.NoteSkipped},
				{Stage: mail.StageData, Handler: "dmarc", Position: "mox-like.hcl:59", Note: chain.NoteMonitor, Action: mail.ActionReject, Reason: "not aligned"},
				{Stage: mail.StageData, Handler: "spamassassin", Position: "mox-like.hcl:60", Note: chain.NoteError, Reason: "dial tcp 127.0.0.1:783: connection refused", Duration: 12 * time.Second},
				{Stage: mail.StageData, Handler: "clamav", Position: "mox-like.hcl:61", Note: chain.NoteResting, Action: mail.ActionDefer, Duration: 120 * time.Second},
				{Stage: mail.StageData, Handler: "clamav", Position: "mox-like.hcl:61", Action: mail.ActionReject, Reason: "Eicar", Duration: 9994 * time.Microsecond},
				{Stage: mail.StageData, Handler: "score", Position: "mox-like.hcl:62", Action: mail.ActionQuarantine, Duration: 999 * time.Millisecond},
			},
		},
		{
			ID: "01jq3k5m7n8p9r0s3t", Kind: trace.KindLogin, Time: at, Protocol: "imap", Listener: "imaps", RemoteIP: "192.0.2.8", User: "alice@example.test",
			Outcome: trace.Outcome{Action: "reject", Handler: "password", Reply: "535 5.7.8 Authentication credentials invalid"},
			Entries: []mail.Entry{
				{Stage: mail.StageAuth, Handler: "password", Position: "mox-like.hcl:48", Action: mail.ActionReject, Reason: "wrong password for alice@example.test", Duration: 61 * time.Millisecond},
			},
		},
		{
			ID: "01jq3k5m7n8p9r0s4t", Kind: trace.KindSession, Time: at, Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.9",
			Outcome: trace.Outcome{Action: "defer", Reason: "too many connections"},
		},
		{
			ID: "01jq3k5m7n8p9r0s6t", Kind: trace.KindMessage, Time: at, Protocol: "smtp", Listener: "lmtp",
			ReversePath: "bob@example.org", Recipients: []string{"alice@example.test"},
			Outcome: trace.Outcome{Action: "quarantine", Handler: "clamav"},
			Entries: []mail.Entry{
				{Stage: mail.StageRcpt, Handler: "deliver", Position: "mox-like.hcl:64", Action: mail.ActionReject, Recipient: "nobody@example.test", Reason: "no account, alias or catch_all for nobody@example.test"},
				{Stage: mail.StageRcpt, Handler: "deliver", Position: "mox-like.hcl:64", Action: mail.ActionAccept, Recipient: "alice@example.test", Reason: "delivered to alice@example.test"},
				{Stage: mail.StageData, Handler: "clamav", Position: "mox-like.hcl:60", Action: mail.ActionQuarantine, Reason: "Eicar"},
				{Stage: mail.StageData, Handler: "deliver", Position: "mox-like.hcl:64", Action: mail.ActionAccept, Reason: "stored in Junk of alice@example.test"},
			},
		},
		{
			ID: "01jq3k5m7n8p9r0s7t", Kind: trace.KindMessage, Time: at, Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.9",
			Outcome: trace.Outcome{Action: "reject", Handler: "deliver", Reply: "550 5.1.1 There is no such mailbox here", Reason: "nobody"},
			Entries: []mail.Entry{{Stage: mail.StageRcpt, Handler: "deliver", Position: "mox-like.hcl:64", Action: mail.ActionReject, Recipient: "nobody@example.test", Reason: "nobody"}},
		},
		{
			// A stranger that would clear the screen, ring, and write from right to left.
			ID: "01jq3k5m7n8p9r0s5t", Kind: trace.KindMessage, Time: at, RemoteIP: "192.0.2.9",
			ReversePath: "\x1b[2J\x07evil@example.org", Recipients: []string{"al\u202eice@example.test"}, User: "a\nb",
			Outcome: trace.Outcome{Action: "reject", Reply: "550 5.1.1 \x9b31m \xff"},
			Entries: []mail.Entry{{Stage: mail.StageRcpt, Handler: "x\x1b]0;y\x07", Position: "é.hcl:1\r", Recipient: "z", Reason: "日本 \x00\u2028"}},
		},
	}
}

// explained are records with settings, as a stranger could not have them, and as
// one could.
func explained() []*trace.Record {
	at := time.Date(2026, 11, 3, 14, 5, 9, 0, time.UTC)
	list := func(settings ...mail.Setting) *mail.Settings {
		return mail.NewSettings(func() []mail.Setting { return settings })
	}
	greylist := list(
		mail.Setting{Attribute: "delay", Value: `"10m"`, Source: "database settings", Place: "database: domain example.test", Since: at.Add(-time.Hour)},
		mail.Setting{Attribute: "ipv4_prefix", Value: "28", Source: "handler", Place: "mox-like.hcl:57"},
		mail.Setting{Attribute: "expire", Value: `"35d"`, Source: "default"},
	)
	plain := list(mail.Setting{Attribute: "mode", Value: `"enforce"`, Source: "default"})
	odd := list(
		mail.Setting{Attribute: "lists\x1b[2J", Value: "[\n  \"a\",\n  \"b\u202e\"\n]", Source: "file \x07", Place: "é.hcl:1\r"},
		mail.Setting{Attribute: `rule "two"`, Source: "handler", Place: "mox-like.hcl:60"},
	)
	lost := mail.StoredSettings(list(mail.Setting{Attribute: "x"}).Hash())
	r := &trace.Record{
		ID: "01jq3k5m7n8p9r0s1t", Kind: trace.KindMessage, Time: at, Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.7",
		ReversePath: "stranger@example.org", Recipients: []string{"alice@example.test"},
		Outcome: trace.Outcome{Action: "accept", Handler: "deliver"},
		Entries: []mail.Entry{
			{Stage: mail.StageMail, Handler: "spf", Position: "mox-like.hcl:56", Settings: plain},
			{Stage: mail.StageRcpt, Handler: "greylist", Position: "mox-like.hcl:57", Settings: greylist},
			{Stage: mail.StageRcpt, Handler: "odd\x1b]0;y\x07", Settings: odd},
			{Stage: mail.StageRcpt, Handler: "deliver", Action: mail.ActionAccept, Settings: plain},
			{Stage: mail.StageData, Handler: "greylist", Position: "mox-like.hcl:57", Settings: greylist},
			{Stage: mail.StageData, Handler: "old", Settings: lost},
			{Stage: mail.StageData, Handler: "older"},
		},
	}
	r.Explain()
	return []*trace.Record{r}
}

// TestExplained prints settings, those that are not defaults and all.
func TestExplained(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, mode := range []string{settingsNone, settingsChanged, settingsAll} {
		e := &explainer{ops: noSettings{}, mode: mode, known: make(map[string][]mail.Setting)}
		p := &tracePrinter{w: &b, zone: time.UTC, explain: mode != settingsNone}
		for _, r := range explained() {
			before := len(r.Settings)
			shown, err := e.explained(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "--settings %s\n", mode)
			if err := p.print(shown); err != nil {
				t.Fatal(err)
			}
			b.WriteByte('\n')
			if len(r.Settings) != before {
				t.Error("the record itself was changed")
			}
		}
	}
	golden(t, "trace_settings.golden", b.Bytes())
}

// noSettings keeps none.
type noSettings struct{ control.Traces }

func (noSettings) TraceSettings(context.Context, string) ([]mail.Setting, error) {
	return nil, control.ErrNotFound
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestTracePrinter(t *testing.T) {
	t.Parallel()
	for name, colored := range map[string]bool{"trace.golden": false, "trace_color.golden": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			p := &tracePrinter{w: &b, color: colored, zone: time.UTC}
			for _, r := range records() {
				if err := p.print(r); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, name, b.Bytes())
		})
	}
}

func TestTracePrinterPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	p := &tracePrinter{w: brokenWriter{broken}}
	if err := p.print(records()[0]); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func FuzzHarmless(f *testing.F) {
	for _, seed := range []string{"", "plain", "日本", "\x1b[31m", "\x9b", "\xc2\x9b", "\u202e\u2066", "\xff\xfe", "\ufffd", "a\nb\r\t\x00\x7f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := harmless(text)
		if !utf8.ValidString(got) {
			t.Errorf("harmless(%q) = %q is not UTF-8", text, got)
		}
		for _, r := range got {
			if r < ' ' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u2028\u2029\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", r) {
				t.Errorf("harmless(%q) = %q has %U", text, got, r)
			}
		}
		if harmless(got) != got {
			t.Errorf("harmless(%q) = %q is changed once more", text, got)
		}
	})
}
