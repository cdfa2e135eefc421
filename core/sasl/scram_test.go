package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/mox-like/mox-like/core/mail"
)

// keysOf derives keys by the text of RFC 5802 section 3.
func keysOf(t *testing.T, password, salt string, iterations int) mail.ScramKeys {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, password, []byte(salt), iterations, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(sum("Client Key"))
	return mail.ScramKeys{Salt: []byte(salt), Iterations: iterations, StoredKey: stored[:], ServerKey: sum("Server Key")}
}

// checker is a login that checks the proof with some keys.
func checker(keys mail.ScramKeys) func(*mail.Credentials) error {
	return func(c *mail.Credentials) error {
		if c.Mechanism != ScramSHA256 || c.Password != "" || !c.Proof.Verify(keys.StoredKey, keys.ServerKey) {
			return errRefused
		}
		return nil
	}
}

// TestProofVector is the exchange of RFC 7677 section 3.
func TestProofVector(t *testing.T) {
	t.Parallel()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	keys := keysOf(t, "pencil", string(salt), 4096)
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	first, err := parseClientFirst("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
	if err != nil {
		t.Fatal(err)
	}
	challenge := "r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	final := scramFinal(first, nonce, challenge, checker(keys))
	answer, next, err := final([]byte("c=biws,r=" + nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || next == nil {
		t.Fatalf("final message: %v", err)
	}
	if want := "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; string(answer) != want {
		t.Errorf("server signature %s, want %s", answer, want)
	}
}

// TestScramClient runs whole exchanges with a client that is not ours.
func TestScramClient(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, username, right, given, authzid string
		err                                   error
	}{
		{name: "right", username: "alice@example.org", right: "pencil12", given: "pencil12"},
		{name: "comma and equals sign", username: "a,b=c@example.org", right: "pencil12", given: "pencil12"},
		{name: "identity", username: "alice@example.org", right: "pencil12", given: "pencil12", authzid: "alice@example.org"},
		{name: "UTF-8", username: "jürgen@example.org", right: "пароль123", given: "пароль123"},
		{name: "wrong", username: "alice@example.org", right: "pencil12", given: "pencil13", err: errRefused},
		{name: "other identity", username: "alice@example.org", right: "pencil12", given: "pencil12", authzid: "bob@example.org", err: ErrIdentity},
		{name: "long name", username: strings.Repeat("u", MaxUsername+1), right: "pencil12", given: "pencil12", err: ErrUsername},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys := keysOf(t, tt.right, "0123456789abcdef", 4096)
			server, err := NewServer(ScramSHA256, func(username string) (mail.ScramKeys, error) {
				if username != tt.username {
					t.Errorf("user name %q, want %q", username, tt.username)
				}
				return keys, nil
			}, checker(keys))
			if err != nil {
				t.Fatal(err)
			}
			client, err := scram.SHA256.NewClient(tt.username, tt.given, tt.authzid)
			if err != nil {
				t.Fatal(err)
			}
			conversation := client.NewConversation()
			var challenge []byte
			var done bool
			for err == nil && !done {
				var response string
				if response, err = conversation.Step(string(challenge)); err != nil {
					t.Fatalf("the client refuses %q: %v", challenge, err)
				}
				challenge, done, err = server.Next([]byte(response))
			}
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if (tt.err == nil) != conversation.Valid() {
				t.Errorf("the client trusts the server: %v", conversation.Valid())
			}
		})
	}
}

func TestScramFirst(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, message string
		header, user  string
		err           error
	}{
		{name: "no binding", message: "n,,n=alice@example.org,r=abc", header: "n,,", user: "alice@example.org"},
		{name: "could bind", message: "y,,n=alice@example.org,r=abc", header: "y,,", user: "alice@example.org"},
		{name: "identity", message: "n,a=alice=2Cb,n=alice=2Cb,r=abc", header: "n,a=alice=2Cb,", user: "alice,b"},
		{name: "escapes", message: "n,,n=a=3D2C,r=abc", header: "n,,", user: "a=2C"},
		{name: "extension", message: "n,,n=alice@example.org,r=abc,x=1", header: "n,,", user: "alice@example.org"},
		{name: "binding", message: "p=tls-exporter,,n=alice@example.org,r=abc", err: ErrChannelBinding},
		{name: "bare p", message: "p,,n=alice@example.org,r=abc", err: ErrMalformed},
		{name: "other flag", message: "x,,n=alice@example.org,r=abc", err: ErrMalformed},
		{name: "no flag", message: ",,n=alice@example.org,r=abc", err: ErrMalformed},
		{name: "empty", message: "", err: ErrMalformed},
		{name: "header only", message: "n,,", err: ErrMalformed},
		{name: "one comma", message: "n,", err: ErrMalformed},
		{name: "identity without a", message: "n,alice,n=alice,r=abc", err: ErrMalformed},
		{name: "empty identity", message: "n,a=,n=alice,r=abc", err: ErrMalformed},
		{name: "other identity", message: "n,a=bob,n=alice,r=abc", err: ErrIdentity},
		{name: "mandatory extension", message: "n,,m=1,n=alice,r=abc", err: ErrMalformed},
		{name: "empty user", message: "n,,n=,r=abc", err: ErrMalformed},
		{name: "wrong escape", message: "n,,n=a=2Db,r=abc", err: ErrMalformed},
		{name: "cut escape", message: "n,,n=a=2,r=abc", err: ErrMalformed},
		{name: "empty nonce", message: "n,,n=alice,r=", err: ErrMalformed},
		{name: "no nonce", message: "n,,n=alice", err: ErrMalformed},
		{name: "space in nonce", message: "n,,n=alice,r=a b", err: ErrMalformed},
		{name: "UTF-8 in nonce", message: "n,,n=alice,r=ä", err: ErrMalformed},
		{name: "NUL", message: "n,,n=al\x00ice,r=abc", err: ErrMalformed},
		{name: "not UTF-8", message: "n,,n=al\xffice,r=abc", err: ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseClientFirst(tt.message)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if got.header != tt.header || got.username != tt.user {
				t.Errorf("header %q, user %q, want %q, %q", got.header, got.username, tt.header, tt.user)
			}
		})
	}
}

