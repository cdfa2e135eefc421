package mailbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

func TestSelectData(t *testing.T) {
	t.Parallel()
	_, a, v := withNotes(t, 2)
	d := v.Data()
	if d.NumMessages != 2 || d.UIDNext != 3 || d.UIDValidity == 0 || d.HighestModSeq != 3 {
		t.Errorf("select data: %+v", d)
	}
	if len(d.PermanentFlags) != len(d.Flags)+1 {
		t.Errorf("permanent flags: %v", d.PermanentFlags)
	}
	if _, err := a.Select(t.Context(), "nowhere", nil); code(err) != imap.ResponseCodeNonExistent {
		t.Errorf("select a missing mailbox: %v", err)
	}
}

func TestViewKeepsItsNumbering(t *testing.T) {
	t.Parallel()
	s, a, mine := withNotes(t, 4)
	other := selectMailboxOf(t, a, "INBOX")
	// mine has not looked at its messages yet: what happens now must not change
	// its numbering.
	two := imap.UIDSetNum(2)
	mark(t, other, imap.UIDSetNum(2, 3), imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, other, &two)
	deliver(t, s, note(5), alice)
	same(t, "by number 3", []string{"3"}, fetch(t, mine, imap.SeqSetNum(3), Items{}, func(m *Message) string { return fmt.Sprint(m.UID) }))
	same(t, "the one that is gone", []string(nil), fetch(t, mine, imap.SeqSetNum(2), Items{Details: true}, func(m *Message) string { return fmt.Sprint(m.UID) }))
	same(t, "all", []string{"1", "3", "4"}, uidsOf(t, mine))
	same(t, "poll without expunges", []string{"5 EXISTS"}, poll(t, mine, false))
	same(t, "poll", []string{"2 EXPUNGE"}, poll(t, mine, true))
	same(t, "all after it", []string{"1", "3", "4", "5"}, uidsOf(t, mine))
	same(t, "nothing new", []string(nil), poll(t, mine, true))
}

// TestSelectDuringExpunge: a view that is opened while another one's expunge is
// being committed can load, although what went before it was joined with that.
func TestSelectDuringExpunge(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 4)
	mark(t, v, imap.SeqSetNum(1, 2), imap.StoreFlagsAdd, imap.FlagDeleted)
	one := imap.UIDSetNum(1)
	expunge(t, v, &one)
	var late *View
	var err error
	done := make(chan struct{})
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
		if _, err := v.expunge(tx, []uidRange{{2, 2}}); err != nil {
			return err
		}
		go func() {
			defer close(done)
			late, err = a.Select(t.Context(), "INBOX", nil)
		}()
		select {
		case <-done:
		case <-time.After(200 * time.Millisecond): // it waits for this commit
		}
		return nil
	}))
	<-done
	must(t, err)
	defer late.Close()
	same(t, "messages", []string{"3", "4"}, uidsOf(t, late))
	same(t, "ranges", []int64{1}, read(t, s, "SELECT count(*) FROM mailbox_expunged"))
}

