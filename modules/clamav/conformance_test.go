package clamav

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

func TestConformance(t *testing.T) {
	clamd := daemon.Run(t, daemon.Clamd{})
	address := withoutVersion(t, clamd.Unix)
	block := func(address any, settings ...string) string {
		return fmt.Sprintf("clamav {\naddress = %q\n%s\n}", fmt.Sprint(address), strings.Join(settings, "\n"))
	}
	bad := []coretest.Bad{
		{Config: "clamav {}"},
		{Config: block("/run/clamd.ctl"), Attribute: "address"},
		{Config: block("unix:"), Attribute: "address"},
		{Config: block("unix:/" + strings.Repeat("x", 107)), Attribute: "address"},
		{Config: block("tcp:127.0.0.1"), Attribute: "address"},
		{Config: block(clamd.Unix, `infected = "accept"`), Attribute: "infected", Code: "config/bad-value"},
		{Config: block(clamd.Unix, `too_large = "tag"`), Attribute: "too_large", Code: "config/bad-value"},
		{Config: block(clamd.Unix, `max_size = "1"`), Attribute: "max_size"},
		{Config: block(clamd.Unix, "max_connections = 0"), Attribute: "max_connections"},
		{Config: block(clamd.Unix, `connect_timeout = "0s"`), Attribute: "connect_timeout"},
		{Config: block(clamd.Unix, `stage = "rcpt"`), Attribute: "stage"},
	}
	suite := coretest.HandlerSuite{
		ID: "handler.clamav", Bad: bad,
		Hanging:     block("tcp:" + coretest.Faulty(t, coretest.FaultHanging, "").Address),
		Transaction: infectedOrLarge,
	}
	for _, settings := range []string{
		"infected = \"reject\"\ntoo_large = \"reject\"",
		"infected = \"quarantine\"\ntoo_large = \"defer\"",
		"infected = \"tag\"\ntoo_large = \"quarantine\"",
	} {
		suite.Config = block(address, settings, `max_size = "1KiB"`)
		coretest.TestHandler(t, suite)
	}
}

// infectedOrLarge has clean messages, infected ones, and some over 1 KiB.
func infectedOrLarge(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, stage, n)
	if stage != mail.StageData {
		return tx
	}
	body := "Hello.\r\n"
	switch n % 3 {
	case 1:
		body = daemon.EICAR + "\r\n"
	case 2:
		body = strings.Repeat("Hello.\r\n", 200)
	}
	m, err := mail.NewMessage([]byte("X-Virus-Status: Clean\r\nX-Virus-Scanned: elsewhere\r\n\r\n" + body))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = m
	return tx
}
