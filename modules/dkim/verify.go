package dkim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

// The results of a signature (RFC 8601 section 2.7.1).
const (
	resultNone      = "none"      // the message has no signature
	resultPass      = "pass"      // the signature is good
	resultFail      = "fail"      // it is not: the message was changed, or it has expired
	resultPolicy    = "policy"    // it may be good, but this server does not take its like
	resultNeutral   = "neutral"   // it cannot be read, or its domain only tests
	resultTempError = "temperror" // its key cannot be had now
	resultPermError = "permerror" // its key cannot be had or used
)

// resolver is what a verification needs of the DNS. Errors are those of package
// dns; whatever is neither ErrNotFound nor ErrBadName is temporary.
type resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// verifier verifies the signatures of messages. It is safe for concurrent use.
type verifier struct {
	resolver resolver
	now      func() time.Time
	// most is how many signatures of a message are looked at, from the top.
	most int
	// skew is by how much the clocks of signers may differ from ours.
	skew time.Duration
}

// finding is what was found about one signature.
type finding struct {
	*signature
	result, reason string
	// key is nil as long as there is none.
	key *publicKey
	// unsigned is how many bytes of the canonical body stand behind what l= has
	// signed.
	unsigned int64

	position int // of the field in the header section
}

// report is what was found about a message.
type report struct {
	findings []*finding
	// skipped is how many signatures were not looked at.
	skipped int
}

// open tells whether nothing was found yet that decides.
func (f *finding) open() bool { return f.result == "" }

func (f *finding) decide(result, format string, args ...any) {
	f.result, f.reason = result, fmt.Sprintf(format, args...)
}

// verify verifies the signatures of a message. It reads the body at most once and
// asks for one key a signature. The error is one of reading the message; what is
// wrong with the DNS is temperror.
func (v *verifier) verify(ctx context.Context, m *mail.Message) (*report, error) {
	r := new(report)
	for i, field := range m.Header.Fields {
		if !strings.EqualFold(field.Name, signatureField) {
			continue
		}
		if len(r.findings) == v.most {
			r.skipped++
			continue
		}
		r.findings = append(r.findings, v.read(field.Raw, i))
	}
	if len(r.findings) == 0 {
		return r, nil
	}
	v.fetchKeys(ctx, r.findings)
	if err := checkBodies(m, r.findings); err != nil {
		return nil, err
	}
	index := newFieldIndex(m.Header)
	for _, f := range r.findings {
		if f.open() {
			f.check(m.Header, index)
			f.reason += v.remarks(f, index)
		}
	}
	return r, nil
}

// shown are fields that a mail client shows or goes by, in lower case. Of each a
// message has one.
var shown = []string{"subject", "to", "cc", "date", "reply-to", "mime-version", "content-type", "content-transfer-encoding"}

// remarks gives what the operator is to know of a signature that is good all the
// same.
func (v *verifier) remarks(f *finding, index fieldIndex) string {
	if f.result != resultPass {
		return ""
	}
	text := ""
	if f.created > v.now().Add(v.skew).Unix() {
		text = ", made in the future: t= is " + strings.TrimPrefix(stamp(f.created), "on ")
	}
	for _, name := range shown {
		if n, signed := len(index[name]), f.signs(name); n > 1 && n > signed {
			text += fmt.Sprintf(", there are %d fields %s, and %d signed", n, name, signed)
		}
	}
	return text
}

// signs tells how many fields of a name are signed.
func (f *finding) signs(name string) int {
	n := 0
	for _, signed := range f.names {
		if signed == name {
			n++
		}
	}
	return n
}

// read reads one field and judges what needs neither key nor message.
func (v *verifier) read(raw []byte, position int) *finding {
	s, err := parseSignature(raw)
	f := &finding{signature: s, position: position}
	now := v.now()
	policy, isPolicy := errors.AsType[*policyError](err)
	switch {
	case isPolicy:
		f.decide(resultPolicy, "%s", policy.text)
	case err != nil:
		f.decide(resultNeutral, "the signature cannot be read: %v", err)
	case s.expires > 0 && now.Add(-v.skew).Unix() > s.expires:
		f.decide(resultFail, "the signature expired %s", stamp(s.expires))
	}
	return f
}

