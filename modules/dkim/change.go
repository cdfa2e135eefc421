package dkim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dkimkey"
	"github.com/mox-like/mox-like/core/logkey"
)

// change is a change to the keys of one domain, of which there is one at a time.
type change struct {
	*Service
	domain  control.DKIMDomain
	overlap time.Duration
	now     time.Time
	rows    []*row
	step    *control.DKIMStep
}

// begin waits for its turn, reads the keys, and mends what a crash has left.
func (s *Service) begin(ctx context.Context, d control.DKIMDomain) (*change, error) {
	managed := slices.IndexFunc(d.Blocks, func(b control.DKIMBlock) bool { return b.Managed })
	switch {
	case managed < 0 && len(d.Blocks) > 0:
		return nil, control.Invalid(fmt.Errorf("the keys of %s are in files that the configuration names; to have the server manage keys beside them write dkim {} into the block of the domain and reload, "+
			"or make a further file: mox-like dkim keygen %s --file FILE", d.Name, d.Name))
	case managed < 0:
		return nil, control.Invalid(fmt.Errorf("the server manages no keys for %s: write dkim {} into the block domain %q and reload", d.Name, d.Name))
	case s.dir == "":
		return nil, errNoDirectory
	}
	select {
	case s.changing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another change of keys: %w", ctx.Err())
	}
	c := &change{
		Service: s, domain: d, overlap: d.Blocks[managed].Overlap, now: s.now().UTC().Truncate(time.Microsecond),
		step: &control.DKIMStep{Domain: d.Name, Done: []string{}, Next: []string{}},
	}
	var err error
	if c.rows, err = s.rows(ctx, d.Name); err == nil {
		err = c.mend(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.end(ctx))
	}
	return c, nil
}

// end puts in force what is on disk now, whatever went wrong, and lets the next change
// in.
func (c *change) end(ctx context.Context) error {
	defer func() { <-c.changing }()
	rows, err := c.Service.rows(context.WithoutCancel(ctx), c.domain.Name)
	if err != nil {
		return err
	}
	c.refresh(c.domain.Name, rows)
	return nil
}

// did notes what was done.
func (c *change) did(format string, args ...any) {
	c.step.Changed = true
	c.step.Done = append(c.step.Done, fmt.Sprintf(format, args...))
}

// next notes what is to be done.
func (c *change) next(format string, args ...any) {
	c.step.Next = append(c.step.Next, fmt.Sprintf(format, args...))
}

// mend brings files and rows together again.
func (c *change) mend(ctx context.Context) error {
	files, err := c.keyFiles(c.domain.Name)
	if err != nil {
		return err
	}
	kept := c.rows[:0:0]
	for _, r := range c.rows {
		there := files[r.selector]
		delete(files, r.selector)
		switch {
		case r.state == control.DKIMRetired && there: // the start could not
			if err := c.removeKey(r); err != nil {
				return err
			}
			c.did("Deleted the private key of %s, which was retired before.", r.selector)
		case r.state == control.DKIMPending && !there:
			if err := c.drop(ctx, r); err != nil {
				return err
			}
			c.did("Forgot the pending key %s: its file has gone. If you have published its record, remove it.", r.selector)
			continue
		}
		kept = append(kept, r)
	}
	c.rows = kept
	return c.adopt(ctx, files)
}

// adopt takes up keys that have a file and no row: those of an interrupted change, and
// those that somebody has put there.
func (c *change) adopt(ctx context.Context, files map[string]bool) error {
	for _, selector := range slices.Sorted(maps.Keys(files)) {
		r := &row{domain: c.domain.Name, selector: selector, state: control.DKIMPending, created: c.now, since: c.now}
		err := mendMode(c.file(r), 0, 0o600)
		var private *privateKey
		if err == nil {
			private, err = loadOwn(c.file(r))
		}
		if err == nil {
			err = r.describe(private)
		}
		if err != nil {
			c.step.Done = append(c.step.Done, fmt.Sprintf("Left the file %s alone, which is no key: %v.", c.file(r), err))
			continue
		}
		if err := c.put(ctx, r); err != nil {
			return err
		}
		c.rows = append(c.rows, r)
		c.did("Took up %s, whose file was there without being in use, as a pending key.", r.title())
	}
	return nil
}