// TestSelectBesideExpunges is the same for as often as it happens.
func TestSelectBesideExpunges(t *testing.T) {
	t.Parallel()
	const n = 60
	_, a, v := withNotes(t, n)
	mark(t, v, all, imap.StoreFlagsAdd, imap.FlagDeleted)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		defer cancel()
		for uid := range imap.UID(n) {
			set := imap.UIDSetNum(uid + 1)
			if err := v.Expunge(t.Context(), &set); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for ctx.Err() == nil {
		late := selectMailboxOf(t, a, "INBOX")
		uidsOf(t, late)
		late.Close()
	}
	must(t, <-done)
}

func TestPollOrder(t *testing.T) {
	t.Parallel()
	s, a, mine := withNotes(t, 5)
	other := selectMailboxOf(t, a, "INBOX")
	uidsOf(t, mine)
	mark(t, other, imap.UIDSetNum(1, 4), imap.StoreFlagsAdd, imap.FlagDeleted)
	mark(t, other, imap.UIDSetNum(5), imap.StoreFlagsAdd, imap.FlagFlagged, "urgent")
	expunge(t, other, nil)
	deliver(t, s, note(6), alice)
	same(t, "poll", []string{"1 EXPUNGE", "3 EXPUNGE", "4 EXISTS", "FLAGS +1", `3 FETCH (UID 5 FLAGS (\Flagged urgent))`}, poll(t, mine, true))
}

func TestOwnChangesAreNotTold(t *testing.T) {
	t.Parallel()
	_, a, mine := withNotes(t, 3)
	other := selectMailboxOf(t, a, "INBOX")
	uidsOf(t, mine)
	uidsOf(t, other)
	same(t, "store", []string{`1 FETCH (UID 1 FLAGS (\Seen))`}, mark(t, mine, imap.SeqSetNum(1), imap.StoreFlagsAdd, imap.FlagSeen))
	mark(t, other, imap.SeqSetNum(2), imap.StoreFlagsAdd, imap.FlagSeen)
	same(t, "own poll", []string{`2 FETCH (UID 2 FLAGS (\Seen))`}, poll(t, mine, true))
	same(t, "the other's poll", []string{`1 FETCH (UID 1 FLAGS (\Seen))`}, poll(t, other, true))

	// A message that was delivered and expunged between two polls never was.
	mark(t, other, imap.SeqSetNum(3), imap.StoreFlagsAdd, imap.FlagSeen)
	mark(t, mine, imap.SeqSetNum(3), imap.StoreFlagsAdd, imap.FlagDraft)
	same(t, "what store has told", []string(nil), poll(t, mine, true))
}

func TestMessageThatComesAndGoes(t *testing.T) {
	t.Parallel()
	s, a, mine := withNotes(t, 1)
	uidsOf(t, mine)
	deliver(t, s, note(2), alice)
	other := selectMailboxOf(t, a, "INBOX")
	mark(t, other, imap.UIDSetNum(2), imap.StoreFlagsAdd, imap.FlagDeleted)
	// mine has noticed the message, but not told of it.
	mark(t, mine, imap.UIDSetNum(1), imap.StoreFlagsAdd, imap.FlagSeen)
	expunge(t, other, nil)
	deliver(t, s, note(3), alice)
	same(t, "poll", []string{"2 EXISTS"}, poll(t, mine, true))
	same(t, "messages", []string{"1", "3"}, uidsOf(t, mine))
}

func TestChangedIsTold(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 1)
	select {
	case <-v.Changed():
		t.Fatal("told of a change before there was one")
	default:
	}
	for i := range 10 {
		deliver(t, s, note(i+2), alice)
	}
	<-v.Changed()
	select {
	case <-v.Changed():
		t.Error("ten changes were told more than once")
	default:
	}
	same(t, "poll", []string{"11 EXISTS"}, poll(t, v, true))
	must(t, a.Create(t.Context(), "other", nil))
	if _, err := v.Copy(t.Context(), all, "other"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-v.Changed():
		t.Error("told of a change to another mailbox")
	default:
	}
}

