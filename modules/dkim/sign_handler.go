package dkim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// Sign signs the messages of users who have logged in, so that others can tell
// that a domain of this server has sent them. A message is signed for the domain
// of its From field, by each key that is in use for the domain: those of the blocks
// dkim in the block of the domain. An RSA key and an Ed25519 key make two signatures,
// of which a receiver takes those that it knows.
//
// From and what else a mail client shows is signed so that no second such field
// can be added. The handler belongs behind all that changes messages and in front
// of what takes them. A message that it has no key for passes unsigned, and the
// trace says why.
type Sign struct {
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

	keys     map[string][]*Keys // of each domain that has a block dkim
	declared bool               // some domain has a block dkim
	headers  []string
	problems core.Problems
	now      func() time.Time
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

// Provision finds the keys of the domains.
func (s *Sign) Provision(c *core.Context) error {
	s.now, s.keys = c.Now(), make(map[string][]*Keys)
	for _, d := range c.Domains().All() {
		s.declared = s.declared || slices.ContainsFunc(d.Modules, func(b *config.Block) bool { return b.Type == "dkim" })
		if keys := core.DomainModules[*Keys](c, d.Name); len(keys) > 0 {
			s.keys[d.Name] = keys
		}
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

func isFieldName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ':' || c == ';' {
			return false
		}
	}
	return s != ""
}

// Validate warns if no domain has a key.
func (s *Sign) Validate() core.Problems {
	problems := slices.Clone(s.problems)
	if !s.declared {
		problems.Warnf("", "no domain has a block dkim, so that nothing is signed; write dkim {} into the block of each domain whose mail shall be signed")
	}
	return problems
}

// ValidatePlace warns if nothing in front sees to it whom users write as. That what
// changes messages stands in front of what signs them, the core looks after.
func (s *Sign) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	if s.Users == "any" && !slices.Contains(modules[:place], "sender_login") {
		problems.Warnf("users", "with users = \"any\" and no sender_login in front, every user can have mail signed for every domain that has a key here")
	}
	return problems
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
	header := mail.SplitRendered(rendering.Head())
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
		blocks := s.keys[name]
		for _, k := range blocks {
			keys = append(keys, k.signing()...)
		}
		_, parent, more := strings.Cut(name, ".")
		switch {
		case len(keys) > 0:
			return keys, ""
		case len(blocks) > 0:
			return nil, fmt.Sprintf("no key of %s is in use; run: mox-like dkim keygen %s", name, name)
		case !more || !s.ParentDomain:
			return nil, fmt.Sprintf("there is no key for %s: the block of the domain has no dkim {}", domain)
		}
		name = parent
	}
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
	_ core.LoginHandler   = (*Sign)(nil)
	_ core.PlaceValidator = (*Sign)(nil)
	_ core.Handler        = (*Sign)(nil)
)
