package ratelimit

import (
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// TestPeek finds that a look at any time leaves a counter as it is.
func TestPeek(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	c := newCounters("test", time.Hour, options{now: func() time.Time { return now }})
	c.setMax(1000)
	var k key
	for range 3 {
		c.take(k, 1, 3, now)
	}
	for _, at := range []time.Duration{0, time.Hour - time.Minute, 100 * time.Hour, -100 * time.Hour} {
		used, wait := c.peek(k, 1, 3, now.Add(at))
		if near := at >= 0 && at < time.Hour; near != (wait > 0) || near != (used == 3) {
			t.Errorf("after %s: %d used, wait %s", at, used, wait)
		}
	}
	if used, wait := c.peek(key{1}, 5, 3, now); used != 0 || wait <= 0 {
		t.Errorf("more than the limit: %d used, wait %s", used, wait)
	}
	if used, wait := c.look(k, 1, 3, now); used != 3 || wait <= 0 {
		t.Errorf("afterwards: %d used, wait %s", used, wait)
	}
	if used, _ := c.look(key{1}, 1, 3, now); used != 0 {
		t.Errorf("a counter was made, with %d", used)
	}
}

// TestTrialCountsItsOwn finds that recipients of one transaction count for each other.
func TestTrialCountsItsOwn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	r := &Ratelimit{now: func() time.Time { return now }}
	r.Limit.N, r.Limit.Window = 2, time.Hour
	r.counters = newCounters("test", time.Hour, options{now: r.now})
	r.counters.setMax(1000)
	for range 2 {
		tx := mail.NewTransaction("check-1", new(mail.Session), now)
		tx.Trial, tx.Stage = true, mail.StageRcpt
		for i, want := range []mail.Action{mail.ActionContinue, mail.ActionContinue, mail.ActionDefer} {
			if v := r.try(tx, key{}, 1); v.Action != want {
				t.Errorf("recipient %d: %s (%s), want %s", i, v.Action, v.Reason, want)
			}
		}
	}
}
