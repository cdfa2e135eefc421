package sasl

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	gosasl "github.com/emersion/go-sasl"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

var errRefused = errors.New("refused by the chain")

// recorder is a login that keeps what it was given.
type recorder struct {
	got []*mail.Credentials
	err error
}

func (r *recorder) login(c *mail.Credentials) error {
	r.got = append(r.got, c)
	return r.err
}

func newServer(t *testing.T, mechanism string, login func(*mail.Credentials) error) gosasl.Server {
	t.Helper()
	s, err := NewServer(mechanism, nil, login)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMechanisms(t *testing.T) {
	t.Parallel()
	keys := func(string) (mail.ScramKeys, error) { return mail.ScramKeys{}, nil }
	for _, scram := range []bool{false, true} {
		names := Mechanisms(scram)
		if got := names[0] == ScramSHA256; got != scram {
			t.Errorf("Mechanisms(%v) = %q", scram, names)
		}
		for _, name := range names {
			if _, err := NewServer(name, keys, nil); err != nil {
				t.Errorf("NewServer(%q): %v", name, err)
			}
		}
	}
}

func TestUnknownMechanism(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "plain", "CRAM-MD5", ScramSHA256 + "-PLUS", ScramSHA256} {
		_, err := NewServer(name, nil, nil)
		if !errors.Is(err, ErrMechanism) {
			t.Errorf("NewServer(%q) without keys: error %v, want %v", name, err, ErrMechanism)
		}
		if code := mail.ReplyOf(err).Code; code != 504 {
			t.Errorf("NewServer(%q): reply %d, want 504", name, code)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxResponse)
	tests := []struct {
		name     string
		response string
		username string
		password string
		err      error
	}{
		{name: "plain", response: "\x00alice@example.org\x00secret12", username: "alice@example.org", password: "secret12"},
		{name: "same identity", response: "alice@example.org\x00alice@example.org\x00secret12", username: "alice@example.org", password: "secret12"},
		{name: "no domain", response: "\x00alice\x00secret12", username: "alice", password: "secret12"},
		{name: "UTF-8", response: "\x00jürgen@example.org\x00пароль", username: "jürgen@example.org", password: "пароль"},
		{name: "other identity", response: "bob@example.org\x00alice@example.org\x00secret12", err: ErrIdentity},
		{name: "empty", response: "", err: ErrMalformed},
		{name: "no NUL", response: "alice@example.org", err: ErrMalformed},
		{name: "one NUL", response: "alice@example.org\x00secret12", err: ErrMalformed},
		{name: "three NULs", response: "\x00alice@example.org\x00secret12\x00", err: ErrMalformed},
		{name: "no user", response: "\x00\x00secret12", err: ErrMalformed},
		{name: "no password", response: "\x00alice@example.org\x00", err: ErrMalformed},
		{name: "too long", response: "\x00alice@example.org\x00" + long, err: ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r recorder
			_, done, err := newServer(t, Plain, r.login).Next([]byte(tt.response))
			checkLogin(t, &r, Plain, tt.username, tt.password, done, err, tt.err)
		})
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		responses []string
		username  string
		password  string
		err       error
	}{
		{name: "both asked for", responses: []string{"alice@example.org", "secret12"}, username: "alice@example.org", password: "secret12"},
		{name: "empty user", responses: []string{""}, err: ErrMalformed},
		{name: "empty password", responses: []string{"alice@example.org", ""}, err: ErrMalformed},
		{name: "NUL in user", responses: []string{"alice\x00bob"}, err: ErrMalformed},
		{name: "NUL in password", responses: []string{"alice@example.org", "secret\x0012"}, err: ErrMalformed},
		{name: "long user", responses: []string{strings.Repeat("a", MaxResponse+1)}, err: ErrMalformed},
	}
	for _, tt := range tests {
		for _, initial := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				var r recorder
				s := newServer(t, Login, r.login)
				if !initial {
					challenge, done, err := s.Next(nil)
					if string(challenge) != "Username:" || done || err != nil {
						t.Fatalf("Next(nil) = %q, %v, %v", challenge, done, err)
					}
				}
				var done bool
				var err error
				for i, response := range tt.responses {
					var challenge []byte
					challenge, done, err = s.Next([]byte(response))
					if i == 0 && tt.err == nil && string(challenge) != "Password:" {
						t.Errorf("challenge %q, want Password:", challenge)
					}
				}
				checkLogin(t, &r, Login, tt.username, tt.password, done, err, tt.err)
			})
		}
	}
}

