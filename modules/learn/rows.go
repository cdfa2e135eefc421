package learn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/store"
)

// Migrations are the tables of the queue.
func (*Service) Migrations() store.Migrations {
	return store.Migrations{Module: "learn", Steps: []string{schema1, schema2}}
}

// schema1 is the first version. An id is never used again, so that whoever has told
// a lesson removes that very one. size is the body's, in bytes.
//
// learn_accounts counts what an account has taught on its last day, in days since
// 1970.
const schema1 = `
CREATE TABLE learn_lessons (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	body_id  INTEGER NOT NULL,
	account  TEXT NOT NULL,
	spam     INTEGER NOT NULL,
	learner  TEXT NOT NULL,
	size     INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	next     INTEGER NOT NULL,
	created  INTEGER NOT NULL,
	expires  INTEGER NOT NULL,
	UNIQUE (body_id, account, learner)
);
CREATE INDEX learn_lessons_next ON learn_lessons (learner, next, id);
CREATE INDEX learn_lessons_expires ON learn_lessons (expires);

CREATE TABLE learn_accounts (
	account  TEXT PRIMARY KEY,
	day      INTEGER NOT NULL,
	lessons  INTEGER NOT NULL,
	bytes    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX learn_accounts_day ON learn_accounts (day);
`

// schema2 finds the lessons of an account that is removed.
const schema2 = `CREATE INDEX learn_lessons_account ON learn_lessons (account);`

// Learn writes a lesson within the caller's transaction: for the account, the
// message with that body is spam, or is not. Each filter that learns will be told.
// The opposite lesson, if it waits still, is replaced. Nothing is written when no
// filter learns, when the message is too large, or when there are too many lessons:
// that is no error. The opposite lesson goes then, too, since the user has taken it
// back.
func (s *Service) Learn(tx *store.Tx, account string, bodyID int64, spam bool) error {
	names := s.registered()
	if len(names) == 0 {
		return nil
	}
	now := s.now()
	l := lesson{bodyID: bodyID, account: account, spam: spam}
	err := tx.QueryRow("SELECT size FROM body WHERE id = ?", bodyID).Scan(&l.size)
	if errors.Is(err, store.ErrNotFound) {
		return nil // damage that was done before, which must not keep the user from moving the message
	}
	if err != nil {
		return fmt.Errorf("learn message: find body %d: %w", bodyID, err)
	}
	fits, err := s.fits(tx, &l, len(names), now)
	if err != nil {
		return fmt.Errorf("learn message: count lessons of %s: %w", account, err)
	}
	if !fits {
		s.overLimit(account, now)
		if err := s.takeBack(tx, &l); err != nil {
			return fmt.Errorf("learn message: take the opposite lesson back: %w", err)
		}
		return nil
	}
	added := 0
	for _, name := range names {
		l.learner = name
		isNew, err := l.insert(tx, now)
		if err != nil {
			return fmt.Errorf("learn message: insert lesson: %w", err)
		}
		if isNew {
			added++
		}
	}
	if added > 0 {
		if err := tx.AddBodyRefs(bodyID, added); err != nil {
			return fmt.Errorf("learn message: %w", err)
		}
	}
	tx.AfterCommit(func() {
		s.hold(account, added, l.size)
		s.wake()
	})
	return nil
}