func TestDeletedMailboxIsGone(t *testing.T) {
	t.Parallel()
	s, a, _ := withNotes(t, 0)
	ctx := t.Context()
	raw := note(1)
	must(t, a.Create(ctx, "box", nil))
	for range 2 {
		_, err := a.Append(ctx, "box", strings.NewReader(raw), int64(len(raw)), nil)
		must(t, err)
	}
	v := selectMailboxOf(t, a, "box")
	uidsOf(t, v)
	must(t, a.Delete(ctx, "box"))
	<-v.Changed()
	if err := v.Poll(ctx, true, nil); !errors.Is(err, ErrGone) {
		t.Errorf("poll: %v", err)
	}
	if _, err := v.Store(ctx, all, &imap.StoreFlags{Flags: []imap.Flag{imap.FlagSeen}}, nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("store: %v", err)
	}
	if err := v.Expunge(ctx, nil); !errors.Is(err, ErrGone) {
		t.Errorf("expunge: %v", err)
	}
	sweep(t, s)
	same(t, "rows left", []int64{0}, read(t, s, "SELECT count(*) FROM mailbox_messages"))
	same(t, "bodies left", []int64{0}, read(t, s, "SELECT count(*) FROM body"))
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	_, a, _ := withNotes(t, 1)
	ctx := t.Context()
	v, err := a.Select(ctx, "INBOX", &imap.SelectOptions{ReadOnly: true})
	must(t, err)
	defer v.Close()
	if len(v.Data().PermanentFlags) != 0 || !v.ReadOnly() {
		t.Errorf("select data: %+v", v.Data())
	}
	_, storeErr := v.Store(ctx, all, &imap.StoreFlags{Flags: []imap.Flag{imap.FlagSeen}}, nil, nil)
	_, moveErr := v.Move(ctx, all, "Trash")
	for name, err := range map[string]error{"store": storeErr, "move": moveErr, "expunge": v.Expunge(ctx, nil)} {
		if code(err) != imap.ResponseCodeCannot {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Copy(ctx, all, "Trash"); err != nil {
		t.Errorf("copy: %v", err)
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	_, _, v := withNotes(t, 6)
	gone := imap.UIDSetNum(2, 5)
	mark(t, v, gone, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, v, &gone)
	poll(t, v, true) // 1 3 4 6
	v.SaveResult(imap.UIDSetNum(3, 5, 6))
	tests := map[string]struct {
		set  imap.NumSet
		want []string
	}{
		"one number":             {imap.SeqSetNum(2), []string{"3"}},
		"star":                   {imap.SeqSet{{Start: 0, Stop: 0}}, []string{"6"}},
		"from star":              {imap.SeqSet{{Start: 3, Stop: 0}}, []string{"4", "6"}},
		"beyond the end":         {imap.SeqSet{{Start: 3, Stop: 9}}, []string{"4", "6"}},
		"wholly beyond":          {imap.SeqSetNum(9), nil},
		"star below its start":   {imap.SeqSet{{Start: 9, Stop: 0}}, []string{"6"}},
		"reversed, twice":        {imap.SeqSet{{Start: 3, Stop: 2}, {Start: 2, Stop: 2}}, []string{"3", "4"}},
		"uids":                   {imap.UIDSet{{Start: 2, Stop: 4}, {Start: 6, Stop: 6}}, []string{"3", "4", "6"}},
		"uid star":               {imap.UIDSet{{Start: 0, Stop: 0}}, []string{"6"}},
		"uid beyond the star":    {imap.UIDSet{{Start: 100, Stop: 0}}, []string{"6"}},
		"uid that is not there":  {imap.UIDSetNum(2), nil},
		"search result":          {imap.SearchRes(), []string{"3", "6"}},
		"largest uid":            {imap.UIDSet{{Start: 4, Stop: 1<<32 - 1}}, []string{"4", "6"}},
		"out of order, adjacent": {imap.SeqSet{{Start: 4, Stop: 4}, {Start: 1, Stop: 2}}, []string{"1", "3", "6"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			same(t, "uids", test.want, fetch(t, v, test.set, Items{}, func(m *Message) string { return fmt.Sprint(m.UID) }))
			same(t, "uids of rows", test.want, fetch(t, v, test.set, Items{Details: true}, func(m *Message) string { return fmt.Sprint(m.UID) }))
		})
	}
}

func TestStoreFlags(t *testing.T) {
	t.Parallel()
	_, _, v := withNotes(t, 2)
	one := imap.SeqSetNum(1)
	steps := []struct {
		op    imap.StoreFlagsOp
		flags []imap.Flag
		want  string
	}{
		{imap.StoreFlagsAdd, []imap.Flag{imap.FlagSeen, "$Junk", "Custom"}, `1 FETCH (UID 1 FLAGS ($Junk Custom \Seen))`},
		{imap.StoreFlagsAdd, []imap.Flag{`\SEEN`, "custom"}, `1 FETCH (UID 1 FLAGS ($Junk Custom \Seen))`},
		{imap.StoreFlagsDel, []imap.Flag{"$junk", "never-seen"}, `1 FETCH (UID 1 FLAGS (Custom \Seen))`},
		{imap.StoreFlagsSet, []imap.Flag{imap.FlagDeleted, imap.FlagDraft}, `1 FETCH (UID 1 FLAGS (\Deleted \Draft))`},
		{imap.StoreFlagsSet, nil, `1 FETCH (UID 1 FLAGS ())`},
	}
	for _, s := range steps {
		same(t, "store", []string{s.want}, mark(t, v, one, s.op, s.flags...))
	}
	_, err := v.Store(t.Context(), one, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{`\Bogus`}}, nil, nil)
	if code(err) != imap.ResponseCodeCannot {
		t.Errorf("store of an unknown system flag: %v", err)
	}
	var many []imap.Flag
	for i := range maxKeywords {
		many = append(many, imap.Flag(fmt.Sprint("k", i)))
	}
	_, err = v.Store(t.Context(), one, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: many}, nil, nil)
	if code(err) != imap.ResponseCodeLimit {
		t.Errorf("store of too many keywords: %v", err)
	}
	same(t, "keywords after the refused store", 1, len(v.keywords)-len(strings.Fields(firstKeywords)))
}

func TestStoreUnchangedSince(t *testing.T) {
	t.Parallel()
	_, a, v := withNotes(t, 3)
	other := selectMailboxOf(t, a, "INBOX")
	since := v.Data().HighestModSeq
	mark(t, other, imap.SeqSetNum(2), imap.StoreFlagsAdd, imap.FlagSeen)
	var told []string
	modified, err := v.Store(t.Context(), all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}},
		&imap.StoreOptions{UnchangedSince: since}, func(c Change) error { told = append(told, fmt.Sprint(c.SeqNum, " ", c.ModSeq)); return nil })
	must(t, err)
	same(t, "modified", []Number{{2, 2}}, modified)
	same(t, "told", []string{"1 6", "3 6"}, told)
	same(t, "changed since", []string{"1", "2", "3"}, changedSince(t, v, since))
	same(t, "changed since the first", []string{"1", "3"}, changedSince(t, v, since+1))
}

