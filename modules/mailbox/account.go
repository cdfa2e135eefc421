package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// Delimiter separates the levels of hierarchy in the name of a mailbox.
const Delimiter = '/'

// Account is the mailboxes of one account. It is safe for concurrent use and
// holds nothing that must be closed. Names of mailboxes are UTF-8; INBOX is
// INBOX in any case of the letters.
type Account struct {
	service *Service
	id      int64
	address string
}

// standardMailboxes are those that every account begins with (RFC 6154).
var standardMailboxes = [...]struct {
	name string
	use  imap.MailboxAttr
}{
	{inbox, ""},
	{"Archive", imap.MailboxAttrArchive},
	{"Drafts", imap.MailboxAttrDrafts},
	{"Junk", imap.MailboxAttrJunk},
	{"Sent", imap.MailboxAttrSent},
	{"Trash", imap.MailboxAttrTrash},
}

// Open gives the mailboxes of an account, making the standard ones at the first
// use. Without an account of that address the error is ErrGone.
func (s *Service) Open(ctx context.Context, address string) (*Account, error) {
	a := &Account{service: s, address: address}
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow("SELECT id FROM mailbox_accounts WHERE address = ?", address).Scan(&a.id)
	})
	if errors.Is(err, store.ErrNotFound) {
		err = s.store.Write(ctx, func(tx *store.Tx) (err error) {
			a.id, err = s.ensureAccount(tx, address)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("open mailboxes of %s: %w", address, err)
	}
	return a, nil
}

// ensureAccount gives the id of an account. The first time it makes its
// mailboxes, if there is such an account: mail that was on its way to one that
// was removed must not wait for the next of that address.
func (s *Service) ensureAccount(tx *store.Tx, address string) (id int64, err error) {
	err = tx.QueryRow("SELECT id FROM mailbox_accounts WHERE address = ?", address).Scan(&id)
	if !errors.Is(err, store.ErrNotFound) {
		return id, err
	}
	if s.accounts != nil {
		exists, err := s.accounts.ExistsIn(tx, address)
		if err != nil {
			return 0, err
		}
		if !exists {
			return 0, fmt.Errorf("find account %s: %w", address, ErrGone)
		}
	}
	r, err := tx.Exec("INSERT INTO mailbox_accounts (address) VALUES (?)", address)
	if err != nil {
		return 0, err
	}
	for _, m := range standardMailboxes {
		if err := s.insertMailbox(tx, r.LastInsertID, m.name, m.use); err != nil {
			return 0, err
		}
		if err := subscribe(tx, r.LastInsertID, m.name); err != nil {
			return 0, err
		}
	}
	return r.LastInsertID, nil
}

// RemoveAccount removes all mailboxes of an account within the caller's
// transaction. The messages go a little later, in small steps. An account
// without mailboxes is no error.
func (s *Service) RemoveAccount(tx *store.Tx, address string) error {
	var id int64
	err := tx.QueryRow("SELECT id FROM mailbox_accounts WHERE address = ?", address).Scan(&id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find mailboxes of %s: %w", address, err)
	}
	rows, err := mailboxesOf(tx, id)
	if err != nil {
		return fmt.Errorf("list mailboxes of %s: %w", address, err)
	}
	for _, query := range [...]string{
		"UPDATE mailbox_mailboxes SET account_id = NULL WHERE account_id = ?",
		"DELETE FROM mailbox_subscriptions WHERE account_id = ?",
		"DELETE FROM mailbox_accounts WHERE id = ?",
	} {
		if _, err := tx.Exec(query, id); err != nil {
			return fmt.Errorf("remove mailboxes of %s: %w", address, err)
		}
	}
	tx.AfterCommit(func() {
		for i := range rows {
			s.buried(rows[i].id)
		}
	})
	return nil
}

// buried is called after the commit that made a mailbox a dead one.
func (s *Service) buried(mailboxID int64) {
	s.hub.changed(mailboxID, goneModSeq)
	s.sweeper.due()
}

// Address is the account's address.
func (a *Account) Address() string { return a.address }

// Usage is what an account holds, against which quotas count.
type Usage struct {
	Messages int64
	Bytes    int64
}

// Usage gives what the account holds in all its mailboxes. Its mailboxes keep
// the counters, so that it costs no look at the messages.
func (a *Account) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	err := a.service.store.Read(ctx, func(sn *store.Snapshot) error {
		return sn.QueryRow("SELECT coalesce(sum(messages), 0), coalesce(sum(bytes), 0) FROM mailbox_mailboxes WHERE account_id = ?", a.id).
			Scan(&u.Messages, &u.Bytes)
	})
	if err != nil {
		return Usage{}, fmt.Errorf("count messages of %s: %w", a.address, err)
	}
	return u, nil
}

