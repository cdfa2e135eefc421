package dkim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
)

// Keys holds the keys by which dkim_sign signs for the domain.
//
// Without attributes, the server makes and keeps them itself: 'mox-like dkim keygen
// DOMAIN' makes the first ones, 'dkim dns' prints the records that publish them, 'dkim
// rotate' replaces them step by step, and 'dkim check' compares the DNS with them.
// They are in the folder dkim of the data directory.
//
// With selector and key_file, it is a key of one's own, and may stand several times: an
// RSA key and an Ed25519 key make two signatures, of which a receiver takes those that
// it knows.
type Keys struct {
	// Name tells several blocks of a domain apart.
	Name string `config:"name,label,optional"`
	// Selector names the key of key_file in the DNS: its public part is the TXT record
	// of SELECTOR._domainkey.DOMAIN.
	Selector string `config:"selector" example:"s2026"`
	// KeyFile is the file of a private key: PEM, PKCS #8 or PKCS #1, not encrypted, of
	// mode 0600. Relative to the configuration's folder.
	KeyFile string `config:"key_file" example:"dkim/example.org.s2026.pem"`
	// Overlap is for how long the record of a key that the server has replaced must
	// stay, since mail that it has signed can be on its way for days. Without it, 7d.
	Overlap *time.Duration `config:"overlap" min:"1h" max:"365d"`

	key      *domainKey // of key_file
	service  *Service
	domain   string
	dir      string // of the keys that the server manages, if it has a data directory
	problems core.Problems
	user     *core.SystemUser // that reads the file after the start, nil if it is who does now
	log      *zap.Logger
}

// defaultOverlap is longer than mail waits in queues (RFC 5321 section 4.5.4.1).
const defaultOverlap = 7 * 24 * time.Hour

// domainKey is a key that is ready for use. private is set by Start.
type domainKey struct {
	// domain is as addresses have it; ascii and selector are in A-labels.
	domain, ascii, selector string
	path                    string
	private                 *privateKey
}

// Module describes the block.
func (*Keys) Module() core.Info {
	return core.Info{ID: "domain.dkim", Looks: []string{""}, New: func() core.Module { return new(Keys) }}
}

// managed tells whether the server keeps the keys.
func (k *Keys) managed() bool { return k.Selector == "" && k.KeyFile == "" }

// Provision reads the settings. Files are read by Validate and Start.
func (k *Keys) Provision(c *core.Context) error {
	var err error
	if k.service, err = core.Service[*Service](c); err != nil {
		return err
	}
	k.domain, k.user, k.log = c.Domain(), c.User(), c.Logger()
	others := core.DomainModules[*Keys](c, k.domain)
	if k.managed() {
		if slices.ContainsFunc(others, (*Keys).managed) {
			k.problems.Errorf("", "the domain has two blocks dkim without a key_file, and one holds all keys that the server manages; remove one")
		}
		ascii, _ := asciiName(k.domain)
		k.dir = filepath.Join(c.DataDirSetting(), keyFolder, ascii)
		return nil
	}
	if k.Overlap != nil {
		k.problems.Errorf("overlap", "overlap is for keys that the server manages, and this one is in a file; remove it")
	}
	key, err := newDomainKey(k.domain, k.Selector, k.KeyFile)
	if err != nil {
		text := err.Error()
		if k.Selector == "" || k.KeyFile == "" {
			text += "; or leave out both selector and key_file, and the server makes and keeps the keys itself"
		}
		k.problems.Errorf(attributeOf(err, "key_file"), "%s", text)
		return nil
	}
	for _, other := range others {
		if other.key != nil && other.key.selector == key.selector {
			k.problems.Errorf("selector", "the selector %s of %s stands here twice", key.selector, k.domain)
			return nil
		}
	}
	if key.path, err = filepath.Abs(c.Path(k.KeyFile)); err != nil {
		return fmt.Errorf("find the file of a key: %w", err)
	}
	k.key = key
	return nil
}

// settingError is what is wrong with a setting of a key.
type settingError struct{ attribute, text string }

// Error says what is wrong.
func (e *settingError) Error() string { return e.text }

// attributeOf gives the attribute that an error is about; file is what the one with
// the file is called.
func attributeOf(err error, file string) string {
	e, ok := errors.AsType[*settingError](err)
	switch {
	case !ok:
		return ""
	case e.attribute == "file":
		return file
	default:
		return e.attribute
	}
}

