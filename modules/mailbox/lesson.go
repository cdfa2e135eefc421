package mailbox

import (
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// lessons take what users teach spam filters by moving messages.
type lessons interface {
	// Learning tells whether any filter learns.
	Learning() bool
	// Learn writes, within the transaction, that for the account the message with
	// that body is spam, or is not.
	Learn(tx *store.Tx, account string, bodyID int64, spam bool) error
}

// The mailboxes for spam and for what is thrown away. A verdict of quarantine goes
// into the one of that name, whatever its use; and who has renamed it has the use
// under another name.
const (
	junkName  = "Junk"
	trashName = "Trash"
)

func (m *mailboxRow) isFor(use imap.MailboxAttr, name string) bool {
	return m.name == name || m.specialUse == string(use)
}

// teach makes lessons of messages that are copied or moved: into Junk they are
// spam, and from there they are none, unless they are thrown away. Clients without
// MOVE copy and then expunge, so that a copy counts as much.
func (t *transfer) teach(messages []transferred) error {
	service := t.view.account.service
	if service.lessons == nil || !service.lessons.Learning() {
		return nil
	}
	fromJunk := t.source.isFor(imap.MailboxAttrJunk, junkName)
	spam := t.destination.isFor(imap.MailboxAttrJunk, junkName)
	if spam == fromJunk || fromJunk && t.destination.isFor(imap.MailboxAttrTrash, trashName) {
		return nil
	}
	for i := range messages {
		var bodyID int64
		err := t.tx.QueryRow("SELECT body_id FROM mailbox_contents WHERE id = ?", messages[i].contentID).Scan(&bodyID)
		if err != nil {
			return fmt.Errorf("find body of message: %w", err)
		}
		if err := service.lessons.Learn(t.tx, t.view.account.address, bodyID, spam); err != nil {
			return err
		}
	}
	return nil
}
