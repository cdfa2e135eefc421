package totp

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// with runs do on the data directory, with services that were just started.
func with(t *testing.T, dir string, c *clock, do func(k *kit)) {
	t.Helper()
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	do(kitOn(t, s, c))
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	path := filepath.Join(dir, keyFile)
	var secret, recovery mail.Secret
	with(t, dir, c, func(k *kit) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || k.Measure()[0].Value != 0 {
			t.Errorf("there is a key before anybody enrols, or it is missed: %v", err)
		}
		e := k.enrol(alice)
		secret, recovery = e.Secret, e.RecoveryCodes[0]
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("key file %v, %v", info, err)
		}
	})
	code := func(k *kit) mail.Secret { return oathtool(t, secret.Reveal(), k.clock.Now()) }
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	with(t, dir, c, func(k *kit) {
		if !k.isOn(alice) || !k.verify(code(k)) {
			t.Error("the second factor did not outlive a restart")
		}
		if got := k.Measure()[0].Value; got != 0 {
			t.Errorf("key_missing is %g, and the key is there", got)
		}
		k.enrol(bob)
	})
	if now, _ := os.ReadFile(path); !bytes.Equal(now, good) {
		t.Error("the key file was replaced")
	}
	c.add(period * 1e9)
	broken := func(name string, want error, text []byte) {
		t.Helper()
		if text == nil {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		with(t, dir, c, func(k *kit) {
			if !k.isOn(alice) {
				t.Errorf("%s: the second factor is off", name)
			}
			if got := k.Measure()[0]; got.Name != "key_missing" || got.Value != 1 {
				t.Errorf("%s: figure %+v", name, got)
			}
			if ok, err := k.VerifyTOTP(t.Context(), alice, code(k)); ok || !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v, error %v, want %v", name, ok, err, want)
			}
			for action, c := range map[mail.Action]mail.Credentials{
				mail.ActionReject: {}, mail.ActionDefer: {Code: code(k)}, mail.ActionContinue: {AppPassword: "phone"},
			} {
				if verdict, err := k.handler("totp {}").Handle(t.Context(), transaction(alice, c)); err != nil || verdict.Action != action {
					t.Errorf("%s: %+v: verdict %+v, %v", name, c, verdict, err)
				}
			}
			if err := k.accounts.Add(t.Context(), "carol@example.test", password); err != nil {
				t.Fatal(err)
			}
			if _, err := k.EnrolTOTP(t.Context(), "carol@example.test"); !errors.Is(err, want) {
				t.Errorf("%s: enrol: error %v, want %v", name, err, want)
			}
			if err := k.accounts.Remove(t.Context(), "carol@example.test"); err != nil {
				t.Fatal(err)
			}
		})
		if now, _ := os.ReadFile(path); !bytes.Equal(now, text) {
			t.Errorf("%s: the key file was replaced", name)
		}
	}
	broken("wrong", ErrKeyWrong, []byte(strings.Repeat("ab", keySize)))
	broken("cut", ErrKeyInvalid, good[:len(good)/2])
	broken("empty", ErrKeyInvalid, []byte{})
	broken("missing", ErrKeyMissing, nil)
	with(t, dir, c, func(k *kit) {
		if err := os.WriteFile(path, good, 0o600); err != nil || k.Measure()[0].Value != 0 {
			t.Errorf("the key that was restored while the server runs is missed: %v", err)
		}
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	with(t, dir, c, func(k *kit) {
		if !k.verify(recovery) {
			t.Error("a recovery code, which needs no key, is wrong")
		}
		for _, account := range []string{alice, bob} {
			if err := k.RemoveTOTP(t.Context(), account); err != nil {
				t.Fatal(err)
			}
		}
		k.enrol(alice)
		if got := k.Measure()[0].Value; got != 0 {
			t.Errorf("key_missing is %g with the new key", got)
		}
	})
	if now, _ := os.ReadFile(path); len(now) != len(good) || bytes.Equal(now, good) {
		t.Errorf("no new key once nobody had a secret: %d bytes", len(now))
	}
}

func TestKeyVariable(t *testing.T) {
	raw := []byte(strings.Repeat("k", keySize))
	dir, c := t.TempDir(), newClock()
	var secret mail.Secret
	t.Setenv(keyVariable, hex.EncodeToString(raw))
	with(t, dir, c, func(k *kit) { secret = k.enrol(alice).Secret })
	t.Setenv(keyVariable, base64.StdEncoding.EncodeToString(raw))
	with(t, dir, c, func(k *kit) {
		if !k.verify(oathtool(t, secret.Reveal(), c.Now())) {
			t.Error("the same key in base64 does not fit")
		}
	})
	if _, err := os.Stat(filepath.Join(dir, keyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file beside the variable: %v", err)
	}
	t.Setenv(keyVariable, "")
	with(t, dir, c, func(k *kit) {
		if _, err := k.VerifyTOTP(t.Context(), alice, "123456"); !errors.Is(err, ErrKeyMissing) {
			t.Errorf("error %v without the variable", err)
		}
	})
	for _, bad := range []string{"secret", strings.Repeat("ab", keySize-1), strings.Repeat("ab", keySize+1)} {
		t.Setenv(keyVariable, bad)
		s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base})
		if !errors.Is(err, ErrKeyInvalid) || !strings.Contains(err.Error(), keyVariable) || strings.Contains(err.Error(), bad) && bad != "secret" {
			t.Errorf("%s: error %v", bad, err)
		}
		if err == nil {
			_ = s.Close()
		}
	}
}