// newDomainKey checks the settings of a key. Errors are of type settingError, about
// domain, selector or file.
func newDomainKey(domain, selector, file string) (*domainKey, error) {
	ascii, ok := asciiName(domain)
	if !ok {
		return nil, &settingError{"domain", fmt.Sprintf("%q is no domain", domain)}
	}
	switch label, ok := asciiName(selector); {
	case selector == "":
		return nil, &settingError{"selector", "selector is empty; it names the key in the DNS, such as \"s2026\""}
	case !ok:
		return nil, &settingError{"selector", fmt.Sprintf("%q is no selector: it has letters, digits and hyphens, such as \"s2026\"", selector)}
	case file == "":
		return nil, &settingError{"file", "no file of the private key is named; 'mox-like dkim keygen DOMAIN --file FILE' makes one"}
	default:
		return &domainKey{domain: domain, ascii: ascii, selector: label}, nil
	}
}

// Validate reads the key, and checks that the server can read it once it has dropped
// root, as it does. It warns of one that is weak or that others can read, and of a
// domain without keys.
func (k *Keys) Validate() core.Problems {
	problems := slices.Clone(k.problems)
	if k.key != nil {
		k.key.validate(&problems, "key_file", k.user)
	}
	if k.dir != "" && k.lacksKeys() {
		problems.Warnf("", "%s has no keys yet, and its mail is not signed; run: mox-like dkim keygen %s", k.domain, k.domain)
	}
	return problems
}

// lacksKeys tells whether there is a data directory, and no key in it. Where it cannot
// be read nothing is told.
func (k *Keys) lacksKeys() bool {
	if _, err := os.Stat(filepath.Dir(filepath.Dir(k.dir))); err != nil {
		return false // another machine, or the first start, whose log tells
	}
	files, err := os.ReadDir(k.dir)
	if slices.ContainsFunc(files, func(f fs.DirEntry) bool { return strings.HasSuffix(f.Name(), keySuffix) }) {
		return false
	}
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// validate reads the key. file is the name of the setting; user is who the server
// becomes.
func (d *domainKey) validate(problems *core.Problems, file string, user *core.SystemUser) {
	key, err := loadPrivateKey(d.path)
	if err != nil {
		problems.Errorf(file, "%v", err)
		return
	}
	if key.kind == kindRSA && key.bits < weakRSA {
		problems.Warnf(file, "the RSA key in %s has %d bits; many receivers take it for weak: use one of %d", d.path, key.bits, weakRSA)
	}
	const group, others = 0o070, 0o007
	info, err := os.Stat(d.path)
	switch {
	case err != nil:
		problems.Errorf(file, "%v", err)
	case info.Mode().Perm()&others != 0:
		problems.Errorf(file, "every user of this machine can get at the key %s (mode %04o); run: chmod 0600 %s", d.path, info.Mode().Perm(), d.path)
	case info.Mode().Perm()&group != 0:
		problems.Warnf(file, "other users of this machine can get at the key %s (mode %04o); run: chmod 0600 %s", d.path, info.Mode().Perm(), d.path)
	}
	if err := user.CheckReadable(d.path); err != nil {
		problems.Errorf(file, "user %s, who the server becomes, cannot read %s: %v", user.Name, d.path, err)
	}
}

// Start reads the key, and warns if the server manages keys and has none.
func (k *Keys) Start() error {
	if k.managed() {
		if !k.service.signs(k.domain) {
			k.log.Warn("mail of a domain is not signed: it has no DKIM key in use; run mox-like dkim keygen")
		}
		return nil
	}
	private, err := loadPrivateKey(k.key.path)
	if err != nil {
		return err
	}
	k.key.private = private
	return nil
}

// signing gives the keys that sign now.
func (k *Keys) signing() []*domainKey {
	if k.managed() {
		return k.service.active(k.domain)
	}
	if k.key == nil || k.key.private == nil {
		return nil // not started
	}
	return []*domainKey{k.key}
}

// DKIMBlock tells the commands what the block says.
func (k *Keys) DKIMBlock() control.DKIMBlock {
	if k.managed() {
		b := control.DKIMBlock{Managed: true, Overlap: defaultOverlap}
		if k.Overlap != nil {
			b.Overlap = *k.Overlap
		}
		return b
	}
	if k.key == nil {
		return control.DKIMBlock{Selector: k.Selector}
	}
	return control.DKIMBlock{Selector: k.key.selector, KeyFile: k.key.path}
}

// Interface guards.
var (
	_ core.Provisioner = (*Keys)(nil)
	_ core.Validator   = (*Keys)(nil)
	_ core.Starter     = (*Keys)(nil)
)
