package mailbox

import (
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"
)

// ErrGone is returned when the mailbox of a View was removed, is INBOX no more, or
// has changed too much for the view to follow, and when there is no such
// account, or no more.
var ErrGone = errors.New("mailbox no longer exists")

// refuse makes an error that the client is told.
func refuse(code imap.ResponseCode, format string, args ...any) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: fmt.Sprintf(format, args...)}
}

// tryCreate turns the error that a mailbox does not exist into the one that
// commands with a destination must give (RFC 9051 section 7.1).
func tryCreate(err error) error {
	refused, ok := errors.AsType[*imap.Error](err)
	if !ok || refused.Code != imap.ResponseCodeNonExistent {
		return err
	}
	return &imap.Error{Type: refused.Type, Code: imap.ResponseCodeTryCreate, Text: refused.Text}
}
