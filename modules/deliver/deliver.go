// Package deliver is handler.deliver, the target that puts mail for the domains
// of this server into the mailboxes of its accounts.
//
// At the rcpt stage it finds out whose mail it is: by the aliases of the domain,
// by account, without the subaddress (RFC 5233), by the domain's catch_all.
// Postmaster always has somebody (RFC 5321 section 4.5.1). Nobody is 550 5.1.1;
// another server's domain is left to the next target. At the data stage it
// stores the message once for all its recipients, with the Return-Path field on
// top (RFC 5321 section 4.4), in Junk if it is quarantined. It is durable when
// the stage ends.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

func init() { core.Register(new(Deliver)) }

// Deliver is the handler. It has no settings of its own: what decides stands in
// the domain blocks.
type Deliver struct {
	name      string
	now       func() time.Time
	domains   *core.Domains
	aliases   map[string]map[string][]mail.Address // by domain and local-part
	catchAll  map[string]mail.Address              // by domain
	accounts  accountService
	mailboxes mailboxService
	problems  core.Problems
	log       *zap.Logger
}

// accountService knows who lives here.
type accountService interface {
	// Exists tells whether there is an account of that address.
	Exists(ctx context.Context, address string) (bool, error)
	// First gives the oldest account of a domain, "" if it has none.
	First(ctx context.Context, domain string) (string, error)
}

// mailboxService stores mail.
type mailboxService interface {
	Deliver(ctx context.Context, d mailbox.Delivery) error
}

// junk is where quarantined messages go.
const junk = "Junk"

var (
	noMailbox = mail.NewReply(550, 1, 1, "There is no such mailbox here")
	full      = mail.NewReply(452, 3, 1, "Not enough room on this server, try again later")
	temporary = mail.NewReply(451, 3, 0, "Local error in processing, try again later")
)

// Module describes the handler.
func (*Deliver) Module() core.Info {
	return core.Info{
		ID:     "handler.deliver",
		Stages: mail.AtRcpt | mail.AtData,
		Target: true,
		New:    func() core.Module { return new(Deliver) },
	}
}

// Provision finds the accounts and mailboxes, and reads the domains' aliases.
func (d *Deliver) Provision(c *core.Context) error {
	var err error
	if d.accounts, err = core.Service[accountService](c); err != nil {
		return fmt.Errorf("deliver needs the accounts of this server: %w", err)
	}
	if d.mailboxes, err = core.Service[mailboxService](c); err != nil {
		return fmt.Errorf("deliver needs the mailboxes of this server: %w", err)
	}
	d.name, d.now, d.domains, d.log = c.Name(), c.Now(), c.Domains(), c.Logger()
	d.readAliases()
	return nil
}

// Validate tells what is wrong with the aliases of the domains.
func (d *Deliver) Validate() core.Problems { return d.problems }

// Handle takes recipients in charge and stores messages.
func (d *Deliver) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	switch tx.Stage {
	case mail.StageRcpt:
		return d.rcpt(ctx, tx)
	case mail.StageData:
		return d.data(ctx, tx)
	default:
		return mail.Continue(""), nil
	}
}

// rcpt finds out whose mail it is.
func (d *Deliver) rcpt(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	address, ours := d.local(tx)
	if !ours {
		return mail.Continue("the domain does not live here"), nil
	}
	r := resolver{Deliver: d}
	err := r.resolve(ctx, address)
	switch {
	case errors.Is(err, errTooMany):
		return mail.Reject(mail.NewReply(550, 2, 4, "This address has too many recipients"), err.Error()), nil
	case err != nil:
		return mail.Verdict{}, err
	case len(r.found) == 0 && len(r.missing) == 0:
		return mail.Reject(noMailbox, "no account, alias or catch_all for "+address.String()), nil
	case len(r.found) == 0:
		return mail.Reject(noMailbox, r.nobody(address)), nil
	}
	tx.Recipient.Accounts = r.found
	reason := "goes to " + strings.Join(r.found, ", ")
	if len(r.missing) > 0 {
		reason += "; " + r.nobody(address)
		d.log.Warn("mail has nobody to go to", zap.String(logkey.Message, tx.ID), zap.Stringer(logkey.Recipient, address), zap.String(logkey.Reason, r.nobody(address)))
	}
	return mail.Accept(reason), nil
}

