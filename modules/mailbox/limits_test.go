package mailbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/store"
)

// exec changes the database behind the service's back.
func exec(t testing.TB, s *Service, query string, args ...any) {
	t.Helper()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}))
}

func TestTransferOfMany(t *testing.T) {
	t.Parallel()
	s, _, v := withNotes(t, 1)
	ctx := t.Context()
	const n = 1 << 12
	for poll(t, v, true); v.NumMessages() < n; poll(t, v, true) {
		if _, err := v.Copy(ctx, all, "INBOX"); err != nil {
			t.Fatal(err)
		}
	}
	groups := s.store.Stats().Groups
	data, err := v.Move(ctx, all, "Archive")
	must(t, err)
	same(t, "moved", imap.UIDSet{{Start: 1, Stop: n}}, data.DestUIDs)
	same(t, "from", imap.UIDSet{{Start: 1, Stop: n}}, data.SourceUIDs)
	if steps := s.store.Stats().Groups - groups; steps < n/moveStep {
		t.Errorf("%d messages were moved in %d steps", n, steps)
	}
	same(t, "counters", []int64{0, n, n}, read(t, s, "SELECT min(messages), max(messages), sum(messages) FROM mailbox_mailboxes"))
	same(t, "expunged ranges", []int64{1, 1, n}, read(t, s, "SELECT count(*), min(first_uid), max(last_uid) FROM mailbox_expunged"))
	if got := len(poll(t, v, true)); got != n {
		t.Errorf("poll told of %d expunges", got)
	}
}

func TestCopyOfTooMany(t *testing.T) {
	t.Parallel()
	_, _, v := withNotes(t, 1)
	uidsOf(t, v)
	for uid := uint32(2); uid <= maxCopy+1; uid++ {
		v.entries = append(v.entries, entry{uid: uid})
	}
	v.told = len(v.entries)
	if data, err := v.Copy(t.Context(), all, "Archive"); code(err) != imap.ResponseCodeLimit || data != nil {
		t.Errorf("copy of %d messages: %v", v.told, err)
	}
	if _, err := v.Copy(t.Context(), imap.SeqSet{{Start: 1, Stop: maxCopy}}, "Archive"); err != nil {
		t.Errorf("copy of as many as may be: %v", err)
	}
}

func TestDestinationIsDeletedWithinAMove(t *testing.T) {
	t.Parallel()
	_, a, v := withNotes(t, 2)
	ctx := t.Context()
	must(t, a.Create(ctx, "box", nil))
	spans, err := v.resolve(ctx, all)
	must(t, err)
	move := transfer{view: v, name: "box", move: true}
	pieces := split(spans, 1)
	_, err = move.run(ctx, pieces[:1])
	must(t, err)
	must(t, a.Delete(ctx, "box"))
	must(t, a.Create(ctx, "box", nil))
	if _, err = move.run(ctx, pieces[1:]); code(err) != imap.ResponseCodeTryCreate {
		t.Errorf("the rest of the move: %v", err)
	}
	poll(t, v, true)
	same(t, "what stayed", []string{"2"}, uidsOf(t, v))
}

func TestMessageLimits(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 2)
	ctx := t.Context()
	raw := note(3)
	copyTo := func(name string) error { _, err := v.Copy(ctx, all, name); return err }
	move := func(name string) error { _, err := v.Move(ctx, all, name); return err }
	store := func(name string) error {
		_, err := a.Append(ctx, name, strings.NewReader(raw), int64(len(raw)), nil)
		return err
	}
	deliver := func(name string) error {
		return s.Deliver(ctx, Delivery{Message: rendering(t, raw), Received: received, Recipients: []Target{{alice, name}}})
	}
	tests := map[string]struct {
		counted int // in Archive
		op      func(name string) error
		name    string
		want    imap.ResponseCode
	}{
		"copy":             {maxMessages - 1, copyTo, "Archive", imap.ResponseCodeLimit},
		"copy of the last": {maxMessages - 2, copyTo, "Archive", ""},
		"move":             {maxMessages - 1, move, "Archive", imap.ResponseCodeLimit},
		"append":           {maxMessages, store, "Archive", imap.ResponseCodeLimit},
		"delivery":         {maxMessages, deliver, "Archive", ""},
		"copy elsewhere":   {maxAccountMessages, copyTo, "Sent", imap.ResponseCodeLimit},
		"append elsewhere": {maxAccountMessages, store, "Sent", ""},
		"move to itself":   {maxMessages, move, "INBOX", ""},
	}
	for name, test := range tests {
		exec(t, s, "UPDATE mailbox_mailboxes SET messages = ? WHERE name = 'Archive'", test.counted)
		if err := test.op(test.name); code(err) != test.want || test.want == "" && err != nil {
			t.Errorf("%s: %v, want code %q", name, err, test.want)
		}
		poll(t, v, true)
	}
}

