package dkim

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// FuzzChain holds what the validation and the sealing of a chain rely on, whatever the
// header section is.
func FuzzChain(f *testing.F) {
	// Keys of RSA take seconds to make in the process that is watched.
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	key := newTestKey(private)
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		f.Fatal("no public key")
	}
	z := zone{"s._domainkey.example.org": {"k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}}
	sealer := &ARCSeal{
		id: "mx.example.org", now: atNoon, verifier: &arcVerifier{resolver: z, now: atNoon},
		key: &domainKey{domain: "example.org", ascii: "example.org", selector: "s", private: key.privateKey},
	}
	one, _ := sealedBy(f, sealer, transaction(f, small))
	two, _ := sealedBy(f, sealer, transaction(f, one))
	for _, seed := range []string{
		one, two, one + "x", "ARC-Seal: i=50\r\n" + small, "ARC-Seal: i=1; cv=fail; d=a; s=b; a=rsa-sha256; b=a\r\n" + small,
		"arc-authentication-results: (a\\(b) i = 1 ; x; dmarc=pass\r\n\r\n", "ARC-Message-Signature: i=\r\n 1; h=from:arc-seal; l=0\r\n\r\n",
		"ARC-Authentication-Results:i=1;a\r\nARC-Message-Signature:i=1\r\nARC-Seal:i=1;cv=none\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := mail.NewMessage(raw)
		if err != nil {
			return
		}
		c := parseChain(m.Header)
		if c.last != len(c.sets) || c.last > maxSets || c.ended && c.problem == "" || len(c.problem) > 512 {
			t.Fatalf("%+v", c)
		}
		for i := range c.sets {
			for kind, position := range c.sets[i].positions {
				if position == noField && c.problem == "" {
					t.Errorf("set %d has no field %d", i+1, kind)
				}
				if position != noField && !strings.EqualFold(m.Header.Fields[position].Name, arcFields[kind]) {
					t.Errorf("set %d has %q as its %s", i+1, m.Header.Fields[position].Raw, arcFields[kind])
				}
				if position != noField {
					readVouching(m.Header.Fields[position])
				}
			}
		}
		r := verifyChain(t, zone{}, string(raw))
		if r.result == chainPass || (r.result == chainNone) != (r.last == 0 && r.problem == "") || r.result == chainFail && r.reason == "" {
			t.Errorf("%s, %q without any key", r.result, r.reason)
		}
		// What is sealed here holds, or says that it does not.
		tx := transaction(t, string(raw))
		sealed, reason := sealedBy(t, sealer, tx)
		if strings.HasPrefix(reason, "not sealed: ") {
			return
		}
		before, after := verifyChain(t, z, string(raw)), verifyChain(t, z, sealed)
		if after.last != before.last+1 || after.ended != (before.result == chainFail) {
			t.Errorf("%s, %q, then %s, %s", before.result, reason, after.result, after.reason)
		}
	})
}
