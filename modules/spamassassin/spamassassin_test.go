package spamassassin

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/backend"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// newHandler gives a handler with the defaults, but for what set changes.
func newHandler(address backend.Address, set func(*SpamAssassin)) *SpamAssassin {
	s := &SpamAssassin{
		Address: address, Tag: 5, Quarantine: 5, Reject: 10, Weight: 1, MaxSize: 512_000, TooLarge: "accept",
		MaxConnections: 5, ConnectTimeout: 5 * time.Second, name: "spamassassin", now: time.Now,
	}
	if set != nil {
		set(s)
	}
	s.client = &client{address: address, gate: newGate(s.MaxConnections), connectTimeout: s.ConnectTimeout}
	return s
}

// letter is a message with nothing to complain of.
const letter = "From: Alice <alice@example.org>\r\nTo: user@example.test\r\nSubject: The minutes of our meeting\r\n" +
	"Date: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <20261101120000.4711.alice@example.org>\r\n\r\n"

func newTransaction(tb testing.TB, raw string) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, mail.StageData, 1)
	message, err := mail.NewMessage([]byte(raw))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = message
	return tx
}

// header gives the header section of the message as it would be stored.
func header(tb testing.TB, tx *mail.Transaction) mail.HeaderSection {
	tb.Helper()
	r, err := tx.Rendered()
	if err != nil {
		tb.Fatal(err)
	}
	h, _, err := mail.ParseHeaderSection(r.Head())
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func TestSpamdJudges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		raw    string
		action mail.Action
		flag   string
		rule   string
	}{
		"spam":            {letter + daemon.GTUBE + "\r\n", mail.ActionReject, "YES", "GTUBE"},
		"spam far behind": {letter + strings.Repeat("Some words of a letter.\r\n", 2000) + daemon.GTUBE + "\r\n", mail.ActionReject, "YES", "GTUBE"},
		"ham":             {letter + "Dear colleagues,\r\nhere are the minutes.\r\n", mail.ActionContinue, "NO", "NO_RECEIVED"},
		"empty":           {"", mail.ActionContinue, "NO", "MISSING_HEADERS"},
	}
	for _, address := range []backend.Address{spamd.Unix, spamd.TCP} {
		for name, test := range tests {
			t.Run(address.Network+"/"+name, func(t *testing.T) {
				t.Parallel()
				tx := newTransaction(t, test.raw)
				// An empty message lacks so much that it has several points.
				s := newHandler(address, func(s *SpamAssassin) { s.Tag, s.Quarantine, s.Reject = 20, 20, 30 })
				got, err := s.Handle(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				if got.Action != test.action || !strings.Contains(got.Reason, test.rule) {
					t.Errorf("verdict %s, %q; want %s and the rule %s", got.Action, got.Reason, test.action, test.rule)
				}
				h := header(t, tx)
				if flag := h.Get(fieldFlag); flag != test.flag {
					t.Errorf("%s is %q, want %q", fieldFlag, flag, test.flag)
				}
				if status := h.Get(fieldStatus); !strings.Contains(status, test.rule+"=") {
					t.Errorf("%s is %q, without %s", fieldStatus, status, test.rule)
				}
				if score := h.Get(fieldScore); score != fmt.Sprintf("%.1f", tx.Score()) {
					t.Errorf("%s is %q, the transaction's score %g", fieldScore, score, tx.Score())
				}
			})
		}
	}
}

// answerOf is what a spamd says that gives a score.
func answerOf(score string, rules ...string) string {
	report := "Content preview: ---- ------- ----\r\n9.9 FORGED text of the message\r\n\r\nContent analysis details:\n\n pts rule name              description\n" +
		"---- ---------------------- --------------------------------------------------\n" + strings.Join(rules, "\n") + "\n\n"
	return fmt.Sprintf("SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: False ; %s / 6.5\r\n\r\n%s", len(report), score, report)
}

