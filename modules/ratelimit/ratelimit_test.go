package ratelimit

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is what a transaction of a test is made of.
type event struct {
	ip, user, login, from, rcpt string
	stage                       mail.Stage
}

func (e event) transaction(t testing.TB) *mail.Transaction {
	t.Helper()
	address := func(s string) mail.Address {
		if s == "" {
			return mail.Address{}
		}
		a, err := mail.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	session := &mail.Session{ID: "session", User: e.user}
	if e.ip != "" {
		session.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(e.ip), 4711)
	}
	tx := mail.NewTransaction("tx", session, start)
	tx.Stage = e.stage
	tx.Envelope.ReversePath = address(e.from)
	if e.login != "" {
		tx.Credentials = &mail.Credentials{Username: e.login}
	}
	if e.rcpt != "" {
		tx.Recipient = &mail.Recipient{Address: address(e.rcpt)}
	}
	return tx
}

func load(t testing.TB, c *coretest.Clock, source string) *Ratelimit {
	t.Helper()
	return coretest.Load[*Ratelimit](t, coretest.New(t, coretest.Options{Now: c.Now}), "handler.ratelimit", source)
}

// handle gives the verdict on an event.
func handle(t testing.TB, r *Ratelimit, e event) mail.Verdict {
	t.Helper()
	v, err := r.Handle(t.Context(), e.transaction(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReplies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		stage mail.Stage
		reply string
	}{
		{mail.StageConnect, "421 4.7.0 Too many connections, try again in 1029 seconds"},
		{mail.StageAuth, "454 4.7.0 Too many logins, try again in 1029 seconds"},
		{mail.StageMail, "450 4.7.1 Too many messages, try again in 1029 seconds"},
		{mail.StageRcpt, "450 4.7.1 Too many recipients, try again in 1029 seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.stage.String(), func(t *testing.T) {
			t.Parallel()
			c := coretest.NewClock(start)
			r := load(t, c, `ratelimit {
				key   = "ip"
				limit = "2/15m"
			}`)
			c.Add(time.Duration(r.counters.slice - start.UnixNano()%r.counters.slice)) // a slice begins
			e := event{ip: "192.0.2.1", stage: tt.stage}
			for range 2 {
				if v := handle(t, r, e); v.Action != mail.ActionContinue {
					t.Fatalf("verdict %+v below the limit", v)
				}
			}
			v := handle(t, r, e)
			if v.Action != mail.ActionDefer || v.Reply.String() != tt.reply {
				t.Errorf("verdict %s %q, want %q", v.Action, v.Reply, tt.reply)
			}
			if want := "ip 192.0.2.1/32: 2 in 15m, limit is 2/15m"; v.Reason != want {
				t.Errorf("reason %q, want %q", v.Reason, want)
			}
			c.Add(1028 * time.Second)
			if v := handle(t, r, e); !strings.HasSuffix(v.Reply.String(), "try again in 1 second") {
				t.Errorf("reply %q a second before", v.Reply)
			}
			c.Add(time.Second)
			if v := handle(t, r, e); v.Action != mail.ActionContinue {
				t.Errorf("verdict %+v after the time that the client was told", v)
			}
		})
	}
}

