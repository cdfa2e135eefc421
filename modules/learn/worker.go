package learn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

const (
	firstPause = time.Minute     // after a lesson that could not be told
	lastPause  = time.Hour       // to which pauses grow
	longest    = 5 * time.Minute // for which a worker sleeps: the clock may be set
	callLimit  = 3 * time.Minute // for one lesson; a filter has a time limit of its own
)

// teacher is a registration.
type teacher struct {
	teach  func(ctx context.Context, account string, spam bool, message io.Reader, size int64) error
	ctx    context.Context //nolint:containedctx // the life of the registration, which forget ends
	cancel context.CancelFunc
	busy   sync.Mutex // held during a call
}

// errForgotten is returned when the teacher is none any more.
var errForgotten = errors.New("the filter has ended")

// tell has the daemon told. A panic is an error of this lesson.
func (t *teacher) tell(ctx context.Context, l *lesson, body *store.BodyReader) (err error) {
	t.busy.Lock()
	defer t.busy.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		if err != nil && t.ctx.Err() != nil {
			err = errForgotten
		}
	}()
	return t.teach(ctx, l.account, l.spam, io.NewSectionReader(body, 0, body.Size()), body.Size())
}

// end breaks off a call under way and waits for its end.
func (t *teacher) end() {
	t.cancel()
	t.busy.Lock()
	defer t.busy.Unlock()
}

// learner is a filter that is told its lessons by a goroutine of its own.
type learner struct {
	service  *Service
	name     string
	log      *zap.Logger
	teachers []*teacher // guarded by the service's mu: the newest last

	signal  chan struct{}           // of capacity 1
	again   atomic.Bool             // all that waits is to be tried now
	trouble atomic.Pointer[trouble] // nil if the last lesson was taken

	ctx    context.Context //nolint:containedctx // the life of the goroutine, which stop ends
	cancel context.CancelFunc
	ended  sync.WaitGroup

	// Of the goroutine:
	failures int       // in a row
	eager    bool      // lessons are told before they are due, until that fails
	resume   time.Time // nothing is told before
}

func newLearner(s *Service, name string) *learner {
	l := &learner{service: s, name: name, log: s.log.With(zap.String("learner", name)), signal: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *learner) start() { l.ended.Go(l.run) }

// stop ends the goroutine, if there is one.
func (l *learner) stop() {
	l.cancel()
	l.ended.Wait()
}

// look has the goroutine look for lessons.
func (l *learner) look() {
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// hurry has it try all that waits at once.
func (l *learner) hurry() {
	l.again.Store(true)
	l.look()
}

func (l *learner) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.signal:
		case <-timer.C:
		case <-l.ctx.Done():
			return
		}
		pause := l.step(l.ctx)
		timer.Reset(min(pause, longest))
	}
}

// step tells the lesson that is due first, and gives how long there is nothing to
// do.
func (l *learner) step(ctx context.Context) (pause time.Duration) {
	s := l.service
	now := s.now()
	if l.again.Swap(false) {
		l.failures, l.resume, l.eager = 0, time.Time{}, true
	}
	if pause := l.resume.Sub(now); pause > 0 && pause <= lastPause { // else the clock was set back
		return pause
	}
	d, err := s.next(ctx, l.name, now, l.eager)
	if err != nil {
		return l.storeFault(fmt.Errorf("find the next lesson: %w", err))
	}
	if d.wait > 0 {
		l.eager = false
		return d.wait
	}
	if d.lost {
		return l.drop(ctx, &d.lesson, store.ErrNotFound)
	}
	defer func() { _ = d.body.Close() }() // it was only read
	t := s.newest(l)
	if t == nil {
		return longest // it is about to be stopped
	}
	return l.settle(ctx, &d.lesson, t.tell(ctx, &d.lesson, d.body))
}

// settle does with a lesson what follows from the answer.
func (l *learner) settle(ctx context.Context, lesson *lesson, err error) (pause time.Duration) {
	// What was answered is written even if the server ends now.
	ctx = context.WithoutCancel(ctx)
	s := l.service
	switch {
	case err == nil:
		s.told.Add(1)
		l.failures = 0
		if l.trouble.Swap(nil) != nil {
			l.log.Info("the spam filter learns again", zap.Int64("waiting", s.waiting.Load()))
		}
		if err := s.remove(ctx, lesson); err != nil {
			return l.storeFault(fmt.Errorf("remove lesson: %w", err))
		}
		return 0
	case errors.Is(err, errForgotten), l.ctx.Err() != nil:
		return 0
	case isFinal(err):
		l.failures = 0
		return l.drop(ctx, lesson, err)
	}
	s.failed.Add(1)
	l.failures++
	l.eager = false
	now := s.now()
	l.resume = now.Add(grow(l.failures))
	next := now.Add(grow(lesson.attempts + 1))
	level := l.log.Debug
	if l.isNews(err, now) {
		level = l.log.Warn
	}
	level("the spam filter could not be told what a user has taught; it is told later, again and again for a week",
		zap.String(logkey.User, lesson.account), zap.Int("attempts", lesson.attempts+1), zap.Time("next", l.resume),
		zap.Int64("waiting", s.waiting.Load()), zap.Error(err))
	if !next.Before(lesson.expires) {
		return l.drop(ctx, lesson, err)
	}
	if err := s.postpone(ctx, lesson, next); err != nil {
		return l.storeFault(fmt.Errorf("postpone lesson: %w", err))
	}
	return 0 // the next step waits for resume
}

// drop gives a lesson up.
func (l *learner) drop(ctx context.Context, lesson *lesson, why error) (pause time.Duration) {
	if err := l.service.remove(ctx, lesson); err != nil {
		return l.storeFault(fmt.Errorf("remove lesson: %w", err))
	}
	l.service.dropped.Add(1)
	l.log.Info("a lesson for the spam filter is given up", zap.String(logkey.User, lesson.account), zap.Bool("spam", lesson.spam),
		zap.Int("attempts", lesson.attempts+1), zap.Error(why))
	return 0
}

// storeFault logs what the store does not do now.
func (l *learner) storeFault(err error) (pause time.Duration) {
	if l.ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
		l.log.Warn("lessons for the spam filter wait for the store", zap.Error(err))
	}
	l.resume = l.service.now().Add(firstPause)
	return firstPause
}

// trouble is why a filter could not be told the last lesson.
type trouble struct {
	since      time.Time
	text, kind string
}

// isNews notes why a lesson could not be told, and tells whether that is another reason
// than the last time.
func (l *learner) isNews(err error, now time.Time) bool {
	last := l.trouble.Load()
	t := &trouble{since: now, text: mail.Printable(err.Error(), maxTrouble), kind: kindOf(err)}
	if last != nil {
		t.since = last.since
	}
	l.trouble.Store(t)
	return last == nil || last.kind != t.kind
}

// maxTrouble bounds what is kept of an error, in bytes.
const maxTrouble = 300

// kindOf gives the text of an error without its numbers, such as ports and sizes, in
// which it differs from time to time.
func kindOf(err error) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
}

// isFinal tells whether an error says of itself that it will stay.
func isFinal(err error) bool {
	final, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err)
	return ok && final.Permanent()
}

// grow gives the pause after so many failures: doubled each time, and up to a
// quarter shorter, so that not all come at once.
func grow(failures int) time.Duration {
	pause := lastPause
	if shift := failures - 1; shift < 6 {
		pause = min(firstPause<<shift, lastPause)
	}
	return pause - time.Duration(rand.Int64N(int64(pause/4))) //nolint:gosec // this is no secret
}
