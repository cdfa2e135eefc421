package greylist

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// TestLifeOfATriplet lets one triplet come again and again.
func TestLifeOfATriplet(t *testing.T) {
	t.Parallel()
	type visit struct {
		after time.Duration // the visit before
		reply string        // "" if it passes
		why   string
	}
	const (
		wait = "451 4.7.1 Greylisted, try again in %d seconds"
		day  = 24 * time.Hour
	)
	reply := func(seconds int) string {
		if seconds == 1 {
			return "451 4.7.1 Greylisted, try again in 1 second"
		}
		return fmt.Sprintf(wait, seconds)
	}
	tests := []struct {
		name, settings string
		visits         []visit
	}{
		{"retry in time", "", []visit{
			{0, reply(300), "bob@example.org from 192.0.2.0/24 to alice@example.test: first seen now, passes from 2026-11-01 12:05:00 UTC on"},
			{time.Minute, reply(240), "first seen 2026-11-01 12:00:00 UTC, retry 1 is 4m too early, passes from 2026-11-01 12:05:00 UTC on"},
			{4*time.Minute - 1, reply(1), "retry 2 is 1ns too early"},
			{1, "", "passes: retry 3 came 5m after the first attempt of 2026-11-01 12:00:00 UTC, the delay is 5m"},
			{time.Second, "", "passes: first seen 2026-11-01 12:00:00 UTC, it has passed before, now 2 times"},
			{29 * day, "", "now 3 times"},
			{29 * day, "", "now 4 times"},
		}},
		{"early retries do not make the delay longer", "", []visit{
			{0, reply(300), ""},
			{100 * time.Second, reply(200), ""},
			{100 * time.Second, reply(100), ""},
			{100 * time.Second, "", ""},
		}},
		{"retry after the window", "", []visit{
			{0, reply(300), ""},
			{2 * day, reply(300), "first seen"},
			{5 * time.Minute, "", "retry 1 came 5m"},
		}},
		{"last moment of the window", "", []visit{
			{0, reply(300), ""},
			{2*day - 1, "", ""},
		}},
		{"expired", "", []visit{
			{0, reply(300), ""},
			{time.Hour, "", ""},
			{30 * day, reply(300), "first seen"},
		}},
		{"clock set back while it waits", "", []visit{
			{0, reply(300), ""},
			{-day, reply(300), "first seen"},
			{4 * time.Minute, reply(60), ""},
			{time.Minute, "", ""},
		}},
		{"clock set back after it passed", "", []visit{
			{0, reply(300), ""},
			{time.Hour, "", ""},
			{-day, "", "now 2 times"},
		}},
		{"other times", "delay = \"90s\"\nretry_window = \"10m\"\nexpire = \"1h\"", []visit{
			{0, reply(90), ""},
			{11 * time.Minute, reply(90), "first seen"},
			{89*time.Second + time.Millisecond, reply(1), ""},
			{time.Second, "", ""},
			{time.Hour, reply(90), ""},
		}},
		{"no delay", `delay = "0"`, []visit{{0, "", "retry 0 came 0s after"}, {0, "", "now 2 times"}}},
	}
	for _, tt := range tests {
		for _, forget := range []bool{false, true} { // what the memory beside the database knows
			t.Run(fmt.Sprintf("%s/%t", tt.name, forget), func(t *testing.T) {
				t.Parallel()
				k := newKit(t, "pass_after = 0\n"+tt.settings, coretest.Options{})
				for i, visit := range tt.visits {
					k.Add(visit.after)
					v := handle(t, k.greylist, stranger)
					got := ""
					if v.Action == mail.ActionDefer {
						got = v.Reply.String()
					}
					if got != visit.reply || !strings.Contains(v.Reason, visit.why) {
						t.Errorf("visit %d: %s %q (%s), want %q (%s)", i, v.Action, got, v.Reason, visit.reply, visit.why)
					}
					if forget {
						k.flush(t)
						k.service.mu.Lock()
						k.service.triplets = newRecent[*entry](10)
						k.service.mu.Unlock()
					}
				}
			})
		}
	}
}

