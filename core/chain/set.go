package chain

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/mox-like/mox-like/core/mail"
)

// Set holds the chains of one listener: its own, and those of the domains that
// declare one for it or tune its handlers. It decides whose settings hold. It is
// safe for concurrent use; what Run costs does not depend on the number of domains.
type Set struct {
	listener *Chain
	tunable  mail.Stages
	changing sync.Mutex               // of one Replace at a time
	domains  atomic.Pointer[ofDomain] // what it points to is not changed
}

// ofDomain are the chains of domains by their names.
type ofDomain struct {
	chains map[string]*Chain
	// acts are the stages at which any of them acts, or one before did.
	acts mail.Stages
}

// NewSet makes a set. Domains for which the listener's chain holds are not in the
// map, which the set takes over. A chain can hold for several domains.
func NewSet(listener *Chain, domains map[string]*Chain) *Set {
	s := &Set{listener: listener}
	s.domains.Store(&ofDomain{chains: domains, acts: actsOf(domains)})
	return s
}

// actsOf gives the stages at which any of the chains acts.
func actsOf(chains map[string]*Chain) (stages mail.Stages) {
	var last *Chain // often the same for many
	for _, c := range chains {
		if c == nil || c == last {
			continue
		}
		last = c
		for stage := range mail.Stage(mail.NumStages) {
			if c.Acts(stage) {
				stages |= mail.At(stage)
			}
		}
	}
	return stages
}

// SetTunable tells at which stages a chain given to Replace may act, beside those
// of the chains that are there. It is called before the set is used.
func (s *Set) SetTunable(stages mail.Stages) { s.tunable = stages }

// Replace puts other chains in the place of those of some domains, nil standing
// for the listener's. Runs that begin afterwards take them; for those that are
// going on see Chain.Retire, which is to be called for each chain that no set has
// any more.
func (s *Set) Replace(domains map[string]*Chain) {
	s.changing.Lock()
	defer s.changing.Unlock()
	before := s.domains.Load()
	chains := maps.Clone(before.chains)
	if chains == nil {
		chains = make(map[string]*Chain, len(domains))
	}
	for name, c := range domains {
		if c == nil {
			delete(chains, name)
		} else {
			chains[name] = c
		}
	}
	s.domains.Store(&ofDomain{chains: chains, acts: before.acts | actsOf(domains)})
}

// Domain gives the chain that holds for a domain; "" stands for the listener's
// own.
func (s *Set) Domain(name string) *Chain { return s.of(s.domains.Load(), name) }

func (s *Set) of(d *ofDomain, name string) *Chain {
	if c, ok := d.chains[name]; ok {
		return c
	}
	return s.listener
}

// Acts tells whether any handler acts at the stage, in any of the chains, or may
// after the settings of a domain have changed.
func (s *Set) Acts(stage mail.Stage) bool {
	if s.listener.Acts(stage) || stage < mail.StageAuth {
		return s.listener.Acts(stage) // no domain's chain runs up to there
	}
	return s.tunable.Has(stage) || s.domains.Load().acts.Has(stage)
}

// Run runs a stage in the chain that holds for it: the listener's up to the mail
// stage, the recipient's domain's from the rcpt stage on; at the auth stage, and
// from then on for a user who has logged in, the user's domain's.
//
// A verdict on a message holds for all of its recipients. So a recipient whose
// chain differs from that of the earlier ones is deferred by 452 4.5.3, and the
// client sends it the message in a transaction of its own. Where settings have
// changed since, so that the chains of recipients differ at the data stage only,
// the message is deferred by 451 4.3.0.
func (s *Set) Run(ctx context.Context, stage mail.Stage, tx *mail.Transaction) mail.Outcome {
	domain := owner(stage, tx)
	now, c, counted := s.hold(domain)
	if counted {
		defer c.lease.release()
	}
	switch {
	case stage == mail.StageRcpt && len(tx.Envelope.Recipients) > 0 && s.of(now, owner(mail.StageData, tx)) != c:
		return otherChain(tx)
	case stage == mail.StageData && len(tx.Envelope.Recipients) > 1 && tx.Session.User == "" && s.mixed(now, c, tx.Envelope.Recipients[1:]):
		return changedChain(tx)
	}
	return c.Run(ctx, stage, tx)
}

// hold gives the chain of a domain, and the table that has it, and keeps the chain
// from being cleaned up until its lease is released. The listener's chain lives as
// long as the set: it is not counted.
func (s *Set) hold(domain string) (now *ofDomain, c *Chain, counted bool) {
	for {
		now = s.domains.Load()
		if c = s.of(now, domain); c == s.listener {
			return now, c, false
		}
		if c.lease.take() {
			return now, c, true
		}
	}
}

// mixed tells whether another chain than c holds for one of the recipients.
func (s *Set) mixed(now *ofDomain, c *Chain, recipients []*mail.Recipient) bool {
	for _, r := range recipients {
		if s.of(now, r.Address.Domain) != c {
			return true
		}
	}
	return false
}

// owner gives the domain whose settings hold at a stage, "" for the listener's.
func owner(stage mail.Stage, tx *mail.Transaction) string {
	switch {
	case stage < mail.StageAuth:
		return ""
	case stage == mail.StageAuth:
		if tx.Credentials == nil {
			return ""
		}
		return domainOf(tx.Credentials.Username)
	case tx.Session.User != "":
		return domainOf(tx.Session.User)
	case stage == mail.StageRcpt && tx.Recipient != nil:
		return tx.Recipient.Address.Domain
	case stage == mail.StageData && len(tx.Envelope.Recipients) > 0:
		return tx.Envelope.Recipients[0].Address.Domain
	default:
		return ""
	}
}

// domainOf gives the domain of a user name in normal form, since a client may
// write it in capitals, in A-labels or in full-width letters and must not get
// another chain by that.
func domainOf(user string) string {
	address, err := mail.ParseAddress(user)
	if err != nil {
		return ""
	}
	return address.Domain
}

// otherChain defers a recipient and says so in the trace.
func otherChain(tx *mail.Transaction) mail.Outcome {
	reason := fmt.Sprintf("settings differ from those of %s: send it in a transaction of its own", tx.Envelope.Recipients[0].Address)
	verdict := mail.Defer(mail.NewReply(452, 5, 3, "Too many recipients for one message, send this one again in a transaction of its own"), reason)
	return deferred(tx, mail.StageRcpt, tx.Recipient.Address.String(), verdict)
}

// changedChain defers a message whose recipients had the same settings when they
// were accepted.
func changedChain(tx *mail.Transaction) mail.Outcome {
	verdict := mail.Defer(mail.NewReply(451, 3, 0, "Settings have changed, try again"), "settings of a recipient's domain have changed: they differ from the others' now")
	return deferred(tx, mail.StageData, "", verdict)
}

func deferred(tx *mail.Transaction, stage mail.Stage, recipient string, verdict mail.Verdict) mail.Outcome {
	tx.Stage = stage
	tx.Entries = append(tx.Entries, mail.Entry{
		Stage: stage, Recipient: recipient,
		Action: verdict.Action, Reason: verdict.Reason, Note: NoteOtherChain, Reply: verdict.Reply,
	})
	return mail.Outcome{Stage: stage, Verdict: verdict}
}
