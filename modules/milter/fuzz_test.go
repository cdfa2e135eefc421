package milter

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// playback is a connection on which a milter has said all at once.
type playback struct {
	net.Conn
	said io.Reader
}

func (p *playback) Read(b []byte) (int, error)       { return p.said.Read(b) }
func (p *playback) Write(b []byte) (int, error)      { return len(b), nil }
func (p *playback) Close() error                     { return nil }
func (p *playback) SetDeadline(time.Time) error      { return nil }
func (p *playback) SetReadDeadline(time.Time) error  { return nil }
func (p *playback) SetWriteDeadline(time.Time) error { return nil }

// stream is what a milter says, in one piece.
func stream(list ...said) []byte {
	var b []byte
	for _, s := range list {
		b = append(b, s.bytes()...)
	}
	return b
}

// FuzzAnswers has a milter say anything. Whatever it is, the message stays one: the
// header section ends where it ends, and has no more fields than the milter has added;
// an error changes nothing.
func FuzzAnswers(f *testing.F) {
	const nothing = wire.OptNoConnect | wire.OptNoHelo | wire.OptNoMailFrom | wire.OptNoRcptTo | wire.OptNoBody | wire.OptNoHeaders | wire.OptNoEOH | wire.OptNoData
	atEnd := agreed(6, offeredActions, nothing, "")
	for _, changes := range [][]said{
		{},
		{{code: 'p'}, {'h', "X-A\x00b\r\n\r\nc\x00"}},
		{{'i', indexed(0, "X-A\x00b\n\tc\x00")}, {'m', indexed(1, "From\x00\x00")}},
		{{'b', "a\rb\nc\r\n"}, {'b', "\n\r"}},
		{{'+', "<bob@example.test>\x00"}, {'-', "<user@example.test>\x00"}},
		{{'e', "<>\x00"}, {'q', "odd\x00"}},
		{{'2', "<\"a b\"@example.test>\x00NOTIFY=NEVER\x00"}, {'m', indexed(9, "X\x00y\x00")}, {'m', indexed(1, "Received\x00\x00")}},
	} {
		for _, last := range []said{{code: 'c'}, {code: 'd'}, {'y', "550-5.7.1 a\r\n550 5.7.1 b%%\x00"}} {
			f.Add(stream(append(append([]said{atEnd}, changes...), last)...))
		}
	}
	f.Add(stream(append([]said{agreed(6, offeredActions, wire.OptHeaderLeadingSpace|nothing, "\x00\x00\x00\x00j\x00")}, said{'h', "A\x00\tb\x00"}, said{code: 'a'})...))
	f.Add(append(stream(full), bytes.Repeat(said{code: 'c'}.bytes(), 20)...))
	f.Add(append(stream(agreed(2, 0x3f, 0, "")), bytes.Repeat(said{code: 's'}.bytes(), 20)...))
	f.Add([]byte("220 mx.example.test ESMTP\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		h := &Milter{
			MaxBody: 64 << 10, spoolDir: t.TempDir(), budget: new(mail.SpoolBudget), room: spoolLimit,
			host: host{name: "mx.example.test", now: func() time.Time { return noon }, local: func(string) bool { return true }},
		}
		tx := coretest.Transaction(t, mail.StageData, 1)
		tx.AddFieldBelow("Received", "from a\r\n\tid message1;\r\n\tnow")
		before := text(t, tx)
		c := newClient(&playback{said: bytes.NewReader(said)}, backend.Address{})
		defer c.close()
		var verdict mail.Verdict
		err := c.negotiate()
		if err == nil {
			verdict, err = h.message(c, tx)
		}
		after := text(t, tx)
		if err != nil || verdict.Action == mail.ActionReject || verdict.Action == mail.ActionDefer {
			if after != before || len(tx.AddedRecipients()) > 0 || len(tx.Envelope.Recipients) != 1 {
				t.Errorf("changed, though %v, %+v:\n%s", err, verdict, after)
			}
		}
		if text := verdict.Reply.Text; text != printable(text, maxText) || verdict.Reply.Code != 0 && text == "" {
			t.Errorf("reply %+v", verdict.Reply)
		}
		r, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		header, end, err := mail.ParseHeaderSection([]byte(after))
		if err != nil || end != len(r.Head()) || !strings.HasSuffix(string(r.Head()), "\r\n\r\n") && len(header.Fields) > 0 {
			t.Errorf("the header section ends at %d of %d, %v:\n%q", end, len(r.Head()), err, after)
		}
		if most := 6 + bytes.Count(said, []byte{'h'}) + bytes.Count(said, []byte{'i'}) + bytes.Count(said, []byte{'m'}); len(header.Fields) > most {
			t.Errorf("%d fields, and %d are the most:\n%s", len(header.Fields), most, after)
		}
		for _, field := range header.Fields {
			if field.Name == "" || !bytes.HasSuffix(field.Raw, []byte("\r\n")) {
				t.Errorf("%q is no field", field.Raw)
			}
		}
		body := after[end:]
		if strings.Count(body, "\r\n") != strings.Count(body, "\n") || strings.Count(body, "\r\n") != strings.Count(body, "\r") || strings.Contains(body, "\x00") {
			t.Errorf("the body has lines that do not end in CR LF: %q", body)
		}
	})
}
