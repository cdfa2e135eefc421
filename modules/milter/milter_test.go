package milter

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	wire "github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// TestTells holds what a milter is told against the protocol, packet by packet.
func TestTells(t *testing.T) {
	t.Parallel()
	s := new(scripted)
	h := newHandler(t, s.start(t))
	tx := newTransaction(t, raw)
	tx.AddHeaderField("Authentication-Results", "mx.example.test; none")
	tx.Envelope.Size, tx.Envelope.SMTPUTF8 = 4711, true
	tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{Address: address(t, "carol@example.org"), Target: "relay"})
	tx.Session.User = "alice@example.org"
	tx.Session.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	tx.SetAuthResult(mail.AuthResult{Method: "iprev", Result: "pass", Reason: "client.example.org"})
	v, err := h.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if got := withoutDuration(t, v.Reason); v.Action != mail.ActionContinue || got != "it has no objection" {
		t.Errorf("%v: %q", v.Action, got)
	}
	var got []string
	for _, p := range s.heard() {
		if p.code != 'D' {
			got = append(got, p.String())
		}
	}
	want := []string{
		fmt.Sprintf("O %q", "\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"),
		`C "client.example.org\x004\x12g192.0.2.1\x00"`,
		`H "client.example.org\x00"`,
		`M "<sender1@example.org>\x00SIZE=4711\x00SMTPUTF8\x00"`,
		`R "<user@example.test>\x00"`,
		`R "<carol@example.org>\x00"`,
		`T ""`,
		`L "Authentication-Results\x00mx.example.test; none\x00"`,
		`L "From\x00Alice <alice@example.org>\x00"`,
		`L "To\x00bob@example.test\x00"`,
		`L "X-Twice\x00one\x00"`,
		`L "Subject\x00folded\n\tsubject\x00"`,
		`L "X-Twice\x00two\x00"`,
		`N ""`,
		`B "Hello.\r\nBob\r\n"`,
		`E ""`,
		`Q ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it is told (-want +got):\n%s", diff)
	}
	macros := map[string]string{
		"j": "mx.example.test", "{daemon_name}": "one", "v": "mox-like", "_": "client.example.org [192.0.2.1]",
		"{client_addr}": "192.0.2.1", "{client_name}": "client.example.org", "{client_ptr}": "client.example.org", "{client_port}": "4711",
		"{daemon_addr}": "203.0.113.25", "{daemon_port}": "25", "{if_addr}": "203.0.113.25", "{if_name}": "mx.example.test",
		"{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_128_GCM_SHA256", "{cipher_bits}": "128",
		"i": "message1", "b": "Sun, 01 Nov 2026 12:00:00 +0000", "{mail_addr}": "sender1@example.org", "{mail_host}": "example.org", "{mail_mailer}": "esmtp",
		"{auth_authen}": "alice@example.org", "{auth_type}": "SASL",
		"{rcpt_addr}": "carol@example.org", "{rcpt_host}": "example.org", "{rcpt_mailer}": "esmtp", // the last one's
	}
	if diff := cmp.Diff(macros, s.macros()); diff != "" {
		t.Errorf("macros (-want +got):\n%s", diff)
	}
	if got, want := text(t, tx), "Authentication-Results: mx.example.test; none\r\n"+received+raw; got != want {
		t.Errorf("the message has changed:\n%s", got)
	}
}

// TestTellsWhatIsUnknown: a client without a name, over IPv6, with the null
// reverse-path, a message with a line that is no field.
func TestTellsWhatIsUnknown(t *testing.T) {
	t.Parallel()
	s := &scripted{agree: agreed(6, offeredActions, wire.OptHeaderLeadingSpace|wire.OptNoBodyReply|wire.OptNoHeaderReply|wire.OptNoConnReply, "\x00\x00\x00\x01j i\x00")}
	h := newHandler(t, s.start(t))
	h.host.daemon = "ORIGINATING"
	tx := newTransaction(t, "From:  a@example.org\r\nno field\r\nTo: b@example.test\r\n\r\nBody\r\n")
	tx.Session.RemoteAddr = netip.MustParseAddrPort("[2001:db8::1%eth0]:25")
	tx.Envelope.ReversePath = mail.Address{}
	if _, err := h.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range s.heard() {
		if strings.IndexByte("CMLB", p.code) >= 0 {
			got = append(got, p.String())
		}
	}
	want := []string{
		`C "unknown\x006\x00\x192001:db8::1\x00"`, `M "<>\x00"`, `L "From\x00  a@example.org\x00"`,
		`B "no field\r\nTo: b@example.test\r\n\r\nBody\r\n"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it is told (-want +got):\n%s", diff)
	}
	m := s.macros()
	if m["{client_name}"] != "unknown" || m["_"] != "unknown [2001:db8::1]" || m["{daemon_name}"] != "ORIGINATING" {
		t.Errorf("macros %v", m)
	}
	for _, name := range []string{"{mail_addr}", "{auth_authen}", "{auth_type}", "{tls_version}"} {
		if v, ok := m[name]; ok {
			t.Errorf("%s is %q", name, v)
		}
	}
}

