package mail

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFormatAuthResults(t *testing.T) {
	t.Parallel()
	p := func(typ, name, value string) Property {
		return Property{Type: typ, Name: name, Value: value}
	}
	results := func(properties ...Property) []AuthResult {
		return []AuthResult{{Method: "spf", Result: "pass", Properties: properties}}
	}
	tests := map[string]struct {
		results []AuthResult
		want    string
	}{
		"none":           {nil, "mx.example.org; none"},
		"one":            {results(p("smtp", "mailfrom", "a@example.org")), "mx.example.org; spf=pass smtp.mailfrom=a@example.org"},
		"no properties":  {[]AuthResult{{Method: "dkim", Result: "none"}}, "mx.example.org; dkim=none"},
		"quoted":         {results(p("header", "b", "ab/c+=="), p("smtp", "helo", "[192.0.2.1]")), "mx.example.org; spf=pass header.b=\"ab/c+==\"\r\n smtp.helo=\"[192.0.2.1]\""},
		"quoted mailbox": {results(p("smtp", "mailfrom", `"a \"b"@example.org`)), `mx.example.org; spf=pass` + "\r\n" + ` smtp.mailfrom="\"a \\\"b\"@example.org"`},
		"domain only":    {results(p("header", "i", "@example.org")), "mx.example.org; spf=pass header.i=@example.org"},
		"empty":          {results(p("smtp", "helo", "")), `mx.example.org; spf=pass smtp.helo=""`},
		"IDN":            {results(p("smtp", "mailfrom", "a@bücher.example")), "mx.example.org; spf=pass\r\n smtp.mailfrom=a@xn--bcher-kva.example"},
		"IDN domain":     {results(p("header", "d", "bücher.example")), "mx.example.org; spf=pass\r\n header.d=xn--bcher-kva.example"},
		"UTF-8":          {results(p("smtp", "mailfrom", "jö@example.org")), "mx.example.org; spf=pass\r\n smtp.mailfrom=\"jö@example.org\""},
		"injection":      {results(p("smtp", "helo", "a\r\nBcc: b; dkim=pass\x00")), `mx.example.org; spf=pass` + "\r\n" + ` smtp.helo="a??Bcc: b; dkim=pass?"`},
		"not UTF-8":      {results(p("smtp", "helo", "a\xff")), `mx.example.org; spf=pass smtp.helo="a?"`},
		"reason":         {[]AuthResult{{Method: "spf", Result: "permerror", Reason: "it says \"a\"\r\n and  \\ ö…"}}, `mx.example.org; spf=permerror reason="it says \"a\"` + "\r\n" + ` and \\ ??"`},
		"no words":       {[]AuthResult{{Method: "a b", Result: "pass"}, {Method: "spf", Result: ""}, {Method: "x", Result: "y", Properties: []Property{p("a.b", "c", "d"), p("a", "b=", "d"), p("a", "b", "d")}}}, "mx.example.org; x=y a.b=d"},
		"long value":     {results(p("smtp", "helo", strings.Repeat("a", 500))), "mx.example.org; spf=pass\r\n smtp.helo=" + strings.Repeat("a", 400)},
		"several, in order": {[]AuthResult{
			{Method: "spf", Result: "fail", Reason: "the record of example.org has no room for 192.0.2.1 at all", Properties: []Property{p("smtp", "mailfrom", "a@example.org")}},
			{Method: "dkim", Result: "pass", Properties: []Property{p("header", "d", "example.org"), p("header", "s", "s1")}},
			{Method: "dmarc", Result: "pass", Properties: []Property{p("header", "from", "example.org"), p("policy", "dmarc", "reject")}},
		}, "mx.example.org; spf=fail reason=\"the record of\r\n" +
			" example.org has no room for 192.0.2.1 at all\" smtp.mailfrom=a@example.org;\r\n" +
			" dkim=pass header.d=example.org header.s=s1; dmarc=pass\r\n" +
			" header.from=example.org policy.dmarc=reject"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, FormatAuthResults(len("Authentication-Results:"), "mx.example.org", tt.results)); diff != "" {
				t.Errorf("field (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseAuthResults(t *testing.T) {
	t.Parallel()
	p := func(typ, name, value string) Property { return Property{Type: typ, Name: name, Value: value} }
	tests := map[string]struct {
		text, id string
		want     []AuthResult
	}{
		"none":           {"mx.example.org; none", "mx.example.org", nil},
		"id alone":       {"mx.example.org", "mx.example.org", nil},
		"version":        {"mx.example.org 1; spf=pass", "mx.example.org", []AuthResult{{Method: "spf", Result: "pass"}}},
		"last semicolon": {"mx.example.org; spf=pass;", "mx.example.org", []AuthResult{{Method: "spf", Result: "pass"}}},
		"capitals":       {"mx.example.org; SPF=Pass SMTP.MailFrom=A@example.org", "mx.example.org", []AuthResult{{Method: "spf", Result: "pass", Properties: []Property{p("smtp", "mailfrom", "A@example.org")}}}},
		"comments":       {`mx.example.org; dmarc=pass (p=NONE (sp=\) NONE); dkim=fail) header.from=example.org(a)`, "mx.example.org", []AuthResult{{Method: "dmarc", Result: "pass", Properties: []Property{p("header", "from", "example.org")}}}},
		"folded":         {"mx.example.org;\r\n\tspf=pass\r\n\tsmtp.mailfrom=example.org;\r\n\tdkim=none", "mx.example.org", []AuthResult{{Method: "spf", Result: "pass", Properties: []Property{p("smtp", "mailfrom", "example.org")}}, {Method: "dkim", Result: "none"}}},
		"spaces":         {"mx.example.org ; spf / 1 = pass", "", nil},
		"method version": {"mx.example.org ; spf/1 = pass", "mx.example.org", []AuthResult{{Method: "spf", Result: "pass"}}},
		"bare base64":    {"mx.example.org; dkim=pass header.b=ab/c+==", "mx.example.org", []AuthResult{{Method: "dkim", Result: "pass", Properties: []Property{p("header", "b", "ab/c+==")}}}},
		"quoted mailbox": {`mx.example.org; spf=pass smtp.mailfrom="a; dmarc=pass \"b"@example.org`, "mx.example.org", []AuthResult{{Method: "spf", Result: "pass", Properties: []Property{p("smtp", "mailfrom", `a; dmarc=pass "b@example.org`)}}}},
		"other words":    {"mx.example.org; dmarc=pass action=none reason=\"a b\" header.from=example.org", "mx.example.org", []AuthResult{{Method: "dmarc", Result: "pass", Reason: "a b", Properties: []Property{p("header", "from", "example.org")}}}},
		"empty":          {"", "", nil},
		"no id":          {"; spf=pass", "", nil},
		"no value":       {"mx.example.org; spf", "", nil},
		"no result":      {"mx.example.org; spf=; dkim=pass", "", nil},
		"open comment":   {"mx.example.org; spf=pass (a", "", nil},
		"open quote":     {`mx.example.org; spf=pass reason="a\"`, "", nil},
		"no semicolon":   {"mx.example.org spf=pass", "", nil},
		"control":        {"mx.example.org; spf=pa\x00ss", "", nil},
		"too many":       {"mx.example.org" + strings.Repeat("; spf=pass", maxAuthResults+1), "", nil},
		"too much":       {"mx.example.org; spf=pass" + strings.Repeat(" a.b=c", maxAuthResults+1), "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, got, err := ParseAuthResults(tt.text)
			if (err != nil) != (tt.id == "") || err != nil && !errors.Is(err, ErrAuthResults) {
				t.Fatalf("the error is %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || id != tt.id {
				t.Errorf("%q, results (-want +got):\n%s", id, diff)
			}
		})
	}
}

// FuzzAuthResults holds that what is written is read again, whatever it is.
func FuzzAuthResults(f *testing.F) {
	f.Add("spf", "pass", "", "smtp", "mailfrom", "a@example.org")
	f.Add("dkim", "fail", "body hash \"x\" does not match; really", "header", "b", "ab/c+==")
	f.Add("dmarc", "none", "a  b\r\n\tc", "header", "from", "\"a b\"@example.org\r\nBcc: x")
	f.Add("x", "y", "\\", "policy", "ip", "ö@bücher.example")
	f.Fuzz(func(t *testing.T, method, result, reason, typ, name, value string) {
		given := AuthResult{Method: method, Result: result, Reason: reason, Properties: []Property{{Type: typ, Name: name, Value: value}}}
		m, err := NewMessage([]byte("\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		tx := NewTransaction("t1", &Session{ID: "s1", RemoteAddr: netip.MustParseAddrPort("192.0.2.1:4711")}, time.Unix(0, 0))
		tx.Message = m
		tx.AddHeaderField("Authentication-Results", FormatAuthResults(len("Authentication-Results:"), "mx.example.org", []AuthResult{given, {Method: "spf", Result: "none"}}))
		r, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		section, _, err := ParseHeaderSection(r.Head())
		if err != nil || len(section.Fields) != 1 || bytes.Contains(r.Head(), []byte("\r\n \r\n")) {
			t.Fatalf("%q is read as %d fields, %v", r.Head(), len(section.Fields), err)
		}
		for line := range bytes.Lines(r.Head()) {
			if len(line) > 998 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		text := section.Fields[0].Value()
		id, results, err := ParseAuthResults(text)
		if err != nil || id != "mx.example.org" {
			t.Fatalf("%q is read as %q, %+v, %v", text, id, results, err)
		}
		if !isKeyword(method) || !isKeyword(result) {
			if len(results) != 1 {
				t.Errorf("%q is read as %+v", text, results)
			}
			return
		}
		want := AuthResult{Method: strings.ToLower(method), Result: strings.ToLower(result)}
		if reason := strings.Join(strings.Fields(strings.Map(toASCII, reason)), " "); reason != "" {
			want.Reason = cleanAuth(reason)
		}
		if isKeyword(typ) && isKeyword(name) {
			if value = cleanAuth(value); !isASCII(value) {
				value = results[0].Properties[0].Value // A-labels
			}
			want.Properties = []Property{{Type: strings.ToLower(typ), Name: strings.ToLower(name), Value: value}}
		}
		if diff := cmp.Diff([]AuthResult{want, {Method: "spf", Result: "none"}}, results); diff != "" {
			t.Errorf("%q is read as (-want +got):\n%s", text, diff)
		}
	})
}

// FuzzParseAuthResults reads what strangers write, and what was read of it again.
func FuzzParseAuthResults(f *testing.F) {
	for _, seed := range []string{"mx.example.org; none", "a 1; spf=pass (c(d)) smtp.mailfrom=\"a b\"@c; dkim=fail reason=\"x\"", "(a", "a;b/1=c d.e=\"\\\"\"", "a;;b=c;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, results, err := ParseAuthResults(text)
		if err != nil {
			if len(err.Error()) > 512 || results != nil {
				t.Errorf("%d bytes of error with %d results", len(err.Error()), len(results))
			}
			return
		}
		if len(results) > maxAuthResults {
			t.Errorf("%d results", len(results))
		}
		if _, _, err := ParseAuthResults(FormatAuthResults(0, id, results)); err != nil {
			t.Errorf("what was read of %q is not read again: %v", text, err)
		}
	})
}
