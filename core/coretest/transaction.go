package coretest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// started is when the transactions of the kit begin.
var started = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// Transaction makes the nth transaction of a stage, with what is known then: a
// client in 192.0.2.0/24 that says HELO as client.example.org, on the listener
// "one", and writes from sender{n}@example.org to user@example.test and, at the
// data stage, two hundred bytes. At the auth stage it is an unknown user with a
// password. The caller may change it.
func Transaction(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
	tb.Helper()
	session := &mail.Session{
		ID: fmt.Sprintf("session%d", n), Protocol: mail.ProtocolSMTP, Listener: listenerOne,
		RemoteAddr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 4711),
		LocalAddr:  netip.MustParseAddrPort("203.0.113.25:25"),
		Started:    started,
	}
	tx := mail.NewTransaction(fmt.Sprintf("message%d", n), session, started)
	tx.Stage = stage
	if stage >= mail.StageHelo {
		session.Helo = "client.example.org"
	}
	if stage == mail.StageAuth {
		tx.Credentials = &mail.Credentials{Mechanism: "PLAIN", Username: fmt.Sprintf("nobody%d@example.test", n), Password: "not the password"}
		return tx
	}
	if stage >= mail.StageMail {
		tx.Envelope.ReversePath = mail.Address{LocalPart: fmt.Sprintf("sender%d", n), Domain: "example.org"}
	}
	recipient := &mail.Recipient{Address: mail.Address{LocalPart: "user", Domain: "example.test"}}
	switch stage {
	case mail.StageRcpt:
		tx.Recipient = recipient
	case mail.StageData:
		recipient.Target = targetName
		tx.Envelope.Recipients = []*mail.Recipient{recipient}
		tx.Message = message(tb, n)
	default:
	}
	return tx
}

// message makes the nth message.
func message(tb testing.TB, n int) *mail.Message {
	tb.Helper()
	raw := fmt.Sprintf("From: Sender %d <sender%d@example.org>\r\nTo: user@example.test\r\nSubject: Number %d\r\n"+
		"Date: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\nHello.\r\n", n, n, n, n)
	m, err := mail.NewMessage([]byte(raw))
	if err != nil {
		tb.Fatalf("make message: %v", err)
	}
	return m
}
