package dkim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() {
	core.Register(new(ARCVerify))
	core.Register(new(ARCSeal))
}

// The fields of an ARC set (RFC 8617 section 4.1), in the order in which they are
// sealed.
const (
	arcResults = iota
	arcMessage
	arcSeal
	arcKinds
)

var arcFields = [arcKinds]string{"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"}

// maxSets is how many sets a chain can have (RFC 8617 section 4.2.1).
const maxSets = 50

// Statuses of a chain in cv=, and the results of arc_verify.
const (
	chainNone = resultNone
	chainPass = resultPass
	chainFail = resultFail
)

// arcChain is the sets of a message.
type arcChain struct {
	// sets are those of the instances 1, 2, …; they are all there unless there is a
	// problem.
	sets []arcSet
	// last is the greatest instance that a field has.
	last int
	// ended tells that the newest seal says cv=fail.
	ended bool
	// problem is what is wrong with the structure, "" if nothing is.
	problem string
}

// arcSet is what one sealer has added. message and seal have what could be read.
type arcSet struct {
	// positions are those of the fields in the header section, noField for none.
	positions [arcKinds]int
	message   *finding
	seal      *finding
	// status is cv= of the seal.
	status string
}

// fail notes what is wrong with the structure, the first thing that is.
func (c *arcChain) fail(format string, args ...any) {
	if c.problem == "" {
		c.problem = fmt.Sprintf(format, args...)
	}
}

// parseChain finds the sets of a header section and reads them (RFC 8617 section 5.2,
// steps 1 to 3). A message without any has last 0 and no problem.
func parseChain(h mail.HeaderSection) *arcChain {
	c := locateChain(h)
	for i := range c.last {
		set := &c.sets[i]
		if err := set.parse(h, i+1); err != nil {
			c.fail("%v", err)
		}
		want := chainPass
		if i == 0 {
			want = chainNone
		}
		switch last := i+1 == c.last; {
		case last && set.status == chainFail:
			c.ended = true
			c.problem = fmt.Sprintf("%s has found that the chain is broken (cv=fail, i=%d)", set.seal.domain, i+1)
		case set.status != want:
			c.fail("the seal i=%d says cv=%.20s, not %s", i+1, set.status, want)
		}
	}
	return c
}

// locateChain puts the fields of a header section in order.
func locateChain(h mail.HeaderSection) *arcChain {
	c := &arcChain{sets: make([]arcSet, 0, 4)}
	for position, field := range h.Fields {
		kind := arcKind(field.Name)
		if kind < 0 {
			continue
		}
		instance, err := arcInstance(field.Raw, kind)
		if err != nil {
			c.fail("%s cannot be read: %v", arcFields[kind], err)
			continue
		}
		for len(c.sets) < instance {
			c.sets = append(c.sets, arcSet{positions: [arcKinds]int{noField, noField, noField}})
		}
		set := &c.sets[instance-1]
		if set.positions[kind] != noField {
			c.fail("there are two %s of i=%d", arcFields[kind], instance)
			continue
		}
		set.positions[kind] = position
	}
	c.last = len(c.sets)
	return c
}

// arcKind tells which field of a set a name is, -1 if none.
func arcKind(name string) int {
	if len(name) < len("ARC-Seal") || !strings.EqualFold(name[:4], "ARC-") {
		return -1
	}
	return slices.IndexFunc(arcFields[:], func(f string) bool { return strings.EqualFold(f, name) })
}

// arcInstance reads i= of a field.
func arcInstance(raw []byte, kind int) (int, error) {
	_, text, _ := strings.Cut(string(raw), ":")
	if kind == arcResults {
		first, _, ok := strings.Cut(text, ";")
		if !ok {
			return 0, errors.New("it does not begin with i=")
		}
		text = withoutComments(first)
	} else if len(raw) > maxField {
		return 0, fmt.Errorf("the field has %d bytes, more than %d", len(raw), maxField)
	}
	tags, err := parseTags(text)
	if err != nil {
		return 0, err
	}
	i, err := tags.need("i")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(i)
	if err != nil || n < 1 || n > maxSets || len(i) > 2 || !isDigit(i[0]) {
		return 0, fmt.Errorf("i=%.20s is no number from 1 to %d", i, maxSets)
	}
	return n, nil
}

// withoutComments leaves out comments (RFC 5322 section 3.2.2); quoted strings do not
// stand in what it is for.
func withoutComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}
	var b strings.Builder
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == '\\' && depth > 0:
			i++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// parse reads the fields of a set that has been located.
func (set *arcSet) parse(h mail.HeaderSection, instance int) error {
	set.message, set.seal = &finding{signature: new(signature)}, &finding{signature: new(signature)}
	for kind, position := range set.positions {
		if position == noField {
			return fmt.Errorf("there is no %s of i=%d", arcFields[kind], instance)
		}
	}
	seal, message := set.positions[arcSeal], set.positions[arcMessage]
	set.seal.position, set.message.position = seal, message
	if err := set.parseSeal(h.Fields[seal].Raw); err != nil {
		return fmt.Errorf("the %s i=%d cannot be read: %w", arcFields[arcSeal], instance, err)
	}
	// Only the newest one has to be good: what is wrong with this one is its own.
	if err := set.parseMessage(h.Fields[message].Raw); err != nil {
		set.message.decide(resultNeutral, "it cannot be read: %v", err)
	}
	return nil
}

// parseSeal reads an ARC-Seal (RFC 8617 section 4.1.3).
func (set *arcSet) parseSeal(raw []byte) error {
	s := set.seal.signature
	tags, err := s.readTags(raw)
	if err != nil {
		return err
	}
	set.status, err = tags.need("cv")
	set.status = strings.ToLower(set.status)
	if err != nil {
		return err
	}
	if _, ok := tags.get("h"); ok {
		return errors.New("it has h=, which a seal must not have")
	}
	err = tags.read(s.readIdentity, s.readAlgorithm, s.readValue)
	s.auidDomain = s.domain
	return err
}

// parseMessage reads an ARC-Message-Signature (RFC 8617 section 4.1.2).
func (set *arcSet) parseMessage(raw []byte) error {
	s := set.message.signature
	s.limit = wholeBody
	tags, err := s.readTags(raw)
	if err != nil {
		return err
	}
	err = tags.read(s.readIdentity, s.readAlgorithm, s.readValue, s.readBodyHash, s.readCanonicalization, s.readSigned, s.readNumbers)
	if err != nil {
		return err
	}
	if s.auidDomain = s.domain; slices.Contains(s.names, "arc-seal") {
		return errors.New("it signs ARC-Seal, which it must not")
	}
	return nil
}
