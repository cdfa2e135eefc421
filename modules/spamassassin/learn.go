package spamassassin

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// teacher keeps lessons until spamd has taken them.
type teacher interface {
	// Teach registers what tells spamd a lesson; forget ends that.
	Teach(name string, teach func(ctx context.Context, account string, spam bool, message io.Reader, size int64) error) (forget func())
}

// learning is what a handler has that learns.
type learning struct {
	teacher teacher
	trial   bool        // nobody is taught
	forget  func()      // nil before Start
	vain    atomic.Bool // it was said that spamd has learned nothing
}

// findTeacher finds the service; a build without it is for Validate to refuse.
func (s *SpamAssassin) findTeacher(ctx *core.Context) {
	if t, err := core.Service[teacher](ctx); err == nil {
		s.learning = &learning{teacher: t, trial: ctx.Trial()}
	}
}

// Start begins to learn.
func (s *SpamAssassin) Start() error {
	if l := s.learning; l != nil && !l.trial {
		l.forget = l.teacher.Teach(s.learnerName(), s.teach)
	}
	return nil
}

// Cleanup ends that.
func (s *SpamAssassin) Cleanup() error {
	if l := s.learning; l != nil && l.forget != nil {
		l.forget()
	}
	return nil
}

// learnerName is the same for all handlers that tell the same spamd the same.
func (s *SpamAssassin) learnerName() string {
	name := "spamassassin " + s.Address.String()
	if s.User != "" {
		name += " user " + s.User
	}
	return name
}

// teach tells spamd one lesson.
func (s *SpamAssassin) teach(ctx context.Context, account string, spam bool, content io.Reader, size int64) error {
	if size > int64(s.MaxSize) {
		return &tooLargeError{size: size, limit: s.MaxSize.String()}
	}
	user := ""
	if s.User != "" {
		if address, err := mail.ParseAddress(account); err == nil {
			user = s.userOf(address)
		}
		if user == "" {
			return &noNameError{account: account}
		}
	}
	learned, err := s.client.tell(ctx, spam, message{content: content, size: size, user: user})
	if err != nil {
		return err
	}
	s.log.Debug("spamd was told", zap.String(logkey.User, account), zap.Bool("spam", spam), zap.Bool("learned", learned))
	if !learned && s.learning.vain.CompareAndSwap(false, true) {
		s.log.Info("spamd has taken a message and learned nothing: either it has learned it before, or Bayes is off (use_bayes, bayes_path) or its database cannot be written; this is said once",
			zap.String(logkey.User, account), zap.Bool("spam", spam))
	}
	return nil
}

// noNameError is returned for an account whose address is no name for spamd. Without
// one, spamd would learn it for everybody that it knows by no name.
type noNameError struct{ account string }

func (e *noNameError) Error() string {
	return fmt.Sprintf("the account %s has characters that are not for the name of a user of spamd, and what it teaches is not for others; see the setting user", mail.Printable(e.account, maxUser))
}

// Permanent says that no other attempt will end otherwise.
func (*noNameError) Permanent() bool { return true }

// tooLargeError is returned for a message that spamd would not be asked about either.
type tooLargeError struct {
	size  int64
	limit string
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the message has %d bytes, more than max_size, %s", e.size, e.limit)
}

// Permanent says that no other attempt will end otherwise.
func (*tooLargeError) Permanent() bool { return true }