// residents are those who have an account.
type residents []string

func (r *residents) ExistsIn(_ store.Querier, address string) (bool, error) {
	return slices.Contains(*r, address), nil
}

func TestNobodysMail(t *testing.T) {
	t.Parallel()
	s := newService(t)
	people := residents{alice, bob}
	s.accounts = &people
	deliver(t, s, note(1), alice)
	people = residents{bob}
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.RemoveAccount(tx, alice) }))
	d := Delivery{Message: rendering(t, note(2)), Received: received, Recipients: []Target{{Account: bob}, {Account: alice}}}
	if err := s.Deliver(t.Context(), d); !errors.Is(err, ErrGone) {
		t.Errorf("deliver to an account that was removed: %v", err)
	}
	if _, err := s.Open(t.Context(), alice); !errors.Is(err, ErrGone) {
		t.Errorf("open an account that was removed: %v", err)
	}
	same(t, "accounts with mailboxes", []int64{0}, read(t, s, "SELECT count(*) FROM mailbox_accounts"))
	people = residents{alice, bob}
	same(t, "mail of the next alice", []string(nil), uidsOf(t, selectMailboxOf(t, open(t, s, alice), "INBOX")))
}

func TestUIDValidityIsNeverGivenTwice(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.now = func() time.Time { return received } // all in one second
	seen := make(map[uint32]bool)
	for range 3 {
		a := open(t, s, alice)
		for _, name := range []string{"INBOX", "Sent"} {
			validity := selectMailboxOf(t, a, name).Data().UIDValidity
			if seen[validity] {
				t.Errorf("UIDVALIDITY %d a second time, for %s", validity, name)
			}
			seen[validity] = true
		}
		must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.RemoveAccount(tx, alice) }))
	}
}

func TestSweepWithoutBody(t *testing.T) {
	t.Parallel()
	s, _, v := withNotes(t, 3)
	zapCore, logs := observer.New(zap.WarnLevel)
	s.log = zap.New(zapCore)
	exec(t, s, "DELETE FROM body WHERE id IN (SELECT body_id FROM mailbox_contents LIMIT 2)")
	mark(t, v, all, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, v, nil)
	sweep(t, s)
	same(t, "left", []int64{0}, read(t, s, "SELECT count(*) FROM mailbox_contents"))
	same(t, "bodies left", []int64{0}, read(t, s, "SELECT count(*) FROM body"))
	for _, entry := range logs.All() {
		if entry.Level == zap.WarnLevel {
			t.Errorf("the sweeper failed: %v", entry)
		}
	}
	if n := logs.FilterMessageSnippet("missing").Len(); n == 0 || n > 2 {
		t.Errorf("%d lines about the bodies", n)
	}
}

func TestLongHeaders(t *testing.T) {
	t.Parallel()
	long := func(word string) string { return strings.Repeat(word, 200<<10/len(word)) }
	var parts strings.Builder
	for i := range 20 {
		fmt.Fprintf(&parts, "--b\r\nContent-Type: text/plain; name=%s; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n%d\r\n", long("n"), i)
	}
	tests := map[string]string{
		"message-id":   "Message-ID: <" + long("i") + "END@example.org>\r\n\r\n",
		"subject":      "Subject: \u00e9" + long("word ") + "END\r\n\r\n",
		"one word":     "Subject: " + long("\u00e9") + "END\r\n\r\n",
		"references":   "References: " + long("<a@b> ") + "<END@example.org>\r\n\r\n",
		"to":           "To: " + long("a@example.org, ") + "b@END.example\r\n\r\n",
		"to, one name": "To: " + long("a") + "END <b@example.org>\r\n\r\n",
		"list-id":      "List-Id: " + long("l") + "END\r\n\r\n",
		"parts":        "Subject: END\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + parts.String() + "--b--\r\n",
		"nested":       "Subject: END\r\nContent-Type: message/rfc822\r\n\r\nSubject: " + long("s") + "\r\nFrom: " + long("f@example.org,") + "\r\n\r\nx\r\n",
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			deliver(t, s, raw, alice)
			size := read(t, s, "SELECT length(envelope) + length(structure) + length(fields) FROM mailbox_contents")[0]
			if size > maxAddresses+8*maxField+maxStructure || !strings.HasPrefix(name, "parts") && size > 2*maxAddresses {
				t.Errorf("the row has %d bytes", size)
			}
			v := selectMailboxOf(t, open(t, s, alice), "INBOX")
			field, _, _ := strings.Cut(raw, ":")
			for needle, want := range map[string]int{"end": 1, "nowhere": 0} {
				header := []imap.SearchCriteriaHeaderField{{Key: field, Value: needle}}
				found, err := v.Search(t.Context(), &imap.SearchCriteria{Header: header})
				must(t, err)
				same(t, "found by "+needle, want, len(found.Numbers))
				found, err = v.Search(t.Context(), &imap.SearchCriteria{Not: []imap.SearchCriteria{{Header: header}}})
				must(t, err)
				same(t, "found by not "+needle, 1-want, len(found.Numbers))
			}
			fetch(t, v, all, Items{BodyStructure: true}, func(m *Message) string {
				if e := m.Envelope(); strings.Contains(e.Subject, "\ufffd") || strings.Contains(e.Subject, "\u00c3") {
					t.Errorf("the subject was cut within a character: %q", e.Subject)
				}
				if p, ok := m.Part([]int{20}); name == "parts" && (!ok || p.Encoding != "base64") {
					t.Errorf("the last part: %+v", p)
				}
				return ""
			})
		})
	}
}

