package rspamd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
)

// school is the service that keeps what is to be learnt until it has been.
type school interface {
	// Teach has teach called for each lesson until forget is called. The name is the
	// same for all who would tell the same daemon the same.
	Teach(name string, teach func(ctx context.Context, account string, spam bool, message io.Reader, size int64) error) (forget func())
}

// teacher tells a controller worker what is spam and what is not.
type teacher struct {
	server  server
	log     *zap.Logger
	maxSize int64
}

// learnTimeout bounds a lesson.
const learnTimeout = time.Minute

// teach tells rspamd of one message. What rspamd knows already, and what it cannot
// learn from, is no error: it would be the same at the next attempt.
func (t *teacher) teach(ctx context.Context, account string, spam bool, message io.Reader, size int64) error {
	command := "learnham"
	if spam {
		command = "learnspam"
	}
	log := t.log.With(zap.String(logkey.User, account), zap.String(logkey.Command, command))
	if size == 0 || size > t.maxSize {
		log.Debug("message is empty or larger than max_size and is not learnt", zap.Int64(logkey.Size, size))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	fields := make(http.Header)
	// Whose statistics they are, where rspamd keeps them by user.
	if to := headerValue(account, maxValue); to != "" {
		fields.Set("Deliver-To", to)
	}
	said, err := t.server.post(ctx, command, fields, content{size, once(message)}, readAll)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	switch lessonOf(said) {
	case lessonLearnt:
		return nil
	case lessonNothing:
		log.Debug("rspamd learns nothing from a message", zap.String(logkey.Reason, said.reason()))
		return nil
	case lessonFailed:
	}
	err = fmt.Errorf("%s: ask rspamd at %s: %w", command, t.server.address, said.fault())
	if said.code == http.StatusBadRequest || said.code == http.StatusRequestEntityTooLarge {
		return permanentError{err}
	}
	return err
}

// permanentError is an error of the message, which comes back at each attempt.
type permanentError struct{ error }

// Permanent tells the learning service not to try again.
func (permanentError) Permanent() bool { return true }

// Unwrap gives what rspamd says.
func (e permanentError) Unwrap() error { return e.error }

// once gives a reader the first time only.
func once(message io.Reader) func() io.Reader {
	given := false
	return func() io.Reader {
		if given {
			return failing{}
		}
		given = true
		return message
	}
}

type failing struct{}

var errAgain = errors.New("the message cannot be read a second time")

// Read gives an error.
func (failing) Read([]byte) (int, error) { return 0, errAgain }

// lesson is what a controller has made of a message.
type lesson uint8

const (
	lessonFailed  lesson = iota
	lessonLearnt         // now, or it was already
	lessonNothing        // there is nothing to learn: too few words, or it is plain already
)

// lessonOf reads a response. Which status says that there is nothing to learn
// depends on the version: 208 or 404 for what is learnt already, 204 for too few
// words.
func lessonOf(said response) lesson {
	reason := said.reason()
	switch {
	case said.code == http.StatusOK, said.code == http.StatusAlreadyReported, strings.Contains(reason, "already learned as "):
		return lessonLearnt
	case said.code == http.StatusNoContent, strings.Contains(reason, "learn conditions denied"), strings.Contains(reason, "contains less tokens than required"):
		return lessonNothing
	}
	return lessonFailed
}
