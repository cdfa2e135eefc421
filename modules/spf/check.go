package spf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/dns"
)

// Result is what check_host gives (RFC 7208 section 2.6).
type Result string

// The results.
const (
	None      Result = "none"      // no domain to judge, or it has no record
	Neutral   Result = "neutral"   // the domain says nothing about the client
	Pass      Result = "pass"      // the client may send for the domain
	Fail      Result = "fail"      // it may not
	SoftFail  Result = "softfail"  // it probably may not
	TempError Result = "temperror" // the DNS did not answer
	PermError Result = "permerror" // the record is wrong
)

// Limits of an evaluation (RFC 7208 section 4.6.4).
const (
	maxLookups = 10 // terms that ask the DNS
	maxVoids   = 2  // answers without a record, but for those about the client's names
	maxMX      = 10
	maxPTR     = 10
	// maxExplanation bounds what a stranger puts into our replies, in bytes.
	maxExplanation = 256
	maxName        = 253
	maxLabel       = 63
)

// resolver is what an evaluation needs of the DNS. Names may hold any US-ASCII
// characters but control characters. Errors are those of package dns; whatever
// is neither ErrNotFound nor ErrBadName is temporary.
type resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupAddr(ctx context.Context, addr netip.Addr) ([]string, error)
}

// Query is one identity of a client: a reverse-path or a HELO name.
type Query struct {
	// IP is the client's address.
	IP netip.Addr
	// Helo is the client's name for itself.
	Helo string
	// LocalPart and Domain are the identity; without a local-part it is postmaster
	// (RFC 7208 section 4.3). The domain may be in U-labels.
	LocalPart, Domain string
	// Receiver is the name of this server, and Now the time, for explanations.
	Receiver string
	Now      time.Time

	// The same as macros see them: domains in A-labels.
	local, domain, helo string
}

// Finding is what an evaluation found.
type Finding struct {
	Result Result
	// Domain is the domain whose record decided, "" if none did.
	Domain string
	// Term is the directive that decided, "" if none did.
	Term string
	// Record is the text of the record that decided, "" if there is none.
	Record string
	// Problem says what is wrong after temperror and permerror.
	Problem string
	// Explanation is what the domain says to those that fail: US-ASCII without
	// control characters, "" if it says nothing.
	Explanation string

	exp string // the domain-spec of the record's exp
}

// evaluationError ends an evaluation with temperror or permerror.
type evaluationError struct {
	result Result
	text   string
}

// Error says what is wrong.
func (e *evaluationError) Error() string { return e.text }

func permanent(format string, args ...any) error {
	return &evaluationError{PermError, fmt.Sprintf(format, args...)}
}

// check evaluates the SPF record of a domain for a client. It asks the DNS for
// at most some 230 records, however records and zones are made, and ends when ctx
// does.
func check(ctx context.Context, r resolver, q Query) Finding {
	q.IP = q.IP.Unmap().WithZone("")
	q.local, q.helo = q.LocalPart, asciiDomain(q.Helo)
	if q.local == "" {
		q.local = "postmaster"
	}
	if q.domain = asciiDomain(q.Domain); !q.IP.IsValid() || !isHostName(q.domain) {
		return Finding{Result: None}
	}
	e := evaluation{resolver: r, query: &q}
	f, err := e.host(ctx, q.domain)
	if err != nil {
		result := PermError
		if ee, ok := errors.AsType[*evaluationError](err); ok {
			result = ee.result
		}
		return Finding{Result: result, Problem: err.Error()}
	}
	if f.Result == Fail && f.exp != "" {
		f.Explanation = e.explain(ctx, f.exp, f.Domain)
	}
	return f
}

// asciiDomain gives a domain in A-labels; one that has none stays as it is.
func asciiDomain(s string) string {
	if isASCII(s) {
		return s
	}
	if ascii, err := idna.Lookup.ToASCII(s); err == nil {
		return ascii
	}
	return s
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// isHostName tells whether s is a name of several labels that can have a record
// to be judged by (RFC 7208 section 4.3).
func isHostName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && !isDigit(c) && strings.IndexByte("-_.", c) < 0 {
			return false
		}
	}
	name := strings.TrimSuffix(s, ".")
	dot := strings.LastIndexByte(name, '.')
	return dot > 0 && isTopLabel(name[dot+1:]) && isName(s)
}

// isName tells whether the DNS can have a name. Any US-ASCII character may be in
// it but control characters.
func isName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && label > 0:
			label = 0
		case c == '.' || c < ' ' || c >= 0x7f || label == maxLabel:
			return false
		default:
			label++
		}
	}
	return label > 0 && len(s) <= maxName
}

