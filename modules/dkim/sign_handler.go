package dkim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// Sign signs the messages of users who have logged in, so that others can tell
// that a domain of this server has sent them. A message is signed for the domain
// of its From field, by each key that the domain has here: an RSA key and an
// Ed25519 key make two signatures, of which a receiver takes those that it knows.
//
// From and what else a mail client shows is signed so that no second such field
// can be added. The handler belongs behind all that changes messages and in front
// of what takes them. A message that it has no key for passes unsigned, and the
// trace says why.
type Sign struct {
	// Keys are the keys of the domains.
	Keys []Key `config:"key,block"`
	// Users says whose messages are signed: own are those of users of From's own
	// domain, so that nobody signs for the domain of somebody else on this server;
	// any are those of all users who have logged in, for chains in which sender_login
	// sees to it what they write as.
	Users string `config:"users,fileonly" default:"own" values:"own,any"`
	// ParentDomain lets the key of a domain sign for the domains below it that have no
	// key of their own: d=example.org for From at news.example.org. Receivers with
	// strict alignment (DMARC, adkim=s) do not count such a signature.
	ParentDomain bool `config:"parent_domain,fileonly" default:"false"`
	// Headers are names of further fields to be signed where a message has them.
	Headers []string `config:"headers" example:"List-Unsubscribe"`
	// Expire is for how long signatures are good (x=); 0s means without end. Mail can
	// be on its way for days.
	Expire time.Duration `config:"expire" default:"0s" min:"0s" max:"365d"`

	keys     []*domainKey
	headers  []string
	problems core.Problems
	domains  *core.Domains
	user     *core.SystemUser // that reads the files after the start, nil if it is who does now
	now      func() time.Time
}

// Key is the key of a domain under a selector.
type Key struct {
	// Domain is the domain that signs (d=).
	Domain string `config:"domain,label"`
	// Selector names the key in the DNS: its public part is the TXT record of
	// SELECTOR._domainkey.DOMAIN.
	Selector string `config:"selector,required" example:"s2026"`
	// File is the file of the private key: PEM, PKCS #8 or PKCS #1, not encrypted, of
	// mode 0600. Relative to the configuration's folder.
	File string `config:"file,required" example:"dkim/example.org.s2026.pem"`
}

// domainKey is a key that is ready for use. private is set by Start.
type domainKey struct {
	// domain is as addresses have it; ascii and selector are in A-labels.
	domain, ascii, selector string
	path                    string
	place                   string // of its block in problems
	private                 *privateKey
}

// Module describes the handler.
func (*Sign) Module() core.Info {
	return core.Info{ID: "handler.dkim_sign", Stages: mail.AtData, Signs: true, New: func() core.Module { return new(Sign) }}
}

// NeedsLogin tells that only messages of users are signed.
func (*Sign) NeedsLogin() bool { return true }

// oversigned are the fields that are signed once more than there are, in lower
// case: what a client shows, and what decides how the body is read (RFC 6376
// sections 5.4.1 and 8.15).
var oversigned = []string{
	"from", "to", "cc", "subject", "date", "message-id", "reply-to", "in-reply-to", "references",
	"mime-version", "content-type", "content-transfer-encoding",
}

// alsoSigned are those that are signed where they are.
var alsoSigned = []string{
	"sender", "content-id", "content-description", "content-disposition",
	"resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
	"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive",
	"autocrypt",
}

// unsignable are fields that servers on the way add or change (RFC 6376 section
// 5.4).
var unsignable = []string{
	"received", "return-path", "dkim-signature", "authentication-results", "comments", "bcc", "resent-bcc", "x-mox-like-tags",
	"arc-seal", "arc-message-signature", "arc-authentication-results",
}

// Provision reads the settings. The files are read by Validate and Start.
func (s *Sign) Provision(c *core.Context) error {
	s.domains, s.user, s.now = c.Domains(), c.User(), c.Now()
	for i, k := range s.Keys {
		place := fmt.Sprintf("key[%d]", i)
		key, err := s.newKey(k)
		if err != nil {
			s.problems.Errorf(place+attributeOf(err), "%v", err)
			continue
		}
		key.path, key.place = c.Path(k.File), place
		s.keys = append(s.keys, key)
	}
	s.headers = slices.Clone(alsoSigned)
	for i, name := range s.Headers {
		lower := strings.ToLower(name)
		switch {
		case !isFieldName(name):
			s.problems.Errorf(fmt.Sprintf("headers[%d]", i), "%q is no name of a header field", name)
		case slices.Contains(unsignable, lower):
			s.problems.Errorf(fmt.Sprintf("headers[%d]", i), "servers on the way change %s: a signature over it would break", name)
		case !slices.Contains(s.headers, lower) && !slices.Contains(oversigned, lower):
			s.headers = append(s.headers, lower)
		}
	}
	return nil
}

