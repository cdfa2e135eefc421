package failopen_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/control"
)

// replies are what each policy makes of an error.
var replies = map[string]string{"continue": "250 2.0.0 ", "defer": "451 4.3.0 ", "reject": "550 5.7.1 "}

const (
	restsAfter = 5 // errors in a row
	messages   = restsAfter + 2

	// shortly is the time limit of handlers whose backend hangs; the others have
	// their own, which no test waits for.
	shortly = 100 * time.Millisecond
	// longEnough is the time limit where the backend is well again and must answer
	// in it.
	longEnough = time.Second
	// nameServerTime is how long a name server may take that does not hang.
	nameServerTime = 10 * time.Second
)

// each runs a test for each backend and each of its faults.
func each(t *testing.T, test func(*testing.T, string, *trouble)) {
	t.Helper()
	for _, b := range backends() {
		for _, fault := range slices.Sorted(maps.Keys(b.faults)) {
			t.Run(b.handler+"/"+fault, func(t *testing.T) {
				t.Parallel()
				test(t, b.handler, b.faults[fault](t))
			})
		}
	}
}

// block is a handler's, with the time that its backend needs to be noticed.
func (b *trouble) block(handler, name, policy string, limit time.Duration) string {
	timeout := ""
	if b.hangs {
		timeout = fmt.Sprintf("timeout = %q", limit)
	}
	return fmt.Sprintf("%s %q {\n%s\n%s\non_error = %q\n}", handler, name, b.settings, timeout, policy)
}

// otherwise has for each on_timeout another on_error.
var otherwise = map[string]string{"continue": "reject", "defer": "continue", "reject": "defer"}

// TestTimeout has each backend hang where on_timeout says something else than
// on_error, and be gone where that counts.
func TestTimeout(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		for _, fault := range []string{"hanging", "refused", "missing"} {
			if b.faults[fault] == nil {
				continue
			}
			t.Run(b.handler+"/"+fault, func(t *testing.T) {
				t.Parallel()
				trouble := b.faults[fault](t)
				chains := make(map[string]string)
				for onTimeout, onError := range otherwise {
					block := trouble.block(b.handler, "judge", onError, shortly)
					chains["on_"+onTimeout] = strings.TrimSuffix(block, "}") + fmt.Sprintf("on_timeout = %q\n}", onTimeout)
				}
				s := newSite(t, trouble.dns, trouble.dnsTime(shortly), chains)
				if trouble.begin != nil {
					trouble.begin()
				}
				for onTimeout, onError := range otherwise {
					want := onError
					if trouble.hangs {
						want = onTimeout
					}
					if reply, entry := s.send(t, "on_"+onTimeout, "judge"); !strings.HasPrefix(reply, replies[want]) || entry.Note != trouble.note() {
						t.Errorf("on_timeout = %s, on_error = %s: the client is told %q, the trace has %+v", onTimeout, onError, reply, entry)
					}
				}
			})
		}
	}
}

// note is what the trace says of an error.
func (b *trouble) note() string {
	if b.hangs {
		return chain.NoteTimeout
	}
	return chain.NoteError
}

// dnsTime is how long the name server may take.
func (b *trouble) dnsTime(limit time.Duration) time.Duration {
	if b.hangs {
		return limit
	}
	return nameServerTime
}

// TestOutage has each backend fail in each way until its handler rests. The file
// alone says what that means for mail; it is logged once, and seen everywhere.
func TestOutage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, handler string, b *trouble) {
		t.Helper()
		chains := make(map[string]string)
		for policy := range replies {
			chains[policy] = b.block(handler, "on_"+policy, policy, shortly)
		}
		s := newSite(t, b.dns, b.dnsTime(shortly), chains)
		if b.begin != nil {
			b.begin()
		}
		for _, policy := range slices.Sorted(maps.Keys(replies)) {
			outage(t, s, b, policy)
		}
		if handler == "dnsbl" {
			if n := s.logged("list gives no answer that can be used, and is passed over"); n != 1 {
				t.Errorf("the log has the list %d times", n)
			}
		}
	})
}

