package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kinds of keys (RFC 6376 section 3.6.1, RFC 8463 section 4).
const (
	kindRSA     = "rsa"
	kindEd25519 = "ed25519"
)

// Sizes of RSA keys in bits. RFC 8301 section 3.2 has no signature of a key under
// minRSA be good, and asks signers for weakRSA. Whoever could choose a key over
// maxRSA could let a verification take as long as he likes.
const (
	minRSA  = 1024
	weakRSA = 2048
	maxRSA  = 8192
)

// maxKeyRecord bounds the text of a key. One of 8192 bits has 1500 bytes.
const maxKeyRecord = 8 << 10

// publicKey is a key as a domain publishes it.
type publicKey struct {
	kind string
	// bits is the size of the modulus, or of an Ed25519 key.
	bits int
	// testing is the flag t=y, exact the flag t=s: the AUID's domain must be the
	// SDID.
	testing, exact bool

	rsa *rsa.PublicKey
	ed  ed25519.PublicKey
}

// Errors of parseKey besides those that say what is wrong with the text.
var (
	errRevoked  = errors.New("the key is revoked: its p= is empty")
	errNoRecord = errors.New("the record is no DKIM key")
)

// parseKey reads a key record (RFC 6376 section 3.6.1). Tags and flags that it does
// not know mean nothing.
func parseKey(text string) (*publicKey, error) {
	if len(text) > maxKeyRecord {
		return nil, fmt.Errorf("the key record has more than %d bytes", maxKeyRecord)
	}
	tags, err := parseTags(text)
	if err != nil {
		return nil, fmt.Errorf("the key record is malformed: %w", err)
	}
	if v, ok := tags.find("v"); ok && (v.value != "DKIM1" || tags[0].name != "v") {
		return nil, errNoRecord
	}
	p, ok := tags.get("p")
	if !ok {
		return nil, errors.New("the key record is malformed: it has no p=")
	}
	key := &publicKey{kind: kindRSA}
	if err := key.restrict(tags); err != nil {
		return nil, err
	}
	if compact(p) == "" {
		return nil, errRevoked
	}
	data, err := decodeBase64(p)
	if err != nil {
		return nil, fmt.Errorf("the key record is malformed: p=: %w", err)
	}
	if err := key.parse(data); err != nil {
		return nil, err
	}
	return key, nil
}

// restrict reads what a key is for.
func (k *publicKey) restrict(tags tagList) error {
	if kind, ok := tags.get("k"); ok {
		k.kind = kind
	}
	if hashes, ok := tags.get("h"); ok && !slices.Contains(splitList(hashes), "sha256") {
		return fmt.Errorf("the key is for other hashes than sha256: h=%.40s", hashes)
	}
	if services, ok := tags.get("s"); ok {
		if list := splitList(services); !slices.Contains(list, "*") && !slices.Contains(list, "email") {
			return fmt.Errorf("the key is not for mail: s=%.40s", services)
		}
	}
	if flags, ok := tags.get("t"); ok {
		list := splitList(flags)
		k.testing, k.exact = slices.Contains(list, "y"), slices.Contains(list, "s")
	}
	return nil
}

// parse reads the key itself. RSA keys are of either form that RFC 6376 and its
// errata have: a SubjectPublicKeyInfo or an RSAPublicKey.
func (k *publicKey) parse(data []byte) error {
	switch k.kind {
	case kindEd25519:
		if len(data) != ed25519.PublicKeySize {
			return fmt.Errorf("the Ed25519 key has %d bytes, not %d", len(data), ed25519.PublicKeySize)
		}
		k.ed, k.bits = data, 8*ed25519.PublicKeySize
		return nil
	case kindRSA:
		key, err := parseRSA(data)
		if err != nil {
			return err
		}
		k.rsa, k.bits = key, key.N.BitLen()
		if k.bits > maxRSA {
			return fmt.Errorf("the RSA key has %d bits, more than %d", k.bits, maxRSA)
		}
		return nil
	default:
		return fmt.Errorf("the key is of an unknown kind: k=%.40s", k.kind)
	}
}

func parseRSA(data []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(data)
	if err != nil {
		if key, err := x509.ParsePKCS1PublicKey(data); err == nil {
			return key, nil
		}
		return nil, errors.New("p= is no RSA key")
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("p= is no RSA key, but one of another kind")
	}
	return key, nil
}

// verify tells whether value is a signature of the hash.
func (k *publicKey) verify(hash, value []byte) bool {
	if k.kind == kindEd25519 {
		return ed25519.Verify(k.ed, hash, value)
	}
	return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, hash, value) == nil
}

// selectKey gives the key among the TXT records of a name: the first one that is a
// sound key of the kind, else what is wrong with the first one that is meant to be
// a key. RFC 6376 section 3.6.2.2 leaves open what several records mean.
func selectKey(records []string, kind string) (*publicKey, error) {
	var problem error
	for _, text := range records[:min(len(records), maxKeyRecords)] {
		key, err := parseKey(text)
		if err == nil && key.kind != kind {
			err = fmt.Errorf("the key is of the kind %s", key.kind)
		}
		if err == nil {
			return key, nil
		}
		if problem == nil || errors.Is(problem, errNoRecord) {
			problem = err
		}
	}
	if problem == nil {
		problem = errNoRecord
	}
	return nil, problem
}

// maxKeyRecords is how many TXT records of a name are looked at.
const maxKeyRecords = 8

// isWord tells whether s is a word of the form that algorithms have, fit for a
// report.
func isWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && !isDigit(c) && strings.IndexByte("-_.", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 40
}
