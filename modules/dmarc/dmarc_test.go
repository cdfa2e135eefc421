package dmarc

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// kit is the module in a sandbox, with the zone of the tests.
type kit struct {
	*coretest.Clock
	sandbox *core.Sandbox
	service *Service
	dns     *dnstest.Server
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{Clock: coretest.NewClock(start), dns: dnstest.Serve(t, zone)}
	for _, name := range []string{"down.example.com", "down.example", "down.none.example", "down.nowhere.example"} {
		k.dns.Fail("_dmarc."+name, dnstest.ServFail)
	}
	k.sandbox = coretest.New(t, coretest.Options{Source: base(k.dns), Now: k.Now})
	k.service = coretest.Service[*Service](t, k.sandbox)
	return k
}

func (k *kit) load(t *testing.T, settings string) *DMARC {
	t.Helper()
	return coretest.Load[*DMARC](t, k.sandbox, "handler.dmarc", block(settings))
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	const (
		nothing = "spf=none, dkim=none"
		refuses = "550 5.7.26 DMARC: neither SPF nor DKIM shows that this message is from "
		authors = "550 5.7.1 The message has several From fields or authors of several domains: write one From field with one address"
		unknown = "550 5.7.1 It cannot be told whom the message is from: "
	)
	judge := `several_from = "judge"`
	tests := map[string]struct {
		settings, from, results string
		want                    string // action, tags, reply
	}{
		"pass":                      {"", "a@example.com", "spf=pass a@example.com, dkim=none", "continue"},
		"no record":                 {"", "a@nowhere.example", nothing, "continue"},
		"wrong record":              {"", "a@wrong.example", nothing, "continue"},
		"reject":                    {"", "a@example.com", nothing, "reject " + refuses + "example.com, whose policy is reject"},
		"reject in capitals":        {"", "a@EXAMPLE.com", nothing, "reject " + refuses + "example.com, whose policy is reject"},
		"reject as quarantine":      {`reject = "quarantine"`, "a@example.com", nothing, "quarantine"},
		"reject as tag":             {`reject = "tag"`, "a@example.com", nothing, "continue dmarc=fail"},
		"reject as accept":          {`reject = "accept"`, "a@example.com", nothing, "continue"},
		"quarantine":                {"", "a@quarantine.example", nothing, "quarantine"},
		"quarantine as reject":      {`quarantine = "reject"`, "a@quarantine.example", nothing, "reject " + refuses + "quarantine.example, whose policy is quarantine"},
		"none":                      {"", "a@none.example", nothing, "continue"},
		"none as tag":               {`none = "tag"`, "a@none.example", nothing, "continue dmarc=fail"},
		"tested reject":             {"", "a@test.example", nothing, "quarantine"},
		"tested quarantine":         {"", "a@testq.example", nothing, "continue"},
		"override":                  {`override = { "example.com" = "accept" }`, "a@example.com", nothing, "continue"},
		"override above":            {`override = { "Example.COM" = "tag" }`, "a@mail.example.com", nothing, "continue dmarc=fail"},
		"override, the longest":     {`override = { "com" = "reject", "mail.example.com" = "accept" }`, "a@mail.example.com", nothing, "continue"},
		"override of others":        {`override = { "ample.com" = "accept" }`, "a@example.com", nothing, "reject " + refuses + "example.com, whose policy is reject"},
		"override, and pass":        {`override = { "example.com" = "reject" }`, "a@example.com", "spf=pass a@example.com, dkim=none", "continue"},
		"temperror":                 {"", "a@down.example.com", nothing, "defer 451 4.4.3 DMARC policy of down.example.com cannot be evaluated now, try again later"},
		"temperror below":           {"", "a@x.down.example.com", nothing, "defer 451 4.4.3 DMARC policy of x.down.example.com cannot be evaluated now, try again later"},
		"temperror as accept":       {`temperror = "accept"`, "a@down.example.com", nothing, "continue"},
		"temperror of SPF":          {"", "a@example.com", "spf=temperror x@lame.example.com, dkim=none", "defer 451 4.4.3 DMARC policy of example.com cannot be evaluated now, try again later"},
		"temperror of DKIM":         {"", "a@quarantine.example", "spf=none, dkim=temperror quarantine.example", "defer 451 4.4.3 DMARC policy of quarantine.example cannot be evaluated now, try again later"},
		"temperror, unknown":        {"", "a@down.example", nothing, "defer 451 4.4.3 DMARC policy of down.example cannot be evaluated now, try again later"},
		"temperror, none":           {"", "a@none.example", "spf=temperror a@none.example, dkim=none", "continue"},
		"temperror, none, tag":      {`temperror = "tag"`, "a@none.example", "spf=temperror a@none.example, dkim=none", "continue"},
		"temperror below none":      {"", "a@down.none.example", nothing, "continue"},
		"temperror below nothing":   {"", "a@down.nowhere.example", nothing, "continue"},
		"temperror, override":       {`override = { "example.com" = "accept" }`, "a@down.example.com", nothing, "continue"},
		"temperror, other override": {`override = { "none.example" = "reject" }`, "a@none.example", "spf=temperror a@none.example, dkim=none", "defer 451 4.4.3 DMARC policy of none.example cannot be evaluated now, try again later"},
		"temperror as tag":          {`temperror = "tag"`, "a@down.example.com", nothing, "continue dmarc=temperror"},
		"temperror as defer":        {`temperror = "defer"`, "a@down.example.com", nothing, "defer 451 4.4.3 DMARC policy of down.example.com cannot be evaluated now, try again later"},
		"not checked before, tag":   {`temperror = "tag"`, "a@example.com", "", "continue dmarc=temperror"},
		"not checked before":        {"", "a@example.com", "", "continue"},
		"no address":                {"", "nobody", nothing, "reject " + unknown + "the From field has no address"},
		"no address as tag":         {`bad_from = "tag"`, "nobody", nothing, "continue dmarc=permerror"},
		"no address as quarantine":  {`bad_from = "quarantine"`, "nobody", nothing, "quarantine"},
		"two authors":               {"", "a@example.com, b@none.example", nothing, "reject " + authors},
		"two addresses of a domain": {"", "a@none.example, b@none.example", nothing, "continue"},
		"two fields":                {"", "a@none.example\r\nFrom: a@none.example", nothing, "reject " + authors},
		"judge: one fails":          {judge, "a@none.example, b@example.com", nothing, "reject " + refuses + "example.com, whose policy is reject"},
		"judge: only one that passes would be refused": {judge, "a@none.example, b@example.com", "spf=pass a@example.com, dkim=none", "continue"},
		"judge: two fields":                            {judge, "a@none.example\r\nFrom: a@quarantine.example", nothing, "quarantine"},
		"judge: the severest":                          {judge, "a@quarantine.example, b@example.com, c@none.example", nothing, "reject " + refuses + "example.com, whose policy is reject"},
		"judge: nine":                                  {judge, strings.Repeat("a@a.test, ", 8) + "b@b.test, b@c.test, b@d.test, b@e.test, b@f.test, b@g.test, b@h.test, b@i.test", nothing, "reject " + unknown + "the From fields have addresses of more than 8 domains"},
		"organization by the list":                     {`organizational_domain = "public_suffix_list"`, "a@x.b.suffix.test", nothing, "reject " + refuses + "x.b.suffix.test, whose policy is reject"},
		"organization by tree walk":                    {"", "a@x.b.suffix.test", nothing, "quarantine"},
	}
	k := newKit(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(t, tt.from, tt.results)
			v, err := k.load(t, tt.settings).Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(append([]string{v.Action.String()}, tx.Tags()...), " ")
			if v.Reply.Code != 0 {
				got += " " + v.Reply.String()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("verdict for %q (-want +got):\n%s", v.Reason, diff)
			}
		})
	}
}

