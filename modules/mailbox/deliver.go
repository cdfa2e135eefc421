package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// Target is a mailbox that a message shall go to.
type Target struct {
	// Account is the account's address, see mail.Account.
	Account string
	// Mailbox is the name of the mailbox, "" for INBOX. One that does not exist
	// stands for INBOX too: mail is never lost for want of a mailbox.
	Mailbox string
}

// String names the mailbox for people.
func (t Target) String() string {
	if t.Mailbox == "" {
		return inbox + " of " + t.Account
	}
	return t.Mailbox + " of " + t.Account
}

// Delivery is one message for one or several mailboxes.
type Delivery struct {
	// Recipients are the mailboxes; the same one twice counts once.
	Recipients []Target
	// Message is what is stored.
	Message *mail.Rendering
	// Received becomes the INTERNALDATE.
	Received time.Time
}

// Deliver stores a message in all mailboxes of d, or in none. When it returns
// nil the message is durable. Accounts that the store has not seen yet get
// their standard mailboxes first; one that does not exist is ErrGone.
func (s *Service) Deliver(ctx context.Context, d Delivery) error {
	m, err := s.take(d.Message.Reader, d.Message.Size(), d.Received)
	if err != nil {
		return err
	}
	defer m.body.Discard()
	targets := distinct(d.Recipients)
	err = s.store.Write(ctx, func(tx *store.Tx) error { return s.deliver(tx, m, targets) })
	if err != nil {
		return fmt.Errorf("deliver message: %w", err)
	}
	return nil
}

// distinct gives the mailboxes that are meant, each once.
func distinct(recipients []Target) []Target {
	targets := make([]Target, 0, len(recipients))
	seen := make(map[Target]bool, len(recipients))
	for _, t := range recipients {
		if t.Mailbox = normalName(t.Mailbox); t.Mailbox == "" {
			t.Mailbox = inbox
		}
		if !seen[t] {
			seen[t] = true
			targets = append(targets, t)
		}
	}
	return targets
}

// message is one that is about to be stored.
type message struct {
	*summary
	body *store.Body
	// bodyID is that of a body which the store has already, 0 for body.
	bodyID    int64
	size      int64
	received  time.Time
	contentID int64
}

// take reads a message and prepares its body. All that takes time happens here,
// in the caller's goroutine. The caller discards the body.
func (s *Service) take(open func() io.Reader, size int64, received time.Time) (*message, error) {
	sum, err := parse(open())
	if err != nil {
		return nil, err
	}
	body, err := s.store.PrepareBody(nil, open(), size)
	if err != nil {
		return nil, err
	}
	return &message{summary: sum, body: body, size: size, received: received}, nil
}

// deliver is the part of Deliver that the writer runs.
func (s *Service) deliver(tx *store.Tx, m *message, targets []Target) error {
	if err := s.insertContent(tx, m, len(targets)); err != nil {
		return err
	}
	told := make([]taken, len(targets))
	for i, t := range targets {
		box, err := s.takeUID(tx, t, 0, m.size)
		if err != nil {
			return fmt.Errorf("find mailbox %s of %s: %w", t.Mailbox, t.Account, err)
		}
		if err := s.insertMessage(tx, m, box, 0); err != nil {
			return err
		}
		told[i] = box
	}
	tx.AfterCommit(func() {
		for _, box := range told {
			s.hub.changed(box.id, box.modSeq)
		}
	})
	return nil
}

// insertContent stores what all recipients share.
func (s *Service) insertContent(tx *store.Tx, m *message, refs int) error {
	bodyID, err := m.bodyID, error(nil)
	if bodyID == 0 {
		bodyID, err = tx.InsertBody(m.body, 1)
	} else {
		err = tx.AddBodyRefs(bodyID, 1)
	}
	if err != nil {
		return err
	}
	m.contentID = max(s.lastContent.Load()+1, s.now().UnixMilli()<<20)
	s.lastContent.Store(m.contentID)
	_, err = tx.Exec("INSERT INTO mailbox_contents (id, body_id, refs, sent_day, envelope, structure, fields) VALUES (?, ?, ?, ?, ?, ?, ?)",
		m.contentID, bodyID, refs, m.sentDay, m.envelope, m.structure, m.fields)
	return err
}

