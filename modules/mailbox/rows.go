package mailbox

import (
	"context"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// row is what the database knows about a message, beyond what the view does.
type row struct {
	uid, received, zone, saved, size, threadID, contentID int64

	content content // empty unless asked for
}

// content is what is the same in all mailboxes that a message stands in.
type content struct {
	bodyID, sentDay             int64
	envelope, structure, fields string
}

// columns say how much of a row is read.
type columns uint8

const (
	columnsDetails  columns = iota // what the mailbox's own row has
	columnsEnvelope                // the envelope and the ids too
	columnsAll
)

// rowQueries read the rows in a range of UIDs.
var rowQueries = [...]string{
	columnsDetails:  "SELECT " + rowDetails + " FROM mailbox_messages m" + rowsInRange,
	columnsEnvelope: "SELECT " + rowDetails + ", c.body_id, c.sent_day, c.envelope" + fromContents + rowsInRange,
	columnsAll:      "SELECT " + rowDetails + ", c.body_id, c.sent_day, c.envelope, c.structure, c.fields" + fromContents + rowsInRange,
}

const (
	rowDetails   = "m.uid, m.received, m.received_zone, m.saved, m.size, m.thread_id, m.content_id"
	fromContents = " FROM mailbox_messages m JOIN mailbox_contents c ON c.id = m.content_id"
	rowsInRange  = " WHERE m.mailbox_id = ? AND m.uid BETWEEN ? AND ? ORDER BY m.uid"
)

// destinations are where the columns go.
func (r *row) destinations(c columns) []any {
	dest := []any{&r.uid, &r.received, &r.zone, &r.saved, &r.size, &r.threadID, &r.contentID}
	if c >= columnsEnvelope {
		dest = append(dest, &r.content.bodyID, &r.content.sentDay, &r.content.envelope)
	}
	if c == columnsAll {
		dest = append(dest, &r.content.structure, &r.content.fields)
	}
	return dest
}

// internalDate gives INTERNALDATE in the zone in which it was given.
func (r *row) internalDate() time.Time {
	return time.Unix(r.received, 0).In(time.FixedZone("", int(r.zone)*60))
}

// memory is about how many bytes a row takes.
func (r *row) memory() int {
	return 200 + len(r.content.envelope) + len(r.content.structure) + len(r.content.fields)
}

// How much one transaction reads before its rows are looked at.
const (
	readStep  = 256
	readBytes = 1 << 20
)

// readRows calls each for the entries of spans, with the index of the entry.
// Those that are not in the database any more are left out. It reads a bounded
// number of rows at a time, and calls each when the transaction is over.
func (v *View) readRows(ctx context.Context, spans []span, read columns, each func(i int, r *row) error) error {
	rows := make([]row, 0, readStep)
	for _, piece := range split(spans, readStep) {
		for len(piece) > 0 {
			var err error
			if rows, piece, err = v.readPiece(ctx, rows[:0], piece, read); err != nil {
				return err
			}
			for n := range rows {
				i := v.search(rows[n].uid)
				if i == len(v.entries) || int64(v.entries[i].uid) != rows[n].uid {
					continue
				}
				if err := each(i, &rows[n]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// readPiece reads up to readBytes in one transaction and gives what is left.
func (v *View) readPiece(ctx context.Context, rows []row, piece []span, read columns) ([]row, []span, error) {
	err := v.account.service.store.Read(ctx, func(sn *store.Snapshot) error {
		memory := 0
		for len(piece) > 0 {
			s := piece[0]
			piece = piece[1:]
			full := false
			var err error
			if rows, full, err = v.readSpan(sn, rows, s, read, &memory); err != nil {
				return fmt.Errorf("read messages: %w", err)
			}
			if !full {
				continue
			}
			if s.begin = v.search(rows[len(rows)-1].uid + 1); s.begin < s.end {
				piece = append([]span{s}, piece...)
			}
			return nil
		}
		return nil
	})
	return rows, piece, err
}

// readSpan reads the rows of a span until memory exceeds readBytes.
func (v *View) readSpan(sn *store.Snapshot, rows []row, s span, read columns, memory *int) ([]row, bool, error) {
	r := v.uids(s)
	result, err := sn.Query(rowQueries[read], v.mailboxID, r.first, r.last)
	if err != nil {
		return rows, false, err
	}
	defer result.Close()
	var m row
	dest := m.destinations(read)
	for result.Next() {
		if err := result.Scan(dest...); err != nil {
			return rows, false, err
		}
		rows = append(rows, m)
		if *memory += m.memory(); *memory > readBytes {
			return rows, true, nil
		}
	}
	return rows, false, result.Err()
}
