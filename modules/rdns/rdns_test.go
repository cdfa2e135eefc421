package rdns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = `
1.2.0.192.in-addr.arpa. PTR mail.example.org.
mail.example.org. A 192.0.2.1
mail.example.org. A 198.51.100.1
2.2.0.192.in-addr.arpa. PTR other.example.org.
other.example.org. A 192.0.2.99
3.2.0.192.in-addr.arpa. PTR nowhere.example.org.
3.2.0.192.in-addr.arpa. PTR three.example.org.
three.example.org. A 192.0.2.3
5.2.0.192.in-addr.arpa. PTR broken.example.org.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.org.
six.example.org. AAAA 2001:db8::1
onlymx.example.org. MX 10 mail.example.org.
nullmx.example.org. MX 0 .
text.example.org. TXT "nothing else"
xn--bcher-kva.example. A 192.0.2.1
`

// load makes the handler with a DNS of its own.
func load(tb testing.TB, source string) (*RDNS, *dnstest.Server) {
	tb.Helper()
	r := coretest.Load[*RDNS](tb, coretest.New(tb, coretest.Options{}), "handler.rdns", source)
	server := dnstest.Serve(tb, zone)
	server.Fail("4.2.0.192.in-addr.arpa", dnstest.ServFail)
	server.Fail("broken.example.org", dnstest.ServFail)
	r.resolver = server.Resolver(tb)
	return r, server
}

func transaction(client, helo string) *mail.Transaction {
	tx := mail.NewTransaction("tx", &mail.Session{
		ID: "session", Helo: helo,
		RemoteAddr: netip.AddrPortFrom(netip.MustParseAddr(client), 4711),
		LocalAddr:  netip.MustParseAddrPort("203.0.113.25:25"),
	}, time.Now())
	tx.Stage = mail.StageRcpt
	return tx
}

