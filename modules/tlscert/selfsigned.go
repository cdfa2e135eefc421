package tlscert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core"
)

func init() { core.Register(new(SelfSigned)) }

// SelfSigned makes a certificate that nobody vouches for but the server itself,
// with an ECDSA key on P-256. Both are kept in data_dir/tls, in NAME.key and
// NAME.crt, where NAME is the block's label. The certificate is renewed before
// it expires; the key stays, so that clients and TLSA records that pin it go on
// to trust it.
type SelfSigned struct {
	// Hosts are the names and IP addresses that the certificate is for; without
	// it, the server's hostname.
	Hosts []string `config:"hosts"`
	// Lifetime is how long a certificate is good. It is renewed when a third of
	// that is left, 30 days at most.
	Lifetime time.Duration `config:"lifetime" default:"365d" min:"1h" max:"3650d"`

	name    string
	dir     string // "" keeps everything in memory
	now     func() time.Time
	log     *zap.Logger
	current atomic.Pointer[selection]
	renewal pacer
}

// Module describes the source.
func (*SelfSigned) Module() core.Info {
	return core.Info{ID: "tls.self_signed", New: func() core.Module { return new(SelfSigned) }}
}

// Provision takes what the source needs; the certificate is made by Start.
func (s *SelfSigned) Provision(ctx *core.Context) error {
	s.name, s.now, s.log = ctx.Name(), ctx.Now(), ctx.Logger()
	if dir := ctx.DataDir(); dir != "" {
		s.dir = filepath.Join(dir, "tls")
	}
	if len(s.Hosts) == 0 {
		s.Hosts = []string{ctx.Hostname()}
	}
	return nil
}

var safeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// Validate checks the hosts and that the name can be that of a file.
func (s *SelfSigned) Validate() core.Problems {
	var problems core.Problems
	if !safeName.MatchString(s.name) {
		problems.Errorf("", "the label %q names the files of the certificate: letters, digits, '.', '_' and '-' only, 64 at most", s.name)
	}
	for _, host := range s.Hosts {
		if _, err := asciiHost(host); err != nil {
			problems.Errorf("hosts", "%q is neither a host name nor an IP address: %v", host, err)
		}
	}
	return problems
}

// Start loads the certificate, and makes one if there is none that is good.
func (s *SelfSigned) Start() error {
	if s.dir != "" {
		if err := s.prepare(); err != nil {
			return fmt.Errorf("make folder of certificates: %w", err)
		}
	}
	cert, err := s.load()
	if err != nil {
		return err
	}
	if cert == nil || s.due(cert.Leaf) {
		if cert, err = s.issue(cert); err != nil {
			return err
		}
	}
	s.current.Store(newSelection([]*tls.Certificate{cert}))
	return nil
}

// prepare makes the folder durably, and removes what writing has left there that
// a crash ended.
func (s *SelfSigned) prepare() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(s.dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	left := regexp.MustCompile(`^` + regexp.QuoteMeta(s.name) + `\.(key|crt)\.[0-9]+$`)
	for _, entry := range entries {
		if left.MatchString(entry.Name()) {
			if err := os.Remove(filepath.Join(s.dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// renewEvery is how often a handshake looks whether the certificate is to be
// renewed, and how often a renewal that failed is tried again.
const renewEvery = time.Minute

// Certificate gives the certificate if it has the server name.
func (s *SelfSigned) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.renewal.do(s.now(), renewEvery, s.renew)
	return s.current.Load().choose(hello), nil
}

// renew makes a new certificate when the time has come. The old one stays if
// that fails.
func (s *SelfSigned) renew() {
	old := s.current.Load().list[0]
	if !s.due(old.Leaf) {
		return
	}
	cert, err := s.issue(old)
	if err != nil {
		s.log.Error("certificate not renewed", zap.Time("expires", old.Leaf.NotAfter), zap.Error(err))
		return
	}
	s.current.Store(newSelection([]*tls.Certificate{cert}))
}

// due tells whether a certificate must be replaced: it expires soon, is not
// valid yet, or is for other hosts.
func (s *SelfSigned) due(leaf *x509.Certificate) bool {
	now, left := s.now(), min(s.Lifetime/3, 30*24*time.Hour)
	if now.Add(left).After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return true
	}
	want := s.template()
	return !slices.Equal(leaf.DNSNames, want.DNSNames) || !slices.EqualFunc(leaf.IPAddresses, want.IPAddresses, net.IP.Equal)
}

// template gives the certificate as it shall be.
func (s *SelfSigned) template() *x509.Certificate {
	now := s.now()
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: s.Hosts[0]},
		NotBefore:             now.Add(-time.Hour), // for clients whose clocks are behind
		NotAfter:              now.Add(s.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range s.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if name, err := asciiHost(host); err == nil {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t
}

// asciiHost gives a host name in A-labels (RFC 5890); the first label may be *.
// IP addresses are given back as they are.
func asciiHost(host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	name, wildcard := strings.CutPrefix(host, "*.")
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil {
		return "", err
	}
	if name == "" || len(name) > 253 {
		return "", errors.New("it has 1 to 253 characters")
	}
	if wildcard {
		name = "*." + name
	}
	return name, nil
}

// issue makes a certificate and keeps it. The key is old's, if there is one.
func (s *SelfSigned) issue(old *tls.Certificate) (*tls.Certificate, error) {
	key, err := s.key(old)
	if err != nil {
		return nil, err
	}
	template := s.template()
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse new certificate: %w", err)
	}
	if err := s.keep(".crt", "CERTIFICATE", der); err != nil {
		return nil, err
	}
	s.log.Info("certificate made", zap.Strings("hosts", s.Hosts), zap.Time("expires", leaf.NotAfter))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// key gives old's key, else the one that was kept, else a new one, which it
// keeps.
func (s *SelfSigned) key(old *tls.Certificate) (crypto.Signer, error) {
	if old != nil {
		return old.PrivateKey.(crypto.Signer), nil
	}
	if s.dir != "" {
		text, err := readSmall(s.path(".key"))
		switch {
		case err == nil:
			return parseKey(s.path(".key"), text)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return key, s.keep(".key", "PRIVATE KEY", der)
}

func parseKey(name string, text []byte) (crypto.Signer, error) {
	if block, _ := pem.Decode(text); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, fmt.Errorf("read key %s: it is damaged; delete it and a new one is made", name)
}

// load gives what an earlier run has kept, nil if there is no certificate or it
// does not fit the key.
func (s *SelfSigned) load() (*tls.Certificate, error) {
	if s.dir == "" {
		return nil, nil
	}
	cert, err := loadPair(s.path(".crt"), s.path(".key"))
	switch {
	case err == nil:
		return cert, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, err
	}
	s.log.Warn("certificate is made anew", zap.Error(err))
	return nil, nil
}

func (s *SelfSigned) path(suffix string) string { return filepath.Join(s.dir, s.name+suffix) }

// keep writes a file in one step: a crash leaves the old one or the new one.
func (s *SelfSigned) keep(suffix, kind string, der []byte) (err error) {
	if s.dir == "" {
		return nil
	}
	name := s.path(suffix)
	f, err := os.CreateTemp(s.dir, s.name+suffix+".*") // mode 0600, see prepare
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	if err := pem.Encode(f, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncFolder(s.dir)
}

// syncFolder makes renames in a folder durable.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Interface guards.
var (
	_ core.Provisioner = (*SelfSigned)(nil)
	_ core.Validator   = (*SelfSigned)(nil)
	_ core.Starter     = (*SelfSigned)(nil)
	_ core.TLSSource   = (*SelfSigned)(nil)
)
