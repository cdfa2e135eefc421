package dkim

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// ARCSeal seals messages (ARC, RFC 8617), for servers from which they go on to others:
// it writes down what the handlers in front of it have found about a message, and signs
// that together with the message as it is and the chain that came with it. Whoever
// trusts this server can then tell that a message was good when it came here, even if
// it no longer passes SPF and DKIM.
//
// It belongs behind all that checks and changes messages and in front of what takes
// them. A chain that does not hold is sealed as such (cv=fail) once; after that, and
// while it cannot be told whether it holds, it is left alone, and so are messages of
// users who have logged in, which dkim_sign signs. A message that is not sealed
// passes, and the trace says why.
type ARCSeal struct {
	// Domain is the domain that seals (d=).
	Domain string `config:"domain,required,fileonly" example:"example.org"`
	// Selector names the key in the DNS: its public part is the TXT record of
	// SELECTOR._domainkey.DOMAIN, and may be the one that dkim_sign has.
	Selector string `config:"selector,required,fileonly" example:"s2026"`
	// File is the file of the private key: PEM, PKCS #8 or PKCS #1, not encrypted, of
	// mode 0600. Relative to the configuration's folder. Few receivers verify seals of
	// Ed25519 keys yet.
	File string `config:"file,required,fileonly" example:"dkim/example.org.s2026.pem"`
	// AuthServID is the name under which the results are written. Without it this
	// server's hostname is used.
	AuthServID string `config:"authserv_id,fileonly" example:"mx.example.org"`

	verifier *arcVerifier
	id       string
	key      *domainKey
	problems core.Problems
	domains  *core.Domains
	user     *core.SystemUser // that reads the file after the start, nil if it is who does now
	now      func() time.Time
}

// Module describes the handler.
func (*ARCSeal) Module() core.Info {
	return core.Info{
		ID:      "handler.arc_seal",
		Looks:   []string{"file"},
		Signs:   true,
		Stages:  mail.AtData,
		Timeout: 20 * time.Second, // for the chain, if nobody has validated it
		New:     func() core.Module { return new(ARCSeal) },
	}
}

// Provision reads the settings. The file is read by Validate and Start.
func (a *ARCSeal) Provision(c *core.Context) error {
	a.domains, a.user, a.now = c.Domains(), c.User(), c.Now()
	a.verifier = &arcVerifier{resolver: c.Resolver(), now: a.now}
	if a.id = a.AuthServID; a.id == "" {
		a.id = c.Hostname()
	}
	domain, err := mail.ParseDomain(a.Domain)
	if err != nil {
		a.problems.Errorf("domain", "%q is no domain", a.Domain)
		return nil //nolint:nilerr // a problem of the settings, which Validate tells
	}
	key, err := newDomainKey(domain, a.Selector, a.File)
	if err != nil {
		a.problems.Errorf(attributeOf(err, "file"), "%v", err)
		return nil
	}
	a.key, key.path = key, c.Path(a.File)
	return nil
}

// Validate reads the key.
func (a *ARCSeal) Validate() core.Problems {
	problems := slices.Clone(a.problems)
	if a.AuthServID != "" && !isAuthServID(a.AuthServID) {
		problems.Errorf("authserv_id", "%q is not a name of at most 253 letters, digits and signs without spaces: write one such as \"mx.example.org\"", a.AuthServID)
	}
	if a.key != nil {
		a.key.validate(&problems, "file", a.user)
		if _, ours := a.domains.Find(a.key.domain); !ours {
			problems.Warnf("domain", "%s is no domain of this server: check the spelling, or add a block domain", a.key.domain)
		}
	}
	return problems
}

// isAuthServID tells whether a name needs no quotes in a field.
func isAuthServID(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return len(s) <= 253
}

// checking are the modules whose results belong into a seal.
var checking = []string{"dkim_verify", "dmarc", "arc_verify"}

// ValidatePlace warns of a place in which seals have nothing to say. That what changes
// messages stands in front of what signs them, the core looks after.
func (a *ARCSeal) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	for _, name := range checking {
		if slices.Contains(modules[place:], name) {
			problems.Warnf("", "%s stands behind arc_seal, whose seal does not have what that finds; write arc_seal behind it", name)
		}
	}
	return problems
}

// Start reads the key.
func (a *ARCSeal) Start() error {
	key, err := loadPrivateKey(a.key.path)
	if err != nil {
		return err
	}
	a.key.private = key
	return nil
}

// Handle seals a message.
func (a *ARCSeal) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if user := tx.Session.User; user != "" {
		return mail.Continue(mail.Printable("not sealed: "+user+" has logged in", maxReason)), nil
	}
	r, err := a.verifier.report(ctx, tx)
	if err != nil {
		return mail.Verdict{}, err
	}
	if why := r.unsealable(); why != "" {
		return mail.Continue(mail.Printable("not sealed: "+why, maxReason)), nil
	}
	if hasStrayLine(tx.Message.Header) {
		return mail.Continue("not sealed: " + strayLine), nil
	}
	rendering, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("seal message: %w", err)
	}
	header := mail.SplitRendered(rendering.Head())
	if r.result == chainPass && !sameChain(tx.Message.Header, r.arcChain, header) {
		return mail.Continue("not sealed: a handler has changed the chain that came with the message"), nil
	}
	return a.seal(tx, header, r)
}

