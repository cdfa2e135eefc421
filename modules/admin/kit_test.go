package admin_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"

	_ "github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/admin"
	_ "github.com/mox-like/mox-like/modules/tlscert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	reader = "reader-0123456789abcdef0123456789abcdef"
	writer = "writer-0123456789abcdef0123456789abcdef"
	// hashed is the secret whose SHA-256 the file has.
	hashed = "hashed-0123456789abcdef0123456789abcdef"
)

// base is what every configuration here begins with.
const base = `
server { hostname = "mx.example.test" }
domain "example.test" {}
`

// secure is a listener on TCP with tokens.
const secure = base + `
tls "self_signed" {}
listener "admin" "api" {
  address = ["127.0.0.1:0", "unix:admin.sock"]
  token "prometheus" { secret = "` + reader + `" }
  token "ci" {
    secret = "` + writer + `"
    scope  = "write"
  }
  token "hashed" { sha256 = "397812c1be21be979d32fb3ee80553f3b55781c05220f521134d8abe81be4ab9" }
  limits { auth_failures = 3 }
}
`

// serve runs a server and offers its operations, as the run command does.
func serve(t *testing.T, source string) (*core.Server, control.Operations) {
	t.Helper()
	s := coretest.Serve(t, source, coretest.Options{})
	service := coretest.Service[*control.Service](t, s)
	ops := control.NewLocal(s, "data", new(process))
	service.Offer(ops, s.Metrics())
	return s, ops
}

// process is one that runs a server.
type process struct{}

func (*process) Reload(context.Context) (*control.Report, error) { return new(control.Report), nil }
func (*process) Status(context.Context) (*control.Status, error) {
	return &control.Status{Running: true, ConfigFile: "test.hcl"}, nil
}

// address gives the address of a network of the listener.
func address(t *testing.T, s *core.Server, network string) string {
	t.Helper()
	for _, a := range s.Addresses("api") {
		if a.Network() == network {
			return a.String()
		}
	}
	t.Fatalf("the listener has no %s address", network)
	return ""
}

// client makes one of a listener's address. TLS is not verified: whether the server
// is the right one is not what is tested.
func client(t *testing.T, network, address string, certificates ...tls.Certificate) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask sends a request, and gives the status, the header and the body.
func ask(t *testing.T, c *http.Client, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// issuer makes certificates.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string // of its certificate
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{path: filepath.Join(t.TempDir(), "ca.pem")}
	i.key = newKey(t)
	der := sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, i.key, i.key)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	i.cert = cert
	if err := os.WriteFile(i.path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// issue makes the certificate of a client.
func (i *issuer) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	der := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, i.cert, key, i.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
