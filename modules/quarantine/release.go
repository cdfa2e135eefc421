package quarantine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// row is what ending a share needs to know of a message.
type row struct {
	id            string
	bodyID, size  int64
	received      time.Time
	expires       time.Time
	author        string
	authenticated string
}

// findRow finds a message; store.ErrNotFound if none of that id is held.
func findRow(q store.Querier, id string) (row, error) {
	r := row{id: id}
	err := q.QueryRow(`SELECT body_id, size, received, expires, author, authenticated FROM quarantine_messages WHERE id = ?`, id).
		Scan(&r.bodyID, &r.size, &r.received, &r.expires, &r.author, &r.authenticated)
	return r, err
}

// shareRow is one share as the database has it.
type shareRow struct {
	id              int64
	account, domain string
}

// shareRows reads shares.
func shareRows(q store.Querier, query string, args ...any) ([]shareRow, error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []shareRow
	for rows.Next() {
		var r shareRow
		if err := rows.Scan(&r.id, &r.account, &r.domain); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// sharesOf gives the shares of a message, or that of one account.
func sharesOf(q store.Querier, id, user string) ([]shareRow, error) {
	if user == "" {
		return shareRows(q, `SELECT id, account, domain FROM quarantine_shares WHERE message = ? AND account <> '' ORDER BY id`, id)
	}
	return shareRows(q, `SELECT id, account, domain FROM quarantine_shares WHERE account = ? AND message = ?`, user, id)
}

// end deletes shares, and what is of no use without them: the message goes with its
// last one, and what it counts for a domain with the domain's last one.
func (s *Service) end(tx *store.Tx, m row, list []shareRow) error {
	for _, one := range list {
		if _, err := tx.Exec(`DELETE FROM quarantine_shares WHERE id = ?`, one.id); err != nil {
			return err
		}
	}
	left, err := has(tx, `SELECT 1 FROM quarantine_shares WHERE message = ? LIMIT 1`, m.id)
	if err == nil {
		err = s.give(tx, m, list, !left)
	}
	if err != nil || left {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM quarantine_messages WHERE id = ?`, m.id); err != nil {
		return err
	}
	err = tx.AddBodyRefs(m.bodyID, -1)
	if errors.Is(err, store.ErrNotFound) { // damage that was done before must not keep the rest from going
		s.log.Error("a message of the quarantine has lost its content", zap.String(logkey.Message, m.id))
		return nil
	}
	return err
}

// has tells whether a query has a row.
func has(q store.Querier, query string, args ...any) (bool, error) {
	var one int
	err := q.QueryRow(query, args...).Scan(&one)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// onShares does something with the shares of a message in one transaction.
func (s *Service) onShares(ctx context.Context, id, user string, do func(tx *store.Tx, m row, list []shareRow) error) (accounts []string, err error) {
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		accounts = nil
		m, err := findRow(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return notHeld(tx, id, user)
		}
		if err != nil {
			return err
		}
		list, err := sharesOf(tx, id, user)
		if err == nil && len(list) == 0 {
			err = notHeld(tx, id, user)
		}
		if err != nil {
			return err
		}
		for _, one := range list {
			accounts = append(accounts, one.account)
		}
		return do(tx, m, list)
	})
	if err != nil {
		return nil, err
	}
	return accounts, nil
}

// ReleaseHeld delivers a message into the INBOX of the accounts that it is held for,
// or of that user alone. The delivery and the end of the shares are one transaction:
// whatever happens, the message is in one of both places, once.
func (s *Service) ReleaseHeld(ctx context.Context, id, user string) (accounts []string, err error) {
	accounts, err = s.release(ctx, id, user, func(*store.Tx, row, []shareRow) error { return nil })
	if err != nil {
		return nil, wrapped("release message", id, err)
	}
	return accounts, nil
}

// release is ReleaseHeld with something more in the same transaction.
func (s *Service) release(ctx context.Context, id, user string, also func(tx *store.Tx, m row, list []shareRow) error) ([]string, error) {
	var found row
	err := s.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		found, err = findRow(sn, id)
		return err
	})
	var p *mailbox.Prepared
	if err == nil {
		p, err = s.mailboxes.PrepareStored(ctx, found.bodyID, found.received)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = s.gone(ctx, id, user)
	}
	if err != nil {
		return nil, err
	}
	defer p.Discard()
	accounts, err := s.onShares(ctx, id, user, func(tx *store.Tx, m row, list []shareRow) error {
		if m.bodyID != found.bodyID {
			return notHeld(tx, id, user)
		}
		if err := also(tx, m, list); err != nil {
			return err
		}
		if err := s.note(tx, m, list, released, by(ctx)); err != nil {
			return err
		}
		return s.releaseIn(tx, p, m, list)
	})
	return accounts, err
}

// releaseIn is the part of release that the writer runs.
func (s *Service) releaseIn(tx *store.Tx, p *mailbox.Prepared, m row, list []shareRow) error {
	targets := make([]mailbox.Target, 0, len(list))
	for _, one := range list {
		targets = append(targets, mailbox.Target{Account: one.account})
	}
	if err := s.mailboxes.DeliverIn(tx, p, targets); err != nil {
		if errors.Is(err, mailbox.ErrGone) {
			return control.Invalid(fmt.Errorf("an account is gone, and nothing has changed: release it for the others with --user, or delete it: %w", err))
		}
		return err
	}
	if s.learner != nil {
		for _, one := range list {
			if err := s.learner.Learn(tx, one.account, m.bodyID, false); err != nil {
				return err
			}
		}
	}
	return s.end(tx, m, list)
}

// DeleteHeld forgets a message for the accounts that it is held for, or for that user
// alone.
func (s *Service) DeleteHeld(ctx context.Context, id, user string) ([]string, error) {
	accounts, err := s.onShares(ctx, id, user, func(tx *store.Tx, m row, list []shareRow) error {
		if err := s.note(tx, m, list, deleted, by(ctx)); err != nil {
			return err
		}
		return s.end(tx, m, list)
	})
	if err != nil {
		return nil, wrapped("delete message", id, err)
	}
	return accounts, nil
}
