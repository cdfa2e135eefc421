package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Clients have the last octet of their code; 192.0.2.1 is in no list.
const records = `
2.2.0.192.zen.example.net. A 127.0.0.2
2.2.0.192.zen.example.net. TXT "Listed, see https://zen.example.net/2"
3.2.0.192.zen.example.net. A 127.0.0.3
3.2.0.192.zen.example.net. A 127.0.0.10
4.2.0.192.zen.example.net. CNAME listed.zen.example.net.
listed.zen.example.net. A 127.0.0.2
5.2.0.192.zen.example.net. A 127.0.0.2
5.2.0.192.zen.example.net. TXT "first \195\188 \027[31m line" 
2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example.net. A 127.0.0.2

2.2.0.192.second.example.net. A 127.0.0.2

101.2.0.192.zen.example.net. A 127.0.0.1
102.2.0.192.zen.example.net. A 127.255.255.252
103.2.0.192.zen.example.net. A 127.255.255.254
104.2.0.192.zen.example.net. A 127.255.255.255
105.2.0.192.zen.example.net. A 203.0.113.80
106.2.0.192.zen.example.net. A 127.0.0.2
106.2.0.192.zen.example.net. A 203.0.113.80
107.2.0.192.zen.example.net. TXT "no address"

spammer.example.dbl.example.net. A 127.0.1.2
spammer.example.dbl.example.net. TXT "a domain"
xn--bcher-kva.example.dbl.example.net. A 127.0.1.2

2.2.0.192.allow.example.net. A 127.0.5.3
6.2.0.192.allow.example.net. A 127.0.5.1
7.2.0.192.allow.example.net. A 127.0.0.255
`

// load makes the handler with a DNS of its own.
func load(tb testing.TB, source string) (*DNSBL, *dnstest.Server) {
	tb.Helper()
	d := coretest.Load[*DNSBL](tb, coretest.New(tb, coretest.Options{}), "handler.dnsbl", source)
	d.zones.log = zap.NewNop()
	server := dnstest.Serve(tb, records)
	d.resolver = server.Resolver(tb)
	return d, server
}

// event is what a transaction of a test is made of.
type event struct{ client, helo, from, user string }

func (e event) transaction(tb testing.TB) *mail.Transaction {
	tb.Helper()
	tx := mail.NewTransaction("tx", &mail.Session{
		ID: "session", Helo: e.helo, User: e.user,
		RemoteAddr: netip.AddrPortFrom(netip.MustParseAddr(e.client), 4711),
	}, time.Now())
	tx.Stage = mail.StageRcpt
	if e.from != "" {
		address, err := mail.ParseAddress(e.from)
		if err != nil {
			tb.Fatal(err)
		}
		tx.Envelope.ReversePath = address
	}
	return tx
}

const zen = `dnsbl { zones = ["zen.example.net"] }`

