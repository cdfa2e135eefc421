package dmarc

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

func header(t testing.TB, text string) mail.HeaderSection {
	t.Helper()
	h, _, err := mail.ParseHeaderSection([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAuthorDomains(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		from string
		want string // domains, with spaces
		err  error
	}{
		"bare":                 {"From: joe@example.org", "example.org", nil},
		"with a name":          {"From: Joe Q. Public <john.q.public@Example.COM>", "example.com", nil},
		"quoted name":          {`From: "Joe \"x@bank.example\" <y@bank.example>" <joe@example.org>`, "example.org", nil},
		"quoted local-part":    {`From: "a@b.example c"@example.org`, "example.org", nil},
		"comments":             {"From: Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "silly.test", nil},
		"nested comments":      {"From: (a@b.example (c@d.example) e) joe@example.org", "example.org", nil},
		"obsolete spaces":      {"From: Mary <mary @ example . (x) org>", "example.org", nil},
		"route":                {"From: Mary <@node.test,@other.test:mary@example.net>", "example.net", nil},
		"folded":               {"From: Joe\r\n\t<joe@\r\n example.org>", "example.org", nil},
		"encoded word":         {"From: =?utf-8?q?ceo=40bank=2Eexample?= <joe@example.org>", "example.org", nil},
		"several of a domain":  {"From: a@example.org, B <b@EXAMPLE.org.>", "example.org", nil},
		"several domains":      {"From: a@example.org, b@example.net", "example.org example.net", nil},
		"group":                {"From: Authors: a@example.org, b@example.net;", "example.org example.net", nil},
		"address as name":      {"From: ceo@bank.example <joe@example.org>", "bank.example example.org", nil},
		"at as name":           {"From: Cook @ Home <joe@example.org>", "example.org", nil},
		"at at the end":        {"From: Cook @ <joe@example.org>", "example.org", nil},
		"comma in a name":      {"From: Public, Joe <joe@example.org>", "example.org", nil},
		"open bracket":         {"From: ceo@bank.example <joe@example.org", "bank.example example.org", nil},
		"two brackets":         {"From: <a@example.org> <b@example.net>", "example.org example.net", nil},
		"two fields":           {"From: a@example.org\r\nfrom: b@example.net", "example.org example.net", nil},
		"space behind name":    {"From : a@example.org", "example.org", nil},
		"IDN":                  {"From: a@bücher.example", "xn--bcher-kva.example", nil},
		"IDN in capitals":      {"From: a@BÜCHER.example", "xn--bcher-kva.example", nil},
		"A-label":              {"From: a@XN--bcher-kva.example", "xn--bcher-kva.example", nil},
		"one label":            {"From: root@localhost", "localhost", nil},
		"not UTF-8":            {"From: J\xf6 <a@example.org>", "example.org", nil},
		"wide at sign":         {"From: ceo\uff20bank.example <a@example.org>", "bank.example example.org", nil},
		"name of a network":    {"From: @joe <joe@example.org>", "example.org", nil},
		"name with a sign":     {"From: ceo@bank.example! <joe@example.org>", "example.org", nil},
		"encoded with an at":   {"From: =?utf-8?q?ceo@bank.example?= <joe@example.org>", "example.org", nil},
		"quoted encoded name":  {`From: "=?utf-8?q?ceo?=" <joe@example.org>`, "example.org", nil},
		"none":                 {"To: a@example.org", "", errNoFrom},
		"empty":                {"From:", "", errNoAuthor},
		"empty brackets":       {"From: a <>", "", errNoAuthor},
		"empty group":          {"From: undisclosed:;", "", errNoAuthor},
		"only quoted":          {`From: "ceo@bank.example"`, "", errNoAuthor},
		"literal":              {"From: a@[192.0.2.1]", "", errDomain},
		"no domain":            {"From: <a@>", "", errDomain},
		"not a domain":         {"From: <a@example_org!>", "", errDomain},
		"long domain":          {"From: <a@" + strings.Repeat("ö", 600) + ".example>", "", errDomain},
		"sign beside another":  {"From: ceo@bank.example!, x@example.org", "", errDomain},
		"dots beside another":  {"From: ceo@bank..example, x@example.org", "", errDomain},
		"slash beside another": {"From: ceo@bank.example/, x@example.org", "", errDomain},
		"leader of one dot":    {"From: ceo@bank\u2024example, x@example.org", "", errDomain},
		"direction":            {"From: ceo@bank.example\u202e, x@example.org", "", errDomain},
		"behind another":       {"From: <x@example.org>, ceo@bank.example!", "", errDomain},
		"sign, then a group":   {"From: ceo@bank.example!: <x@example.org>;", "", errDomain},
		"no local-part":        {"From: @bank.example, x@example.org", "", errDomain},
		"none in brackets":     {"From: <@bank.example>, x@example.org", "", errDomain},
		"route to nowhere":     {"From: <@bank.example:>, x@example.org", "", errDomain},
		"words behind domain":  {"From: <x@example.org bank.example>", "", errDomain},
		"quote behind domain":  {`From: <x@example.org "bank.example">`, "", errDomain},
		"encoded local-part":   {"From: =?utf-8?b?Y2VvQGJhbmsuY29t?==?utf-8?q?=00?=@example.org", "", errEncoded},
		"encoded in brackets":  {"From: <=?utf-8?b?Y2VvQGJhbmsuY29t?=@example.org>", "", errEncoded},
		"encoded in a quote":   {`From: <"=?utf-8?b?Y2VvQGJhbmsuY29t?=" @example.org>`, "", errEncoded},
		"open quote":           {`From: "Joe <joe@example.org>`, "", errFromSyntax},
		"open comment":         {`From: (Joe <joe@example.org>`, "", errFromSyntax},
		"deep comment":         {"From: " + strings.Repeat("(", 50) + strings.Repeat(")", 50) + "a@example.org", "", errFromSyntax},
		"long":                 {"From: a@example.org" + strings.Repeat(" ", maxFrom), "", errFromLong},
		"many domains":         {"From: a@a.test, a@b.test, a@c.test, a@d.test, a@e.test, a@f.test, a@g.test, a@h.test, a@i.test", "", errManyAuthors},
		"backslash at the end": {`From: "a\`, "", errFromSyntax},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := authorDomains(header(t, tt.from+"\r\n\r\n"))
			if !errors.Is(err, tt.err) {
				t.Fatalf("%q, %v; want the error %v", got, err, tt.err)
			}
			if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" && len(got)+len(tt.want) > 0 {
				t.Errorf("domains (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzAuthorDomains(f *testing.F) {
	for _, seed := range []string{
		"a@example.org", "\"a\" <b@example.org>, c@d.test", "<@a.test,@b.test:c@d.test>", "g: a@b.test;", "(a (b) c) <d@e.test", "a@[192.0.2.1]", "ä@bücher.example",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		section, _, err := mail.ParseHeaderSection([]byte("From: " + value + "\r\n\r\n"))
		if err != nil {
			return
		}
		domains, fields, err := authorDomains(section)
		if err != nil || fields != 1 {
			return
		}
		for i, domain := range domains {
			if slices.Contains(domains[:i], domain) || !isASCII(domain) || normal(domain) != domain {
				t.Errorf("domains %q", domains)
			}
			again, _, err := authorDomains(header(t, "From: <a@"+domain+">\r\n\r\n"))
			if err != nil || !slices.Equal(again, []string{domain}) {
				t.Errorf("%q is read as %q, %v", domain, again, err)
			}
		}
	})
}

// BenchmarkHostileFrom reads the From fields that cost most.
func BenchmarkHostileFrom(b *testing.B) {
	for name, value := range map[string]string{
		"addresses": strings.Repeat("a@b.test,", 1800),
		"IDN":       strings.Repeat("a@ö.test,", 1600),
		"labels":    "a@" + strings.Repeat("b .", 5000),
		"long IDN":  "a@" + strings.Repeat("ö", maxDomain/2),
		"names":     strings.Repeat("a@! ", 4000) + "<a@b.test>",
		"routes":    "<" + strings.Repeat("@,", 8000) + ":a@b.test>",
		"comments":  strings.Repeat("((((a)))) ", 1600) + "a@b.test",
	} {
		b.Run(name, func(b *testing.B) {
			h := header(b, "From: "+value+"\r\n\r\n")
			for b.Loop() {
				if _, _, err := authorDomains(h); err != nil && !errors.Is(err, errDomain) {
					b.Fatal(err)
				}
			}
		})
	}
}
