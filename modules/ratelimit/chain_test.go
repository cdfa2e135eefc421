package ratelimit

import (
	"context"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp"
)

func init() { core.Register(swallow{}) }

// swallow is a target for every recipient but those at example.test that begin
// with no.
type swallow struct{}

func (swallow) Module() core.Info {
	return core.Info{
		ID: "handler.swallow", Stages: mail.AtRcpt | mail.AtData, Target: true,
		New: func() core.Module { return new(swallow) },
	}
}

func (swallow) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage == mail.StageRcpt && tx.Recipient.Address.LocalPart[:2] == "no" {
		return mail.Reject(mail.NewReply(550, 1, 1, "No such user"), "nobody has this address"), nil
	}
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept("swallowed"), nil
}

// serve runs a server with handlers in front of a target.
func serve(t *testing.T, c *coretest.Clock, handlers string) string {
	t.Helper()
	s := coretest.Serve(t, coretest.Base+`
		listener "smtp" "mx" {
			address = "127.0.0.1:0"
			tls     = "off"
			chain {
				`+handlers+`
				swallow {}
			}
		}`, coretest.Options{Now: c.Now})
	return coretest.Address(t, s, "mx")
}

const hello = `
	<- 220 *
	-> EHLO client.example.org
	<-- 250 SIZE *
`

const sent = `
	-> MAIL FROM:<sender@example.org>
	<- 250 *
	-> RCPT TO:<user@example.test>
	<- 250 *
	-> DATA
	<- 354 *
	=> "Message-ID: <1@example.org>\r\n\r\nhi\r\n.\r\n"
	<- 250 *
`

// atSlice gives a clock at the beginning of a slice of a window, so that the
// seconds to wait are certain.
func atSlice(window time.Duration) *coretest.Clock {
	c := coretest.NewClock(start)
	slice := int64(window+numSlices-2) / (numSlices - 1)
	c.Add(time.Duration(slice - start.UnixNano()%slice))
	return c
}

// TestBursts has clients send too much, and again when they were told to.
func TestBursts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ handler, first, second, later string }{
		"connections": {
			"key = \"ip\"\nlimit = \"1/7m\"",
			hello, "<- 421 4.7.0 Too many connections, try again in 480 seconds (id ID)\nEOF", hello,
		},
		"messages": {
			"key = \"from\"\nlimit = \"2/7m\"",
			hello + sent + sent, hello + "-> MAIL FROM:<Sender@example.org>\n<- 450 4.7.1 Too many messages, try again in 480 seconds (id ID)\n" +
				"-> MAIL FROM:<other@example.org>\n<- 250 *", hello + sent,
		},
		"messages, disconnected": {
			"key = \"from\"\nlimit = \"2/7m\"\naction = \"disconnect\"",
			hello + sent + sent, hello + "-> MAIL FROM:<sender@example.org>\n<- 421 4.7.0 Too many messages, try again in 480 seconds (id ID)\nEOF", hello + sent,
		},
		"recipients": {
			"key = \"ip\"\ncount = \"recipients\"\nlimit = \"2/7m\"",
			hello + sent + sent, hello + "-> MAIL FROM:<a@example.org>\n<- 250 *\n-> RCPT TO:<user@example.test>\n<- 450 4.7.1 Too many recipients, try again in 480 seconds (id ID)", hello + sent,
		},
		"bytes": {
			"key = \"ip\"\nlimit = \"2KiB/7m\"",
			hello + sent + sent, hello + "-> MAIL FROM:<a@example.org> SIZE=100\n<- 450 4.7.1 Too much mail, try again in 480 seconds (id ID)", hello + sent,
		},
		"dictionary": {
			"key = \"ip\"\ncount = \"failed\"\nlimit = \"2/7m\"",
			hello + "-> MAIL FROM:<a@example.org>\n<- 250 *\n-> RCPT TO:<nobody@example.test>\n<- 550 *\n-> RCPT TO:<nothing@example.test>\n<- 550 *\n-> RCPT TO:<user@example.test>\n<- 450 *",
			hello + "-> MAIL FROM:<a@example.org>\n<- 250 *\n-> RCPT TO:<user@example.test>\n<- 450 4.7.1 Too many refused recipients, try again in 480 seconds (id ID)", hello + sent,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := atSlice(7 * time.Minute)
			address := serve(t, c, "ratelimit {\n"+test.handler+"\n}")
			coretest.Dialog(t, address, test.first)
			coretest.Dialog(t, address, test.second)
			c.Add(480 * time.Second)
			coretest.Dialog(t, address, test.later)
		})
	}
}

// TestMonitor finds that in mode monitor everything passes.
func TestMonitor(t *testing.T) {
	t.Parallel()
	address := serve(t, coretest.NewClock(start), "ratelimit {\nkey = \"ip\"\nlimit = \"1/1h\"\nmode = \"monitor\"\nstage = \"mail\"\n}")
	coretest.Dialog(t, address, hello+sent+sent+sent)
}
