package dkim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// Verify verifies the DKIM signatures of a message. Each is noted as a result of
// authentication, with its domain, selector, algorithm and the size of its key,
// and, if it is not good, with what is wrong with it. The message passes by DKIM
// if one signature is good, whatever the others are.
//
// Lists and forwarders break signatures of honest mail, and RFC 6376 has a message
// with a broken one be as good as one without: so nothing is refused unless the
// settings say so, and whose signature a message needs is a matter of dmarc.
// A signature is not good either, by the result policy, if the header has a line that
// is no field: no signature covers it, and some programs show it as text.
// Messages of clients that have logged in are not looked at.
type Verify struct {
	// Fail is for a message that has signatures, none of which is good. What it may
	// be is accept, tag (the message gets the tag dkim=fail), quarantine or reject,
	// by 550 5.7.20 (RFC 7372).
	Fail string `config:"fail" default:"accept" values:"accept,tag,quarantine,reject"`
	// None is for a message without a signature, or with none but those of domains
	// that only test DKIM and are not good; its tag is dkim=none.
	None string `config:"none" default:"accept" values:"accept,tag,quarantine,reject"`
	// TempError is for a message without a good signature, of which a key could not
	// be looked up; its tag is dkim=temperror, and defer asks the client to try again
	// by 451 4.4.3.
	TempError string `config:"temperror" default:"accept" values:"accept,tag,quarantine,defer,reject"`
	// WeakKey is what a good signature by an RSA key of 1024 to 2047 bits is worth:
	// accept takes it, tag takes it and gives the message the tag dkim=weak_key,
	// refuse makes the result policy instead of pass.
	WeakKey string `config:"weak_key" default:"tag" values:"accept,tag,refuse"`
	// BodyLength is what a good signature is worth that covers the beginning of the
	// body alone (l=) when more stands behind it, which anybody can have added: refuse
	// makes the result policy, tag takes it and gives the message the tag
	// dkim=body_length.
	BodyLength string `config:"body_length" default:"refuse" values:"tag,refuse"`
	// TestKey is what a good signature is worth by a key whose domain says that it
	// only tests DKIM (t=y): accept takes it, as most servers do, ignore makes the
	// result neutral, as RFC 6376 section 3.6.1 has it. One that is not good is always
	// neutral.
	TestKey string `config:"test_key" default:"accept" values:"accept,ignore"`
	// MaxSignatures is how many signatures of a message are verified, the topmost
	// ones; each takes a look-up.
	MaxSignatures int `config:"max_signatures" default:"8" min:"1" max:"32"`
	// ClockSkew is for how long a signature is good after it has expired (x=), since
	// clocks differ.
	ClockSkew time.Duration `config:"clock_skew" default:"5m" min:"0s" max:"7d"`

	verifier *verifier
}

// Module describes the handler.
func (*Verify) Module() core.Info {
	return core.Info{
		ID:      "handler.dkim_verify",
		Stages:  mail.AtData,
		Timeout: 20 * time.Second,
		New:     func() core.Module { return new(Verify) },
	}
}

// Provision takes the resolver.
func (v *Verify) Provision(c *core.Context) error {
	v.verifier = &verifier{resolver: c.Resolver(), now: c.Now(), most: v.MaxSignatures, skew: v.ClockSkew}
	return nil
}

// onceKey names what is found once a transaction: it depends on these settings
// alone.
type onceKey struct {
	most int
	skew time.Duration
}

// Handle verifies the message.
func (v *Verify) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if user := tx.Session.User; user != "" {
		return mail.Continue(mail.Printable("not verified: "+user+" has logged in", maxReason)), nil
	}
	value, err := tx.Once(onceKey{v.MaxSignatures, v.ClockSkew}, func() (any, error) {
		return v.verifier.verify(ctx, tx.Message)
	})
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("verify DKIM signatures: %w", err)
	}
	found, ok := value.(*report)
	if !ok {
		return mail.Verdict{}, fmt.Errorf("verify DKIM signatures: the finding is a %T", value)
	}
	j := v.judge(found)
	for _, r := range j.authResults() {
		tx.SetAuthResult(r)
	}
	for _, tag := range j.tags {
		tx.AddTag(tag)
	}
	return v.verdict(tx, j), nil
}

// judgement is what the settings make of a report.
type judgement struct {
	findings []finding // copies: other settings judge the same report
	skipped  int
	// result is that of the message: pass, fail, none or temperror.
	result string
	tags   []string
}

// judge applies the settings to what was found.
func (v *Verify) judge(r *report) *judgement {
	j := &judgement{skipped: r.skipped, result: resultNone}
	for _, found := range r.findings {
		f := *found
		j.tags = append(j.tags, v.apply(&f)...)
		j.findings = append(j.findings, f)
		if result := f.messageResult(); rank[result] > rank[j.result] {
			j.result = result
		}
	}
	return j
}

