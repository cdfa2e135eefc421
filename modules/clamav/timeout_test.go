package clamav

import (
	"context"
	"fmt"
	"strings"
	"testing"

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

// transfer is a dialog that ends with the reply to a message for a domain.
func transfer(domain, reply string) string {
	return fmt.Sprintf(`
		<- 220 *
		-> EHLO client.example.org
		<-- 250 SIZE *
		-> MAIL FROM:<alice@example.org>
		<- 250 *
		-> RCPT TO:<user@%s>
		<- 250 *
		-> DATA
		<- 354 *
		=> %q
		<- %s
		-> QUIT
		<- 221 *
	`, domain, "Subject: Hello\r\n\r\nHello.\r\n.\r\n", reply)
}

// TestBrokenAndHanging has a setting of its own for each, which a domain can tune.
func TestBrokenAndHanging(t *testing.T) {
	t.Parallel()
	const passed, deferred, rejected = "250 2.0.0 OK: kept as ID", "451 4.3.0 *", "550 5.7.1 Refused by local policy*"
	tests := map[string]struct {
		settings        string
		broken, hanging string
	}{
		"neither":       {"", passed, passed},
		"broken":        {`on_error = "defer"`, deferred, deferred},
		"hanging":       {`on_timeout = "reject"`, passed, rejected},
		"both":          {"on_error = \"reject\"\non_timeout = \"defer\"", rejected, deferred},
		"hanging alone": {"on_error = \"defer\"\non_timeout = \"continue\"", deferred, passed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener := func(name string, fault coretest.Fault) string {
				return fmt.Sprintf("listener \"smtp\" %q {\naddress = \"127.0.0.1:0\"\ntls = \"off\"\nchain {\nclamav {\naddress = \"tcp:%s\"\ntimeout = \"200ms\"\n%s\n}\nswallow {}\n}\n}\n",
					name, coretest.Faulty(t, fault, "").Address, tt.settings)
			}
			s := coretest.Serve(t, coretest.Base+listener("broken", coretest.FaultRefused)+listener("hanging", coretest.FaultHanging)+
				"domain \"tuned.test\" {\nsettings \"clamav\" {\non_error = \"defer\"\non_timeout = \"reject\"\n}\n}\n", coretest.Options{})
			for range 7 { // the last of them while it rests
				coretest.Dialog(t, coretest.Address(t, s, "broken"), transfer("example.test", tt.broken))
				coretest.Dialog(t, coretest.Address(t, s, "hanging"), transfer("example.test", tt.hanging))
			}
			coretest.Dialog(t, coretest.Address(t, s, "broken"), transfer("tuned.test", deferred))
			coretest.Dialog(t, coretest.Address(t, s, "hanging"), transfer("tuned.test", rejected))
		})
	}
}

// TestMistakesInOnTimeout points at the attribute.
func TestMistakesInOnTimeout(t *testing.T) {
	t.Parallel()
	source := coretest.Base + "listener \"smtp\" \"mx\" {\naddress = \"127.0.0.1:0\"\ntls = \"off\"\nchain {\nclamav {\naddress = \"tcp:127.0.0.1:1\"\non_timeout = \"tag\"\n}\nswallow {\non_timeout = \"continue\"\n}\n}\n}\n"
	ds, _ := core.Validate(core.Options{ConfigFile: "test.hcl", Source: []byte(source), DataDir: t.TempDir()})
	var got strings.Builder
	for _, d := range ds {
		fmt.Fprintf(&got, "%s at %q\n", d.Code, strings.Split(source, "\n")[d.Range.Start.Line-1])
	}
	for _, want := range []string{"config/bad-value at \"on_timeout = \\\"tag\\\"\"\n", "chain/target-error at \"on_timeout = \\\"continue\\\"\"\n"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("the diagnostics are\n%swant %s", got.String(), want)
		}
	}
}
