package rspamd

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// TestSigns has rspamd sign what an account sends: the signature is in the message
// once, and holds for the message as it is stored.
func TestSigns(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d := daemon.Run(t, daemon.Rspamd{Local: map[string]string{
		"dkim.conf": "check_local = false;\n",
		"dkim_signing.conf": fmt.Sprintf("sign_authenticated = true;\nallow_username_mismatch = true;\nallow_hdrfrom_mismatch = true;\n"+
			"use_domain = \"header\";\ntry_fallback = true;\npath = %q;\nselector = \"one\";\n", path),
	}})
	tx := newTransaction(t, letter(""))
	tx.Session.User = "alice@example.org"
	if _, err := newHandler(t, d.TCP, nil).Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	rendered, err := tx.Rendered()
	if err != nil {
		t.Fatal(err)
	}
	stored, err := rendered.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if n := fieldsOf(t, tx).Count("DKIM-Signature"); n != 1 {
		t.Fatalf("%d signatures:\n%s", n, rendered.Head())
	}
	public, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(&key.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("/usr/bin/python3", "-c", `import dkim, sys
key = sys.argv[1].encode()
print(dkim.verify(sys.stdin.buffer.read(), dnsfunc=lambda name, timeout=5: key if name == b"one._domainkey.example.org." else None))`,
		"v=DKIM1; p="+base64.StdEncoding.EncodeToString(public))
	verify.Stdin = bytes.NewReader(stored)
	if found, err := verify.CombinedOutput(); err != nil || string(found) != "True\n" {
		t.Errorf("dkimpy says %q, %v of\n%s", found, err, rendered.Head())
	}
}
