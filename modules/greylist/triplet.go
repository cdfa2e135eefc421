package greylist

import (
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// The states of a triplet.
const (
	stateGreylisted = "greylisted" // it must wait, or its retry has not come
	statePassed     = "passed"     // it passes
	stateExpired    = "expired"    // its time is over: as if never seen
)

// triplet is what is known of mail from a client, by a sender, to a recipient.
type triplet struct {
	client, sender, recipient string
	// open tells that it passes: a retry came in time, or the operator released it.
	open bool
	// first is the first attempt, last the last one; retry is from when on it
	// passes, expires when it is forgotten.
	first, last, retry, expires time.Time
	attempts, passed            int
}

// attempt notes that a client comes, and tells whether it passes and whether
// that is new. The delay counts from the first attempt, however often the client
// comes before it is over. A first attempt in the future, of a clock that was set
// back, is not believed.
func (t *triplet) attempt(now time.Time, p policy) (passes, opened bool) {
	if t.first.IsZero() || !now.Before(t.expires) || !t.open && now.Before(t.first) {
		t.open, t.first, t.attempts, t.passed = false, now, 0, 0
	}
	t.last = now
	if !t.open {
		t.retry = t.first.Add(p.delay)
		if now.Before(t.retry) {
			t.attempts++
			t.expires = t.first.Add(p.window)
			return false, false
		}
		t.open, opened = true, true
	}
	t.passed++
	t.expires = now.Add(p.expire)
	return true, opened
}

// releasedFor is how long a released triplet waits for its client.
const releasedFor = 30 * 24 * time.Hour

// release lets the triplet pass from now on.
func (t *triplet) release(now time.Time) {
	if t.state(now) == statePassed {
		return
	}
	t.open, t.retry, t.expires = true, now, now.Add(releasedFor)
}

// state tells how the triplet stands.
func (t *triplet) state(now time.Time) string {
	switch {
	case !now.Before(t.expires):
		return stateExpired
	case t.open:
		return statePassed
	default:
		return stateGreylisted
	}
}

func (t *triplet) key() key { return newKey(t.client, t.sender, t.recipient) }

// tripletColumns are the columns of a triplet, in the order of scan.
const tripletColumns = `client, sender, recipient, open, first, last, retry, expires, attempts, passed`

// row is a result of a query.
type row interface{ Scan(dest ...any) error }

// scan reads tripletColumns, behind those that go into before.
func (t *triplet) scan(r row, before ...any) error {
	return r.Scan(append(before, &t.client, &t.sender, &t.recipient, &t.open, &t.first, &t.last, &t.retry, &t.expires,
		&t.attempts, &t.passed)...)
}

// control gives the triplet as commands and the API show it.
func (t *triplet) control(id int64, now time.Time) control.Triplet {
	return control.Triplet{
		ID: id, Client: t.client, Sender: t.sender, Recipient: t.recipient, State: t.state(now),
		First: t.first, Last: t.last, Retry: t.retry, Expires: t.expires, Attempts: t.attempts, Passed: t.passed,
	}
}

// findTriplet reads a triplet; store.ErrNotFound if it is not known.
func findTriplet(q store.Querier, k key) (triplet, error) {
	var t triplet
	err := t.scan(q.QueryRow(`SELECT `+tripletColumns+` FROM greylist WHERE key = ?`, k[:]))
	return t, err
}

// write stores the triplet and keeps the counts. When too many wait, the oldest
// of them go first.
func (s *Service) write(tx *store.Tx, t triplet) error {
	k := t.key()
	var was bool
	err := tx.QueryRow(`SELECT open FROM greylist WHERE key = ?`, k[:]).Scan(&was)
	known := err == nil
	if err := exceptNotFound(err); err != nil {
		return err
	}
	if !known && !t.open && s.greylisted.Load() >= s.maxGreylisted {
		result, err := tx.Exec(`DELETE FROM greylist WHERE id IN
			(SELECT id FROM greylist WHERE open = 0 ORDER BY expires LIMIT 2)`)
		if err != nil {
			return err
		}
		s.countAfter(tx, false, -result.RowsAffected)
	}
	_, err = tx.Exec(`INSERT INTO greylist (key, client, sender, recipient, open, first, last, retry, expires, attempts, passed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
		open = excluded.open, first = excluded.first, last = excluded.last, retry = excluded.retry,
		expires = excluded.expires, attempts = excluded.attempts, passed = excluded.passed`,
		k[:], t.client, t.sender, t.recipient, t.open, t.first, t.last, t.retry, t.expires, t.attempts, t.passed)
	if err != nil {
		return err
	}
	if known && was != t.open {
		s.countAfter(tx, was, -1)
	}
	if !known || was != t.open {
		s.countAfter(tx, t.open, 1)
	}
	return nil
}
