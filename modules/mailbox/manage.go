package mailbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// insertMailbox makes an empty mailbox. Its UIDVALIDITY is the time, and higher
// than any that was given before, so that a name never means another mailbox
// under the same UIDVALIDITY.
func (s *Service) insertMailbox(tx *store.Tx, accountID int64, name string, use imap.MailboxAttr) error {
	var uidValidity int64
	err := tx.QueryRow("UPDATE mailbox_uid_validity SET last = max(last + 1, ?) RETURNING last", s.now().Unix()).Scan(&uidValidity)
	if err != nil {
		return fmt.Errorf("take uidvalidity: %w", err)
	}
	_, err = tx.Exec(`INSERT INTO mailbox_mailboxes (account_id, name, special_use, uid_validity, uid_next, mod_seq,
		messages, unseen, deleted, bytes, keywords, expunged, forgotten) VALUES (?, ?, ?, ?, 1, 1, 0, 0, 0, 0, ?, 0, 0)`,
		accountID, name, string(use), uidValidity, firstKeywords)
	if err != nil {
		return fmt.Errorf("insert mailbox %s: %w", name, err)
	}
	return nil
}

// Create makes a mailbox and those above it that are missing.
func (a *Account) Create(ctx context.Context, name string, o *imap.CreateOptions) error {
	name, err := newName(name)
	if err != nil {
		return err
	}
	use, err := specialUse(o)
	if err != nil {
		return err
	}
	return a.service.store.Write(ctx, func(tx *store.Tx) error {
		if err := a.useIsFree(tx, use); err != nil {
			return err
		}
		return a.create(tx, name, use)
	})
}

// useIsFree refuses a special use that another mailbox has.
func (a *Account) useIsFree(tx *store.Tx, use imap.MailboxAttr) error {
	if use == "" {
		return nil
	}
	var other string
	err := tx.QueryRow("SELECT name FROM mailbox_mailboxes WHERE account_id = ? AND special_use = ?", a.id, string(use)).Scan(&other)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("find special use: %w", err)
	default:
		return refuse("USEATTR", "The mailbox %q has the special use %s already", other, use)
	}
}

// specialUse gives the use that a client asks for (RFC 6154 section 3). Uses
// that stand for a search over other mailboxes are not offered.
func specialUse(o *imap.CreateOptions) (imap.MailboxAttr, error) {
	if o == nil || len(o.SpecialUse) == 0 {
		return "", nil
	}
	if len(o.SpecialUse) == 1 {
		for _, m := range standardMailboxes {
			if m.use != "" && strings.EqualFold(string(m.use), string(o.SpecialUse[0])) {
				return m.use, nil
			}
		}
	}
	return "", refuse("USEATTR", "The special use %v is not offered; use one of \\Archive, \\Drafts, \\Junk, \\Sent and \\Trash", o.SpecialUse)
}

// create makes a mailbox with a name in normal form.
func (a *Account) create(tx *store.Tx, name string, use imap.MailboxAttr) error {
	if err := a.prepare(tx, name); err != nil {
		return err
	}
	return a.service.insertMailbox(tx, a.id, name, use)
}

