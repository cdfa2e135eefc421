package greylist

import (
	"context"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// found is what the database and the memory beside it know about a question.
type found struct {
	correspondent bool
	passed        int // triplets of the client
	expires       time.Time
	triplet       triplet
}

// free tells whether the client passes whatever the triplet.
func (f *found) free(q question) bool { return q.passAfter > 0 && f.passed >= q.passAfter }

// judge tells whether a triplet passes at a time, and notes that it came.
func (s *Service) judge(ctx context.Context, q question, now time.Time) (answer, error) {
	f, err := s.find(ctx, q, now)
	if err != nil {
		return answer{}, fmt.Errorf("look up %s: %w", q, err)
	}
	switch {
	case f.correspondent:
		return answer{kind: answerCorrespondent, now: now}, nil
	case f.free(q):
		if f.expires.Sub(now) < q.expire-refresh && !q.trial {
			s.store.Behind(func(tx *store.Tx) error { return noteClient(tx, q.client, 0, now, now.Add(q.expire)) })
		}
		return answer{kind: answerClient, passed: f.passed, now: now}, nil
	}
	t, passes, opened := s.attempt(q, f.triplet, now)
	a := answer{kind: answerWait, triplet: t, now: now}
	switch {
	case opened:
		a.kind = answerOpened
		if t.attempts > 0 && !q.trial {
			s.store.Behind(func(tx *store.Tx) error { return noteClient(tx, q.client, 1, now, now.Add(q.expire)) })
		}
	case passes:
		a.kind = answerKnown
	}
	return a, nil
}

// find asks the database, in one snapshot, and no more than it needs to.
func (s *Service) find(ctx context.Context, q question, now time.Time) (found, error) {
	var f found
	k := newKey(q.client, q.sender, q.recipient)
	pair := newKey(q.user, q.correspondent)
	s.mu.Lock()
	until, _ := s.written.get(pair)
	s.mu.Unlock()
	if q.user != "" && now.Before(until) {
		f.correspondent = true
		return f, nil
	}
	err := s.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		if q.user != "" {
			f.correspondent, err = hasWritten(sn, pair, now)
			if err != nil || f.correspondent {
				return err
			}
		}
		if q.passAfter > 0 {
			f.passed, f.expires, err = findClient(sn, q.client, now)
			if err != nil || f.free(q) {
				return err
			}
		}
		f.triplet, err = findTriplet(sn, k)
		return exceptNotFound(err)
	})
	return f, err
}

// attempt lets the triplet take a step. known is what the database has; what was
// changed since then counts more.
func (s *Service) attempt(q question, known triplet, now time.Time) (t triplet, passes, opened bool) {
	known.client, known.sender, known.recipient = q.client, q.sender, q.recipient
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.trial {
		if e, ok := s.triplets.get(known.key()); ok {
			known = e.triplet
		}
		passes, opened = known.attempt(now, q.policy)
		return known, passes, opened
	}
	e := s.entry(known)
	passes, opened = e.attempt(now, q.policy)
	s.save(e)
	return e.triplet, passes, opened
}

// entry gives the triplet in memory, and puts it there as known if it is not. It
// is called with mu held.
func (s *Service) entry(known triplet) *entry {
	k := known.key()
	e, ok := s.triplets.get(k)
	if !ok {
		e = &entry{triplet: known}
	}
	s.triplets.put(k, e)
	return e
}

// save writes the triplet behind, as it will be then.
func (s *Service) save(e *entry) {
	s.store.Behind(func(tx *store.Tx) error { return s.write(tx, s.current(e)) })
}

// current gives a copy of a triplet in memory.
func (s *Service) current(e *entry) triplet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.triplet
}

// findClient tells how many triplets of a client have passed, and until when
// that counts.
func findClient(q store.Querier, client string, now time.Time) (passed int, expires time.Time, err error) {
	err = q.QueryRow(`SELECT passed, expires FROM greylist_clients WHERE client = ? AND expires > ?`, client, now).Scan(&passed, &expires)
	return passed, expires, exceptNotFound(err)
}

// noteClient counts triplets of a client that have passed, and that it was here.
func noteClient(tx *store.Tx, client string, passed int, now, expires time.Time) error {
	_, err := tx.Exec(`INSERT INTO greylist_clients (client, passed, expires) VALUES (?, ?, ?)
		ON CONFLICT (client) DO UPDATE SET
		passed = CASE WHEN greylist_clients.expires > ? THEN greylist_clients.passed ELSE 0 END + excluded.passed,
		expires = CASE WHEN greylist_clients.expires > excluded.expires THEN greylist_clients.expires ELSE excluded.expires END`,
		client, passed, expires, now)
	return err
}
