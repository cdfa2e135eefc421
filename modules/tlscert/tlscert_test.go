package tlscert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time               { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration)      { c.at.Add(int64(d)) }
func (c *clock) in(d time.Duration) time.Time { return c.now().Add(d) }

// pair is a certificate and its key in PEM.
type pair struct {
	cert, key []byte
	leaf      *x509.Certificate
}

var serial atomic.Int64

// newPair makes a certificate that is good until notAfter; kind is "ecdsa" or
// "rsa".
func newPair(tb testing.TB, kind string, notAfter time.Time, names ...string) pair {
	tb.Helper()
	var key crypto.Signer
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)),
		DNSNames:     names,
		NotBefore:    notAfter.Add(-365 * 24 * time.Hour),
		NotAfter:     notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		leaf: leaf,
	}
}

func (p pair) certificate(tb testing.TB) *tls.Certificate {
	tb.Helper()
	cert, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		tb.Fatal(err)
	}
	return &cert
}

// write puts the pair into dir as NAME.crt and NAME.key, one after the other and
// each in one step.
func (p pair) write(tb testing.TB, dir, name string) (cert, key string) {
	tb.Helper()
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	replace(tb, cert, p.cert)
	replace(tb, key, p.key)
	return cert, key
}

var writes struct {
	sync.Mutex
	last time.Time
}

// replace puts a file in place with a time of change that no earlier one has,
// however coarse the file system's clock is.
func replace(tb testing.TB, name string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		tb.Fatal(err)
	}
	writes.Lock()
	writes.last = writes.last.Add(time.Second)
	if writes.last.Before(time.Unix(1_700_000_000, 0)) {
		writes.last = time.Unix(1_700_000_000, 0)
	}
	at := writes.last
	writes.Unlock()
	if err := os.Chtimes(name+".new", at, at); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		tb.Fatal(err)
	}
}

// hello is a client's that takes every kind of key, or only those named.
func hello(name string, schemes ...tls.SignatureScheme) *tls.ClientHelloInfo {
	if schemes == nil {
		schemes = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}
	}
	return &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes:  schemes,
		SupportedCurves:   []tls.CurveID{tls.X25519},
	}
}

func TestChoice(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(24 * time.Hour)
	first := newPair(t, "ecdsa", later, "mx1.example.test", "MX2.example.test").certificate(t)
	firstRSA := newPair(t, "rsa", later, "mx1.example.test").certificate(t)
	wild := newPair(t, "ecdsa", later, "*.example.org").certificate(t)
	exact := newPair(t, "ecdsa", later, "imap.example.org").certificate(t)
	s := newSelection([]*tls.Certificate{first, firstRSA, wild, exact})
	rsaOnly := []tls.SignatureScheme{tls.PSSWithSHA256}
	tests := map[string]struct {
		hello *tls.ClientHelloInfo
		want  *tls.Certificate
	}{
		"by name":                      {hello("mx1.example.test"), first},
		"second name":                  {hello("mx2.example.test"), first},
		"other case and a dot":         {hello("Mx1.Example.Test."), first},
		"another kind of key":          {hello("mx1.example.test", rsaOnly...), firstRSA},
		"no name":                      {hello(""), first},
		"no name, another kind of key": {hello("", rsaOnly...), firstRSA},
		"wildcard":                     {hello("smtp.example.org"), wild},
		"exact before wildcard":        {hello("imap.example.org"), exact},
		"no deeper than one label":     {hello("a.b.example.org"), nil},
		"not the wildcard's parent":    {hello("example.org"), nil},
		"unknown":                      {hello("example.net"), nil},
		"one label":                    {hello("localhost"), nil},
		"wildcard as a name":           {hello("*.example.net"), nil},
		"a dot":                        {hello(".example.org"), nil},
		"no key that the client takes": {hello("mx2.example.test", rsaOnly...), first},
	}
	for name, test := range tests {
		if got := s.choose(test.hello); got != test.want {
			t.Errorf("%s: another certificate than expected: %v", name, got)
		}
	}
	if got := (*selection)(nil).choose(hello("")); got != nil {
		t.Errorf("an empty selection gives %v", got)
	}
}

func TestPacer(t *testing.T) {
	t.Parallel()
	var p pacer
	calls := 0
	start := time.Unix(1000, 0)
	for _, second := range []int{0, 1, 4, 5, 6, 9, 10} {
		p.do(start.Add(time.Duration(second)*time.Second), 5*time.Second, func() {
			calls++
			p.do(start.Add(time.Hour), 5*time.Second, func() { t.Error("a second caller came in") })
		})
	}
	if calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
}
