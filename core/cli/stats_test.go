package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/trace"
)

func TestStatsPrinter(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 18, 14, 5, 9, 0, time.UTC)
	stats := &trace.Stats{
		Records: 12345, Cut: true, Oldest: at, Newest: at.Add(7 * 24 * time.Hour),
		Handlers: []trace.HandlerStats{
			{
				Handler: "greylist", Listeners: []string{"lmtp", "mx"}, Asked: 12000, Skipped: 1, Resting: 2, Errors: 3,
				Verdicts: map[string]int{"continue": 10000, "defer": 1990, "quarantine": 7}, Monitored: 11997, P50: 35, P95: 1234,
				Would: []trace.Would{
					{Action: "quarantine", Verdicts: 1, Records: 1, Senders: 1, Addresses: 1, Accepted: 1},
					{Action: "defer", Verdicts: 1990, Records: 1900, Senders: trace.MaxDistinct, Addresses: 42, Accepted: 1800, Refused: 90, Other: 10},
				},
				Examples: []trace.Example{
					{ID: "01jq3k5m7n8p9r0s1t", Time: at, From: "a@example.org", To: "alice@example.test", RemoteIP: "192.0.2.7", Action: "defer", Monitored: true, Reason: "first seen now", Outcome: "accept"},
					{ID: "01jq3k5m7n8p9r0s2t", Time: at, From: "\x1b[2J\x07", To: "al\u202eice@example.test", Action: "reject", Reason: "a\nb\x9b", Outcome: "reject\r"},
				},
			},
			{Handler: "rdns", Listeners: []string{"mx"}, Asked: 1, Verdicts: map[string]int{"continue": 1}, Monitored: 1, P50: 20000, P95: 3_000_000},
			{Handler: "x\x1b]0;y\x07", Listeners: []string{"m\tx"}, Verdicts: map[string]int{}},
		},
	}
	for name, colored := range map[string]bool{"stats.golden": false, "stats_color.golden": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &statsPrinter{color: colored, zone: time.UTC}
			p.all(stats)
			for i := range stats.Handlers {
				p.b.WriteString(strings.Repeat("-", 20) + "\n")
				p.one(stats, &stats.Handlers[i])
			}
			p.b.WriteString(strings.Repeat("-", 20) + "\n")
			p.all(&trace.Stats{})
			if got := p.b.Bytes(); !colored && bytes.ContainsAny(got, "\x1b\x07\x9b\r") {
				t.Errorf("a terminal would obey: %q", got)
			}
			golden(t, name, p.b.Bytes())
		})
	}
}

func TestInstant(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-11-25":                time.Date(2026, 11, 25, 0, 0, 0, 0, time.Local),
		"2026-11-25 14:05":          time.Date(2026, 11, 25, 14, 5, 0, 0, time.Local),
		"2026-11-25 14:05:09":       time.Date(2026, 11, 25, 14, 5, 9, 0, time.Local),
		"2026-11-25T14:05:09Z":      time.Date(2026, 11, 25, 14, 5, 9, 0, time.UTC),
		"2026-11-25T14:05:09+02:00": time.Date(2026, 11, 25, 12, 5, 9, 0, time.UTC),
		"":                          {},
	} {
		var i instant
		if err := i.Set(text); err != nil || !i.at.Equal(want) || i.String() != text {
			t.Errorf("%q is %v, %v; want %v", text, i.at, err, want)
		}
	}
	for text, ago := range map[string]time.Duration{"2h": 2 * time.Hour, "7d": 7 * 24 * time.Hour, "1h30m": 90 * time.Minute} {
		var i instant
		before := time.Now().Add(-ago)
		if err := i.Set(text); err != nil || i.at.Before(before) || i.at.After(time.Now().Add(-ago)) {
			t.Errorf("%q is %v, %v", text, i.at, err)
		}
	}
	for _, text := range []string{"-2h", "yesterday", "25.11.2026", "2026-13-01", "7"} {
		if err := new(instant).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