// insertMessage puts a message into a mailbox, under the UID that was taken.
func (s *Service) insertMessage(tx *store.Tx, m *message, box taken, set flags) error {
	thread, err := threadOf(tx, m, box.accountID)
	if err != nil {
		return err
	}
	_, zone := m.received.Zone()
	_, err = tx.Exec(insertMessage, box.id, box.uid, int64(set), box.modSeq, box.modSeq, m.contentID,
		m.received.Unix(), zone/60, s.now().Unix(), m.size, box.accountID, m.messageID, thread)
	return err
}

const insertMessage = `INSERT INTO mailbox_messages (mailbox_id, uid, flags, mod_seq, mod_seq_created, content_id,
	received, received_zone, saved, size, account_id, message_id, thread_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// threadOf gives the thread of a new message: that of the message which it
// answers, or of the one that began the conversation, if the account has them as
// answers; else the thread that they begin. Only answers need a query.
func threadOf(tx *store.Tx, m *message, accountID int64) (int64, error) {
	if m.root == 0 {
		if m.messageID == 0 {
			return m.contentID, nil
		}
		return m.messageID, nil
	}
	for _, id := range [...]int64{m.parent, m.root} {
		var thread int64
		err := tx.QueryRow("SELECT thread_id FROM mailbox_messages WHERE account_id = ? AND message_id = ? AND thread_id <> message_id AND message_id <> 0 LIMIT 1",
			accountID, id).Scan(&thread)
		if !errors.Is(err, store.ErrNotFound) {
			return thread, err
		}
		if m.parent == m.root {
			break
		}
	}
	return m.root, nil
}

// taken is a UID that a mailbox has given for a new message.
type taken struct {
	place
	uid         int64
	modSeq      int64
	uidValidity int64
}

// place is a mailbox as its row names it.
type place struct {
	id, accountID int64
	name          string
}

// takeUID counts a new message in a mailbox and gives it a UID.
func (s *Service) takeUID(tx *store.Tx, t Target, set flags, size int64) (taken, error) {
	at, known := s.places.find(t)
	if known {
		box, err := takeUIDAt(tx, at, set, size)
		if !errors.Is(err, store.ErrNotFound) {
			return box, err
		}
	}
	at, err := s.findPlace(tx, t)
	if err != nil {
		return taken{}, err
	}
	return takeUIDAt(tx, at, set, size)
}

const takeUID = `UPDATE mailbox_mailboxes SET uid_next = uid_next + 1, mod_seq = mod_seq + 1, messages = messages + 1,
	unseen = unseen + ?, deleted = deleted + ?, bytes = bytes + ?
	WHERE id = ? AND account_id = ? AND name = ? RETURNING uid_next - 1, mod_seq, uid_validity`

func takeUIDAt(tx *store.Tx, at place, set flags, size int64) (taken, error) {
	box := taken{place: at}
	err := tx.QueryRow(takeUID, unseen(set), deleted(set), size, at.id, at.accountID, at.name).Scan(&box.uid, &box.modSeq, &box.uidValidity)
	return box, err
}

// findPlace finds a mailbox by its name, or the account's INBOX instead, and
// makes the account if need be.
func (s *Service) findPlace(tx *store.Tx, t Target) (place, error) {
	accountID, err := s.ensureAccount(tx, t.Account)
	if err != nil {
		return place{}, err
	}
	at := place{accountID: accountID, name: t.Mailbox}
	err = tx.QueryRow("SELECT id FROM mailbox_mailboxes WHERE account_id = ? AND name = ?", accountID, at.name).Scan(&at.id)
	if errors.Is(err, store.ErrNotFound) && at.name != inbox {
		return s.findPlace(tx, Target{Account: t.Account, Mailbox: inbox})
	}
	if err == nil {
		// Not before the commit: ids that are rolled back may be given again.
		tx.AfterCommit(func() { s.places.add(t, at) })
	}
	return at, err
}

// maxPlaces bounds the memory of places.
const maxPlaces = 100_000

// places remembers where targets were found. An entry may be out of date: who
// uses it asks for a row with its id, its account and its name, and neither ids
// are given twice nor does an account change its address.
type places struct {
	mu      sync.Mutex
	entries map[Target]place
}

func (p *places) find(t Target) (place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.entries[t]
	return at, ok
}

func (p *places) add(t Target, at place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries == nil || len(p.entries) >= maxPlaces {
		p.entries = make(map[Target]place)
	}
	p.entries[t] = at
}

// unseen and deleted give what a message with these flags adds to the counters.
func unseen(set flags) int {
	if set&flagSeen == 0 {
		return 1
	}
	return 0
}

func deleted(set flags) int {
	if set&flagDeleted != 0 {
		return 1
	}
	return 0
}
