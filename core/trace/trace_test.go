package trace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var moment = time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)

// newLog makes a log in a store in memory.
func newLog(t *testing.T, o trace.Options) (*trace.Log, *store.Store) {
	t.Helper()
	s, err := store.OpenMemory(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newLogIn(t, s, o), s
}

// openLog makes a log in a data directory.
func openLog(t *testing.T, dir string) (*trace.Log, *store.Store) {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newLogIn(t, s, trace.Options{}), s
}

// newLogIn makes a log in a store and closes both in the end.
func newLogIn(t *testing.T, s *store.Store, o trace.Options) *trace.Log {
	t.Helper()
	l, err := trace.New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// message is a record with every field set.
func message(id string) *trace.Record {
	return &trace.Record{
		ID: id, Session: "session", Kind: trace.KindMessage, Time: moment, Duration: 1500 * time.Microsecond,
		Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.1", Helo: "client.example.org", User: "bob@example.test",
		ReversePath: "alice@example.org", Recipients: []string{"bob@example.test", "\"a b\"@example.test"},
		MessageID: "<1@example.org>", Size: 4096,
		Outcome: trace.Outcome{Action: "reject", Handler: "clamav", Reply: "554 5.7.1 No viruses, please", Reason: "found Eicar"},
		Entries: []mail.Entry{
			{Stage: mail.StageMail, Handler: "spf", Position: "config.hcl:12", Reason: "pass", Duration: 20 * time.Millisecond},
			{
				Stage: mail.StageRcpt, Handler: "greylist", Position: "config.hcl:13", Recipient: "bob@example.test",
				Action: mail.ActionDefer, Reason: "first seen", Note: "monitor",
				Reply: mail.NewReply(451, 7, 1, "Come again later"), Duration: 35 * time.Microsecond,
			},
			{
				Stage: mail.StageData, Handler: "clamav", Position: "config.hcl:14", Action: mail.ActionReject,
				Reason: "found Eicar", Reply: mail.NewReply(554, 7, 1, "No viruses, please"), Duration: 3 * time.Second,
			},
		},
	}
}

// TestRecords writes records and reads back the same, though they are still
// behind.
func TestRecords(t *testing.T) {
	t.Parallel()
	l, s := newLog(t, trace.Options{})
	full := message("full")
	null := &trace.Record{ID: "null", Kind: trace.KindSession, Time: moment}
	l.Add(full)
	l.Add(null)
	through := message("through")
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.AddTx(tx, through) }); err != nil {
		t.Fatal(err)
	}
	last := message("last")
	l.Add(last)
	for _, want := range []*trace.Record{full, null, through, last} {
		got, err := l.Get(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("record %s (-want +got):\n%s", want.ID, diff)
		}
	}
	got, err := l.Last(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*trace.Record{last, through, null}, got); diff != "" {
		t.Errorf("last records (-want +got):\n%s", diff)
	}
	if _, err := l.Get(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("record that is not there: error %v, want ErrNotFound", err)
	}
}

// TestSecondRecordReplacesTheFirst is what happens to a discarded message: it is
// written through, and then again at the end of the transaction.
func TestSecondRecordReplacesTheFirst(t *testing.T) {
	t.Parallel()
	l, s := newLog(t, trace.Options{})
	first, second := message("id"), message("id")
	second.Outcome.Action = "discard"
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.AddTx(tx, first) }); err != nil {
		t.Fatal(err)
	}
	l.Add(second)
	got, err := l.Last(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*trace.Record{second}, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// TestWriteThroughIsDurable takes a copy of the data directory when the write has
// returned, as a crash would leave it.
func TestWriteThroughIsDurable(t *testing.T) {
	t.Parallel()
	dir, crashed := t.TempDir(), t.TempDir()
	l, s := openLog(t, dir)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.AddTx(tx, message("discarded")) }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mox-like.db", "mox-like.db-wal"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(crashed, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, _ := openLog(t, crashed)
	if _, err := again.Get(t.Context(), "discarded"); err != nil {
		t.Error(err)
	}
}

