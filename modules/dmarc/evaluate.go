package dmarc

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/mail"
)

// The results (RFC 8601 section 2.7, RFC 7489 section 11.2).
const (
	resultPass      = "pass"
	resultFail      = "fail"
	resultNone      = "none"      // no record
	resultTempError = "temperror" // the DNS did not answer, for this or for SPF or DKIM
	resultPermError = "permerror" // a record without a policy
)

const (
	methodSPF  = "spf"
	methodDKIM = "dkim"
)

// maxIdentifiers bounds how many domains of one message are compared by asking the
// DNS.
const maxIdentifiers = 10

// identifier is a domain that SPF or DKIM has judged.
type identifier struct {
	method, domain, result string
	// unaligned is set once it is known that the domain is not the author's.
	unaligned bool
}

// String names it for the operator.
func (id identifier) String() string {
	name := strings.ToUpper(id.method)
	if id.domain == "" {
		return name + " " + id.result
	}
	text := name + " " + id.result + " for " + id.domain
	if id.unaligned {
		text += ", which is not aligned"
	}
	return text
}

// identifiers gives what SPF and DKIM have found, each domain with a result once.
// SPF's is that of the reverse-path or, if that is null, of HELO (RFC 9989 section
// 4.4.2).
func identifiers(tx *mail.Transaction) []identifier {
	var list []identifier
	for _, r := range tx.AuthResults() {
		if r.Method != methodSPF && r.Method != methodDKIM {
			continue
		}
		id := identifier{method: r.Method, result: r.Result}
		ofHelo := false
		for _, p := range r.Properties {
			switch p.Type + "." + p.Name {
			case "smtp.mailfrom", "header.d":
				id.domain = normal(p.Value[strings.LastIndexByte(p.Value, '@')+1:])
			case "smtp.helo":
				id.domain, ofHelo = normal(p.Value), true
			}
		}
		if ofHelo && !tx.Envelope.ReversePath.IsNull() || slices.Contains(list, id) {
			continue
		}
		list = append(list, id)
	}
	return list
}

// normal gives a domain in A-labels and lower case.
func normal(domain string) string {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if isASCII(domain) || len(domain) > maxDomain {
		return domain
	}
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		return ascii
	}
	return domain
}

// finding is what was found about one author's domain.
type finding struct {
	author string
	result string
	// place is where the record stands; it has none for none.
	place
	// policy is what the record asks for, and tag where it says so; applied is
	// what is left of it after t and pct, for the reason milder.
	policy, applied Policy
	tag, milder     string
	// spf and dkim tell what is aligned and passed, unasked that one was not checked and
	// nothing else leaves the result open.
	spf, dkim, unasked bool
	// problem says more about a result that is neither pass nor fail.
	problem string
	ids     []identifier
}

// evaluation judges one message.
type evaluation struct {
	discovery
	ids []identifier
	// sample is a number from 0 to 99 for pct.
	sample int
}

// sampleOf gives each message a number that nobody outside can choose, and that is
// the same whenever it is asked for.
func sampleOf(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % 100)
}

// judge finds the policy for an author's domain and whether the message passes it.
func (e *evaluation) judge(ctx context.Context, author string) *finding {
	f := &finding{author: author, result: resultNone}
	share, cancel := shareTime(ctx, 2)
	place, err := e.policy(share, author)
	cancel()
	if err != nil {
		e.above(ctx, f)
		return f.temporary(err)
	}
	f.place = place
	switch {
	case f.record == nil && e.several != "":
		f.problem = "_dmarc." + e.several + " has several records, which count as none"
		return f
	case f.record == nil:
		return f
	case f.record.problem != "":
		f.result, f.problem = resultPermError, fmt.Sprintf("the record of %s asks for nothing: %s", f.domain, f.record.problem)
		return f
	}
	if err := e.setPolicy(ctx, f); err != nil {
		return f.temporary(err)
	}
	return e.align(ctx, f)
}

func (f *finding) temporary(err error) *finding {
	f.result, f.problem = resultTempError, err.Error()
	return f
}

// setPolicy finds what the record asks for.
func (e *evaluation) setPolicy(ctx context.Context, f *finding) error {
	below, exists := f.domain != f.author, true
	if below && f.missing != "" {
		var err error
		if exists, err = e.exists(ctx, f.author); err != nil {
			return err
		}
	}
	f.policy, f.tag = f.of(below, exists)
	f.applied, f.milder = f.soften(f.policy, e.sample)
	return nil
}

// soften gives what is left of a policy after t and pct, and why.
func (r *record) soften(p Policy, sample int) (applied Policy, because string) {
	switch {
	case p == PolicyNone:
		return p, ""
	case r.test:
		return p.milder(), "t=y"
	case sample >= r.percent:
		return p.milder(), fmt.Sprintf("pct=%d", r.percent)
	default:
		return p, ""
	}
}

// above finds what the author's organization asks for, when it is not to be had what
// holds for the author: names without an answer, of which a stranger may know one,
// do not take its policy away. It stays unknown if that has no answer either.
func (e *evaluation) above(ctx context.Context, f *finding) {
	name := registered(f.author)
	if name == f.author {
		return
	}
	switch r, err := e.record(ctx, name); {
	case err != nil:
	case r == nil || r.problem != "":
		f.applied = PolicyNone
	default:
		p, _ := r.of(true, true)
		f.applied, _ = r.soften(p, e.sample)
	}
}

// shareTime gives the part of the time that one of n has, so that a domain whose
// servers are silent does not keep the answers about others away.
func shareTime(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n < 2 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}

// align compares the domains that SPF and DKIM have judged with the author's (RFC
// 9989 section 4.10.2). A method that was not asked, and one that had no answer
// about the author's own domain, leave it open whether the message fails.
func (e *evaluation) align(ctx context.Context, f *finding) *finding {
	var open string
	asked := make(map[string]bool)
	f.ids = slices.Clone(e.ids)
	for i := range f.ids {
		id := &f.ids[i]
		asked[id.method] = true
		if id.result != resultPass && id.result != resultTempError {
			continue
		}
		aligned, err := e.aligned(ctx, f, id, i)
		switch {
		case err != nil:
			open = err.Error()
		case !aligned:
			id.unaligned = true
		case id.result == resultTempError:
			open = id.String()
		case id.method == methodSPF:
			f.spf = true
		default:
			f.dkim = true
		}
	}
	for _, method := range []string{methodSPF, methodDKIM} {
		if !asked[method] && open == "" {
			open, f.unasked = strings.ToUpper(method)+" was not checked", true
		}
	}
	switch {
	case f.spf || f.dkim:
		f.result = resultPass
	case open != "":
		f.result, f.problem = resultTempError, open
	default:
		f.result = resultFail
	}
	return f
}

// aligned tells whether the domain of an identifier is the author's, or of the same
// organization if that is enough. The organization's name ends both, so that most
// need no question.
func (e *evaluation) aligned(ctx context.Context, f *finding, id *identifier, n int) (bool, error) {
	strict := id.method == methodSPF && f.strictSPF || id.method == methodDKIM && f.strictDKIM
	if id.domain == f.author || strict {
		return id.domain == f.author, nil
	}
	organization, err := e.organizational(ctx, f.author)
	if err != nil || id.domain != organization && !strings.HasSuffix(id.domain, "."+organization) {
		return false, err
	}
	if n >= maxIdentifiers {
		return false, nil
	}
	other, err := e.organizational(ctx, id.domain)
	return other == organization, err
}
