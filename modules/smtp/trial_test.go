package smtp

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// endless gives lines for ever and counts them.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, strings.Repeat("0123456789abcd\r\n", len(p)/16+1))
	e.n += int64(n)
	return n, nil
}

// TestReceive finds that a message on trial meets the listener's own rules, and is
// read no further than it must be.
func TestReceive(t *testing.T) {
	t.Parallel()
	l := &Listener{Settings: Settings{
		MaxMessageSize: 64 << 10, MaxRecipients: 1, MaxReceived: 2, TLS: tlsStartTLS, Auth: authOff,
		Limits: &Limits{LineLength: 1000, Spool: 1 << 20},
	}, hostname: "mx.example.test"}
	for name, c := range map[string]struct{ text, reply string }{
		"good":        {"Subject: a\r\n\r\nb\r\n", ""},
		"no last end": {"Subject: a\r\n\r\nb", ""},
		"bare LF":     {"Subject: a\n\nb\n", "554 5.5.2"},
		"NUL":         {"Subject: a\r\n\r\n\x00\r\n", "554 5.6.0"},
		"long line":   {"Subject: " + strings.Repeat("a", 2000) + "\r\n", "554 5.6.0"},
		"too large":   {strings.Repeat("Subject: a\r\n", 9000), "552 5.3.4"},
		"circles":     {strings.Repeat("Received: a\r\n", 3), "554 5.4.6"},
		"white space": {" Subject: a\r\n", "554 5.6.0"},
	} {
		r, err := l.Receive(strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		tx := mail.NewTransaction("check-1", &mail.Session{Helo: "h"}, time.Unix(0, 0))
		verdict := r.Data(tx)
		if got := verdict.Reply.String(); !strings.HasPrefix(got, c.reply) || (verdict.Action == mail.ActionContinue) != (c.reply == "") {
			t.Errorf("%s: %s %q, want %q", name, verdict.Action, got, c.reply)
		}
		if c.reply == "" {
			rendered, err := tx.Rendered()
			if err != nil || !strings.HasPrefix(string(rendered.Head()), "Received: from h") || r.Size() != int64(len(c.text)) {
				t.Errorf("%s: %d bytes, %v", name, r.Size(), err)
			}
		}
		again := mail.NewTransaction("check-1-2", &mail.Session{Helo: "h"}, time.Unix(0, 0))
		if v := r.Data(again); v.Reply != verdict.Reply || (tx.Message == nil) != (again.Message == nil) || tx.Message != nil && tx.Message.Size != again.Message.Size {
			t.Errorf("%s, for another transaction: %+v, %+v", name, v, again.Message)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.Encrypts(false) || !l.Encrypts(true) || !(&Listener{Settings: Settings{TLS: tlsImplicit}}).Encrypts(false) {
		t.Error("TLS goes without saying with a login, and where it is implicit")
	}
	e := new(endless)
	r, err := l.Receive(e)
	if err != nil || e.n > 2<<20 {
		t.Fatalf("%d bytes were read, %v", e.n, err)
	}
	if v := r.Mail(mail.NewTransaction("check-1", new(mail.Session), time.Unix(0, 0))); v.Reply.Code != 552 {
		t.Errorf("endless message: %+v", v)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Receive(iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken file: %v", err)
	}
}
