package milter

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

// daemon runs a milter of Debian's until the test ends. DIR in its settings is a
// folder, in which it listens at m.sock.
func daemon(t *testing.T, name, settings string, args ...string) backend.Address {
	t.Helper()
	program := "/usr/sbin/" + name
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("this test needs %s: apt-get install -y %s", name, name)
	}
	dir := shortDir(t)
	socket, config := filepath.Join(dir, "m.sock"), filepath.Join(dir, "conf")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(settings, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, append([]string{"-f", "-c", config}, args...)...)
	if name == "opendkim" {
		cmd = exec.Command(program, "-f", "-x", config)
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	ended := make(chan string, 1)
	go func() { ended <- fmt.Sprint(cmd.Wait()) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-ended
		if t.Failed() {
			t.Logf("%s says: %s", name, output.String())
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return backend.Address{Network: "unix", Name: socket}
		}
		select {
		case how := <-ended:
			ended <- how
			t.Fatalf("%s ended early: %s\n%s", name, how, output.String())
		case <-limit:
			t.Fatalf("%s does not listen", name)
		case <-tick.C:
		}
	}
}

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
			at := daemon(t, "opendkim", fmt.Sprintf("Mode sv\nSocket local:DIR/m.sock\nDomain example.org\nSelector milter\nKeyFile %s\nCanonicalization %s\n"+
				"TestPublicKeys %s\nAuthservID mx.example.test\nOn-BadSignature reject\nRequireSafeKeys no\nMaximumHeaders 0\nAlwaysAddARHeader yes\n", file, form, keys))
			const message = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject:  two  spaces\r\n\tand a fold\r\nDate: Sun, 01 Nov 2026 12:00:00 +0000\r\n\r\n" +
				"Hello,  Bob.\r\n\r\n..\r\n \t\r\n\r\n"
			h := newHandler(t, at)
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
	at := daemon(t, "opendmarc", "Socket local:DIR/m.sock\nAuthservID mx.example.test\nTrustedAuthservIDs mx.example.test\nDNSTimeout 1\nPublicSuffixList /dev/null\nHistoryFile DIR/history\n")
	tx := newTransaction(t, "From: Alice <alice@example.invalid>\r\nTo: bob@example.test\r\n\r\nHello.\r\n")
	tx.AddHeaderField("Authentication-Results", "mx.example.test; spf=pass smtp.mailfrom=example.invalid")
	v := handle(t, newHandler(t, at), tx)
	if got := text(t, tx); v.Action != mail.ActionContinue || !strings.Contains(got, "Authentication-Results: mx.example.test; dmarc=") {
		t.Errorf("%v: %s\n%s", v.Action, v.Reason, got)
	}
}