// lastTime is the last second of the year 9999, beyond which dates do not print
// well.
const lastTime = 253402300799

func stamp(unix int64) string {
	return "on " + time.Unix(min(unix, lastTime), 0).UTC().Format(time.RFC3339)
}

// fetchKeys gets the keys of the open signatures, each name once. When the time is
// short, each has its share of it: one domain whose servers are silent does not
// keep the keys of others away.
func (v *verifier) fetchKeys(ctx context.Context, findings []*finding) {
	type answer struct {
		records []string
		err     error
	}
	answers := make(map[string]answer, len(findings))
	for i, f := range findings {
		if !f.open() {
			continue
		}
		name := f.keyName()
		a, asked := answers[name]
		if !asked {
			share, cancel := shareTime(ctx, len(findings)-i)
			a.records, a.err = v.resolver.LookupTXT(share, name)
			cancel()
			answers[name] = a
		}
		f.takeKey(name, a.records, a.err)
	}
}

// shareTime gives the part of the time that one of n has.
func shareTime(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n < 2 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}

// takeKey judges the answer to the question for the key.
func (f *finding) takeKey(name string, records []string, err error) {
	switch {
	case errors.Is(err, dns.ErrNotFound), errors.Is(err, dns.ErrBadName):
		f.decide(resultPermError, "there is no key at %s", name)
		return
	case err != nil:
		f.decide(resultTempError, "the key cannot be looked up: %v", err)
		return
	}
	key, err := selectKey(records, f.kind)
	switch {
	case err != nil:
		f.decide(resultPermError, "the key at %s cannot be used: %v", name, err)
		return
	case key.kind == kindRSA && key.bits < minRSA:
		f.decide(resultPolicy, "the RSA key has %d bits, less than %d (RFC 8301)", key.bits, minRSA)
	case key.exact && f.auidDomain != f.domain:
		f.decide(resultPermError, "the key has the flag t=s, and the domain of i=%s is not d=%s itself", f.auid, f.domain)
	}
	f.key = key
}

// checkBodies hashes the body for all open signatures in one pass.
func checkBodies(m *mail.Message, findings []*finding) error {
	var wanted []bodyForm
	for _, f := range findings {
		if f.open() {
			wanted = append(wanted, bodyForm{f.body, f.limit})
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	sums, err := hashBody(m.OpenBody(), wanted)
	if err != nil {
		return err
	}
	for _, f := range findings {
		if f.open() {
			f.checkBody(sums[bodyForm{f.body, f.limit}])
		}
	}
	return nil
}

func (f *finding) checkBody(s bodySum) {
	switch {
	case f.limit > s.size:
		f.decide(resultFail, "the body was cut: l=%d, and it has %d bytes", f.limit, s.size)
	case !bytes.Equal(s.hash, f.bodyHash):
		f.decide(resultFail, "the body was changed: its hash is not bh=")
	case f.limit != wholeBody:
		f.unsigned = s.size - f.limit
	}
}

// check verifies the signature itself.
func (f *finding) check(h mail.HeaderSection, index fieldIndex) {
	hash := headerHash(h, index, f.names, f.header, f.position, f.bare)
	if !f.key.verify(hash, f.value) {
		f.decide(resultFail, "the signature does not fit: a signed field was changed, or the key is another one")
		return
	}
	signed := f.signs("from")
	if n := len(index["from"]); n > signed {
		f.decide(resultPolicy, "there are %d From fields, and %d signed", n, signed)
		return
	}
	if len(index[noName]) > 0 {
		f.decide(resultPolicy, "%s, so that it is not signed", strayLine)
		return
	}
	f.decide(resultPass, "%d-bit key", f.key.bits)
}
