// Package mailbox is the mailbox store, service.mailbox: the mailboxes of the
// accounts and the messages in them, with all that IMAP remembers about them
// (RFC 9051, 7162, 8474, 8514): UIDs and UIDVALIDITY, flags, mod-sequences,
// expunged UIDs, object identifiers, save dates, subscriptions, special use.
//
// It speaks no protocol. Its nouns are those of go-imap: UID, UIDSet,
// SearchCriteria, Envelope, BodyStructure. A message is stored once, in however
// many mailboxes and accounts it stands; its envelope, its structure and the
// header fields that are searched are taken from it once, at delivery.
//
// Errors that concern the user are *imap.Error values, whose code and text can
// be sent to the client. Others come from the store: store.ErrFull means that
// the write had no effect and works again once there is room.
package mailbox

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
)

func init() { core.Register(new(Service)) }

// Service is the mailbox store. It is safe for concurrent use.
type Service struct {
	store *store.Store
	now   func() time.Time
	log   *zap.Logger
	// accounts is nil in a build without accounts: then every address has one.
	accounts accountService
	lessons  lessons // nil in a build without learning
	hub      hub
	places   places
	sweeper  sweeper
	// lastContent is the id of the content stored last. The writer alone adds.
	lastContent atomic.Int64
}

// accountService knows who has an account.
type accountService interface {
	// ExistsIn tells whether there is an account of that address, as the
	// transaction sees it.
	ExistsIn(q store.Querier, address string) (bool, error)
}

// Module describes the service to the registry.
func (*Service) Module() core.Info {
	return core.Info{ID: "service.mailbox", New: func() core.Module { return new(Service) }}
}

// Provision takes the store and the clock, and finds the accounts.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now, s.log = c.Store(), c.Now(), c.Logger()
	if a, err := core.Service[accountService](c); err == nil {
		s.accounts = a
	}
	if l, err := core.Service[lessons](c); err == nil {
		s.lessons = l
	}
	return nil
}

// Start begins to remove, in small steps, what nothing refers to any more.
func (s *Service) Start() error {
	ctx := context.Background()
	err := s.store.Read(ctx, func(sn *store.Snapshot) error {
		var last int64
		err := sn.QueryRow("SELECT coalesce(max(id), 0) FROM mailbox_contents").Scan(&last)
		s.lastContent.Store(last)
		return err
	})
	if err != nil {
		return fmt.Errorf("find the last message: %w", err)
	}
	s.sweeper.start(s)
	return nil
}

// Cleanup ends that.
func (s *Service) Cleanup() error {
	s.sweeper.stop()
	return nil
}

// Interface guards.
var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Cleaner     = (*Service)(nil)
)