// TestKeys holds the limit "1/1h" against a first event and a second one.
func TestKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		settings      string
		first, second event
		refused       bool
	}{
		{"same IPv4", `key = "ip"`, event{ip: "192.0.2.1"}, event{ip: "192.0.2.1"}, true},
		{"mapped IPv4", `key = "ip"`, event{ip: "192.0.2.1"}, event{ip: "::ffff:192.0.2.1"}, true},
		{"next IPv4", `key = "ip"`, event{ip: "192.0.2.1"}, event{ip: "192.0.2.2"}, false},
		{"IPv4 network", "key = \"ip\"\nipv4_prefix = 24", event{ip: "192.0.2.1"}, event{ip: "192.0.2.255"}, true},
		{"other IPv4 network", "key = \"ip\"\nipv4_prefix = 24", event{ip: "192.0.2.1"}, event{ip: "192.0.3.1"}, false},
		{"IPv6 network", `key = "ip"`, event{ip: "2001:db8::1"}, event{ip: "2001:db8::ffff:1"}, true},
		{"other IPv6 network", `key = "ip"`, event{ip: "2001:db8::1"}, event{ip: "2001:db8:0:1::1"}, false},
		{"IPv6 address", "key = \"ip\"\nipv6_prefix = 128", event{ip: "2001:db8::1"}, event{ip: "2001:db8::2"}, false},
		{"IPv6 zone", `key = "ip"`, event{ip: "fe80::1%eth0"}, event{ip: "fe80::1%eth1"}, true},
		{"excepted", "key = \"ip\"\nexcept = [\"198.51.100.0/24\", \"192.0.2.0/24\"]", event{ip: "192.0.2.1"}, event{ip: "::ffff:192.0.2.1"}, false},
		{"not excepted", "key = \"ip\"\nexcept = \"192.0.2.0/24\"", event{ip: "192.0.3.1"}, event{ip: "192.0.3.1"}, true},
		{"no address", `key = "ip"`, event{}, event{}, false},
		{"same user", `key = "user"`, event{user: "alice@example.test", ip: "192.0.2.1"}, event{user: "alice@example.test", ip: "192.0.2.2"}, true},
		{"other user", `key = "user"`, event{user: "alice@example.test"}, event{user: "bob@example.test"}, false},
		{"no user", `key = "user"`, event{}, event{}, false},
		{"login", `key = "user"`, event{login: "alice@example.test"}, event{login: "ALICE@Example.TEST"}, true},
		{"login and user", `key = "user"`, event{login: "alice@example.test"}, event{user: "alice@example.test"}, true},
		{"quoted login", `key = "user"`, event{login: "alice@example.test"}, event{login: `"\alice"@example.test`}, true},
		{"login without a domain", `key = "user"`, event{login: "Alice"}, event{login: "alice"}, true},
		{"other login", `key = "user"`, event{login: "alice@example.test"}, event{login: "bob@example.test"}, false},
		{"same sender", `key = "from"`, event{from: "alice@example.test"}, event{from: "Alice@example.test"}, true},
		{"other sender", `key = "from"`, event{from: "alice@example.test"}, event{from: "bob@example.test"}, false},
		{"null reverse-path", `key = "from"`, event{}, event{}, false},
		{"null reverse-path, by its domain", `key = ["from", "from_domain"]`, event{}, event{}, false},
		{"null reverse-path of a client", `key = ["ip", "from_domain"]`, event{ip: "192.0.2.1"}, event{ip: "192.0.2.1"}, true},
		{"null reverse-path to a recipient", `key = ["rcpt", "from"]`, event{rcpt: "alice@example.test"}, event{rcpt: "alice@example.test"}, true},
		{"null reverse-path of another client", `key = ["ip", "from_domain"]`, event{ip: "192.0.2.1"}, event{ip: "192.0.2.2"}, false},
		{"null reverse-path and another", `key = ["ip", "from"]`, event{ip: "192.0.2.1"}, event{ip: "192.0.2.1", from: "alice@example.test"}, false},
		{"same domain", `key = "from_domain"`, event{from: "alice@example.test"}, event{from: "bob@example.test"}, true},
		{"other domain", `key = "from_domain"`, event{from: "alice@example.test"}, event{from: "alice@example.org"}, false},
		{"same recipient", `key = "rcpt"`, event{rcpt: "alice@example.test"}, event{rcpt: "ALICE+x@example.test"}, true},
		{"other recipient", `key = "rcpt"`, event{rcpt: "alice@example.test"}, event{rcpt: "bob@example.test"}, false},
		{"no recipient", `key = "rcpt"`, event{}, event{}, false},
		{"both same", `key = ["ip", "rcpt"]`, event{ip: "192.0.2.1", rcpt: "alice@example.test"}, event{ip: "192.0.2.1", rcpt: "alice@example.test"}, true},
		{"one differs", `key = ["ip", "rcpt"]`, event{ip: "192.0.2.1", rcpt: "alice@example.test"}, event{ip: "192.0.2.2", rcpt: "alice@example.test"}, false},
		{"other differs", `key = ["ip", "rcpt"]`, event{ip: "192.0.2.1", rcpt: "alice@example.test"}, event{ip: "192.0.2.1", rcpt: "bob@example.test"}, false},
		{"one not known", `key = ["user", "rcpt"]`, event{rcpt: "alice@example.test"}, event{rcpt: "alice@example.test"}, false},
		{"twice the same", `key = ["ip", "ip"]`, event{ip: "192.0.2.1"}, event{ip: "192.0.2.1"}, true},
		{
			"long", `key = ["from", "rcpt"]`,
			event{from: long("a"), rcpt: long("b")},
			event{from: long("a"), rcpt: long("b")},
			true,
		},
		{
			"long, other", `key = ["from", "rcpt"]`,
			event{from: long("a"), rcpt: long("b")},
			event{from: long("a"), rcpt: long("c")},
			false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := load(t, coretest.NewClock(start), "ratelimit {\nlimit = \"1/1h\"\n"+tt.settings+"\n}")
			if v := handle(t, r, tt.first); v.Action != mail.ActionContinue {
				t.Fatalf("verdict %+v on the first event", v)
			}
			if v := handle(t, r, tt.second); (v.Action == mail.ActionDefer) != tt.refused {
				t.Errorf("verdict %s (%s) on the second event, refused should be %v", v.Action, v.Reason, tt.refused)
			}
		})
	}
}

