package mailbox

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// checkCounters compares all counters with what they count.
func checkCounters(t testing.TB, s *Service) {
	t.Helper()
	queries := map[string]string{
		"mailboxes": `SELECT count(*) FROM mailbox_mailboxes b WHERE
			messages <> (SELECT count(*) FROM mailbox_messages m WHERE m.mailbox_id = b.id) OR
			unseen <> (SELECT count(*) FROM mailbox_messages m WHERE m.mailbox_id = b.id AND flags & 1 = 0) OR
			deleted <> (SELECT count(*) FROM mailbox_messages m WHERE m.mailbox_id = b.id AND flags & 8 <> 0) OR
			expunged <> (SELECT count(*) FROM mailbox_expunged e WHERE e.mailbox_id = b.id) OR
			bytes <> (SELECT coalesce(sum(size), 0) FROM mailbox_messages m WHERE m.mailbox_id = b.id) OR
			uid_next <= (SELECT coalesce(max(uid), 0) FROM mailbox_messages m WHERE m.mailbox_id = b.id) OR
			mod_seq < (SELECT coalesce(max(mod_seq), 0) FROM mailbox_messages m WHERE m.mailbox_id = b.id)`,
		"contents": `SELECT count(*) FROM mailbox_contents c WHERE
			refs <> (SELECT count(*) FROM mailbox_messages m WHERE m.content_id = c.id)`,
		"bodies": `SELECT count(*) FROM body b WHERE refs <> 1 OR NOT EXISTS (SELECT 1 FROM mailbox_contents c WHERE c.body_id = b.id)`,
		"uids that are there and expunged": `SELECT count(*) FROM mailbox_messages m JOIN mailbox_expunged e
			ON e.mailbox_id = m.mailbox_id AND m.uid BETWEEN e.first_uid AND e.last_uid`,
	}
	for name, query := range queries {
		if got := read(t, s, query)[0]; got != 0 {
			t.Errorf("counters of %d %s are wrong", got, name)
		}
	}
}

// client is what an IMAP client believes about its mailbox, from what it was
// told alone.
type client struct {
	view  *View
	known []string // flags of each message, "" if they were never told
	uids  []imap.UID
}

func newClient(t testing.TB, a *Account, name string) *client {
	t.Helper()
	v := selectMailboxOf(t, a, name)
	n := v.Data().NumMessages
	return &client{view: v, known: make([]string, n), uids: make([]imap.UID, n)}
}

func (c *client) poll(t testing.TB, allowExpunge bool) {
	t.Helper()
	err := c.view.Poll(t.Context(), allowExpunge, func(ch Change) error {
		i := int(ch.SeqNum) - 1
		switch ch.Kind {
		case ChangeExpunge:
			if c.uids[i] != 0 && c.uids[i] != ch.UID {
				t.Errorf("expunge of number %d, which is UID %d and not %d", ch.SeqNum, c.uids[i], ch.UID)
			}
			c.known, c.uids = slices.Delete(c.known, i, i+1), slices.Delete(c.uids, i, i+1)
		case ChangeExists:
			if int(ch.SeqNum) <= len(c.known) {
				t.Errorf("exists %d, but %d are known", ch.SeqNum, len(c.known))
			}
			for len(c.known) < int(ch.SeqNum) {
				c.known, c.uids = append(c.known, ""), append(c.uids, 0)
			}
		case ChangeFlags:
			c.learn(t, ch.SeqNum, ch.UID, ch.Flags)
		case ChangeKeywords:
		}
		return nil
	})
	if err != nil {
		t.Errorf("poll: %v", err)
	}
}

func (c *client) learn(t testing.TB, number uint32, uid imap.UID, flags []imap.Flag) {
	t.Helper()
	i := int(number) - 1
	if c.uids[i] != 0 && c.uids[i] != uid {
		t.Errorf("number %d is UID %d, and was %d", number, uid, c.uids[i])
	}
	c.uids[i], c.known[i] = uid, flagText(flags)
}