func TestVerdicts(t *testing.T) {
	t.Parallel()
	list := func(zone, settings string) string {
		return fmt.Sprintf("dnsbl {\n list %q {\n %s\n }\n}", zone, settings)
	}
	const sum = "; sum 1, threshold 1"
	tests := []struct {
		name   string
		source string
		event  event
		reply  string // "" continues
		reason string
		score  float64
	}{
		{"not listed", zen, event{client: "192.0.2.1"}, "", "not in the one list that answered", 0},
		{
			"listed", zen,
			event{client: "192.0.2.2"},
			"550 5.7.1 Client host 192.0.2.2 is listed by zen.example.net: Listed, see https://zen.example.net/2",
			"192.0.2.2 is listed by zen.example.net (127.0.0.2), weight 1: Listed, see https://zen.example.net/2" + sum, 1,
		},
		{"mapped", zen, event{client: "::ffff:192.0.2.4"}, "550 5.7.1 Client host 192.0.2.4 is listed by zen.example.net", "192.0.2.4 is listed by zen.example.net (127.0.0.2), weight 1" + sum, 1},
		{"IPv6", zen, event{client: "2001:db8::2"}, "550 5.7.1 Client host 2001:db8::2 is listed by zen.example.net", "2001:db8::2 is listed by zen.example.net (127.0.0.2), weight 1" + sum, 1},
		{
			"text is made safe", zen,
			event{client: "192.0.2.5"},
			"550 5.7.1 Client host 192.0.2.5 is listed by zen.example.net: first ? ?[31m line",
			"192.0.2.5 is listed by zen.example.net (127.0.0.2), weight 1: first ü ?[31m line" + sum, 1,
		},
		{
			"two codes count once", zen,
			event{client: "192.0.2.3"},
			"550 5.7.1 Client host 192.0.2.3 is listed by zen.example.net",
			"192.0.2.3 is listed by zen.example.net (127.0.0.3 127.0.0.10), weight 1" + sum, 1,
		},
		{"no address", zen, event{client: "192.0.2.107"}, "", "not in the one list that answered", 0},
		{"code counts", list("zen.example.net", `codes = "127.0.0.2/31"`), event{client: "192.0.2.3"}, "550 5.7.1 Client host 192.0.2.3 is listed by zen.example.net", "192.0.2.3 is listed by zen.example.net (127.0.0.3), weight 1" + sum, 1},
		{"code does not count", list("zen.example.net", `codes = ["127.0.0.4/30", "127.0.*.9"]`), event{client: "192.0.2.3"}, "", "not in the one list that answered", 0},
		{
			"weight of the code", list("zen.example.net", "weight = 5\n weights = { \"127.0.0.0/24\" = 4, \"127.0.0.10\" = 0.5, \"127.0.0.*\" = 3, \"127.0.0.3\" = 0.75 }"),
			event{client: "192.0.2.3"},
			"", "192.0.2.3 is listed by zen.example.net (127.0.0.3 127.0.0.10), weight 0.75; sum 0.75, threshold 1", 0.75,
		},
		{"HELO", list("dbl.example.net", `kind = "helo"`), event{client: "192.0.2.2", helo: "Spammer.Example."}, "550 5.7.1 Domain spammer.example is listed by dbl.example.net: a domain", "spammer.example is listed by dbl.example.net (127.0.1.2), weight 1: a domain" + sum, 1},
		{"HELO in unicode", list("dbl.example.net", `kind = "helo"`), event{client: "192.0.2.2", helo: "bücher.example"}, "550 5.7.1 Domain b?cher.example is listed by dbl.example.net", "bücher.example is listed by dbl.example.net (127.0.1.2), weight 1" + sum, 1},
		{"HELO with an address", list("dbl.example.net", `kind = "helo"`), event{client: "192.0.2.2", helo: "[192.0.2.2]"}, "", "nothing to ask about", 0},
		{"HELO with a bare address", list("dbl.example.net", `kind = "helo"`), event{client: "192.0.2.2", helo: "192.0.2.2"}, "", "nothing to ask about", 0},
		{"HELO that is nonsense", list("dbl.example.net", `kind = "helo"`), event{client: "192.0.2.2", helo: "a b\x00c..d"}, "", "nothing to ask about", 0},
		{"HELO that is long", list("dbl.example.net", `kind = "helo"`), event{client: "192.0.2.2", helo: strings.Repeat("a.", 122) + "example"}, "", "not in the one list that answered", 0},
		{"reverse-path", list("dbl.example.net", `kind = "from"`), event{client: "192.0.2.2", from: "alice@spammer.example"}, "550 5.7.1 Domain spammer.example is listed by dbl.example.net: a domain", "spammer.example is listed by dbl.example.net (127.0.1.2), weight 1: a domain" + sum, 1},
		{"null reverse-path", list("dbl.example.net", `kind = "from"`), event{client: "192.0.2.2"}, "", "nothing to ask about", 0},
		{"reverse-path with an address", list("dbl.example.net", `kind = "from"`), event{client: "192.0.2.2", from: "alice@[192.0.2.2]"}, "", "nothing to ask about", 0},
		{
			"sum of two", "dnsbl {\n threshold = 2.5\n zones = [\"zen.example.net\"]\n list \"second.example.net\" {\n weight = 1.5\n }\n}",
			event{client: "192.0.2.2"},
			"550 5.7.1 Client host 192.0.2.2 is listed by second.example.net",
			"192.0.2.2 is listed by zen.example.net (127.0.0.2), weight 1: Listed, see https://zen.example.net/2; 192.0.2.2 is listed by second.example.net (127.0.0.2), weight 1.5; sum 2.5, threshold 2.5", 2.5,
		},
		{
			"allowed too", "dnsbl {\n zones = [\"zen.example.net\"]\n list \"allow.example.net\" {\n kind = \"allow\"\n weight = 3\n }\n}",
			event{client: "192.0.2.2"},
			"", "192.0.2.2 is listed by zen.example.net (127.0.0.2), weight 1: Listed, see https://zen.example.net/2; 192.0.2.2 is allowed by allow.example.net (127.0.5.3), weight -3; sum -2, threshold 1", -2,
		},
		{"allowed", list("allow.example.net", `kind = "allow"`), event{client: "192.0.2.6"}, "", "192.0.2.6 is allowed by allow.example.net (127.0.5.1), weight -1; sum -1, threshold 1", -1},
		{"not trusted enough", list("allow.example.net", "kind = \"allow\"\n codes = [\"127.0.*.2\", \"127.0.*.3\"]"), event{client: "192.0.2.6"}, "", "not in the one list that answered", 0},
		{"logged in", zen, event{client: "192.0.2.2", user: "alice@example.test"}, "", "not asked: the client has logged in", 0},
		{"loopback", zen, event{client: "127.0.0.2"}, "", "not asked: the client's address is not public", 0},
		{"private", zen, event{client: "10.0.0.2"}, "", "not asked: the client's address is not public", 0},
		{"shared", zen, event{client: "100.64.0.2"}, "", "not asked: the client's address is not public", 0},
		{"link-local", zen, event{client: "fe80::2%eth0"}, "", "not asked: the client's address is not public", 0},
		{"excepted", "dnsbl {\n zones = \"zen.example.net\"\n except = \"192.0.2.0/30\"\n}", event{client: "192.0.2.2"}, "", "not asked: the network 192.0.2.0/30 is excepted", 0},
		{"only scored", "dnsbl {\n zones = \"zen.example.net\"\n action = \"score\"\n}", event{client: "192.0.2.4"}, "", "192.0.2.4 is listed by zen.example.net (127.0.0.2), weight 1" + sum, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, _ := load(t, tt.source)
			tx := tt.event.transaction(t)
			v, err := d.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			reply := ""
			if v.Action == mail.ActionReject {
				reply = v.Reply.String()
			}
			if reply != tt.reply {
				t.Errorf("reply %q\nwant  %q", reply, tt.reply)
			}
			if v.Reason != tt.reason {
				t.Errorf("reason %q\nwant   %q", v.Reason, tt.reason)
			}
			if tx.Score() != tt.score {
				t.Errorf("score %g, want %g", tx.Score(), tt.score)
			}
			if len(tx.Tags()) > 0 && !strings.Contains(tt.reason, "allowed") {
				t.Errorf("tags %q", tx.Tags())
			}
		})
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	d, _ := load(t, "dnsbl {\n action = \"tag\"\n zones = [\"zen.example.net\", \"second.example.net\", \"dbl.example.net\"]\n}")
	tx := event{client: "192.0.2.2"}.transaction(t)
	v, err := d.Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionContinue {
		t.Fatalf("verdict %+v, error %v", v, err)
	}
	if diff := cmp.Diff([]string{"dnsbl=zen.example.net", "dnsbl=second.example.net"}, tx.Tags()); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// Later handlers learn of a hit in an allow list.
func TestAllowed(t *testing.T) {
	t.Parallel()
	d, server := load(t, "dnsbl {\n list \"allow.example.net\" {\n kind = \"allow\"\n }\n}")
	for _, client := range []string{"192.0.2.1", "192.0.2.6"} {
		tx := event{client: client}.transaction(t)
		if _, err := d.Handle(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		var want []mail.AuthResult
		var tags []string
		if client == "192.0.2.6" {
			tags = []string{"dnswl=allow.example.net"}
			want = []mail.AuthResult{{Method: "dnswl", Result: "pass", Properties: []mail.Property{
				{Type: "dns", Name: "zone", Value: "allow.example.net"}, {Type: "policy", Name: "ip", Value: "127.0.5.1"},
			}}}
		}
		if diff := cmp.Diff(want, tx.AuthResults()); diff != "" {
			t.Errorf("%s: results (-want +got):\n%s", client, diff)
		}
		if !slices.Equal(tx.Tags(), tags) {
			t.Errorf("%s: tags %q", client, tx.Tags())
		}
	}
	if n := server.Questions(dnstest.Every, dns.TypeTXT); n != 0 {
		t.Errorf("the allow list was asked for texts %d times", n)
	}
}

// Answers that are no listings are errors: nobody is refused for them, and alone
// they leave it to on_error.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	tests := []struct{ client, zone, text string }{
		{"192.0.2.101", "zen", "it answers 127.0.0.1, which no listing has"},
		{"192.0.2.102", "zen", "it answers the error code 127.255.255.252: the name of the zone is wrong"},
		{"192.0.2.103", "zen", "it answers the error code 127.255.255.254: it refuses public resolvers"},
		{"192.0.2.104", "zen", "it answers the error code 127.255.255.255: it was asked too often"},
		{"192.0.2.105", "zen", "it answers 203.0.113.80, which is no code of a list"},
		{"192.0.2.106", "zen", "it answers 203.0.113.80, which is no code of a list"},
		{"192.0.2.7", "allow", "it answers 127.0.0.255, by which allow lists refuse"},
	}
	for _, tt := range tests {
		t.Run(tt.client, func(t *testing.T) {
			t.Parallel()
			kind := map[string]string{"zen": "ip", "allow": "allow"}[tt.zone]
			source := fmt.Sprintf("dnsbl {\n list \"%s.example.net\" {\n kind = %q\n }\n}", tt.zone, kind)
			d, _ := load(t, source)
			logs := observe(d)
			tx := event{client: tt.client}.transaction(t)
			_, err := d.Handle(t.Context(), tx)
			if want := "ask list " + tt.zone + ".example.net: " + tt.text; err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %v\nwant  %s", err, want)
			}
			if tx.Score() != 0 || len(tx.AuthResults()) > 0 {
				t.Errorf("score %g, results %v", tx.Score(), tx.AuthResults())
			}
			if logs.Len() != 1 || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), tt.text) {
				t.Errorf("log %v", logs.All())
			}
			// Beside a list that answers it is passed over, and named.
			d, _ = load(t, strings.TrimSuffix(source, "}")+" zones = \"second.example.net\"\n}")
			v, err := d.Handle(t.Context(), event{client: tt.client}.transaction(t))
			want := "not in the one list that answered; passed over: " + tt.zone + ".example.net (" + tt.text
			if err != nil || v.Action != mail.ActionContinue || !strings.HasPrefix(v.Reason, want) {
				t.Errorf("verdict %+v, error %v", v, err)
			}
		})
	}
}

