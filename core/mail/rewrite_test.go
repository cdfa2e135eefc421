package mail_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// spooled makes a message that is in memory up to a limit.
func spooled(t *testing.T, raw string, limit int) (*mail.Message, *mail.Spool) {
	t.Helper()
	s := mail.NewSpool(t.TempDir(), limit)
	if _, err := io.WriteString(s, raw); err != nil {
		t.Fatal(err)
	}
	m, err := s.Message()
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

// TestNewMessageWithBody puts another head on messages in memory and in files, and
// again on what comes out.
func TestNewMessageWithBody(t *testing.T) {
	t.Parallel()
	const raw = "From: a\r\n\r\nbody\r\nof lines\r\n"
	for _, limit := range []int{0, 1 << 10} {
		m, s := spooled(t, raw, limit)
		for _, head := range []string{"\r\n", "From: b\r\nTo: c\r\n\r\n", "no field\r\n\r\n"} {
			var err error
			if m, err = mail.NewMessageWithBody([]byte(head), m); err != nil {
				t.Fatal(err)
			}
			want := head + "body\r\nof lines\r\n"
			whole, err := io.ReadAll(m.Open())
			body, err2 := io.ReadAll(m.OpenBody())
			if err = errors.Join(err, err2); err != nil || string(whole) != want || string(body) != "body\r\nof lines\r\n" || m.Size != int64(len(want)) {
				t.Errorf("in memory %d: %q with the body %q, size %d, %v", limit, whole, body, m.Size, err)
			}
			// Each piece of each length, so that the seam is nowhere special.
			for from := range len(want) {
				for to := from + 1; to <= len(want); to++ {
					piece := make([]byte, to-from)
					n, err := m.Open().ReadAt(piece, int64(from))
					if string(piece[:n]) != want[from:to] || err != nil {
						t.Fatalf("bytes %d to %d: %q, %v", from, to, piece[:n], err)
					}
				}
			}
			if n, err := m.Open().ReadAt(make([]byte, 10), m.Size-3); n != 3 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d, %v", n, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	m, s := spooled(t, raw, 0)
	defer func() { _ = s.Close() }()
	inMemory, err := mail.NewMessage([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	for head, want := range map[string]error{
		strings.Repeat("A: b\r\n", 2*mail.MaxHeaderFields) + "\r\n":                  nil,
		"A: " + strings.Repeat("x", 500<<10) + "\r\n\r\n":                            nil,
		"A: " + strings.Repeat("x", mail.MaxRewrittenSize) + "\r\n\r\n":              mail.ErrRewriteTooLarge,
		strings.Repeat("A: b\r\n", mail.MaxRewrittenSize/len("A: b\r\n")+1) + "\r\n": mail.ErrRewriteTooLarge,
	} {
		for _, of := range []*mail.Message{m, inMemory} {
			if _, err := mail.NewMessageWithBody([]byte(head), of); !errors.Is(err, want) {
				t.Errorf("a head of %d bytes: %v", len(head), err)
			}
		}
		if fields := mail.SplitRendered([]byte(head)).Fields; len(fields) != strings.Count(head, "A: ") {
			t.Errorf("a head of %d bytes has %d fields", len(head), len(fields))
		}
	}
}

// TestRewrite: later edits are of the new message, and what it stands on is closed.
func TestRewrite(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "From: a\r\nX-Gone: 1\r\n\r\nold\r\n")
	tx.AddHeaderField("Received", "by mx")
	tx.RemoveHeaderField(1)
	tx.AddTag("one")
	if got, want := rendered(t, tx), "X-Mox-Like-Tags: one\r\nReceived: by mx\r\nFrom: a\r\n\r\nold\r\n"; got != want {
		t.Fatalf("before: %q", got)
	}
	m, s := spooled(t, "From: b\r\nX-Gone: 2\r\nX-Mox-Like-Tags: one\r\n\r\nnew\r\n", 0)
	tx.Rewrite(m, s)
	tx.AddHeaderField("X-Top", "t")
	tx.AddTag("two")
	if got, want := rendered(t, tx), "X-Mox-Like-Tags: one, two\r\nX-Top: t\r\nFrom: b\r\nX-Gone: 2\r\n\r\nnew\r\n"; got != want {
		t.Errorf("after: %q", got)
	}
	tx.RemoveHeaderField(1)
	tx.RemoveHeaderFields("X-Top")
	if got, want := rendered(t, tx), "X-Mox-Like-Tags: one, two\r\nFrom: b\r\n\r\nnew\r\n"; got != want {
		t.Errorf("edited: %q", got)
	}
	if err := tx.Release(); err != nil {
		t.Error(err)
	}
	if _, err := tx.Message.Open().ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("what the message stands on is not closed")
	}
	broken := errors.New("broken")
	tx.Rewrite(m, closer{broken})
	tx.Rewrite(m, nil)
	if err := tx.Release(); !errors.Is(err, broken) {
		t.Errorf("release says %v", err)
	}
	if err := tx.Release(); err != nil {
		t.Errorf("released twice: %v", err)
	}
}

type closer struct{ err error }

func (c closer) Close() error { return c.err }

func addressOf(local string) mail.Address {
	return mail.Address{LocalPart: local, Domain: "example.test"}
}

func recipients(tx *mail.Transaction) string {
	list := make([]string, 0, len(tx.Envelope.Recipients))
	for _, r := range tx.Envelope.Recipients {
		list = append(list, r.Address.LocalPart)
	}
	return fmt.Sprint(list)
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "\r\n")
	a, b, c := addressOf("a"), addressOf("b"), addressOf("c")
	tx.Envelope.Recipients = []*mail.Recipient{{Address: a}, {Address: b}}
	before := tx.Envelope.Recipients
	tx.AddRecipient(a)
	tx.AddRecipient(c)
	tx.AddRecipient(c)
	if !tx.RemoveRecipient(a) || tx.RemoveRecipient(a) || tx.RemoveRecipient(c) {
		t.Error("it is not told who was there")
	}
	tx.AddRecipient(c)
	tx.AddRecipient(a)
	if got := recipients(tx); got != "[b]" || before[0].Address != a || before[1].Address != b {
		t.Errorf("recipients %s, before %v", got, before)
	}
	if diff := cmp.Diff([]mail.Address{c, a}, tx.AddedRecipients()); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
	if more := tx.AddedRecipients(); more != nil {
		t.Errorf("again: %v", more)
	}
}

// TestSetContent takes back what is delivered and to whom, and leaves plain edits.
func TestSetContent(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "From: a\r\n\r\nold\r\n")
	tx.Envelope = mail.Envelope{ReversePath: addressOf("from"), Recipients: []*mail.Recipient{{Address: addressOf("a")}}}
	tx.AddHeaderField("X-First", "1")
	tx.AddHeaderField("X-Second", "2")
	held := tx.Content()
	tx.RemoveHeaderFields("X-First")
	tx.Rewrite(another(t), nil)
	tx.AddHeaderField("X-Late", "3")
	tx.Envelope.ReversePath = mail.Address{}
	tx.RemoveRecipient(addressOf("a"))
	tx.AddRecipient(addressOf("b"))
	tx.SetContent(held)
	if got, want := rendered(t, tx), "X-Second: 2\r\nX-First: 1\r\nFrom: a\r\n\r\nold\r\n"; got != want {
		t.Errorf("taken back: %q", got)
	}
	if recipients(tx) != "[a]" || tx.Envelope.ReversePath != addressOf("from") || tx.AddedRecipients() != nil {
		t.Errorf("envelope %+v", tx.Envelope)
	}
	held = tx.Content()
	tx.AddHeaderField("X-Kept", "4")
	tx.SetContent(held)
	if got := rendered(t, tx); !strings.HasPrefix(got, "X-Kept: 4\r\n") {
		t.Errorf("a plain edit is gone: %q", got)
	}
}

func another(t *testing.T) *mail.Message {
	t.Helper()
	m, err := mail.NewMessage([]byte("From: other\r\n\r\nnew\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestContentOfRecipients: who has the recipients in charge is taken back with the
// rest of the envelope.
func TestContentOfRecipients(t *testing.T) {
	t.Parallel()
	accounts := []string{"a", "b"}
	r := &mail.Recipient{Target: "deliver", Accounts: accounts}
	tx := mail.NewTransaction("id", new(mail.Session), time.Time{})
	tx.Envelope.Recipients = []*mail.Recipient{r}
	before := tx.Content()
	r.Delivered, r.Target, r.Accounts = true, "other", nil
	tx.Envelope.Recipients = nil
	tx.SetContent(before)
	if len(tx.Envelope.Recipients) != 1 || tx.Envelope.Recipients[0] != r || r.Delivered || r.Target != "deliver" || !slices.Equal(r.Accounts, accounts) {
		t.Errorf("recipients %v, the first one %+v", tx.Envelope.Recipients, r)
	}
}
