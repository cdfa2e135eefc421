package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// dialog is what would go on between a client and the listener.
type dialog struct {
	asked     *asked
	trial     *core.Trial
	chains    *chain.Set
	reception core.Reception

	result *Result // of the transaction that goes on
	closed bool    // the server has closed the connection
}

// encrypted is the state of a connection that a client of today makes.
func encrypted() *tls.ConnectionState {
	return &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
}

// run goes through the stages until one refuses.
func (d *dialog) run(ctx context.Context, id string) (*Result, error) {
	now := d.trial.Now()
	session := d.asked.session
	session.ID, session.Started = id, now
	d.result = new(Result)
	whole := d.transaction(&session, now)
	outcome := d.chains.Run(ctx, mail.StageConnect, whole)
	if !d.reply(outcome, id, "220 "+d.trial.Hostname()+" ESMTP Service Ready") {
		return d.end(ctx, trace.KindSession, whole, outcome)
	}
	outcome = d.chains.Run(ctx, mail.StageHelo, whole)
	if !d.reply(outcome, id, "250 "+d.trial.Hostname()+" greets "+session.Helo) {
		return d.end(ctx, trace.KindSession, whole, outcome)
	}
	first, later, err := d.send(ctx, whole, id, d.asked.to)
	for n := 2; err == nil && len(later) > 0 && !d.closed && n <= MaxTransactions; n++ {
		d.result = new(Result)
		var further *Result
		if further, later, err = d.send(ctx, whole, fmt.Sprintf("%s-%d", id, n), later); err == nil {
			first.Further = append(first.Further, further)
			first.Accepted = first.Accepted && further.Accepted
		}
	}
	if err != nil {
		return nil, err
	}
	first.Accepted = first.Accepted && len(later) == 0
	return first, nil
}

// send runs one transaction. later are the recipients that are to be sent the message
// in another one.
func (d *dialog) send(ctx context.Context, whole *mail.Transaction, id string, to []mail.Address) (r *Result, later []mail.Address, err error) {
	tx := d.transaction(whole.Session, whole.Started)
	tx.ID = id
	tx.Envelope = mail.Envelope{ReversePath: d.asked.from, Size: d.reception.Size(), SMTPUTF8: d.asked.smtpUTF8}
	tx.Merge(whole)
	outcome := d.stage(ctx, mail.StageMail, tx, d.reception.Mail)
	if !d.reply(outcome, id, "250 2.1.0 Sender OK") {
		r, err = d.end(ctx, trace.KindMessage, tx, outcome)
		return r, nil, err
	}
	if outcome, later = d.recipients(ctx, tx, to); len(tx.Envelope.Recipients) == 0 {
		r, err = d.end(ctx, trace.KindMessage, tx, outcome)
	} else {
		r, err = d.message(ctx, tx, outcome)
	}
	return r, later, err
}

func (d *dialog) transaction(s *mail.Session, now time.Time) *mail.Transaction {
	tx := mail.NewTransaction(s.ID, s, now)
	tx.Trial = true
	return tx
}

// stage asks the listener, and then the chain.
func (d *dialog) stage(ctx context.Context, stage mail.Stage, tx *mail.Transaction, own func(*mail.Transaction) mail.Verdict) mail.Outcome {
	if verdict := own(tx); verdict.Action != mail.ActionContinue {
		return mail.Outcome{Stage: stage, Verdict: verdict}
	}
	return d.chains.Run(ctx, stage, tx)
}

// otherTransaction tells that a client sends the message to the recipient in a
// transaction of its own (RFC 5321 section 4.5.3.1.10). The first one that is taken
// makes sure that there is an end to it.
func otherTransaction(outcome mail.Outcome, tx *mail.Transaction) bool {
	return len(tx.Envelope.Recipients) > 0 && outcome.Action == mail.ActionDefer &&
		outcome.Reply.Code == 452 && outcome.Reply.Enhanced == mail.EnhancedCode{4, 5, 3}
}

// recipients asks for each, and gives the last refusal, if there was one, but for
// those that are put off.
func (d *dialog) recipients(ctx context.Context, tx *mail.Transaction, to []mail.Address) (refused mail.Outcome, later []mail.Address) {
	for _, address := range to {
		r := &mail.Recipient{Address: address}
		tx.Recipient = r
		outcome := d.stage(ctx, mail.StageRcpt, tx, d.reception.Rcpt)
		tx.Recipient = nil
		reply := mail.NewReply(250, 1, 5, "Recipient OK")
		switch {
		case outcome.Refused() && otherTransaction(outcome, tx):
			reply, later = outcome.Refusal(tx.ID), append(later, address)
			d.result.Recipients = append(d.result.Recipients, Recipient{Address: address.String(), Later: true})
		case outcome.Refused():
			refused, reply = outcome, outcome.Refusal(tx.ID)
			d.result.Recipients = append(d.result.Recipients, Recipient{Address: address.String()})
		default:
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, r)
			d.result.Recipients = append(d.result.Recipients, Recipient{Address: address.String(), Accepted: true, Target: r.Target, Accounts: r.Accounts})
		}
		d.result.Replies = append(d.result.Replies, Reply{Stage: mail.StageRcpt.String(), Recipient: address.String(), Reply: reply.String()})
		if reply.Code == 421 { // it closes the connection (RFC 5321 section 3.8)
			tx.Envelope.Recipients, d.closed = nil, true
			return outcome, later
		}
	}
	return refused, later
}

