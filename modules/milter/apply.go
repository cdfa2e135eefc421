package milter

import (
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
	if len(o.did) > 0 {
		what += "; " + strings.Join(o.did, ", ")
	}
	switch {
	case o.discarded:
		return mail.Discard("it has deleted all recipients; " + what)
	case o.quarantine != "":
		return mail.Quarantine("it has put the message into quarantine: " + mail.Printable(o.quarantine, maxShown) + "; " + what)
	default:
		return mail.Continue(what)
	}
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

// apply does what the milter wants, or gives an error and has changed nothing. s is
// the header section as the milter was told it, leading tells that its values come with
// their leading white space.
func (c *changes) apply(tx *mail.Transaction, s *section, leading bool) (*outcome, error) {
	p := new(plan)
	for _, one := range c.list {
		if err := p.add(one, s, leading); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", stepEnd, named(one.code), err)
		}
	}
	if c.body != nil || p.rewrites {
		if err := c.rewrite(tx, s, p); err != nil {
			return nil, err
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
func (p *plan) add(one change, s *section, leading bool) error {
	switch one.code {
	case byte(wire.ActAddHeader), byte(wire.ActInsertHeader), byte(wire.ActChangeHeader):
		p.field(one, s, leading)
	case byte(wire.ActChangeFrom):
		var from mail.Address
		if one.value != "" && one.value != "<>" {
			var err error
			if from, err = parsePath(one.value); err != nil {
				return fmt.Errorf("address %q: %w", mail.Printable(one.value, maxShown), err)
			}
		}
		p.from = &from
		p.note("it changes the reverse-path to <%s>", from)
	case byte(wire.ActAddRcpt), answerAddRcptEx, byte(wire.ActDelRcpt):
		address, err := parsePath(one.value)
		if err != nil {
			return fmt.Errorf("address %q: %w", mail.Printable(one.value, maxShown), err)
		}
		r := recipient{address, one.code == byte(wire.ActDelRcpt)}
		p.recipients = append(p.recipients, r)
		if r.remove {
			p.note("it deletes the recipient %s", address)
		} else {
			p.note("it adds the recipient %s", address)
		}
	case byte(wire.ActQuarantine):
		p.quarantine = one.value
		if p.quarantine == "" {
			p.quarantine = "no reason given"
		}
	}
	return nil
}

// field changes the header section.
func (p *plan) field(one change, s *section, leading bool) {
	value := cleanValue(one.value, leading)
	switch {
	case one.code == byte(wire.ActInsertHeader):
		p.note("it inserts %s at %d", one.name, one.index)
		s.insert(one.index, one.name, value)
		if rest, ok := strings.CutPrefix(value, " "); ok && one.index == 0 {
			p.tops = append(p.tops, change{name: one.name, value: rest})
			return
		}
	case one.code == byte(wire.ActAddHeader):
		p.note("it adds %s", one.name)
		s.insert(uint32(len(s.fields)), one.name, value)
	case one.value == "":
		p.note("it deletes %s %d", one.name, one.index)
		s.change(one.index, one.name, "")
	default:
		p.note("it changes %s %d", one.name, one.index)
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
		return fmt.Errorf("%s: the message that it makes cannot be: %w", stepEnd, err)
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