func changedSince(t *testing.T, v *View, modSeq uint64) []string {
	t.Helper()
	return fetch(t, v, all, Items{ChangedSince: modSeq}, func(m *Message) string { return fmt.Sprint(m.UID) })
}

func TestCopyAndMove(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 4)
	ctx := t.Context()
	mark(t, v, imap.SeqSetNum(1, 3), imap.StoreFlagsAdd, imap.FlagSeen, "urgent")
	gone := imap.UIDSetNum(2)
	mark(t, v, gone, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, v, &gone)
	trash := selectMailboxOf(t, a, "Trash")

	data, err := v.Copy(ctx, imap.SeqSet{{Start: 1, Stop: 3}}, "Trash")
	must(t, err)
	same(t, "copied", &imap.CopyData{
		UIDValidity: trash.Data().UIDValidity, SourceUIDs: imap.UIDSet{{Start: 1, Stop: 1}, {Start: 3, Stop: 3}}, DestUIDs: imap.UIDSet{{Start: 1, Stop: 2}},
	}, data)
	data, err = v.Move(ctx, imap.UIDSetNum(3, 4), "trash2")
	if code(err) != imap.ResponseCodeTryCreate || data != nil {
		t.Errorf("move to a missing mailbox: %v", err)
	}
	data, err = v.Move(ctx, imap.UIDSetNum(2, 3, 4), "Trash")
	must(t, err)
	same(t, "moved", imap.UIDSet{{Start: 3, Stop: 4}}, data.DestUIDs)
	same(t, "changes", []string{"2 EXPUNGE", "2 EXPUNGE", "2 EXPUNGE", "FLAGS +1"}, poll(t, v, true))
	same(t, "changes of the destination", []string{"4 EXISTS", "FLAGS +1"}, poll(t, trash, true))
	line := func(m *Message) string {
		return fmt.Sprint(m.UID, " ", m.Envelope().Subject, " ", flagText(m.Flags), " ", m.InternalDate.Equal(received))
	}
	same(t, "destination", []string{
		`1 note 1 (\Seen urgent) true`, `2 note 3 (\Seen urgent) true`, `3 note 3 (\Seen urgent) true`, `4 note 4 () true`,
	}, fetch(t, trash, all, Items{Envelope: true}, line))
	data, err = v.Copy(ctx, imap.UIDSetNum(99), "Trash")
	must(t, err)
	same(t, "copy of nothing", 0, len(data.DestUIDs))
	data, err = trash.Move(ctx, imap.UIDSetNum(1), "Trash")
	must(t, err)
	same(t, "move to itself", imap.UIDSetNum(5), data.DestUIDs)
	same(t, "changes of a move to itself", []string{"1 EXPUNGE", "4 EXISTS"}, poll(t, trash, true))
	checkCounters(t, s)
}

