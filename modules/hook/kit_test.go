package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp"
)

// TestMain finds goroutines and processes that are left at the end.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		var status syscall.WaitStatus
		if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
			fmt.Fprintf(os.Stderr, "a process is left: %d, %v\n", pid, err)
			code = 1
		}
		os.Exit(code)
	}))
}

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
func transfer(reply string) string {
	return `
		<- 220 *
		-> EHLO client.example.org
		<-- 250 SIZE *
		-> MAIL FROM:<sender@example.org>
		<- 250 *
		-> RCPT TO:<user@example.test>
		<- 250 *
		-> DATA
		<- 354 *
		=> "Message-ID: <1@example.org>\r\n\r\nhi\r\n.\r\n"
		<- ` + reply + `
		-> QUIT
		<- 221 *
	`
}

// policies are what each value of on_error makes of an error at the data stage.
var policies = map[string]string{
	"continue": "250 2.0.0 OK: kept as ID",
	"defer":    "451 4.3.0 *",
	"reject":   "550 5.7.1 Refused by local policy*",
}

// hurried is a context whose time seems to be up, so that nobody waits for others.
type hurried struct{ context.Context } //nolint:containedctx // it is one

func (hurried) Deadline() (time.Time, bool) { return time.Now(), true }

// script writes a shell script. No process is started meanwhile, since it would
// have the file open for writing, and the system does not run such files.
func script(tb testing.TB, text string) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "judge")
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return name
}

// blockOf writes a handler's block; each setting is an attribute of HCL.
func blockOf(handler string, settings ...string) string {
	return handler + " {\n" + strings.Join(settings, "\n") + "\n}"
}
