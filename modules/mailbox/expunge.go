package mailbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

const (
	// expungeStep is how many messages one transaction removes, so that mail
	// never waits long for it.
	expungeStep = 1000
	// maxExpunged is how many ranges of UIDs a mailbox remembers, for sessions
	// and clients that come back.
	maxExpunged = 10_000
)

// Expunge removes the messages with \Deleted, only those of the set if uids is
// not nil (RFC 4315). The expunges come by Poll.
func (v *View) Expunge(ctx context.Context, uids *imap.UIDSet) error {
	if err := v.writable(); err != nil {
		return err
	}
	ranges := []uidRange{{1, 1<<32 - 1}}
	if uids != nil {
		spans, err := v.resolve(ctx, *uids)
		if err != nil {
			return err
		}
		ranges = v.uidRanges(spans)
	}
	for len(ranges) > 0 {
		err := v.account.service.store.Write(ctx, func(tx *store.Tx) (err error) {
			ranges, err = v.expunge(tx, ranges)
			return err
		})
		if err != nil {
			return fmt.Errorf("expunge messages: %w", err)
		}
		if len(ranges) > 0 { // and what this step did may be forgotten by their end
			if err := v.load(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// expunge removes a part and gives the ranges that are left.
func (v *View) expunge(tx *store.Tx, ranges []uidRange) ([]uidRange, error) {
	row, err := v.row(tx)
	if err != nil {
		return nil, err
	}
	var removed []removal
	for len(ranges) > 0 && len(removed) < expungeStep {
		r := ranges[0]
		before := len(removed)
		if removed, err = readDeleted(tx, removed, row.id, r); err != nil {
			return nil, err
		}
		if n := len(removed); n == expungeStep && n > before {
			ranges = append([]uidRange{{removed[n-1].uid + 1, r.last}}, ranges[1:]...)
			break
		}
		ranges = ranges[1:]
	}
	if len(removed) == 0 {
		return ranges, nil
	}
	return ranges, v.account.service.remove(tx, row, removed)
}

// readDeleted appends the messages with \Deleted in a range, until there are
// expungeStep.
func readDeleted(tx *store.Tx, list []removal, mailboxID int64, r uidRange) ([]removal, error) {
	rows, err := tx.Query(`SELECT uid, content_id, flags, size FROM mailbox_messages
		WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND flags & ? <> 0 ORDER BY uid LIMIT ?`,
		mailboxID, r.first, r.last, int64(flagDeleted), expungeStep-len(list))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m removal
		var set int64
		if err := rows.Scan(&m.uid, &m.contentID, &set, &m.size); err != nil {
			return nil, err
		}
		m.flags = flags(set)
		list = append(list, m)
	}
	return list, rows.Err()
}

// removal is a message that leaves its mailbox.
type removal struct {
	uid       int64
	contentID int64
	flags     flags
	size      int64
}

// remove takes messages out of a mailbox, in the order of their UIDs, and
// remembers that they were there.
func (s *Service) remove(tx *store.Tx, row *mailboxRow, messages []removal) error {
	modSeq := row.modSeq + 1
	var unseenCount, deletedCount, bytes int64
	var ranges []uidRange
	for _, m := range messages {
		if _, err := tx.Exec("DELETE FROM mailbox_messages WHERE mailbox_id = ? AND uid = ?", row.id, m.uid); err != nil {
			return fmt.Errorf("delete message: %w", err)
		}
		if err := addContentRefs(tx, m.contentID, -1); err != nil {
			return fmt.Errorf("count references: %w", err)
		}
		unseenCount, deletedCount, bytes = unseenCount+int64(unseen(m.flags)), deletedCount+int64(deleted(m.flags)), bytes+m.size
		ranges = appendRun(ranges, m.uid)
	}
	if err := s.remember(tx, row, modSeq, ranges); err != nil {
		return fmt.Errorf("remember expunged messages: %w", err)
	}
	_, err := tx.Exec(`UPDATE mailbox_mailboxes SET mod_seq = ?, messages = messages - ?, unseen = unseen - ?, deleted = deleted - ?, bytes = bytes - ?,
		expunged = ?, forgotten = ? WHERE id = ?`, modSeq, len(messages), unseenCount, deletedCount, bytes, row.expunged, row.forgotten, row.id)
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	row.modSeq = modSeq
	tx.AfterCommit(func() {
		s.hub.changed(row.id, modSeq)
		s.sweeper.due()
	})
	return nil
}

// remember notes which UIDs have gone, and beyond maxExpunged ranges forgets the
// oldest. It changes the counters of row alone.
func (s *Service) remember(tx *store.Tx, row *mailboxRow, modSeq int64, ranges []uidRange) error {
	if err := s.joinNewest(tx, row, ranges); err != nil {
		return err
	}
	for _, r := range ranges {
		_, err := tx.Exec("INSERT INTO mailbox_expunged (mailbox_id, mod_seq, first_uid, last_uid) VALUES (?, ?, ?, ?)", row.id, modSeq, r.first, r.last)
		if err != nil {
			return err
		}
	}
	row.expunged += int64(len(ranges))
	if row.expunged <= maxExpunged {
		return nil
	}
	err := tx.QueryRow("SELECT mod_seq FROM mailbox_expunged WHERE mailbox_id = ? ORDER BY mod_seq LIMIT 1 OFFSET ?", row.id, row.expunged-maxExpunged-1).
		Scan(&row.forgotten)
	if err != nil {
		return err
	}
	result, err := tx.Exec("DELETE FROM mailbox_expunged WHERE mailbox_id = ? AND mod_seq <= ?", row.id, row.forgotten)
	row.expunged -= result.RowsAffected
	return err
}

// joinNewest joins the range that was noted last to one of the new ranges, if
// they touch: who deletes one message after the other needs one range. Its UIDs
// then count as gone later than they were, which only views that have yet to
// load would mind.
func (s *Service) joinNewest(tx *store.Tx, row *mailboxRow, ranges []uidRange) error {
	var modSeq int64
	var newest uidRange
	err := tx.QueryRow("SELECT mod_seq, first_uid, last_uid FROM mailbox_expunged WHERE mailbox_id = ? ORDER BY mod_seq DESC, first_uid DESC LIMIT 1", row.id).
		Scan(&modSeq, &newest.first, &newest.last)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil || modSeq <= s.hub.pinned(row.id, row.modSeq+1) {
		return err
	}
	for i := range ranges {
		r := &ranges[i]
		if r.first != newest.last+1 && r.last != newest.first-1 {
			continue
		}
		r.first, r.last = min(r.first, newest.first), max(r.last, newest.last)
		row.expunged--
		_, err := tx.Exec("DELETE FROM mailbox_expunged WHERE mailbox_id = ? AND mod_seq = ? AND first_uid = ?", row.id, modSeq, newest.first)
		return err
	}
	return nil
}
