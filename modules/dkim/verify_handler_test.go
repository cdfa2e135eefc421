package dkim

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// handlerZone has keys of all kinds at SELECTOR._domainkey.example.org.
func handlerZone() zone {
	z := keyZone()
	z["test._domainkey.example.org"] = []string{"t=y; p=" + rsaText()}
	z["revoked._domainkey.example.org"] = []string{"p="}
	z["silent._domainkey.example.org"] = []string{silent}
	return z
}

// newVerify makes a handler with the default settings.
func newVerify() *Verify {
	return &Verify{
		Fail: "accept", None: "accept", TempError: "accept", WeakKey: "tag", BodyLength: "refuse", TestKey: "accept",
		MaxSignatures: 8,
		verifier:      &verifier{resolver: handlerZone(), now: atNoon, most: 8, skew: 5 * time.Minute},
	}
}

func transaction(tb testing.TB, raw string) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, mail.StageData, 1)
	tx.Message = parse(tb, raw)
	return tx
}

func by(selector string) string { return strings.Replace(tags, "s=rsa", "s="+selector, 1) }

func TestVerifyHandler(t *testing.T) {
	t.Parallel()
	good := craft(t, small, "rsa", tags)
	changed := good + "x\r\n"
	weak := craft(t, small, "weak", by("weak"))
	long := craft(t, small, "rsa", tags+"; l=3")
	tested := craft(t, small, "rsa", by("test"))
	temporary := craft(t, small, "rsa", by("silent"))
	tests := map[string]struct {
		raw    string
		set    func(*Verify)
		result string
		action mail.Action
		tags   []string
		reason string
		reply  string
	}{
		"good": {raw: good, result: "pass", reason: "example.org by rsa rsa-sha256: pass, 2048-bit key"},
		"none": {raw: small, result: "none", reason: "no signature"},
		"none, tag": {
			raw: small, set: func(v *Verify) { v.None = "tag" }, result: "none", tags: []string{"dkim=none"}, reason: "no signature",
		},
		"none, reject": {
			raw: small, set: func(v *Verify) { v.None = "reject" }, result: "none", action: mail.ActionReject, reason: "no signature",
			reply: "550 5.7.20 Message has no DKIM signature",
		},
		"fail": {raw: changed, result: "fail", reason: "example.org by rsa rsa-sha256: fail, the body was changed: its hash is not bh=, 2048-bit key"},
		"fail, quarantine": {
			raw: changed, set: func(v *Verify) { v.Fail = "quarantine" }, result: "fail", action: mail.ActionQuarantine,
			reason: "example.org by rsa rsa-sha256: fail, the body was changed: its hash is not bh=, 2048-bit key",
		},
		"fail, reject": {
			raw: changed, set: func(v *Verify) { v.Fail = "reject" }, result: "fail", action: mail.ActionReject,
			reason: "example.org by rsa rsa-sha256: fail, the body was changed: its hash is not bh=, 2048-bit key",
			reply:  "550 5.7.20 No DKIM signature of the message is good: example.org by rsa rsa-sha256: the body was changed: its hash is not bh=",
		},
		"one of two, reject": {
			raw: craft(t, good, "rsa", by("revoked")), set: func(v *Verify) { v.Fail = "reject" }, result: "permerror",
			reason: "example.org by revoked rsa-sha256: permerror, the key at revoked._domainkey.example.org cannot be used: the key is revoked: its p= is empty; " +
				"example.org by rsa rsa-sha256: pass, 2048-bit key",
		},
		"unreadable, tag": {
			raw: "DKIM-Signature: hello\r\n" + small, set: func(v *Verify) { v.Fail = "tag" }, result: "neutral", tags: []string{"dkim=fail"},
			reason: `signature: neutral, the signature cannot be read: "hello" is no tag, which has the form name=value`,
		},
		"temperror": {
			raw: temporary, result: "temperror",
			reason: "example.org by silent rsa-sha256: temperror, the key cannot be looked up: look up TXT of silent._domainkey.example.org: temporary failure",
		},
		"temperror, defer": {
			raw: temporary, set: func(v *Verify) { v.TempError = "defer" }, result: "temperror", action: mail.ActionDefer,
			reason: "example.org by silent rsa-sha256: temperror, the key cannot be looked up: look up TXT of silent._domainkey.example.org: temporary failure",
			reply:  "451 4.4.3 DKIM keys of the message cannot be looked up now, try again later",
		},
		"temperror beside a good one": {
			raw: craft(t, good, "rsa", by("silent")), set: func(v *Verify) { v.TempError = "defer" }, result: "temperror",
			reason: "example.org by silent rsa-sha256: temperror, the key cannot be looked up: look up TXT of silent._domainkey.example.org: temporary failure; " +
				"example.org by rsa rsa-sha256: pass, 2048-bit key",
		},
		"weak": {raw: weak, result: "pass", tags: []string{"dkim=weak_key"}, reason: "example.org by weak rsa-sha256: pass, 1024-bit key, which is weak"},
		"weak, accept": {
			raw: weak, set: func(v *Verify) { v.WeakKey = "accept" }, result: "pass", reason: "example.org by weak rsa-sha256: pass, 1024-bit key",
		},
		"weak, refuse": {
			raw: weak, set: func(v *Verify) { v.WeakKey, v.Fail = "refuse", "tag" }, result: "policy", tags: []string{"dkim=fail"},
			reason: "example.org by weak rsa-sha256: policy, the RSA key has 1024 bits, less than 2048",
		},
		"part of the body": {
			raw: long, result: "policy", reason: "example.org by rsa rsa-sha256: policy, l=3 leaves the last 5 bytes of the body unsigned, 2048-bit key",
		},
		"part of the body, tag": {
			raw: long, set: func(v *Verify) { v.BodyLength = "tag" }, result: "pass", tags: []string{"dkim=body_length"},
			reason: "example.org by rsa rsa-sha256: pass, 2048-bit key, l=3 leaves the last 5 bytes of the body unsigned",
		},
		"length of the whole body": {raw: craft(t, small, "rsa", tags+"; l=8"), result: "pass", reason: "example.org by rsa rsa-sha256: pass, 2048-bit key"},
		"testing": {
			raw: tested, result: "pass", reason: "example.org by test rsa-sha256: pass, 2048-bit key, the domain tests DKIM (t=y)",
		},
		"testing, ignore": {
			raw: tested, set: func(v *Verify) { v.TestKey, v.None = "ignore", "tag" }, result: "neutral", tags: []string{"dkim=none"},
			reason: "example.org by test rsa-sha256: neutral, the domain tests DKIM (t=y): pass, 2048-bit key",
		},
		"testing and not good, reject": {
			raw: tested + "x\r\n", set: func(v *Verify) { v.Fail = "reject" }, result: "neutral",
			reason: "example.org by test rsa-sha256: neutral, the domain tests DKIM (t=y): fail, the body was changed: its hash is not bh=, 2048-bit key",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVerify()
			if tt.set != nil {
				tt.set(v)
			}
			tx := transaction(t, tt.raw)
			verdict, err := v.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if r, _ := tx.AuthResult("dkim"); r.Result != tt.result {
				t.Errorf("result %+v, want %s", r, tt.result)
			}
			if verdict.Action != tt.action || verdict.Reason != tt.reason {
				t.Errorf("%s, %q; want %s, %q", verdict.Action, verdict.Reason, tt.action, tt.reason)
			}
			reply := ""
			if verdict.Reply != (mail.Reply{}) {
				reply = verdict.Reply.String()
			}
			if reply != tt.reply {
				t.Errorf("reply %q, want %q", reply, tt.reply)
			}
			if diff := cmp.Diff(tt.tags, tx.Tags()); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAuthResults holds what other handlers get.
func TestAuthResults(t *testing.T) {
	t.Parallel()
	raw := craft(t, craft(t, small, "rsa", tags+"; i=Alice@News.example.org"), "ed25519", "v=1; a=ed25519-sha256; d=EXAMPLE.org; s=ed25519; h=from")
	raw = "DKIM-Signature: a=rsa-sha256; d=example.net; s=x; b=\x80\r\n" + raw
	tx := transaction(t, raw)
	if _, err := newVerify().Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	b := make([]string, 0, 3)
	for f := range tx.Message.Header.All(signatureField) {
		s, _ := parseSignature(f.Raw)
		b = append(b, s.text[:min(minB, len(s.text))])
	}
	property := func(name, value string) mail.Property { return mail.Property{Type: "header", Name: name, Value: value} }
	want := []mail.AuthResult{
		{
			Method: "dkim", Result: "neutral", Reason: "the signature cannot be read: the value of tag b= has bytes that it must not have",
			Properties: []mail.Property{},
		},
		{Method: "dkim", Result: "pass", Reason: "256-bit key", Properties: []mail.Property{
			property("d", "example.org"), property("i", "@example.org"), property("s", "ed25519"), property("a", "ed25519-sha256"), property("b", b[1]),
		}},
		{Method: "dkim", Result: "pass", Reason: "2048-bit key", Properties: []mail.Property{
			property("d", "example.org"), property("i", "Alice@News.example.org"), property("s", "rsa"), property("a", "rsa-sha256"), property("b", b[2]),
		}},
	}
	if diff := cmp.Diff(want, tx.AuthResults()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

// TestBeginningOfB holds that signatures can be told apart by header.b.
func TestBeginningOfB(t *testing.T) {
	t.Parallel()
	j := new(judgement)
	for _, text := range []string{"abcdefghXYZ", "abcdefghXYZ", "abcdefghXAA", "zzz", "abcdefgh", "a(b"} {
		j.findings = append(j.findings, finding{signature: &signature{text: text}})
	}
	var got []string
	for i := range j.findings {
		got = append(got, j.b(i))
	}
	if diff := cmp.Diff([]string{"abcdefghXY", "abcdefghXY", "abcdefghXA", "zzz", "abcdefgh", ""}, got); diff != "" {
		t.Errorf("beginnings (-want +got):\n%s", diff)
	}
}

// TestVerifyOnce holds that two handlers of one chain verify a message once, and
// judge it each by its own settings.
func TestVerifyOnce(t *testing.T) {
	t.Parallel()
	c := &counting{zone: handlerZone(), asked: make(map[string]int)}
	one, two := newVerify(), newVerify()
	one.verifier.resolver, two.verifier.resolver = c, c
	one.WeakKey, one.Fail, two.WeakKey = "refuse", "quarantine", "accept"
	tx := transaction(t, craft(t, small, "weak", by("weak")))
	for v, want := range map[*Verify]mail.Action{one: mail.ActionQuarantine, two: mail.ActionContinue} {
		verdict, err := v.Handle(t.Context(), tx)
		if err != nil || verdict.Action != want {
			t.Errorf("%+v, %v; want %s", verdict, err, want)
		}
	}
	if c.asked["weak._domainkey.example.org"] != 1 {
		t.Errorf("asked %v", c.asked)
	}
}

func TestVerifyLeavesUsersAlone(t *testing.T) {
	t.Parallel()
	tx := transaction(t, small)
	tx.Session.User = "alice@example.test"
	verdict, err := newVerify().Handle(t.Context(), tx)
	if err != nil || verdict.Reason != "not verified: alice@example.test has logged in" || len(tx.AuthResults()) != 0 {
		t.Errorf("%+v, %v, %v", verdict, err, tx.AuthResults())
	}
}

// TestManySignatures holds that a reason stays within its bounds.
func TestManySignatures(t *testing.T) {
	t.Parallel()
	v := newVerify()
	v.verifier.most, v.MaxSignatures = 32, 32
	tx := transaction(t, strings.Repeat("DKIM-Signature: v=1; d=example.org; s=x\r\n", 40)+small)
	verdict, err := v.Handle(t.Context(), tx)
	if err != nil || len(verdict.Reason) > 512 || !strings.HasPrefix(verdict.Reason, "8 more signatures not looked at; example.org by x: neutral, the signature cannot be read: it has no a=; ") {
		t.Errorf("%+v, %v", verdict, err)
	}
}
