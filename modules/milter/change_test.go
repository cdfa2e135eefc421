package milter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	wire "github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// TestChanges has a milter make each change, and looks at the whole message.
func TestChanges(t *testing.T) {
	t.Parallel()
	const head, body = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nX-Twice: one\r\nSubject:  folded\r\n\tsubject\r\nX-Twice: two\r\n", "\r\nHello.\r\nBob\r\n"
	tests := map[string]struct {
		changes []said
		want    string
		reason  string
	}{
		"none": {nil, received + raw, ""},
		"add at the end": {
			[]said{{'h', "X-Added\x00value\x00"}},
			received + head + "X-Added: value\r\n" + body, "it adds X-Added",
		},
		"insert on top": {
			[]said{{'i', indexed(0, "X-Top\x00one\x00")}, {'i', indexed(0, "X-Top\x00two\x00")}},
			"X-Top: two\r\nX-Top: one\r\n" + received + raw, "it inserts X-Top at 0, it inserts X-Top at 0",
		},
		"insert below Received": {
			[]said{{'i', indexed(1, "DKIM-Signature\x00v=1;\n\tb=x\x00")}},
			received + "DKIM-Signature: v=1;\r\n\tb=x\r\n" + raw, "it inserts DKIM-Signature at 1",
		},
		"insert in the middle": {
			[]said{{'i', indexed(2, "X-In\x00v\x00")}},
			received + "From: Alice <alice@example.org>\r\nX-In: v\r\n" + strings.SplitAfterN(raw, "\r\n", 2)[1], "it inserts X-In at 2",
		},
		"insert beyond the end": {
			[]said{{'i', indexed(4_000_000_000, "X-Far\x00v\x00")}},
			received + head + "X-Far: v\r\n" + body, "it inserts X-Far at 4000000000",
		},
		"change the second": {
			[]said{{'m', indexed(2, "x-twice\x00new\x00")}},
			received + strings.Replace(raw, "X-Twice: two", "x-twice: new", 1), "it changes x-twice 2",
		},
		"change one that is not there": {
			[]said{{'m', indexed(3, "X-Twice\x00three\x00")}},
			received + head + "X-Twice: three\r\n" + body, "it changes X-Twice 3",
		},
		"delete both, the first first": {
			[]said{{'m', indexed(1, "X-Twice\x00\x00")}, {'m', indexed(1, "X-Twice\x00\x00")}},
			received + strings.NewReplacer("X-Twice: one\r\n", "", "X-Twice: two\r\n", "").Replace(raw), "it deletes X-Twice 1, it deletes X-Twice 1",
		},
		"delete one of a name as long as a message can have": {
			[]said{{'m', indexed(1, strings.Repeat("x", 998)+"\x00\x00")}},
			received + raw, "it deletes " + strings.Repeat("x", maxShown) + "… 1",
		},
		"delete one that is not there": {
			[]said{{'m', indexed(7, "X-Twice\x00\x00")}},
			received + raw, "it deletes X-Twice 7",
		},
		"the server's own Received is not among them": {
			[]said{{'m', indexed(1, "Received\x00\x00")}},
			received + raw, "it deletes Received 1",
		},
		"replace the body": {
			[]said{{'b', "New\r\nbo"}, {'b', "dy\r"}, {'b', "\n\r"}, {'b', ""}, {'b', "\n.\r\nend"}},
			received + head + "\r\nNew\r\nbody\r\n\r\n.\r\nend\r\n", "it replaces the body, 13 bytes by 21",
		},
		"replace the body with lines that end otherwise": {
			[]said{{'b', "a\nb\rc\r\r\nd\n\n"}, {'b', "\ne\r"}},
			received + head + "\r\na\r\nb\r\nc\r\n\r\nd\r\n\r\n\r\ne\r\n", "it replaces the body, 13 bytes by 21",
		},
		"replace the body by nothing": {
			[]said{{'b', ""}},
			received + head + "\r\n", "it replaces the body, 13 bytes by 0",
		},
		"fields cannot end the header section": {
			[]said{{'h', "X-A\x00one\r\n\r\nInjected: body\x00"}, {'h', "X-B\x00one\nX-Injected: yes\x00"}, {'i', indexed(0, "X-C\x00a\r\n \r\n\tb\x01\x7f\r\n\x00")}},
			"X-C: a\r\n\tb??\r\n" + received + head + "X-A: one Injected: body\r\nX-B: one X-Injected: yes\r\n" + body,
			"it adds X-A, it adds X-B, it inserts X-C at 0",
		},
		"all at once": {
			[]said{
				{'b', "Body\r\n"}, {'m', indexed(1, "Subject\x00[spam] x\x00")}, {code: 'p'}, {'b', "more\r\n"}, {'h', "X-Z\x00z\x00"}, {'m', indexed(1, "To\x00\x00")},
			},
			received + "From: Alice <alice@example.org>\r\nX-Twice: one\r\nSubject: [spam] x\r\nX-Twice: two\r\nX-Z: z\r\n\r\nBody\r\nmore\r\n",
			"it changes Subject 1, it adds X-Z, it deletes To 1, it replaces the body, 13 bytes by 12",
		},
	}
	for name, test := range tests {
		for _, last := range []byte("ac") {
			t.Run(name+", then "+string(last), func(t *testing.T) {
				t.Parallel()
				s := &scripted{answers: map[byte][]said{'E': append(append([]said{}, test.changes...), said{code: last})}}
				tx := newTransaction(t, raw)
				v, err := newHandler(t, s.start(t)).Handle(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, text(t, tx)); diff != "" {
					t.Errorf("message (-want +got):\n%s", diff)
				}
				want := map[byte]string{'a': "it accepts at end of message", 'c': "it has no objection"}[last]
				if test.reason != "" {
					want += "; " + test.reason
				}
				if got := withoutDuration(t, v.Reason); v.Action != mail.ActionContinue || got != want {
					t.Errorf("%v: %q, want %q", v.Action, got, want)
				}
			})
		}
	}
}

