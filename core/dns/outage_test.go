package dns_test

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// TestOutage: when all servers are silent it is logged once, however many
// questions fail, and once when one answers again. A name that only fails by
// itself is no outage.
func TestOutage(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	server := dnstest.Serve(t, "a.example.org. 300 A 192.0.2.1\nb.example.org. 300 A 192.0.2.2")
	c := coretest.NewClock(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC))
	r := server.ResolverWith(t, dns.Settings{Attempts: 1}, dns.Options{Logger: zap.New(core), Now: c.Now})
	server.Fail("broken.example.org", dnstest.ServFail)
	if _, err := r.LookupIP(t.Context(), "ip4", "broken.example.org"); !dns.Temporary(err) {
		t.Fatalf("a broken name: %v", err)
	}
	if o := r.Stats().Outage; !o.Since.IsZero() {
		t.Errorf("a broken name is taken for an outage: %+v", o)
	}
	server.Fail(dnstest.Every, dnstest.Cut)
	// Two domains whose servers are silent are no outage, however often they are asked.
	for _, name := range []string{"silent1.example.org", "silent1.example.org", "silent1.example.org", "silent2.example.org"} {
		if _, err := r.LookupIP(t.Context(), "ip4", name); !dns.Temporary(err) {
			t.Fatalf("a silent domain: %v", err)
		}
		c.Add(time.Minute)
	}
	if o := r.Stats().Outage; !o.Since.IsZero() {
		t.Errorf("two silent domains are taken for an outage: %+v", o)
	}
	for i := range 5 {
		if _, err := r.LookupIP(t.Context(), "ip4", fmt.Sprintf("n%d.example.org", i)); !dns.Temporary(err) {
			t.Fatalf("while no server answers: %v", err)
		}
	}
	if o := r.Stats().Outage; o.Since.IsZero() || o.Error == "" {
		t.Errorf("the outage is %+v", o)
	}
	server.Fail(dnstest.Every, dnstest.None)
	if _, err := r.LookupIP(t.Context(), "ip4", "b.example.org"); err != nil {
		t.Fatalf("when the server answers again: %v", err)
	}
	if o := r.Stats().Outage; !o.Since.IsZero() {
		t.Errorf("it goes on: %+v", o)
	}
	if n := logs.FilterMessage("no name server answers").Len(); n != 1 {
		t.Errorf("%d lines about the outage, want 1", n)
	}
	if n := logs.FilterMessage("a name server answers again").Len(); n != 1 {
		t.Errorf("%d lines about its end, want 1", n)
	}
}