// observe gives what is logged of the zones.
func observe(d *DNSBL) *observer.ObservedLogs {
	seen, logs := observer.New(zap.WarnLevel)
	d.zones.log = zap.New(seen)
	return logs
}

// oneZone has another resolver for the names of one zone.
type oneZone struct {
	resolver
	zone  string
	short resolver
}

func (o *oneZone) LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error) {
	if strings.HasSuffix(name, o.zone) {
		return o.short.LookupIP(ctx, network, name)
	}
	return o.resolver.LookupIP(ctx, network, name)
}

// Every fault of a list's name servers lets mail pass: the others are heard, and
// the reason names the list.
func TestOutage(t *testing.T) {
	t.Parallel()
	faults := map[string]dnstest.Fault{
		"servfail": dnstest.ServFail, "refused": dnstest.Refused, "silence": dnstest.Silence, "cut": dnstest.Cut, "garbage": dnstest.Garbage,
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, server := load(t, "dnsbl {\n zones = [\"second.example.net\", \"zen.example.net\"]\n}")
			server.Fail("2.2.0.192.second.example.net", fault)
			d.resolver = server.ResolverWith(t, dns.Settings{Timeout: 20 * time.Second, Attempts: 1}, dns.Options{})
			if fault == dnstest.Silence || fault == dnstest.Garbage { // all of it passes, so that the other zone gets its own
				d.resolver = &oneZone{
					resolver: d.resolver, zone: "second.example.net",
					short: server.ResolverWith(t, dns.Settings{Timeout: 300 * time.Millisecond, Attempts: 1}, dns.Options{}),
				}
			}
			tx := event{client: "192.0.2.2"}.transaction(t)
			for range 3 { // recipients
				v, err := d.Handle(t.Context(), tx)
				if err != nil || v.Action != mail.ActionReject || !strings.Contains(v.Reason, "passed over: second.example.net (look up A of 2.2.0.192.second.example.net: ") {
					t.Errorf("verdict %+v, error %v", v, err)
				}
			}
			figures := map[string]float64{}
			for _, f := range d.Measure() {
				figures[f.Name] = f.Value
			}
			want := map[string]float64{"questions_total": 2, "listings_total": 1, "errors_total": 1, "zones_resting": 0}
			if diff := cmp.Diff(want, figures); diff != "" {
				t.Errorf("figures (-want +got):\n%s", diff)
			}
		})
	}
}