// prepare looks whether there may be a mailbox of a new name, and makes those
// above it that are missing.
func (a *Account) prepare(tx *store.Tx, name string) error {
	rows, err := mailboxesOf(tx, a.id)
	if err != nil {
		return fmt.Errorf("list mailboxes: %w", err)
	}
	if len(rows) == 0 {
		return ErrGone
	}
	have := make(map[string]bool, len(rows))
	for i := range rows {
		have[rows[i].name] = true
	}
	if have[name] {
		return refuse(imap.ResponseCodeAlreadyExists, "There is a mailbox %q already", name)
	}
	missing := parents(name)
	if len(rows)+len(missing)+1 > maxMailboxes {
		return refuse(imap.ResponseCodeLimit, "The account has %d mailboxes, and may have no more than %d; delete some first", len(rows), maxMailboxes)
	}
	for _, parent := range missing {
		if !have[parent] {
			if err := a.service.insertMailbox(tx, a.id, parent, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete removes a mailbox with its messages; those below it stay. INBOX cannot
// be deleted. Subscriptions stay (RFC 9051 section 6.3.8).
func (a *Account) Delete(ctx context.Context, name string) error {
	return a.service.store.Write(ctx, func(tx *store.Tx) error {
		row, err := mailboxNamed(tx, a.id, name)
		if err != nil {
			return err
		}
		if row.name == inbox {
			return refuse(imap.ResponseCodeCannot, "INBOX cannot be deleted")
		}
		if _, err := tx.Exec("UPDATE mailbox_mailboxes SET account_id = NULL WHERE id = ?", row.id); err != nil {
			return fmt.Errorf("delete mailbox %s: %w", row.name, err)
		}
		tx.AfterCommit(func() { a.service.buried(row.id) })
		return nil
	})
}

// Rename gives a mailbox and those below it another name. Renaming INBOX leaves
// those below it and an empty INBOX (RFC 9051 section 6.3.6), which is another
// mailbox then: views of the old one end with ErrGone.
func (a *Account) Rename(ctx context.Context, from, to string) error {
	to, err := newName(to)
	if err != nil {
		return err
	}
	from = normalName(strings.TrimSuffix(from, string(Delimiter)))
	if below(to, from) && from != inbox {
		return refuse(imap.ResponseCodeCannot, "The mailbox %q cannot be moved below itself", from)
	}
	return a.service.store.Write(ctx, func(tx *store.Tx) error {
		if from == inbox {
			return a.renameInbox(tx, to)
		}
		return a.rename(tx, from, to)
	})
}

// renameInbox gives the mailbox that is INBOX another name and makes a new one,
// so that it takes no longer for more messages.
func (a *Account) renameInbox(tx *store.Tx, to string) error {
	row, err := mailboxNamed(tx, a.id, inbox)
	if err != nil {
		return err
	}
	if err := a.prepare(tx, to); err != nil {
		return err
	}
	modSeq := row.modSeq + 1
	if _, err := tx.Exec("UPDATE mailbox_mailboxes SET name = ?, mod_seq = ? WHERE id = ?", to, modSeq, row.id); err != nil {
		return fmt.Errorf("rename %s: %w", inbox, err)
	}
	tx.AfterCommit(func() { a.service.hub.changed(row.id, modSeq) })
	return a.service.insertMailbox(tx, a.id, inbox, "")
}

// rename changes the names of a mailbox and of those below it.
func (a *Account) rename(tx *store.Tx, from, to string) error {
	rows, err := mailboxesOf(tx, a.id)
	if err != nil {
		return fmt.Errorf("list mailboxes: %w", err)
	}
	have := make(map[string]bool, len(rows))
	var moving []mailboxRow
	for i := range rows {
		if name := rows[i].name; name == from || below(name, from) {
			moving = append(moving, rows[i])
		} else {
			have[name] = true
		}
	}
	if len(moving) == 0 {
		return refuse(imap.ResponseCodeNonExistent, "There is no mailbox %q", from)
	}
	if have[to] || from == to {
		return refuse(imap.ResponseCodeAlreadyExists, "There is a mailbox %q already", to)
	}
	missing := parents(to)
	if len(rows)+len(missing) > maxMailboxes {
		return refuse(imap.ResponseCodeLimit, "The account has %d mailboxes, and may have no more than %d; delete some first", len(rows), maxMailboxes)
	}
	for i := range moving {
		name, err := newName(to + moving[i].name[len(from):])
		if err != nil {
			return err
		}
		if have[name] {
			return refuse(imap.ResponseCodeAlreadyExists, "There is a mailbox %q already", name)
		}
		if _, err := tx.Exec("UPDATE mailbox_mailboxes SET name = ? WHERE id = ?", name, moving[i].id); err != nil {
			return fmt.Errorf("rename mailbox %s: %w", moving[i].name, err)
		}
		have[name] = true
	}
	for _, parent := range missing {
		if !have[parent] {
			if err := a.service.insertMailbox(tx, a.id, parent, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// Subscribe adds a name to the subscriptions. The mailbox need not exist.
func (a *Account) Subscribe(ctx context.Context, name string) error {
	name, err := newName(name)
	if err != nil {
		return err
	}
	return a.service.store.Write(ctx, func(tx *store.Tx) error {
		if _, err := mailboxNamed(tx, a.id, inbox); err != nil {
			return err // the account was removed
		}
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM mailbox_subscriptions WHERE account_id = ?", a.id).Scan(&n); err != nil {
			return fmt.Errorf("count subscriptions: %w", err)
		}
		if n >= maxMailboxes {
			return refuse(imap.ResponseCodeLimit, "The account has %d subscriptions, and may have no more; remove some first", n)
		}
		return subscribe(tx, a.id, name)
	})
}

func subscribe(tx *store.Tx, accountID int64, name string) error {
	_, err := tx.Exec("INSERT INTO mailbox_subscriptions (account_id, name) VALUES (?, ?) ON CONFLICT DO NOTHING", accountID, name)
	return err
}

// Unsubscribe removes a name from the subscriptions, if it is there.
func (a *Account) Unsubscribe(ctx context.Context, name string) error {
	return a.service.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM mailbox_subscriptions WHERE account_id = ? AND name = ?",
			a.id, normalName(strings.TrimSuffix(name, string(Delimiter))))
		return err
	})
}
