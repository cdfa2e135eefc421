package mailbox

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/store"
)

// TestQueriesUseIndexes asks SQLite how it finds what large mailboxes hold.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	tests := map[string]struct{ query, want string }{
		"changes":  {"SELECT uid FROM mailbox_messages WHERE mailbox_id = 1 AND mod_seq > 2 AND mod_seq <> mod_seq_created", "INDEX mailbox_messages_changed (mailbox_id=? AND mod_seq>?)"},
		"thread":   {"SELECT thread_id FROM mailbox_messages WHERE account_id = 1 AND message_id = 2 AND thread_id <> message_id AND message_id <> 0", "INDEX mailbox_messages_answers (account_id=? AND message_id=?)"},
		"range":    {"SELECT uid FROM mailbox_messages WHERE mailbox_id = 1 AND uid BETWEEN 2 AND 3", "PRIMARY KEY (mailbox_id=? AND uid>? AND uid<?)"},
		"expunged": {"SELECT first_uid FROM mailbox_expunged WHERE mailbox_id = 1 AND mod_seq > 2", "PRIMARY KEY (mailbox_id=? AND mod_seq>?)"},
		"unused":   {"SELECT id FROM mailbox_contents WHERE refs = 0 LIMIT 1", "INDEX mailbox_contents_unused"},
		"dead":     {"SELECT id FROM mailbox_mailboxes WHERE account_id IS NULL LIMIT 1", "INDEX sqlite_autoindex_mailbox_mailboxes_1 (account_id=?)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := s.store.Read(t.Context(), func(sn *store.Snapshot) error {
				var id, parent, unused int
				var detail string
				if err := sn.QueryRow("EXPLAIN QUERY PLAN "+test.query).Scan(&id, &parent, &unused, &detail); err != nil {
					return err
				}
				if !strings.Contains(detail, test.want) {
					t.Errorf("plan is %q, want %q", detail, test.want)
				}
				return nil
			})
			must(t, err)
		})
	}
}
