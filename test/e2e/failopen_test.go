package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// TestBackendsFailOpen takes each backend away in several ways. Mail passes, the
// trace names what is missing, the log has one line of it, and the figures count.
func TestBackendsFailOpen(t *testing.T) {
	t.Parallel()
	nobody := filepath.Join(t.TempDir(), "nobody.sock")
	hung := hungClamd(t)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/error":
			w.WriteHeader(http.StatusInternalServerError)
		case "/garbage":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"action":"rej`)
		}
	}))
	t.Cleanup(broken.Close)
	const open = "\n on_error = \"continue\"\n timeout = \"300ms\"\n }"
	backends := []struct{ name, handler, block, reason string }{
		{"clamd-gone", "clamav", fmt.Sprintf("clamav {\n address = \"unix:%s\"", nobody), "connect to clamd at unix:" + nobody},
		{"clamd-hung", "clamav", fmt.Sprintf("clamav {\n address = \"unix:%s\"", hung), "clamd"},
		{"http-gone", "http", fmt.Sprintf("http {\n url = \"http://judge.example.test/\"\n socket = %q", nobody), nobody},
		{"http-hung", "http", fmt.Sprintf("http {\n url = \"http://judge.example.test/\"\n socket = %q", hung), ""},
		{"http-error", "http", fmt.Sprintf("http {\n url = \"%s/error\"", broken.URL), "500"},
		{"http-garbage", "http", fmt.Sprintf("http {\n url = \"%s/garbage\"", broken.URL), ""},
		{"exec-gone", "exec", fmt.Sprintf("exec {\n command = [%q]", script(t, "echo nothing works >&2; exit 3")), "3"},
		{"exec-slow", "exec", fmt.Sprintf("exec {\n command = [%q]", script(t, "sleep 300")), ""},
		{"exec-garbage", "exec", fmt.Sprintf("exec {\n command = [%q]", script(t, "echo yes")), ""},
	}
	more := administered
	for _, b := range backends {
		more += judging(b.name, b.block+open)
	}
	s := newSite(t, settings{More: more})
	p := s.serve(t, alice)
	const messages = 7
	for _, b := range backends {
		var notes []string
		for n := range messages {
			id, reply := p.try(t, b.name, "Subject: By "+b.name+"\r\n\r\n.\r\n")
			if id == "" {
				t.Fatalf("message %d by %s: %s", n, b.name, reply)
			}
			e := p.trace(t, id).at(t, "data", b.handler)
			notes = append(notes, e.Note)
			if e.Note != "resting" && (e.Reason == "" || !strings.Contains(e.Reason, b.reason)) {
				t.Errorf("%s: the trace gives the reason %q, not %q", b.name, e.Reason, b.reason)
			}
		}
		// It rests for some seconds only.
		if got := strings.Join(notes, " "); !regexp.MustCompile(`^((error ){5}resting (resting|error)|(timeout ){5}resting (resting|timeout))$`).MatchString(got) {
			t.Errorf("%s: the traces have the notes %q", b.name, got)
		}
	}
	if got := len(p.read(t, alice).messages(t, "INBOX")); got != messages*len(backends) {
		t.Errorf("alice has %d messages, want %d", got, messages*len(backends))
	}
	found := s.figures(t)
	for _, b := range backends {
		for name, want := range map[string]string{"handler_errors_total": "7", "handler_passed_total": "7", "handler_failing": "1"} {
			got := figure(t, found, "mox_like_"+name, fmt.Sprintf("handler=%q", b.handler), fmt.Sprintf("listener=%q", b.name))
			if got != want {
				t.Errorf("mox_like_%s of %s is %q, want %s", name, b.name, got, want)
			}
		}
	}
	states := make(map[string]control.HandlerStatus)
	for _, h := range p.status(t).Handlers {
		states[h.Listener] = h
	}
	shown := s.do(t, "status")
	for _, b := range backends {
		h := states[b.name]
		if h.Handler != b.handler || h.State == control.StateOK || h.Errors != messages || h.Passed != messages || h.LastError == "" {
			t.Errorf("%s: the status is %+v", b.name, h)
		}
		find(t, shown, `^handler +`+b.handler+` of "`+b.name+`": (?:resting|failing) since .*; 7 errors, 7 let pass; `)
	}
	eventually(t, "a handler rests", func() bool {
		if id, reply := p.try(t, backends[0].name, "Subject: Once more\r\n\r\n.\r\n"); id == "" {
			t.Fatal(reply)
		}
		return figure(t, s.figures(t), "mox_like_breaker_open", fmt.Sprintf("listener=%q", backends[0].name), `handler="clamav"`) == "1"
	})
	if told := strings.Count(p.log(t), `"msg":"handler gave no verdict"`); told != len(backends) {
		t.Errorf("the log tells %d times of handlers without a verdict, want once for each of %d", told, len(backends))
	}
}