// TestTrustedSeals has what arc_verify says of trusted sealers save messages.
func TestTrustedSeals(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	h := k.load(t, `override = { "strict.example" = "reject" }`)
	tests := map[string]struct {
		from, arc, properties string
		saved                 bool
	}{
		"saved":                 {"a@example.com", "pass", "policy.trusted=list.test policy.dmarc=pass header.from=example.com", true},
		"saved from quarantine": {"a@quarantine.example", "pass", "policy.trusted=list.test policy.dmarc=pass header.from=Quarantine.example", true},
		"not from an override":  {"a@strict.example", "pass", "policy.trusted=list.test policy.dmarc=pass header.from=strict.example", false},
		"chain does not hold":   {"a@example.com", "fail", "policy.trusted=list.test policy.dmarc=pass header.from=example.com", false},
		"nobody is trusted":     {"a@example.com", "pass", "policy.dmarc=pass header.from=example.com", false},
		"DMARC failed there":    {"a@example.com", "pass", "policy.trusted=list.test policy.dmarc=fail header.from=example.com", false},
		"DMARC was not there":   {"a@example.com", "pass", "policy.trusted=list.test header.from=example.com", false},
		"about another author":  {"a@example.com", "pass", "policy.trusted=list.test policy.dmarc=pass header.from=mail.example.com", false},
		"about nobody":          {"a@example.com", "pass", "policy.trusted=list.test policy.dmarc=pass", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(t, tt.from, "spf=none, dkim=none")
			arc := mail.AuthResult{Method: "arc", Result: tt.arc}
			for text := range strings.FieldsSeq(tt.properties) {
				name, value, _ := strings.Cut(text, "=")
				typ, name, _ := strings.Cut(name, ".")
				arc.Properties = append(arc.Properties, mail.Property{Type: typ, Name: name, Value: value})
			}
			tx.SetAuthResult(arc)
			v, err := h.Handle(t.Context(), tx)
			const why = "ARC saves it: list.test is trusted and has sealed that DMARC passed there; "
			if err != nil || (v.Action == mail.ActionContinue) != tt.saved || strings.HasPrefix(v.Reason, why) != tt.saved {
				t.Errorf("%s, %q, %v", v.Action, v.Reason, err)
			}
			if r, _ := tx.AuthResult("dmarc"); r.Result != resultFail {
				t.Errorf("the result is %s", r.Result)
			}
		})
	}
	tx := transaction(t, "a@example.com", "spf=none, dkim=none")
	tx.SetAuthResult(mail.AuthResult{Method: "arc", Result: "pass", Properties: []mail.Property{
		{Type: "policy", Name: "trusted", Value: "list.test"}, {Type: "policy", Name: "dmarc", Value: "pass"}, {Type: "header", Name: "from", Value: "example.com"},
	}})
	v, err := h.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	h.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageData, Verdict: v})
	if got := k.results(t, "example.com", start); len(got) != 1 || got[0].Disposition != PolicyNone || got[0].Override != OverrideLocal {
		t.Errorf("counted %+v", got)
	}
}