// long gives an address of nearly the greatest length.
func long(local string) string {
	return strings.Repeat(local, 64) + "@" + strings.Repeat(strings.Repeat("d", 60)+".", 3) + "example"
}

func TestReasonNamesAllParts(t *testing.T) {
	t.Parallel()
	r := load(t, coretest.NewClock(start), `ratelimit {
		key   = ["ip", "user", "from", "from_domain", "rcpt"]
		limit = "1/1h"
	}`)
	e := event{ip: "2001:db8::1", user: "alice@example.test", from: "bob@example.org", rcpt: "carol@example.net", stage: mail.StageRcpt}
	handle(t, r, e)
	want := "ip 2001:db8::/64, user alice@example.test, from bob@example.org, from_domain example.org, rcpt carol@example.net: 1 in 1h, limit is 1/1h"
	if v := handle(t, r, e); v.Reason != want {
		t.Errorf("reason %q, want %q", v.Reason, want)
	}
}

func TestDefaultStages(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]mail.Stages{
		`"ip"`:                   mail.AtConnect,
		`"user"`:                 mail.AtMail,
		`"from"`:                 mail.AtMail,
		`["ip", "from_domain"]`:  mail.AtMail,
		`"rcpt"`:                 mail.AtRcpt,
		`["rcpt", "ip", "from"]`: mail.AtRcpt,
	} {
		r := load(t, coretest.NewClock(start), "ratelimit {\nkey = "+keys+"\nlimit = \"1/1h\"\n}")
		if got := r.DefaultStages(); got != want {
			t.Errorf("key %s: stages %q, want %q", keys, got.Names(), want.Names())
		}
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	s := coretest.New(t, coretest.Options{})
	for name, settings := range map[string]string{
		"no key":        `limit = "1/1h"`,
		"unknown key":   "key = \"helo\"\nlimit = \"1/1h\"",
		"no limit":      `key = "ip"`,
		"short window":  "key = \"ip\"\nlimit = \"1/999ms\"",
		"long window":   "key = \"ip\"\nlimit = \"1/367d\"",
		"no rate":       "key = \"ip\"\nlimit = \"1\"",
		"prefix":        "key = \"ip\"\nlimit = \"1/1h\"\nipv4_prefix = 33",
		"few keys":      "key = \"ip\"\nlimit = \"1/1h\"\nmax_keys = 10",
		"except":        "key = \"ip\"\nlimit = \"1/1h\"\nexcept = [\"192.0.2.5/24\"]",
		"empty key":     "key = []\nlimit = \"1/1h\"",
		"unknown field": "key = \"ip\"\nlimit = \"1/1h\"\nburst = 1",
	} {
		if _, err := s.Load(t.Context(), "handler.ratelimit", "ratelimit {\n"+settings+"\n}"); err == nil {
			t.Errorf("%s is valid", name)
		}
	}
}

// TestHandleAllocatesLittle finds that a client that connects costs nothing, once the
// text for its number of connections is made, and others the text.
func TestHandleAllocatesLittle(t *testing.T) {
	c := coretest.NewClock(start)
	for _, tt := range []struct {
		keys  string
		stage mail.Stage
		most  float64
	}{
		{`"ip"`, mail.StageConnect, 0},
		{`["ip", "from", "rcpt"]`, mail.StageRcpt, 3},
		{`"user"`, mail.StageMail, 3},
	} {
		r := load(t, c, "ratelimit {\nkey = "+tt.keys+"\nlimit = \"1000000/1h\"\n}")
		ctx := t.Context()
		var allocs float64
		for _, ip := range []string{"192.0.2.1", "192.0.2.2"} { // the second finds what the first has made
			tx := event{ip: ip, user: "alice@example.test", from: "Bob@example.org", rcpt: "carol@example.net", stage: tt.stage}.transaction(t)
			allocs = testing.AllocsPerRun(100, func() {
				if _, err := r.Handle(ctx, tx); err != nil {
					t.Fatal(err)
				}
			})
		}
		if allocs > tt.most {
			t.Errorf("key %s: %g allocations, want %g", tt.keys, allocs, tt.most)
		}
	}
}