// title names a key for people.
func (r *row) title() string {
	if r.algorithm == algorithmEd25519 {
		return r.selector + " (Ed25519)"
	}
	return fmt.Sprintf("%s (RSA, %d bits)", r.selector, r.bits)
}

// titles names several, "A and B".
func titles(rows []*row, name func(*row) string) string {
	var b strings.Builder
	for i, r := range rows {
		switch {
		case i > 0 && i == len(rows)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(name(r))
	}
	return b.String()
}

// selectors names several by their selectors.
func selectors(rows []*row) string { return titles(rows, func(r *row) string { return r.selector }) }

// plural gives the word for n.
func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// signatureAlgorithms are those of a= by the ones of new keys.
var signatureAlgorithms = map[string]string{dkimkey.RSA2048: algorithmRSA, dkimkey.Ed25519: algorithmEd25519}

// Make makes keys. They sign at once if no key does, and else wait for a rotation.
func (s *Service) Make(ctx context.Context, d control.DKIMDomain, n control.NewDKIMKeys) (step *control.DKIMStep, err error) {
	algorithms, err := checkAlgorithms(n)
	if err != nil {
		return nil, err
	}
	c, err := s.begin(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("make DKIM keys: %w", err)
	}
	defer func() {
		if err = errors.Join(err, c.end(ctx)); err != nil {
			step = nil
		}
	}()
	if err := c.make(ctx, algorithms, n.Selector); err != nil {
		return nil, fmt.Errorf("make DKIM keys: %w", err)
	}
	return c.step, nil
}

func (c *change) make(ctx context.Context, algorithms []string, selector string) error {
	// Where keys of files sign, nothing is in a hurry.
	first := len(inState(c.rows, control.DKIMActive)) == 0 && len(c.domain.Blocks) == 1
	pending := inState(c.rows, control.DKIMPending)
	var missing []string
	for _, a := range algorithms {
		if !hasAlgorithm(pending, signatureAlgorithms[a]) {
			missing = append(missing, a)
		}
	}
	if len(missing) == 0 && !first {
		return &existsError{fmt.Sprintf("%s of %s %s pending already: publish %s ('mox-like dkim dns %s' prints what), and run: mox-like dkim rotate %s",
			selectors(pending), c.domain.Name, plural(len(pending), "is", "are"), plural(len(pending), "its record", "their records"), c.domain.Name, c.domain.Name)}
	}
	if _, err := c.create(ctx, missing, selector); err != nil {
		return err
	}
	pending = inState(c.rows, control.DKIMPending)
	c.step.Publish = c.nouns(pending)
	if !first {
		c.sayPending(pending)
		return nil
	}
	if err := c.activate(ctx, pending); err != nil {
		return err
	}
	c.step.Publish = c.nouns(pending)
	c.did("No key was in use, so the server signs mail of %s with %s from now on.", c.domain.Name, plural(len(pending), "it", "them"))
	c.next("Publish %s now, before mail goes out: until the DNS has %s, receivers cannot check the signatures and take the mail for unsigned.",
		plural(len(pending), "this record", "these records"), plural(len(pending), "it", "them"))
	c.next("Then run 'mox-like dkim check %s', which asks the DNS.", c.domain.Name)
	c.next("Signatures are made by the handler dkim_sign: it belongs into the chain by which users send.")
	return nil
}

// sayPending says what is to be done for keys that wait.
func (c *change) sayPending(pending []*row) {
	n := len(pending)
	c.next("%s pending: nothing is signed with %s yet. Publish %s, and leave the records of other keys as they are.",
		plural(n, "The new key is", "The new keys are"), plural(n, "it", "them"), plural(n, "this record", "these records"))
	c.next("Then run 'mox-like dkim rotate %s': it asks the DNS, and begins to sign with %s once the DNS shows %s.",
		c.domain.Name, plural(n, "the new key", "the new keys"), plural(n, "it", "all of them"))
}

func hasAlgorithm(rows []*row, algorithm string) bool {
	return slices.ContainsFunc(rows, func(r *row) bool { return r.algorithm == algorithm })
}

// existsError is ErrExists with a text of its own.
type existsError struct{ text string }

func (e *existsError) Error() string { return e.text }

// Is makes it one of its kind.
func (e *existsError) Is(target error) bool { return target == control.ErrExists }

// checkAlgorithms checks what is asked for, before anything is done.
func checkAlgorithms(n control.NewDKIMKeys) ([]string, error) {
	if len(n.Algorithms) == 0 {
		return dkimkey.Algorithms(), nil
	}
	for i, a := range n.Algorithms {
		if signatureAlgorithms[a] == "" {
			return nil, control.Invalid(fmt.Errorf("make DKIM keys: %q is no algorithm; there are %s", a, strings.Join(dkimkey.Algorithms(), " and ")))
		}
		if slices.Contains(n.Algorithms[:i], a) {
			return nil, control.Invalid(fmt.Errorf("make DKIM keys: the algorithm %s stands twice", a))
		}
	}
	return n.Algorithms, nil
}

// create makes pending keys: their files first, and their rows together.
func (c *change) create(ctx context.Context, algorithms []string, selector string) ([]*row, error) {
	var made []*row
	for _, a := range algorithms {
		name, err := c.newSelector(selector, a, len(algorithms) > 1)
		if err != nil {
			return nil, err
		}
		r := &row{domain: c.domain.Name, selector: name, state: control.DKIMPending, created: c.now, since: c.now}
		if err := c.writeKey(r, a); err != nil {
			return nil, err
		}
		made = append(made, r)
		c.rows = append(c.rows, r)
	}
	if len(made) == 0 {
		return nil, nil
	}
	if err := c.put(ctx, made...); err != nil {
		return nil, err
	}
	c.did("Made %s.", titles(made, (*row).title))
	c.log.Info("DKIM keys made", zap.String(logkey.Domain, c.domain.Name))
	return made, nil
}

// maxSelector bounds selectors, which are names of files too, in bytes.
const maxSelector = 63

// suffixes end the selectors of keys of several algorithms.
var suffixes = map[string]string{dkimkey.RSA2048: "-rsa", dkimkey.Ed25519: "-ed25519"}

// newSelector gives a selector that no key of the domain has or had: the one that is
// asked for, or one with the day.
func (c *change) newSelector(wanted, algorithm string, several bool) (string, error) {
	if wanted != "" {
		name := wanted
		if several {
			name += suffixes[algorithm]
		}
		label, ok := asciiName(name)
		switch {
		case !ok || !dkimkey.IsSelector(wanted):
			return "", control.Invalid(fmt.Errorf("%q is no selector: it has letters, digits and hyphens, such as \"s2026\"", name))
		case len(label) > maxSelector:
			return "", control.Invalid(fmt.Errorf("the selector has %d letters, more than %d", len(label), maxSelector))
		case c.taken(label):
			return "", &existsError{fmt.Sprintf("%s has or had a key with the selector %s: choose another one, since caches may have the old record", c.domain.Name, label)}
		}
		return label, nil
	}
	base := "s" + c.now.Format("20060102")
	for n := 1; ; n++ {
		name := base + suffixes[algorithm]
		if n > 1 {
			name = fmt.Sprintf("%s-%d%s", base, n, suffixes[algorithm])
		}
		if !c.taken(name) {
			return name, nil
		}
	}
}

// taken tells whether a key has or had a selector.
func (c *change) taken(selector string) bool {
	return slices.ContainsFunc(c.rows, func(r *row) bool { return r.selector == selector }) ||
		slices.ContainsFunc(c.domain.Blocks, func(b control.DKIMBlock) bool { return b.Selector == selector })
}

// activate has keys sign from now on, and those of their algorithms that did before
// retire, in one write.
func (c *change) activate(ctx context.Context, pending []*row) error {
	changed := slices.Clone(pending)
	for _, r := range inState(c.rows, control.DKIMActive) {
		if hasAlgorithm(pending, r.algorithm) {
			changed = append(changed, r)
		}
	}
	after := make([]row, len(changed))
	var list []*row
	for i, r := range changed {
		after[i] = *r
		after[i].since = c.now
		if r.state == control.DKIMActive {
			after[i].state, after[i].until = control.DKIMRetiring, c.now.Add(c.overlap)
		} else {
			after[i].state = control.DKIMActive
		}
		list = append(list, &after[i])
	}
	if err := c.put(ctx, list...); err != nil {
		return err
	}
	for i, r := range changed {
		*r = after[i]
	}
	c.log.Info("DKIM keys changed", zap.String(logkey.Domain, c.domain.Name))
	return nil
}