// TestSealSavesTempError has a trusted seal do for a message without an answer what it
// does for one that fails.
func TestSealSavesTempError(t *testing.T) {
	t.Parallel()
	tx := transaction(t, "a@down.example.com", "spf=none, dkim=none")
	tx.SetAuthResult(mail.AuthResult{Method: "arc", Result: "pass", Properties: []mail.Property{
		{Type: "policy", Name: "trusted", Value: "list.test"}, {Type: "policy", Name: "dmarc", Value: "pass"}, {Type: "header", Name: "from", Value: "down.example.com"},
	}})
	if v, err := newKit(t).load(t, "").Handle(t.Context(), tx); err != nil || v.Action != mail.ActionContinue {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestSettingsHaveTheirOwnFindings has two handlers of one chain look for organizations
// each in its way.
func TestSettingsHaveTheirOwnFindings(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	tx := transaction(t, "a@x.b.suffix.test", "spf=none, dkim=none")
	for _, tt := range []struct {
		settings string
		want     mail.Action
	}{{"", mail.ActionQuarantine}, {`organizational_domain = "public_suffix_list"`, mail.ActionReject}, {"", mail.ActionQuarantine}} {
		if v, err := k.load(t, tt.settings).Handle(t.Context(), tx); err != nil || v.Action != tt.want {
			t.Errorf("%q: %+v, %v", tt.settings, v, err)
		}
	}
}

// TestSilentNamesLeaveTimeForThePolicy has names without an answer take no more than
// their share of the time.
func TestSilentNamesLeaveTimeForThePolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		e := evaluation{discovery: discovery{resolver: silentBelow{}}}
		if f := e.judge(ctx, "a.b.lame.example.com"); f.result != resultTempError || f.applied != PolicyReject {
			t.Errorf("%s, policy %q", f.result, f.applied)
		}
	})
}

// silentBelow is a DNS in which example.com alone has an answer.
type silentBelow struct{ resolver }

