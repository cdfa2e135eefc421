package quarantine

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/mailbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const (
	alice = "alice@example.test"
	bob   = "bob@example.test"
	carol = "carol@example.com"
)

// kit is the module in a sandbox with some accounts.
type kit struct {
	*coretest.Clock
	sandbox *core.Sandbox
	service *Service
	mail    *mailbox.Service
	n       int
}

const domains = `
server {
  hostname = "mx.example.test"
}
domain "example.test" {}
domain "example.com" {}
`

// newKit makes the service and the accounts.
func newKit(t testing.TB) *kit {
	t.Helper()
	k := &kit{Clock: coretest.NewClock(start)}
	k.sandbox = coretest.New(t, coretest.Options{Now: k.Now, Source: domains, OnDisk: true})
	k.service = coretest.Service[*Service](t, k.sandbox)
	k.mail = coretest.Service[*mailbox.Service](t, k.sandbox)
	addAccounts(t, k.sandbox)
	return k
}

// addAccounts makes the accounts without the cost of passwords.
func addAccounts(t testing.TB, h core.Host) {
	t.Helper()
	service := coretest.Service[*accounts.Accounts](t, h)
	for _, address := range []string{alice, bob, carol} {
		if err := service.Add(t.Context(), address, "a long enough password"); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *kit) load(t testing.TB, settings string) *Quarantine {
	t.Helper()
	return coretest.Load[*Quarantine](t, k.sandbox, "handler.quarantine", "quarantine {\n"+settings+"\n}")
}

// event is what a transaction of a test is made of.
type event struct {
	from    string // the field From
	subject string
	by      string // the handlers that quarantined it, "" for scanner
	results []mail.AuthResult
	to      []*mail.Recipient
}

// to makes a recipient with its accounts.
func to(t testing.TB, address string, accounts ...string) *mail.Recipient {
	t.Helper()
	a, err := mail.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	return &mail.Recipient{Address: a, Accounts: accounts, Target: "deliver"}
}

// transaction makes one that is quarantined.
func (k *kit) transaction(t testing.TB, e event) *mail.Transaction {
	t.Helper()
	k.n++
	if e.from == "" {
		e.from = "Eve <eve@example.org>"
	}
	if e.subject == "" {
		e.subject = "Number 1"
	}
	if e.by == "" {
		e.by = "scanner"
	}
	if e.to == nil {
		e.to = []*mail.Recipient{to(t, alice, alice)}
	}
	session := &mail.Session{ID: "session", Listener: "mx", RemoteAddr: netip.MustParseAddrPort("192.0.2.7:4711")}
	tx := mail.NewTransaction(fmt.Sprintf("%018d", k.n), session, k.Now())
	tx.Stage = mail.StageData
	tx.Envelope.ReversePath = mail.Address{LocalPart: "bounce", Domain: "example.org"}
	tx.Envelope.Recipients = e.to
	m, err := mail.NewMessage([]byte("Return-Path: <forged@example.net>\r\nFrom: " + e.from + "\r\nSubject: " + e.subject + "\r\nMessage-ID: <1@example.org>\r\n\r\nHello.\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tx.Message = m
	for _, r := range e.results {
		tx.SetAuthResult(r)
	}
	tx.SetScore("scanner", 7.5)
	tx.AddTag("seen")
	tx.SetQuarantine("score 7.5 is over 5")
	tx.Entries = append(tx.Entries, mail.Entry{Stage: mail.StageData, Handler: e.by, Action: mail.ActionQuarantine, Reason: "score 7.5 is over 5"})
	return tx
}

// hold has a message held and gives its id.
func (k *kit) hold(t testing.TB, q *Quarantine, e event) string {
	t.Helper()
	tx := k.transaction(t, e)
	v, err := q.Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionAccept {
		t.Fatalf("%v, %v; want it to be held", v, err)
	}
	return tx.ID
}

// texts gives the messages in the INBOX of an account.
func texts(t testing.TB, service *mailbox.Service, account string) []string {
	t.Helper()
	a, err := service.Open(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.Select(t.Context(), "INBOX", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var list []string
	var all imap.SeqSet
	all.AddRange(1, 0)
	err = v.Fetch(t.Context(), all, mailbox.Items{Body: true}, func(m *mailbox.Message) error {
		body, err := m.OpenBody(t.Context())
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		raw, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		list = append(list, string(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// inbox counts the messages in INBOX.
func (k *kit) inbox(t testing.TB, account string) int {
	t.Helper()
	return len(texts(t, k.mail, account))
}

// held lists what is held.
func held(t testing.TB, s *Service, f control.HeldFilter) []control.Held {
	t.Helper()
	list, _, err := s.Held(t.Context(), f, control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ids gives the ids of messages.
func ids(list []control.Held) []string {
	var names []string
	for _, h := range list {
		names = append(names, h.ID)
	}
	return names
}

// query reads one number.
func query(t testing.TB, st *store.Store, text string) (n int64) {
	t.Helper()
	err := st.Read(t.Context(), func(sn *store.Snapshot) error { return sn.QueryRow(text).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// consistent holds what is counted against what is there: no body without an owner,
// and the sizes of all domains.
func (k *kit) consistent(t testing.TB) {
	t.Helper()
	st := k.sandbox.Store()
	for what, wrong := range map[string]string{
		"messages without shares": `SELECT count(*) FROM quarantine_messages m WHERE NOT EXISTS (SELECT 1 FROM quarantine_shares WHERE message = m.id)`,
		"shares without messages": `SELECT count(*) FROM quarantine_shares WHERE message NOT IN (SELECT id FROM quarantine_messages)`,
		"bodies with wrong references": `SELECT count(*) FROM body b WHERE refs <> (SELECT count(*) FROM quarantine_messages WHERE body_id = b.id) +
			(SELECT count(*) FROM mailbox_contents WHERE body_id = b.id)`,
		"messages without a body": `SELECT count(*) FROM quarantine_messages WHERE body_id NOT IN (SELECT id FROM body)`,
		"bytes of the server":     `SELECT (SELECT coalesce(sum(size + 2048), 0) + 300 * (SELECT count(*) FROM quarantine_shares) FROM quarantine_messages) - (SELECT coalesce(sum(bytes), 0) FROM quarantine_sizes WHERE domain = '')`,
		"bytes of the domains": `SELECT (SELECT coalesce(sum(size + 2048), 0) + 300 * (SELECT count(*) FROM quarantine_shares) FROM (SELECT DISTINCT message, domain FROM quarantine_shares) s JOIN quarantine_messages m ON m.id = s.message)
			- (SELECT coalesce(sum(bytes), 0) FROM quarantine_sizes WHERE domain <> '' AND domain NOT LIKE '%@%')`,
		"bytes of the accounts": `SELECT count(*) FROM quarantine_sizes z FULL JOIN (SELECT account, count(*) AS messages, sum(size + 2048 + 300) AS bytes
			FROM quarantine_shares s JOIN quarantine_messages m ON m.id = s.message WHERE account <> '' GROUP BY account) a ON a.account = z.domain
			WHERE coalesce(z.domain, '@') LIKE '%@%' AND (a.bytes IS NOT z.bytes OR a.messages IS NOT z.messages)`,
	} {
		if n := query(t, st, wrong); n != 0 {
			t.Errorf("%s: %d", what, n)
		}
	}
	if n := query(t, st, `SELECT coalesce(sum(messages), 0) FROM quarantine_sizes WHERE domain = ''`); n != k.service.messages.Load() {
		t.Errorf("%d messages are counted, %d are there", k.service.messages.Load(), n)
	}
	if n := query(t, st, `SELECT coalesce(sum(bytes), 0) FROM quarantine_sizes WHERE domain = ''`); n != k.service.bytes.Load() {
		t.Errorf("%d bytes are counted, %d are there", k.service.bytes.Load(), n)
	}
}

// result is what a method has found about a domain.
func result(method, word, kind, name, value string) mail.AuthResult {
	return mail.AuthResult{Method: method, Result: word, Properties: []mail.Property{{Type: kind, Name: name, Value: value}}}
}

// dmarcPass vouches for example.org.
func dmarcPass() []mail.AuthResult {
	return []mail.AuthResult{result("dmarc", "pass", "header", "from", "example.org")}
}
