package dmarc

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/smtp" // the listener of the test
	_ "github.com/mox-like/mox-like/modules/spf"  // what is judged by
)

func init() {
	core.Register(unsigned{})
	core.Register(swallow{})
}

// unsigned says of every message that it has no signature.
type unsigned struct{}

func (unsigned) Module() core.Info {
	return core.Info{ID: "handler.dkim_verify", Stages: mail.AtData, New: func() core.Module { return new(unsigned) }}
}

func (unsigned) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	tx.SetAuthResult(mail.AuthResult{Method: "dkim", Result: "none"})
	return mail.Continue("no signature"), nil
}

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

// TestServer sends honest and forged messages to a whole server.
func TestServer(t *testing.T) {
	t.Parallel()
	d := dnstest.Serve(t, `
example.org. TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc.example.org. TXT "v=DMARC1; p=reject; rua=mailto:r@example.org"
_dmarc.bank.test. TXT "v=DMARC1; p=reject; rua=mailto:r@bank.test"
`)
	s := coretest.Serve(t, base(d)+`
		listener "smtp" "mx" {
			address = "127.0.0.1:0"
			tls     = "off"
			proxy_protocol {
				from = ["127.0.0.1"]
			}
			chain {
				spf {}
				dkim_verify {}
				dmarc {}
				swallow {}
			}
		}
		listener "smtp" "watched" {
			address = "127.0.0.1:0"
			tls     = "off"
			proxy_protocol {
				from = ["127.0.0.1"]
			}
			chain {
				spf {}
				dkim_verify {}
				dmarc "watch" {
					mode = "monitor"
				}
				swallow {}
			}
		}`, coretest.Options{Now: coretest.NewClock(start).Now})
	message := func(from string) string {
		return "-> MAIL FROM:<joe@example.org>\n<- 250 *\n-> RCPT TO:<user@example.test>\n<- 250 *\n-> DATA\n<- 354 *\n-> From: " +
			strings.ReplaceAll(from, "\n", "\n-> ") + "\n-> Subject: hi\n-> \n-> hi\n-> .\n"
	}
	coretest.Dialog(t, coretest.Address(t, s, "mx"), "-> PROXY TCP4 192.0.2.1 203.0.113.25 4711 25\n<- 220 *\n-> EHLO mail.example.org\n<-- 250 *\n"+
		message("Joe <joe@example.org>")+"<-- 250 2.*\n"+
		message(`"Your bank" <service@bank.test>`)+"<-- 550 5.7.26 DMARC: neither SPF nor DKIM shows that this message is from bank.test, whose policy is reject (id ID)\n"+
		message("Joe <joe@example.org>\nFrom: service@bank.test")+"<-- 550 5.7.1 The message has several From fields or authors of several domains*\n"+
		message(`"joe@example.org" <x@sub.bank.test>`)+"<-- 550 5.7.26 DMARC: neither SPF nor DKIM shows that this message is from sub.bank.test, whose policy is reject (id ID)\n"+
		"-> QUIT\n<- 221 *")
	coretest.Dialog(t, coretest.Address(t, s, "watched"), "-> PROXY TCP4 192.0.2.1 203.0.113.25 4711 25\n<- 220 *\n-> EHLO mail.example.org\n<-- 250 *\n"+
		message("service@bank.test")+"<-- 250 2.*\n-> QUIT\n<- 221 *")
	records, err := s.Traces().Last(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	reasons := ""
	for _, r := range records {
		for _, e := range r.Entries {
			reasons += e.Reason + "\n"
		}
	}
	for _, want := range []string{
		"example.org: pass, p=reject of _dmarc.example.org; SPF pass for example.org",
		"bank.test: fail, p=reject of _dmarc.bank.test; SPF pass for example.org, which is not aligned; DKIM none",
		"sub.bank.test: fail, p=reject of _dmarc.bank.test",
	} {
		if !strings.Contains(reasons, want) {
			t.Errorf("no trace says %q: %s", want, reasons)
		}
	}
	service := coretest.Service[*Service](t, s)
	if err := service.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := service.Results(t.Context(), "bank.test", start)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		got = append(got, strings.TrimSpace(strings.Join([]string{r.Author, string(r.Disposition), r.Override}, " ")))
	}
	if diff := cmp.Diff([]string{"bank.test none local_policy", "bank.test reject", "sub.bank.test reject"}, got); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}
