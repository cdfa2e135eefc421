package mailbox

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	gomessage "github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // decodes what the oracle reads
	gomail "github.com/emersion/go-message/mail"
)

// specimen is a message as the oracle sees it: all decoded, nothing indexed.
type specimen struct {
	number   uint32
	uid      imap.UID
	flags    map[imap.Flag]bool
	modSeq   uint64
	received time.Time
	size     int64
	header   gomail.Header
	texts    []string
}

// newSpecimen decodes a message with go-message.
func newSpecimen(t testing.TB, m *Message, raw string) *specimen {
	t.Helper()
	s := &specimen{number: m.SeqNum, uid: m.UID, modSeq: m.ModSeq, received: m.InternalDate, size: int64(len(raw)), flags: make(map[imap.Flag]bool)}
	for _, f := range m.Flags {
		s.flags[f] = true
	}
	e, err := gomessage.Read(strings.NewReader(raw))
	if err != nil && !gomessage.IsUnknownCharset(err) {
		t.Fatalf("oracle: read message: %v", err)
	}
	s.header = gomail.Header{Header: e.Header}
	err = e.Walk(func(_ []int, part *gomessage.Entity, err error) error {
		if err != nil {
			return err
		}
		if kind, _, _ := part.Header.ContentType(); strings.HasPrefix(kind, "text/") {
			text, err := io.ReadAll(part.Body)
			s.texts = append(s.texts, string(text))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatalf("oracle: walk message: %v", err)
	}
	return s
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

func day(t time.Time) string { return t.Format("2006-01-02") }

func (s *specimen) inBody(part string) bool {
	for _, text := range s.texts {
		if contains(text, part) {
			return true
		}
	}
	return false
}

func (s *specimen) inHeader(name, part string) bool {
	for f := s.header.Fields(); f.Next(); {
		text, _ := f.Text()
		if (name == "" || strings.EqualFold(f.Key(), name)) && contains(text, part) || name == "" && contains(f.Key()+": "+text, part) {
			return true
		}
	}
	return false
}

// matches is SEARCH as RFC 9051 section 6.4.4 words it.
func (s *specimen) matches(c *imap.SearchCriteria) bool {
	for _, set := range c.SeqNum {
		if !set.Contains(s.number) {
			return false
		}
	}
	for _, set := range c.UID {
		if !set.Contains(s.uid) {
			return false
		}
	}
	for _, f := range c.Flag {
		if !s.flags[f] {
			return false
		}
	}
	for _, f := range c.NotFlag {
		if s.flags[f] {
			return false
		}
	}
	for _, text := range c.Body {
		if !s.inBody(text) {
			return false
		}
	}
	for _, text := range c.Text {
		if !s.inBody(text) && !s.inHeader("", text) {
			return false
		}
	}
	for _, h := range c.Header {
		if !s.inHeader(h.Key, h.Value) {
			return false
		}
	}
	for i := range c.Not {
		if s.matches(&c.Not[i]) {
			return false
		}
	}
	for i := range c.Or {
		if !s.matches(&c.Or[i][0]) && !s.matches(&c.Or[i][1]) {
			return false
		}
	}
	return s.matchesNumbers(c)
}

func (s *specimen) matchesNumbers(c *imap.SearchCriteria) bool {
	sent, err := s.header.Date()
	known := err == nil && !sent.IsZero()
	switch {
	case !c.Since.IsZero() && day(s.received) < day(c.Since), !c.Before.IsZero() && day(s.received) >= day(c.Before):
		return false
	case !c.SentSince.IsZero() && (!known || day(sent) < day(c.SentSince)), !c.SentBefore.IsZero() && (!known || day(sent) >= day(c.SentBefore)):
		return false
	case c.Larger > 0 && s.size <= c.Larger, c.Smaller > 0 && s.size >= c.Smaller:
		return false
	case c.ModSeq != nil && s.modSeq < c.ModSeq.ModSeq:
		return false
	default:
		return true
	}
}

// searchCorpus are messages in all the disguises that text comes in.
func searchCorpus() []string {
	long := strings.Repeat("some text of no importance\n", 2000)
	return []string{
		"From: Alice <alice@example.org>\nTo: bob@example.org\nSubject: Hello World\nDate: Mon, 2 Nov 2026 23:30:00 -0500\nMessage-ID: <1@x>\n\nplain body\n",
		"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\nDate: Tue, 3 Nov 2026 00:30:00 +0900\nReferences: <1@x>\nList-Id: News <news.example.org>\n\nText\n",
		"Subject: encoded\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte("Übung macht den Meister")) + "\n",
		"Subject: quoted\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\nX-Custom: Special Value\n\nsoft=\n broken, =DCbung\n",
		"Subject: multipart\nX-Custom: other\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nfirst needle\n--b\nContent-Type: text/html; charset=windows-1251\nContent-Transfer-Encoding: base64\n\n" +
			base64.StdEncoding.EncodeToString([]byte{0xcf, 0xf0, 0xe8, 0xe2, 0xe5, 0xf2}) + "\n--b\nContent-Type: application/octet-stream\n\nneedle in an attachment\n--b--\n",
		"Subject: long\nDate: garbage\n\n" + long + "the Needle at the end\n",
		"Subject: \nX-Empty:\nCc: Alice <alice@example.org>, carol@example.org\n\n\n",
	}
}

func searchView(t testing.TB) (*View, []*specimen) {
	t.Helper()
	s := newService(t)
	a := open(t, s, alice)
	for i, raw := range searchCorpus() {
		raw = crlf(raw)
		o := &imap.AppendOptions{Time: received.AddDate(0, 0, i-3)}
		if i%2 == 0 {
			o.Flags = []imap.Flag{imap.FlagSeen, "Own"}
		}
		_, err := a.Append(t.Context(), "INBOX", strings.NewReader(raw), int64(len(raw)), o)
		must(t, err)
	}
	v := selectMailboxOf(t, a, "INBOX")
	mark(t, v, imap.SeqSetNum(2, 5), imap.StoreFlagsAdd, imap.FlagFlagged)
	var specimens []*specimen
	fetch(t, v, all, Items{Body: true}, func(m *Message) string {
		specimens = append(specimens, newSpecimen(t, m, string(content0(t, m))))
		return ""
	})
	return v, specimens
}

// leaves are criteria of one condition each.
func leaves() []imap.SearchCriteria {
	header := func(key, value string) imap.SearchCriteria {
		return imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: key, Value: value}}}
	}
	d := time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)
	list := []imap.SearchCriteria{
		{},
		{SeqNum: []imap.SeqSet{imap.SeqSetNum(1, 3, 5)}},
		{UID: []imap.UIDSet{{{Start: 2, Stop: 4}}}},
		{Flag: []imap.Flag{imap.FlagSeen}},
		{NotFlag: []imap.Flag{imap.FlagSeen}},
		{Flag: []imap.Flag{"Own"}},
		{Flag: []imap.Flag{"absent"}},
		{NotFlag: []imap.Flag{"absent"}},
		{Since: d},
		{Before: d},
		{SentSince: d},
		{SentBefore: d},
		{Larger: 200},
		{Smaller: 200},
		{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: 9}},
		header("Subject", "hello world"), header("subject", "GRÜSSE"), header("Subject", "grüße"), header("From", "jürgen"), header("From", "ALICE@example"),
		header("Cc", "carol"), header("Message-ID", "<1@x>"), header("References", "1@X"), header("List-Id", "news"), header("X-Custom", "special"), header("X-Custom", ""),
		header("X-Empty", ""), header("X-Absent", ""), header("Subject", ""), header("Date", "nov 2026"),
	}
	for _, text := range []string{"needle", "übung", "ÜBUNG", "привет", "soft broken", "text", "hello", "plain body", "absent", "x-custom: s"} {
		list = append(list, imap.SearchCriteria{Body: []string{text}}, imap.SearchCriteria{Text: []string{text}})
	}
	return list
}