// TestSkips: a milter is not told what it does not want, but always of the end.
func TestSkips(t *testing.T) {
	t.Parallel()
	for _, version := range []uint32{2, 6} {
		all := wire.OptNoConnect | wire.OptNoHelo | wire.OptNoMailFrom | wire.OptNoRcptTo | wire.OptNoBody | wire.OptNoHeaders | wire.OptNoEOH
		if version == 6 {
			all |= wire.OptNoData
		}
		s := &scripted{agree: agreed(version, 0, all, "")}
		if _, err := newHandler(t, s.start(t)).Handle(t.Context(), newTransaction(t, raw)); err != nil {
			t.Fatal(err)
		}
		codes := ""
		for _, p := range s.heard() {
			if p.code != 'D' {
				codes += string(p.code)
			}
		}
		if want := map[uint32]string{2: "OTEQ", 6: "OEQ"}[version]; codes != want {
			t.Errorf("version %d: it is told %s, want %s", version, codes, want)
		}
	}
}

// TestDecisions has a milter decide each way at each step.
func TestDecisions(t *testing.T) {
	t.Parallel()
	reply := func(code, subject, detail int, text string) mail.Reply {
		return mail.NewReply(code, subject, detail, text)
	}
	answers := map[string]struct {
		say  said
		want mail.Verdict
	}{
		"accept":   {said{code: 'a'}, mail.Continue("it accepts at ")},
		"reject":   {said{code: 'r'}, mail.Reject(mail.Reply{}, "it refuses at ")},
		"tempfail": {said{code: 't'}, mail.Defer(mail.Reply{}, "it refuses for now at ")},
		"discard":  {said{code: 'd'}, mail.Discard("it discards at ")},
		"550":      {said{'y', "550 5.7.26 Go  away, 100%% sure\x00"}, mail.Reject(reply(550, 7, 26, "Go away, 100% sure"), "it refuses at : 550 5.7.26 Go away, 100% sure")},
		"no codes": {said{'y', "554 no\x00"}, mail.Reject(reply(554, 7, 1, "no"), "it refuses at : 554 5.7.1 no")},
		"other class": {
			said{'y', "451 5.1.1 Later\x00"},
			mail.Defer(reply(451, 7, 1, "5.1.1 Later"), "it refuses at : 451 4.7.1 5.1.1 Later"),
		},
		"lines": {
			said{'y', "550-5.7.1 One\r\n550-5.7.1 two\r\n550 5.7.1 three\x00"},
			mail.Reject(reply(550, 7, 1, "One two three"), "it refuses at : 550 5.7.1 One two three"),
		},
		"hostile": {
			said{'y', "451 4.7.1 a\x1b[2Jb\r\n250 OK \xff\x00"},
			mail.Defer(reply(451, 7, 1, "a?[2Jb 250 OK ?"), "it refuses at : 451 4.7.1 a?[2Jb 250 OK ?"),
		},
		"code alone": {said{'y', "451"}, mail.Defer(reply(451, 7, 1, "Refused by a mail filter"), "it refuses at : 451 4.7.1 Refused by a mail filter")},
		"421":        {said{'y', "421 4.3.2 Closing\x00"}, mail.Defer(reply(421, 3, 2, "Closing"), "it refuses at : 421 4.3.2 Closing")},
	}
	steps := map[byte]string{'C': "connect", 'H': "HELO", 'M': "MAIL", 'R': "RCPT", 'T': "DATA", 'L': "header", 'N': "end of header", 'B': "body", 'E': "end of message"}
	for name, test := range answers {
		for code, step := range steps {
			for _, stage := range []mail.Stage{mail.StageRcpt, mail.StageData} {
				if stage == mail.StageRcpt && strings.IndexByte("CHMR", code) < 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s at %s, %s stage", name, step, stage), func(t *testing.T) {
					t.Parallel()
					s := &scripted{answers: map[byte][]said{code: {{code: 'p'}, test.say}}}
					tx := newTransaction(t, raw)
					if tx.Stage = stage; stage == mail.StageRcpt {
						tx.Message, tx.Recipient, tx.Envelope.Recipients = nil, tx.Envelope.Recipients[0], nil
					}
					got, err := newHandler(t, s.start(t)).Handle(t.Context(), tx)
					if err != nil {
						t.Fatal(err)
					}
					at := "at " + step
					if code == 'R' && test.want.Action != mail.ActionContinue && test.want.Action != mail.ActionDiscard {
						at += " of user@example.test"
					}
					want := test.want
					want.Reason = strings.Replace(want.Reason, "at ", at, 1)
					got.Reason = withoutDuration(t, got.Reason)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("verdict (-want +got):\n%s", diff)
					}
					if stage == mail.StageData && text(t, tx) != received+raw {
						t.Error("the message has changed")
					}
					told := s.heard()
					if last := told[len(told)-2]; last.code != code {
						t.Errorf("behind the decision it is told %s", last)
					}
				})
			}
		}
	}
}