func handle(tb testing.TB, r *RDNS, tx *mail.Transaction) mail.Verdict {
	tb.Helper()
	v, err := r.Handle(tb.Context(), tx)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestFindings(t *testing.T) {
	t.Parallel()
	const good, goodHelo = "192.0.2.1", "mail.example.org"
	tests := []struct {
		name, client, helo string
		tags               []string
		iprev, reason      string
	}{
		{"good", good, goodHelo, nil, "pass", "reverse name mail.example.org; HELO mail.example.org"},
		{"mapped", "::ffff:192.0.2.1", goodHelo, nil, "pass", "reverse name mail.example.org"},
		{"IPv6", "2001:db8::1", "six.example.org", nil, "pass", "reverse name six.example.org"},
		{"second name leads back", "192.0.2.3", goodHelo, nil, "pass", "reverse name three.example.org"},
		{"no reverse name", "192.0.2.77", goodHelo, []string{"rdns=missing"}, "permerror", "no reverse name"},
		{"other address", "192.0.2.2", goodHelo, []string{"rdns=unconfirmed"}, "fail", "reverse name other.example.org does not lead back"},
		{"reverse fails", "192.0.2.4", goodHelo, nil, "temperror", "reverse name unknown: look up PTR"},
		{"forward fails", "192.0.2.5", goodHelo, nil, "temperror", "reverse name unknown: look up A of broken.example.org"},

		{"no HELO yet", good, "", nil, "pass", "reverse name mail.example.org"},
		{"without a dot", good, "mail", []string{"helo=bad"}, "pass", "HELO mail is no host name"},
		{"last dot", good, "mail.example.org.", nil, "pass", "HELO mail.example.org."},
		{"upper case", good, "Mail.Example.ORG", nil, "pass", "HELO Mail.Example.ORG"},
		{"unicode", good, "bücher.example", nil, "pass", "HELO bücher.example"},
		{"underscore", good, "my_host.example.org", []string{"helo=bad"}, "pass", ""},
		{"nonsense", good, "<\x1b[31m>", []string{"helo=bad"}, "pass", "HELO <?[31m> is no host name"},
		{"bare address", good, "192.0.2.1", []string{"helo=bad"}, "pass", ""},
		{"literal", good, "[192.0.2.1]", nil, "pass", ""},
		{"literal of IPv6", "2001:db8::1", "[IPv6:2001:DB8:0::1]", nil, "pass", ""},
		{"literal of another", good, "[192.0.2.2]", []string{"helo=bad"}, "pass", ""},
		{"literal of IPv6 without its tag", "2001:db8::1", "[2001:db8::1]", []string{"helo=bad"}, "pass", ""},
		{"broken literal", good, "[192.0.2.1", []string{"helo=bad"}, "pass", ""},
		{"only an exchanger", good, "onlymx.example.org", nil, "pass", ""},
		{"null exchanger", good, "nullmx.example.org", []string{"helo=unknown"}, "pass", ""},
		{"no host", good, "none.example.org", []string{"helo=unknown"}, "pass", "HELO none.example.org has neither"},
		{"no address", good, "text.example.org", []string{"helo=unknown"}, "pass", ""},
		{"look-up fails", good, "broken.example.org", nil, "pass", "HELO broken.example.org not looked up: look up A of broken.example.org"},
		{"our name", good, "MX.example.test", []string{"helo=own"}, "pass", "HELO MX.example.test is our own"},
		{"our domain", good, "example.test", []string{"helo=own"}, "pass", ""},
		{"name in our domain", good, "printer.example.test", []string{"helo=unknown"}, "pass", ""},
		{"our address", good, "[203.0.113.25]", []string{"helo=own"}, "pass", ""},
		{"both", "192.0.2.77", "mail", []string{"rdns=missing", "helo=bad"}, "permerror", "no reverse name; HELO mail is no host name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := load(t, "rdns {\n own_helo = \"tag\"\n}")
			tx := transaction(tt.client, tt.helo)
			v := handle(t, r, tx)
			if v.Action != mail.ActionContinue || !strings.HasPrefix(v.Reason, tt.reason) && !strings.Contains(v.Reason, "; "+tt.reason) {
				t.Errorf("verdict %s: %q, want one with %q", v.Action, v.Reason, tt.reason)
			}
			if diff := cmp.Diff(tt.tags, tx.Tags()); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
			result, _ := tx.AuthResult("iprev")
			addr := netip.MustParseAddr(tt.client).Unmap().String()
			if result.Result != tt.iprev || !slices.Equal(result.Properties, []mail.Property{{Type: "policy", Name: "iprev", Value: addr}}) {
				t.Errorf("result %+v, want %s of %s", result, tt.iprev, addr)
			}
		})
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	faults := []struct{ attribute, client, helo, tag, reply string }{
		{"missing_ptr", "192.0.2.77", "mail.example.org", "rdns=missing", "550 5.7.25 Client host 192.0.2.77 has no reverse name"},
		{"unconfirmed", "192.0.2.2", "mail.example.org", "rdns=unconfirmed", "550 5.7.25 Client host 192.0.2.2 has a reverse name that does not lead back to it"},
		{"bad_helo", "192.0.2.1", "mail", "helo=bad", "550 5.7.1 HELO needs a full host name, or your address in brackets"},
		{"unknown_helo", "192.0.2.1", "none.example.org", "helo=unknown", "550 5.7.1 HELO has a host name that does not exist"},
		{"own_helo", "192.0.2.1", "mx.example.test", "helo=own", "550 5.7.1 HELO has a name of this server, which you are not"},
	}
	for _, f := range faults {
		for _, action := range []string{"accept", "score", "tag", "reject"} {
			t.Run(f.attribute+" "+action, func(t *testing.T) {
				t.Parallel()
				r, _ := load(t, "rdns {\n score = 2.5\n "+f.attribute+" = \""+action+"\"\n}")
				tx := transaction(f.client, f.helo)
				v := handle(t, r, tx)
				wantAction, wantReply, wantScore := mail.ActionContinue, mail.Reply{}.String(), 0.0
				var wantTags []string
				switch action {
				case "score":
					wantScore = 2.5
				case "tag":
					wantTags = []string{f.tag}
				case "reject":
					wantAction, wantReply = mail.ActionReject, f.reply
				}
				if v.Action != wantAction || v.Reply.String() != wantReply {
					t.Errorf("verdict %s %q, want %s %q", v.Action, v.Reply, wantAction, wantReply)
				}
				if tx.Score() != wantScore || !slices.Equal(tx.Tags(), wantTags) {
					t.Errorf("score %g and tags %q, want %g and %q", tx.Score(), tx.Tags(), wantScore, wantTags)
				}
			})
		}
	}
}

func TestOnePoint(t *testing.T) {
	t.Parallel()
	for score, want := range map[string]string{"1": "1 point", "0.5": "0.5 points", "10": "10 points"} {
		r, _ := load(t, "rdns {\n missing_ptr = \"score\"\n score = "+score+"\n}")
		if v := handle(t, r, transaction("192.0.2.77", "")); v.Reason != "no reverse name; "+want {
			t.Errorf("reason %q, want %s", v.Reason, want)
		}
	}
}

// Both faults of a client count; the reply is that of the first that refuses.
func TestSumOfFaults(t *testing.T) {
	t.Parallel()
	r, _ := load(t, "rdns {\n missing_ptr = \"score\"\n bad_helo = \"score\"\n}")
	tx := transaction("192.0.2.77", "mail")
	v := handle(t, r, tx)
	if want := "no reverse name; HELO mail is no host name and not the client's address; 2 points"; tx.Score() != 2 || v.Reason != want {
		t.Errorf("score %g, reason %q, want %q", tx.Score(), v.Reason, want)
	}
}

func TestNotChecked(t *testing.T) {
	t.Parallel()
	tests := []struct{ client, user, reason string }{
		{"127.0.0.1", "", "not checked: the client's address is not public"},
		{"::1", "", "not checked: the client's address is not public"},
		{"10.1.2.3", "", "not checked: the client's address is not public"},
		{"fd00::1", "", "not checked: the client's address is not public"},
		{"fe80::1%eth0", "", "not checked: the client's address is not public"},
		{"100.64.0.1", "", "not checked: the client's address is not public"},
		{"192.0.2.77", "alice@example.test", "not checked: the client has logged in"},
		{"198.51.100.7", "", "not checked: the network 198.51.100.0/24 is excepted"},
	}
	for _, tt := range tests {
		t.Run(tt.client, func(t *testing.T) {
			t.Parallel()
			r, server := load(t, "rdns {\n except = \"198.51.100.0/24\"\n}")
			tx := transaction(tt.client, "mx.example.test")
			tx.Session.User = tt.user
			if v := handle(t, r, tx); v.Action != mail.ActionContinue || v.Reason != tt.reason {
				t.Errorf("verdict %s: %q, want %q", v.Action, v.Reason, tt.reason)
			}
			if n := server.Questions(dnstest.Every, 0); n != 0 {
				t.Errorf("the DNS was asked %d times", n)
			}
		})
	}
}

// A DNS that fails refuses nobody, whatever the settings; it is asked once a
// transaction and counted.
func TestOutage(t *testing.T) {
	t.Parallel()
	strict := "rdns {\n missing_ptr = \"reject\"\n unconfirmed = \"reject\"\n unknown_helo = \"reject\"\n}"
	for _, fault := range []dnstest.Fault{dnstest.ServFail, dnstest.Refused, dnstest.Silence, dnstest.Cut, dnstest.Garbage} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			r, server := load(t, strict)
			server.Fail("77.2.0.192.in-addr.arpa", fault)
			server.Fail("none.example.org", fault)
			r.resolver = server.ResolverWith(t, dns.Settings{Timeout: 50 * time.Millisecond, Attempts: 1}, dns.Options{})
			tx := transaction("192.0.2.77", "none.example.org")
			for range 3 {
				v := handle(t, r, tx)
				if v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "reverse name unknown: ") || !strings.Contains(v.Reason, "HELO none.example.org not looked up: ") {
					t.Errorf("fault %d: verdict %s: %q", fault, v.Action, v.Reason)
				}
			}
			if got := r.Measure()[0].Value; got != 2 {
				t.Errorf("fault %d: %g errors are counted, want those of both names, once", fault, got)
			}
		})
	}
}