// evaluation is one call of check.
type evaluation struct {
	resolver resolver
	query    *Query
	lookups  int
	voids    int
	// validated are the names of the client, once asked is set.
	validated []string
	asked     bool
}

// host is check_host (RFC 7208 section 4). The domain's name is one that the DNS
// can have.
func (e *evaluation) host(ctx context.Context, domain string) (Finding, error) {
	none := Finding{Result: None, Domain: domain}
	texts, err := e.resolver.LookupTXT(ctx, domain)
	if err := outcome(ctx, err, "TXT", domain); err != nil {
		return none, err
	}
	text, count := "", 0
	for _, t := range texts {
		if isRecord(t) {
			text = t
			count++
		}
	}
	switch count {
	case 0:
		return none, nil
	case 1:
	default:
		return none, permanent("%s has %d SPF records", domain, count)
	}
	r, err := parseRecord(text)
	if err != nil {
		return none, permanent("record of %s: %v", domain, err)
	}
	f, err := e.record(ctx, r, domain)
	if f.Domain == domain && f.Record == "" { // not that of a redirect
		f.Record = text
	}
	return f, err
}

// record evaluates the terms of a domain's record.
func (e *evaluation) record(ctx context.Context, r *record, domain string) (Finding, error) {
	for i := range r.directives {
		d := &r.directives[i]
		matches, err := e.matches(ctx, d, domain)
		if err != nil {
			return Finding{}, err
		}
		if matches {
			return Finding{Result: d.result, Domain: domain, Term: d.term, exp: r.exp}, nil
		}
	}
	if r.redirect == "" {
		return Finding{Result: Neutral, Domain: domain}, nil
	}
	if err := e.count(domain); err != nil {
		return Finding{}, err
	}
	f, err := e.other(ctx, r.redirect, domain)
	if err == nil && f.Result == None {
		err = permanent("record of %s: redirect=%s leads to no record", domain, r.redirect)
	}
	return f, err
}

// count counts a term that asks the DNS.
func (e *evaluation) count(domain string) error {
	if e.lookups++; e.lookups > maxLookups {
		return permanent("more than %d terms that ask the DNS, the last one in the record of %s", maxLookups, domain)
	}
	return nil
}

// other evaluates the record that an include or a redirect names.
func (e *evaluation) other(ctx context.Context, spec, domain string) (Finding, error) {
	name, ok := e.target(ctx, spec, domain)
	if !ok {
		return Finding{Result: None}, ctxError(ctx)
	}
	return e.host(ctx, name)
}

// target gives the name that a domain-spec stands for, "" standing for the
// record's own domain; false if the DNS cannot have it, so that nothing matches.
// A name that is too long loses labels on the left (RFC 7208 section 7.3). So do
// local-parts beyond US-ASCII match nothing (RFC 8616 section 4).
func (e *evaluation) target(ctx context.Context, spec, domain string) (string, bool) {
	name := domain
	if spec != "" {
		name = strings.TrimSuffix(e.expand(ctx, spec, domain), ".")
	}
	for len(name) > maxName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return "", false
		}
		name = rest
	}
	return name, isName(name)
}

func (e *evaluation) expand(ctx context.Context, s, domain string) string {
	return expand(s, func(letter byte) string {
		return e.query.value(letter, domain, func() []string { return e.names(ctx) })
	})
}

// matches evaluates a directive of a domain's record (RFC 7208 section 5).
func (e *evaluation) matches(ctx context.Context, d *directive, domain string) (bool, error) {
	switch d.mechanism {
	case mechanismAll:
		return true, nil
	case mechanismIP4, mechanismIP6:
		return d.network.Contains(e.query.IP), nil
	default:
	}
	if err := e.count(domain); err != nil {
		return false, err
	}
	if d.mechanism == mechanismInclude {
		return e.include(ctx, d, domain)
	}
	name, ok := e.target(ctx, d.domain, domain)
	if !ok {
		return false, ctxError(ctx)
	}
	switch d.mechanism {
	case mechanismMX:
		return e.mx(ctx, d, name)
	case mechanismPTR:
		return e.ptr(ctx, name)
	case mechanismExists:
		addrs, err := e.addresses(ctx, "ip4", name)
		return len(addrs) > 0, err
	default:
		addrs, err := e.addresses(ctx, e.network(), name)
		return e.among(addrs, d), err
	}
}

// include evaluates another record; only its pass matches.
func (e *evaluation) include(ctx context.Context, d *directive, domain string) (bool, error) {
	f, err := e.other(ctx, d.domain, domain)
	if err == nil && f.Result == None {
		err = permanent("record of %s: %s leads to no record", domain, d.term)
	}
	return f.Result == Pass, err
}

