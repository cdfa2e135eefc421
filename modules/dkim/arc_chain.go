package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// arcVerifier validates chains. It is safe for concurrent use.
type arcVerifier struct {
	resolver resolver
	now      func() time.Time
}

// arcSkew is by how much the clocks of sealers may differ from ours.
const arcSkew = 5 * time.Minute

// arcReport is what was found about a message's chain.
type arcReport struct {
	*arcChain
	// result is chainNone, chainPass or chainFail, and reason what is wrong.
	result, reason string
	// temporary tells that a key could not be had now, which is a fail.
	temporary bool
	// oldest is the instance of the oldest message signature from which on all are
	// good, 0 if all are.
	oldest int
}

// arcOnce is for what is found once a transaction, by arc_verify and arc_seal.
type arcOnce struct{}

// report gives what is known of the message's chain.
func (v *arcVerifier) report(ctx context.Context, tx *mail.Transaction) (*arcReport, error) {
	value, err := tx.Once(arcOnce{}, func() (any, error) { return v.verify(ctx, tx.Message) })
	if err != nil {
		return nil, fmt.Errorf("validate ARC chain: %w", err)
	}
	r, ok := value.(*arcReport)
	if !ok {
		return nil, fmt.Errorf("validate ARC chain: the finding is a %T", value)
	}
	return r, nil
}

// verify validates the chain of a message (RFC 8617 section 5.2). The error is one of
// reading the message; what is wrong with the DNS is a fail (section 5.2.1) that is
// temporary.
func (v *arcVerifier) verify(ctx context.Context, m *mail.Message) (*arcReport, error) {
	r := &arcReport{arcChain: parseChain(m.Header), result: chainFail}
	switch {
	case r.problem != "":
		r.reason = r.problem
		return r, nil
	case r.last == 0:
		r.result = chainNone
		return r, nil
	}
	keys := arcKeys{resolver: v.resolver, answers: make(map[string]arcAnswer)}
	bodies, err := r.hashBodies(m)
	if err != nil {
		return nil, err
	}
	index := newFieldIndex(m.Header)
	check := func(f *finding) bool {
		if f.open() && f.expires > 0 && v.now().Add(-arcSkew).Unix() > f.expires {
			f.decide(resultFail, "it expired %s", stamp(f.expires))
		}
		if f.open() {
			f.checkBody(bodies[bodyForm{f.body, f.limit}])
		}
		if f.open() && f.unsigned > 0 {
			f.decide(resultFail, "l=%d leaves the last %d bytes of the body unsigned", f.limit, f.unsigned)
		}
		if f.open() {
			keys.fetch(ctx, f)
		}
		if f.open() {
			f.check(m.Header, index)
		}
		return f.result == resultPass
	}
	if newest := r.sets[r.last-1].message; !check(newest) {
		return r.broken(arcMessage, r.last, newest), nil
	}
	if !r.checkSeals(ctx, m.Header, &keys) {
		return r, nil
	}
	r.result = chainPass
	// What is left of the time is not all for what nobody has to know.
	share, cancel := shareTime(ctx, 2)
	defer cancel()
	ctx = share
	for i := r.last - 1; i > 0; i-- {
		// l= would have the body hashed once for each.
		if f := r.sets[i-1].message; f.limit != wholeBody || !check(f) {
			r.oldest = i + 1
			break
		}
	}
	return r, nil
}

// broken notes the field for which the chain fails.
func (r *arcReport) broken(kind, instance int, f *finding) *arcReport {
	r.result, r.temporary = chainFail, f.result == resultTempError
	by := ""
	if f.domain != "" {
		by = " of " + f.domain
	}
	r.reason = fmt.Sprintf("the %s i=%d%s: %s", arcFields[kind], instance, by, f.explain())
	if f.selector != "" {
		r.reason += fmt.Sprintf(" (selector %s, %s)", f.selector, f.algorithm)
	}
	return r
}