func outage(t *testing.T, s *site, b *trouble, policy string) {
	t.Helper()
	name, want := "on_"+policy, b.want
	before := s.delivered(t, "INBOX")
	for n := range messages {
		reply, entry := s.send(t, policy, name)
		if !strings.HasPrefix(reply, replies[policy]) || strings.Contains(reply, want) {
			t.Errorf("%s, message %d: the client is told %q", policy, n, reply)
		}
		note := b.note()
		if n >= restsAfter {
			note, want = chain.NoteResting, "resting after repeated errors"
		}
		if entry.Note != note || !strings.Contains(entry.Reason, want) {
			t.Errorf("%s, message %d: the trace has %+v, want the note %q and the reason %q", policy, n, entry, note, want)
		}
		shown(t, s, policy, n+1)
	}
	passed := 0
	if policy == "continue" {
		passed = messages
	}
	if n := s.delivered(t, "INBOX") - before; n != passed {
		t.Errorf("%s: %d of %d messages are in the mailbox, want %d", policy, n, messages, passed)
	}
	setting := "on_error"
	if b.hangs {
		setting = "on_timeout"
	}
	if n := s.logged("handler gave no verdict", zap.String("handler", name), zap.String(setting, policy)); n != 1 {
		t.Errorf("%s: the log has the error %d times: %v", policy, n, s.log.All())
	}
	if n := s.logged("circuit breaker changed", zap.String("handler", name)); n != 1 {
		t.Errorf("%s: the log has the rest %d times", policy, n)
	}
}

// shown holds what status shows against what has happened.
func shown(t *testing.T, s *site, policy string, failed int) {
	t.Helper()
	h := s.handler(policy, "on_"+policy)
	if h == nil {
		t.Fatalf("%s: status shows nothing after %d errors", policy, failed)
	}
	state, passed := control.StateFailing, 0
	if failed >= restsAfter {
		state = control.StateResting
	}
	if policy == "continue" {
		passed = failed
	}
	// While it rests the last real error stays.
	if h.State != state || h.Errors != uint64(failed) || h.Passed != uint64(passed) || h.Since.IsZero() ||
		h.LastError == "" || strings.Contains(h.LastError, "repeated errors") {
		t.Errorf("%s: after %d errors status shows %+v", policy, failed, h)
	}
}

// TestRecovery has each backend come back before its handler rests.
func TestRecovery(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, handler string, b *trouble) {
		t.Helper()
		if b.heal == nil {
			return // its port cannot be had again
		}
		s := newSite(t, b.dns, b.dnsTime(longEnough), map[string]string{"mx": b.block(handler, "judge", "continue", longEnough)})
		if b.begin != nil {
			b.begin()
		}
		if reply, entry := s.send(t, "mx", "judge"); entry.Note != b.note() || !strings.HasPrefix(reply, "250 ") {
			t.Errorf("before: the client is told %q, the trace has %+v", reply, entry)
		}
		if h := s.handler("mx", "judge"); h == nil || h.State != control.StateFailing || h.Errors != 1 {
			t.Fatalf("before: status shows %+v", h)
		}
		b.heal()
		recovered(t, s)
		if n := s.logged("handler answers again", zap.String("handler", "judge"), zap.String("listener", "mx")); n != 1 {
			t.Errorf("the log has it %d times", n)
		}
		if n := s.logged("handler gave no verdict"); n != 1 {
			t.Errorf("the log has the error %d times", n)
		}
		if n := s.delivered(t, "INBOX"); n != s.sent {
			t.Errorf("%d of %d messages are in the mailbox", n, s.sent)
		}
	})
}

// recovered sends until the handler is well again, since a slow machine may take
// longer than its time limit.
func recovered(t *testing.T, s *site) {
	t.Helper()
	for range restsAfter - 1 {
		if _, entry := s.send(t, "mx", "judge"); entry.Note != "" {
			t.Logf("not well yet: %+v", entry)
			continue
		}
		h := s.handler("mx", "judge")
		if h.State != control.StateOK || !h.Since.IsZero() || h.Errors != uint64(s.sent-1) || h.LastError == "" || h.LastErrorAt.IsZero() {
			t.Errorf("after: status shows %+v", h)
		}
		return
	}
	t.Fatal("it is not well again")
}
