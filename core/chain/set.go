package chain

import (
	"context"
	"fmt"

	"github.com/mox-like/mox-like/core/mail"
)

// Set holds the chains of one listener: its own, and those of the domains that
// declare one for it or tune its handlers. It decides whose settings hold. A Set
// is immutable and safe for concurrent use.
type Set struct {
	listener *Chain
	domains  map[string]*Chain
}

// NewSet makes a set. Domains without a chain of their own are not in the map,
// which the set takes over.
func NewSet(listener *Chain, domains map[string]*Chain) *Set {
	return &Set{listener: listener, domains: domains}
}

// Domain gives the chain that holds for a domain; "" stands for the listener's
// own.
func (s *Set) Domain(name string) *Chain {
	if c, ok := s.domains[name]; ok {
		return c
	}
	return s.listener
}

// Acts tells whether any handler acts at the stage, in any of the chains.
func (s *Set) Acts(stage mail.Stage) bool {
	if s.listener.Acts(stage) {
		return true
	}
	for _, c := range s.domains {
		if c.Acts(stage) {
			return true
		}
	}
	return false
}

// Run runs a stage in the chain that holds for it: the listener's up to the mail
// stage, the recipient's domain's from the rcpt stage on; at the auth stage, and
// from then on for a user who has logged in, the user's domain's.
//
// A verdict on a message holds for all of its recipients. So a recipient whose
// chain differs from that of the earlier ones is deferred by 452 4.5.3, and the
// client sends it the message in a transaction of its own.
func (s *Set) Run(ctx context.Context, stage mail.Stage, tx *mail.Transaction) mail.Outcome {
	c := s.Domain(owner(stage, tx))
	if stage == mail.StageRcpt && len(tx.Envelope.Recipients) > 0 && s.Domain(owner(mail.StageData, tx)) != c {
		return otherChain(tx)
	}
	return c.Run(ctx, stage, tx)
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
	tx.Stage = mail.StageRcpt
	tx.Entries = append(tx.Entries, mail.Entry{
		Stage: mail.StageRcpt, Recipient: tx.Recipient.Address.String(),
		Action: verdict.Action, Reason: reason, Note: NoteOtherChain, Reply: verdict.Reply,
	})
	return mail.Outcome{Stage: mail.StageRcpt, Verdict: verdict}
}
