package sasl

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00alice@example.org\x00secret12"))
	f.Add([]byte("alice@example.org\x00alice@example.org\x00secret12"))
	f.Add([]byte("bob@example.org\x00alice@example.org\x00secret12"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, response []byte) {
		c, err := parsePlain(response)
		if err != nil {
			return
		}
		printed := "\x00" + c.Username + "\x00" + c.Password.Reveal()
		if !strings.HasSuffix(string(response), printed) || c.Username == "" || c.Password == "" {
			t.Errorf("%q was read as user %q and password %q", response, c.Username, c.Password.Reveal())
		}
	})
}

func FuzzLogin(f *testing.F) {
	f.Add([]byte("alice@example.org"), []byte("secret12"))
	f.Add([]byte(""), []byte("secret12"))
	f.Add([]byte("alice\x00"), []byte(""))
	f.Fuzz(func(t *testing.T, username, password []byte) {
		var r recorder
		s := newServer(t, Login, r.login)
		_, done, err := s.Next(append([]byte{}, username...))
		if done {
			t.Fatal("done without a password")
		}
		if err == nil {
			_, done, err = s.Next(append([]byte{}, password...))
		}
		if done != (err == nil) || done != (len(r.got) == 1) {
			t.Fatalf("done %v, error %v, %d logins", done, err, len(r.got))
		}
		if done && (r.got[0].Username != string(username) || r.got[0].Password != mail.Secret(password)) {
			t.Errorf("user %q, password %q", r.got[0].Username, r.got[0].Password.Reveal())
		}
	})
}

func FuzzScramFirst(f *testing.F) {
	f.Add("n,,n=alice@example.org,r=rOprNGfwEbeRWgbNEkqO")
	f.Add("y,a=alice=2Cb,n=alice=2Cb,r=abc,x=1")
	f.Add("p=tls-exporter,,n=alice@example.org,r=abc")
	f.Add("n,,m=1,n=alice,r=abc")
	f.Fuzz(func(t *testing.T, message string) {
		first, err := parseClientFirst(message)
		if err != nil {
			return
		}
		if first.header+first.bare != message {
			t.Errorf("%q was cut into %q and %q", message, first.header, first.bare)
		}
		name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(first.username)
		if !strings.HasPrefix(first.bare, "n="+name+",r="+first.nonce) || strings.ContainsAny(first.nonce, ", ") {
			t.Errorf("%q was read as user %q and nonce %q", first.bare, first.username, first.nonce)
		}
	})
}

func FuzzScramFinal(f *testing.F) {
	f.Add("c=biws,r=abcdef,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	f.Add("c=eSws,r=abcdef,x=1,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	f.Add("c=biws,r=abcdef,p=")
	f.Add(",p=")
	f.Fuzz(func(t *testing.T, message string) {
		final, err := parseClientFinal(message)
		if err != nil {
			return
		}
		if !strings.HasPrefix(message, final.withoutProof+",p=") || !strings.Contains(final.withoutProof, ",r="+final.nonce) {
			t.Errorf("%q was read as %q with nonce %q", message, final.withoutProof, final.nonce)
		}
	})
}