// TestReasonsBelowTheLimit finds that a reason has the numbers also where nobody is
// refused.
func TestReasonsBelowTheLimit(t *testing.T) {
	t.Parallel()
	e := event{ip: "2001:db8::1", user: "alice@example.test", from: "bob@example.org", rcpt: "carol@example.net"}
	for _, tt := range []struct {
		settings string
		stage    mail.Stage
		want     []string
	}{
		{"key = \"ip\"\nlimit = \"9/15m\"", mail.StageConnect, []string{"ip: 1 in 15m, limit is 9/15m", "ip: 2 in 15m, limit is 9/15m"}},
		{"key = \"ip\"\nlimit = \"9/15m\"", mail.StageMail, []string{"ip 2001:db8::/64: 1 in 15m, limit is 9/15m"}},
		{"key = [\"user\", \"rcpt\"]\nlimit = \"9/1h\"", mail.StageRcpt, []string{"user alice@example.test, rcpt carol@example.net: 1 in 1h, limit is 9/1h"}},
		{"key = \"from\"\nlimit = \"9/1h\"\ncount = \"failed\"", mail.StageRcpt, []string{"from bob@example.org: 0 in 1h, limit is 9/1h"}},
		{"key = \"from\"\nlimit = \"9MiB/1h\"", mail.StageData, []string{"from bob@example.org: 1KiB in 1h, limit is 9MiB/1h", "from bob@example.org: 2KiB in 1h, limit is 9MiB/1h"}},
	} {
		r := load(t, coretest.NewClock(start), "ratelimit {\n"+tt.settings+"\n}")
		e.stage = tt.stage
		for _, want := range tt.want {
			if v := handle(t, r, e); v.Action != mail.ActionContinue || v.Reason != want {
				t.Errorf("%s at %s: %s, %q, want %q", tt.settings, tt.stage, v.Action, v.Reason, want)
			}
		}
	}
	tx := event{stage: mail.StageData}.transaction(t)
	r := load(t, coretest.NewClock(start), "ratelimit {\nkey = \"rcpt\"\nstage = \"data\"\nlimit = \"9/1h\"\n}")
	for i, name := range []string{"bob", "carol", "dave"} {
		tx.Envelope.Recipients = []*mail.Recipient{{Address: mail.Address{LocalPart: name, Domain: "example.net"}}}
		if name == "dave" {
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{Address: mail.Address{LocalPart: "bob", Domain: "example.net"}})
		}
		want := "rcpt " + []string{"bob", "carol", "bob"}[i] + "@example.net: " + []string{"1", "1", "2"}[i] + " in 1h, limit is 9/1h"
		if v, err := r.Handle(t.Context(), tx); err != nil || v.Reason != want {
			t.Errorf("%s: %q, %v, want %q", name, v.Reason, err, want)
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	for _, keys := range []string{`"ip"`, `"user"`, `["ip", "from", "rcpt"]`} {
		b.Run(keys, func(b *testing.B) {
			s := coretest.New(b, coretest.Options{})
			r := coretest.Load[*Ratelimit](b, s, "handler.ratelimit", "ratelimit {\nkey = "+keys+"\nlimit = \"1000000000/1h\"\n}")
			tx := event{ip: "192.0.2.1", user: "alice@example.test", from: "Bob@example.org", rcpt: "carol@example.net"}.transaction(b)
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if v, err := r.Handle(ctx, tx); err != nil || v.Action != mail.ActionContinue {
					b.Fatal(v, err)
				}
			}
		})
	}
}

func TestValidateStages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key    string
		stages mail.Stages
		wrong  int
	}{
		{`"ip"`, mail.AtConnect, 0},
		{`"ip"`, mail.AtRcpt, 0},
		{`"user"`, mail.AtAuth, 0},
		{`"user"`, mail.AtConnect, 1},
		{`["ip", "user"]`, mail.AtConnect | mail.AtAuth, 1},
		{`"from"`, mail.AtAuth, 1},
		{`["user", "rcpt"]`, mail.AtAuth | mail.AtMail, 2},
	} {
		s := coretest.New(t, coretest.Options{})
		r := coretest.Load[core.StageValidator](t, s, "handler.ratelimit", "ratelimit {\n key = "+tt.key+"\n limit = \"1/1m\"\n}")
		if got := r.ValidateStages(tt.stages); len(got) != tt.wrong {
			t.Errorf("%s at %v: %v, want %d problems", tt.key, tt.stages.Names(), got, tt.wrong)
		}
	}
}