// checkLogin holds the end of an exchange against what it should be.
func checkLogin(t *testing.T, r *recorder, mechanism, username, password string, done bool, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Fatalf("error %v, want %v", err, want)
	}
	if want != nil {
		if done || len(r.got) > 0 {
			t.Errorf("done %v after an error, %d logins", done, len(r.got))
		}
		if strings.Contains(err.Error(), "secret12") {
			t.Errorf("the error shows the password: %v", err)
		}
		if code := mail.ReplyOf(err).Code; code != 501 && code != 535 {
			t.Errorf("reply %d", code)
		}
		return
	}
	if !done {
		t.Error("not done after the last response")
	}
	wanted := []*mail.Credentials{{Mechanism: mechanism, Username: username, Password: mail.Secret(password)}}
	if diff := cmp.Diff(wanted, r.got); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
}

func TestInitialResponse(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{Plain, ScramSHA256} {
		s, err := NewServer(mechanism, func(string) (mail.ScramKeys, error) { return mail.ScramKeys{}, nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			challenge, done, err := s.Next(nil)
			if challenge == nil || !bytes.Equal(challenge, []byte{}) || done || err != nil {
				t.Errorf("%s: Next(nil) = %q, %v, %v, want an empty challenge", mechanism, challenge, done, err)
			}
		}
	}
}

func TestLoginError(t *testing.T) {
	t.Parallel()
	r := recorder{err: errRefused}
	s := newServer(t, Plain, r.login)
	if _, done, err := s.Next([]byte("\x00alice@example.org\x00secret12")); !errors.Is(err, errRefused) || done {
		t.Errorf("Next = done %v, error %v, want the login's own", done, err)
	}
}

func TestAfterEnd(t *testing.T) {
	t.Parallel()
	response := []byte("\x00alice@example.org\x00secret12")
	for name, login := range map[string]error{"in": nil, "refused": errRefused} {
		r := recorder{err: login}
		s := newServer(t, Plain, r.login)
		_, _, _ = s.Next(response)
		if _, done, err := s.Next(response); !errors.Is(err, ErrMalformed) || done {
			t.Errorf("%s: second response: done %v, error %v", name, done, err)
		}
		if len(r.got) != 1 {
			t.Errorf("%s: %d logins in one exchange", name, len(r.got))
		}
	}
}

// TestLongUsername: no login sees a name that is longer than any address.
func TestLongUsername(t *testing.T) {
	t.Parallel()
	for _, length := range []int{MaxUsername, MaxUsername + 1} {
		name := strings.Repeat("u", length)
		for mechanism, responses := range map[string][]string{
			Plain: {"\x00" + name + "\x00secret12"},
			Login: {name, "secret12"},
		} {
			var r recorder
			s := newServer(t, mechanism, r.login)
			var err error
			for _, response := range responses {
				if err == nil {
					_, _, err = s.Next([]byte(response))
				}
			}
			if long := length > MaxUsername; errors.Is(err, ErrUsername) != long || len(r.got) > 0 == long {
				t.Errorf("%s with a name of %d bytes: error %v, %d logins", mechanism, length, err, len(r.got))
			}
			if err != nil && mail.ReplyOf(err).Code != 535 {
				t.Errorf("%s: reply %v, want that to a wrong password", mechanism, mail.ReplyOf(err))
			}
		}
	}
}
