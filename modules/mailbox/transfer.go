package mailbox

import (
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// Copy copies messages to another mailbox of the account, all or none. A
// destination that does not exist is an error with the code TRYCREATE. Data
// without UIDs means that none of the messages exist any more.
func (v *View) Copy(ctx context.Context, set imap.NumSet, destination string) (*imap.CopyData, error) {
	return v.transfer(ctx, set, destination, false)
}

// Move copies messages to another mailbox and expunges them here, all or none
// (RFC 6851). The expunges come by Poll.
func (v *View) Move(ctx context.Context, set imap.NumSet, destination string) (*imap.CopyData, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	return v.transfer(ctx, set, destination, true)
}

func (v *View) transfer(ctx context.Context, set imap.NumSet, destination string, move bool) (*imap.CopyData, error) {
	spans, err := v.resolve(ctx, set)
	if err != nil {
		return nil, err
	}
	t := transfer{service: v.account.service, accountID: v.account.id, move: move}
	err = t.service.store.Write(ctx, func(tx *store.Tx) error {
		t.tx = tx
		if t.source, err = v.row(tx); err != nil {
			return err
		}
		if t.destination, err = mailboxNamed(tx, v.account.id, destination); err != nil {
			return tryCreate(err)
		}
		return t.run(v.uidRanges(spans))
	})
	if err != nil {
		return nil, fmt.Errorf("copy messages: %w", err)
	}
	return &imap.CopyData{UIDValidity: uint32(t.destination.uidValidity), SourceUIDs: t.sourceUIDs, DestUIDs: t.destinationUIDs}, nil
}

// transfer copies or moves messages between two mailboxes of an account, within
// one transaction.
type transfer struct {
	service             *Service
	tx                  *store.Tx
	accountID           int64
	source, destination *mailboxRow
	move                bool

	sourceUIDs, destinationUIDs imap.UIDSet
}

// transferred is what a message takes along.
type transferred struct {
	uid       int64
	flags     int64
	contentID int64
	received  int64
	zone      int64
	size      int64
	messageID int64
	threadID  int64
}

func (t *transfer) run(ranges []uidRange) error {
	if t.source.id == t.destination.id {
		t.destination = t.source
	}
	var messages []transferred
	for _, r := range ranges {
		var err error
		if messages, err = t.read(messages, r); err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	if err := t.insert(messages); err != nil {
		return err
	}
	if t.move {
		removed := make([]removal, len(messages))
		for i, m := range messages {
			removed[i] = removal{uid: m.uid, contentID: m.contentID, flags: flags(m.flags), size: m.size}
		}
		return t.service.remove(t.tx, t.source, removed)
	}
	return nil
}

func (t *transfer) read(messages []transferred, r uidRange) ([]transferred, error) {
	rows, err := t.tx.Query(`SELECT uid, flags, content_id, received, received_zone, size, message_id, thread_id
		FROM mailbox_messages WHERE mailbox_id = ? AND uid BETWEEN ? AND ? ORDER BY uid`, t.source.id, r.first, r.last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var m transferred
	dest := []any{&m.uid, &m.flags, &m.contentID, &m.received, &m.zone, &m.size, &m.messageID, &m.threadID}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, rows.Err()
}

// insert puts the messages into the destination.
func (t *transfer) insert(messages []transferred) error {
	d := t.destination
	saved := t.service.now().Unix()
	modSeq := d.modSeq + 1
	uid := d.uidNext
	grown := d.keywords
	var unseenCount, deletedCount, bytes int64
	for i := range messages {
		m := &messages[i]
		var set flags
		set, grown = t.source.keywords.into(grown, flags(m.flags))
		_, err := t.tx.Exec(insertMessage, d.id, uid, int64(set), modSeq, modSeq, m.contentID,
			m.received, m.zone, saved, m.size, t.accountID, m.messageID, m.threadID)
		if err != nil {
			return fmt.Errorf("insert message: %w", err)
		}
		if err := addContentRefs(t.tx, m.contentID, 1); err != nil {
			return fmt.Errorf("count references: %w", err)
		}
		unseenCount, deletedCount, bytes = unseenCount+int64(unseen(set)), deletedCount+int64(deleted(set)), bytes+m.size
		t.sourceUIDs = appendUID(t.sourceUIDs, m.uid)
		t.destinationUIDs = appendUID(t.destinationUIDs, uid)
		uid++
	}
	d.uidNext, d.modSeq = uid, modSeq
	if err := saveKeywords(t.tx, d, grown); err != nil {
		return fmt.Errorf("save keywords: %w", err)
	}
	_, err := t.tx.Exec(`UPDATE mailbox_mailboxes SET uid_next = ?, mod_seq = ?, messages = messages + ?,
		unseen = unseen + ?, deleted = deleted + ?, bytes = bytes + ? WHERE id = ?`,
		uid, modSeq, len(messages), unseenCount, deletedCount, bytes, d.id)
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	t.tx.AfterCommit(func() { t.service.hub.changed(d.id, modSeq) })
	return nil
}
