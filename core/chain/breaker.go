package chain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// Breaker rests a handler whose backend keeps failing, so that a dead daemon
// costs one time limit now and then, and not one a message. While it rests, what
// the last error means holds at once: on_timeout if there was no answer in time,
// else on_error. So a setting that stops mail does so during the rest, too. It is
// safe for concurrent use.
type Breaker struct {
	// failing is set from the first error to the next success. As long as it is
	// not, calls go past the breaker and cost nothing.
	failing atomic.Bool
	// late tells whether the last error was that no answer came in time.
	late    atomic.Bool
	circuit *gobreaker.CircuitBreaker[mail.Verdict]
}

// Close does nothing; it lets a breaker be shared between configurations.
func (b *Breaker) Close() error { return nil }

// errResting is returned while a handler rests.
var errResting = errors.New("resting after repeated errors")

const (
	restAfter = 5                // consecutive errors
	restFor   = 10 * time.Second // then one call is let through as a trial
)

// NewBreaker makes a breaker for the handler of that name. Every change of its
// state is logged; nil means no log.
func NewBreaker(name string, log *zap.Logger) *Breaker {
	if log == nil {
		log = zap.NewNop()
	}
	return &Breaker{circuit: gobreaker.NewCircuitBreaker[mail.Verdict](gobreaker.Settings{
		Name:        name,
		Timeout:     restFor,
		IsExcluded:  func(err error) bool { return isClientGone(err) || errors.Is(err, errDeferred) },
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= restAfter },
		OnStateChange: func(name string, from, to gobreaker.State) {
			log.Warn("circuit breaker changed", zap.String(logkey.Handler, name), zap.Stringer("from", from), zap.Stringer("to", to))
		},
	})}
}

// Resting tells whether the handler is not asked for now.
func (b *Breaker) Resting() bool { return b.circuit.State() == gobreaker.StateOpen }

// isClientGone tells errors that say nothing about the backend.
func isClientGone(err error) bool { return errors.Is(err, context.Canceled) && !isLate(err) }

// late marks the error of a handler that gave no answer in time.
type late struct{ error }

// Unwrap gives what the handler said.
func (l late) Unwrap() error { return l.error }

func isLate(err error) bool {
	_, ok := errors.AsType[late](err)
	return ok
}

// ask calls a handler and marks its error if it gave no answer in time: its time
// limit or that of the stage is over, or a shorter one of the handler's own, as for
// a connection. A client that hangs up does not make it late.
func ask(ctx context.Context, h Handler, tx *mail.Transaction) (mail.Verdict, error) {
	verdict, err := h.Handle(ctx, tx)
	if err == nil {
		return verdict, nil
	}
	over := ctx.Err()
	if over == nil {
		over = err
	}
	if errors.Is(over, context.DeadlineExceeded) || errors.Is(over, os.ErrDeadlineExceeded) {
		err = late{err}
	}
	return verdict, err
}

func isResting(err error) bool { return errors.Is(err, errResting) }

func (b *Breaker) handle(ctx context.Context, h Handler, tx *mail.Transaction) (mail.Verdict, error) {
	if b.failing.Load() {
		return b.watched(ctx, h, tx)
	}
	verdict, err := ask(ctx, h, tx)
	if err != nil && !isClientGone(err) {
		b.late.Store(isLate(err))
		b.failing.Store(true)
		_, _ = b.circuit.Execute(func() (mail.Verdict, error) { return verdict, err })
	}
	return verdict, err
}

// errDeferred stands for the verdict defer, which says nothing about the backend:
// the handler may not have asked it, because too many others do.
var errDeferred = errors.New("handler defers")

// watched lets the circuit count and decide.
func (b *Breaker) watched(ctx context.Context, h Handler, tx *mail.Transaction) (mail.Verdict, error) {
	verdict, err := b.circuit.Execute(func() (mail.Verdict, error) {
		verdict, err := ask(ctx, h, tx)
		if err != nil && !isClientGone(err) {
			b.late.Store(isLate(err))
		}
		if err == nil && verdict.Action == mail.ActionDefer {
			err = errDeferred
		}
		return verdict, err
	})
	switch {
	case errors.Is(err, errDeferred):
		return verdict, nil
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		if b.late.Load() {
			return mail.Verdict{}, late{fmt.Errorf("%w, at last no answer in time: asked again within %s", errResting, restFor)}
		}
		return mail.Verdict{}, fmt.Errorf("%w: asked again within %s", errResting, restFor)
	case err == nil && b.circuit.State() == gobreaker.StateClosed:
		b.failing.Store(false)
	}
	return verdict, err
}
