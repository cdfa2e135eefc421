package milter

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	wire "github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/authres"
	_ "github.com/mox-like/mox-like/modules/dkim"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

func init() { core.Register(keep{}) }

// keep is a target that takes what goes to this server's domains, and keeps it in the
// log of the test that a field Subject names.
type keep struct{}

// keptMessage is one that keep was given.
type keptMessage struct {
	from       string
	to         []string
	text       string
	quarantine string
}

var kept sync.Map // subject to keptMessage

func (keep) Module() core.Info {
	return core.Info{
		ID: "handler.keep", Stages: mail.AtRcpt | mail.AtData, Target: true,
		New: func() core.Module { return new(keep) },
	}
}

func (keep) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage == mail.StageRcpt {
		if d := tx.Recipient.Address.Domain; d != "example.test" && d != "example.org" {
			return mail.Continue("not here"), nil
		}
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
	k := keptMessage{from: tx.Envelope.ReversePath.String(), text: string(raw), quarantine: tx.Quarantined()}
	for _, to := range tx.Envelope.Recipients {
		k.to = append(k.to, to.Address.String())
		to.Delivered = true
	}
	kept.Store(tx.Message.Header.Get("Subject"), k)
	return mail.Accept("kept"), nil
}

// take gives the message that was kept under a subject.
func take(t *testing.T, subject string) keptMessage {
	t.Helper()
	k, ok := kept.LoadAndDelete(subject)
	if !ok {
		t.Fatalf("no message %q came", subject)
	}
	return k.(keptMessage)
}

// dialog sends a message without dots at the beginning of a line.
func dialog(to, content, answer string) string {
	return fmt.Sprintf(`
		<- 220 *
		-> EHLO client.example.net
		<-- 250 *
		-> MAIL FROM:<alice@example.org>
		<- 250 *
		-> RCPT TO:<%s>
		<- 250 *
		-> DATA
		<- 354 *
		=> %q
		<- %s
		-> QUIT
		<- 221 *
	`, to, content+".\r\n", answer)
}

// filter is a milter by package go-milter that changes all that it can.
type filter struct {
	wire.NoOpMilter
	end func(*wire.Modifier) (wire.Response, error)
}

func (f filter) Body(m *wire.Modifier) (wire.Response, error) { return f.end(m) }

// serveFilter runs a milter of package go-milter.
func serveFilter(t *testing.T, end func(*wire.Modifier) (wire.Response, error)) backend.Address {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "m.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &wire.Server{NewMilter: func() wire.Milter { return filter{end: end} }, Actions: offeredActions &^ wire.OptSetSymList}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends when the listener is closed
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return backend.Address{Network: "unix", Name: l.Addr().String()}
}

// shortDir is a folder whose name is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "milter") //nolint:usetesting // the name of a test would make the path too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

const secret = "correct horse battery staple"

// newKey makes a key, in a file, and its record.
func newKey(t *testing.T, name string) (file, record string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	return file, fmt.Sprintf("%q %q", text[:200], text[200:])
}

// TestServe: behind a milter that replaces body, subject, reverse-path and recipients,
// dkim_sign signs and the target keeps what it has made; and who verifies it agrees.
func TestServe(t *testing.T) {
	t.Parallel()
	file, record := newKey(t, "key.pem")
	names := dnstest.Serve(t, "$ORIGIN example.org.\nmilter._domainkey TXT "+record+"\n")
	const body = "A body of the milter's.\r\n\r\n.\r\nEnd.\r\n"
	at := serveFilter(t, func(m *wire.Modifier) (wire.Response, error) {
		for _, err := range []error{
			m.AddHeader("X-Filtered", "yes"), m.ChangeHeader(1, "Subject", "signed behind"), m.InsertHeader(1, "X-Below", "Received"),
			m.ChangeFrom("<other@example.org>"), m.DeleteRecipient("user@example.test"), m.AddRecipient("bob@example.test"), m.AddRecipient("eve@example.com"),
			m.ReplaceBody([]byte(body[:10])), m.ReplaceBody([]byte(body[10:])), m.Quarantine("to be looked at"),
		} {
			if err != nil {
				return nil, err
			}
		}
		return wire.RespAccept, nil
	})
	s := coretest.Serve(t, fmt.Sprintf(`
		server {
		  hostname = "mx.example.org"
		}
		dns {
		  servers = [%q]
		}
		tls "self_signed" {}
		domain "example.org" {
		  dkim {
		    selector = "milter"
		    key_file = %q
		  }
		}
		listener "smtp" "submission" {
		  address = "127.0.0.1:0"
		  tls     = "implicit"
		  auth    = "required"
		  chain {
		    password {}
		    %s
		    dkim_sign {}
		    keep {}
		  }
		}
		listener "smtp" "mx" {
		  address = "127.0.0.1:0"
		  tls     = "off"
		  chain {
		    dkim_verify {
		      fail = "reject"
		      none = "reject"
		    }
		    keep {}
		  }
		}
	`, names.Addr(), file, block(at)), coretest.Options{})
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
	login := "\t\t-> AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice@example.org\x00"+secret)) + "\n\t\t<- 235 *\n\t\t-> MAIL FROM"
	content := "From: Alice <alice@example.org>\r\nSubject: as it came\r\nDate: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nThe body that came.\r\n"
	coretest.Talk(t, conn, strings.Replace(dialog("user@example.test", content, "250 *"), "\t\t-> MAIL FROM", login, 1))
	k := take(t, "signed behind")
	if diff := cmp.Diff([]string{"bob@example.test"}, k.to); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
	if k.from != "other@example.org" || k.quarantine != "it has put the message into quarantine: to be looked at; it accepts at end of message; it adds X-Filtered, it changes Subject 1, it inserts X-Below at 1, "+
		"it changes the reverse-path to <other@example.org>, it deletes the recipient user@example.test, it adds the recipient bob@example.test, it adds the recipient eve@example.com, it replaces the body, 21 bytes by 36"+duration(k.quarantine) {
		t.Errorf("from %s, quarantine %q", k.from, k.quarantine)
	}
	if !strings.HasPrefix(k.text, "DKIM-Signature: ") || !strings.HasSuffix(k.text, "X-Filtered: yes\r\n\r\n"+body) {
		t.Errorf("kept:\n%s", k.text)
	}
	coretest.Dialog(t, coretest.Address(t, s, "mx"), dialog("user@example.org", strings.ReplaceAll(k.text, "\r\n.", "\r\n.."), "250 *"))
	coretest.Dialog(t, coretest.Address(t, s, "mx"), dialog("user@example.org", strings.ReplaceAll(k.text, "\r\n.", "\r\n..")+"More.\r\n", "550 5.7.20 *"))
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range records {
		for _, e := range r.Entries {
			found = found || e.Recipient == "eve@example.com" && strings.Contains(e.Reason, "which no target takes")
		}
	}
	if !found {
		t.Error("no trace says that the message does not go to eve@example.com")
	}
}

// duration gives the end of a reason.
func duration(reason string) string { return reason[strings.LastIndex(reason, ", in "):] }
