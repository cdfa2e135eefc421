package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

const schema = `
	CREATE TABLE quarantine_messages (
		id            TEXT PRIMARY KEY, -- of the trace
		body_id       BIGINT NOT NULL,
		size          BIGINT NOT NULL,
		received      BIGINT NOT NULL,  -- microseconds since 1970, like all times here
		expires       BIGINT NOT NULL,
		handler       TEXT NOT NULL,    -- who quarantined it
		reason        TEXT NOT NULL,
		author        TEXT NOT NULL,    -- the address in From, if it is one
		authenticated TEXT NOT NULL,    -- by what it is shown to be his
		from_field    TEXT NOT NULL,    -- for people, like the subject
		subject       TEXT NOT NULL,
		message_id    TEXT NOT NULL,
		reverse_path  TEXT NOT NULL,
		listener      TEXT NOT NULL,
		remote_ip     TEXT NOT NULL,
		scores        TEXT NOT NULL     -- JSON
	);
	CREATE INDEX quarantine_messages_expires ON quarantine_messages (expires);
	CREATE TABLE quarantine_shares (
		id        INTEGER PRIMARY KEY,
		message   TEXT NOT NULL,
		account   TEXT NOT NULL,        -- '' once it is removed
		domain    TEXT NOT NULL,        -- of the account
		recipient TEXT NOT NULL,
		digest    BIGINT                -- when it is to be listed; NULL for never or once it was
	);
	CREATE INDEX quarantine_shares_message ON quarantine_shares (message, domain);
	CREATE INDEX quarantine_shares_account ON quarantine_shares (account, message);
	CREATE INDEX quarantine_shares_domain ON quarantine_shares (domain, message);
	CREATE INDEX quarantine_shares_digest ON quarantine_shares (digest, account) WHERE digest IS NOT NULL;
	CREATE TABLE quarantine_sizes (
		domain   TEXT PRIMARY KEY,      -- '' for the whole server
		messages BIGINT NOT NULL,
		bytes    BIGINT NOT NULL
	);
	CREATE TABLE quarantine_allowed (
		scope   TEXT NOT NULL,          -- an account, a domain, or *
		sender  TEXT NOT NULL,          -- an address or a domain
		created BIGINT NOT NULL,
		PRIMARY KEY (scope, sender)
	);
`

// schema2 counts what is held with its rows and by account, finds allowed authors by
// their names, and notes what has become of messages.
const schema2 = `
	CREATE INDEX quarantine_allowed_sender ON quarantine_allowed (sender, scope);
	CREATE TABLE quarantine_ended (
		id       INTEGER PRIMARY KEY,
		message  TEXT NOT NULL,
		how      TEXT NOT NULL,   -- released, deleted, expired
		ended    BIGINT NOT NULL,
		actor    TEXT NOT NULL,   -- who did it; '' for the server
		accounts TEXT NOT NULL,   -- for people
		expires  BIGINT NOT NULL  -- when it is forgotten
	);
	CREATE INDEX quarantine_ended_message ON quarantine_ended (message, id);
	CREATE INDEX quarantine_ended_expires ON quarantine_ended (expires);
	DELETE FROM quarantine_sizes;
	INSERT INTO quarantine_sizes (domain, messages, bytes) SELECT '', count(*), coalesce(sum(size + 2048), 0) + 300 * (SELECT count(*) FROM quarantine_shares)
		FROM quarantine_messages;
	INSERT INTO quarantine_sizes (domain, messages, bytes) SELECT domain, count(*), sum(size + 2048 + 300 * n) FROM
		(SELECT domain, message, count(*) AS n FROM quarantine_shares GROUP BY domain, message) AS s JOIN quarantine_messages AS m ON m.id = s.message GROUP BY domain;
	INSERT INTO quarantine_sizes (domain, messages, bytes) SELECT account, count(*), sum(size + 2048 + 300) FROM quarantine_shares AS s
		JOIN quarantine_messages AS m ON m.id = s.message WHERE account <> '' GROUP BY account;
`

// Service is service.quarantine: it holds the messages for all handlers of the kind
// and gives them to operators. It is safe for concurrent use once started.
type Service struct {
	store     *store.Store
	now       func() time.Time
	log       *zap.Logger
	hostname  string
	mailboxes mailboxService
	accounts  accountService // nil in a build without accounts: then every address has one
	learner   learner        // nil in a build without one

	// messages and bytes are what is held, refused how often there was no room.
	messages, bytes, refused atomic.Int64

	// tick tells the digests' goroutine to look at the clock.
	tick    func() (ticks <-chan time.Time, stop func())
	stop    context.CancelFunc
	running sync.WaitGroup
}

// mailboxService delivers within a transaction.
type mailboxService interface {
	Prepare(open func() io.Reader, size int64, received time.Time) (*mailbox.Prepared, error)
	PrepareStored(ctx context.Context, bodyID int64, received time.Time) (*mailbox.Prepared, error)
	DeliverIn(tx *store.Tx, p *mailbox.Prepared, recipients []mailbox.Target) error
}

// accountService knows who has an account.
type accountService interface {
	// ExistsIn tells whether there is an account of that address, as the transaction
	// sees it.
	ExistsIn(q store.Querier, address string) (bool, error)
}

// learner tells what learns that a message was wanted or not.
type learner interface {
	// Learn takes the lesson within the transaction, and a reference of the body.
	Learn(tx *store.Tx, account string, bodyID int64, spam bool) error
}

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{
		ID:  "service.quarantine",
		New: func() core.Module { return new(Service) },
	}
}

