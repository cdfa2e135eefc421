package quarantine

import (
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

var update = flag.Bool("update", false, "write the golden files")

// TestNextDigest: the next time of the day, also where the clock is put on or back.
func TestNextDigest(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ now, at, want string }{
		{"2026-11-01T06:59:59Z", "07:00", "2026-11-01T07:00:00Z"},
		{"2026-11-01T07:00:00Z", "07:00", "2026-11-02T07:00:00Z"},
		{"2026-12-31T23:00:00Z", "00:00", "2027-01-01T00:00:00Z"},
		{"2026-03-28T12:00:00+01:00", "07:00", "2026-03-29T07:00:00+02:00"},
		{"2026-03-29T00:00:00+01:00", "02:30", "2026-03-29T03:30:00+02:00"}, // there is no 02:30
		{"2026-10-24T12:00:00+02:00", "07:00", "2026-10-25T07:00:00+01:00"},
		{"2026-10-25T02:30:00+02:00", "02:30", "2026-10-26T02:30:00+01:00"}, // 02:30 comes twice
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		at, err := parseClock(tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(tt.now, "Z") {
			now = now.In(zone)
		}
		if got := at.next(now).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s after %s: %s, want %s", tt.at, tt.now, got, tt.want)
		}
	}
	for _, text := range []string{"", "7", "24:00", "07:60", "07:00:00", "-1:00"} {
		if _, err := parseClock(text); err == nil {
			t.Errorf("%q is a time of the day", text)
		}
	}
}

// TestDigest: one message a day for each account with something new, and no more.
func TestDigest(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "digest = true\ndigest_at = \"18:00\"")
	k.hold(t, k.load(t, ""), event{to: []*mail.Recipient{to(t, carol, carol)}}) // without a digest
	first := k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	second := k.hold(t, q, event{})
	send := func(wantAlice, wantBob int) {
		t.Helper()
		k.service.sendDue(t.Context())
		if a, b := k.inbox(t, alice), k.inbox(t, bob); a != wantAlice || b != wantBob {
			t.Errorf("at %s: %d and %d digests, want %d and %d", k.Now(), a, b, wantAlice, wantBob)
		}
		k.consistent(t)
	}
	send(0, 0)
	k.Add(6*time.Hour - time.Second)
	send(0, 0)
	if _, err := k.service.DeleteHeld(t.Context(), first, bob); err != nil {
		t.Fatal(err)
	}
	k.Add(time.Second)
	late := k.hold(t, q, event{}) // belongs to the next day
	send(1, 0)
	send(1, 0)
	text := texts(t, k.mail, alice)[0]
	if !strings.Contains(text, first) || !strings.Contains(text, second) || strings.Contains(text, late) {
		t.Errorf("the digest is\n%s", text)
	}
	k.Add(23 * time.Hour)
	send(1, 0)
	k.Add(3 * 24 * time.Hour) // the server was away
	send(2, 0)
	if text := texts(t, k.mail, alice)[1]; !strings.Contains(text, late) || strings.Contains(text, first) {
		t.Errorf("the digest is\n%s", text)
	}
	k.Add(24 * time.Hour)
	send(2, 0)
	if k.inbox(t, carol) != 0 {
		t.Error("carol has a digest")
	}
}

// TestDigestOnce: a crash at any point sends a digest once, and several senders at
// once send one.
func TestDigestOnce(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "digest = true\ndigest_at = \"18:00\"")
	k.hold(t, q, event{})
	k.Add(6 * time.Hour)
	dir := k.sandbox.Store().Dir()
	k.service.mailboxes = &broken{mailboxService: k.service.mailboxes, do: func() { check(t, image(t, dir), 1, 0) }}
	k.service.sendDue(t.Context())
	check(t, image(t, dir), 1, 0)
	k.service.mailboxes = k.mail
	done := make(chan struct{})
	for range 4 {
		go func() {
			k.service.sendDue(t.Context())
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	check(t, image(t, dir), 0, 1)
	k.consistent(t)
}

// check counts what is to be listed, and the digests, in the image of a crash.
func check(t *testing.T, dir string, wantDue, wantSent int64) {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = s.Close() }()
	due, sent := query(t, s, `SELECT count(*) FROM quarantine_shares WHERE digest IS NOT NULL`), query(t, s, `SELECT count(*) FROM mailbox_messages`)
	if due != wantDue || sent != wantSent {
		t.Errorf("%d are to be listed, and there are %d digests; want %d, %d", due, sent, wantDue, wantSent)
	}
}