func TestThresholds(t *testing.T) {
	t.Parallel()
	rejects := mail.NewReply(550, 7, 1, "Message looks like spam")
	tests := map[string]struct {
		score                   string
		tag, quarantine, reject float64
		action                  mail.Action
		flag, because           string
	}{
		"nothing":              {"4.9", 5, 7, 10, mail.ActionContinue, "NO", "below all thresholds"},
		"tag":                  {"5.0", 5, 7, 10, mail.ActionContinue, "YES", "tag from 5"},
		"just below":           {"6.9", 5, 7, 10, mail.ActionContinue, "YES", "tag from 5"},
		"quarantine":           {"7.0", 5, 7, 10, mail.ActionQuarantine, "YES", "quarantine from 7"},
		"reject":               {"10.0", 5, 7, 10, mail.ActionReject, "YES", "reject from 10"},
		"far beyond":           {"1004.2", 5, 7, 10, mail.ActionReject, "YES", "reject from 10"},
		"negative":             {"-101.9", 5, 7, 10, mail.ActionContinue, "NO", "below all thresholds"},
		"less than nothing":    {"-0.0", 5, 7, 10, mail.ActionContinue, "NO", "score 0, below"},
		"no tag":               {"6.0", 0, 7, 10, mail.ActionContinue, "NO", "below all thresholds"},
		"no tag, quarantine":   {"7.5", 0, 7, 10, mail.ActionQuarantine, "YES", "quarantine from 7"},
		"no quarantine":        {"9.9", 5, 0, 10, mail.ActionContinue, "YES", "tag from 5"},
		"no reject":            {"99", 5, 7, 0, mail.ActionQuarantine, "YES", "quarantine from 7"},
		"nothing is a setting": {"99", 0, 0, 0, mail.ActionContinue, "NO", "below all thresholds"},
		"all at once":          {"5", 5, 5, 5, mail.ActionReject, "YES", "reject from 5"},
		"fraction":             {"5.25", 5.25, 5.5, 6, mail.ActionContinue, "YES", "tag from 5.25"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newHandler(fake(t, respond(answerOf(test.score))), func(s *SpamAssassin) {
				s.Tag, s.Quarantine, s.Reject, s.Weight = test.tag, test.quarantine, test.reject, 0
			})
			tx := newTransaction(t, letter)
			got, err := s.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if got.Action != test.action || !strings.Contains(got.Reason, test.because) {
				t.Errorf("verdict %s, %q; want %s, %q", got.Action, got.Reason, test.action, test.because)
			}
			if (got.Action == mail.ActionReject) != (got.Reply == rejects) {
				t.Errorf("reply %v", got.Reply)
			}
			if flag := header(t, tx).Get(fieldFlag); flag != test.flag {
				t.Errorf("%s is %q, want %q", fieldFlag, flag, test.flag)
			}
			if tagged := len(tx.Tags()) > 0; tagged != (test.flag == "YES") {
				t.Errorf("tags %q", tx.Tags())
			}
			if tx.Score() != 0 {
				t.Errorf("with weight 0 the transaction's score is %g", tx.Score())
			}
		})
	}
}

func TestFieldsAreOurs(t *testing.T) {
	t.Parallel()
	raw := "x-spam-flag: NO\r\nX-Spam-Status: No, score=-100\r\n\ttests=FORGED\r\nX-Spam: no\r\nX-Spam-Anything: forged\r\n" +
		"X-Spam-Flag: NO\r\nX-Spammer: stays\r\nX-Spamd-Bar: stays\r\n\r\nHello.\r\n"
	rules := []string{" 7.1 FIRST_RULE              BODY: A description that", "                            9.9 GOES on", "-0.1 GOOD_RULE              Good"}
	for i := range 12 {
		rules = append(rules, fmt.Sprintf(" 0.%d A_RULE_OF_MANY_%d          Other", i%10, i))
	}
	tx := newTransaction(t, raw)
	tx.AddHeaderField(fieldFlag, "of another handler")
	got, err := newHandler(fake(t, respond(answerOf("7.0", rules...))), nil).Handle(t.Context(), tx)
	if err != nil || got.Action != mail.ActionQuarantine {
		t.Fatalf("verdict %v, %v", got, err)
	}
	var fields []string
	for _, f := range header(t, tx).Fields {
		if !strings.HasPrefix(f.Name, "X-Mox") {
			fields = append(fields, string(f.Raw))
		}
	}
	want := []string{
		"X-Spam-Flag: YES\r\n",
		"X-Spam-Score: 7.0\r\n",
		"X-Spam-Status: Yes, score=7.0 required=5.0\r\n" +
			"\ttests=FIRST_RULE=7.1,A_RULE_OF_MANY_9=0.9,A_RULE_OF_MANY_8=0.8,\r\n" +
			"\tA_RULE_OF_MANY_7=0.7,A_RULE_OF_MANY_6=0.6,A_RULE_OF_MANY_5=0.5,\r\n" +
			"\tA_RULE_OF_MANY_4=0.4,A_RULE_OF_MANY_3=0.3,A_RULE_OF_MANY_2=0.2,\r\n" +
			"\tA_RULE_OF_MANY_1=0.1,A_RULE_OF_MANY_11=0.1,GOOD_RULE=-0.1,\r\n" +
			"\tA_RULE_OF_MANY_0=0,A_RULE_OF_MANY_10=0\r\n",
		"X-Spammer: stays\r\n",
		"X-Spamd-Bar: stays\r\n",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("header fields (-want +got):\n%s", diff)
	}
	if tx.Score() != 7 {
		t.Errorf("the transaction's score is %g, want 7", tx.Score())
	}
}