func TestScramFinal(t *testing.T) {
	t.Parallel()
	const (
		nonce = "abcdef"
		right = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	)
	tests := []struct {
		name, message string
		err           error
	}{
		{name: "form is right, proof is not", message: "c=biws,r=abcdef,p=" + right, err: errRefused},
		{name: "extension", message: "c=biws,r=abcdef,x=1,p=" + right, err: errRefused},
		{name: "empty", message: "", err: ErrMalformed},
		{name: "no proof", message: "c=biws,r=abcdef", err: ErrMalformed},
		{name: "short proof", message: "c=biws,r=abcdef,p=AAAA", err: ErrMalformed},
		{name: "proof is not base64", message: "c=biws,r=abcdef,p=" + right[1:], err: ErrMalformed},
		{name: "proof is not last", message: "c=biws,r=abcdef,p=" + right + ",x=1", err: ErrMalformed},
		{name: "line break in base64", message: "c=bi\nws,r=abcdef,p=" + right, err: ErrMalformed},
		{name: "other header", message: "c=eSws,r=abcdef,p=" + right, err: ErrMalformed},
		{name: "no header", message: "r=abcdef,p=" + right, err: ErrMalformed},
		{name: "client's nonce only", message: "c=biws,r=abc,p=" + right, err: ErrMalformed},
		{name: "other nonce", message: "c=biws,r=abcdeg,p=" + right, err: ErrMalformed},
		{name: "no nonce", message: "c=biws,p=" + right, err: ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first := clientFirst{header: "n,,", username: "alice@example.org", nonce: "abc", bare: "n=alice@example.org,r=abc"}
			final := scramFinal(first, nonce, "r=abcdef,s=AAAA,i=4096", checker(keysOf(t, "pencil12", "salt", 4096)))
			_, next, err := final([]byte(tt.message))
			if !errors.Is(err, tt.err) || next != nil {
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
}

func TestScramUnproved(t *testing.T) {
	t.Parallel()
	first := clientFirst{header: "n,,", username: "alice@example.org", nonce: "abc", bare: "n=alice@example.org,r=abc"}
	careless := func(*mail.Credentials) error { return nil }
	wrong := func(c *mail.Credentials) error {
		c.Proof.Verify(make([]byte, 32), make([]byte, 32))
		return nil
	}
	for name, login := range map[string]func(*mail.Credentials) error{"not checked": careless, "wrong": wrong} {
		final := scramFinal(first, "abcdef", "r=abcdef,s=AAAA,i=4096", login)
		message := "c=biws,r=abcdef,p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
		if _, _, err := final([]byte(message)); !errors.Is(err, ErrUnproved) {
			t.Errorf("%s: error %v, want %v", name, err, ErrUnproved)
		}
	}
}

func TestScramKeysError(t *testing.T) {
	t.Parallel()
	s, err := NewServer(ScramSHA256, func(string) (mail.ScramKeys, error) { return mail.ScramKeys{}, errRefused }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Next([]byte("n,,n=alice@example.org,r=abc")); !errors.Is(err, errRefused) {
		t.Errorf("error %v, want that of keys", err)
	}
}

// TestScramEnd sends something else than the empty response that ends an
// exchange.
func TestScramEnd(t *testing.T) {
	t.Parallel()
	if _, _, err := scramEnd([]byte("=")); !errors.Is(err, ErrMalformed) {
		t.Errorf("error %v, want %v", err, ErrMalformed)
	}
	if _, next, err := scramEnd([]byte{}); err != nil || next != nil {
		t.Errorf("empty response: %v", err)
	}
}

func TestScramNonce(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 3 {
		s, err := NewServer(ScramSHA256, func(string) (mail.ScramKeys, error) {
			return mail.ScramKeys{Salt: []byte("salt"), Iterations: 4096}, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		challenge, _, err := s.Next([]byte("n,,n=alice@example.org,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, rest, _ := strings.Cut(string(challenge), ",")
		if rest != "s=c2FsdA==,i=4096" || !strings.HasPrefix(nonce, "r=abc") || len(nonce) < len("r=abc")+22 || seen[nonce] {
			t.Errorf("challenge %q", challenge)
		}
		seen[nonce] = true
	}
}
