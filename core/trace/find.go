package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// MaxScan bounds how many records a search looks at.
const MaxScan = 100_000

// Bounds of a search, since strangers choose what is in the records: how much it
// gives at most, in bytes of their encodings, which may be six times as many in JSON;
// how much of a session a page has; and how many searches run at once.
const (
	maxFound    = 8 << 20
	maxPage     = 1000
	maxPageSize = 2 << 20
	maxSearches = 2
)

// maxIDTime is the last time that an ID can have, in milliseconds.
const maxIDTime = 1<<45 - 1

// timeDigits is how many characters of an ID are its time, see mail.NewID.
const timeDigits = 9

// Filter says which records a search gives; its zero value, all of them. Texts
// are looked for as parts, and letter case does not count.
type Filter struct {
	// From is looked for in the reverse-path; "<>" is the null reverse-path.
	From string `json:"from,omitempty"`
	// To is looked for in the recipients, also in those that were refused.
	To string `json:"to,omitempty"`
	// User is looked for in the name of who logged in, or tried to.
	User string `json:"user,omitempty"`
	// IP is a network that the client is in; the zero Prefix stands for any.
	IP netip.Prefix `json:"ip"`
	// Outcome is the action of Record.Decision, as a whole.
	Outcome string `json:"outcome,omitempty"`
	// MessageID is looked for in the value of the Message-ID field.
	MessageID string `json:"message_id,omitempty"`
	// Handler is the name of a handler, as a whole, which said what Verdict asks for.
	Handler string `json:"handler,omitempty"`
	// Verdict is one of Verdicts: what Handler said, or any handler if that is "". ""
	// with a Handler stands for anything but continue.
	Verdict string `json:"verdict,omitempty"`
	// Since and Until bound when it began, which the record's ID tells; Until is not
	// part of it. The zero Time is no bound.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// The values of Filter.Verdict beside the names of actions.
const (
	VerdictError     = "error"     // there was none: the handler failed, gave no answer in time, or rested
	VerdictSkipped   = "skipped"   // it was not asked, since its when was false
	VerdictMonitored = "monitored" // it would have acted, and was monitored only
)

// Verdicts are the values of Filter.Verdict.
func Verdicts() []string {
	var list []string
	for a := mail.ActionContinue; a <= mail.ActionReject; a++ {
		list = append(list, a.String())
	}
	return append(list, VerdictError, VerdictSkipped, VerdictMonitored)
}

// Matches tells whether a record is looked for.
func (f Filter) Matches(r *Record) bool {
	from, to := f.bounds()
	return r.ID >= from && r.ID < to && f.matches(r)
}

// matches is Matches whatever the time.
func (f Filter) matches(r *Record) bool {
	action, _ := r.Decision()
	return f.matchesFrom(r) && f.matchesTo(r) && contains(r.User, f.User) && f.matchesIP(r) && (f.Outcome == "" || f.Outcome == action) &&
		contains(r.MessageID, f.MessageID) && f.matchesHandler(r)
}

// bounds gives the identifiers from which and before which to look.
func (f Filter) bounds() (from, to string) { return idBounds(f.Since, f.Until) }

// idBounds gives identifiers that stand for times, which sort before or behind all
// others where there is none.
func idBounds(since, until time.Time) (from, to string) {
	at := func(t time.Time) string {
		if t.UnixMilli() > maxIDTime {
			return "~"
		}
		return mail.NewID(time.UnixMilli(max(0, t.UnixMilli())))[:timeDigits]
	}
	to = "~"
	if !since.IsZero() {
		from = at(since)
	}
	if !until.IsZero() {
		to = at(until)
	}
	return from, to
}

func (f Filter) matchesHandler(r *Record) bool {
	return f.Handler == "" && f.Verdict == "" || slices.ContainsFunc(r.Entries, func(e mail.Entry) bool {
		return (f.Handler == "" || e.Handler == f.Handler) && f.matchesVerdict(&e)
	})
}

func (f Filter) matchesVerdict(e *mail.Entry) bool {
	switch f.Verdict {
	case "":
		return e.Action != mail.ActionContinue || failed(e.Note)
	case VerdictError:
		return failed(e.Note)
	case VerdictSkipped:
		return e.Note == chain.NoteSkipped
	case VerdictMonitored:
		return e.Note == chain.NoteMonitor && e.Action != mail.ActionContinue
	case mail.ActionContinue.String():
		return e.Action == mail.ActionContinue && (e.Note == "" || e.Note == chain.NoteMonitor)
	default:
		return e.Action.String() == f.Verdict
	}
}

// failed tells whether there was no verdict, by what the chain noted.
func failed(note string) bool {
	return note == chain.NoteError || note == chain.NoteTimeout || note == chain.NoteResting
}

func (f Filter) matchesFrom(r *Record) bool {
	if f.From == "<>" {
		return r.Kind == KindMessage && r.ReversePath == ""
	}
	return contains(r.ReversePath, f.From)
}

func (f Filter) matchesTo(r *Record) bool {
	matches := func(recipient string) bool { return contains(recipient, f.To) }
	return f.To == "" || slices.ContainsFunc(r.Recipients, matches) || slices.ContainsFunc(r.RefusedRecipients(), matches)
}

func (f Filter) matchesIP(r *Record) bool {
	if !f.IP.IsValid() {
		return true
	}
	ip, err := netip.ParseAddr(r.RemoteIP)
	return err == nil && f.IP.Contains(ip.Unmap().WithZone(""))
}

// contains looks for a part of a text; case does not count.
func contains(text, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// Decision gives what became of it in one word, and the handler whose word it
// was: the outcome's, but accept where nobody was against it.
func (r *Record) Decision() (action, handler string) {
	if isAccepted(r.Outcome.Action) {
		return mail.ActionAccept.String(), r.Outcome.Handler
	}
	return r.Outcome.Action, r.Outcome.Handler
}

// RefusedRecipients are those that a handler was asked about and that are not
// among the accepted ones, in order.
func (r *Record) RefusedRecipients() []string {
	var list []string
	clipped := len(r.Recipients) > maxRecipients // so that accepted ones are missing
	for _, e := range r.Entries {
		if clipped && e.Action != mail.ActionDefer && e.Action != mail.ActionReject {
			continue
		}
		if e.Recipient != "" && !slices.Contains(r.Recipients, e.Recipient) && !slices.Contains(list, e.Recipient) {
			list = append(list, e.Recipient)
		}
	}
	return list
}

// Found is what a search has found.
type Found struct {
	Records []*Record
	// Next continues the records of a session, see Lookup; "" at the end.
	Next string
	// Cut tells that there is more of what matches, which would be too much at once.
	Cut bool
	// Damaged is how many of the records that were looked at cannot be read.
	Damaged int
}

// Find gives the newest n records that match, the newest first, of the newest
// MaxScan that began within the filter's time; fewer if these take more than 8 MiB.
func (l *Log) Find(ctx context.Context, f Filter, n int) (*Found, error) {
	s := search{n: n, room: maxFound, matches: f.matches, query: "SELECT id, time, kind, record FROM trace ORDER BY seq DESC LIMIT ?", args: []any{MaxScan}}
	if !f.Since.IsZero() || !f.Until.IsZero() { // by the index of identifiers, which are in the order of time
		from, to := f.bounds()
		s.query, s.args = "SELECT id, time, kind, record FROM trace WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?", []any{from, to, MaxScan}
	}
	found, err := l.search(ctx, &s)
	if err != nil {
		return nil, fmt.Errorf("find traces: %w", err)
	}
	return found, nil
}

// Lookup gives the record of a message or a login by its ID, or those of a session by
// the session's, the oldest first: a page of them, behind the one that Next of the
// page before names in after. It gives store.ErrNotFound if there are none. The ID
// may be in any case. The records have their Settings, up to 4 MiB of them.
func (l *Log) Lookup(ctx context.Context, id, after string) (*Found, error) {
	id, after = strings.ToLower(id), strings.ToLower(after)
	found, err := l.lookup(ctx, id, after)
	if err == nil {
		err = l.explain(ctx, found.Records)
	}
	if err != nil {
		return nil, fmt.Errorf("find trace %s: %w", id, err)
	}
	return found, nil
}

func (l *Log) lookup(ctx context.Context, id, after string) (*Found, error) {
	var damage error
	first := after == ""
	if first {
		r, err := l.get(ctx, id)
		switch {
		case err == nil && r.Session != r.ID:
			return &Found{Records: []*Record{r}}, nil
		case errors.Is(err, errDamaged):
			damage = err // it may be a session, which has others
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
		if err != nil && len(id) != mail.IDLength {
			return nil, err // no session has such an identifier: it is not worth a search
		}
		after = id[:timeDigits] // what belongs to a session has an ID of a later time
	}
	found, err := l.search(ctx, &search{
		n: l.maxPage, room: maxPageSize, matches: func(r *Record) bool { return r.Session == id || r.ID == id },
		query: "SELECT id, time, kind, record FROM trace WHERE id > ? ORDER BY id LIMIT ?", args: []any{after, MaxScan},
	})
	switch {
	case err != nil:
		return nil, err
	case len(found.Records) > 0 || !first:
	case damage != nil:
		return nil, damage
	default:
		return nil, store.ErrNotFound
	}
	if n := len(found.Records); n > 0 && (found.Cut || n == l.maxPage) {
		found.Next, found.Cut = found.Records[n-1].ID, false
	}
	return found, nil
}

// search is what to look for.
type search struct {
	n, room int // at most so many records, and bytes of their encodings
	matches func(*Record) bool
	query   string
	args    []any
}

// search runs a query once that which is behind can be seen, and gives the first n
// records that match, or fewer if there is no room for more.
func (l *Log) search(ctx context.Context, s *search) (*Found, error) {
	select {
	case l.searches <- struct{}{}:
		defer func() { <-l.searches }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := l.store.Flush(ctx); err != nil {
		return nil, err
	}
	found, known := new(Found), make(interned)
	err := l.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query(s.query, s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for room := s.room; len(found.Records) < s.n && rows.Next(); {
			r, size, err := scan(rows, known)
			switch {
			case errors.Is(err, errDamaged):
				found.Damaged++
				continue
			case err != nil:
				return err
			case !s.matches(r):
				continue
			case room <= 0:
				found.Cut = true
				return nil
			}
			found.Records = append(found.Records, r)
			room -= size
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