// A server without any DNS leaves it to on_error, at once.
func TestNoDNS(t *testing.T) {
	t.Parallel()
	d, _ := load(t, zen)
	r := dns.New(dns.Settings{}, dns.Options{ResolvConf: t.TempDir() + "/none"})
	t.Cleanup(func() { _ = r.Close() })
	d.resolver = r
	_, err := d.Handle(t.Context(), event{client: "192.0.2.2"}.transaction(t))
	if !dns.Temporary(err) || !strings.Contains(err.Error(), "no server is known") {
		t.Errorf("error %v", err)
	}
}

// What comes too late is passed over; what came in time counts.
func TestDeadline(t *testing.T) {
	t.Parallel()
	d, server := load(t, "dnsbl {\n zones = [\"second.example.net\", \"zen.example.net\"]\n}")
	defer server.Hold("4.2.0.192.second.example.net")()
	ctx, end := context.WithCancelCause(t.Context())
	d.resolver = &ending{server.ResolverWith(t, dns.Settings{Timeout: time.Minute}, dns.Options{}), end}
	v, err := d.Handle(ctx, event{client: "192.0.2.4"}.transaction(t))
	want := "192.0.2.4 is listed by zen.example.net (127.0.0.2), weight 1; sum 1, threshold 1; passed over: second.example.net (look up A of 4.2.0.192.second.example.net: no answer yet: context deadline exceeded)"
	if err != nil || v.Action != mail.ActionReject || v.Reason != want {
		t.Errorf("verdict %+v, error %v\nwant reason %q", v, err, want)
	}
}