func TestExpungesAreJoined(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 8)
	drop := func(uid imap.UID) {
		t.Helper()
		set := imap.UIDSetNum(uid)
		mark(t, v, set, imap.StoreFlagsAdd, imap.FlagDeleted)
		expunge(t, v, &set)
	}
	ranges := func() int64 { return read(t, s, "SELECT count(*) FROM mailbox_expunged")[0] }
	drop(2)
	drop(3)
	drop(1)
	drop(6)
	same(t, "ranges", int64(2), ranges())
	// A view that has not looked at its messages yet keeps its numbering.
	late := selectMailboxOf(t, a, "INBOX") // 4 5 7 8
	drop(7)
	drop(8)
	same(t, "ranges for it", int64(3), ranges())
	same(t, "its second", []string{"5"}, fetch(t, late, imap.SeqSetNum(2), Items{}, func(m *Message) string { return fmt.Sprint(m.UID) }))
	same(t, "its poll", []string{"3 EXPUNGE", "3 EXPUNGE"}, poll(t, late, true))
	same(t, "poll", []string{"1 EXPUNGE", "1 EXPUNGE", "1 EXPUNGE", "3 EXPUNGE", "3 EXPUNGE", "3 EXPUNGE"}, poll(t, v, true))
	checkCounters(t, s)
}

func TestExpungesAreForgotten(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 8)
	loaded, late := selectMailboxOf(t, a, "INBOX"), selectMailboxOf(t, a, "INBOX")
	uidsOf(t, loaded)
	mark(t, v, imap.SeqSetNum(1, 3, 5, 8), imap.StoreFlagsAdd, imap.FlagDeleted)
	some := imap.UIDSetNum(1, 3, 5)
	expunge(t, v, &some)
	// Many more, of UIDs that no view has seen.
	exec(t, s, `INSERT INTO mailbox_expunged (mailbox_id, mod_seq, first_uid, last_uid)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		SELECT b.id, b.mod_seq + i, 1000000 + 2 * i, 1000000 + 2 * i FROM n, mailbox_mailboxes b WHERE b.name = 'INBOX'`, maxExpunged)
	exec(t, s, "UPDATE mailbox_mailboxes SET mod_seq = mod_seq + ?, expunged = expunged + ? WHERE name = 'INBOX'", maxExpunged, maxExpunged)
	deliver(t, s, note(9), alice)
	expunge(t, v, nil)
	same(t, "remembered", []int64{maxExpunged}, read(t, s, "SELECT expunged FROM mailbox_mailboxes WHERE name = 'INBOX'"))
	same(t, "forgotten", read(t, s, "SELECT min(mod_seq) - 1 FROM mailbox_expunged"), read(t, s, "SELECT forgotten FROM mailbox_mailboxes WHERE name = 'INBOX'"))
	checkCounters(t, s)
	same(t, "poll", []string{"1 EXPUNGE", "2 EXPUNGE", "3 EXPUNGE", "5 EXPUNGE", "5 EXISTS"}, poll(t, loaded, true))
	same(t, "messages", []string{"2", "4", "6", "7", "9"}, uidsOf(t, loaded))
	if err := late.Poll(t.Context(), true, nil); !errors.Is(err, ErrGone) {
		t.Errorf("poll of a view that cannot know what went: %v", err)
	}
}
