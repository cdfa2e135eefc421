package smtp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"github.com/xdg-go/scram"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// login is a judge that knows alice.
func login(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage != mail.StageAuth {
		return mail.Verdict{}, nil
	}
	c := tx.Credentials
	right := c.Password == "secret"
	if c.Proof != nil {
		keys, err := alice{}.ScramKeys(ctx, c.Username)
		if err != nil {
			return mail.Verdict{}, err
		}
		right = c.Proof.Verify(keys.StoredKey, keys.ServerKey)
	}
	switch {
	case c.Username == "slow@example.test":
		return mail.Defer(mail.NewReply(454, 7, 0, "Temporary authentication failure"), "backend is down"), nil
	case c.Username == "alice@example.test" && right:
		tx.Authenticate(c.Username)
		return mail.Continue("password is right"), nil
	default:
		return mail.Reject(mail.NewReply(535, 7, 8, "Authentication credentials invalid"), "wrong password"), nil
	}
}

// alice has SCRAM keys.
type alice struct{}

func (alice) ScramKeys(_ context.Context, username string) (mail.ScramKeys, error) {
	if username == "broken@example.test" {
		return mail.ScramKeys{}, errors.New("database is gone")
	}
	client, err := scram.SHA256.NewClient("alice@example.test", "secret", "")
	if err != nil {
		return mail.ScramKeys{}, err
	}
	salt := []byte("salt of sixteen.")
	c, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: 4096})
	if err != nil {
		return mail.ScramKeys{}, err
	}
	return mail.ScramKeys{Salt: salt, Iterations: 4096, StoredKey: c.StoredKey, ServerKey: c.ServerKey}, nil
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

const underTLS = "TLS\n" + `
	<- 220 *
	-> EHLO client.example.org
	<-- 250 SIZE *
`

func TestAuth(t *testing.T) {
	t.Parallel()
	good := b64("\x00alice@example.test\x00secret")
	bad := b64("\x00alice@example.test\x00wrong")
	const optional, required = "tls = \"implicit\"\nauth = \"optional\"", "tls = \"implicit\"\nauth = \"required\""
	for _, test := range []struct{ name, body, script string }{
		{"off", `tls = "implicit"`, underTLS + `
			-> AUTH PLAIN ` + good + `
			<- 503 5.5.1 Authentication is not available here`},
		{"not offered in the clear", `auth = "optional"`, `
			<- 220 *
			-> EHLO client.example.org
			<- 250-mx.example.test greets client.example.org
			<- 250-PIPELINING
			<- 250-8BITMIME
			<- 250-ENHANCEDSTATUSCODES
			<- 250-CHUNKING
			<- 250-STARTTLS
			<- 250-SMTPUTF8
			<- 250 SIZE 25000000
			-> AUTH PLAIN ` + good + `
			<- 538 5.7.11 Encryption required, send STARTTLS first
			-> STARTTLS
			<- 220 *
			TLS
			-> EHLO client.example.org
			<-- 250-AUTH SCRAM-SHA-256 PLAIN LOGIN
			<-- 250 SIZE *
			-> AUTH PLAIN ` + good + `
			<- 235 2.7.0 Authentication succeeded`},
		{"needs EHLO", optional, `
			TLS
			<- 220 *
			-> AUTH PLAIN ` + good + `
			<- 503 5.5.1 Send EHLO or HELO first`},
		{"PLAIN with an initial response", optional, underTLS + `
			-> AUTH PLAIN ` + good + `
			<- 235 2.7.0 Authentication succeeded
			-> AUTH PLAIN ` + good + `
			<- 503 5.5.1 Already authenticated
			-> EHLO client.example.org
			<- 250-mx.example.test greets client.example.org
			<- 250-PIPELINING
			<- 250-8BITMIME
			<- 250-ENHANCEDSTATUSCODES
			<- 250-CHUNKING
			<- 250-SMTPUTF8
			<- 250 SIZE 25000000`},
		{"PLAIN in two steps", optional, underTLS + `
			-> auth plain
			<- 334 *
			-> ` + good + `
			<- 235 *`},
		{"LOGIN", optional, underTLS + `
			-> AUTH LOGIN
			<- 334 ` + b64("Username:") + `
			-> ` + b64("alice@example.test") + `
			<- 334 ` + b64("Password:") + `
			-> ` + b64("secret") + `
			<- 235 *`},
		{"LOGIN with an initial response", optional, underTLS + `
			-> AUTH LOGIN ` + b64("alice@example.test") + `
			<- 334 ` + b64("Password:") + `
			-> ` + b64("secret") + `
			<- 235 *`},
		{"wrong, then right", optional, underTLS + `
			-> AUTH PLAIN ` + bad + `
			<- 535 5.7.8 Authentication credentials invalid (id ID)
			-> AUTH PLAIN ` + good + `
			<- 235 *`},
		{"user name that no address has", optional, underTLS + `
			-> AUTH PLAIN ` + b64("\x00"+strings.Repeat("a", 321)+"\x00secret") + `
			<- 535 5.7.8 Authentication credentials invalid`},
		{"backend is down", optional, underTLS + `
			-> AUTH PLAIN ` + b64("\x00slow@example.test\x00secret") + `
			<- 454 4.7.0 Temporary authentication failure (id ID)`},
		{"keys cannot be read", optional, underTLS + `
			-> AUTH SCRAM-SHA-256 ` + b64("n,,n=broken@example.test,r=abc") + `
			<- 454 4.7.0 Temporary authentication failure, try again later`},
		{"cancelled", optional, underTLS + `
			-> AUTH PLAIN
			<- 334 *
			-> *
			<- 501 5.7.0 Authentication cancelled
			-> NOOP
			<- 250 *`},
		{"not base64", optional, underTLS + `
			-> AUTH PLAIN
			<- 334 *
			-> ???
			<- 501 5.5.2 Cannot decode base64
			-> AUTH PLAIN ???
			<- 501 5.5.2 Cannot decode base64
			-> AUTH PLAIN =
			<- 501 5.5.2 Cannot read the authentication response`},
		{"syntax", optional, underTLS + `
			-> AUTH
			<- 501 5.5.4 Syntax: AUTH mechanism [initial-response]
			-> AUTH CRAM-MD5
			<- 504 5.5.4 Unrecognized authentication mechanism`},
		{"response of 12 KB", optional, underTLS + `
			-> AUTH PLAIN
			<- 334 *
			-> ` + strings.Repeat("A", 12284) + `
			<- 501 5.5.2 Cannot read the authentication response
			-> AUTH PLAIN
			<- 334 *
			-> ` + strings.Repeat("A", 12288) + `
			<- 500 5.5.2 Line too long
			-> NOOP
			<- 250 *`},
		{"not within a message", optional, underTLS + envelope + `
			-> AUTH PLAIN ` + good + `
			<- 503 5.5.1 No authentication within a message`},
		{"required", required, underTLS + `
			-> MAIL FROM:<alice@example.test>
			<- 530 5.7.0 Authentication required (id ID)
			-> RCPT TO:<alice@example.test>
			<- 503 5.5.1 Send MAIL first
			-> AUTH PLAIN ` + good + `
			<- 235 *
			` + envelope},
		{"one cannot act for another", optional, underTLS + `
			-> AUTH PLAIN ` + b64("bert@example.test\x00alice@example.test\x00secret") + `
			<- 535 5.7.8 Authentication failed`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			newKit(t, options{body: test.body, judge: login, scram: alice{}}).dialog(t, test.script)
		})
	}
}