// takeBack removes the lessons that say the opposite of l.
func (s *Service) takeBack(tx *store.Tx, l *lesson) error {
	list, err := lessons(tx, "WHERE body_id = ? AND account = ? AND spam <> ?", l.bodyID, l.account, l.spam)
	if err != nil {
		return err
	}
	for i := range list {
		if err := s.removeIn(tx, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

// hold counts rows of an account that came, or went, with messages of that size.
func (s *Service) hold(account string, rows int, size int64) {
	s.waiting.Add(int64(rows))
	s.waitingBytes.Add(int64(rows) * size)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.own[account]
	a.rows += int64(rows)
	a.bytes += int64(rows) * size
	if s.own[account] = a; a == (amount{}) {
		delete(s.own, account)
	}
}

// hasRoom tells whether so many rows more can wait.
func (s *Service) hasRoom(l *lesson, rows int) bool {
	more := amount{int64(rows), int64(rows) * l.size}
	s.mu.RLock()
	own := s.own[l.account]
	s.mu.RUnlock()
	return l.size <= maxSize &&
		own.rows+more.rows <= maxOwn && own.bytes+more.bytes <= maxOwnBytes &&
		s.waiting.Load()+more.rows <= maxWaiting && s.waitingBytes.Load()+more.bytes <= maxWaitingBytes
}

// RemoveAccount forgets what an account has taught and no filter was told, within the
// caller's transaction. The rows, and with them the messages, go with the next Sweep,
// in small steps; until then they are nobody's, and no filter's.
func (s *Service) RemoveAccount(tx *store.Tx, address string) error {
	for _, query := range [...]string{
		"UPDATE learn_lessons SET account = '', learner = 'removed ' || id, expires = 0 WHERE account = ?",
		"DELETE FROM learn_accounts WHERE account = ?",
	} {
		if _, err := tx.Exec(query, address); err != nil {
			return fmt.Errorf("forget lessons of %s: %w", address, err)
		}
	}
	tx.AfterCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if a, ok := s.own[address]; ok {
			nobody := s.own[""]
			s.own[""] = amount{nobody.rows + a.rows, nobody.bytes + a.bytes}
			delete(s.own, address)
		}
	})
	return nil
}

// fits tells whether the lesson is within the limits, and counts it for its account.
func (s *Service) fits(tx *store.Tx, l *lesson, rows int, now time.Time) (bool, error) {
	if !s.hasRoom(l, rows) {
		return false, nil
	}
	r, err := tx.Exec(`INSERT INTO learn_accounts (account, day, lessons, bytes) VALUES (?, ?, 1, ?)
		ON CONFLICT (account) DO UPDATE SET
			lessons = 1 + CASE WHEN day = excluded.day THEN lessons ELSE 0 END,
			bytes = excluded.bytes + CASE WHEN day = excluded.day THEN bytes ELSE 0 END,
			day = excluded.day
		WHERE day <> excluded.day OR lessons < ? AND bytes + excluded.bytes <= ?`,
		l.account, day(now), l.size, maxDaily, maxDailyBytes)
	return r.RowsAffected > 0, err
}

func day(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// overLimit counts what is not learned, and says so once an hour.
func (s *Service) overLimit(account string, now time.Time) {
	s.over.Add(1)
	if past := now.Sub(s.overLogged); past >= 0 && past < time.Hour {
		return
	}
	s.overLogged = now
	s.log.Warn("message not learned: it is too large, the account has taught too much today, or too many lessons wait, its own or all",
		zap.String(logkey.User, account), zap.Int64("waiting", s.waiting.Load()),
		zap.Int("daily_limit", maxDaily), zap.Int("waiting_limit_of_account", maxOwn), zap.Int("waiting_limit", maxWaiting))
}

// lesson is a row of the queue.
type lesson struct {
	id       int64
	bodyID   int64
	account  string
	spam     bool
	learner  string
	size     int64
	attempts int
	expires  time.Time
}

const insertLesson = `INSERT INTO learn_lessons (body_id, account, spam, learner, size, attempts, next, created, expires)
	VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?) ON CONFLICT (body_id, account, learner) DO NOTHING`

// insert adds the row. It is not new if there was one: the same lesson stays, the
// opposite one is turned round.
func (l *lesson) insert(tx *store.Tx, now time.Time) (isNew bool, err error) {
	expires := now.Add(keep)
	r, err := tx.Exec(insertLesson, l.bodyID, l.account, l.spam, l.learner, l.size, now, now, expires)
	if err != nil || r.RowsAffected > 0 {
		return true, err
	}
	_, err = tx.Exec(`UPDATE learn_lessons SET spam = ?, attempts = 0, next = ?, created = ?, expires = ?
		WHERE body_id = ? AND account = ? AND learner = ? AND spam <> ?`, l.spam, now, now, expires, l.bodyID, l.account, l.learner, l.spam)
	return false, err
}

// count finds out what waits, before anything changes it.
func (s *Service) count(ctx context.Context) error {
	return s.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query("SELECT account, count(*), sum(size) FROM learn_lessons GROUP BY account")
		if err != nil {
			return err
		}
		defer rows.Close()
		own, all := make(map[string]amount), amount{}
		for rows.Next() {
			var account string
			var a amount
			if err := rows.Scan(&account, &a.rows, &a.bytes); err != nil {
				return err
			}
			own[account] = a
			all.rows += a.rows
			all.bytes += a.bytes
		}
		s.mu.Lock()
		s.own = own
		s.mu.Unlock()
		s.waiting.Store(all.rows)
		s.waitingBytes.Store(all.bytes)
		return rows.Err()
	})
}

