package trace

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// MaxStats bounds how many records statistics are made of.
const MaxStats = 1_000_000

// Bounds of statistics.
const (
	// MaxExamples bounds the examples of a handler.
	MaxExamples = 100
	// MaxDistinct is where senders and addresses are not told apart any more.
	MaxDistinct = 10_000
	// statsPage is how many records are read at once: nobody waits for them, but the
	// store cannot shorten its log while they are read.
	statsPage = 5_000
)

// StatsQuery says of which records statistics are made, and of which handlers; its
// zero value, all.
type StatsQuery struct {
	// Handler is the name of the only handler, "" for all.
	Handler string `json:"handler,omitempty"`
	// Listener is the name of the only listener.
	Listener string `json:"listener,omitempty"`
	// Domain is that of a user or of a recipient: of what was said about recipients,
	// only about those of the domain.
	Domain string `json:"domain,omitempty"`
	// Since and Until bound when it began; Until is not part of it.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Examples is how many are given of each handler, at most MaxExamples.
	Examples int `json:"examples,omitempty"`
}

// Stats tell what handlers said.
type Stats struct {
	// Records is how many were counted: all of that time, listener and domain, or those
	// among the newest MaxStats of that time if Cut is set.
	Records int  `json:"records"`
	Cut     bool `json:"cut"`
	// Damaged is how many could not be read.
	Damaged int `json:"damaged,omitempty"`
	// Oldest and Newest are when the first and the last of those counted ended.
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`
	// Listeners are those of all records of that time, in the order of their names.
	Listeners []string `json:"listeners"`
	// Handlers are in the order of their names.
	Handlers []HandlerStats `json:"handlers"`
}

// HandlerStats tell what one handler said, at all listeners that were looked at.
// What was said at connect and HELO counts once a session.
type HandlerStats struct {
	Handler   string   `json:"handler"`
	Listeners []string `json:"listeners"`
	// Asked is how often it was called. Skipped is how often it was not, since its when
	// was false, and Resting how often it was not since it had failed before.
	Asked   int `json:"asked"`
	Skipped int `json:"skipped"`
	Resting int `json:"resting"`
	// Errors is how many of the calls gave no verdict.
	Errors int `json:"errors"`
	// Verdicts are what the other calls gave, by action. Monitored is how many of them
	// were recorded only.
	Verdicts  map[string]int `json:"verdicts"`
	Monitored int            `json:"monitored"`
	// P50 and P95 are how long calls took, in microseconds: half of them, and 95 of
	// 100, took at most so long. They are a sixteenth too large at most.
	P50 int64 `json:"p50_us"`
	P95 int64 `json:"p95_us"`
	// Would is what it would have done where it was monitored, from the mildest action
	// on; without what it let pass.
	Would []Would `json:"would,omitempty"`
	// Examples are the newest records in which it did not say continue or accept.
	Examples []Example `json:"examples,omitempty"`
}

// Would is what a monitored handler would have done by one action.
type Would struct {
	Action string `json:"action"`
	// Verdicts is how often it said so, and Records how many messages, logins and
	// sessions it said so of.
	Verdicts int `json:"verdicts"`
	Records  int `json:"records"`
	// Senders and Addresses are how many different reverse-paths and clients'
	// addresses these have; MaxDistinct stands for so many or more.
	Senders   int `json:"senders"`
	Addresses int `json:"addresses"`
	// Accepted, Refused and Other tell what became of these records all the same:
	// refused for now or for good, or, as Other, kept out of the inbox or discarded.
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
	Other    int `json:"other"`
}

// Example is something that a handler said.
type Example struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// From is the reverse-path, To the recipient or the first of them.
	From      string `json:"from"`
	To        string `json:"to,omitempty"`
	RemoteIP  string `json:"remote_ip"`
	Action    string `json:"action"`
	Monitored bool   `json:"monitored"`
	Reason    string `json:"reason"`
	// Outcome is what became of the record.
	Outcome string `json:"outcome"`
}

// Stats reads the newest records, at most MaxStats, and counts what handlers said.
func (l *Log) Stats(ctx context.Context, q StatsQuery) (*Stats, error) {
	select {
	case l.searches <- struct{}{}:
		defer func() { <-l.searches }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := l.store.Flush(ctx); err != nil {
		return nil, fmt.Errorf("count verdicts: %w", err)
	}
	c := newStatsCounter(q)
	from, before := idBounds(q.Since, q.Until)
	for {
		limit := min(statsPage, l.maxStats-c.looked)
		n, last, err := l.countPage(ctx, c, from, before, limit)
		if err != nil {
			return nil, fmt.Errorf("count verdicts: %w", err)
		}
		if limit == 0 || n < limit {
			return c.result(), nil
		}
		before = last
	}
}

// countPage counts the records of one page, and gives how many they were and the
// identifier of the last. With a limit of 0 it looks whether there is another.
func (l *Log) countPage(ctx context.Context, c *statsCounter, from, before string, limit int) (n int, last string, err error) {
	last = before
	err = l.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query("SELECT id, time, record FROM trace WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?", from, before, max(1, limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		var data []byte
		for rows.Next() {
			if limit == 0 {
				c.stats.Cut = true
				break
			}
			s := &c.sketch
			if err := rows.Scan(&s.id, &s.time, &data); err != nil {
				return err
			}
			n, last = n+1, s.id
			c.looked++
			if s.read(data) != nil {
				c.stats.Damaged++
				continue
			}
			c.record(s)
		}
		return rows.Err()
	})
	return n, last, err
}

// sketch is a record as statistics need it. Its texts stand in the encoded record,
// and its slices are used again for the next one.
type sketch struct {
	id   string
	time time.Time

	quarantined bool // by an entry, of a format that does not say so in the outcome

	session, listener, ip, user, reversePath, action []byte
	recipients                                       [][]byte
	entries                                          []sketchEntry
}

type sketchEntry struct {
	stage                            mail.Stage
	action                           mail.Action
	took                             time.Duration
	handler, recipient, reason, note []byte
}

// read is decode without anything that is not needed.
func (s *sketch) read(data []byte) error {
	d := decoder{rest: data}
	if d.format = d.octet(); d.format != format && d.format != format1 {
		return errDamaged
	}
	d.number() // duration
	d.number() // size
	// In the order of Record.texts.
	s.session, _, s.listener, s.ip = d.bytes(), d.bytes(), d.bytes(), d.bytes()
	_, s.user, s.reversePath, _ = d.bytes(), d.bytes(), d.bytes(), d.bytes()
	s.action, _, _, _ = d.bytes(), d.bytes(), d.bytes(), d.bytes()
	s.recipients, s.entries = s.recipients[:0], s.entries[:0]
	for range d.count() {
		s.recipients = append(s.recipients, d.bytes())
	}
	for range d.count() {
		var e sketchEntry
		e.stage, e.action, e.took = mail.Stage(d.octet()), mail.Action(d.octet()), d.duration()
		for range len(mail.EnhancedCode{}) + 1 {
			d.number() // the reply's codes
		}
		// In the order of entryTexts.
		e.handler, _, e.recipient, e.reason, e.note, _ = d.bytes(), d.bytes(), d.bytes(), d.bytes(), d.bytes(), d.bytes()
		d.hash()
		s.entries = append(s.entries, e)
	}
	if d.damaged || len(d.rest) > 0 {
		return errDamaged
	}
	s.quarantined = d.format == format1 && slices.ContainsFunc(s.entries, func(e sketchEntry) bool {
		return e.action == mail.ActionQuarantine && len(e.note) == 0
	})
	return nil
}
