package dkim

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// craft signs a message with a signature of the given tags, to which it adds bh=
// and b=, whatever they are.
func craft(tb testing.TB, raw, key, tags string) string {
	tb.Helper()
	m := parse(tb, raw)
	dummy := base64.StdEncoding.EncodeToString(make([]byte, sha256Size))
	s, _ := parseSignature([]byte(signatureField + ": " + tags + "; bh=" + dummy + "; b=" + dummy))
	form := bodyForm{s.body, s.limit}
	sums, err := hashBody(m.OpenBody(), []bodyForm{form})
	if err != nil {
		tb.Fatal(err)
	}
	field := signatureField + ": " + tags + "; bh=" + base64.StdEncoding.EncodeToString(sums[form].hash) + "; b="
	signed, err := testKeys()[key].sign(headerHash(m.Header, newFieldIndex(m.Header), s.names, s.header, noField, []byte(field)))
	if err != nil {
		tb.Fatal(err)
	}
	return field + base64.StdEncoding.EncodeToString(signed) + "\r\n" + raw
}

const (
	small = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: hi\r\n\r\nHello.\r\n"
	tags  = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=rsa; h=from:to:subject"
)

// TestTags varies the tags of a signature that is good otherwise.
func TestTags(t *testing.T) {
	t.Parallel()
	with := func(more string) string { return tags + "; " + more }
	instead := func(old, now string) string { return strings.Replace(tags, old, now, 1) }
	hour := func(n int) int64 { return noon.Add(time.Duration(n) * time.Hour).Unix() }
	tests := map[string]struct{ tags, result, reason string }{
		"good":                         {tags, "pass", "2048-bit key"},
		"unknown tag":                  {with("foo=bar; n=hi"), "pass", "2048-bit key"},
		"white space everywhere":       {"v = 1 ;\r\n\ta =\trsa-sha256; c=relaxed; d= example.org; s =rsa; h = from : to\r\n\t :subject ", "pass", "2048-bit key"},
		"case of names and words":      {instead("h=from", "h=FROM"), "pass", "2048-bit key"},
		"case of the domain":           {instead("d=example.org", "d=Example.ORG"), "pass", "2048-bit key"},
		"no canonicalization":          {instead("c=relaxed/relaxed; ", ""), "pass", "2048-bit key"},
		"header's alone":               {instead("relaxed/relaxed", "relaxed"), "pass", "2048-bit key"},
		"Ed25519":                      {"v=1; a=ed25519-sha256; d=example.org; s=ed25519; h=from", "pass", "256-bit key"},
		"AUID":                         {with("i=alice@example.org"), "pass", "2048-bit key"},
		"AUID in other case":           {with("i=alice@News.EXAMPLE.org"), "pass", "2048-bit key"},
		"AUID in quoted-printable":     {with("i=a=40b=3D@example.org"), "pass", "2048-bit key"},
		"AUID without local-part":      {with("i=@a.b.example.org"), "pass", "2048-bit key"},
		"AUID of another domain":       {with("i=alice@example.net"), "neutral", "the signature cannot be read: the domain of i=alice@example.net is neither d=example.org nor below it"},
		"AUID with the SDID's tail":    {with("i=alice@badexample.org"), "neutral", "the signature cannot be read: the domain of i=alice@badexample.org is neither d=example.org nor below it"},
		"AUID of the parent":           {with("i=alice@org"), "neutral", "the signature cannot be read: the domain of i=alice@org is neither d=example.org nor below it"},
		"AUID without an at sign":      {with("i=example.org"), "neutral", "the signature cannot be read: i=example.org is no identity of the form local-part@domain"},
		"AUID that is not encoded":     {with("i=a=4@example.org"), "neutral", "the signature cannot be read: i=a=4@example.org is no identity of the form local-part@domain"},
		"no version":                   {instead("v=1; ", ""), "neutral", "the signature cannot be read: it has no v="},
		"another version":              {instead("v=1", "v=2"), "neutral", `the signature cannot be read: its version is "2", not 1`},
		"version with a zero":          {instead("v=1", "v=01"), "neutral", `the signature cannot be read: its version is "01", not 1`},
		"no algorithm":                 {instead("a=rsa-sha256; ", ""), "neutral", "the signature cannot be read: it has no a="},
		"SHA-1":                        {instead("rsa-sha256", "rsa-sha1"), "policy", "signatures of rsa-sha1 can be forged (RFC 8301)"},
		"unknown algorithm":            {instead("rsa-sha256", "rsa-md5"), "neutral", "the signature cannot be read: the algorithm a=rsa-md5 is unknown"},
		"unknown canonicalization":     {instead("relaxed/relaxed", "relaxed/nofws"), "neutral", "the signature cannot be read: the canonicalization c=relaxed/nofws is unknown"},
		"nothing after the slash":      {instead("relaxed/relaxed", "relaxed/"), "neutral", "the signature cannot be read: the canonicalization c=relaxed/ is unknown"},
		"no domain":                    {instead("d=example.org; ", ""), "neutral", "the signature cannot be read: it has no d="},
		"domain of no form":            {instead("d=example.org", "d=exa mple.org"), "neutral", "the signature cannot be read: d=exa mple.org is no domain"},
		"no selector":                  {instead("s=rsa; ", ""), "neutral", "the signature cannot be read: it has no s="},
		"selector of no form":          {instead("s=rsa", "s=.rsa"), "neutral", "the signature cannot be read: s=.rsa is no selector"},
		"name too long for the DNS":    {instead("s=rsa", "s="+strings.Repeat("a.", 119)+"a"), "neutral", "the signature cannot be read: d= and s= are too long for the DNS"},
		"nothing signed":               {instead("; h=from:to:subject", ""), "neutral", "the signature cannot be read: it has no h="},
		"From not signed":              {instead("h=from:", "h="), "neutral", "the signature cannot be read: the From field is not signed: it is not in h="},
		"empty name":                   {instead("h=from:", "h=from::"), "neutral", "the signature cannot be read: h= has an empty name"},
		"as many names as may be":      {instead("h=from", "h=from"+strings.Repeat(":x", maxSigned-3)), "pass", "2048-bit key"},
		"too many names":               {instead("h=from", "h=from"+strings.Repeat(":x", maxSigned-2)), "neutral", "the signature cannot be read: h= has more than 400 names"},
		"too long":                     {with("z=" + strings.Repeat("x", maxField)), "neutral", "the signature cannot be read: the field has 16880 bytes, more than 16384"},
		"twice the same tag":           {with("d=example.org"), "neutral", "the signature cannot be read: tag d= stands twice"},
		"no tag":                       {with("foo"), "neutral", `the signature cannot be read: "foo" is no tag, which has the form name=value`},
		"empty tag":                    {with(" ;t=1"), "neutral", `the signature cannot be read: "" is no tag, which has the form name=value`},
		"name of no form":              {with("1a=x"), "neutral", `the signature cannot be read: "1a" is no name of a tag`},
		"too many tags":                {with(manyTags(60)), "neutral", "the signature cannot be read: it has more than 64 tags"},
		"keys of the DNS":              {with("q=foo:dns/txt"), "pass", "2048-bit key"},
		"keys from elsewhere":          {with("q=http/get"), "neutral", "the signature cannot be read: its key is to be had by other ways than the DNS: q=http/get"},
		"signed and not expired":       {with(fmt.Sprintf("t=%d; x=%d", hour(-1), hour(1))), "pass", "2048-bit key"},
		"expired by our clock":         {with(fmt.Sprintf("x=%d", noon.Unix()-299)), "pass", "2048-bit key"},
		"expired":                      {with(fmt.Sprintf("x=%d", noon.Unix()-301)), "fail", "the signature expired on 2026-11-01T11:54:59Z"},
		"expired before it began":      {with(fmt.Sprintf("t=%d; x=%d", hour(2), hour(1))), "neutral", "the signature cannot be read: x= is not after t=: it expires before it was made"},
		"made in the future":           {with(fmt.Sprintf("t=%d", hour(1))), "pass", "2048-bit key, made in the future: t= is 2026-11-01T13:00:00Z"},
		"made by a clock that is fast": {with(fmt.Sprintf("t=%d", noon.Unix()+299)), "pass", "2048-bit key"},
		"expires far away":             {with("x=" + strings.Repeat("9", 76)), "pass", "2048-bit key"},
		"time of no form":              {with("x=-1"), "neutral", "the signature cannot be read: x=-1 is no number"},
		"part of the body":             {with("l=3"), "pass", "2048-bit key"},
		"whole body":                   {with("l=8"), "pass", "2048-bit key"},
		"more than the body":           {with("l=9"), "fail", "the body was cut: l=9, and it has 8 bytes"},
		"length of no form":            {with("l=1x"), "neutral", "the signature cannot be read: l=1x is no number"},
		"no such key":                  {instead("s=rsa", "s=none"), "permerror", "there is no key at none._domainkey.example.org"},
		"key of another kind":          {instead("s=rsa", "s=ed25519"), "permerror", "the key at ed25519._domainkey.example.org cannot be used: the key is of the kind ed25519"},
		"another key":                  {instead("s=rsa", "s=other"), "fail", "the signature does not fit: a signed field was changed, or the key is another one"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := "rsa"
			if strings.Contains(tt.tags, "ed25519-") {
				key = "ed25519"
			}
			f := verifyText(t, keyZone(), craft(t, small, key, tt.tags)).findings[0]
			if f.result != tt.result || f.reason != tt.reason {
				t.Errorf("%s, %s; want %s, %s", f.result, f.reason, tt.result, tt.reason)
			}
		})
	}
}