// Migrations gives the tables of the quarantine.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "quarantine", Steps: []string{schema, schema2}}
}

// Provision takes the store and the clock, and finds the other services.
func (s *Service) Provision(c *core.Context) (err error) {
	s.store, s.now, s.log, s.hostname = c.Store(), c.Now(), c.Logger(), c.Hostname()
	if s.mailboxes, err = core.Service[mailboxService](c); err != nil {
		return fmt.Errorf("quarantine needs the mailboxes of this server: %w", err)
	}
	if a, err := core.Service[accountService](c); err == nil {
		s.accounts = a
	}
	if l, err := core.Service[learner](c); err == nil {
		s.learner = l
	}
	if s.tick == nil {
		s.tick = everyMinute
	}
	return nil
}

// Start reads how much is held, and begins to send digests.
func (s *Service) Start() error {
	err := s.store.Read(context.Background(), func(sn *store.Snapshot) error {
		var messages, bytes int64
		err := sn.QueryRow(`SELECT messages, bytes FROM quarantine_sizes WHERE domain = ?`, wholeServer).Scan(&messages, &bytes)
		s.messages.Store(messages)
		s.bytes.Store(bytes)
		return exceptNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("read quarantine: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.sendDigests(ctx) })
	return nil
}

// Cleanup ends the digests.
func (s *Service) Cleanup() error {
	if s.stop != nil {
		s.stop()
	}
	s.running.Wait()
	return nil
}

// exceptNotFound drops the error of a query without a row.
func exceptNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Measure tells how much is held.
func (s *Service) Measure() []core.Figure {
	return []core.Figure{
		{Name: "messages", Help: "Messages that are held.", Value: float64(s.messages.Load())},
		{Name: "bytes", Help: "Bytes that count for the messages that are held, with their entries.", Value: float64(s.bytes.Load())},
		{Name: "refused", Help: "Messages since the start that were not held for want of room.", Value: float64(s.refused.Load())},
	}
}

// Report says how much is held.
func (s *Service) Report() string {
	messages := s.messages.Load()
	if messages <= 0 {
		return ""
	}
	return fmt.Sprintf("messages that are held: %d, of %d KB together", messages, (s.bytes.Load()+1<<10-1)>>10)
}

// RemoveAccount takes all shares of an account away within the caller's transaction,
// and whom it has allowed. An account has maxPerAccount shares at most; their rows go
// with the next Sweep, in small steps.
func (*Service) RemoveAccount(tx *store.Tx, address string) error {
	for _, query := range [...]string{
		`UPDATE quarantine_shares SET account = '', digest = NULL WHERE account = ?`,
		`DELETE FROM quarantine_allowed WHERE scope = ?`,
		`DELETE FROM quarantine_sizes WHERE domain = ?`,
	} {
		if _, err := tx.Exec(query, address); err != nil {
			return fmt.Errorf("empty quarantine of %s: %w", address, err)
		}
	}
	return nil
}

// Sweep deletes the shares of accounts that were removed, and what has expired.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	var old []string
	defer func() { s.tellExpired(tx, old) }()
	for _, next := range [...]struct {
		query string
		args  []any
	}{
		{`SELECT message FROM quarantine_shares WHERE account = '' LIMIT 1`, nil},
		{`SELECT id FROM quarantine_messages WHERE expires <= ? ORDER BY expires LIMIT 1`, []any{now}},
	} {
		for removed < limit {
			var id string
			err := tx.QueryRow(next.query, next.args...).Scan(&id)
			if errors.Is(err, store.ErrNotFound) {
				break
			}
			if err == nil {
				err = s.sweepMessage(tx, id, len(next.args) == 0, limit-removed, &removed)
			}
			if err != nil {
				return removed, fmt.Errorf("delete old messages of quarantine: %w", err)
			}
			if len(next.args) > 0 && (len(old) == 0 || old[len(old)-1] != id) {
				old = append(old, id)
			}
		}
	}
	result, err := tx.Exec(`DELETE FROM quarantine_ended WHERE id IN (SELECT id FROM quarantine_ended WHERE expires <= ? LIMIT ?)`, now, limit-removed)
	if err != nil {
		return removed, fmt.Errorf("forget what became of old messages of quarantine: %w", err)
	}
	return removed + int(result.RowsAffected), nil
}

// tellExpired says which messages are gone for good, once they are.
func (s *Service) tellExpired(tx *store.Tx, ids []string) {
	const shown = 10
	if len(ids) > 0 {
		tx.AfterCommit(func() {
			s.log.Info("messages of the quarantine have expired", zap.Int("messages", len(ids)), zap.Strings("first", ids[:min(len(ids), shown)]))
		})
	}
}

// sweepMessage deletes at most limit shares of a message, of removed accounts only or
// of all.
func (s *Service) sweepMessage(tx *store.Tx, id string, gone bool, limit int, removed *int) error {
	row, err := findRow(tx, id)
	if err != nil {
		return err
	}
	query := `SELECT id, account, domain FROM quarantine_shares WHERE message = ? LIMIT ?`
	if gone {
		query = `SELECT id, account, domain FROM quarantine_shares WHERE account = '' AND message = ? LIMIT ?`
	}
	list, err := shareRows(tx, query, id, limit)
	if err != nil {
		return err
	}
	*removed += len(list)
	if err := s.end(tx, row, list); err != nil || gone {
		return err
	}
	left, err := has(tx, `SELECT 1 FROM quarantine_messages WHERE id = ?`, id)
	if err != nil || left {
		return err
	}
	return s.note(tx, row, nil, expired, "")
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Cleaner     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
	_ core.Reporter    = (*Service)(nil)
)
