package dkim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dkimkey"
)

// Rotate does the next safe step of replacing keys. With force it waits neither for the
// DNS nor for the end of an overlap.
func (s *Service) Rotate(ctx context.Context, d control.DKIMDomain, force bool) (step *control.DKIMStep, err error) {
	c, err := s.begin(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("rotate DKIM keys: %w", err)
	}
	defer func() {
		if err = errors.Join(err, c.end(ctx)); err != nil {
			step = nil
		}
	}()
	if err := c.rotate(ctx, force); err != nil {
		return nil, fmt.Errorf("rotate DKIM keys: %w", err)
	}
	return c.step, nil
}

func (c *change) rotate(ctx context.Context, force bool) error {
	pending, retiring := inState(c.rows, control.DKIMPending), inState(c.rows, control.DKIMRetiring)
	var over, waiting []*row
	for _, r := range retiring {
		// Keys that have just been replaced are not revoked by the same command.
		if !r.until.After(c.now) || force && len(pending) == 0 {
			over = append(over, r)
		} else {
			waiting = append(waiting, r)
		}
	}
	if err := c.retire(ctx, over); err != nil {
		return err
	}
	switch {
	case len(pending) > 0:
		return c.takeOver(ctx, pending, force)
	case len(over) > 0:
		return nil
	case len(waiting) > 0:
		c.sayOverlap(waiting)
		c.next("Nothing else is to be done before then. 'mox-like dkim rotate %s --force' ends the overlap now, for a key that somebody has stolen.", c.domain.Name)
		return nil
	default:
		return c.replace(ctx)
	}
}

// replace makes new keys of the algorithms that sign now, of all if none does.
func (c *change) replace(ctx context.Context) error {
	var algorithms []string
	for _, a := range dkimkey.Algorithms() {
		if hasAlgorithm(inState(c.rows, control.DKIMActive), signatureAlgorithms[a]) {
			algorithms = append(algorithms, a)
		}
	}
	if len(algorithms) == 0 {
		algorithms = dkimkey.Algorithms()
	}
	made, err := c.create(ctx, algorithms, "")
	if err != nil {
		return err
	}
	c.step.Publish = c.nouns(made)
	c.sayPending(made)
	return nil
}

// takeOver signs with the pending keys from now on, if the DNS has them.
func (c *change) takeOver(ctx context.Context, pending []*row, force bool) error {
	if !force {
		keys := c.nouns(pending)
		c.ask(ctx, keys)
		for i := range keys {
			for _, f := range keys[i].Findings {
				c.step.Waiting = true
				c.step.Unknown = c.step.Unknown || f.Code == control.DKIMUnknown
				c.next("%s: %s.", keys[i].Selector, f.Text)
			}
		}
		if c.step.Waiting {
			c.step.Publish = keys
			what := "Publish what is missing, wait until the name servers have it"
			if c.step.Unknown {
				what = "What the DNS has is not known: mend the resolver, publish what is missing"
			}
			c.next("So nothing is signed with %s yet. %s, and run 'mox-like dkim rotate %s' again.",
				plural(len(pending), "the pending key", "the pending keys"), what, c.domain.Name)
			return nil
		}
	}
	if err := c.activate(ctx, pending); err != nil {
		return err
	}
	how := "the DNS has " + plural(len(pending), "it", "them")
	if force {
		how = "whether or not the DNS has " + plural(len(pending), "it", "them")
	}
	c.did("The server signs mail of %s with %s from now on: %s.", c.domain.Name, titles(pending, (*row).title), how)
	if force {
		c.next("Run 'mox-like dkim check %s' to see whether the DNS has %s.", c.domain.Name, plural(len(pending), "it", "them"))
	}
	if retiring := inState(c.rows, control.DKIMRetiring); len(retiring) > 0 {
		c.sayOverlap(retiring)
		c.next("After that run 'mox-like dkim rotate %s' once more: it deletes the old private %s.", c.domain.Name, plural(len(retiring), "key", "keys"))
	}
	return nil
}

// sayOverlap says how long the records of old keys must stay.
func (c *change) sayOverlap(retiring []*row) {
	until := retiring[0].until
	for _, r := range retiring {
		if r.until.After(until) {
			until = r.until
		}
	}
	c.next("Leave the %s of %s in the DNS until %s: mail that %s signed may still be on its way.",
		plural(len(retiring), "record", "records"), selectors(retiring), stampOf(until), plural(len(retiring), "it has", "they have"))
}

// stampOf gives a time for people, after which it is over in any case.
func stampOf(t time.Time) string {
	return t.UTC().Truncate(time.Minute).Add(time.Minute).Format("2006-01-02 15:04 UTC")
}

// retire deletes private keys whose overlap is over.
func (c *change) retire(ctx context.Context, over []*row) error {
	if len(over) == 0 {
		return nil
	}
	after := make([]*row, 0, len(over))
	for _, r := range over {
		retired := *r
		retired.state, retired.since = control.DKIMRetired, c.now
		after = append(after, &retired)
	}
	if err := c.put(ctx, after...); err != nil {
		return err
	}
	for i, r := range over {
		*r = *after[i]
		if err := c.removeKey(r); err != nil {
			return err
		}
	}
	n := len(over)
	c.did("The private %s of %s %s deleted: %s retired.", plural(n, "key", "keys"), selectors(over), plural(n, "is", "are"), plural(n, "it is", "they are"))
	c.step.Remove = c.nouns(over)
	c.next("Remove the %s of %s from the DNS, or publish %s with an empty p=, which tells everybody that the %s revoked.",
		plural(n, "record", "records"), selectors(over), plural(n, "it", "them"), plural(n, "key is", "keys are"))
	return nil
}
