package dkim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// ARCVerify validates the chain of seals (ARC, RFC 8617) that mailing lists and
// forwarders put on messages: what each of them found when the message came to it,
// before it broke the signature of the author. It notes whether the chain holds, and
// refuses nothing: anybody can seal what he likes, so a chain says something only if
// one trusts those who sealed.
//
// With trusted, dmarc lets a message pass that it would otherwise refuse or quarantine:
// if the chain holds, the last sealers of it are all trusted, and the first of these
// found that DMARC passes for the domain in From. It belongs in front of dmarc.
// Messages of clients that have logged in are not looked at.
type ARCVerify struct {
	// Trusted are the domains of sealers (d= of ARC-Seal) whose findings are believed,
	// such as those of mailing lists that users of this server are members of. A domain
	// does not stand for those below it.
	Trusted []string `config:"trusted,fileonly" example:"lists.example.org"`
	// TempError is for a message whose chain cannot be validated now, since a key cannot
	// be looked up: accept goes on as with any chain that does not hold, as RFC 8617 has
	// it, and defer asks the client to try again by 451 4.4.3.
	TempError string `config:"temperror" default:"accept" values:"accept,defer"`

	verifier *arcVerifier
	trusted  []string // in A-labels and lower case
}

// Module describes the handler.
func (*ARCVerify) Module() core.Info {
	return core.Info{
		ID:      "handler.arc_verify",
		Stages:  mail.AtData,
		Timeout: 20 * time.Second,
		New:     func() core.Module { return new(ARCVerify) },
	}
}

// Provision takes the resolver.
func (a *ARCVerify) Provision(c *core.Context) error {
	a.verifier = &arcVerifier{resolver: c.Resolver(), now: c.Now()}
	for _, name := range a.Trusted {
		if domain, ok := asciiName(name); ok {
			a.trusted = append(a.trusted, domain)
		}
	}
	return nil
}

// Validate checks the names.
func (a *ARCVerify) Validate() core.Problems {
	var problems core.Problems
	for i, name := range a.Trusted {
		if _, ok := asciiName(name); !ok {
			problems.Errorf(fmt.Sprintf("trusted[%d]", i), "%q is no domain: write that of d= in the seals, such as \"lists.example.org\"", name)
		}
	}
	return problems
}

// ValidatePlace warns of a place behind dmarc, which would not see what was found.
func (a *ARCVerify) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	switch {
	case len(a.Trusted) == 0:
	case slices.Contains(modules[:place], "dmarc"):
		problems.Warnf("trusted", "arc_verify stands behind dmarc, which refuses messages before it is known who has sealed them; write arc_verify in front of dmarc")
	case !slices.Contains(modules[place:], "dmarc"):
		problems.Warnf("trusted", "there is no dmarc behind arc_verify, so that it makes no difference whom one trusts")
	}
	return problems
}

// Handle validates the chain.
func (a *ARCVerify) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if user := tx.Session.User; user != "" {
		return mail.Continue(mail.Printable("not verified: "+user+" has logged in", maxReason)), nil
	}
	r, err := a.verifier.report(ctx, tx)
	if err != nil {
		return mail.Verdict{}, err
	}
	vouching := r.vouched(tx.Message.Header, a.trusted)
	tx.SetAuthResult(r.authResult(tx.Session.RemoteAddr.Addr(), vouching))
	reason := r.result
	if words := r.words(vouching); words != "" {
		reason += ", " + words
	}
	reason = mail.Printable(reason, maxReason)
	if r.temporary && a.TempError == "defer" {
		return mail.Defer(mail.NewReply(451, 4, 3, "ARC chain of the message cannot be validated now, try again later"), reason), nil
	}
	return mail.Continue(reason), nil
}

// Interface guards.
var (
	_ core.Provisioner    = (*ARCVerify)(nil)
	_ core.Validator      = (*ARCVerify)(nil)
	_ core.PlaceValidator = (*ARCVerify)(nil)
	_ core.Handler        = (*ARCVerify)(nil)
)
