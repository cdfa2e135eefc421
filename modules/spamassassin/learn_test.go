package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/learn"
)

// newLearner gives a handler that learns without a queue.
func newLearner(address backend.Address, set func(*SpamAssassin)) *SpamAssassin {
	s := newHandler(address, set)
	s.log, s.learning = zap.NewNop(), new(learning)
	return s
}

// lesson n of a class: no two have all words in common.
func lesson(spam bool, n int) string {
	who, text := "friends@example.org", "The orchard meeting about apples and ladders is on Tuesday, bring your baskets."
	if spam {
		who, text = "offers@example.net", "Cheap lanterns and watches, unbeatable bargain, order your lottery voucher today."
	}
	return fmt.Sprintf("From: <%s>\r\nTo: user@example.test\r\nSubject: Number %d\r\nDate: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%d.%v@example.org>\r\n\r\n%s\r\nThis is copy %d.\r\n",
		who, n, n, spam, text, n)
}

// judged gives the rules about Bayes that a message meets.
func judged(t *testing.T, s *SpamAssassin, recipient, raw string) string {
	t.Helper()
	tx := newTransaction(t, raw)
	to, err := mail.ParseAddress(recipient)
	if err != nil {
		t.Fatal(err)
	}
	tx.Envelope.Recipients = []*mail.Recipient{{Address: to}}
	verdict, err := s.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(verdict.Reason) {
		if strings.HasPrefix(word, "BAYES_") {
			return word
		}
	}
	return ""
}

// TestTeachSpamd has a real spamd learn for one user, and change its mind.
func TestTeachSpamd(t *testing.T) {
	t.Parallel()
	s := newLearner(pupil.Unix, func(s *SpamAssassin) { s.User = "recipient" })
	const user, other = "first@example.test", "second@example.test"
	told := func(account string, spam bool, raw string) (learned bool) {
		t.Helper()
		address, err := mail.ParseAddress(account)
		if err != nil {
			t.Fatal(err)
		}
		learned, err = s.client.tell(t.Context(), spam, message{content: strings.NewReader(raw), size: int64(len(raw)), user: s.userOf(address)})
		if err != nil {
			t.Fatal(err)
		}
		return learned
	}
	next := lesson(true, 100)
	if rule := judged(t, s, user, next); rule != "" {
		t.Errorf("before: %s", rule)
	}
	for n := range 4 {
		for _, spam := range []bool{true, false} {
			if !told(user, spam, lesson(spam, n)) {
				t.Errorf("lesson %d, %v, is not learned", n, spam)
			}
		}
	}
	if rule := judged(t, s, user, next); rule != "BAYES_99" && rule != "BAYES_999" && rule != "BAYES_95" {
		t.Errorf("spam after the lessons: %q", rule)
	}
	if rule := judged(t, s, user, lesson(false, 100)); rule != "BAYES_00" && rule != "BAYES_05" {
		t.Errorf("ham after the lessons: %q", rule)
	}
	if rule := judged(t, s, other, next); rule != "" {
		t.Errorf("another user has %s", rule)
	}
	if told(user, true, lesson(true, 0)) {
		t.Error("the same lesson is learned twice")
	}
	// A changed mind: Set alone takes back what was learned before.
	for n := range 4 {
		if !told(user, false, lesson(true, n)) {
			t.Errorf("the opposite of lesson %d is not learned", n)
		}
	}
	if rule := judged(t, s, user, next); strings.HasPrefix(rule, "BAYES_9") {
		t.Errorf("what was spam and is not has %s", rule)
	}
}

// TestTellingIsNotAllowed: the error says what to do, and the lesson stays.
func TestTellingIsNotAllowed(t *testing.T) {
	t.Parallel()
	for _, address := range []backend.Address{spamd.TCP, spamd.Unix} {
		for _, size := range []int{100, 400_000} { // beyond what fits into the connection
			raw := letter + strings.Repeat("x", size)
			err := newLearner(address, nil).teach(t.Context(), "user@example.test", true, strings.NewReader(raw), int64(len(raw)))
			if err == nil || !strings.Contains(err.Error(), "start spamd with --allow-tell") || isPermanent(err) {
				t.Errorf("%v, %d bytes: %v", address, size, err)
			}
		}
	}
}