// unsealable gives why a message cannot have a further seal, "" if it can.
func (r *arcReport) unsealable() string {
	switch {
	case r.ended: // RFC 8617 section 5.1, step 2
		return r.problem
	case r.temporary:
		return "the chain cannot be validated now: " + r.reason
	case r.last == maxSets:
		return fmt.Sprintf("the chain has %d sets, and cannot have more", maxSets)
	case r.result == chainFail && r.last == 0:
		return "the chain cannot be read: " + r.reason
	default:
		return ""
	}
}

// sameChain tells whether a changed header section has the same fields of sets as the
// one that came.
func sameChain(before mail.HeaderSection, c *arcChain, after mail.HeaderSection) bool {
	now := locateChain(after)
	if now.problem != "" || now.last != c.last {
		return false
	}
	for i := range c.sets {
		for kind, position := range c.sets[i].positions {
			other := now.sets[i].positions[kind]
			if other == noField || string(after.Fields[other].Raw) != string(before.Fields[position].Raw) {
				return false
			}
		}
	}
	return true
}

// sealed are the fields that are signed where they are, beside those of dkim_sign.
var sealed = append([]string{"dkim-signature"}, alsoSigned...)

// seal adds a set to a message, whose header section is given as it is to be (RFC 8617
// section 5.1).
func (a *ARCSeal) seal(tx *mail.Transaction, header mail.HeaderSection, r *arcReport) (mail.Verdict, error) {
	instance := r.last + 1
	index := newFieldIndex(header)
	names := signedNames(index, sealed, oversigned)
	if len(names) > maxSigned {
		return mail.Continue(fmt.Sprintf("not sealed: the message has %d fields to be signed, more than %d", len(names), maxSigned)), nil
	}
	now := a.now()
	messages, err := signMessage(header, index, tx.Message.OpenBody(), names, []signing{{
		instance: instance, domain: a.key.ascii, selector: a.key.selector, key: a.key.private,
		header: relaxed, body: relaxed, created: now,
	}})
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("seal message: %w", err)
	}
	first := fmt.Sprintf("i=%d;", instance)
	column := len(arcFields[arcResults]) + len(": ") + len(first)
	values := [arcKinds]string{
		arcResults: first + " " + mail.FormatAuthResults(column, a.id, resultsWith(tx, r)),
		arcMessage: messages[0],
		arcSeal: fmt.Sprintf("i=%d; a=%s; cv=%s;"+fold+"d=%s; s=%s; t=%d;"+fold+"b=",
			instance, a.key.private.algorithm(), r.result, a.key.ascii, a.key.selector, now.Unix()),
	}
	signed, err := a.key.private.sign(r.newSealHash(header, values))
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("seal message for %s with selector %s: %w", a.key.ascii, a.key.selector, err)
	}
	values[arcSeal] += folded(base64.StdEncoding.EncodeToString(signed))
	for kind, value := range values {
		tx.AddHeaderField(arcFields[kind], value)
	}
	return mail.Continue(fmt.Sprintf("sealed for %s by %s (%s, %d-bit key) as i=%d with cv=%s",
		a.key.domain, a.key.selector, a.key.private.algorithm(), a.key.private.bits, instance, r.result)), nil
}

// newSealHash computes what a new seal signs: all sets, or, if the chain does not hold,
// its own alone (RFC 8617 section 5.1.2).
func (r *arcReport) newSealHash(header mail.HeaderSection, values [arcKinds]string) []byte {
	s := newSealHash()
	if r.result == chainPass {
		chain := locateChain(header)
		for i := range chain.sets {
			for _, position := range chain.sets[i].positions {
				s.add(header.Fields[position].Raw)
			}
		}
	}
	s.add([]byte(arcFields[arcResults] + ": " + values[arcResults]))
	s.add([]byte(arcFields[arcMessage] + ": " + values[arcMessage]))
	return s.sum([]byte(arcFields[arcSeal] + ": " + values[arcSeal]))
}

// resultsWith gives all results, that of the chain among them, whether or not
// arc_verify has noted it.
func resultsWith(tx *mail.Transaction, r *arcReport) []mail.AuthResult {
	results := tx.AuthResults()
	if _, ok := tx.AuthResult("arc"); !ok {
		results = append(results, r.authResult(tx.Session.RemoteAddr.Addr(), nil))
	}
	return results
}

// Interface guards.
var (
	_ core.Provisioner    = (*ARCSeal)(nil)
	_ core.Validator      = (*ARCSeal)(nil)
	_ core.PlaceValidator = (*ARCSeal)(nil)
	_ core.Starter        = (*ARCSeal)(nil)
	_ core.Handler        = (*ARCSeal)(nil)
)
