package dkim

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the time of the tests.
var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// testKey is a key for tests in all its forms.
type testKey struct {
	*privateKey
	record string // for the DNS
	pem    []byte
	seed   string // of an Ed25519 key, in base64
}

var testKeys = sync.OnceValue(func() map[string]*testKey {
	keys := make(map[string]*testKey)
	for name, bits := range map[string]int{"rsa": 2048, "other": 2048, "weak": 1024} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		keys[name] = newTestKey(key)
		public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			panic(err)
		}
		keys[name].record = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
		keys[name].pem = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	keys["ed25519"] = newTestKey(key)
	keys["ed25519"].seed = base64.StdEncoding.EncodeToString(key.Seed())
	keys["ed25519"].record = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	keys["ed25519"].pem = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return keys
})

func newTestKey(key any) *testKey {
	private, err := newPrivateKey(key)
	if err != nil {
		panic(err)
	}
	return &testKey{privateKey: private}
}

// write puts a file into a folder of the test, for its owner alone.
func write(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// zone is the DNS of a test: names to texts. silent does not answer.
type zone map[string][]string

const silent = "silent"

func (z zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	texts := z[name]
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(texts) == 0:
		return nil, &dns.Error{Name: name, Type: dns.TypeTXT, Kind: dns.ErrNotFound}
	case texts[0] == silent:
		return nil, &dns.Error{Name: name, Type: dns.TypeTXT, Kind: dns.ErrTemporary}
	}
	return texts, nil
}

// text is a message with all that canonicalizations differ in.
const text = "Received: from client.example.org by mx.example.org;\r\n\tSun, 1 Nov 2026 11:59:59 +0000\r\n" +
	"From:  Alice  <alice@example.org> \r\nTO: bob@example.test\r\nSubject: a \t folded\r\n  subject\t\r\n" +
	"Date: Sun, 1 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nX-Empty:\r\n" +
	"\r\n" +
	"Hello,  \t Bob.  \r\n\r\n  indented\t\r\nno \r\n \r\nbye\r\n \t\r\n\r\n\r\n"

func parse(tb testing.TB, raw string) *mail.Message {
	tb.Helper()
	m, err := mail.NewMessage([]byte(raw))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// signed puts signatures on top of a message. Its header section is over at the
// first empty line, like that of any.
func signed(tb testing.TB, raw string, names []string, list ...signing) string {
	tb.Helper()
	m := parse(tb, raw)
	values, err := signMessage(m.Header, newFieldIndex(m.Header), m.OpenBody(), names, list)
	if err != nil {
		tb.Fatal(err)
	}
	var b strings.Builder
	for _, v := range values {
		b.WriteString(signatureField + ": " + v + "\r\n")
	}
	return b.String() + raw
}

var someNames = []string{"from", "from", "to", "subject", "date", "message-id", "x-empty", "reply-to"}

func signingBy(name string, header, body canonicalization) signing {
	return signing{domain: "example.org", selector: name, key: testKeys()[name].privateKey, header: header, body: body, created: noon}
}

// keyZone has the public keys of the tests at NAME._domainkey.example.org.
func keyZone() zone {
	z := make(zone)
	for name, key := range testKeys() {
		z[name+"._domainkey.example.org"] = []string{key.record}
	}
	return z
}

func verifyText(tb testing.TB, z resolver, raw string) *report {
	tb.Helper()
	v := &verifier{resolver: z, now: atNoon, most: 8, skew: 5 * time.Minute}
	r, err := v.verify(tb.Context(), parse(tb, raw))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}