// broken delivers and fails.
type broken struct {
	mailboxService
	do func()
}

func (b *broken) DeliverIn(tx *store.Tx, p *mailbox.Prepared, recipients []mailbox.Target) error {
	if err := b.mailboxService.DeliverIn(tx, p, recipients); err != nil {
		return err
	}
	b.do()
	return store.ErrFull
}

// changing holds another message whenever a digest has been prepared.
type changing struct {
	mailboxService
	times int
	do    func()
}

func (c *changing) Prepare(open func() io.Reader, size int64, received time.Time) (*mailbox.Prepared, error) {
	if c.times--; c.times >= 0 {
		c.do()
	}
	return c.mailboxService.Prepare(open, size, received)
}

// TestDigestOfWhatChanges: what is released while the digest is written is not in it.
func TestDigestOfWhatChanges(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "digest = true\ndigest_at = \"18:00\"")
	gone := k.hold(t, q, event{})
	stays := k.hold(t, q, event{})
	k.Add(6 * time.Hour)
	k.service.mailboxes = &changing{mailboxService: k.mail, times: 1, do: func() {
		if _, err := k.service.DeleteHeld(t.Context(), gone, ""); err != nil {
			t.Error(err)
		}
	}}
	k.service.sendDue(t.Context())
	list := texts(t, k.mail, alice)
	if len(list) != 1 || strings.Contains(list[0], gone) || !strings.Contains(list[0], stays) {
		t.Errorf("digests:\n%s", strings.Join(list, "\n"))
	}
}

// TestTicks: the digests are sent when the clock ticks, until the service ends.
func TestTicks(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	ticks := make(chan time.Time)
	s := &Service{store: k.service.store, now: k.Now, log: k.service.log, hostname: "mx.example.test", mailboxes: k.mail, accounts: k.service.accounts}
	s.tick = func() (<-chan time.Time, func()) { return ticks, func() {} }
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	k.hold(t, k.load(t, "digest = true\ndigest_at = \"18:00\""), event{})
	ticks <- start
	ticks <- start // the first one is done
	if k.inbox(t, alice) != 0 {
		t.Error("there is a digest before its time")
	}
	k.Add(6 * time.Hour)
	ticks <- start
	ticks <- start
	if k.inbox(t, alice) != 1 {
		t.Error("there is no digest")
	}
	if err := s.Cleanup(); err != nil {
		t.Fatal(err)
	}
}

// TestEveryMinute: the ticker ticks by the minute.
func TestEveryMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ticks, stop := everyMinute()
		defer stop()
		if got := (<-ticks).Sub(began); got != time.Minute {
			t.Errorf("the first tick comes after %s", got)
		}
	})
}

// aDigest lists what strangers may write.
func aDigest() digest {
	hostile := control.Held{
		ID: "01jq3k5m7n8p9r0s2t", Received: start.Add(-time.Hour), Expires: start.Add(time.Hour), ReversePath: "x@example.net", Handler: "clamav",
		Reason:  "stream: Eicar\r\nBcc: everybody@example.com FOUND",
		Subject: "win at https://example.net/x\r\n\r\n.\r\nSubject: other \x1b[2J\u202e " + strings.Repeat("ü", 400),
	}
	plain := control.Held{
		ID: "01jq3k5m7n8p9r0s1t", Received: start, Expires: start.Add(30 * 24 * time.Hour), From: "Eve <eve@example.org>", Handler: "spamassassin",
		Reason: "score 7.5 is over 5", Subject: "Über www.example.net",
	}
	return digest{account: "alice@bücher.example", hostname: "mx.example.test", id: "01jq3k5m7n8p9r0s9t", now: start, due: due{list: []control.Held{plain, hostile}, total: 104}}
}

// TestDigestMessage holds the message against the golden file and the rules of mail.
func TestDigestMessage(t *testing.T) {
	t.Parallel()
	raw, err := writeDigest(aDigest())
	if err != nil {
		t.Fatal(err)
	}
	sound(t, raw)
	name := filepath.Join("testdata", "digest.golden")
	if *update {
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(raw)); diff != "" {
		t.Errorf("digest (-want +got):\n%s", diff)
	}
}

