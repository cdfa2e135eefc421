package mailbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// How many messages one transaction copies or moves, so that mail never waits
// long for it.
const (
	maxCopy  = 20_000 // all that a command may copy
	moveStep = 2000
)

// Copy copies messages to another mailbox of the account, all or none, and no
// more than maxCopy. A destination that does not exist is an error with the code
// TRYCREATE. Data without UIDs means that none of the messages exist any more.
func (v *View) Copy(ctx context.Context, set imap.NumSet, destination string) (*imap.CopyData, error) {
	spans, err := v.resolve(ctx, set)
	if err != nil {
		return nil, err
	}
	if n := length(spans); n > maxCopy {
		return nil, refuse(imap.ResponseCodeLimit, "%d messages are too many for one copy; copy no more than %d at once", n, maxCopy)
	}
	t := transfer{view: v, name: destination}
	return t.run(ctx, [][]span{spans})
}

// Move copies messages to another mailbox and expunges them here (RFC 6851).
// Each message is moved or stays; when an error comes after some were moved,
// they stay moved. The expunges come by Poll.
func (v *View) Move(ctx context.Context, set imap.NumSet, destination string) (*imap.CopyData, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	spans, err := v.resolve(ctx, set)
	if err != nil {
		return nil, err
	}
	t := transfer{view: v, name: destination, move: true}
	return t.run(ctx, split(spans, moveStep))
}

// transfer copies or moves messages between two mailboxes of an account.
type transfer struct {
	view *View
	name string // of the destination
	move bool

	tx                  *store.Tx // of the step that runs
	source, destination *mailboxRow

	sourceUIDs, destinationUIDs imap.UIDSet
}

// run transfers pieces, each in a transaction of its own.
func (t *transfer) run(ctx context.Context, pieces [][]span) (*imap.CopyData, error) {
	if len(pieces) == 0 {
		pieces = [][]span{nil} // a destination that does not exist is told all the same
	}
	for _, piece := range pieces {
		ranges := t.view.uidRanges(piece)
		err := t.view.account.service.store.Write(ctx, func(tx *store.Tx) error {
			t.tx = tx
			return t.step(ranges)
		})
		if err != nil {
			return nil, fmt.Errorf("copy messages: %w", err)
		}
	}
	return &imap.CopyData{UIDValidity: uint32(t.destination.uidValidity), SourceUIDs: t.sourceUIDs, DestUIDs: t.destinationUIDs}, nil
}

// step is the part of a piece's transfer that the writer runs.
func (t *transfer) step(ranges []uidRange) (err error) {
	if t.source, err = t.view.row(t.tx); err != nil {
		return err
	}
	if t.destination, err = t.findDestination(); err != nil {
		return err
	}
	if t.source.id == t.destination.id {
		t.destination = t.source
	}
	var messages []transferred
	for _, r := range ranges {
		if messages, err = t.read(messages, r); err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	if err := t.room(len(messages)); err != nil {
		return err
	}
	if err := t.insert(messages); err != nil {
		return err
	}
	if err := t.teach(messages); err != nil {
		return err
	}
	if t.move {
		removed := make([]removal, len(messages))
		for i, m := range messages {
			removed[i] = removal{uid: m.uid, contentID: m.contentID, flags: flags(m.flags), size: m.size}
		}
		return t.view.account.service.remove(t.tx, t.source, removed)
	}
	return nil
}

// findDestination finds the destination by its name, and once it was found that
// very mailbox, since all UIDs that are given belong to one UIDVALIDITY.
func (t *transfer) findDestination() (*mailboxRow, error) {
	accountID := t.view.account.id
	if t.destination == nil {
		row, err := mailboxNamed(t.tx, accountID, t.name)
		return row, tryCreate(err)
	}
	row, err := mailboxAt(t.tx, accountID, t.destination.id)
	if errors.Is(err, ErrGone) {
		err = refuse(imap.ResponseCodeTryCreate, "The mailbox %q was deleted meanwhile", t.name)
	}
	return row, err
}

// room refuses more messages than the destination, and by copies the account,
// may have.
func (t *transfer) room(more int) error {
	if t.move && t.destination == t.source {
		return nil
	}
	if err := t.destination.room(more); err != nil || t.move {
		return err
	}
	var n int
	err := t.tx.QueryRow("SELECT sum(messages) FROM mailbox_mailboxes WHERE account_id = ?", t.view.account.id).Scan(&n)
	if err != nil {
		return fmt.Errorf("count messages of the account: %w", err)
	}
	if n+more > maxAccountMessages {
		return refuse(imap.ResponseCodeLimit, "The account has %d messages, and may have no more than %d by copies; delete some first", n, maxAccountMessages)
	}
	return nil
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
	service := t.view.account.service
	saved := service.now().Unix()
	modSeq := d.modSeq + 1
	uid := d.uidNext
	grown := d.keywords
	var unseenCount, deletedCount, bytes int64
	for i := range messages {
		m := &messages[i]
		var set flags
		set, grown = t.source.keywords.into(grown, flags(m.flags))
		_, err := t.tx.Exec(insertMessage, d.id, uid, int64(set), modSeq, modSeq, m.contentID,
			m.received, m.zone, saved, m.size, t.view.account.id, m.messageID, m.threadID)
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
	t.tx.AfterCommit(func() { service.hub.changed(d.id, modSeq) })
	return nil
}
