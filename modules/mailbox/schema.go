package mailbox

import "github.com/mox-like/mox-like/core/store"

// Migrations are the tables of the mailbox store.
func (s *Service) Migrations() store.Migrations {
	return store.Migrations{Module: "mailbox", Steps: []string{schema1}}
}

// schema1 is the first version. Times are in seconds since 1970, sizes in bytes.
//
// A mailbox counts its UIDs and its changes: uid_next and mod_seq only grow, and
// each change of a message takes the next mod_seq (RFC 7162). Since a new
// message takes both at once, the order by UID is also that of mod_seq_created,
// and only messages changed later need the index by mod_seq. A mailbox without
// an account is dead: it goes in small steps, and nothing finds it any more.
//
// mailbox_uid_validity has the highest UIDVALIDITY ever given, to whichever
// mailbox: so no name gets one twice, not even that of an account which was
// removed and made again.
//
// A message is a row for each mailbox that it stands in. What is the same in all
// of them, in the mailboxes of other accounts too, is its content, which counts
// its messages in refs and goes, a little later, at 0. Its id is the time of
// arrival, so that it is never used again (RFC 8474 section 5.1).
//
// thread_id is the hash of the Message-ID that began the conversation. For a
// message that answers none it is that of its own, so only answers are indexed.
const schema1 = `
CREATE TABLE mailbox_accounts (
	id              INTEGER PRIMARY KEY AUTOINCREMENT,
	address         TEXT NOT NULL UNIQUE
);

CREATE TABLE mailbox_uid_validity (
	id              INTEGER PRIMARY KEY CHECK (id = 1),
	last            INTEGER NOT NULL
);
INSERT INTO mailbox_uid_validity (id, last) VALUES (1, 0);

CREATE TABLE mailbox_mailboxes (
	id              INTEGER PRIMARY KEY AUTOINCREMENT,
	account_id      INTEGER,
	name            TEXT NOT NULL,
	special_use     TEXT NOT NULL,
	uid_validity    INTEGER NOT NULL,
	uid_next        INTEGER NOT NULL,
	mod_seq         INTEGER NOT NULL,
	messages        INTEGER NOT NULL,
	unseen          INTEGER NOT NULL,
	deleted         INTEGER NOT NULL,
	bytes           INTEGER NOT NULL,
	keywords        TEXT NOT NULL, -- in the order of their bits, separated by spaces
	expunged        INTEGER NOT NULL, -- rows of mailbox_expunged
	forgotten       INTEGER NOT NULL, -- the mod_seq up to which such rows may be missing
	UNIQUE (account_id, name)
);

CREATE TABLE mailbox_subscriptions (
	account_id      INTEGER NOT NULL,
	name            TEXT NOT NULL,
	PRIMARY KEY (account_id, name)
) WITHOUT ROWID;

CREATE TABLE mailbox_contents (
	id              INTEGER PRIMARY KEY,
	body_id         INTEGER NOT NULL,
	refs            INTEGER NOT NULL,
	sent_day        INTEGER NOT NULL, -- of the Date field, in days since 1970
	envelope        BLOB NOT NULL,
	structure       BLOB NOT NULL,
	fields          BLOB NOT NULL
);
CREATE INDEX mailbox_contents_unused ON mailbox_contents (id) WHERE refs = 0;

CREATE TABLE mailbox_messages (
	mailbox_id      INTEGER NOT NULL,
	uid             INTEGER NOT NULL,
	flags           INTEGER NOT NULL,
	mod_seq         INTEGER NOT NULL,
	mod_seq_created INTEGER NOT NULL,
	content_id      INTEGER NOT NULL,
	received        INTEGER NOT NULL, -- INTERNALDATE
	received_zone   INTEGER NOT NULL, -- its time zone, in minutes east
	saved           INTEGER NOT NULL, -- SAVEDATE
	size            INTEGER NOT NULL,
	account_id      INTEGER NOT NULL,
	message_id      INTEGER NOT NULL, -- hash, 0 if there is none
	thread_id       INTEGER NOT NULL,
	PRIMARY KEY (mailbox_id, uid)
) WITHOUT ROWID;
CREATE INDEX mailbox_messages_changed ON mailbox_messages (mailbox_id, mod_seq) WHERE mod_seq <> mod_seq_created;
CREATE INDEX mailbox_messages_answers ON mailbox_messages (account_id, message_id) WHERE thread_id <> message_id AND message_id <> 0;

CREATE TABLE mailbox_expunged (
	mailbox_id      INTEGER NOT NULL,
	mod_seq         INTEGER NOT NULL,
	first_uid       INTEGER NOT NULL,
	last_uid        INTEGER NOT NULL, -- all UIDs from the first to the last are gone
	PRIMARY KEY (mailbox_id, mod_seq, first_uid)
) WITHOUT ROWID;
`