// due is what a learner has to do.
type due struct {
	lesson lesson
	body   *store.BodyReader // the caller closes it; nil if no lesson is due, or the body is lost
	lost   bool
	wait   time.Duration // until the next lesson is due; longest if none waits
}

// next gives the lesson that is due first; an eager one does not wait until it is due.
// One that is further away than pauses grow was put there before the clock was set
// back, and is due.
func (s *Service) next(ctx context.Context, learner string, now time.Time, eager bool) (d due, err error) {
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		next, err := d.lesson.first(sn, learner, time.Time{})
		if err == nil && next.After(now) && !eager {
			d.wait = next.Sub(now)
			_, err = d.lesson.first(sn, learner, now.Add(lastPause))
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			d.wait = 0
		}
		if errors.Is(err, store.ErrNotFound) {
			d.wait = longest
			return nil
		}
		if err != nil {
			return err
		}
		d.body, err = sn.OpenBody(d.lesson.bodyID)
		if d.lost = errors.Is(err, store.ErrNotFound); d.lost {
			return nil
		}
		return err
	})
	return d, err
}

// first reads the first lesson of a learner that is due after a time, and gives when
// it is.
func (l *lesson) first(sn *store.Snapshot, learner string, after time.Time) (next time.Time, err error) {
	err = sn.QueryRow(`SELECT id, body_id, account, spam, learner, size, attempts, next, expires FROM learn_lessons
		WHERE learner = ? AND next > ? ORDER BY next, id LIMIT 1`, learner, after).
		Scan(&l.id, &l.bodyID, &l.account, &l.spam, &l.learner, &l.size, &l.attempts, &next, &l.expires)
	return next, err
}

// remove ends a lesson, unless it was turned round meanwhile.
func (s *Service) remove(ctx context.Context, l *lesson) error {
	return s.store.Write(ctx, func(tx *store.Tx) error { return s.removeIn(tx, l) })
}

func (s *Service) removeIn(tx *store.Tx, l *lesson) error {
	var account string // the one that has it now: it may have been removed meanwhile
	err := tx.QueryRow("DELETE FROM learn_lessons WHERE id = ? AND spam = ? RETURNING account", l.id, l.spam).Scan(&account)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	tx.AfterCommit(func() { s.hold(account, -1, l.size) })
	// A body that is lost is damage that was done before.
	if err := tx.AddBodyRefs(l.bodyID, -1); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// postpone has a lesson tried again later.
func (s *Service) postpone(ctx context.Context, l *lesson, next time.Time) error {
	return s.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE learn_lessons SET attempts = attempts + 1, next = ? WHERE id = ? AND spam = ?", next, l.id, l.spam)
		return err
	})
}

// Sweep removes lessons that nobody was told in time, those of removed accounts, and
// old counts of accounts.
func (s *Service) Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error) {
	old, err := lessons(tx, "WHERE expires <= ? ORDER BY expires LIMIT ?", now, limit)
	if err != nil {
		return 0, fmt.Errorf("find old lessons: %w", err)
	}
	late := 0
	for i := range old {
		if err := s.removeIn(tx, &old[i]); err != nil {
			return 0, fmt.Errorf("remove old lesson: %w", err)
		}
		if old[i].account != "" {
			late++
		}
	}
	if late > 0 {
		tx.AfterCommit(func() {
			s.dropped.Add(uint64(late))
			s.log.Warn("lessons dropped: no spam filter has taken them in time", zap.Int("lessons", late), zap.Duration("kept", keep))
		})
	}
	r, err := tx.Exec("DELETE FROM learn_accounts WHERE account IN (SELECT account FROM learn_accounts WHERE day < ? LIMIT ?)", day(now), limit-len(old))
	if err != nil {
		return 0, fmt.Errorf("remove old counts: %w", err)
	}
	return len(old) + int(r.RowsAffected), nil
}

// lessons gives those that a condition, with an order and a limit, has: as far as it
// takes to remove them.
func lessons(tx *store.Tx, condition string, args ...any) ([]lesson, error) {
	rows, err := tx.Query("SELECT id, body_id, account, spam, size FROM learn_lessons "+condition, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []lesson
	for rows.Next() {
		var l lesson
		if err := rows.Scan(&l.id, &l.bodyID, &l.account, &l.spam, &l.size); err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, rows.Err()
}