// TestKeys lets a first event wait, and asks whether another one is its retry.
func TestKeys(t *testing.T) {
	t.Parallel()
	with := func(change func(*event)) event {
		e := stranger
		change(&e)
		return e
	}
	ip := func(ip string) event { return with(func(e *event) { e.ip = ip }) }
	from := func(from string) event { return with(func(e *event) { e.from = from }) }
	to := func(to string) event { return with(func(e *event) { e.to = to }) }
	authenticated := func(ip, name, value string) event {
		return with(func(e *event) { e.ip, e.results = ip, []mail.AuthResult{spf("pass", name, value)} })
	}
	tests := []struct {
		name, settings string
		first, second  event
		same           bool
	}{
		{"same", "", stranger, stranger, true},
		{"IPv4 network", "", stranger, ip("192.0.2.255"), true},
		{"other IPv4 network", "", stranger, ip("192.0.3.1"), false},
		{"mapped IPv4", "", stranger, ip("::ffff:192.0.2.1"), true},
		{"IPv4 address", "ipv4_prefix = 32", stranger, ip("192.0.2.2"), false},
		{"IPv6 network", "", ip("2001:db8::1"), ip("2001:db8::ffff:1"), true},
		{"other IPv6 network", "", ip("2001:db8::1"), ip("2001:db8:0:1::1"), false},
		{"larger IPv6 network", "ipv6_prefix = 48", ip("2001:db8::1"), ip("2001:db8:0:1::1"), true},
		{"IPv6 zone", "", ip("fe80::1%eth0"), ip("fe80::1%eth1"), true},
		{"case of the sender", "", stranger, from("BOB@example.org"), true},
		{"other sender", "", stranger, from("eve@example.org"), false},
		{"VERP", "", from("b+alice=example.test@example.org"), from("b+carol=example.test@example.org"), true},
		{"BATV", "", from("prvs=0123abcdef=bob@example.org"), stranger, true},
		{"forwarded", "", from("SRS0=A=B=example.org=bob@example.net"), from("SRS0=C=D=example.org=bob@example.com"), true},
		{"null reverse-path", "", from(""), from(""), true},
		{"null and not", "", from(""), stranger, false},
		{"subaddress", "", to("alice+x@example.test"), to("Alice@example.test"), true},
		{"other recipient", "", stranger, to("carol@example.test"), false},
		{"other recipient of the domain", `recipient = "domain"`, stranger, to("carol@example.test"), true},
		{"other domain", `recipient = "domain"`, stranger, to("alice@example.com"), false},
		{"postmaster", `recipient = "domain"`, to("postmaster"), to("Postmaster"), true},
		{
			"authenticated domain", `spf_pass = "domain"`,
			authenticated("192.0.2.1", "mailfrom", "bob@example.org"), authenticated("198.51.100.7", "mailfrom", "Example.org"), true,
		},
		{
			"not authenticated", `spf_pass = "domain"`,
			authenticated("192.0.2.1", "mailfrom", "bob@example.org"), stranger, false,
		},
		{
			"HELO does not authenticate a sender", `spf_pass = "domain"`,
			authenticated("192.0.2.1", "helo", "mail.example.org"), stranger, true,
		},
		{
			"SPF ignored", `spf_pass = "ignore"`,
			authenticated("192.0.2.1", "mailfrom", "bob@example.org"), authenticated("198.51.100.7", "mailfrom", "bob@example.org"), false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, tt.settings, coretest.Options{})
			k.waits(t, tt.first, "first seen")
			k.Add(time.Hour)
			if tt.same {
				k.passes(t, tt.second, "retry 1")
			} else {
				k.waits(t, tt.second, "first seen")
			}
		})
	}
}

