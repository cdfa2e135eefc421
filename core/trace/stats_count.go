package trace

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// numActions is how many actions there are.
const numActions = int(mail.ActionReject) + 1

// statsCounter counts records, of which it is given the newest first.
type statsCounter struct {
	query    StatsQuery
	stats    Stats
	sketch   sketch
	seed     maphash.Seed
	handlers map[string]*handlerCounter
	// sessions are those of which a record was counted: others repeat what was said at
	// connect and HELO. It is emptied when it is large, since those of one session are
	// near each other.
	sessions map[uint64]struct{}
	outcome  string // of the record that is counted

	looked    int // records, also of other listeners and domains
	listeners map[string]struct{}
}

// maxSessions bounds statsCounter.sessions.
const maxSessions = 100_000

// handlerCounter counts what one handler said.
type handlerCounter struct {
	HandlerStats

	listeners map[string]struct{}
	verdicts  [numActions]int
	took      [64 * perOctave]uint32
	would     [numActions]*wouldCounter
}

// wouldCounter counts what a monitored handler would have done.
type wouldCounter struct {
	Would

	last               string // ID of the last record
	senders, addresses map[uint64]struct{}
}

func newStatsCounter(q StatsQuery) *statsCounter {
	q.Examples = max(0, min(q.Examples, MaxExamples))
	q.Domain = strings.ToLower(q.Domain)
	return &statsCounter{query: q, seed: maphash.MakeSeed(), handlers: make(map[string]*handlerCounter), sessions: make(map[uint64]struct{}), listeners: make(map[string]struct{})}
}

// record counts a record.
func (c *statsCounter) record(s *sketch) {
	if _, ok := c.listeners[string(s.listener)]; !ok {
		c.listeners[string(s.listener)] = struct{}{}
	}
	q := &c.query
	ofUser := q.Domain == "" || inDomain(s.user, q.Domain)
	if q.Listener != "" && q.Listener != string(s.listener) || !ofUser && !s.concerns(q.Domain) {
		return
	}
	c.stats.Records++
	c.stats.Oldest = s.time
	if c.stats.Newest.IsZero() {
		c.stats.Newest = s.time
	}
	session := maphash.Bytes(c.seed, s.session)
	_, repeats := c.sessions[session]
	if len(c.sessions) >= maxSessions {
		clear(c.sessions)
	}
	c.sessions[session] = struct{}{}
	c.outcome = s.decision()
	for i := range s.entries {
		e := &s.entries[i]
		switch {
		case len(e.handler) == 0, q.Handler != "" && q.Handler != string(e.handler):
		case repeats && (e.stage == mail.StageConnect || e.stage == mail.StageHelo):
		case !ofUser && len(e.recipient) > 0 && !inDomain(e.recipient, q.Domain):
		default:
			c.entry(s, e)
		}
	}
}

// entry counts what a handler said.
func (c *statsCounter) entry(s *sketch, e *sketchEntry) {
	h := c.handlers[string(e.handler)]
	if h == nil {
		h = &handlerCounter{HandlerStats: HandlerStats{Handler: string(e.handler)}, listeners: make(map[string]struct{})}
		c.handlers[h.Handler] = h
	}
	if _, ok := h.listeners[string(s.listener)]; !ok {
		h.listeners[string(s.listener)] = struct{}{}
	}
	switch string(e.note) {
	case chain.NoteSkipped:
		h.Skipped++
		return
	case chain.NoteResting:
		h.Resting++
		return
	case chain.NoteError, chain.NoteTimeout:
		h.Errors++
	default:
		if int(e.action) < numActions {
			h.verdicts[e.action]++
		}
	}
	h.Asked++
	h.took[bucketOf(e.took)]++
	monitored := string(e.note) == chain.NoteMonitor
	if monitored {
		h.Monitored++
		if e.action != mail.ActionContinue && int(e.action) < numActions {
			c.wouldHave(h, s, e)
		}
	}
	if len(h.Examples) < c.query.Examples && !failed(string(e.note)) && e.action > mail.ActionAccept {
		c.example(h, s, e, monitored)
	}
}

func (c *statsCounter) wouldHave(h *handlerCounter, s *sketch, e *sketchEntry) {
	w := h.would[e.action]
	if w == nil {
		w = &wouldCounter{senders: make(map[uint64]struct{}), addresses: make(map[uint64]struct{})}
		w.Action = e.action.String()
		h.would[e.action] = w
	}
	w.Verdicts++
	distinct(w.senders, maphash.Bytes(c.seed, s.reversePath))
	distinct(w.addresses, maphash.Bytes(c.seed, s.ip))
	if w.last == s.id {
		return
	}
	w.last = s.id
	w.Records++
	switch c.became(s, e) {
	case mail.ActionAccept.String():
		w.Accepted++
	case mail.ActionDefer.String(), mail.ActionReject.String():
		w.Refused++
	default:
		w.Other++
	}
}