// TestKeyMadeAtOnce has many need the first key at once.
func TestKeyMadeAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := make(chan string, 16)
	for range cap(ids) {
		go func() {
			ring := &keyring{path: filepath.Join(dir, keyFile)} // one for each process
			k, err := ring.make()
			if err != nil {
				t.Error(err)
				ids <- ""
				return
			}
			ids <- k.id
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Error("two keys were made")
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// TestEncryptedAtRest looks for secrets in all files of the data directory but the
// key's own.
func TestEncryptedAtRest(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	var needles [][]byte
	with(t, dir, c, func(k *kit) {
		e := k.enrol(alice)
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		needles = append(needles, raw, []byte(e.Secret.Reveal()), []byte(hex.EncodeToString(raw)), []byte(e.URI.Reveal()))
		for _, code := range e.RecoveryCodes {
			needles = append(needles, []byte(code.Reveal()), []byte(strings.ReplaceAll(code.Reveal(), "-", "")))
		}
	})
	key, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := hex.DecodeString(strings.TrimSpace(string(key)))
	if err != nil {
		t.Fatal(err)
	}
	needles = append(needles, rawKey, bytes.TrimSpace(key))
	found := false
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == keyFile {
			return err
		}
		content, err := os.ReadFile(path)
		for _, needle := range needles {
			if bytes.Contains(content, needle) {
				t.Errorf("%s has %q", d.Name(), needle)
			}
		}
		found = found || bytes.Contains(content, []byte(alice))
		return err
	})
	if err != nil || !found {
		t.Errorf("no file has even the account's name: %v", err)
	}
}

// TestSecretsAreBound finds that a row's secret is good for its own account only,
// and that a changed one is an error.
func TestSecretsAreBound(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.enrol(alice)
	e := k.enrol(bob)
	change := func(statement string) {
		t.Helper()
		err := k.store.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(statement)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := k.VerifyTOTP(t.Context(), alice, k.code(e, 0)); ok || !errors.Is(err, ErrKeyWrong) {
			t.Errorf("%s: %v, %v", statement, ok, err)
		}
	}
	change(`UPDATE totp SET secret = (SELECT secret FROM totp WHERE account = 'bob@example.test')`)
	change(`UPDATE totp SET secret = zeroblob(length(secret))`)
	change(`UPDATE totp SET secret = zeroblob(3)`)
}