func TestManyForgedFields(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 1900 {
		fmt.Fprintf(&b, "X-Spam-%d: forged\r\n", i)
	}
	got, err := newHandler(backend.Address{Network: "tcp", Name: "127.0.0.1:1"}, nil).Handle(t.Context(), newTransaction(t, b.String()+letter))
	if err != nil || got.Action != mail.ActionReject || got.Reply.Code != 550 {
		t.Errorf("verdict %+v, %v; want a rejection before spamd is asked", got, err)
	}
}

func TestReasonIsBounded(t *testing.T) {
	t.Parallel()
	var rules []string
	for i := range 300 {
		rules = append(rules, fmt.Sprintf(" 0.1 A_RULE_WITH_A_LONG_NAME_%d  Other", i))
	}
	got, err := newHandler(fake(t, respond(answerOf("30.0", rules...))), nil).Handle(t.Context(), newTransaction(t, letter))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Reason) > 512 || !strings.Contains(got.Reason, "A_RULE_WITH_A_LONG_NAME_0 0.1") || !strings.Contains(got.Reason, "rules more; in ") {
		t.Errorf("reason of %d bytes: %q", len(got.Reason), got.Reason)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		action mail.Action
		code   int
		tags   []string
	}{
		"accept":     {mail.ActionContinue, 0, nil},
		"tag":        {mail.ActionContinue, 0, []string{"spamassassin=too-large"}},
		"quarantine": {mail.ActionQuarantine, 0, nil},
		"reject":     {mail.ActionReject, 552, nil},
		"defer":      {mail.ActionDefer, 452, nil},
	}
	for setting, want := range tests {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			s := newHandler(backend.Address{Network: "tcp", Name: "127.0.0.1:1"}, func(s *SpamAssassin) { s.MaxSize, s.TooLarge = 1000, setting })
			tx := newTransaction(t, "X-Spam-Status: No, score=-100\r\n"+letter+strings.Repeat("x", 1000))
			got, err := s.Handle(t.Context(), tx)
			if err != nil || got.Action != want.action || got.Reply.Code != want.code || !strings.HasPrefix(got.Reason, "not judged: ") {
				t.Errorf("verdict %+v, %v; want %+v", got, err, want)
			}
			if status := header(t, tx).Get(fieldStatus); status != "No, Not scanned (too large)" {
				t.Errorf("%s is %q", fieldStatus, status)
			}
			if diff := cmp.Diff(want.tags, tx.Tags()); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newHandler(spamd.Unix, func(s *SpamAssassin) { s.MaxConnections = 2 })
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			raw, want := letter+fmt.Sprintf("This is letter %d.\r\n", i), mail.ActionContinue
			if i%3 == 0 {
				raw, want = letter+daemon.GTUBE+"\r\n", mail.ActionReject
			}
			got, err := s.Handle(t.Context(), newTransaction(t, raw))
			if err != nil || got.Action != want {
				t.Errorf("message %d: %s, %v; want %s", i, got.Action, err, want)
			}
		})
	}
	wg.Wait()
}

