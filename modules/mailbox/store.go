package mailbox

import (
	"context"
	"fmt"
	"math"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// storeStep is how many messages one transaction changes, so that mail never
// waits long for it.
const storeStep = 5000

// Store changes the flags of the messages of a set and calls each with the
// flags of every message that is still there, changed or not; each may be nil.
// With o.UnchangedSince, messages that were changed after it stay as they are
// and are given back instead (RFC 7162 section 3.1.3). flags.Silent is the
// caller's business.
func (v *View) Store(ctx context.Context, set imap.NumSet, flags *imap.StoreFlags, o *imap.StoreOptions, each func(Change) error) (modified []Number, err error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	spans, err := v.resolve(ctx, set)
	if err != nil {
		return nil, err
	}
	unchangedSince := int64(math.MaxInt64)
	if o != nil && o.UnchangedSince != 0 {
		unchangedSince = int64(min(o.UnchangedSince, math.MaxInt64))
	}
	var own []int64
	failed := make(map[uint32]bool)
	for _, piece := range split(spans, storeStep) {
		c := flagChange{ranges: v.uidRanges(piece), unchangedSince: unchangedSince}
		err := v.account.service.store.Write(ctx, func(tx *store.Tx) error { return v.store(tx, flags, &c) })
		if err != nil {
			return nil, fmt.Errorf("store flags: %w", err)
		}
		own = append(own, c.modSeq)
		for _, uid := range c.failed {
			failed[uint32(uid)] = true
		}
	}
	if err := v.sync(ctx, own...); err != nil {
		return nil, err
	}
	for _, s := range spans {
		for i := s.begin; i < s.end; i++ {
			e := &v.entries[i]
			switch {
			case e.gone:
			case failed[e.uid]:
				modified = append(modified, Number{uint32(i + 1), imap.UID(e.uid)})
			case each != nil:
				v.clean(e)
				if err := each(v.change(i)); err != nil {
					return nil, err
				}
			}
		}
	}
	return modified, nil
}

func (v *View) writable() error {
	if v.readOnly {
		return refuse(imap.ResponseCodeCannot, "The mailbox is opened read-only; use SELECT instead of EXAMINE")
	}
	return nil
}

// flagChange is what a Store does: a flag stays if it is in keep and comes if it
// is in add.
type flagChange struct {
	ranges         []uidRange
	keep, add      flags
	unchangedSince int64
	modSeq         int64
	failed         []int64 // UIDs of messages that were changed since
}

// store is the part of Store that the writer runs.
func (v *View) store(tx *store.Tx, asked *imap.StoreFlags, c *flagChange) error {
	row, err := v.row(tx)
	if err != nil {
		return err
	}
	if err := c.plan(tx, row, asked); err != nil {
		return err
	}
	c.modSeq = row.modSeq + 1
	var total, unseen, deleted int64
	for _, r := range c.ranges {
		if c.unchangedSince < row.modSeq {
			if err := c.findFailed(tx, row.id, r); err != nil {
				return err
			}
		}
		n, u, d, err := c.apply(tx, row.id, r)
		if err != nil {
			return err
		}
		total, unseen, deleted = total+n, unseen+u, deleted+d
	}
	if total == 0 {
		c.modSeq = 0
		return nil
	}
	_, err = tx.Exec("UPDATE mailbox_mailboxes SET mod_seq = ?, unseen = unseen + ?, deleted = deleted + ? WHERE id = ?", c.modSeq, unseen, deleted, row.id)
	tx.AfterCommit(func() { v.account.service.hub.changed(row.id, c.modSeq) })
	return err
}

// plan finds the bits of the flags.
func (c *flagChange) plan(tx *store.Tx, row *mailboxRow, asked *imap.StoreFlags) error {
	if asked.Op == imap.StoreFlagsDel {
		c.keep = math.MaxUint64
		for _, f := range asked.Flags {
			b, _ := row.keywords.bit(f)
			c.keep &^= b
		}
		return nil
	}
	set, grown, err := row.keywords.set(asked.Flags)
	if err != nil {
		return err
	}
	c.add = set
	if asked.Op == imap.StoreFlagsAdd {
		c.keep = math.MaxUint64
	}
	return saveKeywords(tx, row, grown)
}

func (c *flagChange) findFailed(tx *store.Tx, mailboxID int64, r uidRange) error {
	pairs, err := queryPairs(tx, "SELECT uid, mod_seq FROM mailbox_messages WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND mod_seq > ?",
		mailboxID, r.first, r.last, c.unchangedSince)
	for _, p := range pairs {
		c.failed = append(c.failed, p[0])
	}
	return err
}

const (
	changedRows = ` WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND mod_seq <= ? AND ((flags & ?) | ?) <> flags`
	countRows   = `SELECT count(*), coalesce(sum(CASE WHEN flags & 1 = 0 THEN 1 ELSE 0 END), 0), coalesce(sum(CASE WHEN flags & 8 <> 0 THEN 1 ELSE 0 END), 0)
		FROM mailbox_messages` + changedRows
	changeRows = `UPDATE mailbox_messages SET flags = (flags & ?) | ?, mod_seq = ?` + changedRows
)

// apply changes the messages of a range and gives their number and by how much
// the counters change.
func (c *flagChange) apply(tx *store.Tx, mailboxID int64, r uidRange) (n, unseen, deleted int64, err error) {
	keep, add := int64(c.keep), int64(c.add)
	var unseenBefore, deletedBefore int64
	err = tx.QueryRow(countRows, mailboxID, r.first, r.last, c.unchangedSince, keep, add).Scan(&n, &unseenBefore, &deletedBefore)
	if err != nil || n == 0 {
		return 0, 0, 0, err
	}
	unseenAfter := after(n, n-unseenBefore, c, flagSeen)
	unseen = n - unseenAfter - unseenBefore
	deleted = after(n, deletedBefore, c, flagDeleted) - deletedBefore
	_, err = tx.Exec(changeRows, keep, add, c.modSeq, mailboxID, r.first, r.last, c.unchangedSince, keep, add)
	return n, unseen, deleted, err
}

// after gives how many of n messages have a flag after a change, when before
// had it.
func after(n, before int64, c *flagChange, f flags) int64 {
	switch {
	case c.add&f != 0:
		return n
	case c.keep&f == 0:
		return 0
	default:
		return before
	}
}