// TestLeadingSpace: where the milter wants values as they are, it gives them so.
func TestLeadingSpace(t *testing.T) {
	t.Parallel()
	s := &scripted{agree: agreed(6, offeredActions, wire.OptHeaderLeadingSpace, ""), answers: map[byte][]said{'E': {
		{'i', indexed(0, "X-One\x00 a\x00")}, {'i', indexed(0, "X-None\x00a\x00")}, {'h', "X-Fold\x00\r\n\tb\x00"}, {'m', indexed(1, "To\x00  x\x00")}, {code: 'c'},
	}}}
	tx := newTransaction(t, "From: a@example.org\r\nTo:y\r\n\r\nHi\r\n")
	if _, err := newHandler(t, s.start(t)).Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	want := "X-None:a\r\nX-One: a\r\n" + received + "From: a@example.org\r\nTo:  x\r\nX-Fold:\r\n\tb\r\n\r\nHi\r\n"
	if diff := cmp.Diff(want, text(t, tx)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// TestStrayLines: lines that are no fields are the beginning of the body.
func TestStrayLines(t *testing.T) {
	t.Parallel()
	const content = "From: a@example.org\r\nno field\r\nTo: b@example.test\r\n\r\nBody\r\n"
	for name, test := range map[string]struct {
		change said
		want   string
	}{
		"a field is added in front": {said{'h', "X-A\x00a\x00"}, received + "From: a@example.org\r\nX-A: a\r\nno field\r\nTo: b@example.test\r\n\r\nBody\r\n"},
		"the body is replaced":      {said{'b', "New\r\n"}, received + "From: a@example.org\r\n\r\nNew\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[byte][]said{'E': {test.change, {code: 'c'}}}}
			tx := newTransaction(t, content)
			if _, err := newHandler(t, s.start(t)).Handle(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, text(t, tx)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEnvelope has a milter change whom the message is from and for.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	const user = "user@example.test"
	tests := map[string]struct {
		changes  []said
		from     string
		to       []string
		added    []string
		want     mail.Verdict
		decision byte
	}{
		"null reverse-path":  {[]said{{'e', "<>\x00"}}, "", []string{user}, nil, mail.Continue("it has no objection; it changes the reverse-path to <>"), 'c'},
		"bare reverse-path":  {[]said{{'e', "new@example.net\x00"}}, "new@example.net", []string{user}, nil, mail.Continue("it has no objection; it changes the reverse-path to <new@example.net>"), 'c'},
		"add":                {[]said{{'+', "<bob@example.test>\x00"}, {'2', "<carol@EXAMPLE.test>\x00NOTIFY=NEVER\x00"}}, "sender1@example.org", []string{user}, []string{"bob@example.test", "carol@example.test"}, mail.Continue("it has no objection; it adds the recipient bob@example.test, it adds the recipient carol@example.test"), 'c'},
		"add who is there":   {[]said{{'+', "<" + user + ">\x00"}}, "sender1@example.org", []string{user}, nil, mail.Continue("it has no objection; it adds the recipient " + user), 'c'},
		"delete who is not":  {[]said{{'-', "<bob@example.test>\x00"}}, "sender1@example.org", []string{user}, nil, mail.Continue("it has no objection; it deletes the recipient bob@example.test"), 'c'},
		"delete all":         {[]said{{'-', "<" + user + ">\x00"}}, "sender1@example.org", nil, nil, mail.Discard("it has deleted all recipients; it has no objection; it deletes the recipient " + user), 'c'},
		"replace":            {[]said{{'-', "<" + user + ">\x00"}, {'+', "<bob@example.test>\x00"}}, "sender1@example.org", nil, []string{"bob@example.test"}, mail.Continue("it accepts at end of message; it deletes the recipient " + user + ", it adds the recipient bob@example.test"), 'a'},
		"add and take back":  {[]said{{'+', "<bob@example.test>\x00"}, {'-', "<" + user + ">\x00"}, {'-', "<bob@example.test>\x00"}}, "sender1@example.org", nil, nil, mail.Discard("it has deleted all recipients; it has no objection; it deletes the recipient " + user), 'c'},
		"quarantine":         {[]said{{'q', "looks \x1b[1m odd\x00"}}, "sender1@example.org", []string{user}, nil, mail.Quarantine("it has put the message into quarantine: looks ?[1m odd; it has no objection"), 'c'},
		"quarantine, reject": {[]said{{'q', "odd\x00"}, {'-', "<" + user + ">\x00"}}, "sender1@example.org", []string{user}, nil, mail.Reject(mail.Reply{}, "it refuses at end of message"), 'r'},
		"changes, discard":   {[]said{{'h', "X-A\x00a\x00"}, {'e', "<>\x00"}}, "sender1@example.org", []string{user}, nil, mail.Discard("it discards at end of message"), 'd'},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[byte][]said{'E': append(append([]said{}, test.changes...), said{code: test.decision})}}
			tx := newTransaction(t, raw)
			v, err := newHandler(t, s.start(t)).Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			v.Reason = withoutDuration(t, v.Reason)
			if name == "add and take back" {
				v.Reason = v.Reason[:len(test.want.Reason)-len(user)-len("deletes the recipient ")] + "deletes the recipient " + user
			}
			if diff := cmp.Diff(test.want, v); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			var to, added []string
			for _, r := range tx.Envelope.Recipients {
				to = append(to, r.Address.String())
			}
			for _, a := range tx.AddedRecipients() {
				added = append(added, a.String())
			}
			if from := tx.Envelope.ReversePath.String(); from != test.from || !cmp.Equal(to, test.to) || !cmp.Equal(added, test.added) {
				t.Errorf("from %q to %q, and %q added", from, to, added)
			}
			if text(t, tx) != received+raw {
				t.Error("the message has changed")
			}
		})
	}
}

// TestFaults has milters that break the protocol. The error says how, and the
// transaction is as it was.
func TestFaults(t *testing.T) {
	t.Parallel()
	end := func(changes ...said) map[byte][]said { return map[byte][]said{'E': append(changes, said{code: 'c'})} }
	tests := map[string]struct {
		agree   said
		answers map[byte][]said
		want    string
	}{
		"not a milter":               {agree: said{'x', "y"}, want: "option negotiation: it answers with the unknown code 'x'; is it a milter"},
		"short agreement":            {agree: said{'O', "\x00\x00\x00\x06"}, want: "its answer has 4 bytes"},
		"long agreement":             {agree: said{'O', strings.Repeat("x", 64<<10)}, want: `it sends OPTNEG ('O') with 65536 bytes, and 32768 are the most`},
		"old version":                {agree: agreed(1, 0, 0, ""), want: "it speaks version 1, and this server 2 to 6"},
		"new version":                {agree: agreed(7, 0, 0, ""), want: "it speaks version 7"},
		"unknown actions":            {agree: agreed(6, 1<<20, 0, ""), want: "it wants the actions 0x100000, which were not offered"},
		"unknown flags":              {agree: agreed(6, 0, 1<<28, ""), want: "it wants the protocol flags 0x10000000"},
		"unknown answer":             {answers: map[byte][]said{'M': {{code: 'z'}}}, want: "MAIL: it answers with the unknown code 'z', which is no decision"},
		"change too early":           {answers: map[byte][]said{'N': {{'h', "X-A\x00b\x00"}}}, want: "end of header: it answers with ADDHEADER ('h'), which is no decision"},
		"SKIP not in the body":       {answers: map[byte][]said{'L': {{code: 's'}}}, want: "header: it answers with SKIP ('s'), which it may not here"},
		"SHUTDOWN":                   {answers: map[byte][]said{'H': {{code: '4'}}}, want: "HELO: it answers with SHUTDOWN ('4'): it wants the connection to be closed"},
		"CONN_FAIL":                  {answers: map[byte][]said{'C': {{code: 'f'}}}, want: "connect: it answers with CONN_FAIL ('f')"},
		"no reply":                   {answers: map[byte][]said{'R': {{'y', "\x00"}}}, want: `RCPT: REPLYCODE ('y'): "" is no reply`},
		"reply 250":                  {answers: map[byte][]said{'R': {{'y', "250 OK\x00"}}}, want: `REPLYCODE ('y'): "250 OK" does not begin with a code of 4xx or 5xx`},
		"reply without a code":       {answers: map[byte][]said{'R': {{'y', "no way\x1b\x00"}}}, want: `"no way?" does not begin`},
		"reply without an end":       {answers: map[byte][]said{'R': {{'y', strings.Repeat("5", 40_000)}}}, want: "with 40000 bytes"},
		"progress with a load":       {answers: map[byte][]said{'R': {{'p', strings.Repeat("x", 40_000)}}}, want: "PROGRESS ('p') with 40000 bytes"},
		"change that was not agreed": {agree: agreed(6, wire.OptAddHeader, 0, ""), answers: end(said{'b', "x"}), want: "it sends REPLBODY ('b'), and did not say in the negotiation that it may"},
		"field without a value":      {answers: end(said{'h', "X-A\x00value"}), want: "ADDHEADER ('h'): the value of the field is missing"},
		"field without an end":       {answers: end(said{'h', "X-A"}), want: "a string in it has no end"},
		"field without an index":     {answers: end(said{'i', "X"}), want: "INSHEADER ('i'): it has no index"},
		"index 0":                    {answers: end(said{'m', indexed(0, "X-A\x00b\x00")}), want: "CHGHEADER ('m'): its index is 0"},
		"name with a line":           {answers: end(said{'h', "X-A\r\nX-B\x00b\x00"}), want: `field "X-A??X-B": a name has`},
		"name with a colon":          {answers: end(said{'i', indexed(0, "X:Y\x00b\x00")}), want: "and no colon"},
		"name of nothing":            {answers: end(said{'i', indexed(0, "\x00b\x00")}), want: `field "": a name has`},
		"endless name":               {answers: end(said{'h', strings.Repeat("x", 999) + "\x00b\x00"}), want: "a name has 1 to 998"},
		"address":                    {answers: end(said{'h', "X-A\x00b\x00"}, said{'+', "<bob>\x00"}), want: `ADDRCPT ('+'): address "<bob>": not an address`},
		"address without an end":     {answers: end(said{'-', "<bob@example.test\x00"}), want: `DELRCPT ('-'): address "<bob@example.test": not an address`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{agree: test.agree, answers: test.answers}
			if len(test.agree.data) < 12 && test.agree.code != 0 {
				address := listen(t, answersOnce(test.agree.bytes()))
				mustFail(t, newHandler(t, address), test.want)
				return
			}
			mustFail(t, newHandler(t, s.start(t)), test.want)
		})
	}
}

// mustFail has a message judged, which must end in an error and change nothing.
func mustFail(t *testing.T, h *Milter, want string) {
	t.Helper()
	h.MaxBody = 64 << 10
	tx := newTransaction(t, raw)
	before := *tx
	v, err := h.Handle(t.Context(), tx)
	if err == nil {
		t.Fatalf("verdict %+v, want an error", v)
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), h.Address.String()) {
		t.Errorf("error %q, want one with %q and the address", err, want)
	}
	if shown := err.Error(); shown != mail.Printable(shown, 512) {
		t.Errorf("the error is not fit for the trace: %q", shown)
	}
	if tx.Message != before.Message || tx.Envelope.ReversePath != before.Envelope.ReversePath || len(tx.Envelope.Recipients) != 1 ||
		len(tx.AddedRecipients()) > 0 || text(t, tx) != received+raw {
		t.Error("the transaction has changed")
	}
	if files, err := os.ReadDir(h.spoolDir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// TestBytes has milters that say something other than packets, or go away.
func TestBytes(t *testing.T) {
	t.Parallel()
	ok := string(full.bytes())
	tests := map[string]struct{ raw, want string }{
		"nothing":          {"", "option negotiation: EOF: it has closed the connection"},
		"half a packet":    {"\x00\x00\x00\x0dO\x00", "option negotiation: unexpected EOF"},
		"no size":          {"\x00\x00\x00\x00O", "it sends a packet of 0 bytes"},
		"an SMTP server":   {"220 mx.example.test ESMTP\r\n", `it sends a packet of 842149920 bytes, beginning with "220 m"; is it a milter`},
		"much of anything": {strings.Repeat("\xff", 1<<20), "it sends a packet of 4294967295 bytes"},
		"gone after that":  {ok, "connect: EOF: it has closed the connection"},
		"half an answer":   {ok + "\x00\x00\x00\x09y", "connect: unexpected EOF"},
		"a huge answer":    {ok + "\x03\x00\x00\x00y", "connect: it sends REPLYCODE ('y') with 50331647 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustFail(t, newHandler(t, listen(t, answersOnce([]byte(test.raw)))), test.want)
		})
	}
}

// TestHangs: a milter that hangs at some step holds nobody for longer than the time
// limit.
func TestHangs(t *testing.T) {
	t.Parallel()
	for code, step := range map[byte]string{'O': "option negotiation", 'C': "connect", 'B': "body", 'E': "end of message", 'p': "end of message"} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			at, reached := hanging(t, code)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { <-reached; cancel() }()
			_, err := newHandler(t, at).Handle(ctx, newTransaction(t, "From: a@example.org\r\n\r\n"+strings.Repeat("some text\r\n", 1_000_000)))
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), step+": ") {
				t.Errorf("error %v, want one of the step %s", err, step)
			}
		})
	}
	at, _ := hanging(t, 'O')
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newHandler(t, at).Handle(ctx, newTransaction(t, raw)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline's", err)
	}
}

