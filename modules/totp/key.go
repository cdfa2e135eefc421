package totp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	keyVariable = "MOX_LIKE_TOTP_KEY"
	keyFile     = "totp.key"
	keySize     = 32
	// maxKeyText bounds what is read of a key file, in bytes.
	maxKeyText = 1024
)

// Errors of the key, to be compared with errors.Is.
var (
	// ErrKeyMissing is returned when secrets are encrypted and the key is not there.
	ErrKeyMissing = errors.New("the key of the second factors is missing")
	// ErrKeyInvalid is returned for a key that is not 32 bytes in hexadecimal or
	// base64.
	ErrKeyInvalid = errors.New("the key of the second factors is not 32 bytes in hexadecimal or base64")
	// ErrKeyWrong is returned when a secret was encrypted by another key or changed
	// since.
	ErrKeyWrong = errors.New("the key of the second factors does not fit")
)

// keyring gives the key that encrypts secrets. It is safe for concurrent use.
type keyring struct {
	// path is that of the key file, "" without a data directory.
	path string

	mu  sync.Mutex
	key *key // nil until it is needed
}

// key encrypts secrets.
type key struct {
	aead cipher.AEAD
	// id tells keys apart and says nothing about this one.
	id string
	// from says for people where the key stands.
	from string
}

// newKeyring takes the key from the environment if it is there.
func newKeyring(dir string) (*keyring, error) {
	k := new(keyring)
	if dir != "" {
		k.path = filepath.Join(dir, keyFile)
	}
	text, ok := os.LookupEnv(keyVariable)
	if !ok || text == "" {
		return k, nil
	}
	given, err := parseKey(text, "the environment variable "+keyVariable)
	if err != nil {
		return nil, err
	}
	k.key = given
	return k, nil
}

// get gives the key. An error is ErrKeyMissing or ErrKeyInvalid among others.
func (k *keyring) get() (*key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.load()
}

// load is called with mu held.
func (k *keyring) load() (*key, error) {
	if k.key != nil {
		return k.key, nil
	}
	if k.path == "" {
		return nil, ErrKeyMissing
	}
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no file %s, and %s is not set: restore the file from a backup", ErrKeyMissing, k.path, keyVariable)
	}
	if err != nil {
		return nil, fmt.Errorf("read key of second factors: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyText))
	if err != nil {
		return nil, fmt.Errorf("read key of second factors: %w", err)
	}
	k.key, err = parseKey(string(text), k.path)
	return k.key, err
}

// make gives the key, a new one if there is none yet. It never replaces a file.
func (k *keyring) make() (*key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, err := k.load()
	if !errors.Is(err, ErrKeyMissing) {
		return found, err
	}
	raw := make([]byte, keySize)
	rand.Read(raw)
	text := hex.EncodeToString(raw)
	if k.path == "" { // the database is in memory too
		k.key, err = parseKey(text, "memory")
		return k.key, err
	}
	if err := writeKey(k.path, text+"\n"); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write key of second factors: %w", err)
	}
	return k.load()
}

// writeKey makes a file that is whole and durable, or is not there at all.
func writeKey(path, text string) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, keyFile+".*") // its mode is 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// parseKey reads a key. from says where it stands.
func parseKey(text, from string) (*key, error) {
	text = strings.TrimSpace(text)
	raw, err := hex.DecodeString(text)
	if err != nil {
		raw, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(raw) != keySize {
		return nil, fmt.Errorf("read %s: %w", from, ErrKeyInvalid)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	sum := sha256.Sum256(append([]byte("id of a key of second factors\x00"), raw...))
	return &key{aead: aead, id: hex.EncodeToString(sum[:8]), from: from}, nil
}

// seal encrypts an account's secret: a random nonce, then what GCM gives.
func (k *key) seal(account string, secret []byte) []byte {
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(secret)+k.aead.Overhead())
	rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, secret, []byte(account))
}

// open decrypts what seal gave. The error is ErrKeyWrong.
func (k *key) open(account, id string, sealed []byte) ([]byte, error) {
	if id != k.id {
		return nil, fmt.Errorf("%w: the secret of %s is encrypted by another key than that of %s", ErrKeyWrong, account, k.from)
	}
	n := k.aead.NonceSize()
	if len(sealed) < n {
		return nil, fmt.Errorf("%w: the secret of %s is cut off", ErrKeyWrong, account)
	}
	secret, err := k.aead.Open(nil, sealed[:n], sealed[n:], []byte(account))
	if err != nil {
		return nil, fmt.Errorf("%w: the secret of %s is damaged", ErrKeyWrong, account)
	}
	return secret, nil
}
