package quarantine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	gosmtp "github.com/emersion/go-smtp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/deliver"
	_ "github.com/mox-like/mox-like/modules/headers"
	_ "github.com/mox-like/mox-like/modules/imap"
	"github.com/mox-like/mox-like/modules/learn"
	"github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

func init() { core.Register(vouch{}) }

// vouch finds that example.org stands behind what has the subject genuine.
type vouch struct{}

func (vouch) Module() core.Info {
	return core.Info{ID: "handler.vouch", Stages: mail.AtData, New: func() core.Module { return new(vouch) }}
}

func (vouch) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Message.Header.Get("Subject") == "genuine" {
		tx.SetAuthResult(result("dmarc", "pass", "header", "from", "example.org"))
	}
	return mail.Continue("vouched"), nil
}

const server = `
server {
  hostname = "mx.example.test"
}
tls "self_signed" "test" {
  hosts = ["mx.example.test"]
}
domain "example.test" {
  aliases = { "all" = ["alice", "bob"] }
}
domain "example.com" {
  settings "quarantine" {
    to = "junk"
  }
}
listener "smtp" "mx" {
  address = "127.0.0.1:0"
  tls     = "off"
  chain {
    vouch {}
    headers {
      require = "List-Id"
      missing = "quarantine"
    }
    quarantine {}
    deliver {}
  }
}
listener "imap" "imap" {
  address = ["127.0.0.1:0"]
  chain {
    password {}
  }
}
`

// site is a whole server.
type site struct {
	*core.Server
	ops  control.Operations
	mail *mailbox.Service
}

func serve(t *testing.T) *site {
	t.Helper()
	s := coretest.Serve(t, server, coretest.Options{})
	addAccounts(t, s)
	return &site{s, control.NewLocal(s, t.TempDir(), nil), coretest.Service[*mailbox.Service](t, s)}
}

