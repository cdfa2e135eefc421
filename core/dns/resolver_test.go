package dns_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// TestTTL says how long answers of each kind are kept, by a clock.
func TestTTL(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		zone string
		of   string
		max  time.Duration
		want time.Duration // 0: not kept
	}{
		{"answer", "a.example.org. 300 A 192.0.2.1", "a.example.org", time.Hour, 5 * time.Minute},
		{"answer for less than max_ttl", "a.example.org. 7200 A 192.0.2.1", "a.example.org", time.Hour, time.Hour},
		{"answer for no time", "a.example.org. 0 A 192.0.2.1", "a.example.org", time.Hour, 0},
		{"shortest of several", "a.example.org. 300 A 192.0.2.1\na.example.org. 30 A 192.0.2.2", "a.example.org", time.Hour, 30 * time.Second},
		{"TTL with the highest bit", "a.example.org. 4294967295 A 192.0.2.1", "a.example.org", time.Hour, 0},
		{"no name, minimum of the SOA", "org. 300 SOA ns.org. h.org. 1 1 1 1 20", "b.example.org", time.Hour, 20 * time.Second},
		{"no name, TTL of the SOA", "org. 10 SOA ns.org. h.org. 1 1 1 1 20", "b.example.org", time.Hour, 10 * time.Second},
		{"no name, a long time", "org. 86400 SOA ns.org. h.org. 1 1 1 1 86400", "b.example.org", 24 * time.Hour, time.Hour},
		{"no record", "org. 300 SOA ns.org. h.org. 1 1 1 1 20\na.example.org. TXT x", "a.example.org", time.Hour, 20 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := dnstest.Serve(t, tt.zone)
			c := coretest.NewClock(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC))
			r := server.ResolverWith(t, dns.Settings{MaxTTL: tt.max}, dns.Options{Now: c.Now})
			asked := func(times int) {
				t.Helper()
				if _, err := r.LookupIP(t.Context(), "ip4", tt.of); dns.Temporary(err) {
					t.Fatal(err)
				}
				if got := server.Questions(tt.of, dns.TypeA); got != times {
					t.Fatalf("the server was asked %d times, want %d", got, times)
				}
			}
			asked(1)
			if tt.want == 0 {
				asked(2)
				return
			}
			c.Add(tt.want - time.Nanosecond)
			asked(1)
			c.Add(time.Nanosecond)
			asked(2)
		})
	}
}

