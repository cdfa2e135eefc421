package tlscert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/coretest"
)

// newSelfSigned gives a source as Provision leaves it.
func newSelfSigned(dir string, c *clock, hosts ...string) *SelfSigned {
	return &SelfSigned{Hosts: hosts, Lifetime: 365 * 24 * time.Hour, name: "main", dir: dir, now: c.now, log: zap.NewNop()}
}

func start(tb testing.TB, s interface{ Start() error }) {
	tb.Helper()
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
}

func certificateOf(tb testing.TB, s interface {
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}, name string,
) *tls.Certificate {
	tb.Helper()
	cert, err := s.Certificate(hello(name))
	if err != nil {
		tb.Fatal(err)
	}
	if cert == nil {
		tb.Fatalf("no certificate for %q", name)
	}
	return cert
}

func sameKey(tb testing.TB, a, b *tls.Certificate) bool {
	tb.Helper()
	return a.PrivateKey.(*ecdsa.PrivateKey).Equal(b.PrivateKey)
}

func TestSelfSignedIsKept(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), filepath.Join(t.TempDir(), "tls")
	first := newSelfSigned(dir, c, "mx1.example.test")
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("the folder is there before Start")
	}
	start(t, first)
	made := certificateOf(t, first, "mx1.example.test")
	for name, mode := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "main.key": 0o600, "main.crt": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("mode of %q is %v, want %v", name, info.Mode(), mode)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v (%v), want two files", entries, err)
	}
	if key := made.PrivateKey.(*ecdsa.PrivateKey); key.Curve != elliptic.P256() {
		t.Errorf("the key is on %s", key.Params().Name)
	}
	second := newSelfSigned(dir, c, "mx1.example.test")
	start(t, second)
	if got := certificateOf(t, second, ""); !got.Leaf.Equal(made.Leaf) {
		t.Error("a restart made another certificate")
	}
}

func TestSelfSignedIsTrustedByThoseWhoAreToldTo(t *testing.T) {
	t.Parallel()
	c := newClock()
	c.at.Store(time.Now().UnixNano())
	s := newSelfSigned("", c, "mx1.example.test", "bücher.example.test", "192.0.2.1", "2001:db8::1")
	start(t, s)
	roots := x509.NewCertPool()
	roots.AddCert(certificateOf(t, s, "").Leaf)
	for _, name := range []string{"mx1.example.test", "xn--bcher-kva.example.test", "192.0.2.1", "2001:db8::1"} {
		client, server := net.Pipe()
		accepted := make(chan error, 1)
		go func() {
			accepted <- tls.Server(server, &tls.Config{GetCertificate: s.Certificate, SessionTicketsDisabled: true}).Handshake()
		}()
		if err := tls.Client(client, &tls.Config{ServerName: name, RootCAs: roots}).Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-accepted; err != nil {
			t.Errorf("%s, server: %v", name, err)
		}
		client.Close()
		server.Close()
	}
	if cert, err := s.Certificate(hello("other.example.test")); cert != nil || err != nil {
		t.Errorf("another name gets %v, %v", cert, err)
	}
}

func TestSelfSignedIsRenewedWithItsKey(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	s := newSelfSigned(dir, c, "mx1.example.test")
	start(t, s)
	first := certificateOf(t, s, "")
	c.advance(334 * 24 * time.Hour)
	if got := certificateOf(t, s, ""); !got.Leaf.Equal(first.Leaf) {
		t.Error("renewed with 31 days left")
	}
	c.advance(2 * 24 * time.Hour)
	second := certificateOf(t, s, "")
	if second.Leaf.Equal(first.Leaf) {
		t.Fatal("not renewed with 29 days left")
	}
	if want := c.in(365 * 24 * time.Hour); !second.Leaf.NotAfter.Equal(want) {
		t.Errorf("the new one expires on %s, want %s", second.Leaf.NotAfter, want)
	}
	if !sameKey(t, first, second) {
		t.Error("the new one has another key")
	}
	again := newSelfSigned(dir, c, "mx1.example.test")
	start(t, again)
	if got := certificateOf(t, again, ""); !got.Leaf.Equal(second.Leaf) {
		t.Error("the new one is not the one that is kept")
	}
}

func TestSelfSignedInMemoryIsRenewedWithItsKey(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSelfSigned("", c, "mx1.example.test")
	start(t, s)
	first := certificateOf(t, s, "")
	c.advance(336 * 24 * time.Hour)
	second := certificateOf(t, s, "")
	if second.Leaf.Equal(first.Leaf) || !sameKey(t, first, second) {
		t.Error("want another certificate with the same key")
	}
}

func TestSelfSignedKeepsTheOldOneWhenRenewalFails(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), filepath.Join(t.TempDir(), "tls")
	s := newSelfSigned(dir, c, "mx1.example.test")
	start(t, s)
	first := certificateOf(t, s, "")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.advance(350 * 24 * time.Hour)
	if got := certificateOf(t, s, ""); !got.Leaf.Equal(first.Leaf) {
		t.Error("a certificate is used that could not be kept")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.advance(renewEvery)
	if got := certificateOf(t, s, ""); got.Leaf.Equal(first.Leaf) {
		t.Error("the renewal was not tried again")
	}
}

