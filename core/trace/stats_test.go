package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

var began = time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)

// statsLog is a log in memory.
func statsLog(tb testing.TB) *Log {
	tb.Helper()
	s, err := store.OpenMemory(store.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := New(s, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// messageAt is a message of its minute, of a session of its own.
func messageAt(minute int, from, to, ip, outcome string, entries ...mail.Entry) *Record {
	at := began.Add(time.Duration(minute) * time.Minute)
	return &Record{
		ID: fmt.Sprintf("%s-%04d", mail.NewID(at)[:timeDigits], minute), Session: fmt.Sprint("session", minute), Kind: KindMessage, Time: at,
		Listener: "mx", RemoteIP: ip, ReversePath: from, Recipients: []string{to}, Outcome: Outcome{Action: outcome}, Entries: entries,
	}
}

func said(stage mail.Stage, handler string, action mail.Action, note string) mail.Entry {
	e := mail.Entry{Stage: stage, Handler: handler, Action: action, Note: note, Reason: "since " + action.String(), Duration: 100 * time.Microsecond}
	if stage == mail.StageRcpt {
		e.Recipient = "bob@example.test"
	}
	return e
}

// conversation are the records that are counted.
func conversation() []*Record {
	rcpt, data := mail.StageRcpt, mail.StageData
	greeting := said(mail.StageConnect, "rdns", mail.ActionContinue, "")
	list := []*Record{
		messageAt(0, "a@example.org", "bob@example.test", "192.0.2.1", "accept", greeting, said(rcpt, "greylist", mail.ActionDefer, "monitor"), said(rcpt, "greylist", mail.ActionDefer, "monitor"), said(data, "spf", mail.ActionContinue, "")),
		messageAt(1, "a@example.org", "bob@example.test", "192.0.2.1", "accept", greeting, said(rcpt, "greylist", mail.ActionContinue, "monitor"), said(data, "spf", mail.ActionContinue, "skipped")),
		messageAt(2, "c@example.org", "bob@example.test", "192.0.2.2", "reject", greeting, said(rcpt, "greylist", mail.ActionDefer, "monitor"), said(data, "spf", mail.ActionReject, "")),
		messageAt(3, "d@example.org", "bob@example.test", "192.0.2.1", "quarantine", greeting, said(rcpt, "greylist", mail.ActionDefer, "monitor"), said(data, "clamav", mail.ActionQuarantine, "")),
		messageAt(4, "", "bob@example.test", "192.0.2.1", "accept", greeting, said(rcpt, "greylist", mail.ActionContinue, "error"), said(data, "clamav", mail.ActionDefer, "resting"), said(data, "clamav", mail.ActionContinue, "timeout")),
		messageAt(5, "e@example.org", "carol@other.test", "192.0.2.1", "accept", greeting, said(rcpt, "greylist", mail.ActionReject, "monitor")),
		messageAt(6, "", "x@elsewhere.test", "", "continue", mail.Entry{Stage: rcpt, Recipient: "y@other.test", Reason: "settings differ", Action: mail.ActionDefer, Note: "other-chain"}),
	}
	list[1].Session = list[0].Session // which repeats what was said at connect
	list[6].Listener, list[6].User = "submission", "Carol@other.test"
	slow := &list[0].Entries[3]
	slow.Duration = 3 * time.Second
	return list
}

func TestStats(t *testing.T) {
	t.Parallel()
	l := statsLog(t)
	records := conversation()
	for _, r := range records {
		l.Add(r)
	}
	got, err := l.Stats(t.Context(), StatsQuery{Examples: 2})
	if err != nil {
		t.Fatal(err)
	}
	id := func(minute int) string { return records[minute].ID }
	at := func(minute int) time.Time { return began.Add(time.Duration(minute) * time.Minute) }
	want := &Stats{
		Records: 7, Oldest: at(0), Newest: at(6), Listeners: []string{"mx", "submission"},
		Handlers: []HandlerStats{
			{
				Handler: "clamav", Listeners: []string{"mx"}, Asked: 2, Resting: 1, Errors: 1, Verdicts: map[string]int{"quarantine": 1}, P50: 103, P95: 103,
				Examples: []Example{{ID: id(3), Time: at(3), From: "d@example.org", To: "bob@example.test", RemoteIP: "192.0.2.1", Action: "quarantine", Reason: "since quarantine", Outcome: "quarantine"}},
			},
			{
				Handler: "greylist", Listeners: []string{"mx"}, Asked: 7, Errors: 1, Verdicts: map[string]int{"continue": 1, "defer": 4, "reject": 1}, Monitored: 6, P50: 103, P95: 103,
				Would: []Would{
					{Action: "defer", Verdicts: 4, Records: 3, Senders: 3, Addresses: 2, Accepted: 1, Refused: 1, Other: 1},
					{Action: "reject", Verdicts: 1, Records: 1, Senders: 1, Addresses: 1, Refused: 1}, // of a recipient that is not among the accepted ones
				},
				Examples: []Example{
					{ID: id(5), Time: at(5), From: "e@example.org", To: "bob@example.test", RemoteIP: "192.0.2.1", Action: "reject", Monitored: true, Reason: "since reject", Outcome: "reject"},
					{ID: id(3), Time: at(3), From: "d@example.org", To: "bob@example.test", RemoteIP: "192.0.2.1", Action: "defer", Monitored: true, Reason: "since defer", Outcome: "quarantine"},
				},
			},
			{Handler: "rdns", Listeners: []string{"mx"}, Asked: 5, Verdicts: map[string]int{"continue": 5}, P50: 103, P95: 103},
			{
				Handler: "spf", Listeners: []string{"mx"}, Asked: 2, Skipped: 1, Verdicts: map[string]int{"continue": 1, "reject": 1}, P50: 103, P95: 3014655,
				Examples: []Example{{ID: id(2), Time: at(2), From: "c@example.org", To: "bob@example.test", RemoteIP: "192.0.2.2", Action: "reject", Reason: "since reject", Outcome: "reject"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	again := new(Stats)
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("from JSON (-want +got):\n%s", diff)
	}
}

// TestStatsQuery counts part of what is there.
func TestStatsQuery(t *testing.T) {
	t.Parallel()
	l := statsLog(t)
	for _, r := range conversation() {
		l.Add(r)
	}
	at := func(minute int) time.Time { return began.Add(time.Duration(minute) * time.Minute) }
	for name, test := range map[string]struct {
		query StatsQuery
		want  string // handlers with how often they were asked
	}{
		"all":              {StatsQuery{}, "clamav 2, greylist 7, rdns 5, spf 2, "},
		"handler":          {StatsQuery{Handler: "spf"}, "spf 2, "},
		"no such handler":  {StatsQuery{Handler: "sp"}, ""},
		"since":            {StatsQuery{Since: at(4)}, "clamav 1, greylist 2, rdns 2, "},
		"until":            {StatsQuery{Until: at(1)}, "greylist 2, rdns 1, spf 1, "},
		"between":          {StatsQuery{Since: at(1), Until: at(3)}, "greylist 2, rdns 2, spf 1, "},
		"listener":         {StatsQuery{Listener: "submission"}, ""},
		"domain":           {StatsQuery{Domain: "Example.TEST"}, "clamav 2, greylist 7, rdns 5, spf 2, "},
		"domain of others": {StatsQuery{Domain: "other.test"}, "rdns 1, "}, // what was said of bob@example.test is not theirs
		"no such domain":   {StatsQuery{Domain: "test"}, ""},
	} {
		stats, err := l.Stats(t.Context(), test.query)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, h := range stats.Handlers {
			got += fmt.Sprintf("%s %d, ", h.Handler, h.Asked)
		}
		if got != test.want {
			t.Errorf("%s: counted %q, want %q", name, got, test.want)
		}
	}
}

// TestStatsAreBounded: it says so when there is more than is counted, and counts
// no more.
func TestStatsAreBounded(t *testing.T) {
	t.Parallel()
	l := statsLog(t)
	const all = 3 * statsPage
	for i := range all {
		l.Add(messageAt(i, fmt.Sprint(i, "@example.org"), "bob@example.test", "192.0.2.1", "accept", said(mail.StageMail, "spf", mail.ActionReject, "monitor")))
		if i%1000 == 0 { // so many can be behind
			if err := l.store.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for limit, cut := range map[int]bool{all: false, all - 1: true, 2 * statsPage: true, statsPage + 1: true} {
		l.maxStats = limit
		got, err := l.Stats(t.Context(), StatsQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Records != limit || got.Cut != cut || got.Handlers[0].Asked != limit {
			t.Errorf("of %d at most %d: %d counted, cut %v, spf asked %d times", all, limit, got.Records, got.Cut, got.Handlers[0].Asked)
		}
		if senders := got.Handlers[0].Would[0].Senders; senders != min(limit, MaxDistinct) {
			t.Errorf("%d senders", senders)
		}
	}
}

// TestSketch reads of a record what decode does.
func TestSketch(t *testing.T) {
	t.Parallel()
	for _, r := range append(conversation(), sample(), &Record{}) {
		data := encode(r)
		var s sketch
		if err := s.read(data); err != nil {
			t.Fatal(err)
		}
		action, _ := r.Decision()
		if string(s.session) != r.Session || string(s.listener) != r.Listener || string(s.ip) != r.RemoteIP || string(s.user) != r.User ||
			string(s.reversePath) != r.ReversePath || s.decision() != action || len(s.recipients) != len(r.Recipients) || len(s.entries) != len(r.Entries) {
			t.Errorf("read %+v of %+v", s, r)
		}
		for i, e := range s.entries {
			want := r.Entries[i]
			if e.stage != want.Stage || e.action != want.Action || string(e.handler) != want.Handler || string(e.recipient) != want.Recipient ||
				string(e.reason) != want.Reason || string(e.note) != want.Note || e.took != want.Duration.Truncate(time.Microsecond) {
				t.Errorf("read %+v of %+v", e, want)
			}
		}
		for n := range data {
			if err := new(sketch).read(data[:n]); err == nil {
				t.Errorf("the first %d of %d bytes: no error", n, len(data))
			}
		}
	}
}

// TestBuckets: a duration is in a bucket whose end is at most a sixteenth longer.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for us := int64(0); us < 1<<40; us += 1 + us/7 {
		end := bucketEnd(bucketOf(time.Duration(us) * time.Microsecond))
		if end < us || end > us+us/perOctave {
			t.Errorf("%d µs are in the bucket that ends with %d", us, end)
		}
	}
	if bucketOf(1<<63-1) >= len(handlerCounter{}.took) {
		t.Error("the longest duration has no bucket")
	}
}

// BenchmarkStats counts records as a busy server has them, from its disk.
func BenchmarkStats(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, err := store.Open(b.Context(), b.TempDir(), store.Options{})
			if err != nil {
				b.Fatal(err)
			}
			l, err := New(s, Options{})
			if err != nil {
				b.Fatal(err)
			}
			var entries []mail.Entry
			for _, handler := range []string{"blocklist", "ratelimit", "spf", "greylist", "dkim_verify", "dmarc", "authres", "score", "deliver"} {
				entries = append(entries, said(mail.StageRcpt, handler, mail.ActionDefer, "monitor"))
			}
			for i := range n {
				l.Add(messageAt(i, fmt.Sprint("sender", i, "@example.org"), "bob@example.test", fmt.Sprintf("192.0.%d.%d", i>>8&255, i&255), "accept", entries...))
				if i%10_000 == 0 {
					if err := s.Flush(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Stats(b.Context(), StatsQuery{Examples: 5}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
			if err := errors.Join(l.Close(), s.Close()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