func (c *client) fetch(t testing.TB, set imap.NumSet) {
	t.Helper()
	err := c.view.Fetch(t.Context(), set, Items{}, func(m *Message) error {
		c.learn(t, m.SeqNum, m.UID, m.Flags)
		return nil
	})
	if err != nil {
		t.Errorf("fetch: %v", err)
	}
}

// truth gives what the database has.
func truth(t testing.TB, v *View) (uids []imap.UID, flagsOf map[imap.UID]string) {
	t.Helper()
	flagsOf = make(map[imap.UID]string)
	err := v.account.service.store.Read(t.Context(), func(sn *store.Snapshot) error {
		row, err := v.row(sn)
		if err != nil {
			return err
		}
		return v.readEntries(sn, "SELECT uid, flags, mod_seq FROM mailbox_messages WHERE mailbox_id = ? AND uid >= ? ORDER BY uid", 0, func(e entry) {
			uids = append(uids, imap.UID(e.uid))
			flagsOf[imap.UID(e.uid)] = flagText(row.keywords.list(e.flags))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return uids, flagsOf
}

// verify polls and compares what the client believes with the truth.
func (c *client) verify(t testing.TB) {
	t.Helper()
	c.poll(t, true)
	uids, flagsOf := truth(t, c.view)
	if len(uids) != len(c.uids) {
		t.Fatalf("the client knows of %d messages, and there are %d", len(c.uids), len(uids))
	}
	for i, uid := range uids {
		if c.uids[i] != 0 && c.uids[i] != uid {
			t.Errorf("number %d is UID %d for the client, and is %d", i+1, c.uids[i], uid)
		}
		if c.known[i] != "" && c.known[i] != flagsOf[uid] {
			t.Errorf("UID %d has the flags %s for the client, and has %s", uid, c.known[i], flagsOf[uid])
		}
	}
}

func randomSet(r *rand.Rand, n int) imap.NumSet {
	if r.IntN(4) == 0 {
		return all
	}
	var set imap.SeqSet
	for range 1 + r.IntN(3) {
		begin := uint32(1 + r.IntN(n+1))
		set = append(set, imap.SeqRange{Start: begin, Stop: begin + uint32(r.IntN(4))})
	}
	return set
}

var randomFlags = []imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, "$Junk", "own"}

// step does one thing that a client may do.
func (c *client) step(t testing.TB, r *rand.Rand, boxes []string) {
	t.Helper()
	ctx := t.Context()
	set := randomSet(r, len(c.known))
	var err error
	switch r.IntN(9) {
	case 0, 1:
		flags := &imap.StoreFlags{Op: imap.StoreFlagsOp(r.IntN(3)), Flags: randomFlags[r.IntN(len(randomFlags)):]}
		each := func(ch Change) error { c.learn(t, ch.SeqNum, ch.UID, ch.Flags); return nil }
		var o *imap.StoreOptions
		if r.IntN(3) == 0 {
			o = &imap.StoreOptions{UnchangedSince: uint64(max(c.view.modSeq-int64(r.IntN(3)), 1))}
		}
		_, err = c.view.Store(ctx, set, flags, o, each)
	case 2:
		err = c.view.Expunge(ctx, nil)
	case 3:
		uids := imap.UIDSetNum(imap.UID(1+r.IntN(20)), imap.UID(1+r.IntN(40)))
		err = c.view.Expunge(ctx, &uids)
	case 4:
		_, err = c.view.Copy(ctx, set, boxes[r.IntN(len(boxes))])
	case 5:
		_, err = c.view.Move(ctx, set, boxes[r.IntN(len(boxes))])
	case 6:
		c.poll(t, false)
	case 7:
		c.poll(t, true)
	case 8:
		c.fetch(t, set)
	}
	if err != nil {
		t.Errorf("client: %v", err)
	}
}

// TestRandomOperations lets several clients and deliveries do anything, and
// looks whether everybody ends with the truth.
func TestRandomOperations(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			s := newService(t)
			a := open(t, s, alice)
			boxes := []string{"INBOX", "Archive", "Trash"}
			clients := []*client{newClient(t, a, "INBOX"), newClient(t, a, "INBOX"), newClient(t, a, "Archive")}
			for n := range 200 {
				switch c := clients[r.IntN(len(clients))]; r.IntN(4) {
				case 0:
					deliver(t, s, note(n), alice)
				case 1:
					d := Delivery{Message: rendering(t, note(n)), Received: received, Recipients: []Target{{alice, "Archive"}, {alice, "INBOX"}, {bob, ""}}}
					must(t, s.Deliver(t.Context(), d))
				default:
					c.step(t, r, boxes)
				}
				if r.IntN(20) == 0 {
					clients[r.IntN(len(clients))].verify(t)
				}
				if r.IntN(30) == 0 {
					clients = append(clients, newClient(t, a, boxes[r.IntN(len(boxes))]))
				}
			}
			for _, c := range clients {
				c.verify(t)
			}
			checkCounters(t, s)
			sweep(t, s)
			checkCounters(t, s)
			same(t, "contents without messages", []int64{0}, read(t, s, "SELECT count(*) FROM mailbox_contents WHERE refs = 0"))
		})
	}
}

