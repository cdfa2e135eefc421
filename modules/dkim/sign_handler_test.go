package dkim

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// dkimBlocks are blocks with the keys of the tests, under their names as selectors.
func dkimBlocks(tb testing.TB) string {
	tb.Helper()
	var b strings.Builder
	for _, name := range []string{"rsa", "ed25519"} {
		fmt.Fprintf(&b, "dkim {\nselector = %q\nkey_file = %q\n}\n", name, write(tb, name+".pem", testKeys()[name].pem))
	}
	return b.String()
}

// loadSign makes the handler where example.org has keys.
func loadSign(tb testing.TB, settings string) *Sign {
	tb.Helper()
	return loadSignIn(tb, "domain \"example.org\" {\n"+dkimBlocks(tb)+"}\n", settings)
}

func loadSignIn(tb testing.TB, domains, settings string) *Sign {
	tb.Helper()
	kit := coretest.New(tb, coretest.Options{Source: coretest.Base + domains, Now: atNoon})
	return coretest.Load[*Sign](tb, kit, "handler.dkim_sign", "dkim_sign {\n"+settings+"\n}\n")
}

// rendered is the message as it is stored.
func rendered(tb testing.TB, tx *mail.Transaction) string {
	tb.Helper()
	r, err := tx.Rendered()
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := r.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

// signTransaction is one of a user, with fields that the listener has added.
func signTransaction(tb testing.TB, user, raw string) *mail.Transaction {
	tb.Helper()
	tx := transaction(tb, raw)
	tx.Session.User = user
	tx.AddFieldBelow("Received", "by mx.example.test")
	tx.AddFieldBelow("Message-ID", "<1@mx.example.test>")
	return tx
}

func TestSignHandler(t *testing.T) {
	t.Parallel()
	s := loadSign(t, `headers = ["X-Mine"]`)
	tx := signTransaction(t, "alice@example.org", "X-Mine: a\r\n"+text)
	verdict, err := s.Handle(t.Context(), tx)
	const want = "signed for example.org by rsa (rsa-sha256, 2048-bit key) and ed25519 (ed25519-sha256, 256-bit key)"
	if err != nil || verdict.Action != mail.ActionContinue || verdict.Reason != want {
		t.Fatalf("%+v, %v", verdict, err)
	}
	raw := rendered(t, tx)
	for line := range strings.Lines(raw[:strings.Index(raw, "Received:")]) {
		if len(line) > 78+len(crlf) {
			t.Errorf("long line %q", line)
		}
	}
	found := verifyText(t, keyZone(), raw)
	if len(found.findings) != 2 {
		t.Fatalf("%d signatures", len(found.findings))
	}
	for _, f := range found.findings {
		if f.result != resultPass || f.domain != "example.org" || f.created != noon.Unix() || f.expires != 0 || f.header != relaxed || f.body != relaxed {
			t.Errorf("%+v: %s, %s", f.signature, f.result, f.reason)
		}
	}
	names := []string{
		"from", "from", "to", "to", "cc", "subject", "subject", "date", "date", "message-id", "message-id", "message-id", "reply-to", "in-reply-to",
		"references", "mime-version", "content-type", "content-transfer-encoding", "x-mine",
	}
	if diff := cmp.Diff(names, found.findings[0].names); diff != "" {
		t.Errorf("signed fields (-want +got):\n%s", diff)
	}
	for _, name := range []string{"From", "Cc", "Content-Type", "Subject", "Message-ID"} {
		forged := strings.Replace(raw, "Received:", name+": forged\r\nReceived:", 1)
		if r := verifyText(t, keyZone(), forged).findings[0]; r.result != resultFail {
			t.Errorf("a further %s: %s, %s", name, r.result, r.reason)
		}
	}
	if r := verifyText(t, keyZone(), strings.Replace(raw, "Received:", "X-New: x\r\nReceived:", 1)).findings[0]; r.result != resultPass {
		t.Errorf("another field: %s, %s", r.result, r.reason)
	}
}

func TestSignWhom(t *testing.T) {
	t.Parallel()
	const rest = "\r\nSubject: x\r\n\r\nhi\r\n"
	tests := map[string]struct{ more, user, from, reason string }{
		"own":                     {"", "alice@example.org", "From: Alice <Alice@EXAMPLE.org>", "signed for example.org by "},
		"name in another charset": {"", "alice@example.org", "From: =?gb18030?B?xOO6ww==?= <alice@example.org>", "signed for example.org by "},
		"two authors":             {"", "alice@example.org", "From: a@example.org, b@example.org\r\nSender: a@example.org", "signed for example.org by "},
		"nobody":                  {"", "", "From: alice@example.org", "not signed: nobody has logged in"},
		"no key":                  {"", "alice@example.test", "From: alice@example.test", "not signed: there is no key for example.test"},
		"user of another domain":  {"", "alice@example.test", "From: alice@example.org", "not signed: From is of example.org, and the user is alice@example.test"},
		"users any":               {`users = "any"`, "alice@example.test", "From: alice@example.org", "signed for example.org by "},
		"subdomain":               {"", "alice@news.example.org", "From: alice@news.example.org", "not signed: there is no key for news.example.org"},
		"subdomain by the parent": {"parent_domain = true", "alice@a.news.example.org", "From: alice@a.news.example.org", "signed for example.org by "},
		"no parent":               {"parent_domain = true", "alice@badexample.org", "From: alice@badexample.org", "not signed: there is no key for badexample.org"},
		"authors of two domains":  {"", "alice@example.org", "From: a@example.org, b@example.net", "not signed: the From field has authors of several domains, example.org and example.net"},
		"no From":                 {"", "alice@example.org", "To: b@example.net", "not signed: the message has 0 From fields"},
		"two From":                {"", "alice@example.org", "From: a@example.org\r\nFrom: b@example.org", "not signed: the message has 2 From fields"},
		"From that is no address": {"", "alice@example.org", "From: alice", "not signed: the From field cannot be read"},
		"a line that is no field": {"", "alice@example.org", "From: a@example.org\r\nDear Bob", "not signed: the header has a line that is no field"},
		"space on top":            {"", "alice@example.org", " Dear Bob\r\nFrom: a@example.org", "not signed: the header has a line that is no field"},
		"address literal":         {"", "alice@example.org", "From: a@[192.0.2.1]", "not signed: From is of [192.0.2.1], and the user is alice@example.org"},
		"too many fields":         {"", "alice@example.org", "From: a@example.org" + strings.Repeat("\r\nTo: b@example.test", maxSigned), "not signed: the message has 415 fields to be signed, more than 400"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := signTransaction(t, tt.user, tt.from+rest)
			verdict, err := loadSign(t, tt.more).Handle(t.Context(), tx)
			if err != nil || !strings.HasPrefix(verdict.Reason, tt.reason) {
				t.Fatalf("%+v, %v; want %s", verdict, err, tt.reason)
			}
			found := verifyText(t, keyZone(), rendered(t, tx))
			if signs := strings.HasPrefix(tt.reason, "signed"); signs != (len(found.findings) == 2) {
				t.Errorf("%d signatures", len(found.findings))
			}
			for _, f := range found.findings {
				if f.result != resultPass {
					t.Errorf("%s, %s", f.result, f.reason)
				}
			}
		})
	}
}

