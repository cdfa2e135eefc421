package spamassassin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// block is a block of the handler in the file.
func block(address any, settings ...string) string {
	return fmt.Sprintf("spamassassin {\naddress = %q\n%s\n}", fmt.Sprint(address), strings.Join(settings, "\n"))
}

func TestConformance(t *testing.T) {
	bad := []coretest.Bad{
		{Config: "spamassassin {}"},
		{Config: block("/run/spamd.sock"), Attribute: "address"},
		{Config: block("unix:"), Attribute: "address"},
		{Config: block("unix:/" + strings.Repeat("x", 107)), Attribute: "address"},
		{Config: block("tcp:127.0.0.1"), Attribute: "address"},
		{Config: block(spamd.TCP, `user = "a b"`), Attribute: "user"},
		{Config: block(spamd.TCP, `user = "../root"`), Attribute: "user"},
		{Config: block(spamd.TCP, `learn = "perhaps"`), Attribute: "learn", Code: "config/wrong-type"},
		{Config: block(spamd.TCP, "tag = -1"), Attribute: "tag"},
		{Config: block(spamd.TCP, "tag = 6"), Attribute: "tag"},
		{Config: block(spamd.TCP, "tag = 11", "quarantine = 0"), Attribute: "tag"},
		{Config: block(spamd.TCP, "quarantine = 4"), Attribute: "quarantine"},
		{Config: block(spamd.TCP, "quarantine = 12"), Attribute: "quarantine"},
		{Config: block(spamd.TCP, "reject = 3"), Attribute: "reject"},
		{Config: block(spamd.TCP, "weight = -1"), Attribute: "weight"},
		{Config: block(spamd.TCP, `too_large = "drop"`), Attribute: "too_large", Code: "config/bad-value"},
		{Config: block(spamd.TCP, `max_size = "1"`), Attribute: "max_size"},
		{Config: block(spamd.TCP, "max_connections = 0"), Attribute: "max_connections"},
		{Config: block(spamd.TCP, `connect_timeout = "0s"`), Attribute: "connect_timeout"},
		{Config: block(spamd.TCP, `stage = "rcpt"`), Attribute: "stage"},
	}
	suite := coretest.HandlerSuite{
		ID: "handler.spamassassin", Bad: bad, Rounds: 3,
		Hanging:     block("tcp:" + coretest.Faulty(t, coretest.FaultHanging, "").Address),
		Transaction: spamOrLarge,
	}
	for _, settings := range []string{
		"too_large = \"reject\"\nuser = \"recipient\"\nlearn = true",
		"too_large = \"defer\"\nuser = \"domain\"\nreject = 0",
		"too_large = \"quarantine\"\nuser = \"filter\"\nreject = 0\nquarantine = 0",
	} {
		suite.Config = block(spamd.Unix, settings, `max_size = "2KB"`, "max_connections = 2")
		coretest.TestHandler(t, suite)
	}
}

// spamOrLarge has clean messages, spam, and some over 2 KB.
func spamOrLarge(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n)
	if stage != mail.StageData {
		return tx
	}
	body := "Hello.\r\n"
	switch n % 3 {
	case 1:
		body = daemon.GTUBE + "\r\n"
	case 2:
		body = strings.Repeat("Hello.\r\n", 400)
	}
	m, err := mail.NewMessage([]byte("X-Spam-Status: No\r\n" + letter + body))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = m
	return tx
}
