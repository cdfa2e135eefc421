package tlscert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
)

func init() { core.Register(new(Files)) }

// Files takes certificates and their keys from PEM files. When the files change
// they are read again, within seconds and without a restart; sessions that are
// open keep what they have. A new pair that is broken changes nothing, and the
// log says what is wrong with it.
type Files struct {
	// Cert is the file of the certificate, followed by its intermediate ones.
	Cert string `config:"cert"`
	// Key is the file of the certificate's private key, not encrypted.
	Key string `config:"key"`
	// Pairs are further certificates, for other names or with other kinds of key.
	// The first of all serves clients that name no server.
	Pairs []Pair `config:"pair,block"`

	hostname string
	user     *core.SystemUser // that reads the files after the start, nil if it is who does now
	now      func() time.Time
	log      *zap.Logger
	pairs    []*pairState
	current  atomic.Pointer[selection]
	check    pacer
}

// Pair is a certificate and its key.
type Pair struct {
	// Cert is the file of the certificate, followed by its intermediate ones.
	Cert string `config:"cert,required"`
	// Key is the file of the certificate's private key, not encrypted.
	Key string `config:"key,required"`
}

// pairState is what is known of a pair. Only one goroutine at a time has it.
type pairState struct {
	cert, key string // paths
	prefix    string // of the attributes in problems
	loaded    *tls.Certificate
	stamp     [2]stamp
	complaint string // what was logged last
}

// stamp tells whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
}

// Module describes the source.
func (*Files) Module() core.Info {
	return core.Info{ID: "tls.files", Looks: []string{"cert", "key", "pair"}, New: func() core.Module { return new(Files) }}
}

// Provision resolves the paths. The files are read by Validate and Start.
func (f *Files) Provision(ctx *core.Context) error {
	f.hostname, f.user, f.now, f.log = ctx.Hostname(), ctx.User(), ctx.Now(), ctx.Logger()
	if f.Cert != "" && f.Key != "" {
		f.pairs = append(f.pairs, &pairState{cert: ctx.Path(f.Cert), key: ctx.Path(f.Key)})
	}
	for i, p := range f.Pairs {
		f.pairs = append(f.pairs, &pairState{cert: ctx.Path(p.Cert), key: ctx.Path(p.Key), prefix: fmt.Sprintf("pair[%d].", i)})
	}
	return nil
}

// expiresSoon is the time before the end of a certificate from which on it
// should have been replaced.
const expiresSoon = 14 * 24 * time.Hour

// Validate reads the files and checks that each certificate has its key, and that the
// server can read them once it has dropped root, as it does. It warns of those that
// expire soon, and of keys that others can read.
func (f *Files) Validate() core.Problems {
	var problems core.Problems
	switch {
	case f.Cert != "" && f.Key == "":
		problems.Errorf("cert", "cert stands without key; key names the file of the certificate's private key")
	case f.Cert == "" && f.Key != "":
		problems.Errorf("key", "key stands without cert; cert names the file of the certificate")
	case len(f.pairs) == 0:
		problems.Errorf("", "no certificate is named; set cert and key, or add a block pair with them")
	}
	covered := false
	var leaves []*x509.Certificate
	for _, p := range f.pairs {
		cert, err := loadPair(p.cert, p.key)
		if err != nil {
			problems.Errorf(p.prefix+faulty(err), "%v", err)
			continue
		}
		leaves = append(leaves, cert.Leaf)
		covered = covered || cert.Leaf.VerifyHostname(f.hostname) == nil
		f.warn(&problems, p, cert.Leaf)
	}
	if len(leaves) > 0 && len(leaves) == len(f.pairs) && !covered {
		p := f.pairs[0]
		problems.Warnf(p.prefix+"cert", "no certificate here is for %s, the server's hostname; that in %s is for %s",
			f.hostname, p.cert, strings.Join(leaves[0].DNSNames, ", "))
	}
	return problems
}

// warn adds what is dubious about a pair that is sound, and what keeps the server from
// reading it.
func (f *Files) warn(problems *core.Problems, p *pairState, leaf *x509.Certificate) {
	if text := f.expiry(leaf); text != "" {
		problems.Warnf(p.prefix+"cert", "the certificate in %s %s", p.cert, text)
	}
	if info, err := os.Stat(p.key); err == nil && info.Mode().Perm()&0o007 != 0 {
		problems.Warnf(p.prefix+"key", "every user of this machine can get at the key %s (mode %04o); run: chmod 0600 %s",
			p.key, info.Mode().Perm(), p.key)
	}
	for _, file := range []struct{ attribute, path string }{{"cert", p.cert}, {"key", p.key}} {
		if err := f.user.CheckReadable(file.path); err != nil {
			problems.Errorf(p.prefix+file.attribute, "user %s, who the server becomes, cannot read %s: %v", f.user.Name, file.path, err)
		}
	}
}