func isPermanent(err error) bool {
	var permanent interface{ Permanent() bool }
	return errors.As(err, &permanent) && permanent.Permanent()
}

func TestTellingAsItIsSent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		user, account string
		spam          bool
		want          string
	}{
		{"", "user@example.test", true, "Message-class: spam\r\nSet: local\r\n"},
		{"recipient", "user@example.test", false, "Message-class: ham\r\nSet: local\r\nUser: user@example.test\r\n"},
		{"domain", "user@example.test", true, "Message-class: spam\r\nSet: local\r\nUser: example.test\r\n"},
		{"filter", "user@example.test", true, "Message-class: spam\r\nSet: local\r\nUser: filter\r\n"},
		{"recipient", "User+tag@example.test", true, "Message-class: spam\r\nSet: local\r\nUser: user+tag@example.test\r\n"},
		{"", "a b@example.test", true, "Message-class: spam\r\nSet: local\r\n"},
		{"filter", "ü@example.test", true, "Message-class: spam\r\nSet: local\r\nUser: filter\r\n"},
	} {
		asked := make(chan string, 1)
		s := newLearner(fake(t, recorded(asked, "SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n")), func(s *SpamAssassin) { s.User = test.user })
		raw := letter + "Hello.\r\n"
		if err := s.teach(t.Context(), test.account, test.spam, strings.NewReader(raw), int64(len(raw))); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("TELL SPAMC/1.5\r\nContent-length: %d\r\n%s\r\n%s", len(raw), test.want, raw)
		if diff := cmp.Diff(want, <-asked); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
}

// TestTellingWithoutAName: what a user teaches whose address is no name is not learned
// for all others that have none.
func TestTellingWithoutAName(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	for _, test := range []struct{ user, account string }{
		{"recipient", `"a b"@example.test`},
		{"recipient", "o'neil@example.test"},
		{"recipient", "müller@example.test"},
		{"recipient", "-a@example.test"},
		{"recipient", "none"},
		{"domain", "none"},
	} {
		s := newLearner(fake(t, recorded(asked, "SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n")), func(s *SpamAssassin) { s.User = test.user })
		err := s.teach(t.Context(), test.account, true, strings.NewReader(letter), int64(len(letter)))
		if err == nil || !isPermanent(err) || !strings.Contains(err.Error(), "the account "+test.account+" has characters") {
			t.Errorf("%s, %s: %v", test.user, test.account, err)
		}
	}
	if len(asked) > 0 {
		t.Errorf("spamd was told: %q", <-asked)
	}
}