// settingError is what is wrong with a setting of a key.
type settingError struct{ attribute, text string }

// Error says what is wrong.
func (e *settingError) Error() string { return e.text }

// attributeOf gives the place of an error in the block of the key.
func attributeOf(err error) string {
	if e, ok := errors.AsType[*settingError](err); ok && e.attribute != "" {
		return "." + e.attribute
	}
	return ""
}

func (s *Sign) newKey(k Key) (*domainKey, error) {
	key, err := newDomainKey(k)
	if err != nil {
		return nil, err
	}
	for _, other := range s.keys {
		if other.domain == key.domain && other.selector == key.selector {
			return nil, &settingError{"selector", fmt.Sprintf("the selector %s of %s stands here twice", key.selector, key.domain)}
		}
	}
	return key, nil
}

// newDomainKey checks the settings of a key. Errors are of type settingError.
func newDomainKey(k Key) (*domainKey, error) {
	domain, err := mail.ParseDomain(k.Domain)
	ascii, ok := asciiName(domain)
	if err != nil || !ok {
		return nil, &settingError{"", fmt.Sprintf("%q is no domain", k.Domain)}
	}
	selector, ok := asciiName(k.Selector)
	if !ok {
		return nil, &settingError{"selector", fmt.Sprintf("%q is no selector: it has letters, digits and hyphens, such as \"s2026\"", k.Selector)}
	}
	if k.File == "" {
		return nil, &settingError{"file", "file is empty; it names the file of the private key"}
	}
	return &domainKey{domain: domain, ascii: ascii, selector: selector}, nil
}

func isFieldName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ':' || c == ';' {
			return false
		}
	}
	return s != ""
}

// Validate reads the keys. It warns of keys that are weak, that others can read, and
// that the server cannot read any more once it has dropped root.
func (s *Sign) Validate() core.Problems {
	problems := slices.Clone(s.problems)
	if len(s.Keys) == 0 {
		problems.Errorf("", "no key is named; add a block such as: key \"example.org\" { selector = \"s2026\", file = \"dkim/example.org.s2026.pem\" }")
	}
	for _, d := range s.keys {
		d.validate(&problems, d.place+".file", d.place, s.user, s.domains)
	}
	return problems
}

// validate reads the key. file and domain are the names of the settings; user is who
// the server becomes.
func (d *domainKey) validate(problems *core.Problems, file, domain string, user *core.SystemUser, domains *core.Domains) {
	key, err := loadPrivateKey(d.path)
	if err != nil {
		problems.Errorf(file, "%v", err)
		return
	}
	if key.kind == kindRSA && key.bits < weakRSA {
		problems.Warnf(file, "the RSA key in %s has %d bits; many receivers take it for weak: use one of %d", d.path, key.bits, weakRSA)
	}
	if info, err := os.Stat(d.path); err == nil && info.Mode().Perm()&0o077 != 0 {
		problems.Warnf(file, "other users of this machine can get at the key %s (mode %04o); run: chmod 0600 %s", d.path, info.Mode().Perm(), d.path)
	}
	if err := user.CheckReadable(d.path); err != nil {
		problems.Warnf(file, "user %s, who the server becomes, cannot read %s: %v", user.Name, d.path, err)
	}
	if _, ours := domains.Find(d.domain); !ours {
		problems.Warnf(domain, "%s is no domain of this server: check the spelling, or add a block domain", d.domain)
	}
}

// changing are the modules that may change what was signed, adding those that add
// fields X- alone, and taking those that take a message as it is.
var (
	changing = []string{"headers", "milter"}
	adding   = []string{"exec", "http"}
	taking   = []string{"deliver", "queue"}
)

// ValidatePlace warns of a place in which signatures would break or come too late.
func (s *Sign) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	behind := changing
	if slices.ContainsFunc(s.Headers, isExtension) {
		behind = slices.Concat(changing, adding)
	}
	for _, name := range behind {
		if slices.Contains(modules[place:], name) {
			problems.Warnf("", "%s stands behind dkim_sign and may change what was signed; write dkim_sign behind it", name)
		}
	}
	for _, name := range taking {
		if slices.Contains(modules[:place], name) {
			problems.Warnf("", "%s stands in front of dkim_sign: what it takes is not signed; write dkim_sign in front of it", name)
		}
	}
	if s.Users == "any" && !slices.Contains(modules[:place], "sender_login") {
		problems.Warnf("users", "with users = \"any\" and no sender_login in front, every user can have mail signed for every domain that has a key here")
	}
	return problems
}