func TestNewRecord(t *testing.T) {
	t.Parallel()
	session := &mail.Session{
		ID: "s1", Protocol: mail.ProtocolSMTP, Listener: "submission", RemoteAddr: netip.MustParseAddrPort("192.0.2.7:1234"),
		Helo: "[192.0.2.7]", User: "bob@example.test", Started: moment,
	}
	tx := mail.NewTransaction("m1", session, moment)
	tx.Envelope = mail.Envelope{
		ReversePath: mail.Address{LocalPart: "bob", Domain: "example.test"}, Size: 1,
		Recipients: []*mail.Recipient{{Address: mail.Address{LocalPart: "alice", Domain: "example.org"}}},
	}
	m, err := mail.NewMessage([]byte("Message-ID: <2@example.test>\r\n\r\nhello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tx.Message = m
	tx.Entries = []mail.Entry{{Stage: mail.StageData, Handler: "deliver", Action: mail.ActionDefer}}
	outcome := mail.Outcome{Stage: mail.StageData, Handler: "deliver", Verdict: mail.Defer(mail.NewReply(452, 3, 1, "Full"), "disk is full")}
	want := &trace.Record{
		ID: "m1", Session: "s1", Kind: trace.KindMessage, Time: moment.Add(time.Second), Duration: time.Second,
		Protocol: "smtp", Listener: "submission", RemoteIP: "192.0.2.7", Helo: "[192.0.2.7]", User: "bob@example.test",
		ReversePath: "bob@example.test", Recipients: []string{"alice@example.org"}, MessageID: "<2@example.test>", Size: m.Size,
		Outcome: trace.Outcome{Action: "defer", Handler: "deliver", Reply: "452 4.3.1 Full", Reason: "disk is full"},
		Entries: tx.Entries,
	}
	if diff := cmp.Diff(want, trace.NewRecord(trace.KindMessage, tx, outcome, moment.Add(time.Second))); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	login := mail.NewTransaction("l1", &mail.Session{ID: "s1"}, moment)
	login.Credentials = &mail.Credentials{Username: "mallory", Password: "secret"}
	if got := trace.NewRecord(trace.KindLogin, login, mail.Outcome{}, moment); got.User != "mallory" {
		t.Errorf("user %q of a login that failed, want the one who tried", got.User)
	}
}

// TestOutcomeOfQuarantine: an accepted message that is kept out of the inbox has the
// outcome quarantine, by who wanted it; one whose quarantine was lifted has not.
func TestOutcomeOfQuarantine(t *testing.T) {
	t.Parallel()
	accepted := mail.Outcome{Stage: mail.StageData, Handler: "deliver", Verdict: mail.Accept("stored")}
	for name, test := range map[string]struct {
		outcome mail.Outcome
		lifted  bool
		want    trace.Outcome
	}{
		"kept out":           {accepted, false, trace.Outcome{Action: "quarantine", Handler: "lottery", Reason: "a draw"}},
		"nobody said accept": {mail.Outcome{Stage: mail.StageData}, false, trace.Outcome{Action: "quarantine", Handler: "lottery", Reason: "a draw"}},
		"lifted":             {accepted, true, trace.Outcome{Action: "accept", Handler: "deliver", Reason: "stored"}},
		"refused later":      {mail.Outcome{Stage: mail.StageData, Handler: "score", Verdict: mail.Reject(mail.NewReply(550, 7, 1, "No"), "15")}, false, trace.Outcome{Action: "reject", Handler: "score", Reply: "550 5.7.1 No", Reason: "15"}},
	} {
		tx := mail.NewTransaction("m1", &mail.Session{ID: "s1"}, moment)
		tx.Entries = []mail.Entry{
			{Stage: mail.StageRcpt, Handler: "headers", Action: mail.ActionQuarantine, Reason: "of a recipient that was refused"},
			{Stage: mail.StageData, Handler: "spf", Action: mail.ActionQuarantine, Reason: "a draw", Note: "monitor"},
			{Stage: mail.StageData, Handler: "lottery", Action: mail.ActionQuarantine, Reason: "a draw"},
			{Stage: mail.StageData, Handler: "clamav", Action: mail.ActionQuarantine, Reason: "Eicar"},
		}
		tx.SetQuarantine("a draw")
		if test.lifted {
			tx.SetJudgement(mail.Judgement{})
		}
		r := trace.NewRecord(trace.KindMessage, tx, test.outcome, moment)
		if diff := cmp.Diff(test.want, r.Outcome); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		action, handler := r.Decision()
		found := trace.Filter{Outcome: test.want.Action}.Matches(r)
		if action != test.want.Action || handler != test.want.Handler || !found {
			t.Errorf("%s: decided as %s by %s, found by it: %t", name, action, handler, found)
		}
	}
}

// TestJSON holds the form that programs read.
func TestJSON(t *testing.T) {
	t.Parallel()
	r := message("id")
	r.Recipients, r.Entries = r.Recipients[:1], r.Entries[1:2]
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	for _, want := range []*trace.Record{message("all"), {ID: "null", Kind: trace.KindLogin, Time: moment}} {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		back := new(trace.Record)
		if err := json.Unmarshal(data, back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, back); diff != "" {
			t.Errorf("record from JSON (-want +got):\n%s", diff)
		}
	}
}

func TestBadJSON(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		`{"entries":[{"stage":"nowhere","action":"accept"}]}`,
		`{"entries":[{"stage":"rcpt","action":"whatever"}]}`,
		`{"entries":[{"stage":"rcpt","action":"reject","reply":"no"}]}`,
		`{"entries":[{"stage":"rcpt","action":"reject","reply":"550 5.7 no"}]}`,
		`{"entries":[{"stage":"rcpt","action":"reject","reply":"550 5.7.x no"}]}`,
		`{"id":7}`,
	} {
		if err := json.Unmarshal([]byte(bad), new(trace.Record)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	l, s := newLog(t, trace.Options{})
	one, stopOne := l.Follow()
	two, stopTwo := l.Follow()
	r := message("id")
	l.Add(r)
	for _, ch := range []<-chan *trace.Record{one, two} {
		if got := <-ch; got != r {
			t.Errorf("got record %v, want the one that was added", got)
		}
	}
	stopOne()
	stopOne()
	if _, open := <-one; open {
		t.Error("channel is open after stop")
	}
	failed := errors.New("failed")
	err := s.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(l.AddTx(tx, message("not written")), failed) })
	if !errors.Is(err, failed) {
		t.Errorf("error %v, want that of the function", err)
	}
	through := message("through")
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.AddTx(tx, through) }); err != nil {
		t.Fatal(err)
	}
	if got := <-two; got != through {
		t.Errorf("got record %s, want the one that was written", got.ID)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-two; open {
		t.Error("channel is open after the log is closed")
	}
	stopTwo()
	three, stopThree := l.Follow()
	defer stopThree()
	if _, open := <-three; open {
		t.Error("channel of a closed log is open")
	}
}

