package attachments

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp" // the listener of the test
)

func block(settings ...string) string {
	return "attachments {\n" + strings.Join(settings, "\n") + "\n}"
}

func TestConformance(t *testing.T) {
	bad := []coretest.Bad{
		{Config: block(`deny = ["["]`), Attribute: "deny"},
		{Config: block(`deny = [""]`), Attribute: "deny"},
		{Config: block(`deny = ["docs/*.exe"]`), Attribute: "deny"},
		{Config: block(`types = ["application/x-msdownload"]`), Attribute: "types"},
		{Config: block(`types = ["["]`), Attribute: "types"},
		{Config: block(`action = "accept"`), Attribute: "action", Code: "config/bad-value"},
		{Config: block(`encrypted = "defer"`), Attribute: "encrypted", Code: "config/bad-value"},
		{Config: block(`too_complex = "defer"`), Attribute: "too_complex", Code: "config/bad-value"},
		{Config: block("max_parts = 0"), Attribute: "max_parts"},
		{Config: block("max_depth = 101"), Attribute: "max_depth"},
		{Config: block(`max_header = "1MiB"`), Attribute: "max_header"},
		{Config: block("archive_depth = -1"), Attribute: "archive_depth"},
		{Config: block("max_entries = 0"), Attribute: "max_entries"},
		{Config: block(`max_unpacked = "1B"`), Attribute: "max_unpacked"},
		{Config: block(`stage = "rcpt"`), Attribute: "stage"},
	}
	messages := make([]string, 0, 100)
	for _, test := range corpus(t) {
		messages = append(messages, test.raw)
	}
	suite := coretest.HandlerSuite{
		ID: "handler.attachments", Bad: bad,
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			if stage != mail.StageData {
				return coretest.Transaction(tb, stage, n)
			}
			return newTransaction(tb, messages[n%len(messages)])
		},
	}
	for _, settings := range []string{
		"", `action = "quarantine"` + "\n" + `encrypted = "reject"`, `action = "tag"` + "\n" + `too_complex = "accept"` + "\n" + `encrypted = "quarantine"`,
	} {
		suite.Config = block(settings)
		coretest.TestHandler(t, suite)
	}
}

func init() { core.Register(swallow{}) }

// swallow is a target for every recipient.
type swallow struct{}

func (swallow) Module() core.Info {
	return core.Info{
		ID: "handler.swallow", Stages: mail.AtRcpt | mail.AtData, Target: true,
		New: func() core.Module { return new(swallow) },
	}
}

func (swallow) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept("swallowed"), nil
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := coretest.Serve(t, coretest.Base+`
		listener "smtp" "mx" {
			address = "127.0.0.1:0"
			tls     = "off"
			chain {
				attachments {}
				swallow {}
			}
		}`, coretest.Options{})
	for raw, reply := range map[string]string{
		message(text): "250 2.0.0 OK: kept as ID",
		message(mixed("x", text, filePart("my invoice.pdf.exe", program))):                                    `550 5.7.1 Attachment not allowed: "my invoice.pdf.exe"*`,
		message(mixed("x", text, filePart("a.zip", zipped(t, packed{name: "a/b.JS", content: []byte("x")})))): `550 5.7.1 Attachment not allowed: "a/b.JS"*`,
	} {
		raw = strings.ReplaceAll(raw, "\r\n.", "\r\n..")
		coretest.Dialog(t, coretest.Address(t, s, "mx"), fmt.Sprintf(`
			<- 220 *
			-> EHLO client.example.org
			<-- 250 SIZE *
			-> MAIL FROM:<a@example.org>
			<- 250 *
			-> RCPT TO:<user@example.test>
			<- 250 *
			-> DATA
			<- 354 *
			=> %q
			<- %s
			-> QUIT
			<- 221 *
		`, raw+"\r\n.\r\n", reply))
	}
}

// TestDefaults holds the settings that the file leaves out.
func TestDefaults(t *testing.T) {
	t.Parallel()
	kit := coretest.New(t, coretest.Options{})
	a := coretest.Load[*Attachments](t, kit, "handler.attachments", "attachments {}")
	for _, name := range []string{"a.exe", "A.SCR", "b.ps1", "c.lnk"} {
		if v, err := a.Handle(t.Context(), newTransaction(t, message(filePart(name, nil)))); err != nil || v.Action != mail.ActionReject {
			t.Errorf("%s: verdict %+v, %v", name, v, err)
		}
	}
	for _, name := range []string{"a.pdf", "exe", "b.docx", "c.html"} {
		if v, err := a.Handle(t.Context(), newTransaction(t, message(filePart(name, nil)))); err != nil || v.Action != mail.ActionContinue {
			t.Errorf("%s: verdict %+v, %v", name, v, err)
		}
	}
}
