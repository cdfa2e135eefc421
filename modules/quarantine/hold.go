package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// errAccountGone is returned when a recipient has no account any more.
var errAccountGone = errors.New("the account was removed meanwhile")

// share is one account's part in a message.
type share struct {
	account, recipient string
}

// domain is that of the account.
func (s share) domain() string { return s.account[strings.LastIndexByte(s.account, '@')+1:] }

// message is one that is to be held.
type message struct {
	control.Held
	shares    []share
	rendering *mail.Rendering
	expire    time.Duration
	bounds    bounds
	// digest tells when the next digest is to be sent; nil if there is none.
	digest func(now time.Time) time.Time
}

// maxScores bounds the handlers whose points are kept of a message.
const maxScores = 50

// message gathers what is kept of the transaction.
func (c *consideration) message() (*message, error) {
	tx := c.tx
	rendering, err := tx.Rendered()
	if err != nil {
		return nil, fmt.Errorf("hold message: %w", err)
	}
	header := tx.Message.Header
	m := &message{
		shares: c.hold, rendering: rendering, expire: c.Expire, bounds: c.bounds,
		Held: control.Held{
			ID: tx.ID, From: readable(header.Get("From")), Author: c.author.address.String(), Authenticated: c.author.authenticated,
			Subject: readable(header.Get("Subject")), MessageID: mail.Printable(header.Get("Message-ID"), maxField),
			ReversePath: tx.Envelope.ReversePath.String(), Handler: strings.Join(c.by[:min(len(c.by), 1)], ""),
			Reason: mail.Printable(tx.Quarantined(), maxReason), Listener: tx.Session.Listener, Size: rendering.Size(),
		},
	}
	if addr := tx.Session.RemoteAddr.Addr(); addr.IsValid() {
		m.RemoteIP = addr.Unmap().String()
	}
	for _, s := range tx.Scores() {
		if len(m.Scores) < maxScores {
			m.Scores = append(m.Scores, control.HeldScore{Handler: s.Source, Points: s.Points})
		}
	}
	if c.Digest {
		m.digest = c.clock.next
	}
	return m, nil
}

// hold stores a message for its accounts; it is durable when nil is returned. Other
// errors are errNoRoom, errTooMany, errAccountGone and those of the store. A message
// that another handler of the chain has held for others already gets more shares.
func (s *Service) hold(ctx context.Context, m *message) error {
	err := s.holdFor(ctx, m)
	if errors.Is(err, errNoRoom) {
		s.refused.Add(1)
	}
	return err
}

func (s *Service) holdFor(ctx context.Context, m *message) error {
	if n := len(m.shares); n > maxShares {
		return fmt.Errorf("%w: %d, and one is held for %d at most", errTooMany, n, maxShares)
	}
	// Without a look at the disk first, since a large body is written before it can be
	// known for sure.
	if err := within(s.bytes.Load()+cost(m.Size)+shareCost, m.Size, m.bounds.server, ""); err != nil {
		return err
	}
	body, err := s.store.PrepareBody(nil, m.rendering.Reader(), m.Size)
	if err != nil {
		return fmt.Errorf("hold message: %w", err)
	}
	defer body.Discard()
	err = s.store.Write(ctx, func(tx *store.Tx) error { return s.holdIn(tx, m, body) })
	if err != nil {
		return fmt.Errorf("hold message: %w", err)
	}
	return nil
}

// holdIn is the part of hold that the writer runs.
func (s *Service) holdIn(tx *store.Tx, m *message, body *store.Body) error {
	shares, err := s.living(tx, m.shares)
	if err != nil {
		return err
	}
	known, err := findRow(tx, m.ID)
	isNew := errors.Is(err, store.ErrNotFound)
	switch {
	case isNew:
		known.size = m.Size
	case err != nil:
		return err
	default:
		if shares, err = without(tx, m.ID, shares); err != nil {
			return err
		}
	}
	if err := s.take(tx, m, known.size, isNew, shares); err != nil {
		return err
	}
	now := s.now()
	if isNew {
		if err := insertMessage(tx, m, body, now); err != nil {
			return err
		}
	}
	return insertShares(tx, m, shares, now)
}

// without leaves out the shares that a message has already.
func without(tx *store.Tx, id string, shares []share) ([]share, error) {
	list, err := sharesOf(tx, id, "")
	if err != nil {
		return nil, err
	}
	has := make(map[string]bool, len(list))
	for _, one := range list {
		has[one.account] = true
	}
	return slices.DeleteFunc(slices.Clone(shares), func(one share) bool { return has[one.account] }), nil
}

// insertMessage stores a message with its body.
func insertMessage(tx *store.Tx, m *message, body *store.Body, now time.Time) error {
	bodyID, err := tx.InsertBody(body, 1)
	if err != nil {
		return err
	}
	scores, err := json.Marshal(m.Scores)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO quarantine_messages (id, body_id, size, received, expires, handler, reason, author, authenticated, from_field,
		subject, message_id, reverse_path, listener, remote_ip, scores) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID, bodyID, m.Size, now, now.Add(m.expire), m.Handler, m.Reason, m.Author, m.Authenticated, m.From,
		m.Subject, m.MessageID, m.ReversePath, m.Listener, m.RemoteIP, string(scores))
	return err
}

// insertShares stores for whom a message is held.
func insertShares(tx *store.Tx, m *message, shares []share, now time.Time) error {
	var due any
	if m.digest != nil {
		due = m.digest(now)
	}
	for _, one := range shares {
		if _, err := tx.Exec(`INSERT INTO quarantine_shares (message, account, domain, recipient, digest) VALUES (?, ?, ?, ?, ?)`,
			m.ID, one.account, one.domain(), one.recipient, due); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes back what is held of a message, as if it had not been.
func (s *Service) withdraw(ctx context.Context, id string) error {
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		m, err := findRow(tx, id)
		if err != nil {
			return exceptNotFound(err)
		}
		list, err := shareRows(tx, `SELECT id, account, domain FROM quarantine_shares WHERE message = ?`, id)
		if err != nil {
			return err
		}
		return s.end(tx, m, list)
	})
	if err != nil {
		return fmt.Errorf("withdraw message %s: %w", id, err)
	}
	return nil
}

// living leaves out the shares whose account is gone. If a recipient is left without
// any, the message is not held: nobody would have it.
func (s *Service) living(tx *store.Tx, shares []share) ([]share, error) {
	if s.accounts == nil {
		return shares, nil
	}
	var list []share
	has := make(map[string]bool) // by recipient
	for _, one := range shares {
		exists, err := s.accounts.ExistsIn(tx, one.account)
		if err != nil {
			return nil, err
		}
		if exists {
			list = append(list, one)
		}
		has[one.recipient] = has[one.recipient] || exists
	}
	for recipient, any := range has {
		if !any {
			return nil, fmt.Errorf("%s: %w", recipient, errAccountGone)
		}
	}
	return list, nil
}
