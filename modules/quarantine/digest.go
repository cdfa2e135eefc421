package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// clockTime is a time of the day.
type clockTime struct{ hour, minute int }

// parseClock reads hours and minutes, as 07:00.
func parseClock(text string) (clockTime, error) {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return clockTime{}, fmt.Errorf("read time of the day: %w", err)
	}
	return clockTime{t.Hour(), t.Minute()}, nil
}

// next gives when it is that time again after now, in now's own time zone: once a
// day, also where the clock is put back over it. Where it is put on over it, it is as
// much later.
func (c clockTime) next(now time.Time) time.Time {
	year, month, day := now.Date()
	if now.Hour()*60+now.Minute() >= c.hour*60+c.minute {
		day++
	}
	at := c.on(year, month, day, now.Location())
	if !at.After(now) {
		at = c.on(year, month, day+1, now.Location())
	}
	return at
}

// on gives the time on one day. Where the clock is put on over it, package time gives
// one in front of the gap or one behind it.
func (c clockTime) on(year int, month time.Month, day int, zone *time.Location) time.Time {
	at := time.Date(year, month, day, c.hour, c.minute, 0, 0, zone)
	const whole = 24 * 60
	early := (c.hour*60 + c.minute - at.Hour()*60 - at.Minute() + whole) % whole
	if early < whole/2 {
		at = at.Add(time.Duration(early) * time.Minute)
	}
	return at
}

// everyMinute ticks.
func everyMinute() (ticks <-chan time.Time, stop func()) {
	t := time.NewTicker(time.Minute)
	return t.C, t.Stop
}

// sendDigests sends, until ctx ends, what is due at each tick.
func (s *Service) sendDigests(ctx context.Context) {
	ticks, stop := s.tick()
	defer stop()
	for {
		select {
		case <-ticks:
			s.sendDue(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// dueAtOnce is how many accounts are read at a time.
const dueAtOnce = 100

// sendDue sends the digests of all accounts for which it is time. One that fails is
// tried again at the next tick.
func (s *Service) sendDue(ctx context.Context) {
	now := s.now()
	for after := ""; ctx.Err() == nil; {
		accounts, err := s.dueAccounts(ctx, now, after)
		if err != nil {
			s.log.Error("cannot find who gets a digest of the quarantine", zap.Error(err))
			return
		}
		for _, account := range accounts {
			if err := s.sendDigest(ctx, account, now); err != nil && ctx.Err() == nil {
				s.log.Error("digest of the quarantine is not sent", zap.String("account", account), zap.Error(err))
			}
			after = account
		}
		if len(accounts) < dueAtOnce {
			return
		}
	}
}

// dueAccounts gives the next accounts, in their order, that have something to be
// listed.
func (s *Service) dueAccounts(ctx context.Context, now time.Time, after string) (list []string, err error) {
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		list = nil
		rows, err := sn.Query(`SELECT DISTINCT account FROM quarantine_shares INDEXED BY quarantine_shares_digest
			WHERE digest <= ? AND account > ? ORDER BY account LIMIT ?`, now, after, dueAtOnce)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var account string
			if err := rows.Scan(&account); err != nil {
				return err
			}
			list = append(list, account)
		}
		return rows.Err()
	})
	return list, err
}

// digestTries is how often a digest is made anew because something was released,
// deleted or held meanwhile.
const digestTries = 5

// errChanged is returned when a digest does not list what there is any more.
var errChanged = errors.New("what is held changes all the time")

// sendDigest sends one account's digest. What it lists is struck out in the
// transaction that delivers it, so that no crash sends it twice or not at all.
func (s *Service) sendDigest(ctx context.Context, account string, now time.Time) (err error) {
	for range digestTries {
		if err = s.trySend(ctx, account, now); !errors.Is(err, errChanged) {
			return err
		}
	}
	return err
}

// due is what a digest is about.
type due struct {
	list []control.Held
	// total is how many messages there are, last the highest id of their shares.
	total, last int64
}

func (s *Service) trySend(ctx context.Context, account string, now time.Time) error {
	var d due
	err := s.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		if d, err = findDue(sn, account, now); err != nil || d.total == 0 {
			return err
		}
		d.list, err = readHeld(sn, columns+`id IN (SELECT message FROM quarantine_shares WHERE account = ? AND digest <= ?) ORDER BY id DESC LIMIT ?`,
			account, now, maxListed)
		return err
	})
	if err != nil || d.total == 0 {
		return err
	}
	raw, err := writeDigest(digest{account: account, hostname: s.hostname, id: mail.NewID(now), now: now, due: d})
	if err != nil {
		return err
	}
	p, err := s.mailboxes.Prepare(func() io.Reader { return bytes.NewReader(raw) }, int64(len(raw)), now)
	if err != nil {
		return err
	}
	defer p.Discard()
	return s.store.Write(ctx, func(tx *store.Tx) error {
		again, err := findDue(tx, account, now)
		switch {
		case err != nil:
			return err
		case again.total != d.total, again.last != d.last:
			return errChanged
		}
		if _, err := tx.Exec(`UPDATE quarantine_shares SET digest = NULL WHERE account = ? AND digest <= ?`, account, now); err != nil {
			return err
		}
		return s.mailboxes.DeliverIn(tx, p, []mailbox.Target{{Account: account}})
	})
}

// findDue counts what is to be listed.
func findDue(q store.Querier, account string, now time.Time) (d due, err error) {
	err = q.QueryRow(`SELECT count(*), coalesce(max(id), 0) FROM quarantine_shares WHERE account = ? AND digest <= ?`, account, now).Scan(&d.total, &d.last)
	return d, err
}