// TestConcurrentSessions lets clients and deliveries run at the same time.
func TestConcurrentSessions(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := open(t, s, alice)
	boxes := []string{"INBOX", "Archive"}
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			for i := range 60 {
				d := Delivery{Message: rendering(t, note(n*100+i)), Received: received, Recipients: []Target{{alice, boxes[i%2]}, {bob, ""}}}
				if err := s.Deliver(t.Context(), d); err != nil {
					t.Errorf("deliver: %v", err)
				}
			}
		})
	}
	clients := make([]*client, 4)
	for n := range clients {
		clients[n] = newClient(t, a, boxes[n%2])
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range 60 {
				clients[n].step(t, r, boxes)
			}
		})
	}
	wg.Wait()
	for _, c := range clients {
		c.verify(t)
	}
	checkCounters(t, s)
}

// TestUIDsAreMonotonic looks at the UIDs that deliveries and moves get while
// messages are expunged.
func TestUIDsAreMonotonic(t *testing.T) {
	t.Parallel()
	s, _, v := withNotes(t, 0)
	last := imap.UID(0)
	for n := range 50 {
		deliver(t, s, note(n), alice)
		poll(t, v, true)
		uid := v.entries[len(v.entries)-1].uid
		if imap.UID(uid) <= last {
			t.Fatalf("UID %d after %d", uid, last)
		}
		last = imap.UID(uid)
		if n%3 == 0 {
			newest := imap.UIDSetNum(last)
			mark(t, v, newest, imap.StoreFlagsAdd, imap.FlagDeleted)
			expunge(t, v, &newest)
		}
	}
}

func TestMatchName(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]bool{
		"*":     {"": true, "a": true, "a/b": true},
		"%":     {"": true, "a": true, "a/b": false},
		"a*b":   {"ab": true, "a/x/b": true, "abc": false, "b": false},
		"a%b":   {"ab": true, "axxb": true, "a/b": false},
		"%/%":   {"a/b": true, "a": false, "a/b/c": false},
		"*/c":   {"a/b/c": true, "c": false},
		"a%%b*": {"ab": true, "axb/c": true},
		"":      {"": true, "a": false},
		"a":     {"a": true, "A": false},
	}
	for _, pattern := range slices.Sorted(maps.Keys(tests)) {
		for name, want := range tests[pattern] {
			if got := matchName(pattern, name); got != want {
				t.Errorf("pattern %q, name %q: %v", pattern, name, got)
			}
		}
	}
	if matchName(strings.Repeat("*a", 400), strings.Repeat("a", 399)+"b") {
		t.Error("a name that ends otherwise matches")
	}
}
