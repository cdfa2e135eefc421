package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

const columns = `SELECT id, size, received, expires, handler, reason, author, authenticated, from_field, subject, message_id,
	reverse_path, listener, remote_ip, scores FROM quarantine_messages AS m WHERE `

// matches tells whether a message is one that a filter asks for.
const matches = `m.received >= ? AND (? = '' OR instr(lower(m.from_field), ?) > 0 OR instr(m.author, ?) > 0 OR instr(lower(m.reverse_path), ?) > 0)`

// The queries of Held, by whose messages are wanted: the ids in the order of the list,
// and whether each is one of them. Messages of which only shares of removed accounts
// are left belong to nobody. An id may come several times.
const (
	ofAll = `SELECT m.id, ` + matches + ` AND EXISTS (SELECT 1 FROM quarantine_shares WHERE message = m.id AND account <> '')
		FROM quarantine_messages AS m WHERE m.id < ? ORDER BY m.id DESC LIMIT ?`
	ofUser = `SELECT s.message, ` + matches + ` FROM quarantine_shares AS s CROSS JOIN quarantine_messages AS m ON m.id = s.message
		WHERE s.account = ? AND s.message < ? ORDER BY s.message DESC LIMIT ?`
	ofDomain = `SELECT s.message, s.account <> '' AND ` + matches + ` FROM quarantine_shares AS s CROSS JOIN quarantine_messages AS m ON m.id = s.message
		WHERE s.domain = ? AND s.message < ? ORDER BY s.message DESC LIMIT ?`
)

// maxScan bounds how many rows are looked at for a page, since strangers choose how
// many there are.
const maxScan = 10_000

// shownFor is how many accounts a list names of one message; it says how many there
// are.
const shownFor = 3

// Held lists the messages that match, the newest first. next is the After of the page
// that follows, "" if none does: a page may have few messages, or none, and not be the
// last one.
func (s *Service) Held(ctx context.Context, f control.HeldFilter, p control.Page) (list []control.Held, next string, err error) {
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		list = nil
		var ids []string
		if ids, next, err = findHeld(sn, f, p); err != nil {
			return err
		}
		for _, id := range ids {
			found, err := readHeld(sn, columns+`id = ?`, id)
			if err != nil {
				return err
			}
			for i := range found {
				if err := addShares(sn, &found[i], f, shownFor); err != nil {
					return err
				}
			}
			list = append(list, found...)
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list quarantine: %w", err)
	}
	return list, next, nil
}

// findHeld gives the ids of a page.
func findHeld(q store.Querier, f control.HeldFilter, p control.Page) (ids []string, next string, err error) {
	since := f.Since
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	before := p.After
	if before == "" {
		before = "\U0010ffff" // behind every id
	}
	from := strings.ToLower(f.From)
	query, args := ofAll, []any{since, from, from, from, from}
	switch {
	case f.User != "":
		query, args = ofUser, append(args, f.User)
	case f.Domain != "":
		query, args = ofDomain, append(args, f.Domain)
	}
	rows, err := q.Query(query, append(args, before, maxScan+1)...)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	return pageOf(rows, pageLimit(p))
}

// pageOf reads the rows of one page. Where it ends for their number, the message
// whose rows are cut is looked at again by the next one.
func pageOf(rows *store.Rows, limit int) (ids []string, next string, err error) {
	var last, previous string
	for seen := 1; rows.Next(); seen++ {
		var id string
		var is int
		if err := rows.Scan(&id, &is); err != nil {
			return nil, "", err
		}
		if seen > maxScan {
			if id == last && previous != "" && (len(ids) == 0 || ids[len(ids)-1] != last) {
				last = previous
			}
			return ids, last, rows.Err()
		}
		if id != last {
			previous, last = last, id
		}
		if is == 0 || len(ids) > 0 && ids[len(ids)-1] == id {
			continue
		}
		if len(ids) == limit {
			return ids, ids[limit-1], nil
		}
		ids = append(ids, id)
	}
	return ids, "", rows.Err()
}