func manyTags(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("z%d=", i)
	}
	return strings.Join(list, ";")
}

// allForms are the four pairs of canonicalizations.
func allForms() []signing {
	var list []signing
	for _, header := range forms {
		for _, body := range forms {
			list = append(list, signing{header: header, body: body})
		}
	}
	return list
}

// TestMutations changes a signed message, in all canonicalizations.
func TestMutations(t *testing.T) {
	t.Parallel()
	const raw = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: one two\r\nX-Not: signed\r\n\r\nHello, Bob.\r\n\r\nBye.\r\n"
	const header, body = "the signature does not fit: a signed field was changed, or the key is another one", "the body was changed: its hash is not bh="
	names := []string{"from", "from", "to", "subject", "subject", "reply-to"}
	tests := map[string]struct {
		old, now string
		// reason is that of the failure in relaxed form, strict in simple; "" is pass.
		relaxed, simple string
	}{
		"nothing":                     {"", "", "", ""},
		"value":                       {"one two", "one three", header, header},
		"case of a value":             {"one two", "One two", header, header},
		"case of a name":              {"Subject:", "SUBJECT:", "", header},
		"white space in a value":      {"one two", "one  two", "", header},
		"white space gone":            {"one two", "onetwo", header, header},
		"white space around":          {": one two", ":   one two  ", "", header},
		"fold":                        {"one two", "one\r\n two", "", header},
		"field gone":                  {"To: bob@example.test\r\n", "", header, header},
		"order of fields":             {"To: bob@example.test\r\nSubject: one two", "Subject: one two\r\nTo: bob@example.test", "", ""},
		"unsigned field":              {"X-Not: signed", "X-Not: changed", "", ""},
		"further unsigned field":      {"X-Not", "List-Id: x\r\nX-Not", "", ""},
		"second field, oversigned":    {"From: Alice", "From: Mallory <m@example.net>\r\nFrom: Alice", header, header},
		"second field below":          {"X-Not", "Subject: three\r\nX-Not", header, header},
		"field that there is not":     {"X-Not", "Reply-To: m@example.net\r\nX-Not", header, header},
		"second field, signed once":   {"X-Not", "To: carol@example.test\r\nX-Not", header, header},
		"text":                        {"Bye.", "Die.", body, body},
		"text added":                  {"Bye.\r\n", "Bye.\r\nBuy.\r\n", body, body},
		"text gone":                   {"Bye.\r\n", "", body, body},
		"white space at a line's end": {"Bob.\r\n", "Bob. \t\r\n", "", body},
		"white space in a line":       {"Hello, Bob", "Hello, \t Bob", "", body},
		"white space before a line":   {"Bye", " Bye", body, body},
		"empty lines at the end":      {"Bye.\r\n", "Bye.\r\n\r\n\r\n", "", ""},
		"white space at the end":      {"Bye.\r\n", "Bye.\r\n \t\r\n", "", body},
		"no line end at the end":      {"Bye.\r\n", "Bye.", "", ""},
		"empty line in the middle":    {"\r\n\r\nBye", "\r\n\r\n\r\nBye", body, body},
		"tag of the signature":        {"v=1;", "v=1; n=x;", header, header},
		"fold in the signature":       {"v=1; ", "v=1;\r\n\t", "", header},
		"body's hash":                 {"bh=", "bh=AA", "the signature cannot be read: bh= is no SHA-256 in base64", "the signature cannot be read: bh= is no SHA-256 in base64"},
		"value of the signature":      {"b=", "b=AAAA", header, header},
	}
	for name, tt := range tests {
		for _, s := range allForms() {
			for _, kind := range []string{"rsa", "ed25519"} {
				t.Run(fmt.Sprintf("%s, %s/%s, %s", name, s.header, s.body, kind), func(t *testing.T) {
					t.Parallel()
					text := signed(t, raw, names, signingBy(kind, s.header, s.body))
					form := s.header // of the part that is changed
					if tt.simple == body {
						form = s.body
					}
					at := strings.LastIndex(text, tt.old)
					if tt.old == "v=1;" || tt.old == "v=1; " {
						at = strings.Index(text, tt.old)
					}
					if tt.old == "b=" || tt.old == "bh=" {
						at = strings.Index(text, "\t"+tt.old) + 1
					}
					text = text[:at] + tt.now + text[at+len(tt.old):]
					want := tt.relaxed
					if form == simple {
						want = tt.simple
					}
					f := verifyText(t, keyZone(), text).findings[0]
					if want == "" && f.result != resultPass || want != "" && (f.result == resultPass || f.reason != want) {
						t.Errorf("%s, %s; want %q of\n%s", f.result, f.reason, want, text)
					}
				})
			}
		}
	}
}

