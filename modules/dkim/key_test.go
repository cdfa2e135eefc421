package dkim

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
)

// rsaText gives the RSA key as p= has it.
func rsaText() string { return strings.SplitAfter(testKeys()["rsa"].record, "p=")[1] }

// smallKey is an RSA key of the given size that nobody can sign with.
func smallKey(tb testing.TB, bits uint) string {
	tb.Helper()
	n := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// TestKeys varies what the DNS has for a signature that is good otherwise, whose
// AUID is in a subdomain.
func TestKeys(t *testing.T) {
	t.Parallel()
	rsaKey, err := x509.ParsePKIXPublicKey(mustDecode(t, rsaText()))
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(rsaKey.(*rsa.PublicKey)))
	ecdsa := "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
	const good, unusable = "2048-bit key", "the key at rsa._domainkey.example.org cannot be used: "
	tests := map[string]struct {
		records        []string
		result, reason string
	}{
		"all tags":                  {[]string{"v=DKIM1; h=sha1:sha256; k=rsa; n=hi; s=email:foo; t=y2:foo; x=y; p=" + rsaText()}, "pass", good},
		"key alone":                 {[]string{"p=" + rsaText()}, "pass", good},
		"semicolon at the end":      {[]string{"p=" + rsaText() + "; "}, "pass", good},
		"white space":               {[]string{" v = DKIM1 ;k= rsa;\tp=" + rsaText()[:20] + " \t" + rsaText()[20:]}, "pass", good},
		"no padding":                {[]string{"p=" + strings.TrimRight(rsaText(), "=")}, "pass", good},
		"RSAPublicKey":              {[]string{"p=" + pkcs1}, "pass", good},
		"any service":               {[]string{"s=*; p=" + rsaText()}, "pass", good},
		"behind another record":     {[]string{"v=spf1 -all", "hello", "p=" + rsaText()}, "pass", good},
		"behind a revoked one":      {[]string{"p=", "p=" + rsaText()}, "pass", good},
		"behind one of other kind":  {[]string{testKeys()["ed25519"].record, "p=" + rsaText()}, "pass", good},
		"too many records":          {append(make([]string, maxKeyRecords), "p="+rsaText()), "permerror", unusable + `the key record is malformed: "" is no tag, which has the form name=value`},
		"revoked":                   {[]string{"v=DKIM1; k=rsa; p= "}, "permerror", unusable + "the key is revoked: its p= is empty"},
		"no key":                    {[]string{"v=DKIM1; k=rsa"}, "permerror", unusable + "the key record is malformed: it has no p="},
		"something else":            {[]string{"v=spf1 -all"}, "permerror", unusable + "the record is no DKIM key"},
		"another version":           {[]string{"v=DKIM2; p=" + rsaText()}, "permerror", unusable + "the record is no DKIM key"},
		"case of the version":       {[]string{"v=dkim1; p=" + rsaText()}, "permerror", unusable + "the record is no DKIM key"},
		"version not first":         {[]string{"p=" + rsaText() + "; v=DKIM1"}, "permerror", unusable + "the record is no DKIM key"},
		"twice the same tag":        {[]string{"p=" + rsaText() + "; p=" + rsaText()}, "permerror", unusable + "the key record is malformed: tag p= stands twice"},
		"not in base64":             {[]string{"p=(" + rsaText()}, "permerror", unusable + "the key record is malformed: p=: it is not in base64"},
		"cut":                       {[]string{"p=" + rsaText()[:200]}, "permerror", unusable + "p= is no RSA key"},
		"key of another system":     {[]string{"p=" + ecdsa}, "permerror", unusable + "p= is no RSA key, but one of another kind"},
		"unknown kind":              {[]string{"k=dsa; p=" + rsaText()}, "permerror", unusable + "the key is of an unknown kind: k=dsa"},
		"other hashes":              {[]string{"h=sha1; p=" + rsaText()}, "permerror", unusable + "the key is for other hashes than sha256: h=sha1"},
		"other services":            {[]string{"s=foo:emails; p=" + rsaText()}, "permerror", unusable + "the key is not for mail: s=foo:emails"},
		"Ed25519 of a wrong length": {[]string{"k=ed25519; p=AAAA"}, "permerror", unusable + "the Ed25519 key has 3 bytes, not 32"},
		"too large a key":           {[]string{"p=" + smallKey(t, maxRSA+1)}, "permerror", unusable + "the RSA key has 8193 bits, more than 8192"},
		"too long a record":         {[]string{"n=" + strings.Repeat("x", maxKeyRecord) + "; p=" + rsaText()}, "permerror", unusable + "the key record has more than 8192 bytes"},
		"too small a key":           {[]string{"p=" + smallKey(t, minRSA-1)}, "policy", "the RSA key has 1023 bits, less than 1024 (RFC 8301)"},
		"weak key of others":        {[]string{testKeys()["weak"].record}, "fail", "the signature does not fit: a signed field was changed, or the key is another one"},
		"no subdomains":             {[]string{"t=y:s; p=" + rsaText()}, "permerror", "the key has the flag t=s, and the domain of i=a@news.example.org is not d=example.org itself"},
	}
	raw := craft(t, small, "rsa", tags+"; i=a@news.example.org")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := verifyText(t, zone{"rsa._domainkey.example.org": tt.records}, raw).findings[0]
			if f.result != tt.result || f.reason != tt.reason {
				t.Errorf("%s, %s; want %s, %s", f.result, f.reason, tt.result, tt.reason)
			}
		})
	}
	exact := zone{"rsa._domainkey.example.org": {"t=s; p=" + rsaText()}}
	for _, i := range []string{"", "; i=a@EXAMPLE.org"} {
		if f := verifyText(t, exact, craft(t, small, "rsa", tags+i)).findings[0]; f.result != resultPass {
			t.Errorf("t=s with %q: %s, %s", i, f.result, f.reason)
		}
	}
}

