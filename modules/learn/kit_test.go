package learn

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/store"
)

const (
	alice  = "alice@example.test"
	bob    = "bob@example.test"
	daemon = "daemon tcp:192.0.2.1:783"
)

// newService gives a queue with a store in memory, and its log.
func newService(t *testing.T) (*Service, *observer.ObservedLogs) {
	t.Helper()
	s := coretest.Service[*Service](t, coretest.New(t, coretest.Options{}))
	core, logs := observer.New(zapcore.DebugLevel)
	s.log = zap.New(core)
	return s, logs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same[T any](t testing.TB, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// addBody stores a body that one message refers to.
func addBody(t testing.TB, s *Service, text string) (id int64) {
	t.Helper()
	b, err := s.store.PrepareBody([]byte(text), nil, int64(len(text)))
	must(t, err)
	defer b.Discard()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) (err error) {
		id, err = tx.InsertBody(b, 1)
		return err
	}))
	return id
}

// removeMessage takes the message's reference to a body back.
func removeMessage(t testing.TB, s *Service, body int64) {
	t.Helper()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return tx.AddBodyRefs(body, -1) }))
}

func teach(t testing.TB, s *Service, account string, body int64, spam bool) {
	t.Helper()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.Learn(tx, account, body, spam) }))
}

// number gives the one integer that a query finds.
func number(t testing.TB, s *Service, query string) (n int) {
	t.Helper()
	must(t, s.store.Read(t.Context(), func(sn *store.Snapshot) error { return sn.QueryRow(query).Scan(&n) }))
	return n
}

// refs gives the references to all bodies, and the rows that wait.
func refs(t testing.TB, s *Service) (refs, rows int) {
	t.Helper()
	return number(t, s, "SELECT coalesce(sum(refs), 0) FROM body"), number(t, s, "SELECT count(*) FROM learn_lessons")
}

// figures gives those that are not 0.
func figures(s *Service) map[string]float64 {
	all := make(map[string]float64)
	for _, f := range s.Measure() {
		if f.Value != 0 {
			all[f.Name] = f.Value
		}
	}
	return all
}

// filter is a spam filter that writes down what it is told.
type filter struct {
	began time.Time
	fail  func(lesson string) error // nil means that it takes all

	mu   sync.Mutex
	told []string
	at   []time.Duration
}

func newFilter(fail func(string) error) *filter { return &filter{began: time.Now(), fail: fail} }

func (f *filter) teach(_ context.Context, account string, spam bool, message io.Reader, size int64) error {
	text, err := io.ReadAll(message)
	if err != nil || int64(len(text)) != size {
		return fmt.Errorf("%d bytes of %d: %w", len(text), size, err)
	}
	class := "ham"
	if spam {
		class = "spam"
	}
	name, _, _ := strings.Cut(account, "@")
	lesson := fmt.Sprintf("%s %s %s", name, class, text)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, lesson)
	f.at = append(f.at, time.Since(f.began))
	if f.fail != nil {
		return f.fail(lesson)
	}
	return nil
}

// lessons gives what it was told since the last call.
func (f *filter) lessons() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.told
	f.told = nil
	return list
}

// pass lets time go by, and waits until what is due is done.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the clock is synctest's
	synctest.Wait()
}
