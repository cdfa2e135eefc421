package dkim

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/senderlogin"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

func init() { core.Register(keep{}) }

// keep is a target that keeps what it is given in the log of the test that the
// recipient's local-part names.
type keep struct{}

var kept sync.Map // local-part to message

func (keep) Module() core.Info {
	return core.Info{
		ID: "handler.keep", Stages: mail.AtRcpt | mail.AtData, Target: true,
		New: func() core.Module { return new(keep) },
	}
}

func (keep) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage == mail.StageRcpt {
		return mail.Accept("kept"), nil
	}
	r, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, err
	}
	raw, err := r.Bytes()
	if err != nil {
		return mail.Verdict{}, err
	}
	for _, to := range tx.Envelope.Recipients {
		kept.Store(to.Address.LocalPart, string(raw))
		to.Delivered = true
	}
	return mail.Accept("kept"), nil
}

const secret = "correct horse battery staple"

// TestServe has a user's message signed by a whole server, and verified by the same
// when it comes from outside.
func TestServe(t *testing.T) {
	t.Parallel()
	names := dnstest.Serve(t, zoneText())
	s := coretest.Serve(t, fmt.Sprintf(`
		server {
		  hostname = "mx.example.org"
		}
		dns {
		  servers = [%q]
		}
		tls "self_signed" {}
		domain "example.org" {
		  %s
		}
		listener "smtp" "submission" {
		  address = "127.0.0.1:0"
		  tls     = "implicit"
		  auth    = "required"
		  chain {
		    password {}
		    sender_login {}
		    dkim_sign {}
		    keep {}
		  }
		}
		listener "smtp" "mx" {
		  address = "127.0.0.1:0"
		  tls     = "off"
		  chain {
		    dkim_verify {
		      fail      = "reject"
		      none      = "quarantine"
		      temperror = "defer"
		    }
		    keep {}
		  }
		}
	`, names.Addr(), dkimBlocks(t)), coretest.Options{})
	accounts := coretest.Service[interface {
		Add(ctx context.Context, address string, password mail.Secret) error
	}](t, s)
	if err := accounts.Add(t.Context(), "alice@example.org", secret); err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{InsecureSkipVerify: true} // self-signed, on loopback
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", coretest.Address(t, s, "submission"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	coretest.Talk(t, conn, `
		<- 220 *
		-> EHLO client.example.org
		<-- 250 *
		-> AUTH PLAIN `+base64.StdEncoding.EncodeToString([]byte("\x00alice@example.org\x00"+secret))+`
		<- 235 *
		-> MAIL FROM:<alice@example.org>
		<- 250 *
		-> RCPT TO:<signed@example.org>
		<- 250 *
		-> DATA
		<- 354 *
		-> From: Alice <alice@example.org>
		-> Subject: hello
		->
		-> A message.
		-> ..with a dot
		->
		-> .
		<- 250 *
	`)
	stored, ok := kept.Load("signed")
	if !ok {
		t.Fatal("no message came")
	}
	raw := stored.(string)
	if n := strings.Count(raw, "DKIM-Signature: "); n != 2 || !strings.HasPrefix(raw, "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org;\r\n\ts=ed25519;") {
		t.Errorf("%d signatures in\n%s", n, raw)
	}
	if r := run(t, raw, "/usr/bin/python3", "testdata/dkimpy.py", "verify", zoneFile(t)); r != "pass\npass\n" {
		t.Errorf("dkimpy says %q of\n%s", r, raw)
	}
	deliver := func(raw, answer string) {
		t.Helper()
		coretest.Dialog(t, coretest.Address(t, s, "mx"), `
			<- 220 *
			-> EHLO client.example.net
			<-- 250 *
			-> MAIL FROM:<alice@example.org>
			<- 250 *
			-> RCPT TO:<verified@example.org>
			<- 250 *
			-> DATA
			<- 354 *
			=> `+fmt.Sprintf("%q", strings.ReplaceAll(raw, "\r\n.", "\r\n..")+".\r\n")+`
			<- `+answer+`
			-> QUIT
			<- 221 *
		`)
	}
	deliver(raw, "250 *")
	deliver(raw+"Buy!\r\n", "550 5.7.20 No DKIM signature of the message is good: example.org by ed25519 ed25519-sha256: the body was changed: its hash is not bh= (id ID)")
	deliver(small, "250 *")
	names.Fail("rsa._domainkey.example.org", dnstest.ServFail)
	names.Fail("ed25519._domainkey.example.org", dnstest.ServFail)
	names.Fail("other._domainkey.example.org", dnstest.ServFail)
	deliver(craft(t, small, "other", by("other")), "451 4.4.3 DKIM keys of the message cannot be looked up now, try again later (id ID)")
	explained(t, s)
}

// explained holds what the traces say of the messages from outside.
func explained(t *testing.T, s *core.Server) {
	t.Helper()
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, r := range records {
		for _, e := range r.Entries {
			said = append(said, e.Handler+", "+e.Action.String()+": "+e.Reason)
		}
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{
		"dkim_sign, continue: signed for example.org by rsa (rsa-sha256, 2048-bit key) and ed25519 (ed25519-sha256, 256-bit key)",
		"dkim_verify, continue: example.org by ed25519 ed25519-sha256: pass, 256-bit key; example.org by rsa rsa-sha256: pass, 2048-bit key",
		"dkim_verify, reject: example.org by ed25519 ed25519-sha256: fail, the body was changed: its hash is not bh=, 256-bit key; example.org by rsa rsa-sha256: fail",
		"dkim_verify, quarantine: no signature",
		"dkim_verify, defer: example.org by other rsa-sha256: temperror, the key cannot be looked up: ",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no trace says %q in\n%s", want, all)
		}
	}
}
