package mailbox

import (
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// expungeStep is how many messages one transaction removes, so that mail never
// waits long for it.
const expungeStep = 1000

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
	run := uidRange{messages[0].uid, messages[0].uid - 1}
	for _, m := range messages {
		if _, err := tx.Exec("DELETE FROM mailbox_messages WHERE mailbox_id = ? AND uid = ?", row.id, m.uid); err != nil {
			return fmt.Errorf("delete message: %w", err)
		}
		if err := addContentRefs(tx, m.contentID, -1); err != nil {
			return fmt.Errorf("count references: %w", err)
		}
		unseenCount, deletedCount, bytes = unseenCount+int64(unseen(m.flags)), deletedCount+int64(deleted(m.flags)), bytes+m.size
		if m.uid != run.last+1 {
			if err := insertExpunged(tx, row.id, modSeq, run); err != nil {
				return err
			}
			run.first = m.uid
		}
		run.last = m.uid
	}
	if err := insertExpunged(tx, row.id, modSeq, run); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE mailbox_mailboxes SET mod_seq = ?, messages = messages - ?, unseen = unseen - ?, deleted = deleted - ?, bytes = bytes - ?
		WHERE id = ?`, modSeq, len(messages), unseenCount, deletedCount, bytes, row.id)
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

func insertExpunged(tx *store.Tx, mailboxID, modSeq int64, r uidRange) error {
	_, err := tx.Exec("INSERT INTO mailbox_expunged (mailbox_id, mod_seq, first_uid, last_uid) VALUES (?, ?, ?, ?)", mailboxID, modSeq, r.first, r.last)
	if err != nil {
		return fmt.Errorf("remember expunged messages: %w", err)
	}
	return nil
}