// TestSlowFollower adds more than a follower has room for.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	slow, stop := l.Follow()
	const added = 1000
	for i := range added {
		l.Add(message(fmt.Sprint(i)))
	}
	stop()
	got := 0
	for range slow {
		got++
	}
	if got == 0 || got == added || got+int(l.Dropped()) != added {
		t.Errorf("%d received and %d dropped of %d", got, l.Dropped(), added)
	}
}

// TestManyFollowers comes and goes while records are added.
func TestManyFollowers(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				_, stop := l.Follow()
				l.Add(message("id"))
				stop()
			}
		})
	}
	wg.Wait()
}

// TestRetention lets the clock run. Old records go within two hours, all of them,
// and no others.
func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newLog(t, trace.Options{Keep: 24 * time.Hour})
		l.Start()
		start := time.Now()
		const old = 1200
		for i := range old {
			r := message(fmt.Sprint("old ", i))
			r.Time = start.Add(-23 * time.Hour)
			l.Add(r)
		}
		young := message("young")
		young.Time = start
		l.Add(young)
		time.Sleep(time.Hour - time.Millisecond) //nolint:forbidigo // the clock is synctest's
		synctest.Wait()
		if got := count(t, l); got != old+1 {
			t.Errorf("%d records before the time, want %d", got, old+1)
		}
		time.Sleep(2 * time.Hour) //nolint:forbidigo // the clock is synctest's
		synctest.Wait()
		if got := count(t, l); got != 1 {
			t.Errorf("%d records afterwards, want 1", got)
		}
		if _, err := l.Get(t.Context(), "young"); err != nil {
			t.Error(err)
		}
	})
}

