package milter

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// handle has a transaction judged.
func handle(t *testing.T, h *Milter, tx *mail.Transaction) mail.Verdict {
	t.Helper()
	v, err := h.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestOpenDKIM has Debian's opendkim sign and verify.
func TestOpenDKIM(t *testing.T) {
	t.Parallel()
	file, record := newKey(t, "key.pem")
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("milter._domainkey.example.org "+strings.NewReplacer(`"`, "", `" "`, "").Replace(record)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"simple/simple", "relaxed/relaxed"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			d := daemon.Run(t, daemon.Milter{Program: "opendkim", Args: []string{"-f", "-x", "DIR/conf"}, Settings: fmt.Sprintf("Mode sv\nSocket local:DIR/m.sock\nDomain example.org\nSelector milter\nKeyFile %s\nCanonicalization %s\n"+
				"TestPublicKeys %s\nAuthservID mx.example.test\nOn-BadSignature reject\nRequireSafeKeys no\nMaximumHeaders 0\nAlwaysAddARHeader yes\n", file, form, keys)})
			const message = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject:  two  spaces\r\n\tand a fold\r\nDate: Sun, 01 Nov 2026 12:00:00 +0000\r\n\r\n" +
				"Hello,  Bob.\r\n\r\n..\r\n \t\r\n\r\n"
			h := newHandler(t, d.Unix)
			tx := newTransaction(t, message)
			tx.Session.User = "alice@example.org"
			v := handle(t, h, tx)
			signed := text(t, tx)
			if v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "it inserts DKIM-Signature at 0") || !strings.HasPrefix(signed, "DKIM-Signature: v=1; a=rsa-sha256; c="+form) ||
				!strings.HasSuffix(signed, received+message) {
				t.Fatalf("%v: %s\n%s", v.Action, v.Reason, signed)
			}
			verifiedHere(t, record, signed)
			sent := strings.Replace(signed, received, "", 1)
			tx = newTransaction(t, sent)
			v = handle(t, h, tx)
			if got := text(t, tx); v.Action != mail.ActionContinue || !strings.Contains(got, "Authentication-Results: mx.example.test;\r\n\tdkim=pass") || !strings.HasSuffix(got, sent) {
				t.Errorf("%v: %s\n%s", v.Action, v.Reason, got)
			}
			v = handle(t, h, newTransaction(t, sent+"More.\r\n"))
			if long := handle(t, h, newTransaction(t, "X-Long: "+strings.Repeat("x", 200_000)+"\r\n"+strings.Repeat("n", 20_000)+": y\r\n"+sent)); long.Action != mail.ActionContinue {
				t.Errorf("a message with a long field: %v: %s", long.Action, long.Reason)
			}
			if v.Action != mail.ActionReject || !strings.HasPrefix(v.Reply.String(), "550 5.7.") {
				t.Errorf("a changed message: %v, %s: %s", v.Action, v.Reply, v.Reason)
			}
		})
	}
}

// verifiedHere has the signature verified by dkim_verify.
func verifiedHere(t *testing.T, record, signed string) {
	t.Helper()
	names := dnstest.Serve(t, "$ORIGIN example.org.\nmilter._domainkey TXT "+record+"\n")
	s := coretest.Serve(t, coretest.Base+fmt.Sprintf("dns {\nservers = [%q]\n}\n", names.Addr())+
		"listener \"smtp\" \"mx\" {\naddress = \"127.0.0.1:0\"\ntls = \"off\"\nchain {\ndkim_verify {\nfail = \"reject\"\nnone = \"reject\"\n}\nkeep {}\n}\n}\n", coretest.Options{})
	coretest.Dialog(t, coretest.Address(t, s, "mx"), dialog("user@example.test", strings.ReplaceAll(signed, "\r\n.", "\r\n.."), "250 *"))
}

// TestOpenDMARC has Debian's opendmarc judge by the results of handlers in front. It
// asks no DNS here, so there is no policy.
func TestOpenDMARC(t *testing.T) {
	t.Parallel()
	d := daemon.Run(t, daemon.Milter{Program: "opendmarc", Args: []string{"-f", "-c", "DIR/conf"}, Settings: "Socket local:DIR/m.sock\nAuthservID mx.example.test\nTrustedAuthservIDs mx.example.test\nDNSTimeout 1\nPublicSuffixList /dev/null\nHistoryFile DIR/history\n"})
	tx := newTransaction(t, "From: Alice <alice@example.invalid>\r\nTo: bob@example.test\r\n\r\nHello.\r\n")
	tx.AddHeaderField("Authentication-Results", "mx.example.test; spf=pass smtp.mailfrom=example.invalid")
	v := handle(t, newHandler(t, d.Unix), tx)
	if got := text(t, tx); v.Action != mail.ActionContinue || !strings.Contains(got, "Authentication-Results: mx.example.test; dmarc=") {
		t.Errorf("%v: %s\n%s", v.Action, v.Reason, got)
	}
}
