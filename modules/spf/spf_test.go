package spf

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// testZone is the DNS of the handler's tests. The client is 192.0.2.1.
func testZone() zone {
	return zone{
		"pass.example.org":                       txt("v=spf1 ip4:192.0.2.0/24 -all"),
		"fail.example.org":                       txt("v=spf1 -all"),
		"explains.example.org":                   txt("v=spf1 -all exp=why.example.org"),
		"why.example.org":                        txt("ask postmaster@%{d} about %{c}, %{l}"),
		"softfail.example.org":                   txt("v=spf1 ~all"),
		"neutral.example.org":                    txt("v=spf1 ?all"),
		"wrong.example.org":                      txt("v=spf1 ip4:192.0.2.300 -all"),
		"silent.example.org":                     {{}},
		"xn--bcher-kva.example":                  txt("v=spf1 exists:%{o}.list.example.org -all"),
		"xn--bcher-kva.example.list.example.org": {{kind: "A", data: "127.0.0.2"}},
	}
}

func load(tb testing.TB, settings string, r resolver) *SPF {
	tb.Helper()
	s := coretest.Load[*SPF](tb, coretest.New(tb, coretest.Options{}), "handler.spf", "spf {\n"+settings+"\n}")
	s.resolver = r
	return s
}

// envelope is what a transaction of a test is made of.
type envelope struct {
	ip, helo, from, user string
	utf8                 bool
}

func (e envelope) transaction(tb testing.TB) *mail.Transaction {
	tb.Helper()
	session := &mail.Session{ID: "session", Helo: e.helo, User: e.user}
	if e.ip != "" {
		session.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(e.ip), 4711)
	}
	tx := mail.NewTransaction("tx", session, time.Unix(1_800_000_000, 0))
	tx.Stage, tx.Envelope.SMTPUTF8 = mail.StageRcpt, e.utf8
	if e.from != "" {
		var err error
		if tx.Envelope.ReversePath, err = mail.ParseAddress(e.from); err != nil {
			tb.Fatal(err)
		}
	}
	return tx
}