// TestNotGreylisted lists who need not be known.
func TestNotGreylisted(t *testing.T) {
	t.Parallel()
	with := func(change func(*event)) event {
		e := stranger
		change(&e)
		return e
	}
	results := func(r ...mail.AuthResult) event { return with(func(e *event) { e.results = r }) }
	pass := spf("pass", "mailfrom", "bob@example.org")
	listed := mail.AuthResult{Method: "dnswl", Result: "pass"}
	tests := []struct {
		name, settings string
		event          event
		passes         string // the reason, "" if it waits
	}{
		{"logged in", "", with(func(e *event) { e.user = "alice@example.test" }), "has logged in"},
		{"no address", "", with(func(e *event) { e.ip = "" }), "no IP address"},
		{"SPF pass", "", results(pass), "SPF pass for example.org"},
		{"SPF pass of HELO for a bounce", "", with(func(e *event) {
			e.from, e.results = "", []mail.AuthResult{spf("pass", "helo", "mx.example.org")}
		}), "SPF pass for mx.example.org"},
		{"SPF pass of HELO alone", "", results(spf("pass", "helo", "mx.example.org"), spf("fail", "mailfrom", "bob@example.org")), ""},
		{"SPF pass, counts as client", `spf_pass = "domain"`, results(pass), ""},
		{"SPF pass, ignored", `spf_pass = "ignore"`, results(pass), ""},
		{"SPF none", "", results(spf("none", "mailfrom", "bob@example.org")), ""},
		{"listed", "", results(listed), "list of good senders"},
		{"listed, ignored", "skip_dnswl = false", results(listed), ""},
		{"list asked in vain", "", results(mail.AuthResult{Method: "dnswl", Result: "none"}), ""},
		{"excepted", `except = ["2001:db8::/32", "192.0.2.0/28"]`, stranger, "network is excepted"},
		{"excepted, mapped", `except = "192.0.2.0/28"`, with(func(e *event) { e.ip = "::ffff:192.0.2.1" }), "network is excepted"},
		{"beside what is excepted", `except = "192.0.2.0/28"`, with(func(e *event) { e.ip = "192.0.2.16" }), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, tt.settings, coretest.Options{})
			if tt.passes == "" {
				k.waits(t, tt.event, "first seen")
				return
			}
			k.passes(t, tt.event, tt.passes)
			if n := k.count(t, `SELECT count(*) FROM greylist`); n != 0 {
				t.Errorf("%d triplets are remembered of one that need not be known", n)
			}
		})
	}
}

func TestDataStage(t *testing.T) {
	t.Parallel()
	const judged, learns = "each recipient was judged before; the message itself is not", "once the message is accepted, its recipients may write back without delay"
	for _, tt := range []struct{ name, settings, user, reason string }{
		{"stranger", "", "", judged},
		{"user", "", "alice@example.test", learns},
		{"user of whom nothing is learned", "skip_correspondents = false", "alice@example.test", judged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, tt.settings, coretest.Options{})
			tx := stranger.transaction(t)
			tx.Stage, tx.Recipient, tx.Session.User = mail.StageData, nil, tt.user
			v, err := k.greylist.Handle(t.Context(), tx)
			if err != nil || v.Action != mail.ActionContinue || v.Reason != tt.reason {
				t.Errorf("verdict %+v, %v, want %q", v, err, tt.reason)
			}
		})
	}
}

func TestClientPassesFreely(t *testing.T) {
	t.Parallel()
	k := newKit(t, "pass_after = 3", coretest.Options{})
	visitor := func(i int) event {
		return event{ip: "192.0.2.1", from: fmt.Sprintf("%c@example.org", 'a'+i), to: "alice@example.test"}
	}
	for i := range 3 {
		k.waits(t, visitor(i), "first seen")
	}
	k.Add(10 * time.Minute)
	for i := range 3 {
		k.waits(t, visitor(10+i), "first seen")
		k.passes(t, visitor(i), "retry 1")
		k.passes(t, visitor(i), "now 2 times") // counts once
		k.flush(t)
	}
	k.passes(t, visitor(20), "3 triplets of 192.0.2.0/24 have passed, pass_after is 3")
	other := visitor(20)
	other.ip = "192.0.3.1"
	k.waits(t, other, "first seen")

	// Use keeps it, disuse ends it.
	k.Add(20 * 24 * time.Hour)
	k.passes(t, visitor(21), "have passed, pass_after is")
	k.flush(t)
	k.Add(20 * 24 * time.Hour)
	k.passes(t, visitor(22), "have passed, pass_after is")
	k.flush(t)
	k.Add(30 * 24 * time.Hour)
	k.waits(t, visitor(23), "first seen")
	k.Add(time.Hour)
	k.passes(t, visitor(23), "retry 1")
	k.flush(t)
	k.waits(t, visitor(24), "first seen") // what was before counts no more

	// A domain that asks for more, and one that lets nobody pass freely.
	k.greylist = k.load(t, "pass_after = 1")
	k.passes(t, visitor(25), "1 triplet of 192.0.2.0/24 has passed, pass_after is 1")
	k.greylist = k.load(t, "pass_after = 0")
	k.waits(t, visitor(26), "first seen")
}

