package greylist

import (
	"time"

	"github.com/mox-like/mox-like/core/store"
)

// pair is that a user has written to somebody.
type pair struct {
	key                 key
	user, correspondent string
}

// learn notes that users have written to others, until then. It never waits.
func (s *Service) learn(users, others []string, until time.Time) {
	var news []pair
	s.mu.Lock()
	for _, user := range users {
		for _, other := range others {
			k := newKey(user, other)
			if known, ok := s.written.get(k); ok && until.Sub(known) < refresh {
				continue
			}
			s.written.put(k, until)
			news = append(news, pair{key: k, user: user, correspondent: other})
		}
	}
	s.mu.Unlock()
	if len(news) == 0 {
		return
	}
	s.store.Behind(func(tx *store.Tx) error {
		for i := range news {
			p := &news[i]
			if _, err := tx.Exec(`INSERT INTO greylist_correspondents (key, user, correspondent, expires) VALUES (?, ?, ?, ?)
				ON CONFLICT (key) DO UPDATE SET expires = excluded.expires`, p.key[:], p.user, p.correspondent, until); err != nil {
				return err
			}
		}
		return nil
	})
}

// hasWritten tells whether a user has written to somebody.
func hasWritten(q store.Querier, pair key, now time.Time) (bool, error) {
	var one int
	err := q.QueryRow(`SELECT 1 FROM greylist_correspondents WHERE key = ? AND expires > ?`, pair[:], now).Scan(&one)
	return err == nil, exceptNotFound(err)
}
