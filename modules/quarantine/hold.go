package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

var (
	// errNoRoom is returned when a message would exceed the size of the quarantine.
	errNoRoom = errors.New("quarantine is full")
	// errAccountGone is returned when a recipient has no account any more.
	errAccountGone = errors.New("the account was removed meanwhile")
)

// share is one account's part in a message.
type share struct {
	account, recipient string
}

// domain is that of the account.
func (s share) domain() string { return s.account[strings.LastIndexByte(s.account, '@')+1:] }

// message is one that is to be held.
type message struct {
	control.Held
	shares                 []share
	rendering              *mail.Rendering
	expire                 time.Duration
	maxSize, maxDomainSize config.Size
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
		shares: c.hold, rendering: rendering, expire: c.Expire, maxSize: c.MaxSize, maxDomainSize: c.MaxDomainSize,
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
// errors are errNoRoom, errAccountGone and those of the store.
func (s *Service) hold(ctx context.Context, m *message) error {
	// Without a look at the disk first, since a large body is written before it can be
	// known for sure.
	if held := s.bytes.Load(); held+m.Size > int64(m.maxSize) {
		return fmt.Errorf("%w: %s are held, and may be %s", errNoRoom, config.Size(held), m.maxSize)
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
	if err := room(tx, m, shares); err != nil {
		return err
	}
	bodyID, err := tx.InsertBody(body, 1)
	if err != nil {
		return err
	}
	scores, err := json.Marshal(m.Scores)
	if err != nil {
		return err
	}
	now := s.now()
	_, err = tx.Exec(`INSERT INTO quarantine_messages (id, body_id, size, received, expires, handler, reason, author, authenticated, from_field,
		subject, message_id, reverse_path, listener, remote_ip, scores) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID, bodyID, m.Size, now, now.Add(m.expire), m.Handler, m.Reason, m.Author, m.Authenticated, m.From,
		m.Subject, m.MessageID, m.ReversePath, m.Listener, m.RemoteIP, string(scores))
	if err != nil {
		return err
	}
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
	return s.count(tx, domainsOf(shares), 1, m.Size)
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

// room refuses what is too much, for the whole server and for each domain.
func room(tx *store.Tx, m *message, shares []share) error {
	check := func(domain, what string, limit config.Size) error {
		held, err := heldBytes(tx, domain)
		if err == nil && held+m.Size > int64(limit) {
			err = fmt.Errorf("%w: %s are held%s, and may be %s", errNoRoom, config.Size(held), what, limit)
		}
		return err
	}
	if err := check(wholeServer, "", m.maxSize); err != nil || m.maxDomainSize == 0 {
		return err
	}
	for _, domain := range domainsOf(shares) {
		if err := check(domain, " for "+domain, m.maxDomainSize); err != nil {
			return err
		}
	}
	return nil
}

// domainsOf gives the domains of the accounts, each once.
func domainsOf(shares []share) []string {
	var list []string
	seen := make(map[string]bool)
	for _, s := range shares {
		if d := s.domain(); !seen[d] {
			seen[d] = true
			list = append(list, d)
		}
	}
	return list
}

// wholeServer is the domain of the row that counts what all have.
const wholeServer = ""

// heldBytes gives what is held for a domain.
func heldBytes(q store.Querier, domain string) (n int64, err error) {
	err = q.QueryRow(`SELECT bytes FROM quarantine_sizes WHERE domain = ?`, domain).Scan(&n)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return n, err
}

// count adds a message to what is held by the domains and by the whole server.
func (s *Service) count(tx *store.Tx, domains []string, messages, size int64) error {
	for _, domain := range domains {
		if err := countDomain(tx, domain, messages, size); err != nil {
			return err
		}
	}
	tx.AfterCommit(func() {
		s.messages.Add(messages)
		s.bytes.Add(size)
	})
	return countDomain(tx, wholeServer, messages, size)
}

func countDomain(tx *store.Tx, domain string, messages, size int64) error {
	_, err := tx.Exec(`INSERT INTO quarantine_sizes (domain, messages, bytes) VALUES (?, ?, ?)
		ON CONFLICT (domain) DO UPDATE SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes`, domain, messages, size)
	return err
}