func (silentBelow) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if name == "_dmarc.example.com" && ctx.Err() == nil {
		return []string{"v=DMARC1; p=reject"}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestUnchecked(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	h := k.load(t, `exempt = ["198.51.100.0/24"]`)
	tests := map[string]struct {
		change func(*mail.Session)
		want   string
	}{
		"logged in":    {func(s *mail.Session) { s.User = "user@example.test" }, "not checked: user@example.test has logged in"},
		"this machine": {func(s *mail.Session) { s.RemoteAddr = netip.MustParseAddrPort("[::ffff:127.0.0.1]:1") }, "not checked: 127.0.0.1 is this machine"},
		"no address":   {func(s *mail.Session) { s.RemoteAddr = netip.AddrPort{} }, "not checked: the client has no IP address"},
		"exempt":       {func(s *mail.Session) { s.RemoteAddr = netip.MustParseAddrPort("198.51.100.9:1") }, "not checked: 198.51.100.9 is in the exempt network 198.51.100.0/24"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(t, "a@example.com", "spf=none, dkim=none")
			tt.change(tx.Session)
			v, err := h.Handle(t.Context(), tx)
			if err != nil || v.Action != mail.ActionContinue || v.Reason != tt.want {
				t.Errorf("%+v, %v; want the reason %q", v, err, tt.want)
			}
			if r, ok := tx.AuthResult("dmarc"); ok {
				t.Errorf("the result %+v was noted", r)
			}
		})
	}
}

