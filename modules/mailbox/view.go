package mailbox

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// View is what one session sees of its selected mailbox: a numbering of the
// messages that changes only when Poll says so. One goroutine uses it at a
// time; Changed and Close may be called from any.
//
// A view keeps the UID, the flags and the mod-sequence of every message, 24
// bytes each, from the first command that needs them on. Selecting alone reads
// one row.
type View struct {
	account   *Account
	mailboxID int64
	readOnly  bool
	inbox     bool
	data      imap.SelectData
	watch     *watch
	changed   chan struct{}
	pin       atomic.Int64 // see hub.pinned; 0 once it is loaded

	loaded   bool
	modSeq   int64 // entries are as they were at this mod-sequence
	uidNext  int64 // entries are all with lower UIDs
	entries  []entry
	told     int // so many of the entries have a number
	gone     int // so many of these are no longer there
	dirty    int // of so many the client does not know the flags
	keywords keywords
	toldKeys int // so many of the keywords does the client know
	lists    map[flags][]imap.Flag
	result   imap.UIDSet
}

// entry is a message in a view.
type entry struct {
	uid    uint32
	gone   bool
	dirty  bool
	flags  flags
	modSeq int64
}

// goneModSeq is what the hub tells when a mailbox is removed.
const goneModSeq = math.MaxInt64

// Select opens a view of a mailbox. The caller closes it.
func (a *Account) Select(ctx context.Context, name string, o *imap.SelectOptions) (*View, error) {
	row, err := a.mailbox(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &View{
		account: a, mailboxID: row.id, readOnly: o != nil && o.ReadOnly, inbox: row.name == inbox,
		changed: make(chan struct{}, 1), lists: make(map[flags][]imap.Flag),
	}
	v.pin.Store(math.MaxInt64)
	// What is committed from now on is told; what was before is read now.
	v.watch = a.service.hub.join(v)
	err = a.service.store.Read(ctx, func(sn *store.Snapshot) error {
		row, err = v.row(sn)
		return err
	})
	if err == nil && a.service.hub.mayHaveJoined(v.mailboxID, row.modSeq) {
		// An expunge that did not know of this view is being committed. Behind it
		// the view sees what it did.
		err = a.service.store.Write(ctx, func(tx *store.Tx) error {
			row, err = v.row(tx)
			return err
		})
	}
	if err != nil {
		v.Close()
		return nil, err
	}
	v.pin.Store(row.modSeq)
	v.modSeq, v.uidNext, v.told, v.keywords, v.toldKeys = row.modSeq, row.uidNext, int(row.messages), row.keywords, len(row.keywords)
	v.data = imap.SelectData{
		Flags:          row.keywords.defined(),
		PermanentFlags: row.keywords.permanent(),
		NumMessages:    uint32(row.messages),
		UIDNext:        imap.UID(row.uidNext),
		UIDValidity:    uint32(row.uidValidity),
		HighestModSeq:  uint64(row.modSeq),
	}
	if v.readOnly {
		v.data.PermanentFlags = nil
	}
	return v, nil
}

// Data is the state of the mailbox when it was selected.
func (v *View) Data() *imap.SelectData { return &v.data }

// MailboxID is the mailbox's object identifier (RFC 8474 section 4).
func (v *View) MailboxID() string { return objectID('m', v.mailboxID) }

// ReadOnly tells whether the mailbox was opened by EXAMINE. Store, Move and
// Expunge are then refused.
func (v *View) ReadOnly() bool { return v.readOnly }

// NumMessages is how many messages the session knows of.
func (v *View) NumMessages() uint32 { return uint32(v.told) }

// Close ends the view. It may be called more than once.
func (v *View) Close() { v.account.service.hub.leave(v) }

// Changed gives a value when the mailbox may have changed since the last Poll,
// by this session or another one. Values do not pile up: one stands for any
// number of changes.
func (v *View) Changed() <-chan struct{} { return v.changed }

// SaveResult keeps a set of UIDs, for which imap.SearchRes stands from then on
// (RFC 5182).
func (v *View) SaveResult(uids imap.UIDSet) { v.result = uids }

// row reads the mailbox's row; ErrGone if the mailbox was removed, or another
// one is INBOX now: its session would wait for mail that goes elsewhere.
func (v *View) row(q store.Querier) (*mailboxRow, error) {
	m, err := mailboxAt(q, v.account.id, v.mailboxID)
	if err == nil && v.inbox && m.name != inbox {
		return nil, ErrGone
	}
	return m, err
}

// load reads all messages at the first need. The numbering is that of the time
// of Select: messages that were expunged since are there, and gone.
func (v *View) load(ctx context.Context) error {
	if v.loaded {
		return nil
	}
	err := v.account.service.store.Read(ctx, func(sn *store.Snapshot) error {
		row, err := v.row(sn)
		if err != nil {
			return err
		}
		var expunged []uint32
		err = v.readExpunged(sn, func(r uidRange) {
			for uid := r.first; uid <= min(r.last, v.uidNext-1); uid++ {
				expunged = append(expunged, uint32(uid))
			}
		})
		if err != nil {
			return err
		}
		slices.Sort(expunged)
		v.entries = make([]entry, 0, int(row.messages)+len(expunged)+16)
		err = v.readEntries(sn, "SELECT uid, flags, mod_seq FROM mailbox_messages WHERE mailbox_id = ? AND uid >= ? ORDER BY uid", 1, func(e entry) {
			for len(expunged) > 0 && expunged[0] < e.uid {
				v.addGone(expunged[0])
				expunged = expunged[1:]
			}
			v.entries = append(v.entries, e)
		})
		if err != nil {
			return err
		}
		for _, uid := range expunged {
			v.addGone(uid)
		}
		if n := v.search(v.uidNext); n != v.told {
			err := fmt.Errorf("load mailbox: %d messages instead of %d", n, v.told)
			if row.modSeq != v.modSeq { // the record of expunges was too short, or joined after all
				err = fmt.Errorf("%w: %w", err, ErrGone)
			}
			return err
		}
		v.modSeq, v.uidNext, v.keywords = row.modSeq, row.uidNext, row.keywords
		return nil
	})
	if err != nil {
		return err
	}
	v.loaded = true
	v.pin.Store(0)
	return nil
}

func (v *View) addGone(uid uint32) {
	v.entries = append(v.entries, entry{uid: uid, gone: true})
	v.gone++
}

// readEntries calls each for the messages of a query on this mailbox.
func (v *View) readEntries(q store.Querier, query string, arg int64, each func(entry)) error {
	rows, err := q.Query(query, v.mailboxID, arg)
	if err != nil {
		return fmt.Errorf("read messages: %w", err)
	}
	defer rows.Close()
	var uid, set, modSeq int64
	dest := []any{&uid, &set, &modSeq}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		each(entry{uid: uint32(uid), flags: flags(set), modSeq: modSeq})
	}
	return rows.Err()
}