// A failure is remembered for a while, so that a dead server does not hold up
// everybody, and then forgotten.
func TestFailureIsRemembered(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	server.Fail("mx1.example.org", dnstest.ServFail)
	c := coretest.NewClock(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC))
	r := server.ResolverWith(t, dns.Settings{}, dns.Options{Now: c.Now})
	lookup := func() error {
		_, err := r.LookupIP(t.Context(), "ip4", "mx1.example.org")
		return err
	}
	first, second := lookup(), lookup()
	if kind(first) != temporary || first.Error() != second.Error() || server.Questions("mx1.example.org", 0) != 1 {
		t.Errorf("errors %v and %v, the server was asked %d times", first, second, server.Questions("mx1.example.org", 0))
	}
	server.Fail("mx1.example.org", dnstest.None)
	c.Add(5 * time.Second)
	if err := lookup(); err != nil {
		t.Errorf("after a while: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, "*.example.org. A 192.0.2.1")
	r := server.ResolverWith(t, dns.Settings{CacheSize: 10}, dns.Options{})
	ask := func(name string) {
		t.Helper()
		if _, err := r.LookupIP(t.Context(), "ip4", name+".example.org"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		ask("used") // stays, since it is used all the time
		ask(strings.Repeat("a", i+1))
	}
	if n := r.Stats().Entries; n != 10 {
		t.Errorf("the cache holds %d answers", n)
	}
	if n := server.Questions("used.example.org", 0); n != 1 {
		t.Errorf("the name that is used all the time was asked for %d times", n)
	}
	r.Configure(dns.Settings{Servers: []dns.Server{{AddrPort: server.Addr()}}, CacheSize: 5})
	if n := r.Stats().Entries; n != 5 {
		t.Errorf("the cache holds %d answers once it is smaller", n)
	}
	ask("used")
	if n := server.Questions("used.example.org", 0); n != 1 {
		t.Errorf("what was known is not after Configure")
	}
}

// What callers do with their slices does not change what the next one gets.
func TestAnswersAreCopies(t *testing.T) {
	t.Parallel()
	r := dnstest.Serve(t, zone).Resolver(t)
	for range 2 {
		texts, err := r.LookupTXT(t.Context(), "example.org")
		if err != nil || texts[0] != "v=spf1 -all" {
			t.Fatalf("texts %q, error %v", texts, err)
		}
		texts[0] = "changed"
		mx, err := r.LookupMX(t.Context(), "example.org")
		if err != nil || mx[0].Pref != 10 {
			t.Fatalf("exchangers %v, error %v", mx, err)
		}
		mx[0].Pref = 0
	}
}

// One question is asked once, and who leaves does not take it along.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	release := server.Hold("mx1.example.org")
	r := server.ResolverWith(t, dns.Settings{Timeout: 20 * time.Second}, dns.Options{})
	impatient, leave := context.WithCancelCause(t.Context())
	hungUp := errors.New("the client hung up")
	left := make(chan error)
	go func() {
		_, err := r.LookupIP(impatient, "ip4", "mx1.example.org")
		left <- err
	}()
	var patient sync.WaitGroup
	for range 50 {
		patient.Go(func() {
			if addrs, err := r.LookupIP(t.Context(), "ip4", "mx1.example.org"); err != nil || len(addrs) != 2 {
				t.Errorf("addresses %v, error %v", addrs, err)
			}
		})
	}
	leave(hungUp)
	if err := <-left; !errors.Is(err, hungUp) || kind(err) != temporary {
		t.Errorf("who leaves gets the error %v", err)
	}
	release()
	patient.Wait()
	if n := server.Questions("mx1.example.org", 0); n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
	if s := r.Stats(); s.Lookups != 51 || s.Queries != 1 || s.InFlight != 0 || s.Failures != 0 {
		t.Errorf("figures %+v", s)
	}
}

// The question goes on for others although who began it is gone.
func TestFirstCallerLeaves(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	release := server.Hold("mx1.example.org")
	r := server.ResolverWith(t, dns.Settings{Timeout: 20 * time.Second}, dns.Options{})
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := r.LookupIP(gone, "ip4", "mx1.example.org"); !errors.Is(err, context.Canceled) {
		t.Fatalf("who is gone gets the error %v", err)
	}
	release()
	if _, err := r.LookupIP(t.Context(), "ip4", "mx1.example.org"); err != nil {
		t.Fatal(err)
	}
	if n := server.Questions("mx1.example.org", 0); n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestQuestionsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	release := server.Hold(dnstest.Every)
	r := server.ResolverWith(t, dns.Settings{Timeout: 20 * time.Second, MaxQueries: 2}, dns.Options{})
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, name := range []string{"a.example.org", "b.example.org"} {
		_, _ = r.LookupTXT(gone, name)
	}
	_, err := r.LookupTXT(t.Context(), "c.example.org")
	if want := "look up TXT of c.example.org: 2 questions are being asked, as many as max_queries allows"; kind(err) != temporary || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	release()
	if _, err := r.LookupTXT(t.Context(), "a.example.org"); kind(err) != notFound {
		t.Errorf("a question in flight ends with %v", err)
	}
}

// Close ends what is being asked, at once.
func TestClose(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	server.Fail("mx1.example.org", dnstest.Silence)
	r := server.ResolverWith(t, dns.Settings{Timeout: time.Hour}, dns.Options{})
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, _ = r.LookupTXT(gone, "mx1.example.org")
	if n := r.Stats().InFlight; n != 1 {
		t.Fatalf("%d questions are in flight", n)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.LookupTXT(t.Context(), "mx1.example.org"); kind(err) != temporary || !strings.Contains(err.Error(), "the resolver is closed") {
		t.Errorf("error %v once it is closed", err)
	}
}

// A server that fails is asked last for a while.
func TestFailedServerIsAskedLast(t *testing.T) {
	t.Parallel()
	bad := dnstest.Serve(t, "*.example.org. A 192.0.2.1")
	good := dnstest.Serve(t, "*.example.org. A 192.0.2.1")
	bad.Fail(dnstest.Every, dnstest.Silence)
	c := coretest.NewClock(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC))
	r := bad.ResolverWith(t, dns.Settings{Servers: []dns.Server{{AddrPort: good.Addr()}}, Timeout: time.Second, Attempts: 50}, dns.Options{Now: c.Now})
	ask := func(name string, badAsked int) {
		t.Helper()
		if _, err := r.LookupIP(t.Context(), "ip4", name); err != nil {
			t.Fatal(err)
		}
		if n := bad.Questions(name, 0); n != badAsked {
			t.Errorf("%s: the failing server was asked %d times, want %d", name, n, badAsked)
		}
	}
	ask("a.example.org", 1)
	ask("b.example.org", 0)
	c.Add(30 * time.Second)
	bad.Fail(dnstest.Every, dnstest.None)
	ask("c.example.org", 1)
	ask("d.example.org", 1)
}

// A server that says SERVFAIL is not asked the same again, another one is.
func TestOtherServerAnswers(t *testing.T) {
	t.Parallel()
	bad, good := dnstest.Serve(t, ""), dnstest.Serve(t, zone)
	bad.Fail(dnstest.Every, dnstest.ServFail)
	r := bad.ResolverWith(t, dns.Settings{Servers: []dns.Server{{AddrPort: good.Addr()}}}, dns.Options{})
	if _, err := r.LookupIP(t.Context(), "ip4", "mx1.example.org"); err != nil {
		t.Fatal(err)
	}
	if a, b := bad.Questions(dnstest.Every, 0), good.Questions(dnstest.Every, 0); a != 1 || b != 1 {
		t.Errorf("the servers were asked %d and %d times", a, b)
	}
}

// TestNoDNS: a machine without DNS makes look-ups fail at once, with a text that
// says what to do.
func TestNoDNS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	write(t, empty, "search example.org\n# nameserver 192.0.2.1\nnameserver nonsense\n")
	nobody := closedPort(t)
	tests := []struct {
		name string
		conf string
		s    dns.Settings
		text string
	}{
		{"no file", filepath.Join(dir, "none"), dns.Settings{}, "the configuration names none in dns { servers }, and the system none: stat "},
		{"no server", empty, dns.Settings{}, `it has no line "nameserver ADDRESS"`},
		{"a directory", dir, dns.Settings{}, "is a directory"},
		{"nobody there", "", dns.Settings{Servers: []dns.Server{{AddrPort: nobody}}, Timeout: time.Hour}, "server " + nobody.String() + ": "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := dns.New(tt.s, dns.Options{ResolvConf: tt.conf})
			t.Cleanup(func() { _ = r.Close() })
			for range 3 {
				_, err := r.LookupMX(t.Context(), "example.org")
				if kind(err) != temporary || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("error %v, want one with %q", err, tt.text)
				}
			}
		})
	}
}

