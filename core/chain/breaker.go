package chain

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// Breaker rests a handler whose backend keeps failing, so that a dead daemon
// costs one time limit now and then, and not one a message. While it rests, the
// handler's on_error holds at once. It is safe for concurrent use.
type Breaker struct {
	// failing is set from the first error to the next success. As long as it is
	// not, calls go past the breaker and cost nothing.
	failing atomic.Bool
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
func isClientGone(err error) bool { return errors.Is(err, context.Canceled) }

func isResting(err error) bool { return errors.Is(err, errResting) }

func (b *Breaker) handle(ctx context.Context, h Handler, tx *mail.Transaction) (mail.Verdict, error) {
	if b.failing.Load() {
		return b.watched(ctx, h, tx)
	}
	verdict, err := h.Handle(ctx, tx)
	if err != nil && !isClientGone(err) {
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
		verdict, err := h.Handle(ctx, tx)
		if err == nil && verdict.Action == mail.ActionDefer {
			err = errDeferred
		}
		return verdict, err
	})
	switch {
	case errors.Is(err, errDeferred):
		return verdict, nil
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return mail.Verdict{}, fmt.Errorf("%w: asked again within %s", errResting, restFor)
	case err == nil && b.circuit.State() == gobreaker.StateClosed:
		b.failing.Store(false)
	}
	return verdict, err
}