// readExpunged calls each for what was expunged after the view's mod-sequence.
func (v *View) readExpunged(q store.Querier, each func(uidRange)) error {
	ranges, err := queryPairs(q, "SELECT first_uid, last_uid FROM mailbox_expunged WHERE mailbox_id = ? AND mod_seq > ?", v.mailboxID, v.modSeq)
	if err != nil {
		return fmt.Errorf("read expunged messages: %w", err)
	}
	for _, r := range ranges {
		each(uidRange{r[0], r[1]})
	}
	return nil
}

// findExpunged is readExpunged without the record: it looks which entries are no
// longer there.
func (v *View) findExpunged(q store.Querier, each func(uidRange)) error {
	var gone []uidRange
	i := 0
	goneBefore := func(uid int64) {
		for ; i < len(v.entries) && int64(v.entries[i].uid) < uid; i++ {
			gone = appendRun(gone, int64(v.entries[i].uid))
		}
	}
	err := v.readEntries(q, "SELECT uid, flags, mod_seq FROM mailbox_messages WHERE mailbox_id = ? AND uid >= ? ORDER BY uid", 1, func(e entry) {
		goneBefore(int64(e.uid))
		i = min(i+1, len(v.entries))
	})
	if err != nil {
		return err
	}
	goneBefore(math.MaxInt64)
	for _, r := range gone {
		each(r)
	}
	return nil
}

// sync brings the entries up to date, but not the numbering: new messages get
// no number and those that are gone keep theirs until Poll. own lists the
// mod-sequences of changes that the client knows about.
func (v *View) sync(ctx context.Context, own ...int64) error {
	if err := v.load(ctx); err != nil {
		return err
	}
	if v.watch.modSeq.Load() <= v.modSeq {
		return nil
	}
	return v.account.service.store.Read(ctx, func(sn *store.Snapshot) error {
		row, err := v.row(sn)
		if err != nil || row.modSeq == v.modSeq {
			return err
		}
		err = v.readEntries(sn, `SELECT uid, flags, mod_seq FROM mailbox_messages
			WHERE mailbox_id = ? AND mod_seq > ? AND mod_seq <> mod_seq_created`, v.modSeq, func(e entry) {
			v.update(e, slices.Contains(own, e.modSeq))
		})
		if err != nil {
			return err
		}
		read := v.readExpunged
		if v.modSeq < row.forgotten {
			read = v.findExpunged
		}
		if err := read(sn, v.markGone); err != nil {
			return err
		}
		err = v.readEntries(sn, "SELECT uid, flags, mod_seq FROM mailbox_messages WHERE mailbox_id = ? AND uid >= ? ORDER BY uid", v.uidNext, func(e entry) {
			v.entries = append(v.entries, e)
		})
		v.modSeq, v.uidNext, v.keywords = row.modSeq, row.uidNext, row.keywords
		return err
	})
}

// update takes over changed flags.
func (v *View) update(e entry, own bool) {
	i := v.search(int64(e.uid))
	if i == len(v.entries) || v.entries[i].uid != e.uid {
		return
	}
	have := &v.entries[i]
	have.flags, have.modSeq = e.flags, e.modSeq
	if i < v.told && !own && !have.dirty {
		have.dirty = true
		v.dirty++
	}
}

// markGone takes over that messages were expunged. Those without a number leave
// no trace.
func (v *View) markGone(r uidRange) {
	first := v.search(r.first)
	i := first
	for ; i < v.told && int64(v.entries[i].uid) <= r.last; i++ {
		v.setGone(&v.entries[i])
	}
	begin := max(i, v.told)
	end := begin
	for end < len(v.entries) && int64(v.entries[end].uid) <= r.last {
		end++
	}
	if first <= begin {
		v.entries = slices.Delete(v.entries, begin, end)
	}
}

func (v *View) setGone(e *entry) {
	if e.gone {
		return
	}
	if e.dirty {
		e.dirty = false
		v.dirty--
	}
	e.gone = true
	v.gone++
}

// search gives the index of the first entry whose UID is not lower.
func (v *View) search(uid int64) int {
	return sort.Search(len(v.entries), func(i int) bool { return int64(v.entries[i].uid) >= uid })
}

// list gives flags as the client is told them.
func (v *View) list(set flags) []imap.Flag {
	l, ok := v.lists[set]
	if !ok {
		l = v.keywords.list(set)
		v.lists[set] = l
	}
	return l
}
