package accounts

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// TestHashVector checks a hash of the reference implementation's own tests.
func TestHashVector(t *testing.T) {
	t.Parallel()
	const encoded = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	h := newHasher(owasp, 1)
	found, err := h.verify(t.Context(), netip.Prefix{}, encoded, "password")
	if !found.ok || !found.outdated || err != nil {
		t.Fatalf("verify = %v, %v, %v", found.ok, found.outdated, err)
	}
	found.release()
	if found, err := h.verify(t.Context(), netip.Prefix{}, encoded, "passwore"); found.ok || err != nil {
		t.Errorf("verify of another password = %v, %v", found.ok, err)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	h := newHasher(owasp, 1)
	first, err := h.hash(t.Context(), netip.Prefix{}, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s", first)
	}
	second, err := h.hash(t.Context(), netip.Prefix{}, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two hashes have the same salt")
	}
	for _, encoded := range []string{first, second} {
		found, err := h.verify(t.Context(), netip.Prefix{}, encoded, "correct horse")
		if !found.ok || found.outdated || err != nil {
			t.Fatalf("verify = %v, %v, %v", found.ok, found.outdated, err)
		}
		found.release()
	}
	if found, err := h.verify(t.Context(), netip.Prefix{}, h.dummy, "correct horse"); found.ok || found.outdated || err != nil {
		t.Errorf("verify of the dummy = %v, %v, %v", found.ok, found.outdated, err)
	}
}

const (
	goodHash  = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	goodScram = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)

func TestDecodeHash(t *testing.T) {
	t.Parallel()
	if _, _, _, err := decodeHash(goodHash); err != nil {
		t.Errorf("a right hash: %v", err)
	}
	tests := map[string]string{
		"empty":        "",
		"other scheme": strings.Replace(goodHash, "argon2id", "argon2i", 1),
		"other text":   "$2y$10$abcdefghijklmnopqrstuv",
		"version":      strings.Replace(goodHash, "v=19", "v=16", 1),
		"no passes":    strings.Replace(goodHash, "t=1", "t=0", 1),
		"no lanes":     strings.Replace(goodHash, "p=1", "p=0", 1),
		"memory":       strings.Replace(goodHash, "m=8", "m=1048577", 1),
		"passes":       strings.Replace(goodHash, "t=1", "t=65", 1),
		"lanes":        strings.Replace(goodHash, "p=1", "p=65", 1),
		"overflow":     strings.Replace(goodHash, "p=1", "p=257", 1),
		"plus sign":    strings.Replace(goodHash, "m=8", "m=+8", 1),
		"one more":     goodHash + "$",
		"short salt":   strings.Replace(goodHash, "c29tZXNhbHQ", "c29t", 1),
		"short key":    goodHash[:len(goodHash)-30],
		"padding":      goodHash + "=",
	}
	for name, encoded := range tests {
		if _, _, _, err := decodeHash(encoded); !errors.Is(err, errHash) {
			t.Errorf("%s: error %v, want %v", name, err, errHash)
		}
		if found, err := newHasher(cheap, 1).verify(t.Context(), netip.Prefix{}, encoded, "x"); found.ok || !errors.Is(err, errHash) {
			t.Errorf("%s: verify = %v, %v", name, found.ok, err)
		}
	}
}

func TestDecodeScram(t *testing.T) {
	t.Parallel()
	k, err := decodeScram(goodScram)
	if err != nil {
		t.Fatalf("a right secret: %v", err)
	}
	if k.Iterations != 4096 || len(k.Salt) != 16 || encodeScram(k) != goodScram {
		t.Errorf("decoded as %d iterations, salt %x", k.Iterations, k.Salt)
	}
	tests := map[string]string{
		"empty":           "",
		"other scheme":    strings.Replace(goodScram, "256", "1", 1),
		"few iterations":  strings.Replace(goodScram, "4096", "4095", 1),
		"many iterations": strings.Replace(goodScram, "4096", "10000001", 1),
		"no number":       strings.Replace(goodScram, "4096", "x", 1),
		"no salt":         strings.Replace(goodScram, ":W22ZaJ0SNY7soEsUEjb6gQ==", "", 1),
		"no keys":         goodScram[:strings.LastIndex(goodScram, "$")],
		"no server key":   goodScram[:strings.LastIndex(goodScram, ":")],
		"short key":       strings.Replace(goodScram, "WG5d", "", 1),
	}
	for name, encoded := range tests {
		if _, err := decodeScram(encoded); !errors.Is(err, errScram) {
			t.Errorf("%s: error %v, want %v", name, err, errScram)
		}
	}
}

func FuzzDecodeHash(f *testing.F) {
	f.Add(goodHash)
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$$")
	f.Add("$argon2id$v=19$m=-1,t=1,p=256$c29tZXNhbHQ$CTFh")
	f.Fuzz(func(t *testing.T, encoded string) {
		c, salt, key, err := decodeHash(encoded)
		if err == nil && (encodeHash(c, salt, key) != encoded || c.memory > maxCosts.memory || c.passes > maxCosts.passes) {
			t.Errorf("%q was read as %+v, salt %x, key %x", encoded, c, salt, key)
		}
	})
}

func FuzzDecodeScram(f *testing.F) {
	f.Add(goodScram)
	f.Add("SCRAM-SHA-256$4096:$:")
	f.Add("SCRAM-SHA-256$-1:AAAAAAAAAAA=$AA==:AA==")
	f.Fuzz(func(t *testing.T, encoded string) {
		k, err := decodeScram(encoded)
		if err != nil {
			return
		}
		again, err := decodeScram(encodeScram(k))
		if diff := cmp.Diff(k, again); diff != "" || err != nil {
			t.Errorf("%q is not read back: %v\n%s", encoded, err, diff)
		}
	})
}

func TestScramKeysOf(t *testing.T) {
	t.Parallel()
	first, err := scramKeysOf("correct horse", newScramSalt())
	if err != nil {
		t.Fatal(err)
	}
	second, err := scramKeysOf("correct horse", newScramSalt())
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Equal(first.Salt, second.Salt) || cmp.Equal(first.StoredKey, second.StoredKey) {
		t.Error("two sets of keys have the same salt")
	}
	again, err := scramKeysOf("correct horse", mail.ScramKeys{Salt: first.Salt, Iterations: first.Iterations})
	if diff := cmp.Diff(first, again); diff != "" || err != nil {
		t.Errorf("other keys under the same salt: %v\n%s", err, diff)
	}
	vector, err := decodeScram(goodScram)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := scramKeysOf(pencil.Reveal(), vector); err != nil || encodeScram(got) != goodScram {
		t.Errorf("keys of RFC 7677: %s, %v", encodeScram(got), err)
	}
	if first.Iterations < 4096 || len(first.StoredKey) != sha256.Size || cmp.Equal(first.StoredKey, first.ServerKey) {
		t.Errorf("%d iterations, key of %d bytes", first.Iterations, len(first.StoredKey))
	}
	fake := fakeScramKeys([]byte("secret"), alice)
	if diff := cmp.Diff(fake, fakeScramKeys([]byte("secret"), alice)); diff != "" {
		t.Errorf("made-up keys change:\n%s", diff)
	}
	if cmp.Equal(fake, mail.ScramKeys{}) || cmp.Equal(fake.Salt, fakeScramKeys([]byte("secret"), bob).Salt) {
		t.Error("made-up keys do not depend on the user")
	}
}