func TestExpungeByUID(t *testing.T) {
	t.Parallel()
	s, _, v := withNotes(t, 6)
	mark(t, v, imap.SeqSetNum(2, 3, 5), imap.StoreFlagsAdd, imap.FlagDeleted)
	some := imap.UIDSet{{Start: 3, Stop: 6}}
	expunge(t, v, &some)
	same(t, "changes", []string{"3 EXPUNGE", "4 EXPUNGE"}, poll(t, v, true))
	expunge(t, v, nil)
	same(t, "changes", []string{"2 EXPUNGE"}, poll(t, v, true))
	same(t, "kept for clients that come back", []int64{3, 2, 5}, read(t, s, "SELECT count(*), min(first_uid), max(last_uid) FROM mailbox_expunged"))
	sweep(t, s)
	same(t, "contents left", []int64{3, 3}, read(t, s, "SELECT count(*), sum(refs) FROM mailbox_contents"))
	same(t, "bodies left", []int64{3}, read(t, s, "SELECT count(*) FROM body"))
	checkCounters(t, s)
}

func TestExpungeInSteps(t *testing.T) {
	t.Parallel()
	s := newService(t)
	deliver(t, s, note(1), alice)
	a := open(t, s, alice)
	v := selectMailboxOf(t, a, "INBOX")
	for range 12 { // 4096 messages
		if _, err := v.Copy(t.Context(), all, "INBOX"); err != nil {
			t.Fatal(err)
		}
		poll(t, v, true)
	}
	same(t, "contents", []int64{1, 4096}, read(t, s, "SELECT count(*), max(refs) FROM mailbox_contents"))
	if told := mark(t, v, all, imap.StoreFlagsAdd, imap.FlagDeleted); len(told) != 4096 {
		t.Errorf("store told of %d messages", len(told))
	}
	expunge(t, v, nil)
	if n := len(poll(t, v, true)); n != 4096 {
		t.Errorf("poll told of %d expunges", n)
	}
	checkCounters(t, s)
	sweep(t, s)
	same(t, "contents left", []int64{0}, read(t, s, "SELECT count(*) FROM mailbox_contents"))
}

func TestSharedBody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	deliver(t, s, note(1), alice, bob, alice)
	same(t, "stored", []int64{1, 2}, read(t, s, "SELECT count(*), sum(refs) FROM mailbox_contents"))
	same(t, "bodies", []int64{1}, read(t, s, "SELECT count(*) FROM body"))
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	mark(t, v, all, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, v, nil)
	sweep(t, s)
	same(t, "bob still has it", []string{note(1)}, fetch(t, selectMailboxOf(t, open(t, s, bob), "INBOX"), all, Items{Body: true}, func(m *Message) string {
		return string(content0(t, m))
	}))
}

