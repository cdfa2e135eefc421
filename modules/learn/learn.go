// Package learn is the service that remembers what users teach spam filters,
// service.learn: a durable queue of lessons.
//
// A lesson says of a stored message that for an account it is spam, or that it is
// not. It is written in the transaction of what the user did (a move into Junk, the
// release from a quarantine), one row for each filter that learns, and holds a
// reference to the message's body: so it outlives a crash, and the message. Each
// filter is told one lesson after the other, and again, with growing pauses, until
// it has answered or a week is over. A crash between the answer and the end of the
// row tells a lesson twice, which filters that know a message by its Message-ID
// take for one.
//
// What an account can make the server keep is bounded: see maxDaily and the limits
// beside it. What is over them is not learned, and counted.
//
// It speaks no protocol: a filter's handler registers by Teach what tells its daemon.
package learn

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
)

func init() { core.Register(new(Service)) }

// Limits of what waits, and of what an account may teach.
const (
	maxDaily      = 1000     // lessons of an account in a day (UTC)
	maxDailyBytes = 64 << 20 // their sizes together
	maxSize       = 4 << 20  // of a message that is learned

	maxOwn      = 2 * maxDaily      // rows of an account that wait, for all filters
	maxOwnBytes = 2 * maxDailyBytes // the sizes of their messages together

	maxWaiting      = 100_000 // rows of all accounts and filters
	maxWaitingBytes = 1 << 30 // the sizes of their messages together
)

// keep is how long a lesson waits for a filter that does not take it.
const keep = 7 * 24 * time.Hour

// Service is the queue of lessons. It is safe for concurrent use.
type Service struct {
	store *store.Store
	now   func() time.Time
	log   *zap.Logger

	mu       sync.RWMutex
	learners map[string]*learner // guarded by mu
	names    []string            // guarded by mu: of learners, sorted; replaced, never changed
	started  bool                // guarded by mu

	// What the table holds; only the writer changes it.
	waiting, waitingBytes atomic.Int64
	own                   map[string]amount // guarded by mu: by account, "" for those that were removed

	told, failed, dropped, over atomic.Uint64
	overLogged                  time.Time // of the writer
}

// amount is what an account has waiting.
type amount struct{ rows, bytes int64 }

// Module describes the service to the registry.
func (*Service) Module() core.Info {
	return core.Info{ID: "service.learn", New: func() core.Module { return new(Service) }}
}

// Provision takes the store and the clock.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now, s.log = c.Store(), c.Now(), c.Logger()
	s.learners, s.own = make(map[string]*learner), make(map[string]amount)
	return nil
}

// Start counts what waits and begins to tell it.
func (s *Service) Start() error {
	if err := s.count(context.Background()); err != nil {
		return fmt.Errorf("count lessons: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	for _, l := range s.learners {
		l.start()
	}
	return nil
}

// Cleanup ends the telling; what is under way is broken off and told again after
// the next start.
func (s *Service) Cleanup() error {
	s.mu.Lock()
	s.started = false
	list := make([]*learner, 0, len(s.learners))
	for _, l := range s.learners {
		list = append(list, l)
	}
	s.mu.Unlock()
	for _, l := range list {
		l.stop()
	}
	return nil
}

// Learning tells whether any filter learns, so that a caller can spare itself the
// search for what to teach.
func (s *Service) Learning() bool { return len(s.registered()) > 0 }

func (s *Service) registered() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.names
}

// Teach registers a filter that learns, under a name that is the same for all who
// would tell the same daemon the same; the newest of them is asked. teach tells the
// daemon one lesson: whether the message, of size bytes, is spam for the account. It
// ends when ctx does. An error means that it is tried again later, unless it has a
// method Permanent that says true: then the lesson is dropped.
//
// The caller calls forget in the end, which waits for a call under way. To register
// again, as a reload does, has what waits tried at once, until an attempt fails.
func (s *Service) Teach(name string, teach func(ctx context.Context, account string, spam bool, message io.Reader, size int64) error) (forget func()) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &teacher{teach: teach, ctx: ctx, cancel: cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.learners[name]
	if l == nil {
		l = newLearner(s, name)
		s.learners[name] = l
		s.rename()
		if s.started {
			l.start()
		}
	}
	l.teachers = append(l.teachers, t)
	l.hurry()
	return sync.OnceFunc(func() { s.forget(l, t) })
}

// forget takes a teacher away, and with the last one the learner.
func (s *Service) forget(l *learner, t *teacher) {
	s.mu.Lock()
	l.teachers = slices.DeleteFunc(slices.Clone(l.teachers), func(other *teacher) bool { return other == t })
	last := len(l.teachers) == 0
	if last {
		delete(s.learners, l.name)
		s.rename()
	}
	s.mu.Unlock()
	t.end()
	if last {
		l.stop()
	}
}

// rename makes the list of names anew. The caller holds mu.
func (s *Service) rename() {
	names := make([]string, 0, len(s.learners))
	for name := range s.learners {
		names = append(names, name)
	}
	slices.Sort(names)
	s.names = names
}

// newest gives the teacher to ask, nil if there is none.
func (s *Service) newest(l *learner) *teacher {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(l.teachers) == 0 {
		return nil
	}
	return l.teachers[len(l.teachers)-1]
}

// wake lets the workers look for new lessons.
func (s *Service) wake() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.learners {
		l.look()
	}
}

// Measure gives the figures of the queue.
func (s *Service) Measure() []core.Figure {
	failing := 0
	s.mu.RLock()
	for _, l := range s.learners {
		if l.trouble.Load() != nil {
			failing++
		}
	}
	learners := len(s.learners)
	s.mu.RUnlock()
	return []core.Figure{
		{Name: "learners", Help: "Spam filters that learn.", Value: float64(learners)},
		{Name: "failing", Help: "Those of them that could not be told the last lesson.", Value: float64(failing)},
		{Name: "waiting", Help: "Lessons that no filter has been told yet.", Value: float64(s.waiting.Load())},
		{Name: "told_total", Help: "Lessons that a filter has taken.", Value: float64(s.told.Load())},
		{Name: "failed_total", Help: "Attempts to tell a lesson that failed.", Value: float64(s.failed.Load())},
		{Name: "dropped_total", Help: "Lessons that were given up.", Value: float64(s.dropped.Load())},
		{Name: "over_limit_total", Help: "Lessons that were not kept, since there are too many.", Value: float64(s.over.Load())},
	}
}

// Report says what waits, and which filter cannot be told.
func (s *Service) Report() string {
	waiting := s.waiting.Load()
	var parts []string
	if waiting > 0 {
		parts = append(parts, fmt.Sprintf("lessons that wait: %d", waiting))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, name := range s.names {
		if t := s.learners[name].trouble.Load(); t != nil {
			parts = append(parts, fmt.Sprintf("%s cannot be told since %s, the last error is: %s", name, t.since.UTC().Format("2006-01-02 15:04 UTC"), t.text))
		}
	}
	if waiting > 0 && len(s.names) == 0 {
		parts = append(parts, "no spam filter learns now")
	}
	return strings.Join(parts, "; ")
}

// Interface guards.
var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Cleaner     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
	_ core.Reporter    = (*Service)(nil)
)