func checkSearch(t *testing.T, v *View, specimens []*specimen, c imap.SearchCriteria) {
	t.Helper()
	var want []Number
	var modSeq uint64
	for _, s := range specimens {
		if s.matches(&c) {
			want = append(want, Number{s.number, s.uid})
			modSeq = max(modSeq, s.modSeq)
		}
	}
	got, err := v.Search(t.Context(), &c)
	if err != nil {
		t.Fatalf("search %+v: %v", c, err)
	}
	same(t, fmt.Sprintf("search %+v", c), &SearchResult{Numbers: want, ModSeq: modSeq}, got)
}

func TestSearchLikeOracle(t *testing.T) {
	t.Parallel()
	v, specimens := searchView(t)
	list := leaves()
	for _, c := range list {
		checkSearch(t, v, specimens, c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var random func(depth int) imap.SearchCriteria
	random = func(depth int) imap.SearchCriteria {
		c := list[r.IntN(len(list))]
		if depth == 0 {
			return c
		}
		if r.IntN(2) == 0 {
			c.Not = []imap.SearchCriteria{random(depth - 1)}
		}
		if r.IntN(2) == 0 {
			c.Or = [][2]imap.SearchCriteria{{random(depth - 1), random(depth - 1)}}
		}
		return c
	}
	for range 400 {
		checkSearch(t, v, specimens, random(3))
	}
}

func TestSearchAcrossReads(t *testing.T) {
	t.Parallel()
	buffer := len(new(searchBuffer).raw)
	for _, needle := range []string{"needle", "nädel", "€"} {
		for at := buffer - 8; at <= buffer+1; at++ {
			text := strings.Repeat("x", at) + strings.ToUpper(needle) + strings.Repeat("y", 100)
			n := new(needles)
			n.add(needle)
			n.add("not there")
			n.reset()
			if err := n.lookIn(strings.NewReader(text)); err != nil || !n.found[0] || n.found[1] {
				t.Errorf("%q at %d: %v, %v", needle, at, n.found, err)
			}
		}
	}
}

func TestSearchLeavesOutExpunged(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 3)
	uidsOf(t, v)
	other := selectMailboxOf(t, a, "INBOX")
	mark(t, other, imap.SeqSetNum(2), imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, other, nil)
	sweep(t, s)
	for _, c := range []imap.SearchCriteria{{Larger: 1}, {Body: []string{"note"}}} {
		got, err := v.Search(t.Context(), &c)
		must(t, err)
		same(t, "found", []Number{{1, 1}, {3, 3}}, got.Numbers)
	}
}

// endingContext ends after so many looks at it.
type endingContext struct {
	context.Context //nolint:containedctx // it is one
	left            *int
}

func (c endingContext) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestSearchEnds: the context is looked at while a text is read, and between
// messages.
func TestSearchEnds(t *testing.T) {
	t.Parallel()
	_, a, v := withNotes(t, 300)
	long := crlf("Subject: long\nContent-Transfer-Encoding: base64\n\n" + strings.Repeat(strings.Repeat("QUJD", 18)+"\n", 20_000))
	_, err := a.Append(t.Context(), "Archive", strings.NewReader(long), int64(len(long)), nil)
	must(t, err)
	for _, c := range []struct {
		name     string
		view     *View
		criteria imap.SearchCriteria
	}{
		{"a long text", selectMailboxOf(t, a, "Archive"), imap.SearchCriteria{Body: []string{"absent"}}},
		{"many messages", v, imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "absent"}}}},
	} {
		left := 100
		if _, err := c.view.Search(endingContext{t.Context(), &left}, &c.criteria); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: search gave %v", c.name, err)
		}
	}
}

func TestSearchLimit(t *testing.T) {
	t.Parallel()
	_, _, v := withNotes(t, 1)
	body := make([]string, maxBodyKeys/2)
	c := imap.SearchCriteria{Body: body, Not: []imap.SearchCriteria{{Text: body}}}
	_, err := v.Search(t.Context(), &c)
	must(t, err)
	c.Header = []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "note"}}
	_, err = v.Search(t.Context(), &c)
	must(t, err)
	c.Header = append(c.Header, imap.SearchCriteriaHeaderField{Key: "X-Other"})
	if _, err := v.Search(t.Context(), &c); code(err) != imap.ResponseCodeLimit {
		t.Errorf("%d keys that need the body: %v", maxBodyKeys+1, err)
	}
}