func TestAuthResult(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	h := k.load(t, "several_from = \"judge\"\nbad_from = \"accept\"")
	from := func(author string, more ...mail.Property) []mail.Property {
		return append([]mail.Property{{Type: "header", Name: "from", Value: author}}, more...)
	}
	policy := func(p Policy) mail.Property {
		return mail.Property{Type: "policy", Name: "dmarc", Value: string(p)}
	}
	tests := map[string][]mail.AuthResult{
		"a@example.org":            {{Method: "dmarc", Result: "none", Reason: "no record", Properties: from("example.org")}},
		"a@mail.example.com":       {{Method: "dmarc", Result: "pass", Properties: from("mail.example.com", policy(PolicyQuarantine))}},
		"a@test.example, b@x.test": {{Method: "dmarc", Result: "fail", Reason: "p=reject of _dmarc.test.example, quarantine because of t=y; SPF pass for example.com, which is not aligned; DKIM none", Properties: from("test.example", policy(PolicyQuarantine))}, {Method: "dmarc", Result: "none", Reason: "no record", Properties: from("x.test")}},
		"a@":                       {{Method: "dmarc", Result: "permerror", Reason: "the From field has an address without a domain of the DNS"}},
		"a@bücher.example":         {{Method: "dmarc", Result: "none", Reason: "no record", Properties: from("xn--bcher-kva.example")}},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(t, name, "spf=pass a@example.com, dkim=none")
			if _, err := h.Handle(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, tx.AuthResults()[2:]); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidatePlace(t *testing.T) {
	t.Parallel()
	tests := map[string]int{"spf dkim_verify dmarc": 0, "dkim_verify spf dmarc": 0, "spf dmarc dkim_verify": 1, "dkim_verify dmarc spf": 0, "dkim_verify dmarc": 1, "spf dmarc": 1, "dmarc spf dkim_verify": 1, "dmarc": 1}
	for names, want := range tests {
		modules := strings.Fields(names)
		place := strings.Count(names[:strings.Index(names, "dmarc")], " ")
		if got := new(DMARC).ValidatePlace(modules, place); len(got) != want {
			t.Errorf("%s: %+v, want %d problems", names, got, want)
		}
	}
}

// results gives what was counted for a domain on a day.
func (k *kit) results(t *testing.T, domain string, day time.Time) []Result {
	t.Helper()
	if err := k.sandbox.Store().Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := k.service.Results(t.Context(), domain, day)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// send has a message judged and tells the handler how it ended.
func send(t *testing.T, h *DMARC, from, results, note string) {
	t.Helper()
	tx := transaction(t, from, results)
	v, err := h.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	tx.Entries = append(tx.Entries, mail.Entry{Stage: mail.StageData, Handler: "dmarc", Action: v.Action, Note: note})
	h.Observe(t.Context(), tx, mail.Outcome{Stage: mail.StageData, Verdict: v})
}

func TestResultsAreCounted(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.dns.Set(zone + "\n_dmarc.testing.example. TXT \"v=DMARC1; p=reject; t=y; rua=mailto:r@testing.example\"")
	h := k.load(t, `override = { "mail.example.com" = "accept" }`)
	for range 3 {
		send(t, h, "a@example.com", "spf=none, dkim=none", "")
	}
	send(t, h, "a@example.com", "spf=pass a@example.com, dkim=pass example.com", "")
	send(t, h, "a@mail.example.com", "spf=none, dkim=none", "")
	send(t, h, "a@example.com", "spf=none, dkim=none", chain.NoteMonitor)
	send(t, h, "a@example.com", "", "")                                         // temperror
	send(t, h, "a@strict.example", "spf=none, dkim=none", "")                   // wants no reports
	send(t, h, "a@testing.example", "spf=none, dkim=none", "")                  // sampled
	h.Observe(t.Context(), transaction(t, "a@example.com", ""), mail.Outcome{}) // not asked
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	row := func(author string, d Policy, override string, dkim, spf bool, n int64) Result {
		return Result{Day: day, PolicyDomain: "example.com", Author: author, Source: netip.MustParseAddr("192.0.2.1"), Disposition: d, Override: override, DKIM: dkim, SPF: spf, Messages: n}
	}
	want := []Result{
		row("example.com", PolicyNone, OverrideNone, true, true, 1),
		row("example.com", PolicyNone, OverrideLocal, false, false, 1),
		row("example.com", PolicyReject, OverrideNone, false, false, 3),
		row("mail.example.com", PolicyNone, OverrideLocal, false, false, 1),
	}
	if diff := cmp.Diff(want, k.results(t, "example.com", start), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if got := k.results(t, "testing.example", start); len(got) != 1 || got[0].Disposition != PolicyQuarantine || got[0].Override != OverrideTest {
		t.Errorf("results of a domain that tests: %+v", got)
	}
	if got := k.results(t, "strict.example", start); len(got) > 0 {
		t.Errorf("counted for a domain that wants no reports: %+v", got)
	}
	if got := k.results(t, "example.com", start.Add(24*time.Hour)); len(got) > 0 {
		t.Errorf("on the next day: %+v", got)
	}
}

// TestResultsOfADayAreBounded has one domain leave room for others.
func TestResultsOfADayAreBounded(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.dns.Set(zone + "\n_dmarc.other.example. TXT \"v=DMARC1; p=reject; rua=mailto:r@other.example\"")
	k.service.daily = 2
	h := k.load(t, "")
	for _, author := range []string{"a.example.com", "b.example.com", "c.example.com", "a.example.com", "other.example"} {
		send(t, h, "x@"+author, "spf=none, dkim=none", "")
	}
	k.Add(24 * time.Hour)
	send(t, h, "x@c.example.com", "spf=none, dkim=none", "")
	today, other, tomorrow := k.results(t, "example.com", start), k.results(t, "other.example", start), k.results(t, "example.com", k.Now())
	if len(today) != 2 || len(other) != 1 || len(tomorrow) != 1 || k.service.left.Load() != 1 {
		t.Errorf("%d, %d and %d rows, %d left out", len(today), len(other), len(tomorrow), k.service.left.Load())
	}
}

func TestResultsExpireAndAreBounded(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.service.most = 2
	h := k.load(t, "")
	for _, author := range []string{"a.example.com", "b.example.com", "c.example.com", "a.example.com"} {
		send(t, h, "x@"+author, "spf=none, dkim=none", "")
	}
	var messages int64
	list := k.results(t, "example.com", start)
	for _, r := range list {
		messages += r.Messages
	}
	if len(list) != 2 || messages != 3 || k.service.left.Load() != 1 {
		t.Errorf("%d rows of %d messages, %d left out: %+v", len(list), messages, k.service.left.Load(), list)
	}
	sweep := func(at time.Time) (n int) {
		err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) (err error) {
			n, err = k.service.Sweep(tx, at, 100)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := sweep(start.Add(29 * 24 * time.Hour)); n != 0 {
		t.Errorf("%d rows removed after 29 days", n)
	}
	if n := sweep(start.Add(30 * 24 * time.Hour)); n != 2 || k.service.Measure()[0].Value != 0 {
		t.Errorf("%d rows removed after 30 days, %+v", n, k.service.Measure())
	}
}
