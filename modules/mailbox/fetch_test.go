package mailbox

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// content0 gives the bytes of a message.
func content0(t testing.TB, m *Message) []byte {
	t.Helper()
	r, err := m.OpenBody(t.Context())
	if err != nil {
		t.Fatalf("open body: %v", err)
	}
	defer func() { _ = r.Close() }()
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read body: %v", err)
	}
	return b
}

// TestParts compares the pieces that Part finds with the sections that go-imap
// cuts out of the whole.
func TestParts(t *testing.T) {
	t.Parallel()
	paths := [][]int{nil, {1}, {2}, {3}, {1, 1}, {1, 2}, {2, 1}, {1, 2, 1}, {1, 2, 2}, {1, 1, 1}, {2, 1, 1}, {2, 2}}
	s := newService(t)
	var list []string
	for name, raw := range structures {
		if name == "outer delimiter ends inner" {
			continue // go-imap cannot read the inner part
		}
		deliver(t, s, crlf(raw), alice)
		whole, err := rendering(t, crlf(raw)).Bytes()
		must(t, err)
		list = append(list, string(whole))
	}
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	fetch(t, v, all, Items{BodyStructure: true, Body: true}, func(m *Message) string {
		raw := string(content0(t, m))
		same(t, "content", list[m.UID-1], raw)
		for _, path := range paths {
			item := &imap.FetchItemBodySection{Part: path}
			want := imapserver.ExtractBodySection(strings.NewReader(raw), item)
			p, ok := m.Part(path)
			got := ""
			switch {
			case ok && len(path) == 0:
				got = raw
			case ok:
				got = raw[p.Body:p.End]
			}
			if !ok && len(want) > 0 && !isDeeper(m, path) || ok && got != string(want) {
				t.Errorf("message %q\nBODY%v is %q (found: %v), go-imap says %q", raw, path, got, ok, want)
			}
			if ok && p.Text > 0 {
				item.Specifier = imap.PartSpecifierText
				if want := imapserver.ExtractBodySection(strings.NewReader(raw), item); raw[p.Text:p.End] != string(want) {
					t.Errorf("message %q\nBODY%v.TEXT is %q, go-imap says %q", raw, path, raw[p.Text:p.End], want)
				}
			}
		}
		return ""
	})
}

// isDeeper tells whether a path goes on below a part that has none, which
// go-imap lets pass as the part itself.
func isDeeper(m *Message, path []int) bool {
	p, ok := m.Part(path[:len(path)-1])
	return ok && !p.Multipart && p.Text == 0 || !ok && isDeeper(m, path[:len(path)-1])
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	s := newService(t)
	deliver(t, s, crlf(`Date: Tue, 3 Nov 2026 10:00:00 +0100 (CET)
From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>
Reply-To: (nobody) reply@example.org
To: friends: Bob <bob@example.org>, "Carol, C." <carol@example.org>;,
	dave@example.org (Dave)
Cc: undisclosed-recipients:;
Subject: =?iso-8859-1?q?gr=FC=DFe?= =?utf-8?q?_zum?=
 folded
In-Reply-To: <a@example.org> <b@example.org>
Message-ID: <c@example.org>

x
`), alice)
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	fetch(t, v, all, Items{Envelope: true}, func(m *Message) string {
		from := []imap.Address{{Name: "Jürgen", Mailbox: "j", Host: "example.org"}}
		same(t, "envelope", &imap.Envelope{
			Date: received, Subject: "grüße zum folded", From: from, Sender: from,
			ReplyTo: []imap.Address{{Name: "nobody", Mailbox: "reply", Host: "example.org"}},
			To: []imap.Address{
				{Mailbox: "friends"},
				{Name: "Bob", Mailbox: "bob", Host: "example.org"},
				{Name: "Carol, C.", Mailbox: "carol", Host: "example.org"},
				{},
				{Name: "Dave", Mailbox: "dave", Host: "example.org"},
			},
			Cc:        []imap.Address{{Mailbox: "undisclosed-recipients"}, {}},
			InReplyTo: []string{"a@example.org", "b@example.org"}, MessageID: "c@example.org",
		}, m.Envelope())
		return ""
	})
}

func TestFetchReadsInSteps(t *testing.T) {
	t.Parallel()
	s := newService(t)
	// A few messages whose envelopes alone exceed what one step reads.
	big := "Subject: " + strings.Repeat("s", 200<<10) + "\r\n\r\n"
	for i := range 8 {
		deliver(t, s, fmt.Sprintf("Message-ID: <%d@x>\r\n", i)+big, alice)
	}
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	same(t, "ids", []string{"0@x", "1@x", "2@x", "3@x", "4@x", "5@x", "6@x", "7@x"},
		fetch(t, v, all, Items{Envelope: true}, func(m *Message) string { return m.Envelope().MessageID }))
	same(t, "ids of some", []string{"0@x", "2@x", "3@x", "4@x", "5@x", "7@x"},
		fetch(t, v, imap.SeqSet{{Start: 1, Stop: 1}, {Start: 3, Stop: 6}, {Start: 8, Stop: 8}}, Items{Envelope: true}, func(m *Message) string { return m.Envelope().MessageID }))
}

func TestFetchOfExpunged(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 2)
	uidsOf(t, v)
	var m1 *Message
	fetch(t, v, imap.SeqSetNum(1), Items{Body: true}, func(m *Message) string { copied := *m; m1 = &copied; return "" })
	other := selectMailboxOf(t, a, "INBOX")
	mark(t, other, imap.SeqSetNum(1), imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, other, nil)
	sweep(t, s)
	same(t, "details", []string{"2"}, fetch(t, v, all, Items{Details: true}, func(m *Message) string { return fmt.Sprint(m.UID) }))
	if _, err := m1.OpenBody(t.Context()); err == nil {
		t.Error("opened the body of a message that is gone")
	}
}
