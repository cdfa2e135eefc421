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

// The queries of Held, by whose messages are wanted. Messages of which only shares of
// removed accounts are left belong to nobody.
const (
	ofAll    = columns + `EXISTS (SELECT 1 FROM quarantine_shares WHERE message = m.id AND account <> '')` + rest
	ofUser   = columns + `id IN (SELECT message FROM quarantine_shares WHERE account = ?)` + rest
	ofDomain = columns + `id IN (SELECT message FROM quarantine_shares WHERE domain = ? AND account <> '')` + rest

	rest = ` AND (? = '' OR id < ?) AND received >= ?
		AND (? = '' OR instr(lower(from_field), ?) > 0 OR instr(author, ?) > 0 OR instr(lower(reverse_path), ?) > 0) ORDER BY id DESC LIMIT ?`
)

// shownFor is how many accounts a list names of one message; it says how many there
// are.
const shownFor = 3

// Held lists the messages that match, the newest first. next is the After of the page
// that follows, "" if none does.
func (s *Service) Held(ctx context.Context, f control.HeldFilter, p control.Page) (list []control.Held, next string, err error) {
	limit := pageLimit(p)
	query := ofAll
	var args []any
	switch {
	case f.User != "":
		query, args = ofUser, []any{f.User}
	case f.Domain != "":
		query, args = ofDomain, []any{f.Domain}
	}
	from := strings.ToLower(f.From)
	since := f.Since
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	args = append(args, p.After, p.After, since, from, from, from, from, limit+1)
	err = s.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		if list, err = readHeld(sn, query, args...); err != nil {
			return err
		}
		if len(list) > limit {
			list = list[:limit]
			next = list[limit-1].ID
		}
		for i := range list {
			if err := addShares(sn, &list[i], f, shownFor); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("list quarantine: %w", err)
	}
	return list, next, nil
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
		body, err := sn.OpenBody(found.bodyID)
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		m.Header, err = headerOf(io.NewSectionReader(body, 0, body.Size()))
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && m.Accounts == 0 {
		return control.HeldMessage{}, notHeld(id, "")
	}
	if err != nil {
		return control.HeldMessage{}, fmt.Errorf("show message %s: %w", id, err)
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
		if err != nil {
			return err
		}
		if list, err := sharesOf(sn, id, ""); err != nil || len(list) == 0 {
			return errors.Join(err, store.ErrNotFound)
		}
		body, err = sn.OpenBody(found.bodyID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, notHeld(id, "")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read message %s: %w", id, err)
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
