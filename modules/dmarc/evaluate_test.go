package dmarc

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestParents(t *testing.T) {
	t.Parallel()
	// The examples of RFC 9989, for the tree walk and for large organizations.
	tests := map[string]string{
		"a.b.c.d.e.f.g.h.i.j.mail.example.com": "g.h.i.j.mail.example.com h.i.j.mail.example.com i.j.mail.example.com j.mail.example.com mail.example.com example.com com",
		"mail.a.b.c.d.e.f.g.example.com":       "c.d.e.f.g.example.com d.e.f.g.example.com e.f.g.example.com f.g.example.com g.example.com example.com com",
		"a.b.c.d.e.f.example.com":              "b.c.d.e.f.example.com c.d.e.f.example.com d.e.f.example.com e.f.example.com f.example.com example.com com",
		"b.c.d.e.f.example.com":                "c.d.e.f.example.com d.e.f.example.com e.f.example.com f.example.com example.com com",
		"example.com":                          "com",
		"com":                                  "",
	}
	for domain, want := range tests {
		if diff := cmp.Diff(want, strings.Join(parents(domain), " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", domain, diff)
		}
	}
}

func TestOrganizational(t *testing.T) {
	t.Parallel()
	const com = "_dmarc.com. TXT \"v=DMARC1; p=reject; psd=y\"\n"
	tests := map[string]struct {
		zone, domain, want string
		suffixes           bool
	}{
		// The examples of RFC 9989 section 4.10.2.
		"fewest labels":       {zone: "_dmarc.mail.example.com. TXT \"v=DMARC1; p=none\"\n_dmarc.example.com. TXT \"v=DMARC1; p=none\"", domain: "a.mail.example.com", want: "example.com"},
		"psd=n":               {zone: "_dmarc.mail.example.com. TXT \"v=DMARC1; p=none; psd=n\"\n_dmarc.example.com. TXT \"v=DMARC1; p=none\"", domain: "a.mail.example.com", want: "mail.example.com"},
		"below psd=y":         {zone: com, domain: "a.mail.example.com", want: "example.com"},
		"below psd=y further": {zone: "_dmarc.example.com. TXT \"v=DMARC1; psd=y; p=none\"", domain: "mail.example.com", want: "mail.example.com"},

		"no record":                     {domain: "a.example.com", want: "a.example.com"},
		"start is a public suffix":      {zone: com, domain: "com", want: "com"},
		"start with psd=y stops":        {zone: "_dmarc.co.example. TXT \"v=DMARC1; p=none; psd=y\"\n_dmarc.example. TXT \"v=DMARC1; p=none\"", domain: "co.example", want: "co.example"},
		"record above without psd":      {zone: "_dmarc.com. TXT \"v=DMARC1; p=none\"\n_dmarc.example.com. TXT \"v=DMARC1; p=none\"", domain: "example.com", want: "example.com"},
		"several records count as none": {zone: "_dmarc.example.com. TXT \"v=DMARC1; p=none\"\n_dmarc.example.com. TXT \"v=DMARC1; p=reject\"\n_dmarc.a.example.com. TXT \"v=DMARC1; p=none\"", domain: "a.example.com", want: "a.example.com"},
		"psd out of reach":              {zone: "_dmarc.b.c.d.e.f.g.example.com. TXT \"v=DMARC1; p=none; psd=n\"\n_dmarc.example.com. TXT \"v=DMARC1; p=none\"", domain: "mail.a.b.c.d.e.f.g.example.com", want: "example.com"},
		"suffix that says nothing":      {zone: "_dmarc.co.uk. TXT \"v=DMARC1; p=none\"", domain: "a.example.co.uk", want: "example.co.uk"},
		"suffix itself":                 {zone: "_dmarc.co.uk. TXT \"v=DMARC1; p=none\"", domain: "co.uk", want: "co.uk"},
		"by the list":                   {domain: "a.mail.example.co.uk", want: "example.co.uk", suffixes: true},
		"by the list, the suffix":       {domain: "co.uk", want: "co.uk", suffixes: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dnstest.Serve(t, tt.zone)
			d := discovery{resolver: s.Resolver(t), suffixes: tt.suffixes}
			got, err := d.organizational(t.Context(), tt.domain)
			if err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
			if n := s.Questions(dnstest.Every, dns.TypeTXT); n > 8 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// result is one result of SPF or DKIM, written "spf=pass bounce@example.org".
func result(t testing.TB, text string) mail.AuthResult {
	t.Helper()
	method, rest, _ := strings.Cut(text, "=")
	word, value, _ := strings.Cut(rest, " ")
	r := mail.AuthResult{Method: method, Result: word}
	switch {
	case value == "":
	case method == "helo":
		r.Method = "spf"
		r.Properties = []mail.Property{{Type: "smtp", Name: "helo", Value: value}}
	case method == "spf":
		r.Properties = []mail.Property{{Type: "smtp", Name: "mailfrom", Value: value}}
	default:
		r.Properties = []mail.Property{{Type: "header", Name: "d", Value: value}, {Type: "header", Name: "s", Value: "s1"}}
	}
	return r
}

// transaction has a From field and results, which are parted by commas.
func transaction(t testing.TB, from, results string) *mail.Transaction {
	t.Helper()
	m, err := mail.NewMessage([]byte("From: " + from + "\r\nSubject: hi\r\n\r\nhi\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	session := &mail.Session{ID: "s1", RemoteAddr: netip.MustParseAddrPort("192.0.2.1:4711"), Helo: "client.example.org"}
	tx := mail.NewTransaction("t1", session, time.Unix(0, 0))
	tx.Stage, tx.Message = mail.StageData, m
	tx.Envelope.ReversePath = mail.Address{LocalPart: "bounce", Domain: "example.org"}
	for text := range strings.SplitSeq(results, ", ") {
		if text != "" {
			tx.SetAuthResult(result(t, text))
		}
	}
	return tx
}

const zone = `
example.com. A 192.0.2.10
mail.example.com. A 192.0.2.10
_dmarc.example.com. TXT "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:r@example.com"
strict.example. A 192.0.2.10
_dmarc.strict.example. TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
_dmarc.quarantine.example. TXT "v=DMARC1; p=quarantine"
_dmarc.none.example. TXT "v=DMARC1; p=none"
_dmarc.test.example. TXT "v=DMARC1; p=reject; t=y"
_dmarc.testq.example. TXT "v=DMARC1; p=quarantine; t=y"
_dmarc.pct.example. TXT "v=DMARC1; p=reject; pct=0"
_dmarc.several.example. TXT "v=DMARC1; p=reject"
_dmarc.several.example. TXT "v=DMARC1; p=reject"
_dmarc.wrong.example. TXT "v=DMARC1; p=rejected"
_dmarc.suffix.test. TXT "v=DMARC1; p=none; psd=y; np=reject"
a.suffix.test. A 192.0.2.10
_dmarc.b.suffix.test. TXT "v=DMARC1; p=quarantine"
`

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		author, results string
		want            string // result, what is applied, and why
		suffixes        bool
	}{
		// RFC 7489 appendix B.1.
		"SPF equal":             {author: "example.com", results: "spf=pass sender@example.com, dkim=none", want: "pass reject p=reject of _dmarc.example.com; SPF pass for example.com"},
		"SPF of a subdomain":    {author: "example.com", results: "spf=pass sender@child.example.com, dkim=none", want: "pass reject p=reject of _dmarc.example.com; SPF pass for child.example.com"},
		"SPF of others":         {author: "example.com", results: "spf=pass sender@sample.net, dkim=none", want: "fail reject p=reject of _dmarc.example.com; SPF pass for sample.net, which is not aligned; DKIM none"},
		"DKIM equal":            {author: "example.com", results: "spf=fail a@example.com, dkim=pass example.com", want: "pass reject p=reject of _dmarc.example.com; DKIM pass for example.com"},
		"DKIM of the parent":    {author: "mail.example.com", results: "spf=none a@x.test, dkim=pass example.com", want: "pass quarantine sp=quarantine of _dmarc.example.com; DKIM pass for example.com"},
		"DKIM of others":        {author: "example.com", results: "spf=softfail a@example.com, dkim=pass sample.net", want: "fail reject p=reject of _dmarc.example.com; SPF softfail for example.com; DKIM pass for sample.net, which is not aligned"},
		"DKIM of a longer name": {author: "example.com", results: "spf=none, dkim=pass badexample.com", want: "fail reject p=reject of _dmarc.example.com; SPF none; DKIM pass for badexample.com, which is not aligned"},
		"DKIM fails":            {author: "example.com", results: "spf=none, dkim=fail example.com", want: "fail reject p=reject of _dmarc.example.com; SPF none; DKIM fail for example.com"},
		"second signature":      {author: "example.com", results: "spf=none, dkim=pass sample.net, dkim=pass EXAMPLE.com.", want: "pass reject p=reject of _dmarc.example.com; DKIM pass for example.com"},
		"HELO does not count":   {author: "example.com", results: "spf=none a@example.com, helo=pass example.com, dkim=none", want: "fail reject p=reject of _dmarc.example.com; SPF none for example.com; DKIM none"},
		"many signatures":       {author: "example.com", results: "spf=none, dkim=fail a.test, dkim=fail b.test, dkim=fail c.test, dkim=fail d.test", want: "fail reject p=reject of _dmarc.example.com; SPF none; DKIM fail for a.test; DKIM fail for b.test; DKIM fail for c.test; and others"},

		"strict equal":       {author: "strict.example", results: "spf=pass a@strict.example, dkim=none", want: "pass reject p=reject of _dmarc.strict.example, strict for SPF and DKIM; SPF pass for strict.example"},
		"strict SPF":         {author: "strict.example", results: "spf=pass a@a.strict.example, dkim=none", want: "fail reject p=reject of _dmarc.strict.example, strict for SPF and DKIM; SPF pass for a.strict.example, which is not aligned; DKIM none"},
		"strict DKIM":        {author: "strict.example", results: "spf=none, dkim=pass a.strict.example", want: "fail reject p=reject of _dmarc.strict.example, strict for SPF and DKIM; SPF none; DKIM pass for a.strict.example, which is not aligned"},
		"subdomain":          {author: "mail.example.com", results: "spf=none, dkim=none", want: "fail quarantine sp=quarantine of _dmarc.example.com; SPF none; DKIM none"},
		"missing subdomain":  {author: "nothing.example.com", results: "spf=none, dkim=none", want: "fail reject np=reject of _dmarc.example.com; SPF none; DKIM none"},
		"quarantine":         {author: "quarantine.example", results: "spf=none, dkim=none", want: "fail quarantine p=quarantine of _dmarc.quarantine.example; SPF none; DKIM none"},
		"none":               {author: "none.example", results: "spf=none, dkim=none", want: "fail none p=none of _dmarc.none.example; SPF none; DKIM none"},
		"test of reject":     {author: "test.example", results: "spf=none, dkim=none", want: "fail quarantine p=reject of _dmarc.test.example, quarantine because of t=y; SPF none; DKIM none"},
		"test of quarantine": {author: "testq.example", results: "spf=none, dkim=none", want: "fail none p=quarantine of _dmarc.testq.example, none because of t=y; SPF none; DKIM none"},
		"sampled out":        {author: "pct.example", results: "spf=none, dkim=none", want: "fail quarantine p=reject of _dmarc.pct.example, quarantine because of pct=0; SPF none; DKIM none"},
		"test and pass":      {author: "test.example", results: "spf=pass a@test.example, dkim=none", want: "pass quarantine p=reject of _dmarc.test.example; SPF pass for test.example"},

		"public suffix, existing":         {author: "a.suffix.test", results: "spf=none, dkim=none", want: "fail none p=none of _dmarc.suffix.test; SPF none; DKIM none"},
		"public suffix, missing":          {author: "c.suffix.test", results: "spf=none, dkim=none", want: "fail reject np=reject of _dmarc.suffix.test; SPF none; DKIM none"},
		"organization below it":           {author: "x.b.suffix.test", results: "spf=none, dkim=none", want: "fail quarantine p=quarantine of _dmarc.b.suffix.test; SPF none; DKIM none"},
		"neighbours below a suffix":       {author: "a.suffix.test", results: "spf=pass x@b.suffix.test, dkim=none", want: "fail none p=none of _dmarc.suffix.test; SPF pass for b.suffix.test, which is not aligned; DKIM none"},
		"the suffix is no organization":   {author: "a.suffix.test", results: "spf=pass x@suffix.test, dkim=none", want: "fail none p=none of _dmarc.suffix.test; SPF pass for suffix.test, which is not aligned; DKIM none"},
		"no record":                       {author: "nowhere.example", results: "spf=none, dkim=none", want: "none  no record"},
		"several records":                 {author: "several.example", results: "spf=none, dkim=none", want: "none  _dmarc.several.example has several records, which count as none"},
		"record without a policy":         {author: "wrong.example", results: "spf=none, dkim=none", want: "permerror  the record of wrong.example asks for nothing: it has no valid p, or a wrong sp or np, and no rua"},
		"neither was checked":             {author: "example.com", want: "temperror reject SPF was not checked"},
		"DKIM was not checked":            {author: "example.com", results: "spf=fail a@example.com", want: "temperror reject DKIM was not checked"},
		"DKIM was not checked, SPF helps": {author: "example.com", results: "spf=pass a@example.com", want: "pass reject p=reject of _dmarc.example.com; SPF pass for example.com"},
		"SPF has no answer":               {author: "example.com", results: "spf=temperror a@b.example.com, dkim=none", want: "temperror reject SPF temperror for b.example.com"},
		"DKIM has no answer":              {author: "example.com", results: "spf=none, dkim=temperror example.com", want: "temperror reject DKIM temperror for example.com"},
		"DKIM of others has no answer":    {author: "example.com", results: "spf=none, dkim=temperror sample.net", want: "fail reject p=reject of _dmarc.example.com; SPF none; DKIM temperror for sample.net, which is not aligned"},
		"no answer about the subdomain":   {author: "example.com", results: "spf=none, dkim=pass down.example.com", want: "temperror reject look up DMARC record of down.example.com: *"},
		"no answer about the author":      {author: "down.example.com", results: "spf=none, dkim=none", want: "temperror quarantine look up DMARC record of down.example.com: *"},
		"no answer whether it exists":     {author: "unknown.example.com", results: "spf=none, dkim=none", want: "temperror  find out whether unknown.example.com exists: *"},
		"name too long for the DNS":       {author: strings.Repeat("a.", 121) + "example.com", results: "spf=none, dkim=none", want: "fail reject np=reject of _dmarc.example.com; SPF none; DKIM none"},

		"by the list":                {author: "a.example.com", results: "spf=pass a@b.example.com, dkim=none", suffixes: true, want: "pass reject np=reject of _dmarc.example.com; SPF pass for b.example.com"},
		"by the list, other domains": {author: "example.com", results: "spf=pass a@example.org, dkim=none", suffixes: true, want: "fail reject p=reject of _dmarc.example.com; SPF pass for example.org, which is not aligned; DKIM none"},
		"by the list, no record":     {author: "a.nowhere.example", results: "spf=none, dkim=none", suffixes: true, want: "none  no record"},
	}
	s := dnstest.Serve(t, zone)
	s.Fail("_dmarc.down.example.com", dnstest.ServFail)
	s.Fail("unknown.example.com", dnstest.ServFail)
	r := s.Resolver(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := evaluation{discovery: discovery{resolver: r, suffixes: tt.suffixes}, ids: identifiers(transaction(t, "a@b.test", tt.results))}
			f := e.judge(t.Context(), tt.author)
			got := f.result + " " + string(f.applied) + " " + f.explain()
			if prefix, any := strings.CutSuffix(tt.want, "*"); any && strings.HasPrefix(got, prefix) {
				got = tt.want
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNullReversePathUsesHelo(t *testing.T) {
	t.Parallel()
	tx := transaction(t, "a@example.com", "spf=pass postmaster@mail.example.com, helo=pass mail.example.com, dkim=none")
	tx.Envelope.ReversePath = mail.Address{}
	want := []identifier{{method: "spf", domain: "mail.example.com", result: "pass"}, {method: "dkim", result: "none"}}
	if diff := cmp.Diff(want, identifiers(tx), cmp.AllowUnexported(identifier{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	low := 0
	for i := range 10_000 {
		if n := sampleOf(strings.Repeat("x", i%7) + time.Duration(i).String()); n < 0 || n > 99 {
			t.Fatalf("%d", n)
		} else if n < 25 {
			low++
		}
	}
	if low < 2200 || low > 2800 {
		t.Errorf("%d of 10000 are under 25", low)
	}
}

// BenchmarkDMARC judges a message with all answers in the resolver's cache.
func BenchmarkDMARC(b *testing.B) {
	s := dnstest.Serve(b, zone)
	h := &DMARC{resolver: s.Resolver(b), Reject: actionReject}
	for name, results := range map[string]string{
		"equal":     "spf=pass a@example.com, dkim=pass example.com",
		"subdomain": "spf=pass a@bounce.example.com, dkim=pass mail.example.com",
		"fail":      "spf=pass a@example.net, dkim=pass example.net",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tx := transaction(b, "Joe <joe@example.com>", results)
				if _, err := h.Handle(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestReasonHasRecord finds that the operator sees the record and where it stands, with
// a bound and nothing that a terminal would act on.
func TestReasonHasRecord(t *testing.T) {
	t.Parallel()
	s := dnstest.Serve(t, "_dmarc.example.org. TXT \"v=DMARC1; p=reject\"\n"+
		"_dmarc.wrong.example. TXT \"v=DMARC1; p=\\\"x\\\"\\027[31m\"\n"+
		"_dmarc.long.example. TXT \"v=DMARC1; p=none; "+strings.Repeat("x", 200)+"\"")
	for author, want := range map[string]string{
		"a.example.org":  `a.example.org: fail, p=reject of _dmarc.example.org; SPF none; DKIM none; _dmarc.example.org has "v=DMARC1; p=reject"`,
		"nothing.test":   "nothing.test: none, no record at _dmarc.nothing.test or above it",
		"wrong.example":  `wrong.example: permerror, the record of wrong.example asks for nothing: it has no valid p, or a wrong sp or np, and no rua; _dmarc.wrong.example has "v=DMARC1; p=\"x\"?[31m"`,
		"b.long.example": `b.long.example: fail, p=none of _dmarc.long.example; SPF none; DKIM none; _dmarc.long.example has "v=DMARC1; p=none; ` + strings.Repeat("x", 142) + `…"`,
	} {
		e := evaluation{discovery: discovery{resolver: s.Resolver(t)}, ids: identifiers(transaction(t, "a@b.test", "spf=none, dkim=none"))}
		if diff := cmp.Diff(want, e.judge(t.Context(), author).String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", author, diff)
		}
	}
}
