package imap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// TestOddMessages: whatever strangers send can be fetched, and every response
// can be parsed.
func TestOddMessages(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	odd := []string{
		"",
		"\r\n",
		"no header at all",
		"Subject: only a header\r\n",
		"Subject: bare LF\n\nbody\n",
		"Content-Type: multipart/mixed; boundary=x\r\n\r\nno parts",
		"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--\r\n",
		"Content-Type: multipart/mixed\r\n\r\nno boundary",
		"Content-Type: message/rfc822\r\n\r\n",
		"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=y\r\nSubject: inner\r\n\r\n--y\r\n\r\npart\r\n--y--\r\n",
		"Content-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: one\r\n\r\nbody\r\n--d--\r\n",
		"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: deep\r\nContent-Type: multipart/alternative; boundary=z\r\n\r\n--z\r\n\r\ntext\r\n--z\r\nContent-Type: text/html\r\n\r\n<p>\r\n--z--\r\n--x--\r\n",
		"Subject: \xff\xfe8-bit\r\nFrom: \"b\xc3\xb6b\" <bob@example.org>, group: a@example.org, b@example.org;\r\nTo: <@a,@b:c@d>, (x\r\n\r\nbody",
		"Subject: =?utf-8?q?line=0Abreak?= \"quoted\" back\\slash\r\nMessage-ID: not an id \"\r\nIn-Reply-To: <a@b> <c@d>\r\nDate: yesterday\r\n\r\nbody",
		"Content-Type: text/plain; name=\"a\\\"b\r\n c\"; charset*=utf-8''%zz\r\nContent-Disposition: ;;;\r\nContent-Language: ,,\r\n\r\nbody",
		"Content-Transfer-Encoding: base64\r\n\r\n!!!!",
		strings.Repeat("X-Long: "+strings.Repeat("y", 70)+"\r\n", 1000) + "\r\nbody",
		"Subject: " + strings.Repeat("z", 5000) + "\r\n\r\nbody",
	}
	c := imapclient.New(connect(t, s).conn, nil)
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, raw := range odd {
		cmd := c.Append("INBOX", int64(len(raw)), nil)
		_, err := cmd.Write([]byte(raw))
		if err == nil {
			err = cmd.Close()
		}
		if err == nil {
			_, err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("append %.60q: %v", raw, err)
		}
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	items := &imap.FetchOptions{
		Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, RFC822Size: true, UID: true, Flags: true,
		BodySection: []*imap.FetchItemBodySection{
			whole,
			{Peek: true, Specifier: imap.PartSpecifierHeader},
			{Peek: true, Specifier: imap.PartSpecifierText},
			{Peek: true, Part: []int{1}},
			{Peek: true, Part: []int{1}, Specifier: imap.PartSpecifierMIME},
			{Peek: true, Part: []int{1}, Specifier: imap.PartSpecifierHeader},
			{Peek: true, Part: []int{1}, Specifier: imap.PartSpecifierText},
			{Peek: true, Part: []int{1, 2}},
			{Peek: true, Part: []int{7, 7}},
			{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Subject"}},
			{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFieldsNot: []string{"Subject"}},
			{Peek: true, Partial: &imap.SectionPartial{Offset: 1 << 31, Size: 1 << 31}},
		},
	}
	for i, raw := range odd {
		list, err := c.Fetch(imap.SeqSetNum(uint32(i+1)), items).Collect()
		if err != nil {
			t.Fatalf("fetch %.60q: %v", raw, err)
		}
		if len(list) != 1 {
			t.Errorf("fetch %.60q: %d messages", raw, len(list))
			continue
		}
		if got := string(list[0].FindBodySection(whole)); got != raw || list[0].RFC822Size != int64(len(raw)) {
			t.Errorf("fetched %.60q with size %d, want %.60q with %d", got, list[0].RFC822Size, raw, len(raw))
		}
		header := list[0].FindBodySection(items.BodySection[1])
		text := list[0].FindBodySection(items.BodySection[2])
		if got := string(header) + string(text); got != raw {
			t.Errorf("header and text of %.60q are %.60q", raw, got)
		}
	}
	// A part that cannot be decoded is refused, and nothing else is lost.
	if _, err := c.Fetch(imap.SeqSetNum(16), &imap.FetchOptions{BinarySection: []*imap.FetchItemBinarySection{{Part: []int{1}, Peek: true}}}).Collect(); err == nil {
		t.Error("broken base64 was decoded")
	}
	if err := c.Noop().Wait(); err != nil {
		t.Errorf("after all: %v", err)
	}
}

func init() { core.Register(gate{}) }

// gate is a handler of the connect stage that refuses if the file says so.
type gate struct {
	Refuse bool `config:"refuse"`
}

// Module describes the handler.
func (gate) Module() core.Info {
	return core.Info{ID: "handler.testgate", Stages: mail.AtConnect, New: func() core.Module { return new(gate) }}
}

// Handle answers.
func (g *gate) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if g.Refuse {
		return mail.Reject(mail.NewReply(554, 7, 1, "Not from\r\nthere"), "test"), nil
	}
	return mail.Continue(fmt.Sprintf("TLS is %t", tx.Session.TLS != nil)), nil
}

// TestConnectStage: a client that the connect stage refuses is told so, and the
// trace has it.
func TestConnectStage(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{true, false} {
		t.Run(fmt.Sprint("refuse ", refuse), func(t *testing.T) {
			t.Parallel()
			s := coretest.Serve(t, strings.Replace(fmt.Sprintf(config, ""), "chain {", fmt.Sprintf("chain {\n    testgate {\n      refuse = %t\n    }", refuse), 1), coretest.Options{})
			records, stop := s.Traces().Follow()
			defer stop()
			c := connect(t, s)
			want := "continue"
			if refuse {
				c.run("<- * BYE [UNAVAILABLE] Not from  there")
				want = "reject"
			} else {
				c.run("<* * OK\n-> a LOGOUT\n<* a OK")
			}
			c.closed()
			select {
			case r := <-records:
				if r.Kind != trace.KindSession || r.Outcome.Action != want || len(r.Entries) != 1 || !refuse && r.Entries[0].Reason != "TLS is true" {
					t.Errorf("trace has %+v", r)
				}
			case <-time.After(patience):
				t.Error("the session is not in the trace")
			}
		})
	}
}

// TestAttacks are those that go-imap's server gives in to.
func TestAttacks(t *testing.T) {
	t.Parallel()
	s := serve(t, "max_message_size = \"64KB\"")
	user := account(t, s, "alice")
	t.Run("long literals before login", func(t *testing.T) {
		t.Parallel()
		c := connect(t, s)
		c.run("<* * OK\n-> a LOGIN {4096}\n<~ \\+ .*")
		c.send(strings.Repeat("x", 4096) + " y\r\n")
		c.run("<~ a NO \\[AUTHENTICATIONFAILED\\] .*\n-> b LOGIN {4097}\n<~ b BAD \\[TOOBIG\\] .*\n-> c LOGIN x {9223372036854775808}\n<~ c BAD .*\n<~ \\* BYE .*")
		c.closed()
	})
	t.Run("message as commands", func(t *testing.T) {
		t.Parallel()
		c := login(t, s, user)
		mail := "X: CREATE pwned\r\nX CREATE pwned\r\n" + strings.Repeat("X CREATE pwned\r\n", 5000)
		for i, command := range []string{"APPEND INBOX", "APPEND nowhere", "APPEND INBOX (\\Bogus)", "APPEND INBOX (", "APPEND INBOX \"no date\"", "APPEND", "SELECT", "SEARCH TEXT", "FROB", "NOOP", "ID", "UID", ""} {
			c.send(fmt.Sprintf("a%d %s {%d+}\r\n%s\r\n", i, command, len(mail), mail))
			c.run(fmt.Sprintf("<~ (a%d|\\*) (NO|BAD) .*", i))
		}
		c.run("-> z LIST \"\" pwned\n<- z OK LIST completed")
	})
	t.Run("garbage", func(t *testing.T) {
		t.Parallel()
		c := connect(t, s)
		c.line()
		for range 200 {
			if _, err := c.conn.Write([]byte("\x16\x03\x01\x00{9+}\r\n")); err != nil {
				break
			}
		}
		// The BYE may be lost, since much that was sent is never read.
		if _, err := io.Copy(io.Discard, c.conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	})
	t.Run("a client that does not read", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "timeouts { write = \"1s\" }\nlimits {\nconnections = 1\nconnections_per_network = 1\n}")
		user := account(t, s, "bob")
		c := login(t, s, user)
		body := "Subject: Big\r\n\r\n" + strings.Repeat("0123456789abcdef", 60000)
		c.send(fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s\r\n", len(body), body))
		c.run("<* a OK\n-> b SELECT INBOX\n<* b OK")
		go func() {
			for i := range 40 {
				if _, err := fmt.Fprintf(c.conn, "f%d FETCH 1 (BODY.PEEK[])\r\n", i); err != nil {
					return
				}
			}
		}()
		// Once it is cut off, another one finds room.
		for deadline := time.Now().Add(patience); ; {
			conn, err := net.Dial("tcp", coretest.Address(t, s, "imaps"))
			if err != nil {
				t.Fatal(err)
			}
			if (&client{t: t, conn: conn}).tryTLS() {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the client was not cut off")
			}
		}
	})
}
