package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// people are the accounts of a test, the oldest first.
type people []string

func (p people) Exists(_ context.Context, address string) (bool, error) {
	if address == "broken@example.org" {
		return false, errors.New("accounts cannot be asked")
	}
	return slices.Contains(p, address), nil
}

func (p people) First(_ context.Context, domain string) (string, error) {
	for _, address := range p {
		if strings.HasSuffix(address, "@"+domain) {
			return address, nil
		}
	}
	return "", nil
}

// memory keeps what is delivered.
type memory struct {
	deliveries []mailbox.Delivery
	err        error
}

func (m *memory) Deliver(_ context.Context, d mailbox.Delivery) error {
	if m.err == nil {
		m.deliveries = append(m.deliveries, d)
	}
	return m.err
}

const domains = `
server {
  hostname = "mx.example.org"
  %s
}
domain "example.org" {
  aliases = {
    "Sales"   = ["alice", "bob", "nobody"]
    "all"     = ["sales", "carol@example.net", "alice"]
    "alice"   = ["alice", "bob"]
    "lost"    = ["nobody"]
    "tagged"  = ["bob+lists"]
    "many"    = [%s]
    "many-more" = ["many", "alice"]
  }
}
domain "example.net" {
  aliases   = { "postmaster" = ["carol"] }
  catch_all = "carol"
}
domain "empty.example" {
  catch_all = "info@example.org"
}
domain "desert.example" {}
domain "ghost.example" {
  aliases = {
    "postmaster" = ["nobody"]
  }
}
`

// newDeliver makes the handler for the domains above.
func newDeliver(t *testing.T, server string, p people) (*Deliver, *memory) {
	t.Helper()
	var many []string
	for i := range maxAccounts {
		many = append(many, fmt.Sprintf("%q", fmt.Sprint("user", i)))
	}
	sandbox := coretest.New(t, coretest.Options{OnDisk: true, Source: fmt.Sprintf(domains, server, strings.Join(many, ", "))})
	m := new(memory)
	d := &Deliver{name: "deliver", now: time.Now, domains: sandbox.Domains(), accounts: p, mailboxes: m, log: zap.NewNop()}
	d.readAliases()
	if len(d.problems) > 0 {
		t.Fatalf("problems: %v", d.problems)
	}
	return d, m
}

func rcpt(t *testing.T, d *Deliver, address string) (*mail.Transaction, mail.Verdict, error) {
	t.Helper()
	local := netip.MustParseAddrPort("192.0.2.25:25")
	tx := mail.NewTransaction("id", &mail.Session{LocalAddr: local}, time.Time{})
	tx.Stage = mail.StageRcpt
	a, err := mail.ParseAddress(address)
	if err != nil {
		t.Fatalf("parse %q: %v", address, err)
	}
	tx.Recipient = &mail.Recipient{Address: a}
	v, err := d.Handle(t.Context(), tx)
	return tx, v, err
}

var everybody = people{"bob@example.org", "alice@example.org", "carol@example.net", "dave+x@example.org", "info@example.org"}