// message runs the data stage. refused is of a recipient, if one was.
func (d *dialog) message(ctx context.Context, tx *mail.Transaction, refused mail.Outcome) (result *Result, err error) {
	defer func() {
		if closed := tx.Release(); err == nil && closed != nil {
			result, err = nil, fmt.Errorf("close rewritten message: %w", closed)
		}
	}()
	var before mail.HeaderSection
	outcome := d.stage(ctx, mail.StageData, tx, func(tx *mail.Transaction) mail.Verdict {
		verdict := d.reception.Data(tx)
		if tx.Message != nil {
			before = tx.Message.Header
		}
		return verdict
	})
	if !d.reply(outcome, tx.ID, mail.Kept(tx.ID).String()) {
		return d.end(ctx, trace.KindMessage, tx, outcome)
	}
	d.result.Accepted = !refused.Refused()
	d.result.Quarantine, d.result.Discarded = tx.Quarantined(), tx.Discarded()
	d.nowFor(tx)
	if err := d.compare(before, tx); err != nil {
		return nil, err
	}
	return d.end(ctx, trace.KindMessage, tx, outcome)
}

// nowFor notes what handlers did to the recipients at the data stage.
func (d *dialog) nowFor(tx *mail.Transaction) {
	for _, r := range tx.Envelope.Recipients {
		known := func(o Recipient) bool { return o.Address == r.Address.String() }
		if !slices.ContainsFunc(d.result.Recipients, known) {
			d.result.Recipients = append(d.result.Recipients, Recipient{Address: r.Address.String(), Accepted: true, Target: r.Target, Accounts: r.Accounts})
		}
	}
	for i := range d.result.Recipients {
		one := &d.result.Recipients[i]
		still := func(r *mail.Recipient) bool { return r.Address.String() == one.Address }
		if one.Accepted && !slices.ContainsFunc(tx.Envelope.Recipients, still) {
			one.Target, one.Accounts = "", nil // a handler has removed it
		}
	}
}

// compare tells which header fields are new, and which are gone.
func (d *dialog) compare(before mail.HeaderSection, tx *mail.Transaction) error {
	rendered, err := tx.Rendered()
	if err != nil {
		return err
	}
	after := mail.SplitRendered(rendered.Head())
	d.result.Added = without(after.Fields, before.Fields)
	d.result.Removed = without(before.Fields, after.Fields)
	return nil
}

// without gives the fields of a list that another one has not, as often as it has
// not.
func without(list, others []mail.HeaderField) []string {
	count := make(map[string]int)
	for _, f := range others {
		count[string(f.Raw)]++
	}
	var rest []string
	for _, f := range list {
		if count[string(f.Raw)] > 0 {
			count[string(f.Raw)]--
			continue
		}
		if f.Name == "" {
			rest = append(rest, strings.TrimRight(string(f.Raw), "\r\n")) // a line that is no field
			continue
		}
		rest = append(rest, f.Name+": "+f.Value())
	}
	return rest
}

// reply notes what the client is told at the end of a stage, and whether it goes on.
func (d *dialog) reply(outcome mail.Outcome, id, good string) bool {
	text := good
	if outcome.Refused() {
		refusal := outcome.Refusal(id)
		text, d.closed = refusal.String(), refusal.Code == 421
	}
	d.result.Replies = append(d.result.Replies, Reply{Stage: outcome.Stage.String(), Reply: text})
	return !outcome.Refused()
}

// end makes the result. A check that was broken off has none.
func (d *dialog) end(ctx context.Context, kind trace.Kind, tx *mail.Transaction, outcome mail.Outcome) (*Result, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("check message: %w", err)
	}
	r := trace.NewRecord(kind, tx, outcome, d.trial.Now())
	r.Settings = settingsOf(r.Entries)
	d.result.Record = r
	return d.result, nil
}

// settingsOf gives the settings that entries refer to, which no store has.
func settingsOf(entries []mail.Entry) map[string][]mail.Setting {
	all := make(map[string][]mail.Setting)
	for i := range entries {
		s := entries[i].Settings
		if list := s.List(); list != nil {
			all[s.Hash().String()] = list
		}
	}
	return all
}