func TestSignExpires(t *testing.T) {
	t.Parallel()
	s := loadSign(t, `expire = "7d"`)
	tx := signTransaction(t, "alice@example.org", small)
	if _, err := s.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	f := verifyText(t, keyZone(), rendered(t, tx)).findings[0]
	if f.expires-f.created != int64(7*24*time.Hour/time.Second) || f.result != resultPass {
		t.Errorf("%+v: %s, %s", f.signature, f.result, f.reason)
	}
}

// TestSignInternationalDomain signs for a domain of U-labels (RFC 8616), in
// A-labels.
func TestSignInternationalDomain(t *testing.T) {
	t.Parallel()
	domain := fmt.Sprintf("domain \"bücher.example\" {\ndkim {\nselector = \"s\"\nkey_file = %q\n}\n}\n", write(t, "key.pem", testKeys()["rsa"].pem))
	tx := signTransaction(t, "alice@bücher.example", "From: alice@xn--bcher-kva.example\r\n\r\nhi\r\n")
	if _, err := loadSignIn(t, domain, "").Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	f := verifyText(t, zone{"s._domainkey.xn--bcher-kva.example": {testKeys()["rsa"].record}}, rendered(t, tx)).findings[0]
	if f.result != resultPass || f.domain != "xn--bcher-kva.example" {
		t.Errorf("%s: %s, %s", f.domain, f.result, f.reason)
	}
}

func TestSignPlace(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		users   string
		modules string
		want    []string
	}{
		"good":           {"own", "password sender_login headers dkim_sign deliver", nil},
		"any, good":      {"any", "password sender_login dkim_sign deliver", nil},
		"any, unchecked": {"any", "password dkim_sign deliver", []string{`with users = "any" and no sender_login`}},
	}
	for name, tt := range tests {
		modules := strings.Fields(tt.modules)
		problems := (&Sign{Users: tt.users}).ValidatePlace(modules, slices.Index(modules, "dkim_sign"))
		if len(problems) != len(tt.want) {
			t.Errorf("%s: %+v", name, problems)
			continue
		}
		for i, p := range problems {
			if !strings.HasPrefix(p.Message, tt.want[i]) {
				t.Errorf("%s: %q, want %q", name, p.Message, tt.want[i])
			}
		}
	}
}

// TestStartWithoutKey holds that a key that has gone is an error of the start.
func TestStartWithoutKey(t *testing.T) {
	t.Parallel()
	k := &Keys{Selector: "s", KeyFile: "none", key: &domainKey{path: filepath.Join(t.TempDir(), "none")}}
	if err := k.Start(); err == nil || !regexp.MustCompile(`^read key: .*none`).MatchString(err.Error()) {
		t.Errorf("error %v", err)
	}
}