func TestRcpt(t *testing.T) {
	t.Parallel()
	d, _ := newDeliver(t, "", everybody)
	tests := map[string]struct {
		address string
		want    string // accounts, or the reply
	}{
		"account":                       {"bob@example.org", "bob@example.org"},
		"account in capitals":           {"BOB@EXAMPLE.ORG", "bob@example.org"},
		"subaddress":                    {"bob+tag@example.org", "bob@example.org"},
		"account with a plus":           {"dave+x@example.org", "dave+x@example.org"},
		"subaddress of nobody":          {"dave+y@example.org", "550 5.1.1"},
		"alias":                         {"sales@example.org", "alice@example.org bob@example.org"},
		"alias with subaddress":         {"SALES+x@example.org", "alice@example.org bob@example.org"},
		"alias of aliases":              {"all@example.org", "alice@example.org bob@example.org carol@example.net"},
		"alias that names itself":       {"alice@example.org", "alice@example.org bob@example.org"},
		"alias to a subaddress":         {"tagged@example.org", "bob@example.org"},
		"alias to nobody":               {"lost@example.org", "550 5.1.1"},
		"unknown":                       {"nobody@example.org", "550 5.1.1"},
		"catch_all":                     {"anybody@example.net", "carol@example.net"},
		"catch_all in another domain":   {"anybody@empty.example", "info@example.org"},
		"another server's domain":       {"bob@example.com", "continue"},
		"postmaster by alias":           {"postmaster@example.net", "carol@example.net"},
		"postmaster by age":             {"Postmaster@example.org", "bob@example.org"},
		"postmaster before catch_all":   {"postmaster@empty.example", "bob@example.org"},
		"postmaster without accounts":   {"postmaster@desert.example", "bob@example.org"},
		"bare postmaster":               {"postmaster", "bob@example.org"},
		"postmaster alias to nobody":    {"postmaster@ghost.example", "bob@example.org"},
		"postmaster at the host":        {"postmaster@mx.example.org", "bob@example.org"},
		"postmaster at our literal":     {"postmaster@[192.0.2.25]", "bob@example.org"},
		"postmaster at another literal": {"postmaster@[192.0.2.26]", "continue"},
		"bob at our literal":            {"bob@[192.0.2.25]", "continue"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx, v, err := rcpt(t, d, test.address)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			switch v.Action {
			case mail.ActionAccept:
				found := tx.Recipient.Accounts
				got = strings.Join(slices.Sorted(slices.Values(found)), " ")
			case mail.ActionReject:
				got = v.Reply.String()[:len("550 5.1.1")]
			default:
				got = v.Action.String()
			}
			if got != test.want {
				t.Errorf("%s: %s, want %s", test.address, got, test.want)
			}
		})
	}
}

// Mail to an alias of which a part leads to nobody goes to the others, and says
// so.
func TestAliasLeadsToNobody(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	d, _ := newDeliver(t, "", everybody)
	d.log = zap.New(core)
	_, v, err := rcpt(t, d, "sales@example.org")
	if err != nil || v.Action != mail.ActionAccept || !strings.Contains(v.Reason, "leads to nobody@example.org, which has no account") {
		t.Errorf("sales: %v, %v", v, err)
	}
	_, v, err = rcpt(t, d, "lost@example.org")
	if err != nil || v.Action != mail.ActionReject || !strings.Contains(v.Reason, "leads to nobody@example.org, which has no account") {
		t.Errorf("lost: %v, %v", v, err)
	}
	if n := logs.Len(); n != 1 {
		t.Errorf("%d warnings, want that of the mail to sales", n)
	}
}

