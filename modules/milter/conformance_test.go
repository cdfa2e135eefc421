package milter

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func block(address any, settings ...string) string {
	return fmt.Sprintf("milter {\naddress = %q\n%s\n}", fmt.Sprint(address), strings.Join(settings, "\n"))
}

func TestConformance(t *testing.T) {
	sound := listen(t, new(scripted).noted().serve)
	bad := []coretest.Bad{
		{Config: "milter {}"},
		{Config: block("/run/milter.sock"), Attribute: "address"},
		{Config: block("inet:8891@localhost"), Attribute: "address"},
		{Config: block("unix:/" + strings.Repeat("x", 107)), Attribute: "address"},
		{Config: block(sound, "max_connections = 0"), Attribute: "max_connections"},
		{Config: block(sound, `connect_timeout = "0s"`), Attribute: "connect_timeout"},
		{Config: block(sound, `max_body = "1B"`), Attribute: "max_body"},
		{Config: block(sound, `daemon_name = "a\u0007"`), Attribute: "daemon_name"},
		{Config: block(sound, `stage = "mail"`), Attribute: "stage"},
	}
	hanging := block("tcp:" + coretest.Faulty(t, coretest.FaultHanging, "").Address)
	for _, decision := range []said{{code: 'c'}, {code: 'a'}, {code: 'd'}, {code: 'r'}, {'y', "451 4.7.1 Later\x00"}} {
		for _, stage := range []string{`stage = "data"`, `stage = ["rcpt", "data"]`} {
			s := new(scripted).noted()
			s.answers = map[byte][]said{'R': {decision}}
			if stage == `stage = "data"` {
				s.answers = map[byte][]said{'E': {{'i', indexed(0, "X-Seen\x00yes\x00")}, {'q', strings.Repeat("odd ", 300) + "\x00"}, decision}}
			}
			coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.milter", Config: block(listen(t, s.serve), stage), Bad: bad, Hanging: hanging, Rounds: 4})
			bad, hanging = nil, "" // once is enough
		}
	}
}

// noted has the scripted milter agree to everything.
func (s *scripted) noted() *scripted {
	s.agree = full
	return s
}

// TestFailures has each fault of a backend meet each on_error.
func TestFailures(t *testing.T) {
	t.Parallel()
	answer := string(agreed(6, wire.OptAddHeader, 0, "").bytes())
	for _, fault := range coretest.Faults {
		for policy, want := range map[string]string{"continue": "250 *", "defer": "451 4.3.0 *", "reject": "550 5.7.1 *"} {
			t.Run(string(fault)+", "+policy, func(t *testing.T) {
				t.Parallel()
				b := coretest.Faulty(t, fault, answer)
				settings := []string{fmt.Sprintf("on_error = %q", policy), `timeout = "200ms"`}
				s := coretest.Serve(t, coretest.Base+fmt.Sprintf("listener \"smtp\" \"mx\" {\naddress = \"127.0.0.1:0\"\ntls = \"off\"\nchain {\n%s\nkeep {}\n}\n}\n", block("tcp:"+b.Address, settings...)), coretest.Options{})
				coretest.Dialog(t, coretest.Address(t, s, "mx"), dialog("fails@example.test", "From: a@example.org\r\n\r\nHi\r\n", want))
				records, err := s.Traces().Last(t.Context(), 1)
				if err != nil || len(records) != 1 {
					t.Fatal(records, err)
				}
				e := records[0].Entries[0]
				for _, e = range records[0].Entries {
					if e.Handler == "milter" {
						break
					}
				}
				if e.Note != chain.NoteError && e.Note != chain.NoteTimeout || !strings.Contains(e.Reason, b.Address) {
					t.Errorf("the trace says %+v", e)
				}
			})
		}
	}
}

// TestParallel: what rewrites does not stand in parallel.
func TestParallel(t *testing.T) {
	t.Parallel()
	suite := coretest.Base + "listener \"smtp\" \"mx\" {\naddress = \"127.0.0.1:0\"\ntls = \"off\"\nchain {\nparallel {\n" + block("tcp:127.0.0.1:1") + "\n" +
		strings.Replace(block("tcp:127.0.0.1:2"), "milter {", "milter \"other\" {", 1) + "\n}\nkeep {}\n}\n}\n"
	if err := validate(t, suite); !strings.Contains(err, "milter may change what becomes of the message and cannot stand in parallel") {
		t.Errorf("validate says %s", err)
	}
}

// TestBehindSigner: a milter behind dkim_sign is warned of.
func TestBehindSigner(t *testing.T) {
	t.Parallel()
	source := coretest.Base + "tls \"self_signed\" {}\nlistener \"smtp\" \"mx\" {\naddress = \"127.0.0.1:0\"\ntls = \"implicit\"\nauth = \"required\"\nchain {\npassword {}\ndkim_sign {}\n" +
		block("tcp:127.0.0.1:1") + "\nkeep {}\n}\n}\n"
	if err := validate(t, source); !strings.Contains(err, "milter changes the message behind dkim_sign, which has signed it") {
		t.Errorf("validate says %s", err)
	}
}

// TestCongestion: messages that wait too long are deferred, whatever on_error is.
func TestCongestion(t *testing.T) {
	t.Parallel()
	h := newHandler(t, new(scripted).start(t))
	for range h.MaxConnections {
		if err := h.gate.Enter(t.Context(), netip.MustParsePrefix("192.0.2.7/32")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
	defer cancel()
	v, err := h.Handle(ctx, newTransaction(t, raw))
	if want := mail.NewReply(451, 3, 2, "Mail filter is busy, try again later"); err != nil || v.Reply != want || !strings.Contains(v.Reason, "max_connections") {
		t.Errorf("%+v, %v; want %v", v, err, want)
	}
	h.gate.Leave()
	if v, err := h.Handle(t.Context(), newTransaction(t, raw)); err != nil || v.Action != mail.ActionContinue {
		t.Errorf("after the crowd: %+v, %v", v, err)
	}
}

// validate gives what is wrong with a configuration.
func validate(t *testing.T, source string) string {
	t.Helper()
	ds, _ := core.Validate(core.Options{ConfigFile: "test.hcl", Source: []byte(source), DataDir: t.TempDir()})
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.Summary + "\n")
	}
	return b.String()
}
