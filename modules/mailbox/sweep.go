package mailbox

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

// sweepStep is how many rows one transaction removes, so that mail never waits
// long for it.
const sweepStep = 200

// sweeper removes what nothing refers to any more: contents without a message,
// and dead mailboxes. What is to go stands in the database, so that a crash
// only delays it.
type sweeper struct {
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

func (w *sweeper) start(s *Service) {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done, w.wake = cancel, make(chan struct{}), make(chan struct{}, 1)
	go func() {
		defer close(w.done)
		for {
			if err := s.sweep(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				s.log.Warn("removal of deleted messages failed, it is tried again after the next one", zap.Error(err))
			}
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (w *sweeper) stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.done
	}
}

// due lets the sweeper look again.
func (w *sweeper) due() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// sweep removes until there is nothing left.
func (s *Service) sweep(ctx context.Context) error {
	for _, step := range []func(*store.Tx) (bool, error){s.sweepMailbox, s.sweepContents} {
		for more := true; more; {
			err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
				more, err = step(tx)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepContents removes contents without messages. One whose body is missing is
// damage that was done before, and no reason to keep the others.
func (s *Service) sweepContents(tx *store.Tx) (more bool, err error) {
	ids, err := queryPairs(tx, "SELECT id, body_id FROM mailbox_contents WHERE refs = 0 LIMIT ?", sweepStep)
	if err != nil {
		return false, err
	}
	missing := 0
	for _, id := range ids {
		if _, err := tx.Exec("DELETE FROM mailbox_contents WHERE id = ?", id[0]); err != nil {
			return false, err
		}
		err := tx.AddBodyRefs(id[1], -1)
		if errors.Is(err, store.ErrNotFound) {
			missing++
			continue
		}
		if err != nil {
			return false, err
		}
	}
	if missing > 0 {
		tx.AfterCommit(func() { s.log.Error("bodies of deleted messages were missing already", zap.Int("messages", missing)) })
	}
	return len(ids) == sweepStep, nil
}

// sweepMailbox removes a part of a dead mailbox.
func (s *Service) sweepMailbox(tx *store.Tx) (more bool, err error) {
	var id int64
	err = tx.QueryRow("SELECT id FROM mailbox_mailboxes WHERE account_id IS NULL LIMIT 1").Scan(&id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	messages, err := queryPairs(tx, "SELECT uid, content_id FROM mailbox_messages WHERE mailbox_id = ? LIMIT ?", id, sweepStep)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		if _, err := tx.Exec("DELETE FROM mailbox_messages WHERE mailbox_id = ? AND uid = ?", id, m[0]); err != nil {
			return false, err
		}
		if err := addContentRefs(tx, m[1], -1); err != nil {
			return false, err
		}
	}
	if len(messages) == sweepStep {
		return true, nil
	}
	expunged, err := queryPairs(tx, "SELECT mod_seq, first_uid FROM mailbox_expunged WHERE mailbox_id = ? LIMIT ?", id, sweepStep)
	if err != nil {
		return false, err
	}
	for _, e := range expunged {
		if _, err := tx.Exec("DELETE FROM mailbox_expunged WHERE mailbox_id = ? AND mod_seq = ? AND first_uid = ?", id, e[0], e[1]); err != nil {
			return false, err
		}
	}
	if len(expunged) == sweepStep {
		return true, nil
	}
	s.hub.forget(id) // even if this fails: nobody selects a dead mailbox
	_, err = tx.Exec("DELETE FROM mailbox_mailboxes WHERE id = ?", id)
	return true, err
}

// queryPairs gives all rows of two integers.
func queryPairs(q store.Querier, query string, args ...any) ([][2]int64, error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var pairs [][2]int64
	var pair [2]int64
	for rows.Next() {
		if err := rows.Scan(&pair[0], &pair[1]); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair)
	}
	return pairs, rows.Err()
}

// addContentRefs changes the number of messages that a content has. At 0 it is
// left to the sweeper.
func addContentRefs(tx *store.Tx, id, delta int64) error {
	_, err := tx.Exec("UPDATE mailbox_contents SET refs = refs + ? WHERE id = ?", delta, id)
	return err
}