// ending is a resolver with which the time is over once a listing is known.
type ending struct {
	resolver
	end context.CancelCauseFunc
}

func (e *ending) LookupTXT(ctx context.Context, name string) ([]string, error) {
	defer e.end(context.DeadlineExceeded)
	return e.resolver.LookupTXT(ctx, name)
}

// A list that keeps failing rests, is told of once, and comes back.
func TestResting(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	d, server := load(t, "dnsbl {\n zones = [\"second.example.net\", \"zen.example.net\"]\n}")
	d.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	logs := observe(d)
	server.Fail(dnstest.Every, dnstest.ServFail)
	for i := range 256 {
		server.Fail(fmt.Sprintf("%d.100.51.198.zen.example.net", i), dnstest.None)
	}
	ask := func(i int) string {
		t.Helper()
		v, err := d.Handle(t.Context(), event{client: fmt.Sprintf("198.51.100.%d", i)}.transaction(t))
		if err != nil {
			t.Fatal(err)
		}
		return v.Reason
	}
	for i := range restAfter {
		if reason := ask(i); !strings.Contains(reason, "SERVFAIL") {
			t.Fatalf("reason %q", reason)
		}
	}
	const resting = "not in the one list that answered; passed over: second.example.net (resting after repeated failures: look up A of 4.100.51.198.second.example.net: "
	if reason := ask(100); !strings.HasPrefix(reason, resting) || server.Questions("100.100.51.198.second.example.net", 0) != 0 {
		t.Errorf("reason %q", reason)
	}
	if got := d.Measure()[3].Value; got != 1 {
		t.Errorf("%g zones rest", got)
	}
	now = now.Add(restFor)
	if reason := ask(101); !strings.Contains(reason, "SERVFAIL") {
		t.Errorf("reason %q after the rest", reason)
	}
	if reason := ask(102); !strings.HasPrefix(reason, strings.Replace(resting, " 4.", " 101.", 1)) {
		t.Errorf("reason %q: one failure after the rest is enough", reason)
	}
	server.Fail(dnstest.Every, dnstest.None)
	now = now.Add(restFor)
	if reason := ask(103); reason != "in none of 2 lists" {
		t.Errorf("reason %q once it is well", reason)
	}
	if logs.Len() != 1 {
		t.Errorf("%d lines are logged: %v", logs.Len(), logs.All())
	}
}

