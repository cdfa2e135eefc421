package mailbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

const alice, bob = "alice@example.test", "bob@example.test"

// newService gives a mailbox store on disk.
func newService(t testing.TB) *Service {
	t.Helper()
	return coretest.Service[*Service](t, coretest.New(t, coretest.Options{OnDisk: true}))
}

func rendering(t testing.TB, raw string) *mail.Rendering {
	t.Helper()
	tx := mail.NewTransaction("id", new(mail.Session), time.Time{})
	var err error
	if tx.Message, err = mail.NewMessage([]byte(raw)); err != nil {
		t.Fatalf("make message: %v", err)
	}
	r, err := tx.Rendered()
	if err != nil {
		t.Fatalf("render message: %v", err)
	}
	return r
}

var received = time.Date(2026, 11, 3, 10, 0, 0, 0, time.FixedZone("", 3600))

// deliver stores a message in the INBOX of some accounts.
func deliver(t testing.TB, s *Service, raw string, accounts ...string) {
	t.Helper()
	d := Delivery{Message: rendering(t, raw), Received: received}
	for _, a := range accounts {
		d.Recipients = append(d.Recipients, Target{Account: a})
	}
	if err := s.Deliver(t.Context(), d); err != nil {
		t.Fatalf("deliver: %v", err)
	}
}

// note is a small message.
func note(n int) string {
	return crlf(fmt.Sprintf("Message-ID: <note%d@example.org>\nFrom: Carol <carol@example.org>\nTo: alice@example.test\nSubject: note %d\nDate: Tue, 3 Nov 2026 10:00:00 +0100\n\nThis is note %d.\n", n, n, n))
}

func open(t testing.TB, s *Service, address string) *Account {
	t.Helper()
	a, err := s.Open(t.Context(), address)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return a
}

func selectMailboxOf(t testing.TB, a *Account, name string) *View {
	t.Helper()
	v, err := a.Select(t.Context(), name, nil)
	if err != nil {
		t.Fatalf("select %s: %v", name, err)
	}
	t.Cleanup(v.Close)
	return v
}

// withNotes gives the INBOX of alice with n notes in it.
func withNotes(t testing.TB, n int) (*Service, *Account, *View) {
	t.Helper()
	s := newService(t)
	for i := range n {
		deliver(t, s, note(i+1), alice)
	}
	a := open(t, s, alice)
	return s, a, selectMailboxOf(t, a, "inbox")
}

// poll gives the changes in the form of IMAP's responses.
func poll(t testing.TB, v *View, allowExpunge bool) []string {
	t.Helper()
	var list []string
	err := v.Poll(t.Context(), allowExpunge, func(c Change) error {
		list = append(list, c.String())
		return nil
	})
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	return list
}

func (c Change) String() string {
	switch c.Kind {
	case ChangeExpunge:
		return fmt.Sprintf("%d EXPUNGE", c.SeqNum)
	case ChangeExists:
		return fmt.Sprintf("%d EXISTS", c.SeqNum)
	case ChangeKeywords:
		return fmt.Sprintf("FLAGS +%d", len(c.Flags)-len(systemFlags)-len(strings.Fields(firstKeywords)))
	default:
		return fmt.Sprintf("%d FETCH (UID %d FLAGS %s)", c.SeqNum, c.UID, flagText(c.Flags))
	}
}

func flagText(list []imap.Flag) string {
	words := make([]string, len(list))
	for i, f := range list {
		words[i] = string(f)
	}
	slices.Sort(words)
	return "(" + strings.Join(words, " ") + ")"
}

// mark changes flags and gives what each was told.
func mark(t testing.TB, v *View, set imap.NumSet, op imap.StoreFlagsOp, list ...imap.Flag) []string {
	t.Helper()
	var told []string
	_, err := v.Store(t.Context(), set, &imap.StoreFlags{Op: op, Flags: list}, nil, func(c Change) error {
		told = append(told, c.String())
		return nil
	})
	if err != nil {
		t.Fatalf("store flags: %v", err)
	}
	return told
}

func expunge(t testing.TB, v *View, uids *imap.UIDSet) {
	t.Helper()
	if err := v.Expunge(t.Context(), uids); err != nil {
		t.Fatalf("expunge: %v", err)
	}
}

// fetch collects what a Fetch gives, as one line a message.
func fetch(t testing.TB, v *View, set imap.NumSet, items Items, line func(*Message) string) []string {
	t.Helper()
	var list []string
	err := v.Fetch(t.Context(), set, items, func(m *Message) error {
		list = append(list, line(m))
		return nil
	})
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	return list
}

// all is 1:*.
var all = imap.SeqSet{{Start: 1, Stop: 0}}

func uidsOf(t testing.TB, v *View) []string {
	t.Helper()
	return fetch(t, v, all, Items{}, func(m *Message) string { return fmt.Sprint(m.UID) })
}

// read runs a query for one row of integers.
func read(t testing.TB, s *Service, query string) []int64 {
	t.Helper()
	var values []int64
	err := s.store.Read(t.Context(), func(sn *store.Snapshot) error {
		n := strings.Count(query[:strings.Index(query, " FROM ")], ",") + 1
		values = make([]int64, n)
		dest := make([]any, n)
		for i := range values {
			dest[i] = &values[i]
		}
		return sn.QueryRow(query).Scan(dest...)
	})
	if err != nil {
		t.Fatalf("query: %v", err)
	}
	return values
}

// sweep runs the sweeper to its end.
func sweep(t testing.TB, s *Service) {
	t.Helper()
	if err := s.sweep(t.Context()); err != nil {
		t.Fatalf("sweep: %v", err)
	}
}

// code gives the response code of an error, "" if it has none.
func code(err error) imap.ResponseCode {
	if refused, ok := errors.AsType[*imap.Error](err); ok {
		return refused.Code
	}
	return ""
}