func TestSelfSignedIsMadeAnewWhenItNoLongerFits(t *testing.T) {
	t.Parallel()
	hosts := []string{"mx1.example.test", "192.0.2.1"}
	tests := map[string]struct {
		spoil   func(t *testing.T, dir string, c *clock)
		hosts   []string
		sameKey bool
	}{
		"other hosts":        {nil, []string{"mx2.example.test", "192.0.2.1"}, true},
		"other addresses":    {nil, []string{"mx1.example.test", "192.0.2.2"}, true},
		"expired":            {func(_ *testing.T, _ string, c *clock) { c.advance(400 * 24 * time.Hour) }, hosts, true},
		"clock was wrong":    {func(_ *testing.T, _ string, c *clock) { c.advance(-400 * 24 * time.Hour) }, hosts, true},
		"no certificate":     {remove("main.crt"), hosts, true},
		"no key":             {remove("main.key"), hosts, false},
		"broken certificate": {spoil("main.crt"), hosts, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dir := newClock(), t.TempDir()
			old := newSelfSigned(dir, c, hosts...)
			start(t, old)
			if test.spoil != nil {
				test.spoil(t, dir, c)
			}
			s := newSelfSigned(dir, c, test.hosts...)
			start(t, s)
			before, after := old.current.Load().list[0], certificateOf(t, s, "")
			if after.Leaf.Equal(before.Leaf) {
				t.Error("the old certificate is used")
			}
			if got := sameKey(t, before, after); got != test.sameKey {
				t.Errorf("same key: %v, want %v", got, test.sameKey)
			}
			want := []string{test.hosts[0]}
			if diff := cmp.Diff(want, after.Leaf.DNSNames); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func remove(name string) func(*testing.T, string, *clock) {
	return func(t *testing.T, dir string, _ *clock) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func spoil(name string) func(*testing.T, string, *clock) {
	return func(t *testing.T, dir string, _ *clock) {
		t.Helper()
		replace(t, filepath.Join(dir, name), []byte("not PEM\n"))
	}
}

func TestSelfSignedDoesNotOverwriteABrokenKey(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	start(t, newSelfSigned(dir, c, "mx1.example.test"))
	spoil("main.key")(t, dir, c)
	err := newSelfSigned(dir, c, "mx1.example.test").Start()
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "main.key")) {
		t.Errorf("error %v, want one that names the key", err)
	}
}

func TestSelfSignedRemovesWhatACrashHasLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	others := []string{"main.key.1x", "main.key.crt", "main.key.key", "mainly.key.1", "xmain.crt.1"}
	for _, name := range append([]string{"main.key.1234567890", "main.crt.1"}, others...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, newSelfSigned(dir, newClock(), "mx1.example.test"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := append(others, "main.crt", "main.key")
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestSelfSignedValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name  string
		hosts []string
		want  []string
	}{
		"good":           {"main", []string{"mx1.example.test", "*.example.test", "localhost", "192.0.2.1", "2001:db8::1"}, nil},
		"path as label":  {"../main", []string{"mx1.example.test"}, []string{""}},
		"hidden file":    {".main", []string{"mx1.example.test"}, []string{""}},
		"empty host":     {"main", []string{""}, []string{"hosts"}},
		"no host names":  {"main", []string{"a b", "mx1.example.test:25", "a@example.test"}, []string{"hosts", "hosts", "hosts"}},
		"wildcard alone": {"main", []string{"*."}, []string{"hosts"}},
		"wildcard below": {"main", []string{"a.*.example.test"}, []string{"hosts"}},
		"too long":       {"main", []string{strings.Repeat("a.", 130) + "test"}, []string{"hosts"}},
	}
	for name, test := range tests {
		s := &SelfSigned{Hosts: test.hosts, name: test.name}
		var got []string
		for _, p := range s.Validate() {
			got = append(got, p.Attribute)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSelfSignedFromTheFile(t *testing.T) {
	t.Parallel()
	kit := coretest.New(t, coretest.Options{OnDisk: true})
	for source, want := range map[string][]string{
		`tls "self_signed" {}`: {"mx.example.test"},
		"tls \"self_signed\" \"two\" {\n hosts = [\"a.example.test\", \"b.example.test\"]\n}": {"a.example.test", "b.example.test"},
	} {
		s := coretest.Load[*SelfSigned](t, kit, "tls.self_signed", source)
		if diff := cmp.Diff(want, certificateOf(t, s, want[0]).Leaf.DNSNames); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
		for _, suffix := range []string{".crt", ".key"} {
			if _, err := os.Stat(filepath.Join(kit.Store().Dir(), "tls", s.name+suffix)); err != nil {
				t.Error(err)
			}
		}
	}
}