// When the DNS is away, all lists rest. It is tried again after seconds, by one at a
// time, and what is wrong is told all the while.
func TestRestingAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	d, server := load(t, "dnsbl {\n zones = [\"zen.example.net\", \"second.example.net\"]\n list \"dbl.example.net\" {\n kind = \"helo\"\n }\n}")
	d.now = func() time.Time { return now }
	server.Fail(dnstest.Every, dnstest.ServFail)
	ask := func(i int) error {
		t.Helper()
		client := fmt.Sprintf("198.51.100.%d", i)
		_, err := d.Handle(t.Context(), event{client: client}.transaction(t)) // without a HELO
		if err != nil && !strings.Contains(err.Error(), "SERVFAIL") {
			t.Errorf("the cause is lost: %v", err)
		}
		return err
	}
	for i := range restAfter {
		if err := ask(i); err == nil || errors.Is(err, errResting) {
			t.Fatalf("question %d: %v", i, err)
		}
	}
	for range 2 {
		if err := ask(50); !errors.Is(err, errResting) || !strings.Contains(err.Error(), "second.example.net: resting") {
			t.Errorf("while they rest: %v", err)
		}
		now = now.Add(restAlone)
		if err := ask(60); err == nil || errors.Is(err, errResting) {
			t.Errorf("tried again: %v", err)
		}
	}
	server.Fail(dnstest.Every, dnstest.None)
	now = now.Add(restAlone)
	if err := ask(70); err != nil {
		t.Errorf("once it is well: %v", err)
	}
	if got := d.Measure()[3].Value; got != 0 {
		t.Errorf("%g zones rest", got)
	}
}

// While one try is under way nobody else waits for it.
func TestOneTriesAtATime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	z := newZones(zap.NewNop()).of("zen.example.net")
	away := errors.New("away")
	for range restAfter {
		z.failed(away, now)
	}
	for _, step := range []struct {
		after time.Duration
		alone bool
		asks  bool
	}{
		{0, true, false},
		{restAlone, false, false},
		{restAlone, true, true},
		{restAlone, true, false},
		{2*restAlone - 1, true, false},
		{2 * restAlone, true, true},
		{-time.Hour, true, true}, // the clock was set back
		{restFor, false, true},
	} {
		err := z.ask(now.Add(step.after), step.alone)
		if (err == nil) != step.asks || err != nil && !errors.Is(err, away) {
			t.Errorf("%+v: %v", step, err)
		}
	}
}

// A client that hangs up says nothing about the list.
func TestClientIsGone(t *testing.T) {
	t.Parallel()
	d, server := load(t, zen)
	defer server.Hold("2.2.0.192.zen.example.net")()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Handle(ctx, event{client: "192.0.2.2"}.transaction(t)); err == nil {
		t.Error("there is no error")
	}
	if got := d.Measure()[2].Value; got != 0 {
		t.Errorf("%g errors are counted", got)
	}
}

// All lists are asked at once: each answer waits for the question of the other.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	d, _ := load(t, "dnsbl {\n zones = [\"a.example.net\", \"b.example.net\", \"c.example.net\"]\n}")
	together := &meeting{want: 3, met: make(chan struct{})}
	d.resolver = together
	v, err := d.Handle(t.Context(), event{client: "192.0.2.1"}.transaction(t))
	if err != nil || v.Reason != "in none of 3 lists" {
		t.Errorf("verdict %+v, error %v", v, err)
	}
}

// meeting is a resolver that answers once as many questions are there as it
// wants.
type meeting struct {
	mu   sync.Mutex
	want int
	met  chan struct{}
}

func (m *meeting) LookupIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	m.mu.Lock()
	if m.want--; m.want == 0 {
		close(m.met)
	}
	m.mu.Unlock()
	select {
	case <-m.met:
		return nil, dns.ErrNotFound
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *meeting) LookupTXT(context.Context, string) ([]string, error) { return nil, dns.ErrNotFound }

