package smtp

import (
	"context"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

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

const server = `
server {
  hostname = "mx.example.test"
}
domain "example.test" {}
listener "smtp" "mx" {
  address = "127.0.0.1:0"
  tls     = "off"
  chain {
    swallow {}
  }
}
`

// TestServer runs the listener in a whole server, against a client that is not of
// this project.
func TestServer(t *testing.T) {
	t.Parallel()
	s := coretest.Serve(t, server, coretest.Options{})
	address := coretest.Address(t, s, "mx")
	c, err := gosmtp.Dial(address)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Hello("client.example.org"); err != nil {
		t.Fatalf("greet: %v", err)
	}
	large := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10_000) // more than the spool keeps in memory
	for _, body := range []string{"hi\r\n", large} {
		message := "Message-ID: <1@example.org>\r\n\r\n" + body
		if err := c.SendMail("bob@example.org", []string{"alice@example.test", "bert@example.test"}, strings.NewReader(message)); err != nil {
			t.Fatalf("send: %v", err)
		}
	}
	if err := c.Quit(); err != nil {
		t.Errorf("quit: %v", err)
	}
	records, err := s.Traces().Last(t.Context(), 10)
	if err != nil {
		t.Fatalf("read traces: %v", err)
	}
	want := &trace.Record{
		Kind: trace.KindMessage, Protocol: "smtp", Listener: "mx", RemoteIP: "127.0.0.1", Helo: "client.example.org",
		ReversePath: "bob@example.org", Recipients: []string{"alice@example.test", "bert@example.test"},
		MessageID: "<1@example.org>", Size: int64(len(large) + 31),
	}
	if len(records) != 2 {
		t.Fatalf("%d traces, want 2", len(records))
	}
	got := records[0]
	got.ID, got.Session, got.Time, got.Duration, got.Entries, got.Outcome = "", "", time.Time{}, 0, nil, trace.Outcome{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}

// TestReload pins that a session goes on over a reload, that a message in it is
// finished, and that the next one is asked to come again.
func TestReload(t *testing.T) {
	t.Parallel()
	s := coretest.Serve(t, server, coretest.Options{})
	k := &kit{address: coretest.Address(t, s, "mx")}
	conn := k.dial(t)
	coretest.Talk(t, conn, hello+envelope)
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatalf("reload: %v %v", err, ds.Err())
	}
	coretest.Talk(t, conn, message+`
		<- 250 *
		<- 421 4.3.2 Closing the connection, please connect again (id ID)
		EOF
	`)
	k.dialog(t, hello+envelope)
}

// TestBadConfiguration pins where a mistake is shown.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	for replaced, want := range map[string]string{
		`tls     = "implicit"`:                         `tls = "implicit" needs a certificate, and the file has none`,
		"tls = \"off\"\nauth = \"required\"":           `auth = "required" needs TLS, which is off`,
		"tls = \"off\"\nmax_message_size = \"1KB\"":    "max_message_size",
		"tls = \"off\"\nlimits { errors = 0 }":         "errors",
		"tls = \"off\"\nproxy_protocol { from = [1] }": "from",
		"tls = \"off\"\nmax_recipient = 5":             "max_recipients",
	} {
		source := strings.Replace(server, `tls     = "off"`, replaced, 1)
		ds, _ := core.Validate(core.Options{ConfigFile: "test.hcl", Source: []byte(source)})
		var text strings.Builder
		for _, d := range ds {
			text.WriteString(d.Summary + " " + d.Detail + "\n")
		}
		if !ds.HasErrors() || !strings.Contains(text.String(), want) {
			t.Errorf("%s: got %q, want %q", replaced, text.String(), want)
		}
	}
}
