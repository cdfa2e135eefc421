package rspamd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// rspamd is the daemon of this package's tests. It takes a second to start, so
// there is one for all.
var rspamd *daemon.Daemon

func TestMain(m *testing.M) {
	var err error
	if rspamd, err = (daemon.Rspamd{}).Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(rspamd.Stop(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// gtube gives one of rspamd's test messages, in two parts, so that no filter takes
// this source for it: X is to be rejected, Y to get a field, Z another subject.
func gtube(kind string) string {
	return kind + "JS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
}

// header is that of a message with nothing to complain of.
const header = "From: Alice <alice@example.org>\r\nTo: user@example.test\r\nSubject: The minutes of our meeting\r\n" +
	"Date: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <20261101120000.4711.alice@example.org>\r\n"

// letter is a message with more fields, if there are any.
func letter(fields string) string {
	return fields + header + "\r\nDear colleagues,\r\nhere are the minutes.\r\n"
}

// newHandler gives a handler with the defaults, but for what set changes.
func newHandler(tb testing.TB, address backend.Address, set func(*Rspamd)) *Rspamd {
	tb.Helper()
	r := &Rspamd{
		Address: address, Reject: "reject", AddHeader: "tag", RewriteSubject: true, Greylist: "accept", Weight: 1,
		MaxSize: config.Size(10 << 20), TooLarge: "accept", MaxConnections: 20, ConnectTimeout: 5 * time.Second,
		name: "rspamd", host: "mx.example.test", now: time.Now,
	}
	if set != nil {
		set(r)
	}
	worker := newServer(tb, address)
	worker.password = r.Password
	r.client = &client{server: worker, gate: backend.NewGate("rspamd", r.MaxConnections)}
	return r
}

func newServer(tb testing.TB, address backend.Address) server {
	tb.Helper()
	connections := newPool(address, 5*time.Second)
	tb.Cleanup(func() { _ = connections.Close() })
	return server{address: address, pool: connections}
}

func newTeacher(tb testing.TB, controller backend.Address, password mail.Secret) *teacher {
	tb.Helper()
	worker := newServer(tb, controller)
	worker.password = password
	return &teacher{server: worker, log: zap.NewNop(), maxSize: 1 << 20}
}

func newTransaction(tb testing.TB, raw string) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, mail.StageData, 1)
	message, err := mail.NewMessage([]byte(raw))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = message
	return tx
}

// fieldsOf gives the header section of the message as it would be stored.
func fieldsOf(tb testing.TB, tx *mail.Transaction) mail.HeaderSection {
	tb.Helper()
	r, err := tx.Rendered()
	if err != nil {
		tb.Fatal(err)
	}
	h, _, err := mail.ParseHeaderSection(r.Head())
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// fake listens on loopback and lets serve play rspamd on each connection.
func fake(tb testing.TB, serve func(net.Conn)) backend.Address {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	tb.Cleanup(func() { l.Close(); <-done })
	return backend.Address{Network: "tcp", Name: l.Addr().String()}
}
