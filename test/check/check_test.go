// Package check_test tries messages on servers with real modules.
package check_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/check"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/standard"
)

const configuration = `
server {
  hostname = "mx.example.test"
}
tls "self_signed" {}
domain "example.test" {
  aliases = { "sales" = ["alice"] }
  dkim {
    selector = "s2026"
    key_file = "KEY"
  }
}
domain "strict.example.test" {
  settings "spf" { fail = "reject" }
  settings "greylist" { delay = "10m" }
}
listener "smtp" "mx" {
  address          = "127.0.0.1:0"
  max_message_size = "64KB"
  max_recipients   = 4
  chain {
    blocklist {}
    ratelimit "pace" {
      key   = ["ip"]
      limit = "3/1h"
      stage = ["rcpt"]
    }
    spf { fail = "tag" }
    greylist { except = ["198.51.100.0/24"] }
    dkim_verify {}
    dmarc {}
    authres {}
    deliver {}
  }
}
listener "smtp" "submission" {
  address = "127.0.0.1:0"
  tls     = "required"
  auth    = "required"

  max_recipients = 3
  chain {
    password {}
    dkim_sign { on_error = "defer" }
    deliver {}
  }
}
listener "smtp" "tls" {
  address = "127.0.0.1:0"
  tls     = "implicit"
  chain {
    deliver {}
  }
}
listener "admin" "api" {
  address = "unix:api.sock"
}
`

const zone = `
$ORIGIN example.org.
@      IN TXT "v=spf1 ip4:192.0.2.1 ip4:198.51.100.1 -all"
@      IN MX  10 mail
mail   IN A   192.0.2.1
mail   IN TXT "v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all"
_dmarc IN TXT "v=DMARC1; p=reject"
$ORIGIN example.com.
@      IN TXT "v=spf1 -all"
`

const message = "From: Bob <bob@example.org>\r\nTo: alice@example.test\r\nSubject: Hello\r\nDate: Sun, 1 Nov 2026 12:00:00 +0000\r\nMessage-ID: <a@example.org>\r\n\r\nHello\r\n"

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// site is a server and its clock.
type site struct {
	*core.Server
	ops  *control.Local
	time atomic.Pointer[time.Time]
}

