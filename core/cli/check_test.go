package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mox-like/mox-like/core/check"
	"github.com/mox-like/mox-like/core/trace"
)

func TestWireLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000)
	for name, c := range map[string]struct{ file, wire string }{
		"empty":               {"", ""},
		"LF":                  {"a: b\n\nc\n", "a: b\r\n\r\nc\r\n"},
		"LF, last line open":  {"a\nb", "a\r\nb"},
		"LF, CR LF inside":    {"a\nb\r\nc\n", "a\r\nb\r\nc\r\n"},
		"CR LF":               {"a\r\nb\r\n", "a\r\nb\r\n"},
		"CR LF, LF inside":    {"a\r\nb\nc\r\n", "a\r\nb\nc\r\n"},
		"empty first line":    {"\na\n", "\r\na\r\n"},
		"one line":            {"a", "a"},
		"long line":           {"a\n" + long + "\nb\n", "a\r\n" + long + "\r\nb\r\n"},
		"CR before the edge":  {"a\n" + long[:1<<16-3] + "\r\nb\n", "a\r\n" + long[:1<<16-3] + "\r\nb\r\n"},
		"LF behind the edge":  {"a\n" + long[:1<<16] + "\nb\n", "a\r\n" + long[:1<<16] + "\r\nb\r\n"},
		"CR LF over the edge": {"a\n" + long[:1<<16-1] + "\r\nb\n", "a\r\n" + long[:1<<16-1] + "\r\nb\r\n"},
	} {
		for how, file := range map[string]io.Reader{"whole": strings.NewReader(c.file), "in bytes": iotest.OneByteReader(strings.NewReader(c.file))} {
			got, err := io.ReadAll(wireLines(file))
			if err != nil || string(got) != c.wire {
				t.Errorf("%s, %s: %d bytes, %.40q…, %v; want %d", name, how, len(got), got, err, len(c.wire))
			}
		}
	}
	if _, err := io.ReadAll(wireLines(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("a\nb\n"))))); err == nil {
		t.Error("an error of the file is lost")
	}
}

func TestCheckSaysHowItEnds(t *testing.T) {
	t.Parallel()
	result := func(change func(*check.Result)) *check.Result {
		r := &check.Result{
			Accepted: true, Record: &trace.Record{Kind: trace.KindMessage, ID: "check-1", RemoteIP: "192.0.2.1"},
			Replies:    []check.Reply{{Stage: "rcpt", Recipient: "a\x1b@example.test", Reply: "250 2.1.5 Recipient OK"}, {Stage: "data", Reply: "250 2.0.0 OK"}},
			Recipients: []check.Recipient{{Address: "a\x1b@example.test", Accepted: true, Target: "deliver", Accounts: []string{"b@example.test"}}, {Address: "c@example.test"}},
			Added:      []string{"X-A: b\tc"},
		}
		change(r)
		return r
	}
	further := []*check.Result{{Record: &trace.Record{Kind: trace.KindMessage, ID: "check-2", RemoteIP: "192.0.2.1"}}}
	for want, change := range map[string]func(*check.Result){
		"Accepted: 250 2.0.0 OK\nNothing was delivered, counted or learned by this server; a daemon ": func(*check.Result) {},
		"Accepted, and kept out of the inbox (a virus): 250 2.0.0 OK\n":                               func(r *check.Result) { r.Quarantine = "a virus" },
		"Accepted, and thrown away: 250 2.0.0 OK\n":                                                   func(r *check.Result) { r.Discarded = true },
		": in a transaction of its own, see below\n":                                                  func(r *check.Result) { r.Recipients[1].Later = true },
		"\nAccepted in 2 transactions, see each\n":                                                    func(r *check.Result) { r.Further = further },
		"\nTransaction 2 of 2, for those that were put off:\n\n":                                      func(r *check.Result) { r.Further = further },
		"\nRefused for some recipients, or in some of 2 transactions, see each\n":                     func(r *check.Result) { r.Accepted, r.Further = false, further },
		"Refused for some recipients, accepted for the others: 250 2.0.0 OK\n":                        func(r *check.Result) { r.Accepted = false },
		"Refused: 550 5.7.1 No\n":                                                                     func(r *check.Result) { r.Accepted, r.Replies[1].Reply = false, "550 5.7.1 No" },
		"Replies:\n  rcpt <a\\x1b@example.test>  250 2.1.5 Recipient OK\n  data     ":                 func(*check.Result) {},
		"Recipients:\n  a\\x1b@example.test: mail for b@example.test\n  c@example.test: refused\n":    func(*check.Result) {},
		": taken by relay\n":                                 func(r *check.Result) { r.Recipients[0].Target, r.Recipients[0].Accounts = "relay", nil },
		": taken out by a handler\n":                         func(r *check.Result) { r.Recipients[0].Target, r.Recipients[0].Accounts = "", nil },
		"Header fields that would be added:\n  X-A: b c\n\n": func(*check.Result) {},
	} {
		var out bytes.Buffer
		if err := new(CheckOptions).print(Streams{Out: &out}, result(change)); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%v, no %q in:\n%s", err, want, out.String())
		}
	}
}