// readHeld reads the rows of a query.
func readHeld(q store.Querier, query string, args ...any) ([]control.Held, error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []control.Held
	for rows.Next() {
		var h control.Held
		var scores []byte
		err := rows.Scan(&h.ID, &h.Size, &h.Received, &h.Expires, &h.Handler, &h.Reason, &h.Author, &h.Authenticated, &h.From, &h.Subject, &h.MessageID,
			&h.ReversePath, &h.Listener, &h.RemoteIP, &scores)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(scores, &h.Scores); err != nil {
			return nil, fmt.Errorf("read scores of %s: %w", h.ID, err)
		}
		list = append(list, h)
	}
	return list, rows.Err()
}

// addShares fills in for whom a message is held, of those that the filter is for.
func addShares(q store.Querier, h *control.Held, f control.HeldFilter, limit int) error {
	const of = ` FROM quarantine_shares WHERE message = ? AND account <> '' AND (? = '' OR account = ?) AND (? = '' OR domain = ?)`
	args := []any{h.ID, f.User, f.User, f.Domain, f.Domain}
	if err := q.QueryRow(`SELECT count(*)`+of, args...).Scan(&h.Accounts); err != nil {
		return err
	}
	rows, err := q.Query(`SELECT account, recipient`+of+` ORDER BY id LIMIT ?`, append(args, limit)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	h.For = make([]control.HeldFor, 0, min(limit, h.Accounts))
	for rows.Next() {
		var one control.HeldFor
		if err := rows.Scan(&one.Account, &one.Recipient); err != nil {
			return err
		}
		h.For = append(h.For, one)
	}
	return rows.Err()
}

// HeldMessage gives one message with its header section.
func (s *Service) HeldMessage(ctx context.Context, id string) (m control.HeldMessage, err error) {
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		found, err := findRow(sn, id)
		if errors.Is(err, store.ErrNotFound) {
			return notHeld(sn, id, "")
		}
		if err != nil {
			return err
		}
		list, err := readHeld(sn, columns+`id = ?`, id)
		if err != nil {
			return err
		}
		m.Held = list[0]
		if err := addShares(sn, &m.Held, control.HeldFilter{}, control.MaxHeldFor); err != nil {
			return err
		}
		if m.Accounts == 0 {
			return notHeld(sn, id, "")
		}
		body, err := sn.OpenBody(found.bodyID)
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		m.Header, err = headerOf(io.NewSectionReader(body, 0, body.Size()))
		return err
	})
	if err != nil {
		return control.HeldMessage{}, wrapped("show message", id, err)
	}
	return m, nil
}

// maxShownHeader bounds how much of a header section is shown. This server's own
// fields come on top of what a message may have when it comes in.
const maxShownHeader = mail.MaxHeaderSize + 64<<10

// headerOf gives the header section of a message as text, without the empty line.
func headerOf(r io.Reader) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxShownHeader))
	if err != nil {
		return "", fmt.Errorf("read header section: %w", err)
	}
	text := string(raw)
	if strings.HasPrefix(text, "\r\n") {
		return "", nil
	}
	if end := strings.Index(text, "\r\n\r\n"); end >= 0 {
		text = text[:end+len("\r\n")]
	}
	return strings.ToValidUTF8(text, "?"), nil
}

// HeldContent gives the whole message, which the caller closes.
func (s *Service) HeldContent(ctx context.Context, id string) (content io.ReadCloser, size int64, err error) {
	var body *store.BodyReader
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		found, err := findRow(sn, id)
		if errors.Is(err, store.ErrNotFound) {
			return notHeld(sn, id, "")
		}
		if err != nil {
			return err
		}
		list, err := sharesOf(sn, id, "")
		if err == nil && len(list) == 0 {
			err = notHeld(sn, id, "")
		}
		if err != nil {
			return err
		}
		body, err = sn.OpenBody(found.bodyID)
		return err
	})
	if err != nil {
		return nil, 0, wrapped("read message", id, err)
	}
	return &contentReader{io.NewSectionReader(body, 0, body.Size()), body}, body.Size(), nil
}

// contentReader reads a body from its beginning.
type contentReader struct {
	io.Reader
	body *store.BodyReader
}

// Close frees the body.
func (r *contentReader) Close() error { return r.body.Close() }