// TestFromFields holds that no From is shown that is not signed.
func TestFromFields(t *testing.T) {
	t.Parallel()
	f := verifyText(t, keyZone(), "From: m@example.net\r\n"+craft(t, small, "rsa", tags)).findings[0]
	if f.result != resultPolicy || f.reason != "there are 2 From fields, and 1 signed" {
		t.Errorf("%s, %s", f.result, f.reason)
	}
	two := "From: a@example.net\r\n" + small
	if f := verifyText(t, keyZone(), craft(t, two, "rsa", tags+":from")).findings[0]; f.result != resultPass {
		t.Errorf("both signed: %s, %s", f.result, f.reason)
	}
}

// TestSignaturesOverSignatures signs a message that has a signature, and signs that
// too.
func TestSignaturesOverSignatures(t *testing.T) {
	t.Parallel()
	once := craft(t, small, "rsa", tags)
	twice := craft(t, once, "ed25519", "v=1; a=ed25519-sha256; d=example.org; s=ed25519; h=from:dkim-signature:dkim-signature")
	for _, f := range verifyText(t, keyZone(), twice).findings {
		if f.result != resultPass {
			t.Errorf("%s: %s, %s", f.algorithm, f.result, f.reason)
		}
	}
	changed := strings.Replace(twice, "c=relaxed/relaxed;", "c=relaxed/relaxed; n=x;", 1)
	for _, f := range verifyText(t, keyZone(), changed).findings {
		if f.result != resultFail {
			t.Errorf("changed, %s: %s, %s", f.algorithm, f.result, f.reason)
		}
	}
}

