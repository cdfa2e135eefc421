// Package dkimkey makes private keys for DKIM, writes them into files, and gives
// the records that publish them (RFC 6376 section 3.6.1, RFC 8463 section 4).
//
// It knows nothing of signatures: those are the business of modules/dkim.
package dkimkey

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The algorithms of new keys.
const (
	RSA2048 = "rsa2048"
	Ed25519 = "ed25519"
)

// Algorithms are those of new keys, in the order in which messages are signed.
func Algorithms() []string { return []string{RSA2048, Ed25519} }

// rsaBits is the size of new RSA keys, which every receiver takes and whose record
// fits into a DNS answer over UDP (RFC 8301 section 3.2).
const rsaBits = 2048

// Generate makes a private key.
func Generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case RSA2048:
		key, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return nil, fmt.Errorf("make RSA key: %w", err)
		}
		return key, nil
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make Ed25519 key: %w", err)
		}
		return key, nil
	default:
		return nil, fmt.Errorf("make key: %q is no algorithm; there are %s and %s", algorithm, RSA2048, Ed25519)
	}
}

// Encode gives a private key in PEM, PKCS #8.
func Encode(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Record gives the text of the TXT record that publishes a key.
func Record(public crypto.PublicKey) (string, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return "", fmt.Errorf("encode public key: %w", err)
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key), nil
	default:
		return "", fmt.Errorf("encode public key: DKIM knows no %T", public)
	}
}

// Name gives the name of the record of a key, absolute and without the dot at its
// end. Both are in A-labels.
func Name(selector, domain string) string { return selector + "._domainkey." + domain }

// maxSelector bounds a label of a name (RFC 1035 section 2.3.4).
const maxSelector = 63

// IsSelector tells whether a text is fit for the selector of a new key: a label of
// letters, digits and hyphens.
func IsSelector(s string) bool {
	for i := range len(s) {
		c := s[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != "" && len(s) <= maxSelector
}

// Unfinished is how the names of files begin that a crash may leave.
const Unfinished = ".dkim-new-"

// Write makes a file of mode 0600, and returns once it is durable. It replaces
// nothing: the error is fs.ErrExist then. After a crash there is the whole file or
// none.
func Write(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, Unfinished)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	defer func() {
		if gone := os.Remove(f.Name()); err == nil && !errors.Is(gone, fs.ErrNotExist) {
			err = gone
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = place(f.Name(), path)
	}
	if err == nil {
		err = SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// place gives a file its name, if nothing has it.
func place(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// Not every file system knows links.
	if _, there := os.Lstat(to); !errors.Is(there, fs.ErrNotExist) {
		return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// SyncDir makes durable what stands in a folder.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