func TestConnect(t *testing.T) {
	t.Parallel()
	d, _ := load(t, zen)
	tx := event{client: "192.0.2.4"}.transaction(t)
	tx.Stage = mail.StageConnect
	v, err := d.Handle(t.Context(), tx)
	if want := "554 5.7.1 Client host 192.0.2.4 is listed by zen.example.net"; err != nil || v.Reply.String() != want {
		t.Errorf("reply %q, error %v, want %q", v.Reply, err, want)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	s := coretest.New(t, coretest.Options{})
	tests := []struct{ name, source, text string }{
		{"nothing", `dnsbl {}`, "there is no list to ask"},
		{"no name", `dnsbl { zones = ["zen.example.net", "no zone"] }`, `"no zone" is not the name of a zone`},
		{"an address", `dnsbl { zones = "[192.0.2.1]" }`, "is not the name of a zone"},
		{"twice", "dnsbl {\n zones = \"zen.example.net\"\n list \"Zen.example.net.\" {}\n}", "the list Zen.example.net stands here twice for ip"},
		{"bad code", "dnsbl {\n list \"zen.example.net\" {\n codes = \"192.0.2.1\"\n }\n}", `"192.0.2.1" is no code of a list`},
		{"bad weight", "dnsbl {\n list \"zen.example.net\" {\n weights = { \"127.0.0.256\" = 1 }\n }\n}", `"127.0.0.256" is no code of a list`},
		{"negative weight", "dnsbl {\n list \"zen.example.net\" {\n weights = { \"127.0.0.2\" = -1 }\n }\n}", "the weight of 127.0.0.2 is -1"},
		{"bad kind", "dnsbl {\n list \"zen.example.net\" {\n kind = \"ptr\"\n }\n}", "kind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := s.Load(t.Context(), "handler.dnsbl", tt.source); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want one with %q", err, tt.text)
			}
		})
	}
}

func TestStages(t *testing.T) {
	t.Parallel()
	const source = "dnsbl {\n list \"dbl.example.net\" {\n kind = %q\n }\n}"
	tests := []struct {
		kind  string
		stage mail.Stages
		ok    bool
	}{
		{"ip", mail.AtConnect, true},
		{"allow", mail.AtConnect, true},
		{"helo", mail.AtConnect, false},
		{"helo", mail.AtHelo, true},
		{"from", mail.AtHelo, false},
		{"from", mail.AtMail, true},
		{"from", mail.AtRcpt, true},
	}
	for _, tt := range tests {
		d, _ := load(t, fmt.Sprintf(source, tt.kind))
		if problems := d.ValidateStages(tt.stage); (len(problems) == 0) != tt.ok {
			t.Errorf("%s at %v: problems %v", tt.kind, tt.stage.Names(), problems)
		}
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code, in, out string // out is not matched; in == "" refuses the code
	}{
		{"127.0.0.2", "127.0.0.2", "127.0.0.3"},
		{"127.0.0.4/30", "127.0.0.7", "127.0.0.8"},
		{"127.0.*.3", "127.0.200.3", "127.1.0.3"},
		{"127.*.*.*", "127.9.9.9", "128.0.0.1"},
		{"127.0.0.0/8", "127.255.0.1", "126.0.0.1"},
		{"127.0.0.0/7", "", ""},
		{"127.0.0.5/30", "", ""},
		{"128.0.0.1", "", ""},
		{"*.0.0.1", "", ""},
		{"127.0.0", "", ""},
		{"127.0.0.1.2", "", ""},
		{"127.0.0.+1", "", ""},
		{"::1/128", "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		var c Code
		err := c.UnmarshalText([]byte(tt.code))
		if tt.in == "" {
			if err == nil {
				t.Errorf("%q is taken", tt.code)
			}
			continue
		}
		if err != nil || !c.matches(netip.MustParseAddr(tt.in)) || c.matches(netip.MustParseAddr(tt.out)) {
			t.Errorf("%q: error %v, matches %s or not %s", tt.code, err, tt.out, tt.in)
		}
	}
}

// The handler is used by many sessions at once.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	d, _ := load(t, "dnsbl {\n zones = [\"zen.example.net\", \"second.example.net\"]\n}")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			v, err := d.Handle(t.Context(), event{client: fmt.Sprintf("192.0.2.%d", 1+i%2)}.transaction(t))
			if want := [...]mail.Action{mail.ActionContinue, mail.ActionReject}[i%2]; err != nil || v.Action != want {
				t.Errorf("verdict %+v, error %v", v, err)
			}
			_ = d.Measure()
		})
	}
	wg.Wait()
}

func BenchmarkWarm(b *testing.B) {
	d, _ := load(b, "dnsbl {\n zones = [\"zen.example.net\", \"second.example.net\", \"third.example.net\"]\n}")
	ctx := b.Context()
	e := event{client: "192.0.2.1"}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := d.Handle(ctx, e.transaction(b)); err != nil || v.Action != mail.ActionContinue {
			b.Fatal(v, err)
		}
	}
}