// TestUserOfAnAlias: what is judged and what is learned meet at the account.
func TestUserOfAnAlias(t *testing.T) {
	t.Parallel()
	address := func(text string) mail.Address {
		a, err := mail.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	sales := &mail.Recipient{Address: address("sales@example.test"), Accounts: []string{"Alice@example.net"}}
	team := &mail.Recipient{Address: address("team@example.test"), Accounts: []string{"alice@example.net", "bob@example.net"}}
	plain := &mail.Recipient{Address: address("alice+list@example.net")}
	plus := &mail.Recipient{Address: address("alice+list@example.net"), Accounts: []string{"alice+list@example.net"}}
	for _, test := range []struct {
		user       string
		recipients []*mail.Recipient
		want       string
	}{
		{"recipient", []*mail.Recipient{sales}, "alice@example.net"},
		{"domain", []*mail.Recipient{sales}, "example.net"},
		{"recipient", []*mail.Recipient{sales, plain}, "alice@example.net"},
		{"recipient", []*mail.Recipient{plus}, "alice+list@example.net"},
		{"recipient", []*mail.Recipient{plus, plain}, ""},
		{"recipient", []*mail.Recipient{team}, "team@example.test"},
		{"recipient", []*mail.Recipient{sales, team}, ""},
		{"fixed", []*mail.Recipient{sales, team}, "fixed"},
	} {
		s := &SpamAssassin{User: test.user}
		if got := s.user(test.recipients); got != test.want {
			t.Errorf("%s of %d: %q, want %q", test.user, len(test.recipients), got, test.want)
		}
	}
}

func TestAnswersToTelling(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer  string
		learned bool
		want    string // of the error
		final   bool
	}{
		"learned":           {"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n", true, "", false},
		"learned remotely":  {"SPAMD/1.5 0 EX_OK\r\ndidset:local,remote\r\nX-Other: y\r\n\r\n", true, "", false},
		"unlearned":         {"SPAMD/1.1 0 EX_OK\nDidRemove: local\n\n", true, "", false},
		"nothing new":       {"SPAMD/1.1 0 EX_OK\r\n\r\n\r\n", false, "", false},
		"empty fields":      {"SPAMD/1.1 0 EX_OK\r\nDidSet: \r\n\r\n", false, "", false},
		"odd lines":         {"SPAMD/1.1 0 EX_OK\r\nhello\r\nDidSet: local\r\n\r\n", true, "", false},
		"not allowed":       {"SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled, set the --allow-tell switch.\r\n", false, "or set learn = false", false},
		"unavailable":       {"SPAMD/1.0 69 Service Unavailable\r\n", false, "the error 69", false},
		"unreadable":        {"SPAMD/1.0 65 EX_DATAERR\r\n", false, "the error 65", true},
		"too large":         {"SPAMD/1.0 98 EX_TOOBIG\r\n", false, "the error 98", true},
		"garbage":           {"HTTP/1.1 200 OK\r\n\r\n", false, "makes no sense", false},
		"nothing":           {"", false, "in the middle of the answer", false},
		"half":              {"SPAMD/1.1 0 EX_OK\r\nDidSet: lo", false, "in the middle of the answer", false},
		"an endless answer": {"SPAMD/1.1 0 EX_OK\r\n" + strings.Repeat("DidSet: local\r\n", 1000), false, "more than 32 fields", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLearner(fake(t, respond(test.answer)), nil)
			learned, err := s.client.tell(t.Context(), true, message{content: strings.NewReader(letter), size: int64(len(letter))})
			if learned != test.learned || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || isPermanent(err) != test.final {
				t.Errorf("got %v, %v", learned, err)
			}
		})
	}
	var large *tooLargeError
	err := newLearner(spamd.TCP, nil).teach(t.Context(), "user@example.test", true, nil, 600_000)
	if !errors.As(err, &large) || !isPermanent(err) {
		t.Errorf("a large message: %v", err)
	}
}

func FuzzReadTold(f *testing.F) {
	for _, seed := range []string{
		"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n", "SPAMD/1.1 0 EX_OK\nDidRemove: local\n\n", "SPAMD/1.1 0 EX_OK\r\n\r\n",
		"SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled, set the --allow-tell switch.\r\n", "SPAMD/1.0 98 \r\n",
		"SPAMD/1.1 0 EX_OK\r\nDidSet\r\n:\r\n: local\r\n\r\n", "SPAMD/1.1 99999999999 EX_OK\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		learned, err := readTold(strings.NewReader(answer))
		if err != nil {
			if len(err.Error()) > 2000 || learned {
				t.Errorf("%q gives %v, %v", answer, learned, err)
			}
			return
		}
		if !strings.HasPrefix(answer, "SPAMD/") || learned && !strings.Contains(strings.ToLower(answer), "\ndid") {
			t.Errorf("%q is taken for an answer: %v", answer, learned)
		}
	})
}

// TestLearningYieldsToScanning: it takes a connection when none of those that scan
// waits, and never more than one.
func TestLearningYieldsToScanning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2)
		entered := make(chan int, 3)
		var wg sync.WaitGroup
		for range 2 {
			if err := g.enter(t.Context(), network); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			wg.Go(func() {
				if err := g.enterIdle(t.Context()); err != nil {
					t.Error(err)
				}
				entered <- i
			})
		}
		synctest.Wait()
		g.leave() // one of two is free
		synctest.Wait()
		if len(entered) != 1 {
			t.Fatalf("%d learn beside one that scans", len(entered))
		}
		wg.Go(func() {
			if err := g.enter(t.Context(), network); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		g.leaveIdle() // its connection is for the one that scans
		synctest.Wait()
		if len(entered) != 1 {
			t.Fatalf("%d learn although another message waits for scanning", len(entered)-1)
		}
		g.leave()
		g.leave()
		synctest.Wait()
		if len(entered) != 2 {
			t.Fatalf("%d learn at once", len(entered)-1)
		}
		g.leaveIdle()
		wg.Wait()
		g.leaveIdle()

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 2 {
			if err := g.enter(t.Context(), network); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.enterIdle(ctx); !errors.Is(err, backend.ErrBusy) {
			t.Errorf("busy for long: %v", err)
		}
	})
}

