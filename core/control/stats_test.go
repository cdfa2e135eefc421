package control_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// recordsOf gives what was found alone.
func recordsOf(found *trace.Found, err error) ([]*trace.Record, error) {
	if err != nil {
		return nil, err
	}
	return found.Records, nil
}

// testExplain searches by all that records are found by, reads settings, and counts.
func testExplain(t *testing.T, h *core.Sandbox, _ *process, ops control.Operations) { //nolint:thelper // a test of the suite: its own lines count
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	list := []mail.Setting{{Attribute: "delay", Value: `"10m"`, Source: "database settings", Place: "database: domain example.test", Since: now}, {Attribute: "mode", Value: `"monitor"`, Source: "default"}}
	settings := mail.NewSettings(func() []mail.Setting { return list })
	add := func(ago time.Duration, note string) *trace.Record {
		at := now.Add(-ago)
		r := record(mail.NewID(at), at)
		r.MessageID = "<" + r.ID + "@example.org>"
		r.Entries[0].Settings, r.Entries[0].Note = settings, note
		h.Traces().Add(r)
		return r
	}
	old, young := add(48*time.Hour, "monitor"), add(time.Hour, "")
	for name, test := range map[string]struct {
		filter trace.Filter
		want   []*trace.Record
	}{
		"message-id": {trace.Filter{MessageID: old.ID}, []*trace.Record{old}},
		"handler":    {trace.Filter{Handler: "clamav", Verdict: "reject"}, []*trace.Record{old, young}},
		"monitored":  {trace.Filter{Verdict: "monitored"}, []*trace.Record{old}},
		"since":      {trace.Filter{Since: now.Add(-90 * time.Minute)}, []*trace.Record{young}},
		"until":      {trace.Filter{Until: now.Add(-90 * time.Minute)}, []*trace.Record{old}},
	} {
		got, err := recordsOf(ops.FindTraces(t.Context(), test.filter, 10))
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: error %v (-want +got):\n%s", name, err, diff)
		}
	}
	for name, f := range map[string]trace.Filter{"verdict": {Verdict: "perhaps"}, "times": {Since: now, Until: now}} {
		if _, err := ops.FindTraces(t.Context(), f, 10); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
	session := mail.NewID(now)
	var many []*trace.Record
	for i := range 1200 {
		r := record(mail.NewID(now.Add(time.Duration(i+1)*time.Millisecond)), now.Add(-96*time.Hour))
		r.Session, r.Listener, r.Entries = session, "many", nil
		many = append(many, r)
		h.Traces().Add(r)
	}
	first, err := ops.Trace(t.Context(), session, "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := ops.Trace(t.Context(), session, first.Next)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(many, slices.Concat(first.Records, second.Records)); diff != "" || len(first.Records) != 1000 || second.Next != "" {
		t.Errorf("a session in pages of %d and %d, next %q (-want +got):\n%s", len(first.Records), len(second.Records), second.Next, diff)
	}
	hash := settings.Hash().String()
	found, err := recordsOf(ops.Trace(t.Context(), old.ID, ""))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]mail.Setting{hash: list}, found[0].Settings); diff != "" {
		t.Errorf("settings with the record (-want +got):\n%s", diff)
	}
	got, err := ops.TraceSettings(t.Context(), hash)
	if diff := cmp.Diff(list, got); diff != "" || err != nil {
		t.Errorf("settings by hash, error %v (-want +got):\n%s", err, diff)
	}
	for hash, want := range map[string]error{"": control.ErrInvalid, "../x": control.ErrInvalid, "00": control.ErrInvalid, "0102030405060708090a0b0c": control.ErrNotFound} {
		if _, err := ops.TraceSettings(t.Context(), hash); !errors.Is(err, want) {
			t.Errorf("settings %q: error %v, want %v", hash, err, want)
		}
	}
	stats, err := ops.HandlerStats(t.Context(), trace.StatsQuery{Handler: "clamav", Listener: "mx", Domain: "EXAMPLE.test", Since: now.Add(-72 * time.Hour), Until: now, Examples: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := &trace.Stats{Records: 2, Listeners: []string{"mx"}, Oldest: old.Time, Newest: young.Time, Handlers: []trace.HandlerStats{{
		Handler: "clamav", Listeners: []string{"mx"}, Asked: 2, Verdicts: map[string]int{"reject": 2}, Monitored: 1, P50: 20479, P95: 20479,
		Would: []trace.Would{{Action: "reject", Verdicts: 1, Records: 1, Senders: 1, Addresses: 1, Refused: 1}},
		Examples: []trace.Example{{
			ID: young.ID, Time: young.Time, From: "bob@example.org", To: "alice@example.test", RemoteIP: "192.0.2.7",
			Action: "reject", Reason: "Eicar \x1b[2J", Outcome: "reject",
		}},
	}}}
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
	if stats, err = ops.HandlerStats(t.Context(), trace.StatsQuery{Since: now.Add(time.Hour)}); err != nil || stats.Records != 0 || len(stats.Handlers) != 0 {
		t.Errorf("statistics of nothing: %+v, %v", stats, err)
	}
	for says, q := range map[string]trace.StatsQuery{
		`no trace of that time is of a listener "mxx": there are many, mx`:                  {Listener: "mxx"},
		"elsewhere.test does not live here, and no trace of that time is of it: there are ": {Domain: "Elsewhere.test"},
	} {
		if _, err := ops.HandlerStats(t.Context(), q); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	for name, q := range map[string]trace.StatsQuery{"domain": {Domain: "not a domain"}, "times": {Since: now, Until: now}, "examples": {Examples: 101}} {
		if _, err := ops.HandlerStats(t.Context(), q); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
}