// mx tells whether the client is one of the mail exchangers of a name.
func (e *evaluation) mx(ctx context.Context, d *directive, name string) (bool, error) {
	hosts, err := e.resolver.LookupMX(ctx, name)
	if err := e.answered(ctx, err, "MX", name); err != nil {
		return false, err
	}
	if len(hosts) > maxMX {
		return false, permanent("%s has %d mail exchangers, more than %d", name, len(hosts), maxMX)
	}
	for _, host := range hosts {
		if !isName(host.Host) {
			continue // such as that of a null MX (RFC 7505)
		}
		addrs, err := e.resolver.LookupIP(ctx, e.network(), host.Host)
		if err := outcome(ctx, err, e.network(), host.Host); err != nil {
			return false, err
		}
		if e.among(addrs, d) {
			return true, nil
		}
	}
	return false, nil
}

// ptr tells whether one of the client's names is name or is below it.
func (e *evaluation) ptr(ctx context.Context, name string) (bool, error) {
	for _, own := range e.names(ctx) {
		if strings.EqualFold(own, name) || isBelow(own, name) {
			return true, nil
		}
	}
	return false, ctxError(ctx)
}

// names gives the validated names of the client, asking once (RFC 7208 section
// 5.5). The DNS's errors leave names out.
func (e *evaluation) names(ctx context.Context) []string {
	if e.asked {
		return e.validated
	}
	e.asked = true
	names, err := e.resolver.LookupAddr(ctx, e.query.IP)
	if err != nil {
		return nil
	}
	for _, name := range names[:min(len(names), maxPTR)] {
		name = strings.TrimSuffix(name, ".")
		if !isName(name) {
			continue
		}
		addrs, err := e.resolver.LookupIP(ctx, e.network(), name)
		if err != nil {
			continue
		}
		for _, addr := range addrs {
			if addr.Unmap() == e.query.IP {
				e.validated = append(e.validated, name)
				break
			}
		}
	}
	return e.validated
}

// network is the kind of addresses that the client can be among.
func (e *evaluation) network() string {
	if e.query.IP.Is4() {
		return "ip4"
	}
	return "ip6"
}

// addresses looks up the addresses of a name for a term.
func (e *evaluation) addresses(ctx context.Context, network, name string) ([]netip.Addr, error) {
	addrs, err := e.resolver.LookupIP(ctx, network, name)
	return addrs, e.answered(ctx, err, network, name)
}

// among tells whether the client is in the network of one of the addresses.
func (e *evaluation) among(addrs []netip.Addr, d *directive) bool {
	bits := d.bits6
	if e.query.IP.Is4() {
		bits = d.bits4
	}
	for _, addr := range addrs {
		if netip.PrefixFrom(addr.Unmap(), bits).Contains(e.query.IP) {
			return true
		}
	}
	return false
}

// answered is outcome for a look-up that counts when it is void.
func (e *evaluation) answered(ctx context.Context, err error, what, name string) error {
	if errors.Is(err, dns.ErrNotFound) {
		if e.voids++; e.voids > maxVoids {
			return permanent("more than %d look-ups that found nothing, the last one for %s of %s", maxVoids, what, name)
		}
	}
	return outcome(ctx, err, what, name)
}

// outcome tells what the error of a look-up means: nothing if the name or record
// does not exist, else that the result is temperror.
func outcome(ctx context.Context, err error, what, name string) error {
	switch {
	case ctx.Err() != nil:
		return ctxError(ctx)
	case err == nil, errors.Is(err, dns.ErrNotFound), errors.Is(err, dns.ErrBadName):
		return nil
	}
	if said, ok := errors.AsType[*dns.Error](err); ok {
		return &evaluationError{TempError, said.Error()} // it names the question itself
	}
	return &evaluationError{TempError, fmt.Sprintf("look up %s of %s: %v", what, name, err)}
}

// ctxError is temperror once the time is up.
func ctxError(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &evaluationError{TempError, "evaluate SPF record: " + err.Error()}
	}
	return nil
}

// explain fetches the explanation of a domain that an exp modifier names (RFC
// 7208 section 6.2). Whatever is wrong with it, there is none.
func (e *evaluation) explain(ctx context.Context, spec, domain string) string {
	name, ok := e.target(ctx, spec, domain)
	if !ok {
		return ""
	}
	texts, err := e.resolver.LookupTXT(ctx, name)
	if err != nil || len(texts) != 1 {
		return ""
	}
	if _, _, err := checkMacros(texts[0], macroLetters+expLetters, true); err != nil {
		return ""
	}
	return oneLine(e.expand(ctx, texts[0], domain), maxExplanation)
}

// oneLine makes what a stranger says asciiOnly, and at most limit bytes long.
func oneLine(s string, limit int) string {
	const cut = "..."
	if len(s) > limit {
		s = s[:limit-len(cut)] + cut
	}
	return asciiOnly(s)
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
