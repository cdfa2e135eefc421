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

	// messages and bytes are what is held.
	messages, bytes atomic.Int64

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
	return store.Migrations{Module: "quarantine", Steps: []string{schema}}
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
		{Name: "bytes", Help: "Bytes of the messages that are held.", Value: float64(s.bytes.Load())},
	}
}

// RemoveAccount takes all shares of an account away within the caller's transaction,
// and whom it has allowed. The rows go with the next Sweep, in small steps.
func (*Service) RemoveAccount(tx *store.Tx, address string) error {
	for _, query := range [...]string{
		`UPDATE quarantine_shares SET account = '', digest = NULL WHERE account = ?`,
		`DELETE FROM quarantine_allowed WHERE scope = ?`,
	} {
		if _, err := tx.Exec(query, address); err != nil {
			return fmt.Errorf("empty quarantine of %s: %w", address, err)
		}
	}
	return nil
}

// Sweep deletes the shares of accounts that were removed, and what has expired.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
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
		}
	}
	return removed, nil
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
	return s.end(tx, row, list)
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Cleaner     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
)