// nobody says which of the addresses that an alias or catch_all leads to have no
// account.
func (r *resolver) nobody(address mail.Address) string {
	return address.String() + " leads to " + strings.Join(r.missing, ", ") + ", which has no account"
}

// local gives the address in the form that is looked up, and whether it is an
// address of this server.
func (d *Deliver) local(tx *mail.Transaction) (mail.Address, bool) {
	a := tx.Recipient.Address.Fold()
	if _, ok := d.domains.Find(a.Domain); ok {
		return a, true
	}
	all := d.domains.All()
	if a.LocalPart != postmaster || len(all) == 0 {
		return a, false
	}
	literal := tx.Session.LocalAddr.Addr().Unmap().String()
	switch a.Domain {
	case "", strings.ToLower(d.domains.Hostname()), "[" + literal + "]", "[IPv6:" + literal + "]":
		return mail.Address{LocalPart: postmaster, Domain: all[0].Name}, true
	}
	return a, false
}

// data stores the message for all recipients that this target took in charge.
func (d *Deliver) data(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Discarded() {
		return mail.Accept("discarded"), nil
	}
	var mine []*mail.Recipient
	delivery := mailbox.Delivery{Received: d.now()}
	target := mailbox.Target{}
	if tx.Quarantined() != "" {
		target.Mailbox = junk
	}
	known := make(map[string]bool)
	for _, r := range tx.Envelope.Recipients {
		if r.Target != d.name {
			continue
		}
		mine = append(mine, r)
		there, err := d.add(ctx, &delivery, r, target, known)
		if err != nil {
			return mail.Verdict{}, err
		}
		if !there {
			return mail.Defer(temporary, "the account of "+r.Address.String()+" was removed meanwhile"), nil
		}
	}
	stored := "stored in "
	if tx.Trial {
		stored = "would be stored in "
	} else if err := d.store(ctx, tx, delivery); err != nil {
		return mail.Verdict{}, err
	}
	for _, r := range mine {
		r.Delivered = true
	}
	if n := len(delivery.Recipients); n != 1 {
		return mail.Accept(fmt.Sprintf("%s%d mailboxes", stored, n)), nil
	}
	return mail.Accept(stored + delivery.Recipients[0].String()), nil
}

// add puts the accounts of a recipient into the delivery, and tells whether any
// of them still exists.
func (d *Deliver) add(ctx context.Context, delivery *mailbox.Delivery, r *mail.Recipient, target mailbox.Target, known map[string]bool) (bool, error) {
	there := false
	for _, account := range r.Accounts {
		exists, seen := known[account]
		if !seen {
			var err error
			if exists, err = d.accounts.Exists(ctx, account); err != nil {
				return false, fmt.Errorf("find account %s: %w", account, err)
			}
			known[account] = exists
			if exists {
				target.Account = account
				delivery.Recipients = append(delivery.Recipients, target)
			}
		}
		there = there || exists
	}
	return there, nil
}

// store renders the message with its Return-Path and delivers it. The field is
// this target's own: a later one that sends the message on must not have it.
func (d *Deliver) store(ctx context.Context, tx *mail.Transaction, delivery mailbox.Delivery) error {
	tx.RemoveHeaderFields("Return-Path")
	tx.AddHeaderField("Return-Path", "<"+tx.Envelope.ReversePath.String()+">")
	defer tx.RemoveHeaderFields("Return-Path")
	var err error
	if delivery.Message, err = tx.Rendered(); err != nil {
		return &mail.ReplyError{Reply: temporary, Cause: err}
	}
	err = d.mailboxes.Deliver(ctx, delivery)
	switch {
	case errors.Is(err, store.ErrFull):
		return &mail.ReplyError{Reply: full, Cause: err}
	case err != nil:
		return &mail.ReplyError{Reply: temporary, Cause: err}
	default:
		return nil
	}
}

// Interface guards.
var (
	_ core.Handler     = (*Deliver)(nil)
	_ core.Provisioner = (*Deliver)(nil)
	_ core.Validator   = (*Deliver)(nil)
)