// queue is a sandbox in which spamassassin learns by service.learn.
type queue struct {
	kit   *core.Sandbox
	learn *learn.Service
}

func (q *queue) lesson(t *testing.T, account, raw string, spam bool) {
	t.Helper()
	st := q.kit.Store()
	body, err := st.PrepareBody([]byte(raw), nil, int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Discard()
	err = st.Write(t.Context(), func(tx *store.Tx) error {
		id, err := tx.InsertBody(body, 1)
		if err != nil {
			return err
		}
		return q.learn.Learn(tx, account, id, spam)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (q *queue) figure(name string) float64 {
	for _, f := range q.learn.Measure() {
		if f.Name == name {
			return f.Value
		}
	}
	return -1
}

// TestSpamdIsAway has users teach while there is no spamd: it is told when it is
// back. The clock is the test's, spamd is real.
func TestSpamdIsAway(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "spamd.sock")
	synctest.Test(t, func(t *testing.T) {
		kit := coretest.New(t, coretest.Options{})
		q := &queue{kit: kit, learn: coretest.Service[*learn.Service](t, kit)}
		logs, log := observer.New(zapcore.InfoLevel)
		s := coretest.Load[*SpamAssassin](t, kit, "handler.spamassassin",
			fmt.Sprintf("spamassassin {\n address = \"unix:%s\"\n user = \"recipient\"\n learn = true\n}", socket))
		s.log = zap.New(logs)
		const user = "third@example.test"
		for n := range 4 {
			q.lesson(t, user, lesson(true, n), true)
			q.lesson(t, user, lesson(false, n), false)
		}
		time.Sleep(20 * time.Minute) //nolint:forbidigo // the clock is synctest's
		if waiting, failed := q.figure("waiting"), q.figure("failed_total"); waiting != 8 || failed < 4 || failed > 6 {
			t.Errorf("%v wait, %v attempts failed", waiting, failed)
		}
		if err := os.Symlink(pupil.Unix.Name, socket); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // the clock is synctest's
		if waiting, told := q.figure("waiting"), q.figure("told_total"); waiting != 0 || told != 8 {
			t.Errorf("%v wait, %v were told", waiting, told)
		}
		if rule := judged(t, s, user, lesson(true, 100)); !strings.HasPrefix(rule, "BAYES_9") {
			t.Errorf("spam after the lessons: %q", rule)
		}
		if log.Len() != 0 {
			t.Errorf("log: %+v", log.All())
		}
		q.lesson(t, user, lesson(true, 0), true) // spamd knows it
		q.lesson(t, user, lesson(true, 1), true)
		time.Sleep(time.Minute) //nolint:forbidigo // the clock is synctest's
		if n := log.FilterMessageSnippet("learned nothing").Len(); n != 1 {
			t.Errorf("%d lines about lessons in vain, want 1", n)
		}
	})
}

func TestBuildWithoutLearning(t *testing.T) {
	t.Parallel()
	problems := newHandler(spamd.TCP, func(s *SpamAssassin) { s.Learn = true }).Validate()
	if len(problems) != 1 || problems[0].Attribute != "learn" {
		t.Errorf("problems %+v", problems)
	}
}

// TestLearnersOfTheSameDaemon: handlers that tell the same spamd the same are one.
func TestLearnersOfTheSameDaemon(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	address := fake(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn); <-hang })
	kit := coretest.New(t, coretest.Options{})
	q := &queue{kit: kit, learn: coretest.Service[*learn.Service](t, kit)}
	load := func(settings string) {
		coretest.Load[*SpamAssassin](t, kit, "handler.spamassassin", fmt.Sprintf("spamassassin {\n address = %q\n %s\n}", address, settings))
	}
	load("")
	if q.learn.Learning() {
		t.Error("a handler without learn learns")
	}
	load("learn = true")
	load("learn = true\n reject = 20")
	if got := q.figure("learners"); got != 1 {
		t.Errorf("%v learners, want 1", got)
	}
	load("learn = true\n user = \"domain\"")
	if got := q.figure("learners"); got != 2 {
		t.Errorf("%v learners, want 2", got)
	}
	q.lesson(t, "user@example.test", letter, true) // hangs, and is broken off at the end
}
