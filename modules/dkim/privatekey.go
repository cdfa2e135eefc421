package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/mox-like/mox-like/core/dkimkey"
)

// privateKey is a key to sign with. It is safe for concurrent use.
type privateKey struct {
	// kind and bits are as in publicKey.
	kind string
	bits int

	signer crypto.Signer
}

// sign signs a hash.
func (k *privateKey) sign(hash []byte) ([]byte, error) {
	if k.kind == kindEd25519 {
		// The hash is the message of pure Ed25519 (RFC 8463 section 3).
		return k.signer.Sign(nil, hash, crypto.Hash(0))
	}
	return k.signer.Sign(nil, hash, crypto.SHA256)
}

// algorithm is the one of a=.
func (k *privateKey) algorithm() string {
	if k.kind == kindEd25519 {
		return algorithmEd25519
	}
	return algorithmRSA
}

// record gives the text of the TXT record that publishes it.
func (k *privateKey) record() (string, error) { return dkimkey.Record(k.signer.Public()) }

// maxKeyFile bounds a file; a key of 8192 bits has 6 KB.
const maxKeyFile = 64 << 10

// loadPrivateKey reads a key from a PEM file: PKCS #8, or PKCS #1 for RSA.
func loadPrivateKey(name string) (*privateKey, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := parsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("parse key in %s: %w", name, err)
	}
	return key, nil
}

// readSmall reads a regular file of bounded size. Another kind could block.
func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is not a regular file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is larger than 64 KiB")}
	}
	return text, nil
}

// Errors of parsePrivateKey. They never show the text.
var (
	errNoPEM     = errors.New("it has no private key in PEM; make one with: mox-like dkim keygen DOMAIN --file FILE")
	errEncrypted = errors.New("the key is encrypted; decrypt it with: openssl pkey -in FILE -out NEWFILE")
	errKeyForm   = errors.New("the key is damaged, or in a form other than PKCS #8 and PKCS #1")
)

func parsePrivateKey(text []byte) (*privateKey, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errNoPEM
		}
		switch block.Type {
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, errKeyForm
			}
			return newPrivateKey(parsed)
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errEncrypted
			}
			parsed, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, errKeyForm
			}
			return newPrivateKey(parsed)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		}
	}
}

func newPrivateKey(parsed any) (*privateKey, error) {
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		bits := key.N.BitLen()
		if bits < minRSA || bits > maxRSA {
			return nil, fmt.Errorf("the RSA key has %d bits; take one of %d", bits, weakRSA)
		}
		return &privateKey{kind: kindRSA, bits: bits, signer: key}, nil
	case ed25519.PrivateKey:
		return &privateKey{kind: kindEd25519, bits: 8 * ed25519.PublicKeySize, signer: key}, nil
	default:
		return nil, fmt.Errorf("it is a %T; DKIM knows RSA and Ed25519", parsed)
	}
}
