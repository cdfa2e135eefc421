package totp_test

import (
	"crypto/tls"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	gosasl "github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/deliver"
	_ "github.com/mox-like/mox-like/modules/imap"
	_ "github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/tlscert"
	"github.com/mox-like/mox-like/modules/totp"
)

const source = `
server {
  hostname = "mx.example.test"
}
tls "self_signed" {}
domain "example.test" {}
chain "login" {
  password {}
  totp {}
}
listener "imap" "imap" {
  address = ["127.0.0.1:0"]
  limits { connections_per_network = 100 }
  chain {
    use "login" {}
  }
}
listener "smtp" "smtp" {
  address = ["127.0.0.1:0"]
  tls     = "implicit"
  auth    = "required"
  limits { connections_per_network = 100 }
  chain {
    use "login" {}
    deliver {}
  }
}
`

// house is a server with accounts.
type house struct {
	t        *testing.T
	server   *core.Server
	accounts *accounts.Accounts
	factors  *totp.Service

	mu  sync.Mutex
	now time.Time // guarded by mu
}

const password = "correct horse"

func serve(t *testing.T, users ...string) *house {
	t.Helper()
	h := &house{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	h.server = coretest.Serve(t, source, coretest.Options{Now: h.clock})
	h.accounts = coretest.Service[*accounts.Accounts](t, h.server)
	h.factors = coretest.Service[*totp.Service](t, h.server)
	for _, user := range users {
		if err := h.accounts.Add(t.Context(), user, password); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// step moves the clock to the next step.
func (h *house) step() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(30 * time.Second)
}

// code is what oathtool shows now.
func (h *house) code(e control.Enrolment) string {
	h.t.Helper()
	at := h.clock().UTC().Format("2006-01-02 15:04:05 UTC")
	out, err := exec.CommandContext(h.t.Context(), "oathtool", "--totp", "--base32", "--now", at, e.Secret.Reveal()).Output()
	if err != nil {
		h.t.Fatalf("run oathtool of the package oathtool: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// enrol gives a user a second factor.
func (h *house) enrol(user string, appendCode bool) control.Enrolment {
	h.t.Helper()
	e, err := h.factors.EnrolTOTP(h.t.Context(), user)
	if err != nil {
		h.t.Fatal(err)
	}
	err = errors.Join(h.factors.ConfirmTOTP(h.t.Context(), user, mail.Secret(h.code(e))), h.factors.SetAppendCode(h.t.Context(), user, appendCode))
	if err != nil {
		h.t.Fatal(err)
	}
	h.step()
	return e
}

// identifier is what makes the reply to each login another one.
var identifier = regexp.MustCompile(`[0-9a-hjkmnp-tv-z]{18}`)

// logIn logs in by a mechanism and gives the server's refusal, "" if it let the
// client in.
type logIn func(h *house, user, password string) string

func imapLogin(h *house, user, password string) string {
	c, err := imapclient.DialTLS(coretest.Address(h.t, h.server, "imap"), &imapclient.Options{TLSConfig: insecure()})
	if err != nil {
		h.t.Error(err)
		return "no connection"
	}
	defer func() { _ = c.Close() }()
	return refusal(c.Login(user, password).Wait())
}

func smtpPlain(h *house, user, password string) string {
	c, err := gosmtp.DialTLS(coretest.Address(h.t, h.server, "smtp"), insecure())
	if err != nil {
		h.t.Error(err)
		return "no connection"
	}
	defer func() { _ = c.Close() }()
	return refusal(c.Auth(gosasl.NewPlainClient("", user, password)))
}

func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}

func refusal(err error) string {
	var no *goimap.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &no):
		return "NO [" + string(no.Code) + "] " + no.Text
	default:
		return identifier.ReplaceAllString(err.Error(), "ID")
	}
}

var ways = map[string]logIn{"imap": imapLogin, "smtp": smtpPlain}

// TestLogins goes through what users with and without a second factor can log in
// with, and finds that all refusals look the same.
func TestLogins(t *testing.T) {
	t.Parallel()
	const plain, enrolled, appending, locked = "plain@example.test", "enrolled@example.test", "appending@example.test", "locked@example.test"
	h := serve(t, plain, enrolled, appending, locked)
	strict := h.enrol(enrolled, false)
	e := h.enrol(appending, true)
	l := h.enrol(locked, true)
	phone, _, err := h.accounts.AddAppPassword(t.Context(), control.AppPassword{Account: enrolled, Name: "phone", Scopes: []string{"imap"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 { // none of these can be right: each is right once at most
		_, _ = h.factors.VerifyTOTP(t.Context(), locked, "000000")
	}
	tests := []struct {
		name     string
		user     string
		password func() string
		in       func(way string) bool
	}{
		{"no second factor", plain, func() string { return password }, always},
		{"no second factor, wrong password", plain, func() string { return "correct horsf" }, never},
		{"no second factor, digits behind", plain, func() string { return password + "123456" }, never},
		{"unknown user", "nobody@example.test", func() string { return password }, never},
		{"own password", enrolled, func() string { return password }, never},
		{"own password again", enrolled, func() string { return password }, never},
		{"own password and code, not asked for", enrolled, func() string { return password + h.code(strict) }, never},
		{"wrong password", enrolled, func() string { return "correct horsf" }, never},
		{"app password for imap", enrolled, phone.Reveal, func(way string) bool { return way == "imap" }},
		{"own password without the code", appending, func() string { return password }, never},
		{"wrong code", appending, func() string { return password + "12345x" }, never},
		{"code alone", appending, func() string { return h.code(e) }, never},
		{"wrong password and right code", appending, func() string { return "correct horsf" + h.code(e) }, never},
		{"right code", appending, func() string { h.step(); return password + h.code(e) }, always},
		{"wrong recovery code", appending, func() string { return password + "aaaa-aaaa-aaaa-aaaa" }, never},
		{"codes are closed", locked, func() string { h.step(); return password + h.code(l) }, never},
	}
	for way, logIn := range ways {
		refused := logIn(h, plain, "wrong password")
		if !strings.Contains(refused, "Authentication credentials invalid") {
			t.Fatalf("%s: refusal %q", way, refused)
		}
		for _, tt := range tests {
			want := refused
			if tt.in(way) {
				want = ""
			}
			if got := logIn(h, tt.user, tt.password()); got != want {
				t.Errorf("%s, %s: %q, want %q", way, tt.name, got, want)
			}
		}
		recovery := password + e.RecoveryCodes[0].Reveal()
		e.RecoveryCodes = e.RecoveryCodes[1:]
		if first, second := logIn(h, appending, recovery), logIn(h, appending, recovery); first != "" || second != refused {
			t.Errorf("%s, recovery code: %q, again %q", way, first, second)
		}
	}
}

func always(string) bool { return true }
func never(string) bool  { return false }

// TestOneCodeAtOnce uses one code from 50 connections at once, of both protocols.
func TestOneCodeAtOnce(t *testing.T) {
	t.Parallel()
	const user = "user@example.test"
	h := serve(t, user)
	e := h.enrol(user, true)
	for _, way := range []string{"imap", "smtp"} {
		h.step()
		secret := password + h.code(e)
		const many = 50
		answers := make(chan string, many)
		for range many {
			go func() { answers <- ways[way](h, user, secret) }()
		}
		in := 0
		for range many {
			if answer := <-answers; answer == "" {
				in++
			} else if !strings.Contains(answer, "Authentication credentials invalid") {
				t.Errorf("%s: %s", way, answer)
			}
		}
		if in != 1 {
			t.Errorf("%s: one code let %d connections in", way, in)
		}
	}
	records, err := h.server.Traces().Last(t.Context(), 1)
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	if reason := why(records[0]); !strings.Contains(reason, "used already") && !strings.Contains(reason, "code of the step") {
		t.Errorf("the trace says %q", reason)
	}
}

// why gives what the last handler said.
func why(r *trace.Record) string { return r.Entries[len(r.Entries)-1].Reason }

// TestScram finds that a proof of the own password is good for those only who have
// no second factor, since no code can go with it, and one of an app password for
// all.
func TestScram(t *testing.T) {
	t.Parallel()
	const plain, appending = "plain@example.test", "appending@example.test"
	h := serve(t, plain, appending)
	h.enrol(appending, true)
	app := func(user, scope string) string {
		t.Helper()
		secret, _, err := h.accounts.AddAppPassword(t.Context(), control.AppPassword{Account: user, Name: scope, Scopes: []string{scope}})
		if err != nil {
			t.Fatal(err)
		}
		return secret.Reveal()
	}
	const in, out = "", "Authentication credentials invalid"
	for _, tt := range []struct{ name, user, password, want string }{
		{"own password", plain, password, in},
		{"own password with a second factor", appending, password, out},
		{"app password", plain, app(plain, "smtp"), in},
		{"app password with a second factor", appending, app(appending, "smtp"), in},
		{"app password for imap", appending, app(appending, "imap"), out},
		{"wrong password", appending, "correct horsf", out},
	} {
		c, err := gosmtp.DialTLS(coretest.Address(t, h.server, "smtp"), insecure())
		if err != nil {
			t.Fatal(err)
		}
		if got := refusal(c.Auth(newScram(t, tt.user, tt.password))); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		_ = c.Close()
	}
}

// scramClient is a client of SCRAM-SHA-256 that is not ours.
type scramClient struct{ conversation *scram.ClientConversation }

func newScram(t *testing.T, user, password string) gosasl.Client {
	t.Helper()
	c, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	return &scramClient{c.NewConversation()}
}

func (c *scramClient) Start() (mechanism string, response []byte, err error) {
	first, err := c.conversation.Step("")
	return "SCRAM-SHA-256", []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	response, err := c.conversation.Step(string(challenge))
	return []byte(response), err
}
