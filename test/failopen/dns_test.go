package failopen_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// silences are the faults with which no name server gives a whole answer, as
// opposed to one that answers with a failure.
var silences = map[string]bool{"hanging": true, "cut": true, "garbage": true, "refused": true}

// unheard is after what time without an answer an outage is one, and not a domain
// whose servers are silent.
const unheard = 10 * time.Second

// nameServers gives a faulty name server for each fault.
func nameServers(t *testing.T, zone string, test func(t *testing.T, fault string, s *dnstest.Server)) {
	t.Helper()
	for fault, code := range nameServerFaults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			server := dnstest.Serve(t, zone)
			server.Fail(dnstest.Every, code)
			test(t, fault, server)
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		server := dnstest.Serve(t, zone)
		server.Stop()
		test(t, "refused", server)
	})
}

// timeFor is how long a name server with that fault may take.
func timeFor(f dnstest.Fault) time.Duration {
	if waits(f) {
		return shortly
	}
	return nameServerTime
}

// outageOfDNS holds what status, log and metrics say against the fault.
func outageOfDNS(t *testing.T, s *site, fault string) {
	t.Helper()
	want := 0
	if silences[fault] {
		want = 1
	}
	if n := s.logged("no name server answers"); n != want {
		t.Errorf("the log has the outage %d times, want %d", n, want)
	}
	if o := s.status().DNS; (o != nil) != silences[fault] || o != nil && o.Error == "" {
		t.Errorf("status shows the outage %+v", o)
	}
	s.measures(t, fmt.Sprintf("mox_like_dns_outage %d", want))
}

// measures finds a line in the metrics.
func (s *site) measures(t *testing.T, line string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
		t.Errorf("the metrics lack %q", line)
	}
}

// TestSPFOutage has the setting temperror, and not on_error, say what a DNS means
// that does not answer.
func TestSPFOutage(t *testing.T) {
	t.Parallel()
	results := []struct{ setting, reply, box string }{
		{"", "250 2.0.0 ", "INBOX"},
		{`temperror = "accept"`, "250 2.0.0 ", "INBOX"},
		{`temperror = "tag"`, "250 2.0.0 ", "INBOX"},
		{`temperror = "quarantine"`, "250 2.0.0 ", "Junk"},
		{`temperror = "defer"`, "451 4.4.3 ", ""},
		{`temperror = "reject"`, "550 5.7.24 ", ""},
	}
	const zone = `*.example.org. TXT "v=spf1 -all"`
	nameServers(t, zone, func(t *testing.T, fault string, server *dnstest.Server) {
		t.Helper()
		chains := make(map[string]string)
		for n, r := range results {
			// None of them is an error, whatever on_error says.
			chains[fmt.Sprint("mx", n)] = "spf {\n" + r.setting + "\non_error = \"reject\"\n}"
		}
		s := newSite(t, server.Addr(), timeFor(nameServerFaults[fault]), chains)
		there := map[string]int{"INBOX": 0, "Junk": 0}
		for n, r := range results {
			reply, entry := s.send(t, fmt.Sprint("mx", n), "spf")
			if !strings.HasPrefix(reply, r.reply) {
				t.Errorf("%s: the client is told %q", r.setting, reply)
			}
			if entry.Note != "" || !strings.Contains(entry.Reason, ": temperror for 192.0.2.") {
				t.Errorf("%s: the trace has %+v", r.setting, entry)
			}
			if r.box != "" {
				there[r.box]++
			}
			s.later(unheard)
		}
		for box, want := range there {
			if n := s.delivered(t, box); n != want {
				t.Errorf("%d messages are in %s, want %d", n, box, want)
			}
		}
		if list := s.status().Handlers; len(list) > 0 {
			t.Errorf("status shows %+v", list)
		}
		outageOfDNS(t, s, fault)
		if fault == "refused" {
			return
		}
		server.Fail(dnstest.Every, dnstest.None)
		if reply, entry := s.send(t, "mx0", "spf"); !strings.HasPrefix(reply, "550 5.7.23 ") {
			t.Errorf("afterwards the client is told %q, the trace has %+v", reply, entry)
		}
		outageIsOver(t, s, fault)
	})
}

func outageIsOver(t *testing.T, s *site, fault string) {
	t.Helper()
	want := 0
	if silences[fault] {
		want = 1
	}
	if n := s.logged("a name server answers again"); n != want {
		t.Errorf("the log has the end %d times, want %d", n, want)
	}
	if o := s.status().DNS; o != nil {
		t.Errorf("status shows the outage %+v afterwards", o)
	}
}

// TestReverseNameOutage has what the DNS does not say refuse nobody, also where
// all that is wrong with a client does.
func TestReverseNameOutage(t *testing.T) {
	t.Parallel()
	const strict = "rdns {\nmissing_ptr = \"reject\"\nunconfirmed = \"reject\"\nunknown_helo = \"reject\"\non_error = \"reject\"\n}"
	nameServers(t, "example.org. A 192.0.2.1", func(t *testing.T, fault string, server *dnstest.Server) {
		t.Helper()
		s := newSite(t, server.Addr(), timeFor(nameServerFaults[fault]), map[string]string{"mx": strict})
		for n := range 3 {
			reply, entry := s.send(t, "mx", "rdns")
			if !strings.HasPrefix(reply, "250 ") || entry.Note != "" ||
				!strings.Contains(entry.Reason, "reverse name unknown: look up PTR") || !strings.Contains(entry.Reason, "not looked up: ") {
				t.Errorf("message %d: the client is told %q, the trace has %+v", n, reply, entry)
			}
			s.later(unheard)
		}
		if n := s.delivered(t, "INBOX"); n != 3 {
			t.Errorf("%d messages are in the mailbox", n)
		}
		// The name in HELO is counted as well.
		s.measures(t, "mox_like_rdns_errors_total 6")
		outageOfDNS(t, s, fault)
		if fault == "refused" {
			return
		}
		server.Fail(dnstest.Every, dnstest.None)
		if reply, _ := s.send(t, "mx", "rdns"); !strings.HasPrefix(reply, "550 5.7.25 ") {
			t.Errorf("afterwards the client is told %q", reply)
		}
		outageIsOver(t, s, fault)
	})
}

// TestTruncated is no outage: what does not fit into a packet comes by TCP.
func TestTruncated(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, listed+"\n*.example.org. TXT \"v=spf1 ~all\"\n*.in-addr.arpa. PTR mail.example.org.")
	server.Fail(dnstest.Every, dnstest.Truncated)
	s := newSite(t, server.Addr(), nameServerTime, map[string]string{
		"spf": "spf {\nsoftfail = \"reject\"\n}", "dnsbl": `dnsbl { zones = ["zen.example.net"] }`, "rdns": "rdns {\nunconfirmed = \"reject\"\n}",
	})
	for handler, want := range map[string]string{"spf": "550 5.7.23 ", "dnsbl": "550 5.7.1 ", "rdns": "550 5.7.25 "} {
		if reply, entry := s.send(t, handler, handler); !strings.HasPrefix(reply, want) {
			t.Errorf("%s: the client is told %q, the trace has %+v", handler, reply, entry)
		}
	}
	if n := s.log.FilterLevelExact(zap.WarnLevel).Len(); n > 0 {
		t.Errorf("the log has warnings: %v", s.log.All())
	}
}