// TestMaxSize floods the log. The oldest records go, and the newest stay; so do
// those of discarded messages, which are all that is left of them, unless there
// are too many of these.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	for title, flood := range map[string]struct {
		through         bool
		atLeast, atMost int64 // bytes of texts that stay
		oldest          string
	}{
		"messages":           {false, 600 << 10, 850 << 10, "discarded"},
		"discarded messages": {true, 800 << 10, 1100 << 10, ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, s := newLog(t, trace.Options{MaxSize: 1 << 20, Keep: 100 * 365 * 24 * time.Hour})
				l.Start()
				add := func(r *trace.Record, through bool) {
					if !through {
						l.Add(r)
					} else if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.AddTx(tx, r) }); err != nil {
						t.Fatal(err)
					}
				}
				add(message("ordinary"), false)
				add(message("discarded"), true)
				const size, records = 4096, 1000
				for i := range records {
					r := &trace.Record{ID: fmt.Sprint(i), Kind: trace.KindMessage, Time: moment}
					for range size / 256 {
						r.Recipients = append(r.Recipients, strings.Repeat("r", 256))
					}
					add(r, flood.through)
					if i%100 == 0 {
						time.Sleep(2 * time.Second) //nolint:forbidigo // the clock is synctest's
					}
				}
				time.Sleep(5 * time.Second) //nolint:forbidigo // the clock is synctest's
				synctest.Wait()
				if got := int64(count(t, l)) * size; got < flood.atLeast || got > flood.atMost {
					t.Errorf("%d KiB stay, want %d to %d", got>>10, flood.atLeast>>10, flood.atMost>>10)
				}
				list, err := l.Last(t.Context(), records)
				if err != nil {
					t.Fatal(err)
				}
				if newest := list[0].ID; newest != fmt.Sprint(records-1) {
					t.Errorf("newest record is %s", newest)
				}
				if oldest := list[len(list)-1].ID; flood.oldest != "" && oldest != flood.oldest {
					t.Errorf("oldest record is %s, want %s", oldest, flood.oldest)
				}
				for i := 1; i < len(list)-1; i++ {
					if younger, _ := strconv.Atoi(list[i-1].ID); list[i].ID != fmt.Sprint(younger-1) {
						t.Fatalf("record %s comes after %s", list[i].ID, list[i-1].ID)
					}
				}
			})
		})
	}
}

// TestLongRecord stores what a client may have made long.
func TestLongRecord(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	long := strings.Repeat("ä", 10_000)
	r := message("id")
	r.Helo, r.MessageID = long, "\x80"+strings.Repeat("\x80", 10_000)
	r.Recipients = slices.Repeat([]string{long}, 1000)
	r.Entries = nil
	for i := range 1000 {
		r.Entries = append(r.Entries, mail.Entry{Stage: mail.StageRcpt, Handler: fmt.Sprint(i), Reason: long, Note: long, Recipient: long})
	}
	l.Add(r)
	got, err := l.Get(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Helo) != len(long) || len(r.Entries[0].Note) != len(long) {
		t.Error("the caller's record was changed")
	}
	for _, text := range []string{got.Helo, got.Recipients[0], got.Entries[0].Note, got.Entries[0].Recipient} {
		if len(text) > 512 || !utf8.ValidString(text) || !strings.HasSuffix(text, "ä…") {
			t.Errorf("text of %d bytes, valid %t, ends with %q", len(text), utf8.ValidString(text), text[len(text)-5:])
		}
	}
	if len(got.MessageID) > 512 || len(got.MessageID) < 500 {
		t.Errorf("text that is not UTF-8 has %d bytes", len(got.MessageID))
	}
	var handlers []string
	for _, e := range got.Entries {
		handlers = append(handlers, e.Handler)
	}
	if len(handlers) != 65 || handlers[0] != "0" || handlers[31] != "31" || handlers[33] != "968" || handlers[64] != "999" {
		t.Errorf("handlers of the entries %q, want the first and the last", handlers)
	}
	if want := (mail.Entry{Stage: mail.StageRcpt, Reason: "… and 936 more"}); got.Entries[32] != want {
		t.Errorf("entry between them %v, want %v", got.Entries[32], want)
	}
	if n := len(got.Recipients); n != 129 || got.Recipients[128] != "… and 872 more" {
		t.Errorf("%d recipients, the last %q", n, got.Recipients[n-1])
	}
}

func count(t *testing.T, l *trace.Log) int {
	t.Helper()
	list, err := l.Last(context.Background(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
