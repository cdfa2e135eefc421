package milter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/mail"
)

// outcome is what became of the changes.
type outcome struct {
	quarantine string // the reason, "" for none
	discarded  bool   // no recipient is left
	complex    string // what is too much, "" for nothing
	fault      error  // what makes no sense
	did        []string
}

// maxDid bounds how many changes a reason names.
const maxDid = 12

func (o *outcome) note(format string, args ...any) {
	switch text := fmt.Sprintf(format, args...); {
	case len(o.did) < maxDid:
		o.did = append(o.did, text)
	case len(o.did) == maxDid:
		o.did = append(o.did, "…")
	}
}

// verdict is that of a message which the milter takes.
func (o *outcome) verdict(a answer) mail.Verdict {
	what := a.words()
	switch left := o.left(); {
	case left != "" && o.quarantine == "":
		return mail.Reject(mail.NewReply(550, 6, 0, "Message is too complex to be filtered"), "not all that it wants to change can be: "+left+"; "+what)
	case left != "":
		what += "; not all that it wants to change could be: " + left
	}
	if len(o.did) > 0 {
		what += "; " + strings.Join(o.did, ", ")
	}
	switch {
	case o.discarded:
		return mail.Discard("it has deleted all recipients; " + what)
	case o.quarantine != "":
		return mail.Quarantine("it has put the message into quarantine: " + o.quarantine + "; " + what)
	default:
		return mail.Continue(what)
	}
}

// left says what could not be done, "" for nothing.
func (o *outcome) left() string {
	if o.complex == "" && o.fault != nil {
		return o.fault.Error()
	}
	return o.complex
}

// plan is what the changes come to, before anything is changed.
type plan struct {
	outcome
	from       *mail.Address
	recipients []recipient
	tops       []change // fields to be put on top, if nothing else is to be done
	rewrites   bool     // the header section or the body is another one
}

// recipient is one to be added or deleted.
type recipient struct {
	address mail.Address
	remove  bool
}

// apply does what the milter wants, or gives an error and has changed nothing; nor has
// it if something is left and there is no quarantine. s is the header section as the
// milter was told it, leading tells that its values come with their leading white
// space.
func (c *changes) apply(tx *mail.Transaction, s *section, leading bool) (*outcome, error) {
	p := &plan{outcome: outcome{quarantine: c.quarantine, complex: c.complex, fault: c.fault}}
	if p.left() != "" && p.quarantine == "" {
		if p.complex == "" {
			return nil, p.fault
		}
		return &p.outcome, nil
	}
	for _, one := range c.list {
		p.add(one, s, leading)
	}
	if c.body != nil || p.rewrites {
		err := c.rewrite(tx, s, p)
		if err != nil && !errors.Is(err, mail.ErrRewriteTooLarge) {
			return nil, err
		}
		if err != nil {
			p.complex = "the message that it makes cannot be: " + err.Error()
			if p.quarantine == "" {
				return &p.outcome, nil
			}
		}
	} else {
		for _, f := range p.tops {
			tx.AddHeaderField(f.name, f.value)
		}
	}
	p.address(tx)
	return &p.outcome, nil
}

// add takes one change into the plan. Those of the header section are done there at
// once.
func (p *plan) add(one change, s *section, leading bool) {
	switch one.code {
	case byte(wire.ActAddHeader), byte(wire.ActInsertHeader), byte(wire.ActChangeHeader):
		p.field(one, s, leading)
	case byte(wire.ActChangeFrom):
		p.from = &one.address
		p.note("it changes the reverse-path to <%s>", one.address)
	case byte(wire.ActAddRcpt), answerAddRcptEx, byte(wire.ActDelRcpt):
		r := recipient{one.address, one.code == byte(wire.ActDelRcpt)}
		p.recipients = append(p.recipients, r)
		if r.remove {
			p.note("it deletes the recipient %s", r.address)
		} else {
			p.note("it adds the recipient %s", r.address)
		}
	}
}

// field changes the header section.
func (p *plan) field(one change, s *section, leading bool) {
	value := cleanValue(one.value, leading)
	switch {
	case one.code == byte(wire.ActInsertHeader):
		p.note("it inserts %s at %d", one.shown(), one.index)
		s.insert(one.index, one.name, value)
		if rest, ok := strings.CutPrefix(value, " "); ok && one.index == 0 {
			p.tops = append(p.tops, change{name: one.name, value: rest})
			return
		}
	case one.code == byte(wire.ActAddHeader):
		p.note("it adds %s", one.shown())
		s.insert(uint32(len(s.fields)), one.name, value)
	case one.value == "":
		p.note("it deletes %s %d", one.shown(), one.index)
		s.change(one.index, one.name, "")
	default:
		p.note("it changes %s %d", one.shown(), one.index)
		s.change(one.index, one.name, value)
	}
	p.rewrites = true
}

// rewrite puts a message in the place of the one that came: its header section is s,
// its body the new one, if there is one.
func (c *changes) rewrite(tx *mail.Transaction, s *section, p *plan) error {
	body, owned := tx.Message, c.body
	if owned != nil {
		if err := c.lines.end(owned); err != nil {
			return fmt.Errorf("%w: keep the new body: %w", errLocal, err)
		}
		var err error
		if body, err = owned.Message(); err != nil {
			return fmt.Errorf("%w: keep the new body: %w", errLocal, err)
		}
		p.note("it replaces the body, %d bytes by %d", tx.Message.OpenBody().Size(), body.OpenBody().Size())
	}
	m, err := mail.NewMessageWithBody(s.head(owned == nil), body)
	if err != nil {
		return err
	}
	if owned == nil {
		tx.Rewrite(m, nil)
		return nil
	}
	tx.Rewrite(m, owned)
	c.body = nil // it is the transaction's now
	return nil
}

// address changes the envelope.
func (p *plan) address(tx *mail.Transaction) {
	if p.from != nil {
		tx.Envelope.ReversePath = *p.from
	}
	var added []mail.Address
	removed := false
	for _, r := range p.recipients {
		if r.remove {
			removed = tx.RemoveRecipient(r.address) || removed
			added = slices.DeleteFunc(added, func(a mail.Address) bool { return a == r.address })
			continue
		}
		tx.AddRecipient(r.address)
		added = append(added, r.address)
	}
	p.discarded = removed && len(tx.Envelope.Recipients) == 0 && len(added) == 0
}