// hashBodies hashes the body for the newest message signature and for the older ones
// that sign it whole, of which there are two kinds.
func (c *arcChain) hashBodies(m *mail.Message) (map[bodyForm]bodySum, error) {
	newest := c.sets[c.last-1].message
	if !newest.open() {
		return nil, nil //nolint:nilnil // the chain fails without them
	}
	wanted := []bodyForm{{newest.body, newest.limit}}
	for i := range c.sets {
		if f := c.sets[i].message; f.open() && f.limit == wholeBody {
			wanted = append(wanted, bodyForm{f.body, wholeBody})
		}
	}
	return hashBody(m.OpenBody(), wanted)
}

// checkSeals verifies all seals from the newest on, and notes the first that is not
// good.
func (r *arcReport) checkSeals(ctx context.Context, h mail.HeaderSection, keys *arcKeys) bool {
	hashes := r.sealHashes(h)
	for i := r.last; i > 0; i-- {
		f := r.sets[i-1].seal
		if keys.fetch(ctx, f); f.open() && !f.key.verify(hashes[i-1], f.value) {
			f.decide(resultFail, "the signature does not fit: a set was changed, or the key is another one")
		}
		if !f.open() {
			r.broken(arcSeal, i, f)
			return false
		}
		f.decide(resultPass, "%d-bit key", f.key.bits)
	}
	return true
}

// sealHashes computes what each seal has signed: all sets up to its own (RFC 8617
// section 5.1.1).
func (c *arcChain) sealHashes(h mail.HeaderSection) [][]byte {
	hashes := make([][]byte, 0, c.last)
	s := newSealHash()
	for i := range c.sets {
		set := &c.sets[i]
		s.add(h.Fields[set.positions[arcResults]].Raw)
		s.add(h.Fields[set.positions[arcMessage]].Raw)
		hashes = append(hashes, s.sum(set.seal.bare))
		s.add(h.Fields[set.positions[arcSeal]].Raw)
	}
	return hashes
}

// sealHash hashes the fields of sets as they come, each once.
type sealHash struct {
	digest hash.Hash
	buffer []byte
}

func newSealHash() *sealHash {
	return &sealHash{digest: sha256.New(), buffer: make([]byte, 0, 1024)}
}

func (s *sealHash) add(raw []byte) {
	s.buffer = appendRelaxed(s.buffer[:0], raw)
	s.digest.Write(s.buffer)
}

// sum gives the hash for a seal, whose field is without the value of b=. More can be
// added after that.
func (s *sealHash) sum(bare []byte) []byte {
	digest := s.digest
	if cloner, ok := digest.(hash.Cloner); ok {
		if clone, err := cloner.Clone(); err == nil {
			digest = clone
		}
	}
	s.buffer = appendRelaxed(s.buffer[:0], bare)
	digest.Write(bytes.TrimSuffix(s.buffer, []byte(crlf)))
	return sum(digest)
}

// arcKeys fetches the keys of a message, each once.
type arcKeys struct {
	resolver resolver
	answers  map[string]arcAnswer
}

type arcAnswer struct {
	records []string
	err     error
}

// fetch gives a signature its key, or decides that it has none.
func (k *arcKeys) fetch(ctx context.Context, f *finding) {
	name := f.keyName()
	a, asked := k.answers[name]
	if !asked {
		a.records, a.err = k.resolver.LookupTXT(ctx, name)
		k.answers[name] = a
	}
	if f.takeKey(name, a.records, a.err); f.open() && f.key.kind == kindRSA && f.key.bits > maxARCKey {
		f.decide(resultPolicy, "the RSA key has %d bits, more than %d", f.key.bits, maxARCKey)
	}
}

// maxARCKey is the greatest size of RSA keys that verifiers have to know (RFC 8301
// section 3.2). A chain can have a hundred signatures, each of which takes longer with
// a larger one.
const maxARCKey = 4096
