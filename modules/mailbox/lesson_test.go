package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/learn"
)

// withPupil gives a mailbox store with a spam filter that is away, so that all
// lessons wait. now may be nil.
func withPupil(t testing.TB, now func() time.Time) *Service {
	t.Helper()
	kit := coretest.New(t, coretest.Options{OnDisk: true, Now: now})
	t.Cleanup(coretest.Service[*learn.Service](t, kit).Teach("filter", func(context.Context, string, bool, io.Reader, int64) error {
		return errors.New("connection refused")
	}))
	return coretest.Service[*Service](t, kit)
}

// waitingLessons gives those that wait, in their order, as "alice spam note 1".
func waitingLessons(t testing.TB, s *Service) []string {
	t.Helper()
	var list []string
	must(t, s.store.Read(t.Context(), func(sn *store.Snapshot) error {
		list = nil
		rows, err := sn.Query(`SELECT l.account, l.spam, c.envelope FROM learn_lessons l LEFT JOIN mailbox_contents c ON c.body_id = l.body_id ORDER BY l.id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var account, envelope string
			var spam bool
			if err := rows.Scan(&account, &spam, &envelope); err != nil {
				return err
			}
			class := map[bool]string{true: "spam", false: "ham"}[spam]
			list = append(list, fmt.Sprintf("%s %s %s", account, class, readEnvelope(envelope).decode().Subject))
		}
		return rows.Err()
	}))
	return list
}

func TestLessons(t *testing.T) {
	t.Parallel()
	one := imap.UIDSetNum(1)
	move := func(to string) func(context.Context, *View) error {
		return func(ctx context.Context, v *View) error { _, err := v.Move(ctx, one, to); return err }
	}
	copied := func(to string) func(context.Context, *View) error {
		return func(ctx context.Context, v *View) error { _, err := v.Copy(ctx, one, to); return err }
	}
	spam, ham := []string{"alice@example.test spam note 1"}, []string{"alice@example.test ham note 1"}
	tests := map[string]struct {
		from string
		do   func(context.Context, *View) error
		want []string
	}{
		"moved into Junk":            {"INBOX", move("Junk"), spam},
		"copied into Junk":           {"INBOX", copied("Junk"), spam},
		"moved from Trash to Junk":   {"Trash", move("Junk"), spam},
		"moved from Junk to INBOX":   {"Junk", move("inbox"), ham},
		"copied from Junk to INBOX":  {"Junk", copied("INBOX"), ham},
		"moved from Junk to Archive": {"Junk", move("Archive"), ham},
		"moved from Junk to Trash":   {"Junk", move("Trash"), nil},
		"copied from Junk to Trash":  {"Junk", copied("Trash"), nil},
		"copied from Junk to Junk":   {"Junk", copied("Junk"), nil},
		"moved from Junk to Junk":    {"Junk", move("Junk"), nil},
		"moved elsewhere":            {"INBOX", move("Archive"), nil},
		"moved to Trash":             {"INBOX", move("Trash"), nil},
		"moved below Junk": {"INBOX", func(ctx context.Context, v *View) error {
			return errors.Join(v.account.Create(ctx, "Junk/old", nil), move("Junk/old")(ctx, v))
		}, nil},
		"moved into what was Junk": {"INBOX", func(ctx context.Context, v *View) error {
			return errors.Join(v.account.Rename(ctx, "Junk", "Unwanted"), move("Unwanted")(ctx, v))
		}, spam},
		"moved into a new Junk": {"INBOX", func(ctx context.Context, v *View) error {
			return errors.Join(v.account.Rename(ctx, "Junk", "Unwanted"), v.account.Create(ctx, "Junk", nil), move("Junk")(ctx, v))
		}, spam},
		"moved from one Junk to the other": {"Junk", func(ctx context.Context, v *View) error {
			return errors.Join(v.account.Rename(ctx, "Junk", "Unwanted"), v.account.Create(ctx, "Junk", nil), move("Junk")(ctx, v))
		}, nil},
		"moved there and back": {"INBOX", func(ctx context.Context, v *View) error {
			err := move("Junk")(ctx, v)
			junk, err2 := v.account.Select(ctx, "Junk", nil)
			if err = errors.Join(err, err2); err != nil {
				return err
			}
			defer junk.Close()
			return move("INBOX")(ctx, junk)
		}, ham},
		"nowhere": {"INBOX", func(ctx context.Context, v *View) error {
			if err := move("Spam")(ctx, v); code(err) != imap.ResponseCodeTryCreate {
				return fmt.Errorf("move gives %w", err)
			}
			return nil
		}, nil},
		"only looked at": {"Junk", func(ctx context.Context, v *View) error {
			flags := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{"$NotJunk", imap.FlagDeleted}}
			_, err := v.Store(ctx, one, flags, nil, nil)
			return errors.Join(err, v.Expunge(ctx, nil))
		}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := withPupil(t, nil)
			must(t, s.Deliver(t.Context(), Delivery{Message: rendering(t, note(1)), Received: received, Recipients: []Target{{alice, test.from}}}))
			must(t, test.do(t.Context(), selectMailboxOf(t, open(t, s, alice), test.from)))
			same(t, "lessons", test.want, waitingLessons(t, s))
		})
	}
}

// TestLessonsOfTwoAccounts: a message that both have is what each says.
func TestLessonsOfTwoAccounts(t *testing.T) {
	t.Parallel()
	s := withPupil(t, nil)
	deliver(t, s, note(1), alice, bob)
	deliver(t, s, note(2), bob)
	for _, user := range []string{alice, bob} {
		v := selectMailboxOf(t, open(t, s, user), "INBOX")
		_, err := v.Move(t.Context(), all, "Junk")
		must(t, err)
	}
	v := selectMailboxOf(t, open(t, s, bob), "Junk")
	_, err := v.Copy(t.Context(), imap.UIDSetNum(1), "INBOX")
	must(t, err)
	same(t, "lessons", []string{"alice@example.test spam note 1", "bob@example.test ham note 1", "bob@example.test spam note 2"}, waitingLessons(t, s))
}

// TestLessonOutlivesTheMessage: what waits keeps the body, and nothing else.
func TestLessonOutlivesTheMessage(t *testing.T) {
	t.Parallel()
	s := withPupil(t, nil)
	deliver(t, s, note(1), alice)
	deliver(t, s, note(2), bob)
	for _, user := range []string{alice, bob} {
		v := selectMailboxOf(t, open(t, s, user), "INBOX")
		_, err := v.Move(t.Context(), all, "Junk")
		must(t, err)
	}
	junk := selectMailboxOf(t, open(t, s, alice), "Junk")
	mark(t, junk, all, imap.StoreFlagsAdd, imap.FlagDeleted)
	expunge(t, junk, nil)
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.RemoveAccount(tx, bob) }))
	sweep(t, s)
	same(t, "contents and bodies", []int64{0, 2}, read(t, s, "SELECT c.n, b.n FROM (SELECT count(*) AS n FROM mailbox_contents) c, (SELECT count(*) AS n FROM body WHERE refs = 1) b"))
	same(t, "lessons", 2, len(waitingLessons(t, s)))
}

// TestManyLessons: a move of more messages than an account may teach in a day moves
// them all.
func TestManyLessons(t *testing.T) {
	t.Parallel()
	s := withPupil(t, nil)
	const n = moveStep + 500
	fill(t, s, n, 600)
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	data, err := v.Move(t.Context(), all, "Junk")
	must(t, err)
	if numbers, _ := data.DestUIDs.Nums(); len(numbers) != n {
		t.Errorf("%d messages were moved, want %d", len(numbers), n)
	}
	same(t, "lessons", []int64{1000}, read(t, s, "SELECT count(*) FROM learn_lessons"))
}

// BenchmarkMoveIntoJunk measures a step of a large move, without a filter that
// learns and with one.
func BenchmarkMoveIntoJunk(b *testing.B) {
	for _, learns := range []bool{false, true} {
		b.Run(fmt.Sprintf("learns=%v", learns), func(b *testing.B) {
			clock := coretest.NewClock(received)
			s := withPupil(b, clock.Now)
			if !learns {
				s.lessons = nil
			}
			fill(b, s, moveStep, 2400)
			a := open(b, s, alice)
			names := []string{inbox, "Junk"}
			n := 0
			b.ResetTimer()
			for b.Loop() {
				v, err := a.Select(b.Context(), names[n%2], nil)
				must(b, err)
				n++
				clock.Add(24 * time.Hour) // on which the account may teach as much again
				_, err = v.Move(b.Context(), all, names[n%2])
				must(b, err)
				v.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*moveStep), "µs/message")
		})
	}
}