func TestDeliverToMissingMailbox(t *testing.T) {
	t.Parallel()
	s := newService(t)
	d := Delivery{Message: rendering(t, note(1)), Received: received, Recipients: []Target{{Account: alice, Mailbox: "Junk"}, {Account: bob, Mailbox: "nowhere"}}}
	for range 2 {
		must(t, s.Deliver(t.Context(), d))
	}
	same(t, "in Junk", []string{"1", "2"}, uidsOf(t, selectMailboxOf(t, open(t, s, alice), "Junk")))
	same(t, "in INBOX", []string{"1", "2"}, uidsOf(t, selectMailboxOf(t, open(t, s, bob), "INBOX")))

	// A mailbox that is deleted, renamed or made again is found as it is.
	a := open(t, s, alice)
	must(t, a.Rename(t.Context(), "Junk", "Spam"))
	must(t, s.Deliver(t.Context(), d))
	same(t, "in INBOX instead", []string{"1"}, uidsOf(t, selectMailboxOf(t, a, "INBOX")))
	must(t, a.Create(t.Context(), "Junk", nil))
	must(t, s.Deliver(t.Context(), d))
	same(t, "in the new Junk", []string{"1"}, uidsOf(t, selectMailboxOf(t, a, "Junk")))
}

func TestThreads(t *testing.T) {
	t.Parallel()
	s := newService(t)
	message := func(id, inReplyTo, references string) string {
		return crlf(fmt.Sprintf("Message-ID: <%s>\nIn-Reply-To: %s\nReferences: %s\nSubject: x\n\nx\n", id, inReplyTo, references))
	}
	deliver(t, s, message("root@x", "", ""), alice)
	deliver(t, s, message("a@x", "<root@x>", "<root@x>"), alice)
	deliver(t, s, message("b@x", "<a@x>", ""), alice)              // its References are lost
	deliver(t, s, message("c@x", "", "<middle@x> <b@x>"), alice)   // they begin too late
	deliver(t, s, message("d@x", "<later@x>", "<later@x>"), alice) // comes before what it answers
	deliver(t, s, message("later@x", "", ""), alice)
	deliver(t, s, "Subject: no id\r\n\r\n", alice)
	deliver(t, s, "Subject: no id\r\n\r\n", alice)
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	seen := make(map[string]int)
	got := fetch(t, v, all, Items{Details: true}, func(m *Message) string {
		if seen[m.ThreadID] == 0 {
			seen[m.ThreadID] = len(seen) + 1
		}
		return fmt.Sprint(seen[m.ThreadID])
	})
	same(t, "threads", []string{"1", "1", "1", "1", "2", "2", "3", "4"}, got)
}

func TestObjectIDs(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 2)
	ids := func(v *View) []string {
		return fetch(t, v, all, Items{Details: true}, func(m *Message) string { return m.EmailID })
	}
	before := ids(v)
	if before[0] == before[1] {
		t.Errorf("two messages have the EMAILID %s", before[0])
	}
	if _, err := v.Copy(t.Context(), all, "Trash"); err != nil {
		t.Fatal(err)
	}
	same(t, "ids of copies", before, ids(selectMailboxOf(t, a, "Trash")))

	// An identifier is not given again when the newest message has gone.
	mark(t, v, all, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, v, nil)
	trash := selectMailboxOf(t, a, "Trash")
	mark(t, trash, all, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, trash, nil)
	sweep(t, s)
	deliver(t, s, note(3), alice)
	poll(t, v, true)
	for _, id := range ids(v) {
		if id == before[0] || id == before[1] {
			t.Errorf("EMAILID %s was given again", id)
		}
	}
}

func TestSaveDate(t *testing.T) {
	t.Parallel()
	s, _, v := withNotes(t, 1)
	now := s.now()
	fetch(t, v, all, Items{Details: true}, func(m *Message) string {
		if d := now.Sub(m.SaveDate); d < -time.Second || d > time.Minute {
			t.Errorf("save date is %s, %s before now", m.SaveDate, d)
		}
		return ""
	})
}
