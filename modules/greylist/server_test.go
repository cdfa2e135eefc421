package greylist

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp" // the listener of the test
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
domain "example.com" {
  settings "greylist" {
    delay = "10m"
  }
}
listener "smtp" "mx" {
  address = "127.0.0.1:0"
  tls     = "off"
  chain {
    greylist {}
    swallow {}
  }
}
`

// TestServer sends a message to a whole server, and again as a queue does.
func TestServer(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	s := coretest.Serve(t, server, coretest.Options{Now: c.Now})
	address := coretest.Address(t, s, "mx")
	deliver := func(to string) error {
		t.Helper()
		client, err := gosmtp.Dial(address)
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		defer func() { _ = client.Close() }()
		return client.SendMail("bob@example.org", []string{to}, strings.NewReader("Subject: hi\r\n\r\nhi\r\n"))
	}
	refused := func(to, text string) {
		t.Helper()
		var reply *gosmtp.SMTPError
		if err := deliver(to); !errors.As(err, &reply) {
			t.Fatalf("%s: %v, want it to be deferred", to, err)
		}
		want := regexp.MustCompile(`^` + text + ` \(id [0-9a-z]{18}\)$`)
		if reply.Code != 451 || reply.EnhancedCode != (gosmtp.EnhancedCode{4, 7, 1}) || !want.MatchString(reply.Message) {
			t.Errorf("%s: %d %v %q, want 451 4.7.1 %s", to, reply.Code, reply.EnhancedCode, reply.Message, want)
		}
	}
	refused("alice@example.test", "Greylisted, try again in 300 seconds")
	refused("alice@example.com", "Greylisted, try again in 600 seconds")
	c.Add(2 * time.Minute)
	refused("alice@example.test", "Greylisted, try again in 180 seconds")
	c.Add(3 * time.Minute)
	if err := deliver("alice@example.test"); err != nil {
		t.Errorf("retry after the delay: %v", err)
	}
	refused("alice@example.com", "Greylisted, try again in 300 seconds")
	c.Add(5 * time.Minute)
	if err := deliver("alice@example.com"); err != nil {
		t.Errorf("retry after the delay of the domain: %v", err)
	}
	records, err := s.Traces().Last(t.Context(), 1)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d traces, %v", len(records), err)
	}
	const want = "bob@example.org from 127.0.0.0/24 to alice@example.com passes: retry 2 came 10m after the first attempt of 2026-11-01 12:00:00 UTC, the delay is 10m"
	found := false
	for _, e := range records[0].Entries {
		found = found || e.Handler == "greylist" && e.Reason == want
	}
	if !found {
		t.Errorf("no entry of the trace says %q: %+v", want, records[0].Entries)
	}
}
