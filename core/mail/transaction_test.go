package mail_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

func newTransaction(t testing.TB, raw string) *mail.Transaction {
	t.Helper()
	m, err := mail.NewMessage([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	tx := mail.NewTransaction("t1", &mail.Session{ID: "s1"}, time.Unix(0, 0))
	tx.Message = m
	return tx
}

func rendered(t testing.TB, tx *mail.Transaction) string {
	t.Helper()
	r, err := tx.Rendered()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := r.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	read, err := io.ReadAll(r.Reader())
	if err != nil || string(read) != string(whole) || int64(len(whole)) != r.Size() {
		t.Fatalf("Reader gives %q, %v; Bytes %q; Size %d", read, err, whole, r.Size())
	}
	return string(whole)
}

func TestEdits(t *testing.T) {
	t.Parallel()
	const raw = "X-Spam: forged\r\nFrom: a\r\nx-spam: too\r\n\r\nbody\r\n"
	tests := map[string]struct {
		edit func(*mail.Transaction)
		want string
	}{
		"none":              {func(*mail.Transaction) {}, raw},
		"last added on top": {func(tx *mail.Transaction) { tx.AddHeaderField("A", "1"); tx.AddHeaderField("B", "2") }, "B: 2\r\nA: 1\r\n" + raw},
		"removed":           {func(tx *mail.Transaction) { tx.RemoveHeaderFields("X-Spam") }, "From: a\r\n\r\nbody\r\n"},
		"removed, then added": {func(tx *mail.Transaction) {
			tx.AddHeaderField("X-Spam", "mine, too early")
			tx.RemoveHeaderFields("x-spam")
			tx.AddHeaderField("X-Spam", "no")
		}, "X-Spam: no\r\nFrom: a\r\n\r\nbody\r\n"},
		"one removed": {func(tx *mail.Transaction) { tx.RemoveHeaderField(2) }, "X-Spam: forged\r\nFrom: a\r\n\r\nbody\r\n"},
		"two removed, and one added": {func(tx *mail.Transaction) {
			tx.AddHeaderField("X-Spam", "no")
			tx.RemoveHeaderField(2)
			tx.RemoveHeaderField(0)
			tx.RemoveHeaderField(2)
		}, "X-Spam: no\r\nFrom: a\r\n\r\nbody\r\n"},
		"one removed, and by name": {func(tx *mail.Transaction) {
			tx.RemoveHeaderFields("From")
			tx.RemoveHeaderField(0)
		}, "x-spam: too\r\n\r\nbody\r\n"},
		"none there to remove": {func(tx *mail.Transaction) { tx.RemoveHeaderField(7); tx.RemoveHeaderField(-1); tx.RemoveHeaderField(1) }, "X-Spam: forged\r\nx-spam: too\r\n\r\nbody\r\n"},
		"fold kept":            {func(tx *mail.Transaction) { tx.AddHeaderField("A", "1;\r\n\t2") }, "A: 1;\r\n\t2\r\n" + raw},
		"injection":            {func(tx *mail.Transaction) { tx.AddHeaderField("A", "1\r\nBcc: x\r\n\r\nbody") }, "A: 1  Bcc: x    body\r\n" + raw},
		"injection by CR":      {func(tx *mail.Transaction) { tx.AddHeaderField("A", "1\rB\x00") }, "A: 1 B \r\n" + raw},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := newTransaction(t, raw)
			tt.edit(tx)
			if diff := cmp.Diff(tt.want, rendered(t, tx)); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRenderedMessageWithoutBody(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "From: a")
	tx.AddHeaderField("B", "1")
	if got, want := rendered(t, tx), "B: 1\r\nFrom: a\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnceIsSharedByForks(t *testing.T) {
	t.Parallel()
	type key struct{}
	tx := newTransaction(t, "\r\n")
	computed := make(chan struct{}, 10)
	var wg sync.WaitGroup
	for range 10 {
		fork := tx.Fork()
		wg.Go(func() {
			value, err := fork.Once(key{}, func() (any, error) { computed <- struct{}{}; return 42, nil })
			if value != 42 || err != nil {
				t.Errorf("got %v, %v", value, err)
			}
		})
	}
	wg.Wait()
	if n := len(computed); n != 1 {
		t.Errorf("computed %d times", n)
	}
}

func TestMergeTakesForksInOrder(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "From: a\r\n\r\n")
	one, two := tx.Fork(), tx.Fork()
	two.AddHeaderField("Two", "2")
	two.SetQuarantine("two")
	one.AddHeaderField("One", "1")
	one.SetQuarantine("one")
	tx.Merge(one)
	tx.Merge(two)
	if got, want := rendered(t, tx), "Two: 2\r\nOne: 1\r\nFrom: a\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if tx.Quarantined() != "one" {
		t.Errorf("quarantined for %q", tx.Quarantined())
	}
}

func TestMergeTakesRemovedFields(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n")
	tx.RemoveHeaderField(3)
	one, two := tx.Fork(), tx.Fork()
	one.RemoveHeaderField(2)
	two.RemoveHeaderField(0)
	if got, want := rendered(t, tx), "A: 1\r\nB: 2\r\nC: 3\r\n\r\n"; got != want {
		t.Errorf("before the merge: %q, want %q", got, want)
	}
	tx.Merge(two)
	tx.Merge(one)
	if got, want := rendered(t, tx), "B: 2\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestScores(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "\r\n")
	tx.SetScore("dnsbl", 3)
	tx.AddTag("spf=softfail")
	fork := tx.Fork()
	fork.SetScore("hook", -1.5)
	fork.SetScore("dnsbl", 4)
	tx.Merge(fork)
	want := []mail.Points{{Source: "dnsbl", Points: 4}, {Source: "hook", Points: -1.5}}
	if diff := cmp.Diff(want, tx.Scores()); diff != "" || tx.Score() != 2.5 {
		t.Errorf("score %g (-want +got):\n%s", tx.Score(), diff)
	}
}

func TestSpool(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789\r\n", 1000)
	raw := "From: a\r\n\r\n" + body
	for _, limit := range []int{0, 5, 100, len(raw) - 1, len(raw), 1 << 20} {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			t.Parallel()
			s := mail.NewSpool(t.TempDir(), limit)
			for part := range slices.Chunk([]byte(raw), 77) {
				if _, err := s.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			m, err := s.Message()
			if err != nil {
				t.Fatal(err)
			}
			whole, err := io.ReadAll(m.Open())
			if err != nil || string(whole) != raw || m.Size != int64(len(raw)) || s.Size() != m.Size {
				t.Errorf("read %d bytes of %d, %v", len(whole), len(raw), err)
			}
			got, err := io.ReadAll(m.OpenBody())
			if err != nil || string(got) != body || m.Header.Get("From") != "a" {
				t.Errorf("body of %d bytes, %v; From %q", len(got), err, m.Header.Get("From"))
			}
			tx := mail.NewTransaction("t1", &mail.Session{}, time.Unix(0, 0))
			tx.Message = m
			if got := rendered(t, tx); got != raw {
				t.Errorf("rendered %d bytes, want %d", len(got), len(raw))
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSpoolFolderThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := mail.NewSpool("/nonexistent/folder", 1)
	if _, err := s.Write([]byte("more than one")); err == nil || !strings.Contains(err.Error(), "create spool file") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestSpoolBudget pins that a few large messages leave room for small ones, that
// nothing is held after the end, and that what is very small is not counted.
func TestSpoolBudget(t *testing.T) {
	t.Parallel()
	budget, err := mail.NewSpoolBudget()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 1 << 20
	// fill writes until the spool takes no more, and gives how much it took.
	fill := func(s *mail.Spool, most int) int {
		block := make([]byte, 1<<10)
		for n := 0; n < most; n += len(block) {
			if _, err := s.Write(block); err != nil {
				if !errors.Is(err, mail.ErrSpoolFull) {
					t.Fatal(err)
				}
				return n
			}
		}
		return most
	}
	for range 2 {
		var spools []*mail.Spool
		open := func() *mail.Spool {
			s := mail.NewSpool(t.TempDir(), 64<<10).Within(budget, limit)
			spools = append(spools, s)
			return s
		}
		total := 0
		for range 20 {
			total += fill(open(), 2*limit)
		}
		if total < limit/2 || total > limit+20*(8<<10) {
			t.Errorf("20 greedy spools hold %d bytes of %d", total, limit)
		}
		if n := fill(open(), 8<<10); n != 8<<10 {
			t.Errorf("a small message gets no further than %d bytes", n)
		}
		for _, s := range spools {
			if err := errors.Join(s.Close(), s.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	one := mail.NewSpool(t.TempDir(), 64<<10).Within(budget, limit)
	t.Cleanup(func() { _ = one.Close() })
	if n := fill(one, 2*limit); n < limit/2 || n > limit/2+(8<<10) {
		t.Errorf("a spool alone takes %d bytes of %d, want half", n, limit)
	}
}

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	c := mail.Credentials{Username: "alice", Password: "hunter2 or so"}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%v %+v %#v %s %q", c, c, c, c.Password, c.Password)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("printed %s", text)
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	now := time.Unix(1_800_000_000, 0)
	var last string
	for i := range 1000 {
		id := mail.NewID(now.Add(time.Duration(i) * time.Millisecond))
		if seen[id] || len(id) != 18 || id <= last {
			t.Fatalf("%q after %q", id, last)
		}
		seen[id], last = true, id
	}
}

func TestReplyOf(t *testing.T) {
	t.Parallel()
	full := &mail.ReplyError{Reply: mail.NewReply(452, 3, 1, "Full"), Cause: io.ErrShortWrite}
	if r := mail.ReplyOf(fmt.Errorf("store: %w", full)); r != full.Reply {
		t.Errorf("got %v", r)
	}
	if r := mail.ReplyOf(io.EOF); r.Code != 451 || strings.Contains(r.Text, "EOF") {
		t.Errorf("got %v", r)
	}
}

// A spool that is closed has given its share back, and takes none for what it
// held before.
func TestClosedSpoolHasNoShare(t *testing.T) {
	t.Parallel()
	budget, err := mail.NewSpoolBudget()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 1 << 20
	s := mail.NewSpool(t.TempDir(), 64<<10).Within(budget, limit)
	if _, err := s.Write(make([]byte, limit/2)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("\r\n")); err != nil {
		t.Fatal(err)
	}
	other := mail.NewSpool(t.TempDir(), 64<<10).Within(budget, limit)
	if _, err := other.Write(make([]byte, limit/2)); err != nil {
		t.Errorf("half of the budget is not free: %v", err)
	}
	for _, spool := range []*mail.Spool{s, other} {
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFieldBelow: what was found out before the message came stands above the
// server's own Received field.
func TestFieldBelow(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t, "Subject: s\r\nX-Mox-Like-Tags: forged\r\n\r\n")
	tx.AddHeaderField("Received-SPF", "pass")
	tx.AddFieldBelow("Received", "from here")
	tx.AddHeaderField("X-Scanned", "yes")
	tx.AddTag("spf=softfail")
	tx.AddTag("rdns=missing")
	r, err := tx.Rendered()
	if err != nil {
		t.Fatal(err)
	}
	want := "X-Mox-Like-Tags: spf=softfail, rdns=missing\r\nX-Scanned: yes\r\nReceived-SPF: pass\r\nReceived: from here\r\nSubject: s\r\n\r\n"
	if diff := cmp.Diff(want, string(r.Head())); diff != "" {
		t.Errorf("header section (-want +got):\n%s", diff)
	}
}

// TestJudgement: what was said about a recipient that was refused is forgotten,
// also by forks.
func TestJudgement(t *testing.T) {
	t.Parallel()
	tx := mail.NewTransaction("id", new(mail.Session), time.Now())
	tx.SetScore("rdns", 1)
	before := tx.Judgement()
	fork := tx.Fork()
	fork.SetScore("rdns", 3)
	fork.SetScore("dnsbl", 0.5)
	fork.AddTag("dnsbl=x")
	fork.SetQuarantine("spf fails")
	fork.SetAuthResult(mail.AuthResult{Method: "spf", Result: "fail"})
	if tx.Score() != 1 || len(tx.Tags()) != 0 {
		t.Error("a fork writes on the transaction")
	}
	tx.Merge(fork)
	if r, ok := tx.AuthResult("spf"); tx.Score() != 3.5 || len(tx.Tags()) != 1 || tx.Quarantined() == "" || !ok || r.Result != "fail" {
		t.Errorf("merged: %v points, tags %q, %v", tx.Score(), tx.Tags(), tx.AuthResults())
	}
	tx.SetJudgement(before)
	if tx.Score() != 1 || len(tx.Tags()) != 0 || tx.Quarantined() != "" {
		t.Errorf("after all is taken back: %v points, tags %q, quarantine %q", tx.Score(), tx.Tags(), tx.Quarantined())
	}
	if _, ok := tx.AuthResult("spf"); !ok {
		t.Error("a result that was computed once is forgotten")
	}
}