// became tells what became of what an entry is about: of one recipient, it may be
// that only that one was refused, by the last who was against it or since no target
// took it.
func (c *statsCounter) became(s *sketch, e *sketchEntry) string {
	if len(e.recipient) == 0 || len(s.recipients) > maxRecipients || slices.ContainsFunc(s.recipients, func(r []byte) bool { return bytes.Equal(r, e.recipient) }) {
		return c.outcome
	}
	for i := range slices.Backward(s.entries) {
		o := &s.entries[i]
		if o.action >= mail.ActionDefer && string(o.note) != chain.NoteMonitor && bytes.Equal(o.recipient, e.recipient) {
			return o.action.String()
		}
	}
	return mail.ActionReject.String()
}

func (c *statsCounter) example(h *handlerCounter, s *sketch, e *sketchEntry, monitored bool) {
	if n := len(h.Examples); n > 0 && h.Examples[n-1].ID == s.id {
		return
	}
	to := e.recipient
	if len(to) == 0 && len(s.recipients) > 0 {
		to = s.recipients[0]
	}
	h.Examples = append(h.Examples, Example{
		ID: s.id, Time: s.time, From: string(s.reversePath), To: string(to), RemoteIP: string(s.ip),
		Action: e.action.String(), Monitored: monitored, Reason: string(e.reason), Outcome: c.became(s, e),
	})
}

// distinct adds to a set that is not too large yet.
func distinct(set map[uint64]struct{}, key uint64) {
	if len(set) < MaxDistinct {
		set[key] = struct{}{}
	}
}

// concerns tells whether something was said about a recipient of a domain.
func (s *sketch) concerns(domain string) bool {
	return slices.ContainsFunc(s.recipients, func(r []byte) bool { return inDomain(r, domain) }) ||
		slices.ContainsFunc(s.entries, func(e sketchEntry) bool { return inDomain(e.recipient, domain) })
}

// inDomain tells whether an address is of a domain.
func inDomain(address []byte, domain string) bool {
	at := bytes.LastIndexByte(address, '@')
	return at >= 0 && len(address)-at-1 == len(domain) && bytes.EqualFold(address[at+1:], []byte(domain))
}

// decision is Record.Decision.
func (s *sketch) decision() string {
	switch {
	case !isAccepted(string(s.action)):
		return string(s.action)
	case s.quarantined:
		return mail.ActionQuarantine.String()
	default:
		return mail.ActionAccept.String()
	}
}

// result gives the sums.
func (c *statsCounter) result() *Stats {
	c.stats.Listeners = slices.AppendSeq(make([]string, 0, len(c.listeners)), maps.Keys(c.listeners))
	slices.Sort(c.stats.Listeners)
	c.stats.Handlers = make([]HandlerStats, 0, len(c.handlers))
	for _, h := range c.handlers {
		out := h.HandlerStats
		out.Listeners = slices.Sorted(maps.Keys(h.listeners))
		out.Verdicts = make(map[string]int)
		for action, n := range h.verdicts {
			if n > 0 {
				out.Verdicts[mail.Action(action).String()] = n
			}
		}
		out.P50, out.P95 = h.quantile(50), h.quantile(95)
		for _, w := range h.would {
			if w != nil {
				w.Senders, w.Addresses = len(w.senders), len(w.addresses)
				out.Would = append(out.Would, w.Would)
			}
		}
		c.stats.Handlers = append(c.stats.Handlers, out)
	}
	slices.SortFunc(c.stats.Handlers, func(a, b HandlerStats) int { return cmp.Compare(a.Handler, b.Handler) })
	return &c.stats
}

// perOctave is how many buckets of durations there are between a number of
// microseconds and its double.
const perOctave = 16

// bucketOf gives the bucket of a duration.
func bucketOf(took time.Duration) int {
	us := uint64(max(0, took.Microseconds()))
	if us < perOctave {
		return int(us)
	}
	shift := bits.Len64(us) - bits.Len(perOctave)
	return shift*perOctave + int(us>>shift)
}

// bucketEnd gives the longest duration of a bucket, in microseconds.
func bucketEnd(bucket int) int64 {
	if bucket < perOctave {
		return int64(bucket)
	}
	shift := bucket/perOctave - 1
	return int64(perOctave+bucket%perOctave+1)<<shift - 1
}

// quantile gives how long that percentage of the calls took at most.
func (h *handlerCounter) quantile(percent int) int64 {
	left := (h.Asked*percent + 99) / 100
	for bucket, n := range h.took {
		if left -= int(n); left <= 0 && n > 0 {
			return bucketEnd(bucket)
		}
	}
	return 0
}