// Append stores a message of size bytes in a mailbox; when it returns nil the
// message is durable. A mailbox that does not exist is an error with the code
// TRYCREATE, and r may not be read to its end then.
func (a *Account) Append(ctx context.Context, name string, r io.Reader, size int64, o *imap.AppendOptions) (*imap.AppendData, error) {
	s := a.service
	if _, err := a.mailbox(ctx, name); err != nil {
		return nil, tryCreate(err)
	}
	spool := mail.NewSpool(s.store.Dir(), spoolLimit)
	defer func() { _ = spool.Close() }()
	if _, err := io.CopyN(spool, r, size); err != nil {
		return nil, fmt.Errorf("read appended message: %w", err)
	}
	content, err := spool.Message()
	if errors.Is(err, mail.ErrHeaderTooLarge) {
		return nil, refuse(imap.ResponseCodeLimit, "The header section of the message is larger than %d KB", mail.MaxHeaderSize>>10)
	}
	if err != nil {
		return nil, err
	}
	if o == nil {
		o = new(imap.AppendOptions)
	}
	received := o.Time
	if received.IsZero() {
		received = s.now()
	}
	m, err := s.take(func() io.Reader { return content.Open() }, size, received)
	if err != nil {
		return nil, err
	}
	defer m.body.Discard()
	var box taken
	err = s.store.Write(ctx, func(tx *store.Tx) (err error) {
		box, err = a.append(tx, name, m, o.Flags)
		return err
	})
	if err != nil {
		return nil, tryCreate(err)
	}
	return &imap.AppendData{UID: imap.UID(box.uid), UIDValidity: uint32(box.uidValidity)}, nil
}

// spoolLimit is how much of an appended message stays in memory.
const spoolLimit = 64 << 10

// append is the part of Append that the writer runs.
func (a *Account) append(tx *store.Tx, name string, m *message, list []imap.Flag) (taken, error) {
	s := a.service
	row, err := mailboxNamed(tx, a.id, name)
	if err != nil {
		return taken{}, err
	}
	if err := row.room(1); err != nil {
		return taken{}, err
	}
	set, grown, err := row.keywords.set(list)
	if err != nil {
		return taken{}, err
	}
	if err := saveKeywords(tx, row, grown); err != nil {
		return taken{}, err
	}
	if err := s.insertContent(tx, m, 1); err != nil {
		return taken{}, err
	}
	box, err := takeUIDAt(tx, place{id: row.id, accountID: a.id, name: row.name}, set, m.size)
	if err != nil {
		return taken{}, err
	}
	if err := s.insertMessage(tx, m, box, set); err != nil {
		return taken{}, err
	}
	tx.AfterCommit(func() { s.hub.changed(box.id, box.modSeq) })
	return box, nil
}

// saveKeywords keeps the keywords that were added to a mailbox.
func saveKeywords(tx *store.Tx, row *mailboxRow, grown keywords) error {
	if len(grown) == len(row.keywords) {
		return nil
	}
	row.keywords = grown
	_, err := tx.Exec("UPDATE mailbox_mailboxes SET keywords = ? WHERE id = ?", grown.String(), row.id)
	return err
}

// mailboxRow is a mailbox as the database has it.
type mailboxRow struct {
	id          int64
	name        string
	specialUse  string
	uidValidity int64
	uidNext     int64
	modSeq      int64
	messages    int64
	unseen      int64
	deleted     int64
	bytes       int64
	keywords    keywords
	expunged    int64
	forgotten   int64
}

const selectMailbox = `SELECT id, name, special_use, uid_validity, uid_next, mod_seq, messages, unseen, deleted, bytes, keywords,
	expunged, forgotten FROM mailbox_mailboxes `

type scanner interface{ Scan(dest ...any) error }

func (m *mailboxRow) scan(row scanner) error {
	var words string
	err := row.Scan(&m.id, &m.name, &m.specialUse, &m.uidValidity, &m.uidNext, &m.modSeq, &m.messages, &m.unseen, &m.deleted, &m.bytes, &words,
		&m.expunged, &m.forgotten)
	m.keywords = parseKeywords(words)
	return err
}

// room refuses more messages than a mailbox may have.
func (m *mailboxRow) room(more int) error {
	if m.messages+int64(more) > maxMessages {
		return refuse(imap.ResponseCodeLimit, "The mailbox %q has %d messages, and may have no more than %d; use another one", m.name, m.messages, maxMessages)
	}
	return nil
}

// mailboxNamed finds a mailbox of an account.
func mailboxNamed(q store.Querier, accountID int64, name string) (*mailboxRow, error) {
	name = normalName(strings.TrimSuffix(name, string(Delimiter)))
	m := new(mailboxRow)
	err := m.scan(q.QueryRow(selectMailbox+"WHERE account_id = ? AND name = ?", accountID, name))
	switch {
	case errors.Is(err, store.ErrNotFound) && name == inbox:
		return nil, ErrGone
	case errors.Is(err, store.ErrNotFound):
		return nil, refuse(imap.ResponseCodeNonExistent, "There is no mailbox %q", name)
	case err != nil:
		return nil, fmt.Errorf("find mailbox %s: %w", name, err)
	}
	return m, nil
}

// mailboxAt finds a mailbox of an account by its id; ErrGone if it was removed.
func mailboxAt(q store.Querier, accountID, id int64) (*mailboxRow, error) {
	m := new(mailboxRow)
	err := m.scan(q.QueryRow(selectMailbox+"WHERE id = ? AND account_id = ?", id, accountID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("find mailbox: %w", err)
	}
	return m, nil
}

// mailboxesOf lists the mailboxes of an account by name.
func mailboxesOf(q store.Querier, accountID int64) ([]mailboxRow, error) {
	rows, err := q.Query(selectMailbox+"WHERE account_id = ? ORDER BY name", accountID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []mailboxRow
	for rows.Next() {
		var m mailboxRow
		if err := m.scan(rows); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// mailbox finds a mailbox outside of a transaction.
func (a *Account) mailbox(ctx context.Context, name string) (m *mailboxRow, err error) {
	err = a.service.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		m, err = mailboxNamed(sn, a.id, name)
		return err
	})
	return m, err
}