// isExtension tells whether a field is one of those that programs may add.
func isExtension(name string) bool { return strings.HasPrefix(strings.ToLower(name), "x-") }

// Start reads the keys.
func (s *Sign) Start() error {
	for _, d := range s.keys {
		key, err := loadPrivateKey(d.path)
		if err != nil {
			return err
		}
		d.private = key
	}
	return nil
}

// Handle signs a message of a user.
func (s *Sign) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Session.User == "" {
		return mail.Continue("not signed: nobody has logged in"), nil
	}
	rendering, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("sign message: %w", err)
	}
	header, _, err := mail.ParseHeaderSection(rendering.Head())
	if err != nil {
		return mail.Continue("not signed: " + err.Error()), nil //nolint:nilerr // the message is at the limit: what was added does not fit
	}
	if hasStrayLine(tx.Message.Header) || hasStrayLine(header) {
		return mail.Continue("not signed: " + strayLine), nil
	}
	keys, why := s.choose(tx.Session.User, header)
	if len(keys) == 0 {
		return mail.Continue(mail.Printable("not signed: "+why, maxReason)), nil
	}
	return s.sign(tx, header, keys, tx.Message.OpenBody())
}

// sign adds a signature by each of the keys, of which there is one.
func (s *Sign) sign(tx *mail.Transaction, header mail.HeaderSection, keys []*domainKey, body io.Reader) (mail.Verdict, error) {
	list, by := make([]signing, 0, len(keys)), make([]string, 0, len(keys))
	now := s.now()
	for _, d := range keys {
		list = append(list, signing{
			domain: d.ascii, selector: d.selector, key: d.private,
			header: relaxed, body: relaxed, created: now, lifetime: s.Expire,
		})
		by = append(by, fmt.Sprintf("%s (%s, %d-bit key)", d.selector, d.private.algorithm(), d.private.bits))
	}
	index := newFieldIndex(header)
	names := signedNames(index, s.headers, oversigned)
	if len(names) > maxSigned {
		return mail.Continue(fmt.Sprintf("not signed: the message has %d fields to be signed, more than %d", len(names), maxSigned)), nil
	}
	values, err := signMessage(header, index, body, names, list)
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("sign message: %w", err)
	}
	for _, value := range values {
		tx.AddHeaderField(signatureField, value)
	}
	return mail.Continue(mail.Printable("signed for "+keys[0].domain+" by "+strings.Join(by, " and "), maxReason)), nil
}

// choose gives the keys that a user's message is signed with, or why there are
// none.
func (s *Sign) choose(user string, h mail.HeaderSection) (keys []*domainKey, why string) {
	domain, err := authorDomain(h)
	if err != nil {
		return nil, err.Error()
	}
	if owner, err := mail.ParseAddress(user); s.Users == "own" && (err != nil || owner.Domain != domain) {
		return nil, fmt.Sprintf("From is of %s, and the user is %s", domain, user)
	}
	for name := domain; ; {
		for _, d := range s.keys {
			if d.domain == name {
				keys = append(keys, d)
			}
		}
		_, parent, more := strings.Cut(name, ".")
		if len(keys) > 0 || !more || !s.ParentDomain {
			break
		}
		name = parent
	}
	if len(keys) == 0 {
		return nil, "there is no key for " + domain
	}
	return keys, ""
}

// authorDomain gives the domain of the From field.
func authorDomain(h mail.HeaderSection) (string, error) {
	if n := h.Count("From"); n != 1 {
		return "", fmt.Errorf("the message has %d From fields", n)
	}
	// Only the domain counts, so names may be in any charset.
	decoder := &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}
	list, err := (&netmail.AddressParser{WordDecoder: decoder}).ParseList(h.Get("From"))
	if err != nil {
		return "", errors.New("the From field cannot be read")
	}
	domain := ""
	for _, m := range list {
		parsed, err := mail.ParseDomain(m.Address[strings.LastIndexByte(m.Address, '@')+1:])
		if err != nil {
			return "", errors.New("the From field has an address without a domain")
		}
		if domain != "" && parsed != domain {
			return "", fmt.Errorf("the From field has authors of several domains, %s and %s", domain, parsed)
		}
		domain = parsed
	}
	return domain, nil
}

// Interface guards.
var (
	_ core.Provisioner    = (*Sign)(nil)
	_ core.Validator      = (*Sign)(nil)
	_ core.Starter        = (*Sign)(nil)
	_ core.LoginHandler   = (*Sign)(nil)
	_ core.PlaceValidator = (*Sign)(nil)
	_ core.Handler        = (*Sign)(nil)
)
