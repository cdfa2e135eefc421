package trace_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// conversations are the records of two sessions, in order: one of an IMAP client
// that logs in, and one by which four messages come.
func conversations() (records []*trace.Record, imap, smtp string) {
	id := func(n int) string { return mail.NewID(moment.Add(time.Duration(n) * time.Millisecond)) }
	imap, smtp = id(0), id(1)
	about := func(n int, r trace.Record) *trace.Record {
		r.ID, r.Session, r.Time = id(n), smtp, moment.Add(time.Duration(n)*time.Millisecond)
		if r.Kind == "" {
			r.Kind, r.RemoteIP = trace.KindMessage, "192.0.2.7"
		}
		return &r
	}
	refused := mail.Entry{Stage: mail.StageRcpt, Handler: "deliver", Recipient: "nobody@example.test", Action: mail.ActionReject}
	records = []*trace.Record{
		about(2, trace.Record{Kind: trace.KindLogin, User: "Alice@example.test", RemoteIP: "2001:db8::7", Outcome: trace.Outcome{Action: "continue"}}),
		about(3, trace.Record{ReversePath: "bob@example.org", Recipients: []string{"alice@example.test"}, Outcome: trace.Outcome{Action: "accept", Handler: "deliver"}}),
		about(4, trace.Record{Outcome: trace.Outcome{Action: "reject", Handler: "deliver"}, Entries: []mail.Entry{refused}}),
		about(5, trace.Record{ReversePath: "eve@example.net", Recipients: []string{"alice@example.test"}, Outcome: trace.Outcome{Action: "quarantine", Handler: "clamav"}, Entries: []mail.Entry{
			refused, refused,
			{Stage: mail.StageData, Handler: "spamassassin", Action: mail.ActionQuarantine, Note: "monitor"},
			{Stage: mail.StageData, Handler: "clamav", Action: mail.ActionQuarantine},
		}}),
		about(6, trace.Record{ReversePath: "eve@example.net", Recipients: []string{"alice@example.test"}, Outcome: trace.Outcome{Action: "discard", Handler: "clamav"}}),
	}
	records[0].Session = imap
	// The session itself ends last.
	whole := about(7, trace.Record{Kind: trace.KindSession, Outcome: trace.Outcome{Action: "continue"}})
	whole.ID = smtp
	return append(records, whole), imap, smtp
}

// found gives the records alone.
func found(f *trace.Found, err error) ([]*trace.Record, error) {
	if err != nil {
		return nil, err
	}
	return f.Records, nil
}