// send sends a message by SMTP and gives its id.
func (s *site) send(t *testing.T, subject string, to ...string) string {
	t.Helper()
	client, err := gosmtp.Dial(coretest.Address(t, s.Server, "mx"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	err = client.SendMail("bounce@example.org", to, strings.NewReader("From: Eve <eve@example.org>\r\nSubject: "+subject+"\r\n\r\nHello.\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	records, err := s.ops.LastTraces(t.Context(), 1)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d traces, %v", len(records), err)
	}
	return records[0].ID
}

// subjects gives those of an account's mailbox, read by IMAP.
func (s *site) subjects(t *testing.T, account, name string) []string {
	t.Helper()
	c, err := imapclient.DialTLS(coretest.Address(t, s.Server, "imap"), &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Login(account, "a long enough password").Wait(); err != nil {
		t.Fatal(err)
	}
	box, err := c.Select(name, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if box.NumMessages == 0 {
		return nil
	}
	var all imap.SeqSet
	all.AddRange(1, box.NumMessages)
	messages, err := c.Fetch(all, &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range messages {
		list = append(list, m.Envelope.Subject)
	}
	return list
}

// TestServer takes messages in by SMTP, works on them as commands do, and reads what
// was released by IMAP.
func TestServer(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.send(t, "one", "all@example.test")
	if a := s.subjects(t, alice, "INBOX"); a != nil {
		t.Fatalf("in INBOX at once: %v", a)
	}
	if j := s.subjects(t, alice, "Junk"); j != nil {
		t.Fatalf("in Junk: %v", j)
	}
	m, err := s.ops.HeldMessage(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if m.Handler != "headers" || !strings.HasPrefix(m.Reason, "the message has no List-Id") || m.Accounts != 2 || m.For[0].Recipient != "all@example.test" {
		t.Errorf("held: %+v", m.Held)
	}
	if !strings.HasPrefix(m.Header, "Return-Path: <bounce@example.org>\r\nReceived: ") {
		t.Errorf("header section %q", m.Header)
	}
	if list, err := s.ops.ReleaseHeld(t.Context(), id, "Alice@example.test"); err != nil || !slices.Equal(list, []string{alice}) {
		t.Fatalf("release: %v, %v", list, err)
	}
	if a, b := s.subjects(t, alice, "INBOX"), s.subjects(t, bob, "INBOX"); !slices.Equal(a, []string{"one"}) || b != nil {
		t.Errorf("INBOX of alice: %v, of bob: %v", a, b)
	}
	records, err := s.ops.LastTraces(t.Context(), 10)
	if err != nil || len(records) == 0 || !slices.Equal(messages(records[0].ID, id), []string{id}) {
		t.Errorf("it was judged again: %d traces, %v", len(records), err)
	}
	done, err := s.ops.AllowHeld(t.Context(), control.AllowAuthor{ID: id, Scope: control.ScopeDomain})
	if err != nil || !slices.Equal(done.Accounts, []string{bob}) || done.Allowed[0].Scope != "example.test" || done.Authenticated != "" {
		t.Fatalf("allow: %+v, %v", done, err)
	}
	forged := s.send(t, "forged", alice)
	s.send(t, "genuine", alice)
	if a := s.subjects(t, alice, "INBOX"); !slices.Equal(a, []string{"one", "genuine"}) {
		t.Errorf("INBOX of alice: %v", a)
	}
	list, _, err := s.ops.Held(t.Context(), control.HeldFilter{User: alice}, control.Page{})
	if err != nil || !slices.Equal(ids(list), []string{forged}) {
		t.Errorf("held: %v, %v", ids(list), err)
	}
	s.send(t, "junk", carol)
	if j := s.subjects(t, carol, "Junk"); !slices.Equal(j, []string{"junk"}) {
		t.Errorf("Junk of carol, whose domain has no quarantine: %v", j)
	}
	s.audited(t, id)
}

// messages gives both, once if they are the same.
func messages(a, b string) []string { return slices.Compact([]string{a, b}) }

// audited holds the trail against what was done.
func (s *site) audited(t *testing.T, id string) {
	t.Helper()
	entries, _, err := s.ops.Audit(t.Context(), control.ChangeFilter{}, control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Operation+" "+e.Object)
	}
	if want := []string{"allow-held " + id, "release-held " + id + " of " + alice}; !slices.Equal(list, want) {
		t.Errorf("the audit trail has %v, want %v", list, want)
	}
}

// TestLearned: what learns is told of a release, by the service in between.
func TestLearned(t *testing.T) {
	t.Parallel()
	s := serve(t)
	told := make(chan string, 10)
	forget := coretest.Service[*learn.Service](t, s).Teach("scanner", func(_ context.Context, account string, spam bool, message io.Reader, _ int64) error {
		raw, err := io.ReadAll(message)
		told <- fmt.Sprintf("%s spam=%v %v", account, spam, strings.Contains(string(raw), "Subject: one\r\n"))
		return err
	})
	defer forget()
	id := s.send(t, "one", bob)
	if _, err := s.ops.ReleaseHeld(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if got, want := <-told, bob+" spam=false true"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestRestart: what was held survives the server, and is released without one.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	options := core.Options{ConfigFile: "test.hcl", Source: []byte(server), DataDir: dir, Logger: zap.NewNop()}
	s := core.NewServer(options)
	if ds, _, err := s.Start(t.Context()); err != nil {
		t.Fatalf("%v\n%v", err, ds.Err())
	}
	addAccounts(t, s)
	id := (&site{s, control.NewLocal(s, dir, nil), nil}).send(t, "one", alice)
	stop(t, s.Stop)
	offline, ds, _, err := core.OpenOffline(t.Context(), options)
	if err != nil {
		t.Fatalf("%v\n%v", err, ds.Err())
	}
	defer func() {
		if err := offline.Close(); err != nil {
			t.Error(err)
		}
	}()
	ops := control.NewLocal(offline, dir, nil)
	content, size, err := ops.HeldContent(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(content)
	if err = errors.Join(err, content.Close()); err != nil || int64(len(raw)) != size || !strings.Contains(string(raw), "\r\nSubject: one\r\n") {
		t.Errorf("content %q, %v", raw, err)
	}
	if _, err := ops.ReleaseHeld(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, coretest.Service[*mailbox.Service](t, offline), alice); !slices.Equal(got, []string{string(raw)}) {
		t.Errorf("INBOX: %q", got)
	}
	if err := coretest.Service[*accounts.Accounts](t, offline).Remove(t.Context(), alice); err != nil {
		t.Error(err)
	}
}

// stop ends a server.
func stop(t *testing.T, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		t.Fatal(err)
	}
}
