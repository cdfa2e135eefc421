package quarantine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// How a message leaves the quarantine.
const (
	released = "released"
	deleted  = "deleted"
	expired  = "expired"
)

// minNoted is how long it is known at least what became of a message.
const minNoted = 24 * time.Hour

// note remembers what has become of shares, for whoever asks for them later: for as
// long as the message would have been held, and of one that has expired as long again.
func (s *Service) note(tx *store.Tx, m row, list []shareRow, how, by string) error {
	now := s.now()
	until := m.expires
	if how == expired {
		until = now.Add(m.expires.Sub(m.received))
	}
	if least := now.Add(minNoted); until.Before(least) {
		until = least
	}
	_, err := tx.Exec(`INSERT INTO quarantine_ended (message, how, ended, actor, accounts, expires) VALUES (?, ?, ?, ?, ?, ?)`,
		m.id, how, now, by, accountsText(list), until)
	return err
}

// accountsText names the first of the accounts.
func accountsText(list []shareRow) string {
	names := make([]string, 0, shownFor)
	for _, one := range list[:min(len(list), shownFor)] {
		names = append(names, one.account)
	}
	text := strings.Join(names, ", ")
	if more := len(list) - shownFor; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// maxTold bounds how much is told of what became of one message.
const maxTold = 3

// notHeld says that there is nothing to be done, and what has become of the message
// if that is known.
func notHeld(q store.Querier, id, user string) error {
	whose := ""
	if user != "" {
		whose = " for " + user
	}
	rows, err := q.Query(`SELECT how, ended, actor, accounts FROM quarantine_ended WHERE message = ? ORDER BY id DESC LIMIT ?`, id, maxTold)
	if err != nil {
		return err
	}
	defer rows.Close()
	var told []string
	for rows.Next() {
		var how, by, accounts string
		var ended time.Time
		if err := rows.Scan(&how, &ended, &by, &accounts); err != nil {
			return err
		}
		if accounts != "" {
			accounts = " for " + accounts
		}
		if by != "" {
			by = " by " + by
		}
		told = append(told, how+accounts+" at "+ended.UTC().Format(time.DateTime+" MST")+by)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	why := "it was released, deleted or has expired, or the id is mistyped"
	if told != nil {
		why = "it was " + strings.Join(told, ", and ")
	}
	return &notHeldError{fmt.Sprintf("the message %q is not held%s: %s", mail.Printable(id, maxField), whose, why)}
}

// gone is notHeld for callers without a transaction.
func (s *Service) gone(ctx context.Context, id, user string) error {
	return s.store.Read(ctx, func(sn *store.Snapshot) error { return notHeld(sn, id, user) })
}

// notHeldError is a store.ErrNotFound with a text of its own, which says all that
// there is to say.
type notHeldError struct{ text string }

func (e *notHeldError) Error() string      { return e.text }
func (*notHeldError) Is(target error) bool { return target == store.ErrNotFound }

// wrapped says what was tried, unless the error does.
func wrapped(what, id string, err error) error {
	if _, ok := errors.AsType[*notHeldError](err); ok {
		return err
	}
	return fmt.Errorf("%s %s: %w", what, mail.Printable(id, maxField), err)
}

// by names who acts.
func by(ctx context.Context) string { return control.ActorText(ctx) }
