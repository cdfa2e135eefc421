package dkim

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// arcOthers are the implementations that are asked: Debian's packages python3-dkim with
// python3-authres, and libmail-dkim-perl. Both seal by RSA alone.
var arcOthers = map[string][]string{
	"dkimpy":     {"/usr/bin/python3", "testdata/arc_dkimpy.py"},
	"Mail::DKIM": {"/usr/bin/perl", "testdata/arc_maildkim.pl"},
}

// arcMessages are the messages that are exchanged.
var arcMessages = map[string]string{
	"plain":             "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: hi\r\n\r\nHello.\r\n",
	"white space":       text,
	"nothing but lines": "From: a@example.org\r\nSubject: x\r\n\r\n\r\n\r\n\r\n",
}

func asks(how []string, more ...string) []string {
	return append(append([]string(nil), how...), more...)
}

// TestOthersVerifyChains has others validate what was sealed here, up to three sets.
func TestOthersVerifyChains(t *testing.T) {
	t.Parallel()
	for other, how := range arcOthers {
		for name, raw := range arcMessages {
			t.Run(other+", "+name, func(t *testing.T) {
				t.Parallel()
				verify := asks(how, "verify", zoneFile(t))
				for i := range 3 {
					tx := transaction(t, raw)
					tx.SetAuthResult(mail.AuthResult{Method: "dmarc", Result: "pass", Properties: []mail.Property{{Type: "header", Name: "from", Value: "example.org"}}})
					raw, _ = sealedBy(t, arcSealer("rsa"), tx)
					if got := run(t, raw, verify...); got != "pass\n" {
						t.Fatalf("of %d sets it says %q:\n%s", i+1, got, raw)
					}
					if got := run(t, raw+"x\r\n", verify...); got != "fail\n" {
						t.Errorf("of %d sets with a changed body it says %q", i+1, got)
					}
				}
				changed := strings.Replace(raw, "i=1; mx.example.org;", "i=1; mx.example.net;", 1)
				if got := run(t, changed, verify...); got != "fail\n" || changed == raw {
					t.Errorf("with changed results it says %q", got)
				}
			})
		}
	}
}

// TestVerifyChainsOfOthers validates what others have sealed, over what was sealed here
// and by them.
func TestVerifyChainsOfOthers(t *testing.T) {
	t.Parallel()
	for other, how := range arcOthers {
		for name, raw := range arcMessages {
			t.Run(other+", "+name, func(t *testing.T) {
				t.Parallel()
				seal := asks(how, "seal", "rsa", write(t, "key.pem", testKeys()["rsa"].pem))
				for i, status := range []string{"none", "pass", "pass"} {
					// They take the results, and the status, from the message.
					if i > 0 {
						raw = without(t, raw, "Authentication-Results", 0)
					}
					raw = "Authentication-Results: mx.example.org; dmarc=pass header.from=example.org; arc=" + status + "\r\n" + raw
					if i == 1 {
						raw, _ = sealedBy(t, arcSealer("rsa"), transaction(t, raw))
						continue
					}
					command := seal
					if other == "Mail::DKIM" {
						command = asks(seal, status)
					}
					fields := strings.ReplaceAll(strings.ReplaceAll(run(t, raw, command...), "\r\n", "\n"), "\n", "\r\n")
					raw = fields + raw
				}
				r := verifyChain(t, keyZone(), raw)
				if r.result != chainPass || r.last != 3 || r.oldest != 0 {
					t.Errorf("%s with %d sets, oldest %d, %s:\n%s", r.result, r.last, r.oldest, r.reason, raw)
				}
				if r := verifyChain(t, keyZone(), raw+"x\r\n"); r.result != chainFail || !strings.Contains(r.reason, "the body was changed") {
					t.Errorf("changed: %s, %s", r.result, r.reason)
				}
			})
		}
	}
}