func TestServerPostmaster(t *testing.T) {
	t.Parallel()
	d, _ := newDeliver(t, `postmaster = "sales@example.org"`, everybody)
	for address, want := range map[string]string{"postmaster@desert.example": "alice@example.org bob@example.org", "postmaster@example.net": "carol@example.net"} {
		tx, _, err := rcpt(t, d, address)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(tx.Recipient.Accounts, " "); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestTooManyAccounts(t *testing.T) {
	t.Parallel()
	p := people{"alice@example.org"}
	for i := range maxAccounts {
		p = append(p, fmt.Sprintf("user%d@example.org", i))
	}
	d, _ := newDeliver(t, "", p)
	tx, _, err := rcpt(t, d, "many@example.org")
	if err != nil || len(tx.Recipient.Accounts) != maxAccounts {
		t.Errorf("the limit itself: %v", err)
	}
	_, v, err := rcpt(t, d, "many-more@example.org")
	if err != nil || v.Reply.String()[:9] != "550 5.2.4" {
		t.Errorf("one more: %v, %v", v, err)
	}
}

func TestAccountsCannotBeAsked(t *testing.T) {
	t.Parallel()
	d, _ := newDeliver(t, "", everybody)
	if _, _, err := rcpt(t, d, "broken@example.org"); err == nil {
		t.Error("no error")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	sandbox := coretest.New(t, coretest.Options{OnDisk: true, Source: `
server {
  hostname = "mx.example.org"
}
domain "example.org" {
  aliases = {
    "a"    = ["b"]
    "b"    = ["c"]
    "c"    = ["a", "c"]
    "far"  = ["x@example.com"]
    "odd"  = ["x@@y"]
    "self" = ["self"]
  }
  catch_all = "y@example.com"
}
`})
	d := &Deliver{domains: sandbox.Domains()}
	d.readAliases()
	var got []string
	for _, p := range d.Validate() {
		got = append(got, p.Message)
	}
	want := []string{
		"alias far of domain example.org leads to x@example.com, but example.com does not live here; name an address of a domain of this server",
		`alias odd of domain example.org: "x@@y" is not a local-part or an address: the part after the @ is not a domain name`,
		"catch_all of domain example.org leads to y@example.com, but example.com does not live here; name an address of a domain of this server",
		"alias a of domain example.org leads back to itself by way of c@example.org; take one of the two out",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// message is a transaction at the data stage for some recipients.
func message(t *testing.T, d *Deliver, addresses ...string) *mail.Transaction {
	t.Helper()
	tx := mail.NewTransaction("id", new(mail.Session), time.Time{})
	for _, address := range addresses {
		one, v, err := rcpt(t, d, address)
		if err != nil || v.Action != mail.ActionAccept {
			t.Fatalf("rcpt %s: %v, %v", address, v, err)
		}
		one.Recipient.Target = d.name
		tx.Envelope.Recipients = append(tx.Envelope.Recipients, one.Recipient)
	}
	var err error
	tx.Message, err = mail.NewMessage([]byte("Return-Path: <forged@example.com>\r\nSubject: x\r\n\r\nbody\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tx.Envelope.ReversePath = mail.Address{LocalPart: "sender", Domain: "example.com"}
	tx.Stage = mail.StageData
	return tx
}

func text(t *testing.T, d mailbox.Delivery) string {
	t.Helper()
	b, err := io.ReadAll(d.Message.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestData(t *testing.T) {
	t.Parallel()
	d, m := newDeliver(t, "", everybody)
	tx := message(t, d, "sales@example.org", "bob@example.org", "anybody@example.net")
	other := &mail.Recipient{Target: "queue"}
	tx.Envelope.Recipients = append(tx.Envelope.Recipients, other)
	v, err := d.Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionAccept {
		t.Fatalf("data: %v, %v", v, err)
	}
	if len(m.deliveries) != 1 {
		t.Fatalf("%d deliveries", len(m.deliveries))
	}
	want := []mailbox.Target{{Account: "alice@example.org"}, {Account: "bob@example.org"}, {Account: "carol@example.net"}}
	if diff := cmp.Diff(want, m.deliveries[0].Recipients); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
	if got := text(t, m.deliveries[0]); got != "Return-Path: <sender@example.com>\r\nSubject: x\r\n\r\nbody\r\n" {
		t.Errorf("message is %q", got)
	}
	for i, r := range tx.Envelope.Recipients {
		if r.Delivered != (r != other) {
			t.Errorf("recipient %d: delivered is %v", i, r.Delivered)
		}
	}
	// What another target sends on must not have our field.
	if r, err := tx.Rendered(); err != nil || strings.Contains(string(r.Head()), "Return-Path") {
		t.Errorf("header section after the delivery: %s, %v", r.Head(), err)
	}
}

func TestQuarantinedGoesToJunk(t *testing.T) {
	t.Parallel()
	d, m := newDeliver(t, "", everybody)
	tx := message(t, d, "bob@example.org")
	tx.Envelope.ReversePath = mail.Address{}
	tx.SetQuarantine("spam")
	if _, err := d.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]mailbox.Target{{Account: "bob@example.org", Mailbox: "Junk"}}, m.deliveries[0].Recipients); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
	if got := text(t, m.deliveries[0]); !strings.HasPrefix(got, "Return-Path: <>\r\n") {
		t.Errorf("message is %q", got)
	}
}

func TestDiscardedIsNotStored(t *testing.T) {
	t.Parallel()
	d, m := newDeliver(t, "", everybody)
	tx := message(t, d, "bob@example.org")
	tx.SetDiscard()
	if v, err := d.Handle(t.Context(), tx); err != nil || v.Action != mail.ActionAccept {
		t.Errorf("data: %v, %v", v, err)
	}
	if len(m.deliveries) != 0 {
		t.Error("a discarded message was stored")
	}
}

func TestStoringFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want string
	}{
		"disk full": {fmt.Errorf("write: %w", store.ErrFull), "452 4.3.1"},
		"other":     {errors.New("broken"), "451 4.3.0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, m := newDeliver(t, "", everybody)
			tx := message(t, d, "bob@example.org")
			m.err = test.err
			_, err := d.Handle(t.Context(), tx)
			if got := mail.ReplyOf(err).String()[:9]; got != test.want || !errors.Is(err, test.err) {
				t.Errorf("error %v with the reply %s, want %s", err, got, test.want)
			}
			if tx.Envelope.Recipients[0].Delivered {
				t.Error("the recipient counts as delivered")
			}
		})
	}
}

func TestAccountRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	d, m := newDeliver(t, "", everybody)
	tx := message(t, d, "sales@example.org", "carol@example.net")
	d.accounts = people{"alice@example.org"}
	v, err := d.Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionDefer || len(m.deliveries) != 0 {
		t.Errorf("data: %v, %v, %d deliveries", v, err, len(m.deliveries))
	}
	// One of several behind an alias is no reason to refuse the others.
	tx = message(t, d, "sales@example.org")
	if _, err := d.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]mailbox.Target{{Account: "alice@example.org"}}, m.deliveries[0].Recipients); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
}

// TestWithServices delivers through the modules of this build.
func TestWithServices(t *testing.T) {
	t.Parallel()
	sandbox := coretest.New(t, coretest.Options{OnDisk: true})
	people := coretest.Service[*accounts.Accounts](t, sandbox)
	if err := people.Add(t.Context(), "alice@example.test", "a long password"); err != nil {
		t.Fatal(err)
	}
	d := coretest.Load[*Deliver](t, sandbox, "handler.deliver", `deliver {}`)
	tx := message(t, d, "Alice+x@example.test")
	if v, err := d.Handle(t.Context(), tx); err != nil || v.Action != mail.ActionAccept {
		t.Fatalf("data: %v, %v", v, err)
	}
	account, err := coretest.Service[*mailbox.Service](t, sandbox).Open(t.Context(), "alice@example.test")
	if err != nil {
		t.Fatal(err)
	}
	status, err := account.Status(t.Context(), "INBOX", &imap.StatusOptions{NumMessages: true})
	if err != nil || *status.NumMessages != 1 {
		t.Errorf("status: %v, %v", status, err)
	}
}

// TestAccountRemovedBeforeTheWrite removes an account after the handler has asked
// whether it exists.
func TestAccountRemovedBeforeTheWrite(t *testing.T) {
	t.Parallel()
	sandbox := coretest.New(t, coretest.Options{OnDisk: true})
	residents := coretest.Service[*accounts.Accounts](t, sandbox)
	boxes := coretest.Service[*mailbox.Service](t, sandbox)
	d := coretest.Load[*Deliver](t, sandbox, "handler.deliver", `deliver {}`)
	d.accounts = people{"alice@example.test"}
	_, err := d.Handle(t.Context(), message(t, d, "alice@example.test"))
	if got := mail.ReplyOf(err).String()[:9]; got != "451 4.3.0" {
		t.Errorf("error %v with the reply %s", err, got)
	}
	if _, err := boxes.Open(t.Context(), "alice@example.test"); !errors.Is(err, mailbox.ErrGone) {
		t.Errorf("open: %v", err)
	}
	if err := residents.Add(t.Context(), "alice@example.test", "a long password"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Handle(t.Context(), message(t, d, "alice@example.test")); err != nil {
		t.Errorf("deliver to the account that exists now: %v", err)
	}
}