func handle(tb testing.TB, s *SPF, tx *mail.Transaction) mail.Verdict {
	tb.Helper()
	v, err := s.Handle(tb.Context(), tx)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// fields gives the fields Received-SPF of the message as it would be stored,
// unfolded, with those that raw has.
func fields(tb testing.TB, tx *mail.Transaction, raw string) []string {
	tb.Helper()
	var err error
	if tx.Message, err = mail.NewMessage([]byte(raw + "\r\n")); err != nil {
		tb.Fatal(err)
	}
	r, err := tx.Rendered()
	if err != nil {
		tb.Fatal(err)
	}
	h, _, err := mail.ParseHeaderSection(r.Head())
	if err != nil {
		tb.Fatal(err)
	}
	var values []string
	for f := range h.All("Received-SPF") {
		values = append(values, f.Value())
	}
	return values
}

func TestActions(t *testing.T) {
	t.Parallel()
	every := `
		fail = "%s"
		softfail = "%s"
		neutral = "%s"
		none = "%s"
		permerror = "%s"
		temperror = "%s"`
	all := func(action string) string { return strings.ReplaceAll(every, "%s", action) }
	tests := map[string]struct {
		settings, from, helo string
		action               mail.Action
		reply, tag           string
	}{
		"pass":                {"", "a@pass.example.org", "", mail.ActionContinue, "", ""},
		"pass, all rejected":  {all("reject"), "a@pass.example.org", "", mail.ActionContinue, "", ""},
		"fail":                {"", "a@fail.example.org", "", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 may not send mail for fail.example.org", ""},
		"fail with reasons":   {"", "a@explains.example.org", "", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 may not send mail for explains.example.org. The domain explains.example.org explains: ask postmaster@explains.example.org about 192.0.2.1, a", ""},
		"softfail":            {"", "a@softfail.example.org", "", mail.ActionContinue, "", "spf=softfail"},
		"neutral":             {"", "a@neutral.example.org", "", mail.ActionContinue, "", ""},
		"none":                {"", "a@none.example.org", "", mail.ActionContinue, "", ""},
		"permerror":           {"", "a@wrong.example.org", "", mail.ActionContinue, "", ""},
		"temperror":           {"", "a@silent.example.org", "", mail.ActionContinue, "", ""},
		"fail accepted":       {all("accept"), "a@fail.example.org", "", mail.ActionContinue, "", ""},
		"fail tagged":         {all("tag"), "a@fail.example.org", "", mail.ActionContinue, "", "spf=fail"},
		"fail quarantined":    {all("quarantine"), "a@fail.example.org", "", mail.ActionQuarantine, "", ""},
		"softfail rejected":   {all("reject"), "a@softfail.example.org", "", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 is not known to send mail for softfail.example.org", ""},
		"neutral rejected":    {all("reject"), "a@neutral.example.org", "", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 is not known to send mail for neutral.example.org", ""},
		"none rejected":       {all("reject"), "a@none.example.org", "", mail.ActionReject, "550 5.7.23 SPF: none.example.org has no record", ""},
		"permerror rejected":  {all("reject"), "a@wrong.example.org", "", mail.ActionReject, `550 5.7.24 SPF: record of wrong.example.org: term "ip4:192.0.2.300": not an address or network`, ""},
		"temperror rejected":  {all("reject"), "a@silent.example.org", "", mail.ActionReject, "550 5.7.24 SPF record of silent.example.org cannot be looked up", ""},
		"temperror deferred":  {`temperror = "defer"`, "a@silent.example.org", "", mail.ActionDefer, "451 4.4.3 SPF record of silent.example.org cannot be looked up now, try again later", ""},
		"U-labels":            {"", "a@bücher.example", "", mail.ActionContinue, "", ""},
		"address literal":     {"", "a@[192.0.2.1]", "", mail.ActionContinue, "", ""},
		"helo fails":          {"", "a@pass.example.org", "fail.example.org", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 may not call itself fail.example.org", ""},
		"helo tagged":         {`helo = "tag"`, "a@pass.example.org", "fail.example.org", mail.ActionContinue, "", "spf_helo=fail"},
		"helo off":            {`helo = "off"`, "a@pass.example.org", "fail.example.org", mail.ActionContinue, "", ""},
		"helo softfails":      {"", "a@pass.example.org", "softfail.example.org", mail.ActionContinue, "", ""},
		"the severest counts": {"fail = \"reject\"\nhelo = \"quarantine\"", "a@fail.example.org", "fail.example.org", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 may not send mail for fail.example.org", ""},
		"null reverse-path":   {"helo = \"off\"", "", "fail.example.org", mail.ActionReject, "550 5.7.23 SPF: 192.0.2.1 may not send mail for fail.example.org", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := load(t, tt.settings, testZone())
			helo := tt.helo
			if helo == "" {
				helo = "mail.example.org"
			}
			tx := envelope{ip: "192.0.2.1", from: tt.from, helo: helo}.transaction(t)
			v := handle(t, s, tx)
			reply := ""
			if v.Reply.Code != 0 {
				reply = v.Reply.String()
			}
			if v.Action != tt.action || reply != tt.reply {
				t.Errorf("verdict %s %q, want %s %q", v.Action, reply, tt.action, tt.reply)
			}
			if tag := strings.Join(tx.Tags(), " "); tag != tt.tag {
				t.Errorf("tags %q, want %q", tag, tt.tag)
			}
			if !strings.Contains(v.Reason, "MAIL "+tx.AuthResults()[0].Properties[0].Value+": ") {
				t.Errorf("reason %q does not name the reverse-path", v.Reason)
			}
		})
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	z := testZone()
	z["terse.example.org"] = txt("v=spf1 ip4:203.0.113.1")
	z["away.example.org"] = txt("v=spf1 redirect=fail.example.org")
	const wrong = `HELO wrong.example.org: permerror for 192.0.2.1, record of wrong.example.org: term "ip4:192.0.2.300": not an address or network`
	for from, want := range map[string]string{
		"a@fail.example.org":  `MAIL a@fail.example.org: fail for 192.0.2.1 by -all of fail.example.org, whose record is "v=spf1 -all"; ` + wrong,
		"a@away.example.org":  `MAIL a@away.example.org: fail for 192.0.2.1 by -all of fail.example.org, whose record is "v=spf1 -all"; ` + wrong,
		"a@terse.example.org": `MAIL a@terse.example.org: neutral for 192.0.2.1, no mechanism of terse.example.org matches, whose record is "v=spf1 ip4:203.0.113.1"; ` + wrong,
		"a@none.example.com":  `MAIL a@none.example.com: none for 192.0.2.1, none.example.com has no SPF record; ` + wrong,
		"a@host":              `MAIL a@host: none for 192.0.2.1, "host" is no domain with a record; ` + wrong,
	} {
		tx := envelope{ip: "192.0.2.1", from: from, helo: "wrong.example.org"}.transaction(t)
		if v := handle(t, load(t, "", z), tx); v.Reason != want {
			t.Errorf("reason %q, want %q", v.Reason, want)
		}
	}
}

func TestUnchecked(t *testing.T) {
	t.Parallel()
	s := load(t, `exempt = ["198.51.100.0/24", "2001:db8:1::/48"]`, testZone())
	for name, e := range map[string]envelope{
		"logged in":          {ip: "192.0.2.1", user: "alice@example.test"},
		"loopback":           {ip: "127.0.0.1"},
		"loopback, mapped":   {ip: "::ffff:127.0.0.1"},
		"loopback, IPv6":     {ip: "::1"},
		"unix socket":        {},
		"exempt":             {ip: "198.51.100.7"},
		"exempt, mapped":     {ip: "::ffff:198.51.100.7"},
		"exempt, IPv6":       {ip: "2001:db8:1::25"},
		"exempt, with zone":  {ip: "2001:db8:1::25%eth0"},
		"logged in, no peer": {user: "alice@example.test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e.from, e.helo = "a@fail.example.org", "fail.example.org"
			tx := e.transaction(t)
			if v := handle(t, s, tx); v.Action != mail.ActionContinue || !strings.HasPrefix(v.Reason, "not checked: ") {
				t.Errorf("verdict %+v", v)
			}
			if _, ok := tx.AuthResult("spf"); ok || len(fields(t, tx, "")) > 0 {
				t.Error("there is a result")
			}
		})
	}
}

func TestMappedAddress(t *testing.T) {
	t.Parallel()
	tx := envelope{ip: "::ffff:192.0.2.1", from: "a@pass.example.org", helo: "mail.example.org"}.transaction(t)
	handle(t, load(t, "", testZone()), tx)
	if r, _ := tx.AuthResult("spf"); r.Result != "pass" {
		t.Errorf("result %+v for a mapped address in the network", r)
	}
}

func TestAuthResults(t *testing.T) {
	t.Parallel()
	smtp := func(result Result, name, value, reason string) mail.AuthResult {
		return mail.AuthResult{Method: "spf", Result: string(result), Reason: reason, Properties: []mail.Property{{Type: "smtp", Name: name, Value: value}}}
	}
	wrong := `record of wrong.example.org: term "ip4:192.0.2.300": not an address or network`
	tests := map[string]struct {
		settings, from, helo string
		want                 []mail.AuthResult
	}{
		"both": {"", "a@pass.example.org", "fail.example.org", []mail.AuthResult{
			smtp(Pass, "mailfrom", "a@pass.example.org", ""), smtp(Fail, "helo", "fail.example.org", ""),
		}},
		"helo is off": {`helo = "off"`, "a@wrong.example.org", "fail.example.org", []mail.AuthResult{
			smtp(PermError, "mailfrom", "a@wrong.example.org", wrong),
		}},
		"null reverse-path": {"", "", "softfail.example.org", []mail.AuthResult{
			smtp(SoftFail, "mailfrom", "postmaster@softfail.example.org", ""), smtp(SoftFail, "helo", "softfail.example.org", ""),
		}},
		"helo is no name": {"", "a@pass.example.org", "a\x00b\xff", []mail.AuthResult{
			smtp(Pass, "mailfrom", "a@pass.example.org", ""), smtp(None, "helo", "a?b?", ""),
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := envelope{ip: "192.0.2.1", from: tt.from, helo: tt.helo}.transaction(t)
			handle(t, load(t, tt.settings, testZone()), tx)
			if diff := cmp.Diff(tt.want, tx.AuthResults()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReceivedSPF(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		envelope envelope
		want     string
	}{
		"pass": {
			envelope{from: "a@pass.example.org", helo: "mail.example.org"},
			"pass (mx.example.test: domain of a@pass.example.org designates 192.0.2.1 as permitted sender)\treceiver=mx.example.test; identity=mailfrom; client-ip=192.0.2.1;" +
				"\tenvelope-from=\"a@pass.example.org\";\thelo=mail.example.org;\tmechanism=\"ip4:192.0.2.0/24\"",
		},
		"IPv6": {
			envelope{ip: "2001:db8::1", from: "a@fail.example.org", helo: "mail.example.org"},
			"fail (mx.example.test: domain of a@fail.example.org does not designate 2001:db8::1 as permitted sender)\treceiver=mx.example.test; identity=mailfrom; client-ip=\"2001:db8::1\";" +
				"\tenvelope-from=\"a@fail.example.org\";\thelo=mail.example.org;\tmechanism=-all",
		},
		"hostile": {
			envelope{from: `"a) pass (\" ;helo=x"@none.example.org`, helo: "x) (\r\nSubject: y; \"\\\x1b"},
			`none (mx.example.test: domain of "a\) pass \(\\" ;helo=x"@none.example.org has no policy for 192.0.2.1)` +
				"\treceiver=mx.example.test; identity=mailfrom; client-ip=192.0.2.1;" +
				"\t" + `envelope-from="\"a) pass (\\\" ;helo=x\"@none.example.org";` + "\t" + `helo="x) (??Subject: y; \"\\?"`,
		},
		"problem": {
			envelope{from: "a@wrong.example.org", helo: "[192.0.2.1]"},
			"permerror (mx.example.test: policy of the domain of a@wrong.example.org cannot be evaluated for 192.0.2.1)\treceiver=mx.example.test; identity=mailfrom; client-ip=192.0.2.1;" +
				"\tenvelope-from=\"a@wrong.example.org\";\thelo=\"[192.0.2.1]\";\tproblem=\"record of wrong.example.org: term \\\"ip4:192.0.2.300\\\": not an address or network\"",
		},
		"UTF-8": {
			envelope{from: "ü@pass.example.org", helo: "bücher.example", utf8: true},
			"pass (mx.example.test: domain of ü@pass.example.org designates 192.0.2.1 as permitted sender)\treceiver=mx.example.test; identity=mailfrom; client-ip=192.0.2.1;" +
				"\tenvelope-from=\"ü@pass.example.org\";\thelo=xn--bcher-kva.example;\tmechanism=\"ip4:192.0.2.0/24\"",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.envelope.ip == "" {
				tt.envelope.ip = "192.0.2.1"
			}
			tx := tt.envelope.transaction(t)
			s := load(t, "", testZone())
			for range 3 { // one for each recipient
				handle(t, s, tx)
			}
			got := fields(t, tx, "Received-SPF: pass (mx.example.net: earlier)\r\n")
			if len(got) != 2 || got[1] != "pass (mx.example.net: earlier)" {
				t.Fatalf("fields %q", got)
			}
			if diff := cmp.Diff(tt.want, got[0]); diff != "" {
				t.Errorf("field (-want +got):\n%s", diff)
			}
		})
	}
}

// counting counts the look-ups of TXT records.
type counting struct {
	zone
	asked []string
}

func (c *counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.asked = append(c.asked, name)
	return c.zone.LookupTXT(ctx, name)
}

// TestOnceATransaction judges one finding by the settings of several domains.
func TestOnceATransaction(t *testing.T) {
	t.Parallel()
	r := &counting{zone: testZone()}
	strict, mild := load(t, "", r), load(t, "fail = \"tag\"\nhelo = \"off\"", r)
	tx := envelope{ip: "192.0.2.1", from: "a@fail.example.org", helo: "mail.example.org"}.transaction(t)
	if v := handle(t, mild, tx); v.Action != mail.ActionContinue {
		t.Errorf("the mild domain says %+v", v)
	}
	for range 3 {
		if v := handle(t, strict, tx.Fork()); v.Action != mail.ActionReject {
			t.Errorf("the strict domain says %+v", v)
		}
	}
	if diff := cmp.Diff([]string{"fail.example.org", "mail.example.org"}, r.asked); diff != "" {
		t.Errorf("look-ups (-want +got):\n%s", diff)
	}
}

// hanging is a DNS that answers nothing before ctx ends.
type hanging struct{ zone }

func (hanging) LookupTXT(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	s := load(t, `temperror = "defer"`, hanging{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the time is up"))
	v, err := s.Handle(ctx, envelope{ip: "192.0.2.1", from: "a@pass.example.org", helo: "mail.example.org"}.transaction(t))
	if err != nil || v.Action != mail.ActionDefer {
		t.Errorf("verdict %+v, %v", v, err)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, source := range []string{`fail = "defer"`, `softfail = "drop"`, `helo = "defer"`, `exempt = ["192.0.2.1/33"]`} {
		_, err := coretest.New(t, coretest.Options{}).Load(t.Context(), "handler.spf", "spf {\n"+source+"\n}")
		name, _, _ := strings.Cut(source, " ")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", source, err)
		}
	}
}
