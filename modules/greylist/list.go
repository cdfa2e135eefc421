package greylist

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// scanBatch bounds how many rows one read looks at, so that no long one keeps the
// log of changes from being cleared.
const scanBatch = 5_000

// Triplets lists the entries that match, in the order in which they were first
// stored. Client, Sender and Recipient are looked for in those of the entry; a
// Client that is an IP address also finds the network that it is in. next is the
// After of the page that follows, "" if none does. The error is
// control.ErrInvalid for a state or a page that does not exist.
func (s *Service) Triplets(ctx context.Context, f control.TripletFilter, p control.Page) (list []control.Triplet, next string, err error) {
	after, err := checkList(f, p)
	if err != nil {
		return nil, "", fmt.Errorf("list greylist: %w", err)
	}
	if err := s.store.Flush(ctx); err != nil {
		return nil, "", fmt.Errorf("list greylist: %w", err)
	}
	f.Client, f.Sender, f.Recipient = strings.ToLower(f.Client), strings.ToLower(f.Sender), strings.ToLower(f.Recipient)
	limit, now := pageLimit(p), s.now()
	for more := true; more && len(list) <= limit; {
		err = s.store.Read(ctx, func(sn *store.Snapshot) error {
			list, after, more, err = scanTriplets(sn, f, after, now, limit, list)
			return err
		})
		if err != nil {
			return nil, "", fmt.Errorf("list greylist: %w", err)
		}
	}
	if len(list) > limit {
		list = list[:limit]
		next = strconv.FormatInt(list[limit-1].ID, 10)
	}
	return list, next, nil
}

// checkList gives the id behind which the page begins.
func checkList(f control.TripletFilter, p control.Page) (after int64, err error) {
	switch f.State {
	case "", stateGreylisted, statePassed, stateExpired:
	default:
		return 0, control.Invalid(fmt.Errorf("the state %q does not exist: it is %s, %s or %s",
			f.State, stateGreylisted, statePassed, stateExpired))
	}
	if p.After == "" {
		return 0, nil
	}
	after, err = strconv.ParseInt(p.After, 10, 64)
	if err != nil {
		return 0, control.Invalid(fmt.Errorf("no page begins behind %q: take what the page before gave as the next", p.After))
	}
	return after, nil
}

// scanTriplets appends what matches behind an id until there is one more than
// limit, and tells where it ended and whether there may be more.
func scanTriplets(sn *store.Snapshot, f control.TripletFilter, after int64, now time.Time, limit int, list []control.Triplet,
) (_ []control.Triplet, last int64, more bool, err error) {
	rows, err := sn.Query(`SELECT id, `+tripletColumns+` FROM greylist WHERE id > ? ORDER BY id LIMIT ?`, after, scanBatch)
	if err != nil {
		return nil, 0, false, err
	}
	defer rows.Close()
	seen := 0
	for len(list) <= limit && rows.Next() {
		seen++
		var t triplet
		if err := t.scan(rows, &after); err != nil {
			return nil, 0, false, err
		}
		if c := t.control(after, now); matches(f, c) {
			list = append(list, c)
		}
	}
	return list, after, seen == scanBatch, rows.Err()
}

func matches(f control.TripletFilter, t control.Triplet) bool {
	return (f.State == "" || f.State == t.State) &&
		(f.Client == "" || clientMatches(t.Client, f.Client)) &&
		strings.Contains(strings.ToLower(t.Sender), f.Sender) && strings.Contains(t.Recipient, f.Recipient)
}

// ReleaseTriplet lets a triplet pass from now on, and for at least 30 days; its
// client need not wait for its delay. store.ErrNotFound if there is none of that
// id.
func (s *Service) ReleaseTriplet(ctx context.Context, id int64) error {
	now := s.now()
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		var known triplet
		if err := known.scan(tx.QueryRow(`SELECT `+tripletColumns+` FROM greylist WHERE id = ?`, id)); err != nil {
			return err
		}
		s.mu.Lock()
		if e, ok := s.triplets.get(known.key()); ok {
			known = e.triplet
		}
		s.mu.Unlock()
		known.release(now)
		tx.AfterCommit(func() { s.released(known, now) })
		return s.write(tx, known)
	})
	if err != nil {
		return fmt.Errorf("release entry %d of the greylist: %w", id, err)
	}
	return nil
}

// released lets a triplet pass in memory. It is written again, since its client
// may have come between the write and the commit.
func (s *Service) released(known triplet, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(known)
	e.release(now)
	s.save(e)
}