// TestBrokenMessage: a message that cannot be read is not the milter's fault.
func TestBrokenMessage(t *testing.T) {
	t.Parallel()
	spool := mail.NewSpool(t.TempDir(), 0)
	fmt.Fprint(spool, raw)
	m, err := spool.Message()
	if err != nil {
		t.Fatal(err)
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	tx := newTransaction(t, raw)
	tx.Message = m
	_, err = newHandler(t, new(scripted).start(t)).Handle(t.Context(), tx)
	if !errors.Is(err, errLocal) || !errors.Is(err, os.ErrClosed) || strings.Contains(err.Error(), "ask the milter") {
		t.Errorf("error %v", err)
	}
}

// TestNoRoom: a body that there is no room for defers the message.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[byte][]said{'E': {{'b', strings.Repeat("x", 60_000)}, {code: 'c'}}}}
	h := newHandler(t, s.start(t))
	h.room = 50_000
	tx := newTransaction(t, raw)
	v, err := h.Handle(t.Context(), tx)
	if want := mail.NewReply(452, 3, 1, "Insufficient system storage, try again later"); err != nil || v.Reply != want || !strings.Contains(v.Reason, "too many large messages") {
		t.Errorf("%+v, %v", v, err)
	}
	if text(t, tx) != received+raw {
		t.Error("the message has changed")
	}
}
