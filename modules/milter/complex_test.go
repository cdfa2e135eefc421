package milter

import (
	"slices"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// tooMuch are changes that cannot all be made, with what the reason says.
func tooMuch() map[string]struct {
	changes []said
	want    string
} {
	return map[string]struct {
		changes []said
		want    string
	}{
		"fields":          {slices.Repeat([]said{{'h', "X-A\x00b\x00"}}, 1007), "it makes more than 1006 changes"},
		"recipients":      {slices.Repeat([]said{{'+', "<bob@example.test>\x00"}}, 2000), "it makes more than 1006 changes"},
		"megabytes":       {slices.Repeat([]said{{'h', "X-A\x00" + strings.Repeat("b", 200<<10) + "\x00"}}, 6), "its changes have more than 1048"},
		"a huge field":    {[]said{{'h', "X-A\x00" + strings.Repeat("b", 300<<10) + "\x00"}}, "it sends ADDHEADER ('h') with 307205 bytes, and 262144 are the most"},
		"header section":  {slices.Repeat([]said{{'h', "X-A\x00" + strings.Repeat("b", 100<<10) + "\x00"}}, 6), "the message that it makes cannot be: rewritten header section is larger"},
		"body":            {slices.Repeat([]said{{'b', strings.Repeat("x", 30_000)}}, 10), "its new body has more than 65536 bytes, which is max_body"},
		"NUL in the body": {[]said{{'b', "a\x00b" + strings.Repeat("c", 60_000) + "\x00"}, {'b', "d"}}, "its new body has a NUL byte"},
		"reverse-path":    {[]said{{'h', "X-A\x00b\x00"}, {'e', "<SRS0=" + strings.Repeat("a", 60) + "@example.test>\x00"}}, "CHGFROM ('e'): reverse-path: address"},
	}
}

// TestTooComplex: what a milter cannot be let do is no error, for which on_error lets
// the message pass: it is refused, and what the milter has decided holds.
func TestTooComplex(t *testing.T) {
	t.Parallel()
	for name, test := range tooMuch() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle := func(answers ...said) (mail.Verdict, string, *Milter) {
				t.Helper()
				s := &scripted{answers: map[byte][]said{'E': answers}}
				h := newHandler(t, s.start(t))
				h.MaxBody = 64 << 10
				tx := newTransaction(t, raw)
				v := handle(t, h, tx)
				return v, text(t, tx), h
			}
			for _, last := range []byte{'c', 'a'} {
				v, after, h := handle(append(slices.Clone(test.changes), said{code: last})...)
				if want := mail.NewReply(550, 6, 0, "Message is too complex to be filtered"); v.Reply != want || v.Action != mail.ActionReject || !strings.Contains(v.Reason, test.want) || after != received+raw {
					t.Errorf("%c: %v, %s: %s", last, v.Action, v.Reply, v.Reason)
				}
				neverRests(t, h)
			}
			for last, want := range map[byte]mail.Action{'r': mail.ActionReject, 't': mail.ActionDefer, 'd': mail.ActionDiscard} {
				if v, _, _ := handle(append(slices.Clone(test.changes), said{code: last})...); v.Action != want || v.Reply.Code != 0 {
					t.Errorf("%c: %v, %s: %s", last, v.Action, v.Reply, v.Reason)
				}
			}
			for i, list := range [][]said{slices.Insert(slices.Clone(test.changes), 0, said{'q', "virus\x00"}), append(slices.Clone(test.changes), said{'q', "virus\x00"})} {
				v, after, _ := handle(append(list, said{code: 'c'})...)
				if v.Action != mail.ActionQuarantine || !strings.Contains(v.Reason, "quarantine: virus") || !strings.Contains(v.Reason, "not all") || !strings.HasSuffix(after, "\r\n\r\nHello.\r\nBob\r\n") {
					t.Errorf("quarantine %d: %v: %s", i, v.Action, v.Reason)
				}
			}
		})
	}
}

// neverRests has a handler refuse some messages in a chain.
func neverRests(t *testing.T, h *Milter) {
	t.Helper()
	c := chain.New([]*chain.Step{{Name: "milter", Handler: h, Stages: mail.AtData, Breaker: chain.NewBreaker("milter", nil)}}, chain.Options{})
	for n := range 7 {
		tx := newTransaction(t, raw)
		c.Run(t.Context(), mail.StageData, tx)
		if e := tx.Entries[0]; e.Note != "" || e.Action != mail.ActionReject {
			t.Fatalf("message %d: %+v", n, e)
		}
	}
}