// TestFailOpenWithoutDNS has the DNS say nothing, fail, and refuse. Mail passes
// what asks it, in bounded time.
func TestFailOpenWithoutDNS(t *testing.T) {
	t.Parallel()
	server := dnstest.Serve(t, spfRecords+listRecords)
	s := newSite(t, settings{
		MX: balanced, Chain: "spf {}\n dnsbl {\n zones = [\"zen.example.net\"]\n }\n rdns {}",
		More: administered + "\ndns {\n servers = [\"" + server.Addr().String() + "\"]\n timeout = \"50ms\"\n attempts = 2\n}\n",
	})
	p := s.serve(t, alice)
	bring := func(subject string) result {
		return p.behind(t, "mx", "192.0.2.66", "bob@example.org", "mail.example.org", subject)
	}
	for _, trouble := range []struct {
		name  string
		fault dnstest.Fault
	}{{"servfail", dnstest.ServFail}, {"refused", dnstest.Refused}, {"garbage", dnstest.Garbage}, {"silence", dnstest.Silence}} {
		name := trouble.name
		server.Fail(dnstest.Every, trouble.fault)
		for n := range 2 {
			r := p.trace(t, expect(t, bring(fmt.Sprintf("%s %d", name, n)), 0, `250 2\.0\.0 OK`))
			if e := r.at(t, "rcpt", "spf"); !strings.Contains(e.Reason, "temperror") {
				t.Errorf("%s: the trace of spf says %+v", name, e)
			}
			for _, handler := range []string{"dnsbl", "rdns"} {
				if e := r.at(t, "rcpt", handler); e.Note != "resting" && !strings.Contains(e.Reason, "example") {
					t.Errorf("%s: the trace of %s says %+v", name, handler, e)
				}
			}
		}
	}
	if got := figure(t, s.figures(t), "mox_like_dns_failures_total"); got == "" || got == "0" {
		t.Errorf("mox_like_dns_failures_total is %q", got)
	}
	for _, m := range p.stored(t) {
		if got := m.field("X-Mox-Like-Tags"); got != "" || !strings.HasPrefix(m.field("Received-SPF"), "temperror ") {
			t.Errorf("%s: the tags are %q, Received-SPF is %q", m.field("Subject"), got, m.field("Received-SPF"))
		}
	}
	eventually(t, "the status has the outage", func() bool {
		bring("Meanwhile")
		status := p.status(t)
		return status != nil && status.DNS != nil && status.DNS.Error != ""
	})
	find(t, s.do(t, "status"), `^dns +no server answers since `)
	for _, text := range []string{`"msg":"no name server answers"`, `"msg":"handler gave no verdict"`} {
		if told := strings.Count(p.log(t), text); told != 1 {
			t.Errorf("the log has %s %d times, want once", text, told)
		}
	}
	// With the DNS back, what it says holds again.
	server.Fail(dnstest.Every, dnstest.None)
	eventually(t, "what may not send mail is refused", func() bool {
		return strings.Contains(bring("Never").stdout, "550 5.7.23 ")
	})
}