// TestRecipientStage: the milter is told up to one recipient, and that nothing follows.
func TestRecipientStage(t *testing.T) {
	t.Parallel()
	s := new(scripted)
	tx := newTransaction(t, raw)
	tx.Stage, tx.Message = mail.StageRcpt, nil
	tx.Recipient = &mail.Recipient{Address: address(t, "bob@example.test")}
	v, err := newHandler(t, s.start(t)).Handle(t.Context(), tx)
	if err != nil || v.Action != mail.ActionContinue {
		t.Fatal(v, err)
	}
	codes := ""
	for _, p := range s.heard() {
		if p.code == 'R' && p.data != "<bob@example.test>\x00" {
			t.Errorf("it is asked about %q", p.data)
		}
		if p.code != 'D' {
			codes += string(p.code)
		}
	}
	if codes != "OCHMRAQ" {
		t.Errorf("it is told %s", codes)
	}
}

// TestOneOfSeveral: who is refused at the data stage is named.
func TestOneOfSeveral(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[byte][]said{'R': {{code: 'r'}}}}
	tx := newTransaction(t, raw)
	tx.Envelope.Recipients = append(tx.Envelope.Recipients, &mail.Recipient{Address: address(t, "carol@example.test")})
	v, err := newHandler(t, s.start(t)).Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	want := `it refuses at RCPT of user@example.test, and so the message to all 2; with stage = ["rcpt", "data"] it can refuse single ones`
	if got := withoutDuration(t, v.Reason); v.Action != mail.ActionReject || got != want {
		t.Errorf("%v: %s", v.Action, got)
	}
}

// TestSkipsRestOfBody: after SKIP no more of the body is sent.
func TestSkipsRestOfBody(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[byte][]said{'B': {{code: 's'}}}}
	tx := newTransaction(t, "From: a@example.org\r\n\r\n"+strings.Repeat("some text\r\n", 100_000))
	if v, err := newHandler(t, s.start(t)).Handle(t.Context(), tx); err != nil || v.Action != mail.ActionContinue {
		t.Fatal(v, err)
	}
	chunks := 0
	for _, p := range s.heard() {
		if p.code == 'B' {
			chunks++
		}
	}
	if chunks != 1 {
		t.Errorf("%d chunks are sent", chunks)
	}
}

// TestMemoryStaysFlat: 25 MB through a milter that replaces the body by 25 MB of its
// own.
func TestMemoryStaysFlat(t *testing.T) {
	const size = 25 << 20
	dir := t.TempDir()
	spool := mail.NewSpool(dir, 256<<10)
	line := strings.Repeat("x", 76) + "\r\n"
	if _, err := io.WriteString(spool, "From: a@example.org\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for spool.Size() < size {
		if _, err := io.WriteString(spool, line); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = spool.Close() }()
	m, err := spool.Message()
	if err != nil {
		t.Fatal(err)
	}
	piece := said{'b', strings.Repeat(strings.Repeat("y", 62)+"\r\n", 1000)}.bytes()
	discard := make([]byte, 64<<10)
	at := listen(t, func(conn net.Conn) {
		serveLarge(conn, discard, piece, size)
	})
	h := newHandler(t, at)
	tx := newTransaction(t, raw)
	tx.Message = m
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v, err := h.Handle(t.Context(), tx)
	runtime.ReadMemStats(&after)
	if err != nil || v.Action != mail.ActionContinue {
		t.Fatal(v, err)
	}
	used := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes were allocated: %s", used, v.Reason)
	if used > 2<<20 {
		t.Errorf("a message of %d bytes allocates %d bytes", size, used)
	}
	if got := tx.Message.OpenBody().Size(); got < size || got > size+int64(len(piece)) {
		t.Errorf("the new body has %d bytes", got)
	}
	first := make([]byte, 64)
	if _, err := io.ReadFull(tx.Message.OpenBody(), first); err != nil || string(first) != strings.Repeat("y", 62)+"\r\n" {
		t.Errorf("the new body begins with %q, %v", first, err)
	}
	if err := tx.Release(); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(h.spoolDir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// TestLongFields: what would not fit into a packet of libmilter's is cut for the
// milter, and left in the message.
func TestLongFields(t *testing.T) {
	t.Parallel()
	s := new(scripted)
	content := "X-Long: " + strings.Repeat("x", 100_000) + "\r\n" + strings.Repeat("n", 20_000) + ": y\r\n\r\nHi\r\n"
	tx := newTransaction(t, content)
	if _, err := newHandler(t, s.start(t)).Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for _, p := range s.heard() {
		if p.code == 'L' {
			sizes = append(sizes, len(p.data))
		}
	}
	if diff := cmp.Diff([]int{65535, 998 + 3}, sizes); diff != "" {
		t.Errorf("sizes of the packets (-want +got):\n%s", diff)
	}
	if text(t, tx) != received+content {
		t.Error("the message has changed")
	}
}