func TestFind(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	records, _, _ := conversations()
	names := make(map[string]string)
	for i, r := range records {
		l.Add(r)
		names[r.ID] = string("lmrqds"[i]) // login, message, refused, quarantined, discarded, session
	}
	tests := map[string]struct {
		filter trace.Filter
		n      int
		want   string // the newest first
	}{
		"all":               {trace.Filter{}, 10, "s d q r m l"},
		"no more than":      {trace.Filter{}, 2, "s d"},
		"reverse-path":      {trace.Filter{From: "BOB@example.org"}, 10, "m"},
		"part of it":        {trace.Filter{From: "@example.net"}, 10, "d q"},
		"newest of several": {trace.Filter{From: "eve"}, 1, "d"},
		"null reverse-path": {trace.Filter{From: "<>"}, 10, "r"},
		"recipient":         {trace.Filter{To: "alice@"}, 10, "d q m"},
		"refused recipient": {trace.Filter{To: "nobody@example.test"}, 10, "q r"},
		"user":              {trace.Filter{User: "alice@example.test"}, 10, "l"},
		"address":           {trace.Filter{IP: netip.MustParsePrefix("2001:db8::7/128")}, 10, "l"},
		"network":           {trace.Filter{IP: netip.MustParsePrefix("192.0.2.0/24")}, 10, "d q r m"},
		"accepted":          {trace.Filter{Outcome: "accept"}, 10, "s m l"},
		"quarantined":       {trace.Filter{Outcome: "quarantine"}, 10, "q"},
		"two at once":       {trace.Filter{From: "eve", Outcome: "discard"}, 10, "d"},
		"nothing":           {trace.Filter{From: "mallory"}, 10, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := found(l.Find(t.Context(), test.filter, test.n))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range list {
				got = append(got, names[r.ID])
			}
			if all := strings.Join(got, " "); all != test.want {
				t.Errorf("found %q, want %q", all, test.want)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	records, imap, smtp := conversations()
	for _, r := range records {
		l.Add(r)
	}
	login, whole, messages := records[0], records[5], records[1:5]
	tests := map[string]struct {
		id   string
		want []*trace.Record
	}{
		"message":                      {messages[1].ID, messages[1:2]},
		"in capitals":                  {strings.ToUpper(messages[1].ID), messages[1:2]},
		"session with its own record":  {smtp, append([]*trace.Record{whole}, messages...)},
		"session without, in capitals": {strings.ToUpper(imap), []*trace.Record{login}},
	}
	for name, test := range tests {
		got, err := found(l.Lookup(t.Context(), test.id, ""))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: records (-want +got):\n%s", name, diff)
		}
	}
	for _, id := range []string{"", "zz", "0", mail.NewID(moment)} {
		if _, err := l.Lookup(t.Context(), id, ""); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("id %q: error %v, want ErrNotFound", id, err)
		}
	}
}

// TestTimesBeyondIDs: a time that no ID can have bounds nothing, and finds nothing.
func TestTimesBeyondIDs(t *testing.T) {
	t.Parallel()
	r := &trace.Record{ID: mail.NewID(moment)}
	for _, year := range []int{3085, 4200, 9999} {
		late := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		if !(trace.Filter{Until: late}).Matches(r) || (trace.Filter{Since: late}).Matches(r) {
			t.Errorf("the year %d is before %s", year, moment)
		}
	}
}

func TestDecision(t *testing.T) {
	t.Parallel()
	records, _, _ := conversations()
	want := []string{"accept ", "accept deliver", "reject deliver", "quarantine clamav", "discard clamav", "accept "}
	for i, r := range records {
		if action, handler := r.Decision(); action+" "+handler != want[i] {
			t.Errorf("record %d: %s by %q, want %q", i, action, handler, want[i])
		}
	}
	if diff := cmp.Diff([]string{"nobody@example.test"}, records[3].RefusedRecipients()); diff != "" {
		t.Errorf("refused recipients (-want +got):\n%s", diff)
	}
}

// TestRefusedRecipientsOfMany: accepted recipients that a clipped record does not
// name are not taken for refused ones.
func TestRefusedRecipientsOfMany(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{})
	r := &trace.Record{ID: mail.NewID(moment), Session: "s", Kind: trace.KindMessage, Time: moment}
	for i := range 200 {
		e := mail.Entry{Stage: mail.StageRcpt, Recipient: fmt.Sprint(i, "@example.test"), Action: mail.ActionAccept}
		r.Recipients, r.Entries = append(r.Recipients, e.Recipient), append(r.Entries, e)
	}
	r.Entries = append(r.Entries, mail.Entry{Stage: mail.StageRcpt, Recipient: "nobody@example.test", Action: mail.ActionReject})
	l.Add(r)
	kept, err := l.Get(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"nobody@example.test"}, kept.RefusedRecipients()); diff != "" {
		t.Errorf("refused recipients (-want +got):\n%s", diff)
	}
}

// TestFindIsBounded: however many are asked for, and however much strangers have
// written into them, a search gives no more than it may.
func TestFindIsBounded(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t, trace.Options{MaxSize: 256 << 20})
	entries := make([]mail.Entry, 60)
	for i := range entries {
		entries[i] = mail.Entry{
			Handler: strings.Repeat("h", 500), Reason: strings.Repeat("r", 500), Position: strings.Repeat("p", 500),
			Recipient: strings.Repeat("a", 500), Reply: mail.NewReply(550, 7, 1, strings.Repeat("t", 500)),
		}
	}
	const many, most = 200, 8 << 20
	for range many {
		l.Add(&trace.Record{ID: mail.NewID(time.Now()), Kind: trace.KindMessage, Time: time.Now(), Entries: entries})
	}
	got, err := l.Find(t.Context(), trace.Filter{}, many)
	if err != nil {
		t.Fatal(err)
	}
	if each := 60 * 5 * 500; len(got.Records) == 0 || len(got.Records) > most/each+2 || !got.Cut {
		t.Errorf("%d records of %d bytes each, cut %t, want at most %d bytes", len(got.Records), each, got.Cut, most)
	}
}
