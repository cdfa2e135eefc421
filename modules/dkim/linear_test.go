package dkim

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// TestLinear holds that what strangers write costs in proportion to its size: twice as
// much of it takes at most three times the memory, whatever its form.
func TestLinear(t *testing.T) { // not parallel: it counts what is allocated
	verify := func(raw string) func() {
		m := parse(t, raw)
		v := &verifier{resolver: everywhere(testKeys()["rsa"].record), now: atNoon, most: 8}
		return func() {
			if _, err := v.verify(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	chain := func(raw string) func() {
		m := parse(t, raw)
		v := &arcVerifier{resolver: everywhere(testKeys()["rsa"].record), now: atNoon}
		return func() {
			if _, err := v.verify(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, prepare := range map[string]func(n int) func(){
		"tags": func(n int) func() { text := manyTags(n); return func() { _, _ = parseTags(text) } },
		"one long tag": func(n int) func() {
			text := "v=1; z=" + strings.Repeat("a ", 50*n)
			return func() { _, _ = parseTags(text) }
		},
		"key records": func(n int) func() {
			text := "k=rsa; h=" + strings.Repeat("sha1:", 10*n) + "; p="
			return func() { _, _ = parseKey(text) }
		},
		"fields":           func(n int) func() { return verify(strings.Repeat("X: y\r\n", 20*n) + craft(t, small, "rsa", tags)) },
		"fields of a name": func(n int) func() { return verify(strings.Repeat("To: y\r\n", 20*n) + craft(t, small, "rsa", tags)) },
		"signed fields": func(n int) func() {
			return verify(craft(t, strings.Repeat("X: y\r\n", 3*n)+small, "rsa", strings.Replace(tags, "h=from", "h=from"+strings.Repeat(":x", 3*n), 1)))
		},
		"signatures":        func(n int) func() { return verify(strings.Repeat("DKIM-Signature: "+tags+"; bh=; b=\r\n", n) + small) },
		"broken signatures": func(n int) func() { return verify(strings.Repeat("DKIM-Signature: ;;;=\r\n", n) + small) },
		"one long field": func(n int) func() {
			return verify("DKIM-Signature: v=1;" + strings.Repeat("\r\n ;", 10*n) + "\r\n" + small)
		},
		"body of white space": func(n int) func() { return verify(craft(t, small+strings.Repeat(" \r\n", 100*n), "rsa", tags)) },
		"one long line":       func(n int) func() { return verify(craft(t, small+strings.Repeat(" \t", 500*n), "rsa", tags)) },
		"seals": func(n int) func() {
			return chain(strings.Repeat("ARC-Seal: i=1; cv=none; a=rsa-sha256; d=a; s=b; b=AAAA\r\n", n) + small)
		},
		"sets of a chain": func(n int) func() { return chain(chainOf(t, small, n/4)) },
		"results of a chain": func(n int) func() {
			return chain("ARC-Authentication-Results: i=1; a" + strings.Repeat("; spf=pass", 5*n) + "\r\n" + small)
		},
		"authors": func(n int) func() {
			m := parse(t, "From: "+strings.Repeat("a@example.org, ", n)+"a@example.org\r\n\r\n")
			return func() { _, _ = authorDomain(m.Header) }
		},
		"nested comments of an author": func(n int) func() {
			m := parse(t, "From: "+strings.Repeat("(", n)+strings.Repeat(")", n)+"a@example.org\r\n\r\n")
			return func() { _, _ = authorDomain(m.Header) }
		},
	} {
		const size, slack = 40, 16 << 10
		once, twice := prepare(size), prepare(2*size)
		once() // what is made at the first use
		if a, b := allocated(once), allocated(twice); b > 3*a+slack {
			t.Errorf("%s: %d bytes are allocated, and %d for twice as much of it", name, a, b)
		}
	}
}

// FuzzAuthor holds that the domain that is signed for is one.
func FuzzAuthor(f *testing.F) {
	for _, from := range []string{
		"alice@example.org", "Alice <Alice@EXAMPLE.org>", "a@example.org, b@example.net", "=?gb18030?B?xOO6ww==?= <alice@example.org>", "g: a@example.org;",
		"a@[192.0.2.1]", "a@bücher.example", "\"a@b\"@example.org", "<@a,@b:c@example.org>", "(c(c)c) a@example.org", "a", "",
	} {
		f.Add(from)
	}
	f.Fuzz(func(t *testing.T, from string) {
		m, err := mail.NewMessage([]byte("From: " + from + "\r\n\r\n"))
		if err != nil {
			return
		}
		domain, err := authorDomain(m.Header)
		if err != nil {
			return
		}
		if again, err := mail.ParseDomain(domain); err != nil || again != domain {
			t.Errorf("%q is of %q, which is %q, %v", from, domain, again, err)
		}
	})
}

// FuzzPrivateKey holds that a file that can be read is a key that signs, and that
// errors do not show it.
func FuzzPrivateKey(f *testing.F) {
	f.Add(testKeys()["ed25519"].pem)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parsePrivateKey(text)
		if err != nil {
			if key != nil || len(err.Error()) > 200 {
				t.Errorf("%v, %v", key, err)
			}
			return
		}
		hash := make([]byte, sha256Size)
		value, err := key.sign(hash)
		if err != nil {
			return // a key of numbers that do not fit together
		}
		record, err := key.record()
		if err != nil {
			t.Fatal(err)
		}
		public, err := parseKey(record)
		if err != nil || !public.verify(hash, value) {
			t.Errorf("the record %q does not fit: %v", record, err)
		}
	})
}