// scramClient is a SASL client made of a SCRAM library that is not this
// project's.
type scramClient struct{ conversation *scram.ClientConversation }

func (c scramClient) Start() (mechanism string, response []byte, err error) {
	first, err := c.conversation.Step("")
	return "SCRAM-SHA-256", []byte(first), err
}

func (c scramClient) Next(challenge []byte) ([]byte, error) {
	response, err := c.conversation.Step(string(challenge))
	return []byte(response), err
}

func TestScram(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		password string
		code     int
	}{{"secret", 0}, {"wrong", 535}} {
		t.Run(test.password, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: "tls = \"implicit\"\nauth = \"optional\"", judge: login, scram: alice{}})
			c := gosmtp.NewClient(tls.Client(k.dial(t), clientTLS()))
			client, err := scram.SHA256.NewClient("alice@example.test", test.password, "")
			if err != nil {
				t.Fatal(err)
			}
			conversation := client.NewConversation()
			err = c.Auth(scramClient{conversation})
			var refused *gosmtp.SMTPError
			if errors.As(err, &refused) != (test.code != 0) || refused != nil && refused.Code != test.code {
				t.Fatalf("got %v, want code %d", err, test.code)
			}
			if conversation.Valid() != (test.code == 0) {
				t.Errorf("the server's proof is right: %t", conversation.Valid())
			}
		})
	}
}

// TestUser pins that the user is the session's only once the exchange is over,
// and that traces of all attempts are left.
func TestUser(t *testing.T) {
	t.Parallel()
	var users []string
	k := newKit(t, options{body: "tls = \"implicit\"\nauth = \"optional\"", scram: alice{}, judge: func(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		if tx.Stage == mail.StageMail {
			users = append(users, tx.Session.User)
		}
		return login(ctx, tx)
	}})
	k.dialog(t, underTLS+`
		-> MAIL FROM:<>
		<- 250 *
		-> RSET
		<- 250 *
		-> AUTH PLAIN `+b64("\x00alice@example.test\x00wrong")+`
		<- 535 *
		-> AUTH PLAIN `+b64("\x00alice@example.test\x00secret")+`
		<- 235 *
		-> MAIL FROM:<>
		<- 250 *
		-> QUIT
		<- 221 *
		EOF
	`)
	if diff := cmp.Diff([]string{"", "alice@example.test"}, users); diff != "" {
		t.Errorf("users at MAIL (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]trace.Kind{trace.KindLogin, trace.KindLogin, trace.KindSession}, k.traces.kinds()); diff != "" {
		t.Errorf("traces (-want +got):\n%s", diff)
	}
}
