package headers

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func block(settings string) string { return "headers {\n" + settings + "\n}" }

func TestConformance(t *testing.T) {
	long := strings.Repeat("x", maxValue+1)
	bad := []coretest.Bad{
		{Config: block(`remove = ["Subject", "A B"]`), Attribute: "remove[1]"},
		{Config: block(`remove = "Received"`), Attribute: "remove"},
		{Config: block(`require = ["Da:te"]`), Attribute: "require[0]"},
		{Config: block(`require = [""]`), Attribute: "require[0]"},
		{Config: block(`add = { "X-A" = "a\nb" }`), Attribute: "add"},
		{Config: block(`add = { "X-A" = "ö" }`), Attribute: "add"},
		{Config: block(`add = { "X-A" = "` + long + `" }`), Attribute: "add"},
		{Config: block(`add = { "X A" = "a" }`), Attribute: "add"},
		{Config: block(`add = { "X-A" = "a", "x-a" = "b" }`), Attribute: "add"},
		{Config: block(`add = { "Authentication-Results" = "mx.example.test; dkim=pass" }`), Attribute: "add"},
		{Config: block(`add = { "ARC-Seal" = "a" }`), Attribute: "add"},
		{Config: block(`add = { "X-Mox-Like-Tags" = "a" }`), Attribute: "add"},
		{Config: block(`missing = "defer"`), Attribute: "missing", Code: "config/bad-value"},
		{Config: block(`stage = "rcpt"`), Attribute: "stage"},
	}
	for _, settings := range []string{
		`add = { "X-A" = "1" }`,
		"require = [\"Date\", \"List-Id\"]\nremove = \"Subject\"",
		"require = [\"List-Id\"]\nmissing = \"quarantine\"",
	} {
		coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.headers", Config: block(settings), Bad: bad})
	}
}

func TestHandle(t *testing.T) {
	t.Parallel()
	const fields = "X-Old: 1\r\nFrom: a@example.org\r\nx-old: 2\r\n"
	long := make([]string, 0, 20)
	for range 20 {
		long = append(long, `"`+strings.Repeat("X", 60)+`"`)
	}
	tests := map[string]struct {
		settings, want, reason, verdict string
	}{
		"add":              {`add = { "X-B" = "2: b", "X-A" = "1" }`, "X-A: 1\r\nX-B: 2: b\r\n" + fields, "0 fields removed, 2 added", "continue"},
		"remove":           {`remove = ["X-OLD", "X-Other"]`, "From: a@example.org\r\n", "2 fields removed, 0 added", "continue"},
		"replace":          {"remove = \"X-Old\"\nadd = { \"X-Old\" = \"3\" }", "X-Old: 3\r\nFrom: a@example.org\r\n", "2 fields removed, 1 added", "continue"},
		"required":         {`require = ["from", "X-Old"]`, fields, "0 fields removed, 0 added", "continue"},
		"missing":          {`require = ["From", "Date", "Message-ID"]`, fields, "the message has no Date, Message-ID; 0 fields removed, 0 added", "reject 550 5.6.0 The message lacks a header field that it must have: Date, Message-ID"},
		"missing, accept":  {"require = \"Date\"\nmissing = \"accept\"", fields, "the message has no Date; 0 fields removed, 0 added", "continue"},
		"missing, tag":     {"require = \"Date\"\nmissing = \"tag\"", "X-Mox-Like-Tags: headers=missing\r\n" + fields, "the message has no Date; 0 fields removed, 0 added", "continue"},
		"missing, put off": {"require = \"Date\"\nmissing = \"quarantine\"", fields, "the message has no Date; 0 fields removed, 0 added", "quarantine"},
		"added is missing": {"require = \"Date\"\nadd = { \"Date\" = \"x\" }\nmissing = \"accept\"", "Date: x\r\n" + fields, "the message has no Date; 0 fields removed, 1 added", "continue"},
	}
	sandbox := coretest.New(t, coretest.Options{})
	handle := func(t *testing.T, settings string) (*mail.Transaction, mail.Verdict) {
		t.Helper()
		h := coretest.Load[*Headers](t, sandbox, "handler.headers", block(settings))
		m, err := mail.NewMessage([]byte(fields + "\r\nbody\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		tx := mail.NewTransaction("t1", &mail.Session{RemoteAddr: netip.MustParseAddrPort("192.0.2.1:1")}, time.Unix(0, 0))
		tx.Stage, tx.Message = mail.StageData, m
		v, err := h.Handle(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		return tx, v
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx, v := handle(t, tt.settings)
			got := v.Action.String()
			if v.Reply.Code != 0 {
				got += " " + v.Reply.String()
			}
			if v.Reason != tt.reason || got != tt.verdict {
				t.Errorf("%s, because %q; want %s, because %q", got, v.Reason, tt.verdict, tt.reason)
			}
			r, err := tx.Rendered()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want+"\r\n", string(r.Head())); diff != "" {
				t.Errorf("header section (-want +got):\n%s", diff)
			}
		})
	}
	if _, v := handle(t, "require = ["+strings.Join(long, ", ")+"]"); len(v.Reason) > 512 || len(v.Reply.Text) > 400 {
		t.Errorf("a reason of %d bytes, a reply of %d", len(v.Reason), len(v.Reply.Text))
	}
}
