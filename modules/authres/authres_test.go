package authres

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	const ours, theirs = true, false
	tests := map[string]struct {
		value string
		want  bool
	}{
		"ours":                    {"mx.example.org; none", ours},
		"no space":                {"mx.example.org;none", ours},
		"alone":                   {"mx.example.org", ours},
		"capitals":                {"MX.Example.ORG; spf=pass smtp.mailfrom=a@example.net", ours},
		"final dot":               {"mx.example.org.; spf=pass", ours},
		"version":                 {"mx.example.org 1; spf=pass", ours},
		"other version":           {"mx.example.org 99; spf=pass", ours},
		"quoted":                  {`"mx.example.org"; spf=pass`, ours},
		"quoted pair":             {`"mx\.example.org"; spf=pass`, ours},
		"comment in front":        {"(a) mx.example.org; spf=pass", ours},
		"comment behind":          {"mx.example.org(a;b) 1; spf=pass", ours},
		"nested comments":         {`(a (b; \) c) d) (e) mx.example.org; spf=pass`, ours},
		"comment within":          {"mx.(a)example.org; spf=pass", ours},
		"comment that parts":      {"mx.example.org(a)x; spf=pass", ours},
		"folded":                  {"\r\n\tmx.example.org;\r\n\tspf=pass", ours},
		"tab":                     {"\tmx.example.org\t;spf=pass", ours},
		"no semicolon":            {"mx.example.org spf=pass", ours},
		"slash":                   {"mx.example.org/1; spf=pass", ours},
		"open comment":            {"(a mx.example.org; spf=pass", ours},
		"open quote":              {`"mx.example.org; spf=pass`, ours},
		"no value first":          {"; mx.example.org; spf=pass", ours},
		"control character":       {"\x00mx.example.org; spf=pass", ours},
		"backslash at the end":    {`(mx.example.org \`, ours},
		"others":                  {"mx.example.net; spf=pass", theirs},
		"ours is longer":          {"example.org; spf=pass", theirs},
		"ours is shorter":         {"in.mx.example.org; spf=pass", theirs},
		"ours is a beginning":     {"mx.example.organic; spf=pass", theirs},
		"ours in a comment":       {"mx.example.net (mx.example.org); spf=pass", theirs},
		"ours in a comment first": {"(mx.example.org) mx.example.net; spf=pass", theirs},
		"ours in a result":        {`mx.example.net; spf=pass smtp.helo=mx.example.org reason="mx.example.org; none"`, theirs},
		"ours behind a semicolon": {"mx.example.net; mx.example.org; spf=pass", theirs},
		"version of others":       {"mx.example.net 1; spf=pass", theirs},
		"quoted name of others":   {`"mx.example.net" (c) ; spf=pass`, theirs},
		"others, and no results":  {"mx.example.net", theirs},
		"results of nobody":       {"dkim=none (message not signed) header.d=none;dmarc=none action=none", theirs},
		"encoded":                 {"=?utf-8?b?bXguZXhhbXBsZS5vcmc=?=; spf=pass", ours},
		"parted":                  {"mx .example.org; spf=pass", ours},
		"parted by a quote":       {`"mx".example.org; spf=pass`, ours},
		"quoted pair in a token":  {`mx.exam\ple.org; spf=pass`, ours},
		"behind a number":         {"1 mx.example.org; spf=pass", ours},
		"quoted, then a number":   {`"mx.example."0rg; spf=pass`, ours},
		"not UTF-8":               {"mx.example.org\xff; spf=pass", ours},
		"final dots":              {"mx.example.org..; spf=pass", ours},
		"results of ours":         {"mx.example.org=pass", ours},
		"empty":                   {"", ours},
		"only a semicolon":        {";", ours},
		"open comment of others":  {"(a mx.example.net; spf=pass", ours},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := claims(unfolded(tt.value), "mx.example.org"); got != tt.want {
				t.Errorf("claims(%q) = %t", tt.value, got)
			}
		})
	}
	idn := map[string]bool{"mx.bücher.example; none": ours, "mx.BÜCHER.example; none": ours, "mx.xn--bcher-kva.example 1; none": ours, "mx.bucher.example; none": theirs}
	for value, want := range idn {
		for _, id := range []string{"mx.bücher.example", "MX.xn--bcher-kva.example"} {
			if got := claims(value, id); got != want {
				t.Errorf("claims(%q, %q) = %t", value, id, got)
			}
		}
	}
}

// unfolded gives a value as a field has it.
func unfolded(value string) string {
	return mail.HeaderField{Name: "A", Raw: []byte("A:" + value + "\r\n")}.Value()
}

func transaction(t testing.TB, fields string) *mail.Transaction {
	t.Helper()
	m, err := mail.NewMessage([]byte(fields + "\r\nbody\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	session := &mail.Session{ID: "s1", RemoteAddr: netip.MustParseAddrPort("192.0.2.1:4711")}
	tx := mail.NewTransaction("t1", session, time.Unix(0, 0))
	tx.Stage, tx.Message = mail.StageData, m
	return tx
}

func TestHandle(t *testing.T) {
	t.Parallel()
	const forged = "Authentication-Results: mx.example.test; dmarc=pass\r\n"
	const theirs = "Authentication-Results: mx.example.net; dmarc=pass (of mx.example.test)\r\n"
	spf := mail.AuthResult{Method: "spf", Result: "pass"}
	tests := map[string]struct {
		settings, fields, user string
		results                []mail.AuthResult
		want, reason           string
	}{
		"nothing": {want: "Authentication-Results: mx.example.test; none\r\nA: 1\r\n", reason: "0 results written", fields: "A: 1\r\n"},
		"result":  {want: "Authentication-Results: mx.example.test; spf=pass\r\n", reason: "1 results written", results: []mail.AuthResult{spf}},
		"forged": {
			fields: forged + "A: 1\r\n" + theirs + "AUTHENTICATION-results : (x)\r\n\tmx.example.test\r\n\t; spf=pass\r\nB: 2\r\n", results: []mail.AuthResult{spf},
			want: "Authentication-Results: mx.example.test; spf=pass\r\nA: 1\r\n" + theirs + "B: 2\r\n", reason: "1 results written, 2 forged fields of mx.example.test removed",
		},
		"of a user":               {fields: forged + theirs, user: "user@example.test", want: theirs, reason: "no results, 1 forged fields of mx.example.test removed"},
		"of a user, with results": {fields: forged, user: "user@example.test", results: []mail.AuthResult{spf}, want: "Authentication-Results: mx.example.test; spf=pass\r\n", reason: "1 results written, 1 forged fields of mx.example.test removed"},
		"other name":              {settings: `authserv_id = "Example.net"`, fields: forged + "Authentication-Results: example.net; none\r\n", want: "Authentication-Results: Example.net; none\r\n" + forged, reason: "0 results written, 1 forged fields of Example.net removed"},
		"other field":             {settings: `field = "X-Auth"`, fields: forged + "X-Auth: mx.example.test; spf=pass\r\n", want: "X-Auth: mx.example.test; none\r\n", reason: "0 results written, 2 forged fields of mx.example.test removed"},
		"other field, of others":  {settings: `field = "X-Auth"`, fields: theirs, want: "X-Auth: mx.example.test; none\r\n" + theirs, reason: "0 results written"},
	}
	sandbox := coretest.New(t, coretest.Options{})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := coretest.Load[*AuthRes](t, sandbox, "handler.authres", "authres {\n"+tt.settings+"\n}")
			tx := transaction(t, tt.fields)
			tx.Session.User = tt.user
			for _, r := range tt.results {
				tx.SetAuthResult(r)
			}
			v, err := h.Handle(t.Context(), tx)
			if err != nil || v.Action != mail.ActionContinue || v.Reason != tt.reason {
				t.Errorf("verdict %+v, %v; want the reason %q", v, err, tt.reason)
			}
			r, err := tx.Rendered()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want+"\r\n", string(r.Head())); diff != "" {
				t.Errorf("header section (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidatePlace(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]int{"spf dkim_verify dmarc authres": 0, "authres deliver": 0, "authres spf": 0, "dmarc authres dkim_verify arc_verify": 2} {
		modules := strings.Fields(names)
		if got := new(AuthRes).ValidatePlace(modules, slices.Index(modules, "authres")); len(got) != want {
			t.Errorf("%s: %+v, want %d problems", names, got, want)
		}
	}
}

func FuzzClaims(f *testing.F) {
	for _, seed := range []string{"mx.example.org; none", "(a (b) c) \"mx.example.org\" 1; x=y", "mx.(a)example.org", "mx.bücher.example;", "\\(\"\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		word := strings.Map(func(r rune) rune {
			if r < 0x80 && isAlphanumeric(byte(r)) {
				return r
			}
			return -1
		}, value)
		if claims("theirs"+word+" ; "+word, "mx.example.org") {
			t.Errorf("%q claims", word)
		}
		for _, front := range []string{"mx.example.org; ", "(c) mx.example.org;", "\"mx.example.org\" 1 ;"} {
			if !claims(front+value, "mx.example.org") {
				t.Errorf("%q does not claim", front+value)
			}
		}
	})
}

// BenchmarkAuthRes cleans a message and writes four results.
func BenchmarkAuthRes(b *testing.B) {
	h := &AuthRes{Field: "Authentication-Results", id: "mx.example.test"}
	tx := transaction(b, "Authentication-Results: mx.example.net; dkim=pass\r\nAuthentication-Results: mx.example.test; dkim=pass\r\n")
	property := []mail.Property{{Type: "header", Name: "d", Value: "example.org"}, {Type: "header", Name: "s", Value: "selector1"}}
	for i := range 4 {
		tx.SetAuthResult(mail.AuthResult{Method: fmt.Sprintf("m%d", i), Result: "pass", Reason: "the record says so", Properties: property})
	}
	b.ReportAllocs()
	for b.Loop() {
		fork := tx.Fork()
		if _, err := h.Handle(b.Context(), fork); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkForged cleans the message that costs most: as many forged fields as there
// may be, or one that fills the header section.
func BenchmarkForged(b *testing.B) {
	h := &AuthRes{Field: "Authentication-Results", id: "mx.example.test"}
	for name, fields := range map[string]string{
		"many":     strings.Repeat("Authentication-Results: (a (b)) mx.example.test 1; x=y\r\n", 1900),
		"comments": "Authentication-Results: " + strings.Repeat("(", 240<<10) + "\r\n",
		"IDN":      "Authentication-Results: " + strings.Repeat("ö", 120<<10) + "\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := h.Handle(b.Context(), transaction(b, fields)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