func mustDecode(tb testing.TB, s string) []byte {
	tb.Helper()
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// TestInternationalDomain has a signature in U-labels (RFC 8616).
func TestInternationalDomain(t *testing.T) {
	t.Parallel()
	z := zone{"s._domainkey.xn--bcher-kva.example": {testKeys()["rsa"].record}}
	raw := craft(t, small, "rsa", "v=1; a=rsa-sha256; d=BÜCHER.example; s=s; i=ä@a.xn--bcher-kva.example; h=from")
	f := verifyText(t, z, raw).findings[0]
	if f.result != resultPass || f.domain != "xn--bcher-kva.example" || f.auidDomain != "a.xn--bcher-kva.example" {
		t.Errorf("%s, %s for %s, %s", f.result, f.reason, f.domain, f.auidDomain)
	}
}

func TestPrivateKeys(t *testing.T) {
	t.Parallel()
	block := func(kind string, der []byte, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der, Headers: headers}))
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return block("PRIVATE KEY", der, nil)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(mustDecode(t, "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G"))
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := testKeys()["rsa"].signer
	tests := map[string]struct {
		text, err string
	}{
		"PKCS #8 RSA":     {pkcs8(rsaKey), ""},
		"PKCS #1 RSA":     {string(testKeys()["rsa"].pem), ""},
		"Ed25519":         {string(testKeys()["ed25519"].pem), ""},
		"after others":    {block("CERTIFICATE", []byte{1}, nil) + pkcs8(rsaKey), ""},
		"empty":           {"", "it has no private key in PEM"},
		"public":          {block("PUBLIC KEY", []byte{1}, nil), "it has no private key in PEM"},
		"encrypted":       {block("ENCRYPTED PRIVATE KEY", []byte{1}, nil), "the key is encrypted"},
		"encrypted PKCS1": {block("RSA PRIVATE KEY", []byte{1}, map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "x"}), "the key is encrypted"},
		"damaged":         {block("PRIVATE KEY", []byte{1}, nil), "the key is damaged"},
		"damaged PKCS #1": {block("RSA PRIVATE KEY", []byte{1}, nil), "the key is damaged"},
		"another kind":    {pkcs8(parsed), "it is a *ecdsa.PrivateKey; DKIM knows RSA and Ed25519"},
		"too large":       {strings.Repeat("x", maxKeyFile+1), "it is larger than 64 KiB"},
	}
	for name, tt := range tests {
		key, err := loadPrivateKey(write(t, "key.pem", []byte(tt.text)))
		switch {
		case tt.err == "" && (err != nil || key == nil):
			t.Errorf("%s: %v", name, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: error %v, want %s", name, err, tt.err)
		}
	}
	if _, err := loadPrivateKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := loadPrivateKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	huge := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), maxRSA)}}
	if _, err := newPrivateKey(huge); err == nil {
		t.Error("a huge key is taken")
	}
}