func serve(t *testing.T) *site {
	t.Helper()
	s := new(site)
	s.time.Store(&noon)
	dir := filepath.Join(t.TempDir(), "data")
	s.Server = coretest.Serve(t, strings.Replace(configuration, "KEY", keyFile(t), 1), coretest.Options{DataDir: dir, Now: func() time.Time { return *s.time.Load() }})
	s.ops = control.NewLocal(s.Server, dir, nil)
	for _, user := range []string{"alice@example.test", "carol@strict.example.test"} {
		if err := s.ops.AddUser(t.Context(), user, mail.Secret("correct horse battery")); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// keyFile writes a key that signs.
func keyFile(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// at makes it later.
func (s *site) at(now time.Time) { s.time.Store(&now) }

// try tries the message.
func (s *site) try(t *testing.T, r check.Request, text string) *check.Result {
	t.Helper()
	result, _, err := s.ops.Check(t.Context(), r, strings.NewReader(text))
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return result
}

// request is one by which the message is accepted, but for the greylist.
func request(change func(*check.Request)) check.Request {
	r := check.Request{
		Listener: "mx", IP: netip.MustParseAddr("198.51.100.1"), Helo: "mail.example.org", From: "bob@example.org",
		To: []string{"alice@example.test"}, Now: noon, Zone: zone,
	}
	if change != nil {
		change(&r)
	}
	return r
}

func ip(text string) func(*check.Request) {
	return func(r *check.Request) { r.IP = netip.MustParseAddr(text) }
}

func TestChain(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if err := s.ops.AddBlock(t.Context(), control.Block{Network: netip.MustParsePrefix("203.0.113.0/24"), Reason: "spam"}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		change   func(*check.Request)
		text     string
		replies  []string // of the stages from the first that says anything else than the usual
		accepted bool
		says     []string // some entry of the trace
		further  []string // replies in the transaction for those that were put off
	}{
		{
			name: "accepted", accepted: true, replies: []string{"250 2.0.0 OK: kept as ID"},
			says: []string{"spf: MAIL bob@example.org: pass", "dmarc: example.org: pass", "deliver: would be stored in INBOX of alice@example.test"},
		},
		{
			name: "alias", change: func(r *check.Request) { r.To = []string{"Sales@example.test"} }, accepted: true,
			replies: []string{"250 2.0.0 OK: kept as ID"}, says: []string{"deliver: goes to alice@example.test"},
		},
		{
			name: "null reverse-path", change: func(r *check.Request) { r.From = "<>" }, accepted: true,
			replies: []string{"250 2.0.0 OK: kept as ID"}, says: []string{"deliver: would be stored"},
		},
		{
			name: "greylisted", change: ip("192.0.2.200"),
			replies: []string{"451 4.7.1 Greylisted, try again in 300 seconds (id ID)"}, says: []string{"greylist: ", "first seen"},
		},
		{
			name: "SPF fails", change: func(r *check.Request) { r.IP, r.From = netip.MustParseAddr("198.51.100.7"), "bob@example.com" }, accepted: true,
			replies: []string{"250 2.0.0 OK: kept as ID"}, says: []string{"spf: MAIL bob@example.com: fail"}, text: strings.ReplaceAll(message, "example.org", "example.net"),
		},
		{
			name: "settings of another domain", change: func(r *check.Request) {
				r.IP, r.From, r.To = netip.MustParseAddr("198.51.100.7"), "bob@example.com", []string{"carol@strict.example.test"}
			},
			replies: []string{"550 5.7.23 *"}, says: []string{"spf: MAIL bob@example.com: fail"},
		},
		{
			name: "recipients of two domains", change: func(r *check.Request) {
				r.To = []string{"alice@example.test", "nobody@example.test", "carol@strict.example.test"}
			},
			replies: []string{"550 5.1.1 There is no such mailbox here (id ID)", "452 4.5.3 *", "250 2.0.0 OK: kept as ID"}, says: []string{"settings differ from those of alice@example.test"},
			further: []string{"250 2.0.0 OK: kept as ID"},
		},
		{
			name: "too many recipients", change: func(r *check.Request) {
				r.Listener, r.User, r.To = "submission", "alice@example.test", slices.Repeat([]string{"alice@example.test", "sales@example.test"}, 2)
			},
			accepted: true, replies: []string{"452 4.5.3 *", "250 2.0.0 OK: kept as ID"}, further: []string{"250 2.0.0 OK: kept as ID"},
		},
		{name: "TLS from the first byte on", change: func(r *check.Request) { r.Listener = "tls" }, accepted: true, replies: []string{"250 2.0.0 OK: kept as ID"}},
		{
			name: "DMARC fails", change: ip("198.51.100.7"), text: message,
			replies: []string{"550 5.7.*"}, says: []string{"dmarc: example.org: fail"},
		},
		{
			name: "blocked", change: ip("203.0.113.9"),
			replies: []string{"554 5.7.1 *"}, says: []string{"blocklist: 203.0.113.0/24 is blocked by admin: spam"},
		},
		{
			name: "unknown recipient", change: func(r *check.Request) { r.To = []string{"nobody@example.test"} },
			replies: []string{"550 5.1.1 There is no such mailbox here (id ID)"}, says: []string{"deliver: no account"},
		},
		{
			name: "another server's", change: func(r *check.Request) { r.To = []string{"x@example.net"} },
			replies: []string{"550 5.7.1 Relaying denied (id ID)"}, says: []string{"deliver: the domain does not live here"},
		},
		{
			name: "over the rate", change: func(r *check.Request) { r.To = slices.Repeat([]string{"alice@example.test"}, 4) },
			replies: []string{"450 4.7.1 Too many recipients, try again in * seconds (id ID)", "250 2.0.0 OK: kept as ID"}, says: []string{"3 in 1h, limit is 3/1h"},
		},
		{name: "too large", text: message + strings.Repeat("x\r\n", 30_000), replies: []string{"552 5.3.4 Message is larger than this server takes (id ID)"}},
		{name: "bare LF", text: message + "bare\n", replies: []string{"554 5.5.2 *"}},
		{name: "login needed", change: func(r *check.Request) { r.Listener, r.TLS = "submission", true }, replies: []string{"530 5.7.0 Authentication required (id ID)"}},
		{name: "TLS needed", change: func(r *check.Request) { r.Listener = "submission" }, replies: []string{"530 5.7.0 Must issue a STARTTLS command first (id ID)"}},
		{
			name: "logged in", change: func(r *check.Request) { r.Listener, r.User = "submission", "Alice@Example.test" },
			text:     strings.Replace(message, "bob@example.org", "alice@example.test", 1),
			accepted: true, replies: []string{"250 2.0.0 OK: kept as ID"}, says: []string{"deliver: would be stored", "dkim_sign: signed for example.test by s2026 "},
		},
		{
			name: "two From fields", change: func(r *check.Request) { r.Listener, r.TLS, r.User = "submission", true, "alice@example.test" },
			text: "From: a@example.test\r\n" + message, replies: []string{"554 5.6.0 The message needs one From field (id ID)"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(tt.change)
			text := tt.text
			if text == "" {
				text = message
			}
			result := s.try(t, r, text)
			if result.Accepted != tt.accepted {
				t.Errorf("accepted: %v", result.Accepted)
			}
			if diff := cmp.Diff(tt.replies, repliesOf(result, tt.replies)); diff != "" {
				t.Errorf("replies (-want +got):\n%s\n%+v", diff, result.Record.Entries)
			}
			var further []string
			for _, one := range result.Further {
				further = append(further, repliesOf(one, nil)...)
				further[len(further)-1] = strings.ReplaceAll(further[len(further)-1], one.Record.ID, "ID")
			}
			if diff := cmp.Diff(tt.further, further); diff != "" {
				t.Errorf("replies in further transactions (-want +got):\n%s", diff)
			}
			for _, want := range tt.says {
				if !slices.ContainsFunc(result.Record.Entries, func(e mail.Entry) bool { return strings.Contains(e.Handler+": "+e.Reason, want) }) {
					t.Errorf("no entry says %q: %+v", want, result.Record.Entries)
				}
			}
			if again := s.try(t, r, text); !cmp.Equal(result, again, cmpopts.IgnoreUnexported(mail.Settings{}), cmpopts.EquateComparable(netip.Addr{})) {
				t.Errorf("the same again gives something else:\n%+v\n%+v", result, again)
			}
		})
	}
	if list, err := s.ops.LastTraces(t.Context(), 10); err != nil || len(list) != 0 {
		t.Errorf("the checks left %d traces, %v", len(list), err)
	}
	if list, _, err := s.ops.Triplets(t.Context(), control.TripletFilter{}, control.Page{}); err != nil || len(list) != 0 {
		t.Errorf("the checks left %d triplets, %v", len(list), err)
	}
	if n := messages(t, s, "alice@example.test"); n != 0 {
		t.Errorf("the checks left %d messages", n)
	}
}

// repliesOf gives the replies that are not the usual, and the last one: with ID in
// the place of the identifier, and cut where the wanted ones have a star.
func repliesOf(r *check.Result, want []string) (list []string) {
	for i, one := range r.Replies {
		if last := i == len(r.Replies)-1; !last && strings.HasPrefix(one.Reply, "2") {
			continue
		}
		text := strings.ReplaceAll(one.Reply, r.Record.ID, "ID")
		if n := len(list); n < len(want) {
			before, after, ok := strings.Cut(want[n], "*")
			if ok && strings.HasPrefix(text, before) && strings.HasSuffix(text, after) {
				text = want[n]
			}
		}
		list = append(list, text)
	}
	return list
}

func messages(t *testing.T, s *site, account string) int {
	t.Helper()
	boxes := coretest.Service[*mailbox.Service](t, s.Server)
	a, err := boxes.Open(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	usage, err := a.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(usage.Messages)
}

// send is what a client really does, up to the recipients, and gives the last reply.
func send(t *testing.T, s *site, from string, to ...string) string {
	t.Helper()
	c, err := smtp.Dial(coretest.Address(t, s.Server, "mx"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	last := "250"
	err = c.Hello("mail.example.org")
	if err == nil {
		err = c.Mail(from)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range to {
		last = "250"
		if err := c.Rcpt(address); err != nil {
			last = err.Error()
		}
	}
	return last
}

// TestState finds that checks see what mail has left, and leave nothing to mail.
func TestState(t *testing.T) {
	t.Parallel()
	s := serve(t)
	local := request(func(r *check.Request) { r.IP, r.Helo = netip.MustParseAddr("127.0.0.1"), "mail.example.org" })
	final := func(r check.Request) string {
		result := s.try(t, r, message)
		return repliesOf(result, nil)[0]
	}
	const passes = "250 2.0.0 OK: kept as ID"
	at := func(r check.Request, d time.Duration) check.Request { r.Now = noon.Add(d); return r }
	if got := final(at(local, time.Hour)); !strings.HasPrefix(got, "451 4.7.1 Greylisted, try again in 300 seconds") {
		t.Errorf("before any mail: %s", got)
	}
	// One of three recipients an hour, and the first sight of a triplet.
	if got := send(t, s, "bob@example.org", "alice@example.test"); !strings.HasPrefix(got, "451") {
		t.Fatalf("first attempt: %s", got)
	}
	for name, step := range map[string]struct {
		after time.Duration
		want  string
	}{
		"too early": {4 * time.Minute, "451 4.7.1 Greylisted, try again in 60 seconds (id ID)"},
		"in time":   {6 * time.Minute, passes},
		"too late":  {72 * time.Hour, "451 4.7.1 Greylisted, try again in 300 seconds (id ID)"},
	} {
		if got := final(at(local, step.after)); got != step.want {
			t.Errorf("%s: %s, want %s", name, got, step.want)
		}
	}
	// Two more have room; a check asks for three, again and again.
	three := at(local, 6*time.Minute)
	three.To = slices.Repeat(three.To, 3)
	for range 3 {
		result := s.try(t, three, message)
		if got := repliesOf(result, []string{"450 *"}); len(got) != 2 || got[0] != "450 *" || got[1] != passes {
			t.Fatalf("three recipients: %q", got)
		}
	}
	s.at(noon.Add(6 * time.Minute))
	if got := send(t, s, "bob@example.org", "alice@example.test", "alice@example.test"); got != "250" {
		t.Errorf("second and third recipient: %s", got)
	}
	if got := send(t, s, "bob@example.org", "alice@example.test"); !strings.HasPrefix(got, "450") {
		t.Errorf("fourth recipient: %s", got)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, change := range map[string]func(*check.Request){
		`there is no listener "nx"; those of the configuration are: mx, submission, tls, api`: func(r *check.Request) { r.Listener = "nx" },
		`the client has no address`:         func(r *check.Request) { r.IP = netip.Addr{} },
		`is nothing that a client can say`:  func(r *check.Request) { r.Helo = "a b" },
		`reverse-path "bob@@x"`:             func(r *check.Request) { r.From = "bob@@x" },
		`recipient "x@"`:                    func(r *check.Request) { r.To = []string{"x@"} },
		`the message has 0 recipients`:      func(r *check.Request) { r.To = nil },
		`there is no user eve@example.test`: func(r *check.Request) { r.User = "eve@example.test" },
		`read zone: dns: `:                  func(r *check.Request) { r.Zone = "a IN NONSENSE\n" },
		`read zone: it has $GENERATE`:       func(r *check.Request) { r.Zone = "$GENERATE 1-60000 a$ A 192.0.2.1\n" },
		`by the listener "api", whose kind is admin; it does by: mx, submission, tls`: func(r *check.Request) { r.Listener = "api" },
	} {
		_, _, err := s.ops.Check(t.Context(), request(change), strings.NewReader(message))
		if !errors.Is(err, control.ErrInvalid) || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.ops.Check(ctx, request(nil), strings.NewReader(message)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