// closedPort gives an address at which nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// A server that nobody reaches holds a look-up up for as long as attempts and
// timeout say, and no longer.
func TestSilence(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, zone)
	server.Fail(dnstest.Every, dnstest.Silence)
	r := server.ResolverWith(t, dns.Settings{Timeout: 100 * time.Millisecond, Attempts: 3}, dns.Options{})
	_, err := r.LookupTXT(t.Context(), "example.org")
	want := "look up TXT of example.org: server " + server.Addr().String() + ": no answer in 100ms: context deadline exceeded"
	if kind(err) != temporary || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
	if n := server.Questions("example.org", 0); n < 1 || n > 3 {
		t.Errorf("the server was asked %d times", n)
	}
}

// resolv.conf is read at the first look-up, and again when it has changed.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	c := coretest.NewClock(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC))
	r := dns.New(dns.Settings{}, dns.Options{Now: c.Now, ResolvConf: path})
	t.Cleanup(func() { _ = r.Close() })
	_, err := r.LookupTXT(t.Context(), "example.org")
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("error %v without the file", err)
	}
	first, second := dnstest.Serve(t, zone), dnstest.Serve(t, zone)
	ask := func(name string) {
		t.Helper()
		if _, err := r.LookupTXT(t.Context(), name); kind(err) != notFound {
			t.Fatal(err)
		}
	}
	write(t, path, "options edns0\nnameserver "+first.Addr().String()+"\n")
	if _, err := r.LookupTXT(t.Context(), "example.org"); kind(err) != temporary {
		t.Errorf("the file is looked at before it is time: %v", err)
	}
	c.Add(5 * time.Second)
	ask("a.example.org")
	write(t, path, "nameserver "+second.Addr().String()+" # another one\n")
	ask("b.example.org")
	c.Add(5 * time.Second)
	ask("c.example.org")
	if a, b := first.Questions(dnstest.Every, 0), second.Questions(dnstest.Every, 0); a != 2 || b != 1 {
		t.Errorf("the servers were asked %d and %d times", a, b)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	first, second := dnstest.Serve(t, zone), dnstest.Serve(t, zone)
	r := first.Resolver(t)
	if _, err := r.LookupTXT(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	r.Configure(dns.Settings{Servers: []dns.Server{{AddrPort: second.Addr()}}})
	if _, err := r.LookupMX(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	if a, b := first.Questions(dnstest.Every, 0), second.Questions(dnstest.Every, 0); a != 1 || b != 1 {
		t.Errorf("the servers were asked %d and %d times", a, b)
	}
}

func TestServerText(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"192.0.2.53", "192.0.2.53:53"},
		{"192.0.2.53:5353", "192.0.2.53:5353"},
		{"2001:db8::53", "[2001:db8::53]:53"},
		{"[2001:db8::53]:5353", "[2001:db8::53]:5353"},
		{"fe80::1%eth0", "[fe80::1%eth0]:53"},
		{"", ""},
		{"ns.example.org", ""},
		{"192.0.2.53:", ""},
		{"192.0.2.53:0", ""},
		{"0.0.0.0", ""},
		{"224.0.0.251", ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			var s dns.Server
			err := s.UnmarshalText([]byte(tt.text))
			switch {
			case tt.want == "" && err == nil:
				t.Errorf("it is read as %s", s)
			case tt.want != "" && (err != nil || s.String() != tt.want):
				t.Errorf("it is read as %s, error %v, want %s", s, err, tt.want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	server := dns.Server{AddrPort: netip.MustParseAddrPort("127.0.0.1:53")}
	loopback, other := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")
	tests := []struct {
		name string
		s    dns.Settings
		want []string
	}{
		{"nothing", dns.Settings{}, nil},
		{"system's servers", dns.Settings{TrustAD: []netip.Prefix{other}}, nil},
		{"trusted", dns.Settings{Servers: []dns.Server{server}, TrustAD: []netip.Prefix{loopback}}, nil},
		{"not asked", dns.Settings{Servers: []dns.Server{server}, TrustAD: []netip.Prefix{loopback, other}}, []string{"trust_ad[1]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, p := range tt.s.Problems() {
				got = append(got, p.Attribute)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecode holds the defaults of the file against those of a program, and says
// what a wrong server looks like.
func TestDecode(t *testing.T) {
	t.Parallel()
	decode := func(text string) (*dns.Settings, config.Diagnostics) {
		file, ds := config.Parse("test.hcl", []byte(text), config.Options{})
		if ds.HasErrors() {
			t.Fatal(ds.Err())
		}
		s := new(dns.Settings)
		return s, config.Decode(file.Root, s)
	}
	s, ds := decode("servers = [\"127.0.0.1:5353\", \"2001:db8::53\"]\ntrust_ad = \"127.0.0.1\"\ntimeout = \"500ms\"")
	want := &dns.Settings{
		Servers: []dns.Server{{AddrPort: netip.MustParseAddrPort("127.0.0.1:5353")}, {AddrPort: netip.MustParseAddrPort("[2001:db8::53]:53")}},
		TrustAD: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Timeout: 500 * time.Millisecond, Attempts: 3, CacheSize: 20_000, MaxTTL: 24 * time.Hour, MaxQueries: 1000,
	}
	equal := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, s, equal, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || ds.HasErrors() {
		t.Errorf("settings (-want +got):\n%s%v", diff, ds.Err())
	}
	_, ds = decode(`servers = ["127.0.0.1", "ns.example.org"]`)
	if len(ds) != 1 || !strings.Contains(ds[0].Summary+ds[0].Detail, `"ns.example.org" is no IP address`) {
		t.Errorf("diagnostics of a wrong server: %+v", ds)
	}
}

func BenchmarkWarm(b *testing.B) {
	server := dnstest.Serve(b, zone)
	r := server.Resolver(b)
	ctx := b.Context()
	run := func(name string, lookup func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := lookup(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("query", func() error { _, err := r.Query(ctx, "mx1.example.org", dns.TypeA); return err })
	run("txt", func() error { _, err := r.LookupTXT(ctx, "example.org"); return err })
	run("not found", func() error {
		_, err := r.LookupTXT(ctx, "none.example.org")
		if errors.Is(err, dns.ErrNotFound) {
			return nil
		}
		return err
	})
	if n := server.Questions(dnstest.Every, 0); n != 3 {
		b.Errorf("the server was asked %d times", n)
	}
}