// TestFaultInQuarantine: what makes no sense does not take a quarantine back.
func TestFaultInQuarantine(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[byte][]said{'E': {{'+', "<bob>\x00"}, {'h', "X:Y\x00b\x00"}, {'q', "virus\x00"}, {'h', "X-Virus\x00yes\x00"}, {code: 'a'}}}}
	tx := newTransaction(t, raw)
	v := handle(t, newHandler(t, s.start(t)), tx)
	if v.Action != mail.ActionQuarantine || !strings.Contains(v.Reason, `address "<bob>"`) || !strings.Contains(text(t, tx), "X-Virus: yes\r\n") {
		t.Errorf("%v: %s", v.Action, v.Reason)
	}
}

// largest are messages with header sections of the size and the number of fields up to
// which a listener takes them in.
func largest() map[string]string {
	size := "From: a@example.org\r\n" + strings.Repeat("X: "+strings.Repeat("y", 900)+"\r\n", 289)
	size += "Y: " + strings.Repeat("y", mail.MaxHeaderSize-len(size)-len("Y: \r\n\r\n")) + "\r\n"
	return map[string]string{
		"size":   size + "\r\nHi\r\n",
		"fields": "From: a@example.org\r\n" + strings.Repeat("X: y\r\n", mail.MaxHeaderFields-1) + "\r\nHi\r\n",
	}
}

// TestLargestMessages: a milter is shown whatever a listener takes in, and what it
// says is done.
func TestLargestMessages(t *testing.T) {
	t.Parallel()
	for name, content := range largest() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[byte][]said{'E': {{'q', "virus\x00"}, {'h', "X-Virus\x00yes\x00"}, {'m', indexed(1, "X\x00new\x00")}, {code: 'c'}}}}
			tx := newTransaction(t, content)
			v := handle(t, newHandler(t, s.start(t)), tx)
			after := text(t, tx)
			if v.Action != mail.ActionQuarantine || strings.Contains(v.Reason, "not all") || !strings.Contains(after, "X-Virus: yes\r\n") || !strings.Contains(after, "X: new\r\n") {
				t.Errorf("%v: %s", v.Action, v.Reason)
			}
			s = &scripted{answers: map[byte][]said{'E': {{code: 'r'}}}}
			if v = handle(t, newHandler(t, s.start(t)), newTransaction(t, content)); v.Action != mail.ActionReject {
				t.Errorf("refused: %v: %s", v.Action, v.Reason)
			}
			// Each field may be changed, and there may be some more.
			all := slices.Repeat([]said{{'m', indexed(1, "X\x00\x00")}}, strings.Count(content, "\r\nX: "))
			all = append(append(all, slices.Repeat([]said{{'h', "X-A\x00b\x00"}}, 900)...), said{code: 'c'})
			s = &scripted{answers: map[byte][]said{'E': all}}
			tx = newTransaction(t, content)
			v = handle(t, newHandler(t, s.start(t)), tx)
			if after = text(t, tx); v.Action != mail.ActionContinue || strings.Contains(after, "\r\nX: ") || strings.Count(after, "\r\nX-A: b") != 900 {
				t.Errorf("all fields: %v: %s", v.Action, v.Reason)
			}
		})
	}
}

// TestForgedResults has Debian's opendkim take out as many forged results as a message
// can have.
func TestForgedResults(t *testing.T) {
	t.Parallel()
	d := daemon.Run(t, daemon.Milter{Program: "opendkim", Args: []string{"-f", "-x", "DIR/conf"}, Settings: "Mode v\nSocket local:DIR/m.sock\n" +
		"AuthservID mx.example.test\nRequireSafeKeys no\nMaximumHeaders 0\nAlwaysAddARHeader yes\n"})
	const forged = "Authentication-Results: mx.example.test; dkim=pass header.d=a\r\n"
	for _, n := range []int{3, 1010, mail.MaxHeaderFields - 2} {
		tx := newTransaction(t, strings.Repeat(forged, n)+"From: a@example.org\r\nSubject: x\r\n\r\nHi\r\n")
		v := handle(t, newHandler(t, d.Unix), tx)
		after := text(t, tx)
		if v.Action != mail.ActionContinue || strings.Contains(after, forged) || strings.Count(after, "Authentication-Results: ") != 1 {
			t.Errorf("%d forged: %v: %s; %d are left", n, v.Action, v.Reason, strings.Count(after, forged))
		}
	}
}
