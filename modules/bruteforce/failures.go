package bruteforce

import (
	"cmp"
	"slices"
	"time"
)

const (
	// maxEvents is how many failures of one network and of one account are kept.
	maxEvents = 256
	// day is how long a failure counts at most.
	day = 24 * time.Hour
	// sample is how many keys are looked at to find one to forget.
	sample = 8
)

// kind says what a failure means.
type kind uint8

const (
	kindStranger kind = iota // the account's user has not logged in from there lately
	kindOwner                // he has: it is most likely himself
	kindDenied               // refused since the account is locked, whatever the password
)

// event is a failure as its network sees it.
type event struct {
	account string
	at      uint32 // seconds since 1970
	kind    kind
}

// hit is a failure as its account sees it; those of its own user are none.
type hit struct {
	from network
	at   uint32
}

// source is a network that has failed, or that logs in just now.
type source struct {
	events  []event
	pending int  // logins that are not decided yet
	judged  bool // a block is being written
}

// target is an account at which logins have failed.
type target struct {
	hits   []hit
	judged bool // a lock is being written
}

// failures are those of the last day, by network and by account. They are
// guarded by the mutex of their owner.
type failures struct {
	max     int // of networks, and of accounts
	sources map[network]*source
	targets map[string]*target
}

func newFailures(limit int) *failures {
	return &failures{max: limit, sources: make(map[network]*source), targets: make(map[string]*target)}
}

func seconds(t time.Time) uint32 { return uint32(t.Unix()) }

// within tells whether at lies less than the window before now. A clock that was
// set back a little changes nothing; what lies far ahead is not believed.
func within(at, now uint32, window time.Duration) bool {
	ago := time.Duration(int64(now)-int64(at)) * time.Second
	return -window < ago && ago < window
}

// source gives the entry of a network, a fresh one if it has none.
func (f *failures) source(n network, now uint32) *source {
	if s := f.sources[n]; s != nil {
		return s
	}
	tidy(f.sources, f.max, func(s *source) int { return s.weight(now) })
	s := new(source)
	f.sources[n] = s
	return s
}

func (f *failures) target(account string, now uint32) *target {
	if t := f.targets[account]; t != nil {
		return t
	}
	tidy(f.targets, f.max, func(t *target) int { return t.weight(now) })
	t := new(target)
	f.targets[account] = t
	return t
}

// tidy looks at a few entries, forgets those without weight and, when there are
// limit of them, the lightest. Nobody gets rid of his own failures by a flood of
// others: they weigh less.
func tidy[K comparable, V any](entries map[K]V, limit int, weigh func(V) int) {
	var victim K
	lightest, seen := int(^uint(0)>>1), 0
	for k, v := range entries {
		w := weigh(v)
		if w == 0 {
			delete(entries, k)
		} else if w < lightest {
			victim, lightest = k, w
		}
		if seen++; seen == sample {
			break
		}
	}
	if len(entries) >= limit {
		delete(entries, victim)
	}
}

// weight is 0 if nothing of it counts any more. Entries in use weigh most.
func (s *source) weight(now uint32) int {
	if s.pending > 0 || s.judged {
		return maxEvents + 1
	}
	if n := len(s.events); n == 0 || !within(s.events[n-1].at, now, day) {
		return 0
	}
	return len(s.events)
}

func (t *target) weight(now uint32) int {
	if t.judged {
		return maxEvents + 1
	}
	if n := len(t.hits); n == 0 || !within(t.hits[n-1].at, now, day) {
		return 0
	}
	return len(t.hits)
}

// add notes a failure. It gives the entries of the network and, for a failure of
// a stranger, of the account.
func (f *failures) add(n network, e event) (*source, *target) {
	s := f.source(n, e.at)
	s.events = appendBounded(s.events, e)
	if e.kind != kindStranger {
		return s, nil
	}
	t := f.target(e.account, e.at)
	t.hits = appendBounded(t.hits, hit{from: n, at: e.at})
	return s, t
}

// appendBounded drops the oldest when there are many.
func appendBounded[E any](list []E, e E) []E {
	if len(list) >= maxEvents {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, e)
}

