package dkimkey_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/dkimkey"
)

func TestGenerate(t *testing.T) {
	t.Parallel()
	for algorithm, record := range map[string]struct {
		begins string
		size   int
	}{
		dkimkey.RSA2048: {"v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A", 410},
		dkimkey.Ed25519: {"v=DKIM1; k=ed25519; p=", 66},
	} {
		key, err := dkimkey.Generate(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		text, err := dkimkey.Encode(key)
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode(text)
		again, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil || len(rest) > 0 || !again.(interface {
			Equal(x crypto.PrivateKey) bool
		}).Equal(key) {
			t.Errorf("%s: what was written is another key: %v", algorithm, err)
		}
		got, err := dkimkey.Record(key.Public())
		if err != nil || !strings.HasPrefix(got, record.begins) || len(got) != record.size {
			t.Errorf("%s: record %q of %d bytes, %v", algorithm, got, len(got), err)
		}
	}
	if _, err := dkimkey.Generate("rsa512"); err == nil {
		t.Error("rsa512 is an algorithm")
	}
	if _, err := dkimkey.Record(nil); err == nil {
		t.Error("nothing has a record")
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	if err := dkimkey.Write(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := dkimkey.Write(path, []byte("two")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written twice: %v", err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, []byte("one")) {
		t.Errorf("%q, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := dkimkey.Write(filepath.Join(dir, "none", "key.pem"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}