// rank orders the results of a message: the greatest of its signatures' is its own.
var rank = map[string]int{resultNone: 0, resultFail: 1, resultTempError: 2, resultPass: 3}

// messageResult is what a signature says of the whole message.
func (f *finding) messageResult() string {
	switch {
	case f.result == resultPass, f.result == resultTempError:
		return f.result
	case f.result == resultNeutral && f.key != nil && f.key.testing:
		return resultNone
	default:
		return resultFail
	}
}

// apply changes a finding as the settings want it, and gives the tags for it.
func (v *Verify) apply(f *finding) (tags []string) {
	testing := f.key != nil && f.key.testing
	if testing && (f.result != resultPass || v.TestKey == "ignore") {
		f.decide(resultNeutral, "the domain tests DKIM (t=y): %s, %s", f.result, f.reason)
	}
	if f.result != resultPass {
		return nil
	}
	if f.unsigned > 0 {
		if v.BodyLength == "refuse" {
			f.decide(resultPolicy, "l=%d leaves the last %d bytes of the body unsigned", f.limit, f.unsigned)
			return nil
		}
		f.reason += fmt.Sprintf(", l=%d leaves the last %d bytes of the body unsigned", f.limit, f.unsigned)
		tags = append(tags, "dkim=body_length")
	}
	if f.key.kind == kindRSA && f.key.bits < weakRSA {
		switch v.WeakKey {
		case "refuse":
			f.decide(resultPolicy, "the RSA key has %d bits, less than %d", f.key.bits, weakRSA)
			return nil
		case "tag":
			f.reason += ", which is weak"
			tags = append(tags, "dkim=weak_key")
		}
	}
	if testing {
		f.reason += ", the domain tests DKIM (t=y)"
	}
	return tags
}

// verdict gives what the settings say of the message's result.
func (v *Verify) verdict(tx *mail.Transaction, j *judgement) mail.Verdict {
	action, text := "accept", ""
	switch j.result {
	case resultNone:
		action, text = v.None, "Message has no DKIM signature"
	case resultFail:
		action, text = v.Fail, "No DKIM signature of the message is good: "+j.worst()
	case resultTempError:
		action, text = v.TempError, "DKIM keys of the message cannot be looked up"
	}
	reason := j.String()
	switch action {
	case "tag":
		tx.AddTag("dkim=" + j.result)
		return mail.Continue(reason)
	case "quarantine":
		return mail.Quarantine(reason)
	case "defer":
		return mail.Defer(mail.NewReply(451, 4, 3, text+" now, try again later"), reason)
	case "reject":
		return mail.Reject(mail.NewReply(550, 7, 20, asciiOnly(mail.Printable(text, maxReply))), reason)
	default:
		return mail.Continue(reason)
	}
}

// worst says what is wrong with the first signature that is not good.
func (j *judgement) worst() string {
	for i := range j.findings {
		if f := &j.findings[i]; f.messageResult() == resultFail {
			return f.who() + ": " + f.reason
		}
	}
	return ""
}

// Bounds of what goes into a trace and into a reply, in bytes.
const (
	maxReason = 480
	// minShare is what each signature has of a reason at least; the last ones of many
	// are cut off.
	minShare = 110
	maxReply = 380
)

// String says what was found, for the operator.
func (j *judgement) String() string {
	if len(j.findings) == 0 {
		return "no signature"
	}
	var b strings.Builder
	share := max(maxReason/len(j.findings)-4, minShare)
	for i := range j.findings {
		if i > 0 {
			b.WriteString("; ")
		}
		f := &j.findings[i]
		b.WriteString(mail.Printable(fmt.Sprintf("%s: %s, %s", f.who(), f.result, f.explain()), share))
	}
	text := b.String()
	if j.skipped > 0 {
		text = fmt.Sprintf("%d more signatures not looked at; %s", j.skipped, text)
	}
	return mail.Printable(text, maxReason)
}

// explain gives the reason, with the size of the key if it has one and the reason does
// not tell.
func (f *finding) explain() string {
	if f.key == nil || strings.Contains(f.reason, "-bit key") || strings.Contains(f.reason, " bits") {
		return f.reason
	}
	return fmt.Sprintf("%s, %d-bit key", f.reason, f.key.bits)
}

// who names a signature: its domain, selector and algorithm, as far as they could
// be read.
func (f *finding) who() string {
	if f.domain == "" {
		return "signature"
	}
	return strings.TrimSpace(f.domain + " by " + f.selector + " " + f.algorithm)
}

// asciiOnly puts question marks where a text is no printable US-ASCII.
func asciiOnly(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Interface guards.
var (
	_ core.Provisioner = (*Verify)(nil)
	_ core.Handler     = (*Verify)(nil)
)