// forgive forgets the failures of a network at an account and tells whether
// there were any.
func (f *failures) forgive(n network, account string) bool {
	found := false
	if s := f.sources[n]; s != nil {
		before := len(s.events)
		s.events = slices.DeleteFunc(s.events, func(e event) bool { return e.account == account })
		found = len(s.events) < before
		f.drop(n, s)
	}
	if t := f.targets[account]; t != nil {
		before := len(t.hits)
		t.hits = slices.DeleteFunc(t.hits, func(h hit) bool { return h.from == n })
		found = found || len(t.hits) < before
		if len(t.hits) == 0 && !t.judged {
			delete(f.targets, account)
		}
	}
	return found
}

// networksOf gives the networks from which logins have failed at an account within
// a day. It looks at every network, which is for what operators ask only.
func (f *failures) networksOf(account string, now uint32) []network {
	var list []network
	for n, s := range f.sources {
		if s.recent(now, day, func(e event) bool { return e.account == account }) > 0 {
			list = append(list, n)
		}
	}
	if t := f.targets[account]; t != nil {
		for _, h := range t.hits {
			if within(h.at, now, day) && !slices.Contains(list, h.from) {
				list = append(list, h.from)
			}
		}
	}
	return list
}

// accountsOf gives the accounts at which a network has failed within a day.
func (f *failures) accountsOf(n network, now uint32) []string {
	var list []string
	if s := f.sources[n]; s != nil {
		for _, e := range s.events {
			if within(e.at, now, day) && !slices.Contains(list, e.account) {
				list = append(list, e.account)
			}
		}
	}
	return list
}

// drop removes a network's entry if it says nothing.
func (f *failures) drop(n network, s *source) {
	if len(s.events) == 0 && s.pending == 0 && !s.judged {
		delete(f.sources, n)
	}
}

// tally is what was counted of a network or an account in some time.
type tally struct {
	failures           int
	accounts, networks int // distinct ones
}

// count counts the failures of a stranger.
func (s *source) count(now uint32, window time.Duration) tally {
	var t tally
	seen := make(map[string]struct{})
	for _, e := range s.events {
		if e.kind == kindStranger && within(e.at, now, window) {
			t.failures++
			seen[e.account] = struct{}{}
		}
	}
	t.accounts = len(seen)
	return t
}

// recent counts events of the window, without an allocation.
func (s *source) recent(now uint32, window time.Duration, matters func(event) bool) int {
	n := 0
	for _, e := range s.events {
		if matters(e) && within(e.at, now, window) {
			n++
		}
	}
	return n
}

// until gives the time at which fewer than limit of the events that matter will
// count.
func (s *source) until(now uint32, window time.Duration, limit int, matters func(event) bool) time.Time {
	left := s.recent(now, window, matters)
	for _, e := range s.events {
		if !matters(e) || !within(e.at, now, window) {
			continue
		}
		if left--; left < limit {
			return time.Unix(int64(e.at), 0).UTC().Add(window)
		}
	}
	return time.Unix(int64(now), 0).UTC()
}

// newest gives the time of the last event that matters, 0 if there is none.
func (s *source) newest(matters func(event) bool) uint32 {
	for _, e := range slices.Backward(s.events) {
		if matters(e) {
			return e.at
		}
	}
	return 0
}

func (t *target) count(now uint32, window time.Duration) tally {
	var c tally
	seen := make(map[network]struct{})
	for _, h := range t.hits {
		if within(h.at, now, window) {
			c.failures++
			seen[h.from] = struct{}{}
		}
	}
	c.networks = len(seen)
	return c
}

// names gives the accounts at which a network has failed as a stranger, those of
// the most failures first.
func (s *source) names() []string {
	counts := make(map[string]int)
	for _, e := range s.events {
		if e.kind == kindStranger {
			counts[e.account]++
		}
	}
	return byCount(counts, func(a string) string { return a })
}

// origins gives the networks from which an account was tried in the same way.
func (t *target) origins() []string {
	counts := make(map[network]int)
	for _, h := range t.hits {
		counts[h.from]++
	}
	return byCount(counts, network.String)
}

func byCount[K comparable](counts map[K]int, name func(K) string) []string {
	type counted struct {
		name string
		n    int
	}
	list := make([]counted, 0, len(counts))
	for k, n := range counts {
		list = append(list, counted{name(k), n})
	}
	slices.SortFunc(list, func(a, b counted) int { return cmp.Or(b.n-a.n, cmp.Compare(a.name, b.name)) })
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.name
	}
	return names
}
