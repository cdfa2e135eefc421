package dkim

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// FuzzTags holds that the values of a list are where it says, and that a list that
// is printed reads the same.
func FuzzTags(f *testing.F) {
	for _, s := range []string{tags, "", ";", "a=", "a=1;;b=2", "a = b = c ; d=", "a=1;a=2", "é=1", "a=é", "a=\xff", "\r\n\ta=\r\n b;", manyTags(70), rfcZone["test._domainkey.football.example.com"][0]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseTags(text)
		if err != nil {
			if len(err.Error()) > 512 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		var b strings.Builder
		for _, tag := range list {
			if got := strings.Trim(text[tag.start:tag.end], white); got != tag.value {
				t.Errorf("%s= of %q is %q, and at its place is %q", tag.name, text, tag.value, got)
			}
			b.WriteString(tag.name + "=" + tag.value + ";")
		}
		again, err := parseTags(b.String())
		if err != nil || !slices.EqualFunc(list, again, func(a, b tag) bool { return a.name == b.name && a.value == b.value }) {
			t.Errorf("%q reads as %v, and again as %v, %v", text, list, again, err)
		}
	})
}

// FuzzSignature holds what everything else relies on in a signature that could be
// read.
func FuzzSignature(f *testing.F) {
	for _, name := range []string{"rfc6376.eml", "rfc8463.eml"} {
		raw, _, _ := strings.Cut(example(f, name), "From:")
		for field := range strings.SplitSeq(raw, signatureField+":") {
			f.Add([]byte(signatureField + ":" + field))
		}
	}
	b := base64.StdEncoding.EncodeToString(make([]byte, sha256Size))
	for _, more := range []string{"", "; l=99999999999999999999", "; x=5; t=4", "; i=a=3Db@x.example.org", "; i=@", "; q=dns/txt:x", "; l=0"} {
		f.Add([]byte("dkim-signature :" + tags + more + "; bh=" + b + "; b=" + b))
	}
	f.Add([]byte("A0=000;s=;d=000000."))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseSignature(raw)
		for _, name := range []string{s.domain, s.selector, s.auidDomain} {
			if again, ok := asciiName(name); name != "" && (!ok || again != name) {
				t.Errorf("name %q in %q", name, raw)
			}
		}
		if err != nil {
			return
		}
		switch {
		case s.domain == "" || s.selector == "" || len(s.keyName()) > 253:
			t.Errorf("key at %q", s.keyName())
		case s.auidDomain != s.domain && !strings.HasSuffix(s.auidDomain, "."+s.domain):
			t.Errorf("AUID of %s, SDID %s", s.auidDomain, s.domain)
		case !slices.Contains(s.names, "from") || len(s.names) > maxSigned:
			t.Errorf("signed fields %q", s.names)
		case len(s.bodyHash) != sha256Size || len(s.value) == 0 || s.limit < wholeBody || s.created < 0 || s.expires < 0:
			t.Errorf("values of %+v", s)
		case len(s.bare) > len(raw):
			t.Errorf("without b= it is %q", s.bare)
		}
		// What stands in b= means nothing to what is signed.
		again, err := parseSignature(s.bare)
		if err == nil || again.domain != s.domain || string(again.bare) != string(s.bare) {
			t.Errorf("without b= %q is %q, %v", s.bare, again.bare, err)
		}
	})
}

// FuzzKey holds that keys that can be read can be used, whatever they are.
func FuzzKey(f *testing.F) {
	for _, texts := range rfcZone {
		f.Add(texts[0], []byte("signature"))
	}
	for _, s := range []string{"", "p=", "v=DKIM1; p=AAAA; k=rsa", "k=ed25519; p=" + strings.Repeat("A", 43), "h=sha256; s=email; t=y:s; p=MAA=", "v=spf1 -all"} {
		f.Add(s, make([]byte, 256))
	}
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		key, err := parseKey(text)
		if err != nil {
			if key != nil || len(err.Error()) > 512 {
				t.Errorf("%v, %v", key, err)
			}
			return
		}
		if key.bits > maxRSA || key.kind != kindRSA && key.kind != kindEd25519 {
			t.Errorf("key %+v", key)
		}
		if key.kind == kindRSA && key.bits < minRSA {
			return // never used
		}
		key.verify(make([]byte, sha256Size), value)
	})
}

// FuzzVerify verifies whole messages with any keys, and what is said about them is
// fit for a trace, a reply and a field.
func FuzzVerify(f *testing.F) {
	for _, name := range []string{"rfc6376.eml", "rfc8463.eml"} {
		f.Add([]byte(example(f, name)), rfcZone["brisbane._domainkey.example.com"][0])
		f.Add([]byte(example(f, name)), rfcZone["brisbane._domainkey.football.example.com"][0])
	}
	f.Add([]byte(craft(f, text, "rsa", tags+"; l=3")), testKeys()["rsa"].record+"; t=y")
	f.Add([]byte(craft(f, text, "weak", tags)), testKeys()["weak"].record)
	f.Add([]byte(signed(f, text, someNames, signingBy("ed25519", simple, relaxed))), testKeys()["ed25519"].record)
	f.Add([]byte("DKIM-Signature: \x00\xff\x1b\r\n\r\n"), "")
	f.Fuzz(func(t *testing.T, raw []byte, record string) {
		m, err := mail.NewMessage(raw)
		if err != nil {
			return
		}
		v := newVerify()
		v.verifier.resolver = everywhere(record)
		v.Fail, v.BodyLength = "reject", "tag"
		tx := coretest.Transaction(t, mail.StageData, 1)
		tx.Message = m
		verdict, err := v.Handle(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{verdict.Reason, verdict.Reply.Text}
		for _, r := range tx.AuthResults() {
			texts = append(texts, r.Reason)
			for _, p := range r.Properties {
				texts = append(texts, p.Value)
			}
		}
		for _, text := range texts {
			if text != mail.Printable(text, 512) || !utf8.ValidString(text) {
				t.Errorf("text %q", text)
			}
		}
	})
}

// everywhere is a DNS that has one record under all names.
type everywhere string

func (e everywhere) LookupTXT(context.Context, string) ([]string, error) {
	return []string{string(e)}, nil
}
