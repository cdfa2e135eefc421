package rspamd

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestConformance(t *testing.T) {
	bad := []coretest.Bad{
		{Config: "rspamd {}"},
		{Config: block("http://127.0.0.1:11333"), Attribute: "address"},
		{Config: block("unix:/" + strings.Repeat("x", 107)), Attribute: "address"},
		{Config: block("tcp:127.0.0.1"), Attribute: "address"},
		{Config: block(rspamd.TCP, `password = "a\nb"`), Attribute: "password"},
		{Config: block(rspamd.TCP, `password = "`+strings.Repeat("x", 257)+`"`), Attribute: "password"},
		{Config: block(rspamd.TCP, `reject = "drop"`), Attribute: "reject", Code: "config/bad-value"},
		{Config: block(rspamd.TCP, `add_header = "drop"`), Attribute: "add_header", Code: "config/bad-value"},
		{Config: block(rspamd.TCP, `greylist = "tag"`), Attribute: "greylist", Code: "config/bad-value"},
		{Config: block(rspamd.TCP, `rewrite_subject = "maybe"`), Attribute: "rewrite_subject"},
		{Config: block(rspamd.TCP, "quarantine_score = -1"), Attribute: "quarantine_score"},
		{Config: block(rspamd.TCP, "quarantine_score = 10", "reject_score = 5"), Attribute: "quarantine_score"},
		{Config: block(rspamd.TCP, "reject_score = -1"), Attribute: "reject_score"},
		{Config: block(rspamd.TCP, "weight = -1"), Attribute: "weight"},
		{Config: block(rspamd.TCP, `too_large = "drop"`), Attribute: "too_large", Code: "config/bad-value"},
		{Config: block(rspamd.TCP, `max_size = "1"`), Attribute: "max_size"},
		{Config: block(rspamd.TCP, "max_connections = 0"), Attribute: "max_connections"},
		{Config: block(rspamd.TCP, `connect_timeout = "0s"`), Attribute: "connect_timeout"},
		{Config: block(rspamd.TCP, "learn = true"), Attribute: "learn"},
		{Config: block(rspamd.TCP, "learn = true", `controller = "tcp:x"`), Attribute: "controller"},
		{Config: block(rspamd.TCP, `controller = "unix:/`+strings.Repeat("x", 107)+`"`), Attribute: "controller"},
		{Config: block(rspamd.TCP, `stage = "rcpt"`), Attribute: "stage"},
	}
	suite := coretest.HandlerSuite{
		ID: "handler.rspamd", Bad: bad, Rounds: 3,
		Hanging:     block("tcp:" + coretest.Faulty(t, coretest.FaultHanging, "").Address),
		Transaction: anyMessage,
	}
	for _, settings := range []string{
		`too_large = "reject"`,
		"too_large = \"defer\"\nreject = \"quarantine\"\ngreylist = \"defer\"\nadd_header = \"quarantine\"",
		"too_large = \"quarantine\"\nreject = \"tag\"\nquarantine_score = 5\nreject_score = 25\nlearn = true\ncontroller = \"" + rspamd.Controller.String() + "\"",
	} {
		suite.Config = block(rspamd.Unix, settings, `max_size = "2KB"`, "max_connections = 2")
		coretest.TestHandler(t, suite)
	}
}

// anyMessage has messages for each action, and some over 2 KB.
func anyMessage(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n)
	if stage != mail.StageData {
		return tx
	}
	body := "Hello.\r\n"
	if n%7 == 6 {
		body = strings.Repeat("Hello.\r\n", 400)
	}
	m, err := mail.NewMessage([]byte("X-Spam-Status: No\r\n" + [...]string{
		"", "X-Test-Action: reject\r\n", "X-Test-Action: soft reject\r\nX-Test-Message: Later\r\n", "X-Test-Action: rewrite subject\r\n",
		"X-Test-Action: greylist\r\n", "X-Test-Score: 9\r\nX-Test-Milter: {\"add_headers\": {\"X-A\": \"b\"}}\r\n", "",
	}[n%7] + header + "\r\n" + body))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = m
	return tx
}
