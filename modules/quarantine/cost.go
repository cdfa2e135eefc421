package quarantine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/store"
)

var (
	// errNoRoom is returned when a message would exceed a bound of the quarantine.
	errNoRoom = errors.New("quarantine is full")
	// errTooMany is returned when a message has more accounts than are kept of one.
	errTooMany = errors.New("the message is for too many accounts")
)

// What a message counts beside its own bytes, since strangers choose how many small
// ones there are, and for how many: its row, and that of each account.
const (
	messageCost = 2 << 10
	shareCost   = 300
)

// Bounds that are not set.
const (
	// maxShares is for how many accounts a message is held. The rows are written at
	// once.
	maxShares = 1000
	// maxPerAccount is how many messages are held for an account. A digest, and the end
	// of the account, touch all of them at once.
	maxPerAccount = 10_000
	// large is from which size on messages have half of the room only, so that a few of
	// them do not take it from all others.
	large = 1 << 20
)

// cost is what a message of that size counts without its shares.
func cost(size int64) int64 { return size + messageCost }

// bounds are those of the quarantine, in bytes.
type bounds struct{ server, domain, account config.Size }

// within refuses what is too much for one of the bounds, when a message of that size
// is counted among what is held already.
func within(held, size int64, limit config.Size, whose string) error {
	bound, of := int64(limit), ""
	if size > large {
		bound, of = bound/2, ", by messages over 1MiB half of them"
	}
	if held <= bound {
		return nil
	}
	const kib = 1 << 10
	return fmt.Errorf("%w: with this message %dKiB would be held%s, and may be %s%s", errNoRoom, (held+kib-1)/kib, whose, limit, of)
}

// total is what is held for somebody.
type total struct{ messages, bytes int64 }

// wholeServer is the key of what all have. The other keys are those of domains, and
// accounts, which have an @.
const wholeServer = ""

// add counts for one key, and gives what it has then.
func add(tx *store.Tx, key string, t total) (now total, err error) {
	err = tx.QueryRow(`INSERT INTO quarantine_sizes (domain, messages, bytes) VALUES (?, ?, ?)
		ON CONFLICT (domain) DO UPDATE SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes RETURNING messages, bytes`,
		key, t.messages, t.bytes).Scan(&now.messages, &now.bytes)
	return now, err
}

// addAll counts for the whole server.
func (s *Service) addAll(tx *store.Tx, t total) (now total, err error) {
	tx.AfterCommit(func() {
		s.messages.Add(t.messages)
		s.bytes.Add(t.bytes)
	})
	return add(tx, wholeServer, t)
}

// take counts new shares of a message, and refuses what is too much.
func (s *Service) take(tx *store.Tx, m *message, size int64, isNew bool, shares []share) error {
	t := total{bytes: shareCost * int64(len(shares))}
	if isNew {
		t.messages, t.bytes = 1, t.bytes+cost(size)
	}
	now, err := s.addAll(tx, t)
	if err == nil {
		err = within(now.bytes, size, m.bounds.server, "")
	}
	if err != nil {
		return err
	}
	domains := make(map[string]int64)
	for _, one := range shares {
		domains[one.domain()]++
		now, err := add(tx, one.account, total{1, cost(size) + shareCost})
		if err == nil && now.messages > maxPerAccount {
			err = fmt.Errorf("%w: %d messages are held for %s", errNoRoom, maxPerAccount, one.account)
		}
		if err == nil {
			err = within(now.bytes, size, m.bounds.account, " for "+one.account)
		}
		if err != nil {
			return err
		}
	}
	for domain, n := range domains {
		t := total{bytes: shareCost * n}
		has, err := has(tx, `SELECT 1 FROM quarantine_shares WHERE message = ? AND domain = ? LIMIT 1`, m.ID, domain)
		if err != nil {
			return err
		}
		if !has {
			t.messages, t.bytes = 1, t.bytes+cost(size)
		}
		now, err := add(tx, domain, t)
		if err == nil {
			err = within(now.bytes, size, m.bounds.domain, " for "+domain)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// give is the reverse of take, once the rows of the shares are gone; last says that
// the message has no others.
func (s *Service) give(tx *store.Tx, m row, list []shareRow, last bool) error {
	domains := make(map[string]int64)
	for _, one := range list {
		domains[one.domain]++
		if !strings.Contains(one.account, "@") { // it was removed, and what it had is not counted any more
			continue
		}
		now, err := add(tx, one.account, total{-1, -cost(m.size) - shareCost})
		if err == nil && now.messages <= 0 {
			_, err = tx.Exec(`DELETE FROM quarantine_sizes WHERE domain = ?`, one.account)
		}
		if err != nil {
			return err
		}
	}
	for domain, n := range domains {
		t := total{bytes: -shareCost * n}
		left, err := has(tx, `SELECT 1 FROM quarantine_shares WHERE message = ? AND domain = ? LIMIT 1`, m.id, domain)
		if err != nil {
			return err
		}
		if !left {
			t.messages, t.bytes = -1, t.bytes-cost(m.size)
		}
		if _, err := add(tx, domain, t); err != nil {
			return err
		}
	}
	t := total{bytes: -shareCost * int64(len(list))}
	if last {
		t.messages, t.bytes = -1, t.bytes-cost(m.size)
	}
	_, err := s.addAll(tx, t)
	return err
}