// TestDomainsShareTheList finds that instances of the handler, as domains and
// listeners have them, know of the same triplets, and judge them by their own
// settings.
func TestDomainsShareTheList(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	slow, quick := k.load(t, `delay = "10m"`), k.load(t, `delay = "1m"`)
	k.waits(t, stranger, "12:05:00")
	k.Add(2 * time.Minute)
	if v := handle(t, slow, stranger); !strings.Contains(v.Reason, "12:10:00") {
		t.Errorf("with another delay: %s", v.Reason)
	}
	if v := handle(t, quick, stranger); v.Action != mail.ActionContinue {
		t.Errorf("with a delay that is over: %s", v.Reason)
	}
	k.passes(t, stranger, "has passed before")
}

// TestAtOnce lets one triplet come from many connections at the same time.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	k := newKit(t, "pass_after = 100", coretest.Options{})
	const connections = 50
	var opened, deferred atomic.Int64
	visit := func() {
		var wg sync.WaitGroup
		for range connections {
			wg.Go(func() {
				v, err := k.greylist.Handle(t.Context(), stranger.transaction(t))
				switch {
				case err != nil:
					t.Error(err)
				case v.Action == mail.ActionDefer:
					deferred.Add(1)
				case strings.Contains(v.Reason, "after the first attempt"):
					opened.Add(1)
				}
			})
		}
		wg.Wait()
	}
	visit()
	if n := k.count(t, `SELECT count(*) FROM greylist`); n != 1 || deferred.Load() != connections {
		t.Errorf("%d rows and %d deferred, want 1 and %d", n, deferred.Load(), connections)
	}
	k.Add(time.Hour)
	visit()
	if opened.Load() != 1 {
		t.Errorf("the triplet passed for the first time %d times", opened.Load())
	}
	if n := k.count(t, `SELECT passed FROM greylist_clients`); n != 1 {
		t.Errorf("the client counts %d triplets, want 1", n)
	}
	list, _, err := k.service.Triplets(t.Context(), control.TripletFilter{}, control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	want := []control.Triplet{{
		ID: 1, Client: "192.0.2.0/24", Sender: "bob@example.org", Recipient: "alice@example.test", State: "passed",
		First: start, Last: start.Add(time.Hour), Retry: start.Add(5 * time.Minute), Expires: start.Add(time.Hour + 30*24*time.Hour),
		Attempts: connections, Passed: connections,
	}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("triplets (-want +got):\n%s", diff)
	}
}

func TestHonoursContext(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.greylist.Handle(ctx, stranger.transaction(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a stage whose time is over", err)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	s := coretest.New(t, coretest.Options{})
	for settings, want := range map[string]string{
		"delay = \"1h\"\nretry_window = \"1h\"": "the delay of 1h is not shorter than retry_window, 1h",
		`delay = "2d"`:                          "delay",
		`retry_window = "0"`:                    "retry_window",
		`expire = "1s"`:                         "expire",
		`pass_after = -1`:                       "pass_after",
		`recipient = "user"`:                    "recipient",
		`spf_pass = "maybe"`:                    "spf_pass",
		`ipv4_prefix = 33`:                      "ipv4_prefix",
		`ipv6_prefix = 1`:                       "ipv6_prefix",
		`correspondents = "0"`:                  "correspondents",
		`except = "example.org"`:                "except",
	} {
		_, err := s.Load(t.Context(), "handler.greylist", "greylist {\n"+settings+"\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}