// sound holds a digest to RFC 5322 and RFC 2045, and gives its text.
func sound(t *testing.T, raw []byte) string {
	t.Helper()
	for line := range bytes.SplitSeq(bytes.TrimSuffix(raw, []byte("\r\n")), []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Errorf("the line %q has %d bytes", line, len(line))
		}
	}
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Header) != 10 {
		t.Errorf("header fields: %v", m.Header)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	if mediaType, p, err := mime.ParseMediaType(m.Header.Get("Content-Type")); err != nil || mediaType != "text/plain" || p["charset"] != "utf-8" {
		t.Errorf("Content-Type %s %v, %v", mediaType, p, err)
	}
	if from, err := m.Header.AddressList("From"); err != nil || len(from) != 1 || !strings.HasPrefix(from[0].Address, "postmaster@") {
		t.Errorf("From %v, %v", from, err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManyInDigest: what is too much for one message is counted.
func TestManyInDigest(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "digest = true\ndigest_at = \"18:00\"")
	for range maxListed + 3 {
		k.hold(t, q, event{})
	}
	k.Add(6 * time.Hour)
	k.service.sendDue(t.Context())
	list := texts(t, k.mail, alice)
	if len(list) != 1 {
		t.Fatalf("%d digests", len(list))
	}
	text := sound(t, []byte(list[0]))
	if n := strings.Count(text, "  Id:       "); n != maxListed || !strings.Contains(text, "and 3 more.") || !strings.Contains(list[0], "Subject: 103 messages were held") {
		t.Errorf("%d messages are listed:\n%s", n, text)
	}
	k.service.sendDue(t.Context())
	if k.inbox(t, alice) != 1 {
		t.Error("the others have a digest of their own")
	}
}

func FuzzDigest(f *testing.F) {
	f.Add("Eve <eve@example.org>", "Subject", "reason", "bounce@example.org")
	f.Add("x", "a.b.example", "://", "")
	f.Add("=?utf-8?q?=0D=0ABcc:_x?=", "\r\n.\r\n", "\x1b[2J\u202e", "")
	f.Add(strings.Repeat("x", 3000), strings.Repeat("=", 999), "https://example.net\u2028", "\xff")
	f.Fuzz(func(t *testing.T, from, subject, reason, path string) {
		d := aDigest()
		d.total = 1
		d.list = []control.Held{{ID: "01jq3k5m7n8p9r0s1t", From: readable(from), Subject: readable(subject), Reason: mail.Printable(reason, maxReason), ReversePath: path}}
		raw, err := writeDigest(d)
		if err != nil {
			t.Fatal(err)
		}
		text := sound(t, raw)
		if n := strings.Count(text, "\r\n"); n != 15 || strings.Contains(text, "://") {
			t.Errorf("%d lines:\n%s", n, text)
		}
	})
}

func FuzzReadable(f *testing.F) {
	for _, s := range []string{"plain", "=?utf-8?b?w7w=?=", "=?iso-8859-1?q?=FC?=", "=?x?q?a?=", "\x1b]0;x\a", "=?utf-8?q?=1B[2J?=", strings.Repeat("=?utf-8?q?a?= ", 500)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := readable(s)
		if text != mail.Printable(text, maxField+len("…")) || len(text) > maxField+len("…") {
			t.Errorf("%q becomes %q of %d bytes", s, text, len(text))
		}
	})
}

// TestDigestFails: what cannot be sent stays to be sent.
func TestDigestFails(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "digest = true\ndigest_at = \"18:00\"")
	k.hold(t, q, event{to: []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}})
	k.Add(6 * time.Hour)
	k.service.mailboxes = &broken{mailboxService: k.mail, do: func() {}}
	k.service.sendDue(t.Context())
	if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM quarantine_shares WHERE digest IS NOT NULL`); n != 2 || k.inbox(t, alice) != 0 {
		t.Errorf("%d are to be listed", n)
	}
	k.service.mailboxes = k.mail
	k.service.sendDue(t.Context())
	if k.inbox(t, alice) != 1 || k.inbox(t, bob) != 1 {
		t.Error("the digests are not sent the next time")
	}
}
