package spamassassin

import (
	"context"
	"fmt"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp" // the listener of the test
	"github.com/mox-like/mox-like/test/daemon"
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

// serve runs a server with a handler in front of a target and gives the address
// of its listener.
func serve(t *testing.T, handler string) string {
	t.Helper()
	s := coretest.Serve(t, coretest.Base+`
		listener "smtp" "mx" {
			address = "127.0.0.1:0"
			tls     = "off"
			chain {
				`+handler+`
				swallow {}
			}
		}`, coretest.Options{})
	return coretest.Address(t, s, "mx")
}

// transfer is a dialog that ends with the reply to a message.
func transfer(raw, reply string) string {
	return fmt.Sprintf(`
		<- 220 *
		-> EHLO client.example.org
		<-- 250 SIZE *
		-> MAIL FROM:<alice@example.org>
		<- 250 *
		-> RCPT TO:<user@example.test>
		<- 250 *
		-> DATA
		<- 354 *
		=> %q
		<- %s
		-> QUIT
		<- 221 *
	`, raw+"\r\n.\r\n", reply)
}

func TestServer(t *testing.T) {
	t.Parallel()
	address := serve(t, block(spamd.TCP, `user = "recipient"`))
	coretest.Dialog(t, address, transfer(letter+daemon.GTUBE, "550 5.7.1 Message looks like spam*"))
	coretest.Dialog(t, address, transfer("X-Spam-Flag: YES\r\n"+letter+"Dear user,\r\nhere are the minutes.", "250 2.0.0 OK: kept as ID"))
	lenient := serve(t, block(spamd.TCP, `reject = 0`))
	coretest.Dialog(t, lenient, transfer(letter+daemon.GTUBE, "250 2.0.0 OK: kept as ID"))
}

// TestFaultsInAChain has an SMTP client meet spamds that are in trouble.
func TestFaultsInAChain(t *testing.T) {
	t.Parallel()
	policies := map[string]string{
		"continue": "250 2.0.0 OK: kept as ID",
		"defer":    "451 4.3.0 *",
		"reject":   "550 5.7.1 Refused by local policy*",
	}
	for _, fault := range coretest.Faults {
		for policy, reply := range policies {
			t.Run(string(fault)+"/"+policy, func(t *testing.T) {
				t.Parallel()
				b := coretest.Faulty(t, fault, answerOf("30.0"))
				address := serve(t, block("tcp:"+b.Address, fmt.Sprintf("on_error = %q", policy), `timeout = "1s"`))
				coretest.Dialog(t, address, transfer(letter+"Hello.", reply))
				if fault == coretest.FaultLate { // and well again
					b.Release()
					coretest.Dialog(t, address, transfer(letter+"Hello.", "550 5.7.1 Message looks like spam*"))
				}
			})
		}
	}
}
