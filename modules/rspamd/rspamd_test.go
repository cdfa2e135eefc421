package rspamd

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/mail"
)

// TestActions has the real rspamd say each of its actions.
func TestActions(t *testing.T) {
	t.Parallel()
	action := func(name, message string) string {
		return letter("X-Test-Action: " + name + "\r\nX-Test-Message: " + message + "\r\n")
	}
	own := func(r *Rspamd) { r.QuarantineScore, r.RejectScore = 45, 75 }
	tests := map[string]struct {
		raw    string
		set    func(*Rspamd)
		action mail.Action
		reply  string
		flag   string
		tags   []string
		reason string
	}{
		"clean":              {letter(""), nil, mail.ActionContinue, "", "NO", nil, "rspamd says no action, score "},
		"empty":              {"", nil, mail.ActionContinue, "", "", nil, "MISSING_DATE 1"},
		"gtube":              {header + "\r\n" + gtube("X"), nil, mail.ActionReject, "550 5.7.1 Gtube pattern", "YES", []string{"rspamd=spam"}, "rspamd says reject (Gtube pattern), score 15 of 15"},
		"large":              {letter("X-Test-Score: 20\r\n") + strings.Repeat("Some words of a letter.\r\n", 8000), nil, mail.ActionReject, "550 5.7.1 Message looks like spam", "YES", []string{"rspamd=spam"}, "reject"},
		"reject":             {action("reject", ""), nil, mail.ActionReject, "550 5.7.1 Message looks like spam", "YES", []string{"rspamd=spam"}, "rspamd says reject, score"},
		"by score":           {letter("X-Test-Score: 20.25\r\n"), nil, mail.ActionReject, "550 5.7.1 Message looks like spam", "YES", []string{"rspamd=spam"}, "TEST_SCORE 20.25 [option one, option two]"},
		"to Junk":            {action("reject", ""), func(r *Rspamd) { r.Reject = "quarantine" }, mail.ActionQuarantine, "", "YES", []string{"rspamd=spam"}, "quarantined by reject"},
		"to tag":             {action("reject", ""), func(r *Rspamd) { r.Reject = "tag" }, mail.ActionContinue, "", "YES", []string{"rspamd=spam"}, "tagged by reject"},
		"field":              {header + "\r\n" + gtube("Y"), nil, mail.ActionContinue, "", "YES", []string{"rspamd=spam"}, "rspamd says add header"},
		"scored":             {letter("X-Test-Score: 9\r\n"), nil, mail.ActionContinue, "", "YES", []string{"rspamd=spam"}, "rspamd says add header, score"},
		"field off":          {action("add header", "x"), func(r *Rspamd) { r.AddHeader = "quarantine" }, mail.ActionQuarantine, "", "YES", []string{"rspamd=spam"}, "quarantined by add_header"},
		"soft":               {action("soft reject", "Come back in <5> minutes"), nil, mail.ActionDefer, "451 4.7.1 Come back in <5> minutes", "NO", nil, "rspamd says soft reject (Come back"},
		"soft, bare":         {action("soft reject", ""), nil, mail.ActionDefer, "451 4.7.1 Try again later", "NO", nil, "soft reject"},
		"greylist":           {action("greylist", ""), nil, mail.ActionContinue, "", "NO", []string{"rspamd=greylist"}, "rspamd says greylist, score"},
		"greylist, deferred": {action("greylist", ""), func(r *Rspamd) { r.Greylist = "defer" }, mail.ActionDefer, "451 4.7.1 Try again later", "NO", []string{"rspamd=greylist"}, "rspamd says greylist"},
		"quarantine":         {letter("X-Test-Action: reject\r\nX-Test-Milter: {\"reject\": \"quarantine\"}\r\n"), nil, mail.ActionQuarantine, "", "YES", []string{"rspamd=spam"}, "as a module of rspamd's wants"},
		"discard":            {letter("X-Test-Action: reject\r\nX-Test-Milter: {\"reject\": \"discard\"}\r\n"), nil, mail.ActionDiscard, "", "YES", []string{"rspamd=spam"}, "as a module of rspamd's wants"},
		"own score":          {letter("X-Test-Score: 50\r\nX-Test-Action: greylist\r\n"), own, mail.ActionQuarantine, "", "YES", []string{"rspamd=spam", "rspamd=greylist"}, "quarantined by quarantine_score, 45"},
		"own rejection":      {letter("X-Test-Score: 80\r\nX-Test-Action: soft reject\r\n"), own, mail.ActionReject, "550 5.7.1 Message looks like spam", "YES", []string{"rspamd=spam"}, "rejected by reject_score, 75"},
		"below own":          {letter("X-Test-Score: 30\r\nX-Test-Action: no action\r\n"), own, mail.ActionContinue, "", "NO", nil, "no action"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, address := range []backend.Address{rspamd.TCP, rspamd.Unix} {
				tx := newTransaction(t, test.raw)
				got, err := newHandler(t, address, test.set).Handle(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				reply := ""
				if got.Reply != (mail.Reply{}) {
					reply = got.Reply.String()
				}
				if got.Action != test.action || reply != test.reply || !strings.Contains(got.Reason, test.reason) {
					t.Errorf("verdict %s %q, %q; want %s %q, %q", got.Action, reply, got.Reason, test.action, test.reply, test.reason)
				}
				h := fieldsOf(t, tx)
				if flag := h.Get(fieldFlag); test.flag != "" && flag != test.flag {
					t.Errorf("%s is %q, want %q", fieldFlag, flag, test.flag)
				}
				if score := h.Get(fieldScore); score != fmt.Sprintf("%.1f", tx.Score()) {
					t.Errorf("%s is %q, the transaction's score %g", fieldScore, score, tx.Score())
				}
				if diff := cmp.Diff(test.tags, tx.Tags()); diff != "" && test.flag != "" {
					t.Errorf("tags (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("words that go on ", 20)
	tests := map[string]struct{ subject, want string }{
		"plain":  {"The minutes", "*** SPAM *** The minutes"},
		"coded":  {"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "=?UTF-8?Q?=2A=2A=2A_SPAM_=2A=2A=2A_Gr=C3=BC=C3=9Fe?="},
		"breaks": {"=?utf-8?q?a=0D=0AX-Forged:_yes?=", "*** SPAM *** a X-Forged: yes"},
		"long":   {long, "*** SPAM *** " + strings.TrimSpace(long)},
		"none":   {"", "*** SPAM ***"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := "Subject: " + test.subject + "\r\nFrom: alice@example.org\r\nSubject: Another\r\n\r\n" + gtube("Z")
			tx := newTransaction(t, raw)
			got, err := newHandler(t, rspamd.TCP, nil).Handle(t.Context(), tx)
			if err != nil || got.Action != mail.ActionContinue {
				t.Fatalf("verdict %+v, %v", got, err)
			}
			h := fieldsOf(t, tx)
			if subject := h.Get("Subject"); subject != test.want || h.Count("Subject") != 1 || h.Count("X-Forged") != 0 {
				t.Errorf("subject %q, want %q; of %d fields", subject, test.want, h.Count("Subject"))
			}
			for f := range h.All("Subject") {
				for line := range strings.Lines(string(f.Raw)) {
					if len(line) > 80 {
						t.Errorf("a line of %d bytes: %q", len(line), line)
					}
				}
			}
			// Without rewrite_subject the message is marked only.
			tx = newTransaction(t, raw)
			if _, err := newHandler(t, rspamd.TCP, func(r *Rspamd) { r.RewriteSubject = false }).Handle(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			if h := fieldsOf(t, tx); h.Count("Subject") != 2 || h.Get(fieldSpam) != "Yes" {
				t.Errorf("the subject was touched, or there is no mark: %v", h)
			}
		})
	}
}

// TestRequest has rspamd tell what it was told.
func TestRequest(t *testing.T) {
	t.Parallel()
	ask := func(t *testing.T, change func(*mail.Transaction)) string {
		t.Helper()
		tx := newTransaction(t, letter("X-Test-Request: 1\r\n"))
		change(tx)
		got, err := newHandler(t, rspamd.Unix, nil).Handle(t.Context(), tx)
		if err != nil || got.Action != mail.ActionContinue {
			t.Fatalf("verdict %+v, %v", got, err)
		}
		return fieldsOf(t, tx).Get("X-Test-Request-Seen")
	}
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		got := ask(t, func(tx *mail.Transaction) {
			tx.SetAuthResult(mail.AuthResult{Method: "iprev", Result: "pass", Reason: "client.example.org"})
			tx.Session.User = "alice@example.test"
			tx.Session.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
			tx.Envelope.Recipients[0].Accounts = []string{"owner@example.test"}
		})
		want := "ip=192.0.2.1; helo=client.example.org; hostname=client.example.org; from=sender1@example.org; rcpts=1; rcpt=user@example.test; " +
			"user=alice@example.test; principal=owner@example.test; queue=message1; Tls-Version=TLSv1.3; Tls-Cipher=TLS_AES_128_GCM_SHA256; " +
			"Mta-Name=mx.example.test; Flags=nil"
		if got != want {
			t.Errorf("rspamd was told\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("little", func(t *testing.T) {
		t.Parallel()
		got := ask(t, func(tx *mail.Transaction) {
			tx.SetAuthResult(mail.AuthResult{Method: "iprev", Result: "fail", Reason: "client.example.org"})
			tx.Envelope.ReversePath = mail.Address{}
			tx.Session.Helo = "a\r\nUser: forged@example.test\x00\xff"
			tx.Trial = true
			second := mail.Address{LocalPart: "b c", Domain: "example.test"}
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{Address: second})
		})
		want := "ip=192.0.2.1; helo=a??User: forged@example.test??; hostname=nil; from=; rcpts=2; rcpt=user@example.test; rcpt=b c@example.test; " +
			"user=nil; principal=user@example.test; queue=message1; Tls-Version=nil; Tls-Cipher=nil; Mta-Name=mx.example.test; Flags=no_log,no_stat"
		if got != want {
			t.Errorf("rspamd was told\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("much", func(t *testing.T) {
		t.Parallel()
		// More recipients than rspamd takes in the fields of a request.
		got := ask(t, func(tx *mail.Transaction) {
			tx.Session.Helo = strings.Repeat("h", 5000)
			for i := range 1000 {
				long := fmt.Sprintf("%s%d", strings.Repeat("r", 60), i)
				tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{
					Address: mail.Address{LocalPart: long, Domain: strings.Repeat(strings.Repeat("d", 60)+".", 3) + "test"},
				})
			}
		})
		if !strings.Contains(got, "helo="+strings.Repeat("h", 512)+";") || !strings.Contains(got, "rcpts=195;") {
			t.Errorf("rspamd was told %s", got)
		}
	})
}

func TestFieldsAreOurs(t *testing.T) {
	t.Parallel()
	raw := letter("x-spam-flag: NO\r\nX-Spam-Status: No, score=-100\r\n\ttests=FORGED\r\nX-Spam: no\r\nX-Spam-Anything: forged\r\n" +
		"X-Rspamd-Action: no action\r\nX-Spamd-Result: forged\r\nX-Spam-Flag: NO\r\nX-Spammer: stays\r\nX-Test-Score: 7\r\n")
	tx := newTransaction(t, raw)
	tx.AddHeaderField(fieldFlag, "of another handler")
	if _, err := newHandler(t, rspamd.TCP, nil).Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, f := range fieldsOf(t, tx).Fields {
		if strings.HasPrefix(f.Name, "X-Spam") || strings.HasPrefix(f.Name, "X-Rspamd") {
			fields = append(fields, string(f.Raw))
		}
	}
	score := fmt.Sprintf("%.1f", tx.Score())
	want := []string{"X-Spam: Yes\r\n", "X-Spam-Flag: YES\r\n", "X-Spam-Score: " + score + "\r\n", "", "X-Spammer: stays\r\n"}
	if len(fields) == len(want) {
		if status := fields[3]; !strings.HasPrefix(status, "X-Spam-Status: Yes, score="+score+"\r\n\ttests=TEST_SCORE=7,") {
			t.Errorf("status %q", status)
		}
		want[3] = fields[3]
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("header fields (-want +got):\n%s", diff)
	}
}

func TestManyForgedFields(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 1900 {
		fmt.Fprintf(&b, "X-Spamd-%d: forged\r\n", i)
	}
	nobody := backend.Address{Network: "tcp", Name: "127.0.0.1:1"}
	got, err := newHandler(t, nobody, nil).Handle(t.Context(), newTransaction(t, letter(b.String())))
	if err != nil || got.Action != mail.ActionReject || got.Reply.Code != 550 {
		t.Errorf("verdict %+v, %v; want a rejection before rspamd is asked", got, err)
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
		"tag":        {mail.ActionContinue, 0, []string{"rspamd=too-large"}},
		"quarantine": {mail.ActionQuarantine, 0, nil},
		"reject":     {mail.ActionReject, 552, nil},
		"defer":      {mail.ActionDefer, 452, nil},
	}
	nobody := backend.Address{Network: "tcp", Name: "127.0.0.1:1"}
	for setting, want := range tests {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			r := newHandler(t, nobody, func(r *Rspamd) { r.MaxSize, r.TooLarge = 1000, setting })
			tx := newTransaction(t, letter("X-Spam-Status: No, score=-100\r\n")+strings.Repeat("x", 1000))
			got, err := r.Handle(t.Context(), tx)
			if err != nil || got.Action != want.action || got.Reply.Code != want.code || !strings.HasPrefix(got.Reason, "not judged: ") {
				t.Errorf("verdict %+v, %v; want %+v", got, err, want)
			}
			if status := fieldsOf(t, tx).Get(fieldStatus); status != "No, Not scanned (too large)" {
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
	r := newHandler(t, rspamd.Unix, func(r *Rspamd) { r.MaxConnections = 4 })
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			raw, want := letter(fmt.Sprintf("X-Number: %d\r\n", i)), mail.ActionContinue
			if i%3 == 0 {
				raw, want = header+"\r\n"+gtube("X"), mail.ActionReject
			}
			got, err := r.Handle(t.Context(), newTransaction(t, raw))
			if err != nil || got.Action != want {
				t.Errorf("message %d: %s, %v; want %s", i, got.Action, err, want)
			}
		})
	}
	wg.Wait()
}