// counting is a DNS that counts its questions.
type counting struct {
	zone
	asked map[string]int
}

func (c *counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.asked[name]++
	return c.zone.LookupTXT(ctx, name)
}

// TestLimits holds how many signatures are looked at, and that no key is asked for
// twice.
func TestLimits(t *testing.T) {
	t.Parallel()
	raw := craft(t, small, "rsa", tags)
	field := raw[:strings.Index(raw, "From:")]
	c := &counting{zone: keyZone(), asked: make(map[string]int)}
	r := verifyText(t, c, strings.Repeat(field, 11)+raw)
	if len(r.findings) != 8 || r.skipped != 4 {
		t.Errorf("%d signatures looked at, %d not", len(r.findings), r.skipped)
	}
	if len(c.asked) != 1 || c.asked["rsa._domainkey.example.org"] != 1 {
		t.Errorf("asked %v", c.asked)
	}
}

// slow is a DNS that lets the time of its question pass for one name.
type slow struct {
	zone
	name string
}

func (s slow) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if name == s.name {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.zone.LookupTXT(ctx, name)
}

// TestSilentDNS holds that a DNS without an answer is temporary, and does not keep
// other keys away.
func TestSilentDNS(t *testing.T) {
	t.Parallel()
	raw := craft(t, craft(t, small, "ed25519", "v=1; a=ed25519-sha256; d=example.org; s=ed25519; h=from"), "rsa", tags)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		v := &verifier{resolver: slow{keyZone(), "rsa._domainkey.example.org"}, now: atNoon, most: 8}
		r, err := v.verify(ctx, parse(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		if f := r.findings[0]; f.result != resultTempError || f.reason != "the key cannot be looked up: context deadline exceeded" {
			t.Errorf("%s, %s", f.result, f.reason)
		}
		if f := r.findings[1]; f.result != resultPass {
			t.Errorf("the other one: %s, %s", f.result, f.reason)
		}
		cancel()
		if r, err := v.verify(ctx, parse(t, raw)); err != nil || r.findings[0].result != resultTempError || r.findings[1].result != resultTempError {
			t.Errorf("with the time over: %+v, %v", r, err)
		}
	})
	z := keyZone()
	z["rsa._domainkey.example.org"] = []string{silent}
	if f := verifyText(t, z, raw).findings[0]; f.result != resultTempError || !strings.HasSuffix(f.reason, "temporary failure") {
		t.Errorf("%s, %s", f.result, f.reason)
	}
}

// TestBodyThatCannotBeRead holds that trouble of the server is no result.
func TestBodyThatCannotBeRead(t *testing.T) {
	t.Parallel()
	spool := mail.NewSpool(t.TempDir(), 0)
	if _, err := io.WriteString(spool, craft(t, small, "rsa", tags)); err != nil {
		t.Fatal(err)
	}
	m, err := spool.Message()
	if err != nil {
		t.Fatal(err)
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	v := &verifier{resolver: keyZone(), now: atNoon, most: 8}
	if r, err := v.verify(t.Context(), m); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%+v, %v", r, err)
	}
}