// The handler keeps to its deadline and gives what it knows.
func TestDeadline(t *testing.T) {
	t.Parallel()
	r, server := load(t, "rdns {}")
	release := server.Hold("1.2.0.192.in-addr.arpa")
	defer release()
	r.resolver = server.ResolverWith(t, dns.Settings{Timeout: time.Minute}, dns.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	tx := transaction("192.0.2.1", "mail")
	v, err := r.Handle(ctx, tx)
	if err != nil || !strings.Contains(v.Reason, "deadline exceeded") || !slices.Equal(tx.Tags(), []string{"helo=bad"}) {
		t.Errorf("verdict %+v, error %v, tags %q", v, err, tx.Tags())
	}
}

// Of many names only some are followed.
func TestManyNames(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		text.WriteString("7.2.0.192.in-addr.arpa. PTR " + string(c) + ".example.org.\n")
	}
	r, server := load(t, "rdns {}")
	server.Set(text.String())
	tx := transaction("192.0.2.7", "")
	handle(t, r, tx)
	if n := server.Questions(dnstest.Every, dns.TypeA); n != maxNames {
		t.Errorf("%d names were followed, want %d", n, maxNames)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	s := coretest.New(t, coretest.Options{})
	for _, source := range []string{"rdns {\n missing_ptr = \"defer\"\n}", "rdns {\n score = -1\n}"} {
		if _, err := s.Load(t.Context(), "handler.rdns", source); err == nil {
			t.Errorf("%s is taken", source)
		}
	}
}

func BenchmarkWarm(b *testing.B) {
	r, _ := load(b, "rdns {}")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if v, err := r.Handle(ctx, transaction("192.0.2.1", "mail.example.org")); err != nil || v.Action != mail.ActionContinue {
			b.Fatal(v, errors.Join(err))
		}
	}
}