func TestUser(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		setting    string
		recipients []string
		want       string
	}{
		"none":                {"", []string{"alice@example.test"}, ""},
		"a name":              {"filter", []string{"alice@example.test", "bob@example.org"}, "filter"},
		"recipient":           {"recipient", []string{"Alice+tag@example.test"}, "alice@example.test"},
		"recipient, twice":    {"recipient", []string{"alice+a@example.test", "ALICE@example.test"}, "alice@example.test"},
		"recipients":          {"recipient", []string{"alice@example.test", "bob@example.test"}, ""},
		"domain":              {"domain", []string{"alice@example.test", "bob@example.test"}, "example.test"},
		"domains":             {"domain", []string{"alice@example.test", "bob@example.org"}, ""},
		"foreign letters":     {"domain", []string{"alice@bücher.example"}, "xn--bcher-kva.example"},
		"foreign local part":  {"recipient", []string{"älice@example.test"}, ""},
		"way out of a folder": {"recipient", []string{`"../../root"@example.test`}, ""},
		"dots":                {"recipient", []string{`"a..b"@example.test`}, ""},
		"spaces":              {"recipient", []string{`"a b"@example.test`}, ""},
		"an option":           {"recipient", []string{"-a@example.test"}, ""},
		"address literal":     {"domain", []string{"alice@[192.0.2.1]"}, ""},
		"no domain":           {"recipient", []string{"postmaster"}, ""},
	}
	for name, test := range tests {
		var recipients []*mail.Recipient
		for _, text := range test.recipients {
			address, err := mail.ParseAddress(text)
			if err != nil {
				t.Fatal(err)
			}
			recipients = append(recipients, &mail.Recipient{Address: address})
		}
		if got := (&SpamAssassin{User: test.setting}).user(recipients); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestMessageAsItIsSent(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	address := fake(t, recorded(asked, answerOf("0.0")))
	s := newHandler(address, func(s *SpamAssassin) { s.User = "domain" })
	tx := newTransaction(t, "X-Spam-Flag: NO\r\n"+letter+"Hello.\r\n")
	tx.AddFieldBelow("Received", "from client.example.org by mx.example.test")
	if _, err := s.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	body := "Return-Path: <" + tx.Envelope.ReversePath.String() + ">\r\nReceived: from client.example.org by mx.example.test\r\n" + letter + "Hello.\r\n"
	want := fmt.Sprintf("REPORT SPAMC/1.5\r\nContent-length: %d\r\nUser: example.test\r\n\r\n%s", len(body), body)
	if diff := cmp.Diff(want, <-asked); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestSettingsFromTheFile(t *testing.T) {
	t.Parallel()
	kit := coretest.New(t, coretest.Options{})
	s := coretest.Load[*SpamAssassin](t, kit, "handler.spamassassin", fmt.Sprintf("spamassassin {\n address = %q\n}", spamd.Unix))
	got := *s
	got.client, got.now, got.log, got.name = nil, nil, nil, ""
	want := SpamAssassin{
		Address: spamd.Unix, Tag: 5, Quarantine: 5, Reject: 10, Weight: 1, MaxSize: 512_000, TooLarge: "accept",
		MaxConnections: 5, ConnectTimeout: 5 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(SpamAssassin{}, backend.Address{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	other := coretest.Load[*SpamAssassin](t, kit, "handler.spamassassin", fmt.Sprintf("spamassassin \"again\" {\n address = %q\n reject = 20\n}", spamd.Unix))
	if other.client.gate != s.client.gate {
		t.Error("two handlers of one spamd do not share its connections")
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"unix:/run/spamd.sock": true, "unix:spamd.sock": true, "tcp:127.0.0.1:783": true, "tcp:[::1]:783": true, "tcp:spamd.example.test:1": true,
		"": false, "unix:": false, "/run/spamd.sock": false, "127.0.0.1:783": false, "tcp:127.0.0.1": false, "tcp::783": false,
		"tcp:127.0.0.1:": false, "udp:127.0.0.1:783": false,
	}
	for text, good := range tests {
		var a backend.Address
		if err := a.UnmarshalText([]byte(text)); (err == nil) != good {
			t.Errorf("%q: error %v", text, err)
		}
		if good && a.String() != text {
			t.Errorf("%q comes back as %q", text, a)
		}
	}
}

func BenchmarkReport4KB(b *testing.B) {
	raw := letter + strings.Repeat("Some text of a line in a message.\r\n", 118)
	s := newHandler(spamd.Unix, nil)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Handle(b.Context(), newTransaction(b, raw)); err != nil {
			b.Fatal(err)
		}
	}
}