// expiry tells what is wrong with a certificate's time, "" if nothing is.
func (f *Files) expiry(leaf *x509.Certificate) string {
	now, day := f.now(), "2006-01-02"
	switch {
	case now.After(leaf.NotAfter):
		return "expired on " + leaf.NotAfter.Format(day) + "; clients will not trust it"
	case now.Add(expiresSoon).After(leaf.NotAfter):
		return "expires on " + leaf.NotAfter.Format(day) + "; renew it"
	case now.Before(leaf.NotBefore):
		return "is valid from " + leaf.NotBefore.Format(day) + " only; clients will not trust it before"
	}
	return ""
}

// Start reads the files.
func (f *Files) Start() error {
	for _, p := range f.pairs {
		if err := p.load(); err != nil {
			return err
		}
		f.logExpiry(p)
	}
	f.use()
	f.check.do(f.now(), checkEvery, func() {})
	return nil
}

// checkEvery is how often a handshake looks whether the files have changed.
const checkEvery = 5 * time.Second

// Certificate chooses by server name.
func (f *Files) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.check.do(f.now(), checkEvery, f.reload)
	return f.current.Load().choose(hello), nil
}

// reload reads the pairs that have changed. A pair that is broken stays what it
// was; it is read again at each check until it is good, since its two files
// cannot be replaced in one step.
func (f *Files) reload() {
	changed := false
	for _, p := range f.pairs {
		if stamps, err := p.stamps(); err == nil && stamps == p.stamp {
			continue
		}
		if err := p.load(); err != nil {
			p.complain(f.log, err)
			continue
		}
		p.complaint, changed = "", true
		f.log.Info("certificate reloaded", zap.String("cert", p.cert), zap.Time("expires", p.loaded.Leaf.NotAfter))
		f.logExpiry(p)
	}
	if changed {
		f.use()
	}
}

func (f *Files) logExpiry(p *pairState) {
	if text := f.expiry(p.loaded.Leaf); text != "" {
		f.log.Warn("certificate needs a look", zap.String("cert", p.cert), zap.String("problem", text))
	}
}

// use puts what is loaded in place for the next handshake.
func (f *Files) use() {
	var list []*tls.Certificate
	for _, p := range f.pairs {
		list = append(list, p.loaded)
	}
	f.current.Store(newSelection(list))
}

// complain logs an error unless it was the last one.
func (p *pairState) complain(log *zap.Logger, err error) {
	if text := err.Error(); text != p.complaint {
		p.complaint = text
		log.Error("changed certificate not used, the old one stays", zap.String("cert", p.cert), zap.Error(err))
	}
}

// load reads the pair. The stamps are taken first, so that a change in between
// is seen at the next check.
func (p *pairState) load() error {
	stamps, err := p.stamps()
	if err != nil {
		return err
	}
	cert, err := loadPair(p.cert, p.key)
	if err != nil {
		return err
	}
	p.loaded, p.stamp = cert, stamps
	return nil
}

func (p *pairState) stamps() (s [2]stamp, err error) {
	for i, name := range []string{p.cert, p.key} {
		info, err := os.Stat(name)
		if err != nil {
			return s, fmt.Errorf("look at certificate: %w", err)
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

// pairError is what is wrong with a pair and which attribute names the culprit.
type pairError struct {
	attribute string
	err       error
}

func (e *pairError) Error() string { return e.err.Error() }
func (e *pairError) Unwrap() error { return e.err }

func faulty(err error) string {
	if e, ok := errors.AsType[*pairError](err); ok {
		return e.attribute
	}
	return "cert"
}

// loadPair reads a certificate and its key and checks that they belong together.
func loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	certText, err := readSmall(certFile)
	if err != nil {
		return nil, &pairError{"cert", fmt.Errorf("read certificate: %w", err)}
	}
	keyText, err := readSmall(keyFile)
	if err != nil {
		return nil, &pairError{"key", fmt.Errorf("read key: %w", err)}
	}
	cert, err := tls.X509KeyPair(certText, keyText)
	switch {
	case err == nil:
		return &cert, nil
	case strings.Contains(string(keyText), "ENCRYPTED"):
		return nil, &pairError{"key", fmt.Errorf("the key in %s is encrypted; decrypt it with: openssl pkey -in %s -out FILE", keyFile, keyFile)}
	case strings.Contains(err.Error(), "does not match"):
		return nil, &pairError{"key", fmt.Errorf("the key in %s is not that of the certificate in %s", keyFile, certFile)}
	case strings.Contains(err.Error(), "key"):
		return nil, &pairError{"key", fmt.Errorf("parse key in %s: %w", keyFile, err)}
	default:
		return nil, &pairError{"cert", fmt.Errorf("parse certificate in %s: %w", certFile, err)}
	}
}

// maxFile bounds what is read; a chain of certificates has a few kilobytes.
const maxFile = 1 << 20

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
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is larger than 1 MiB")}
	}
	return text, nil
}

// Interface guards.
var (
	_ core.Provisioner = (*Files)(nil)
	_ core.Validator   = (*Files)(nil)
	_ core.Starter     = (*Files)(nil)
	_ core.TLSSource   = (*Files)(nil)
)
