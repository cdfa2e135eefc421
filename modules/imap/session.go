package imap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// session does what the commands of one client say. imapserver calls it from
// one goroutine; Idle runs in another one while the first waits.
type session struct {
	conn    *conn
	account *mailbox.Account // nil before the login
	view    *mailbox.View    // nil unless a mailbox is selected
}

// Close ends the session.
func (s *session) Close() error { return s.Unselect() }

// fail turns an error of the store into what the client is told, and what it is
// not told goes to the log. ctx is the context of the command.
func (s *session) fail(ctx context.Context, what string, err error) error {
	if refused, ok := errors.AsType[*imap.Error](err); ok {
		return &imap.Error{Type: refused.Type, Code: refused.Code, Text: oneLine(refused.Text)}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mailbox.ErrGone):
		s.conn.fence.hangUp("Mailbox or account was removed")
		return no(imap.ResponseCodeNonExistent, "Mailbox or account was removed")
	case errors.Is(err, store.ErrFull):
		s.conn.log.Error("disk is full", zap.String(logkey.Command, what), zap.NamedError(logkey.Error, err))
		return no(imap.ResponseCodeUnavailable, "The server has no room left; what was not done yet stays as it is, try again later")
	case s.conn.fence.out.silent():
		return err // the client is gone, nobody reads this
	case errors.Is(context.Cause(ctx), errHungUp):
		return no(imap.ResponseCodeUnavailable, "Connection was closed before the end of the command")
	case errors.Is(context.Cause(ctx), errTooLong):
		return no(imap.ResponseCodeLimit, fmt.Sprintf("This takes longer than %s, ask for less at once", s.conn.listener.Timeouts.Work))
	case s.conn.ctx.Err() != nil:
		return no(imap.ResponseCodeUnavailable, "Server is shutting down, connect again later")
	}
	s.conn.log.Error("command failed", zap.String(logkey.Command, what), zap.String(logkey.User, s.conn.session.User), zap.NamedError(logkey.Error, err))
	return no(imap.ResponseCodeUnavailable, "The server could not do this, its log says why, try again later")
}

func no(code imap.ResponseCode, text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func bad(text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: text}
}

// maxLogText is how many bytes of what a client may have chosen one field of the
// log gets.
const maxLogText = 256

// oneLine makes a text fit for a status response: with a space for what does not
// show, or changes how other text is shown.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, text)
	if text == "" {
		return "Refused"
	}
	return text
}

// Select opens a mailbox, read-only for EXAMINE (RFC 9051 section 6.3.2).
func (s *session) Select(name string, o *imap.SelectOptions) (*imap.SelectData, error) {
	err := s.do("SELECT", func(ctx context.Context) (err error) {
		s.view, err = s.account.Select(ctx, name, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	data := *s.view.Data()
	data.List = nil // RFC 3501 clients do not expect it
	return &data, nil
}

// Unselect closes the mailbox without an expunge (RFC 3691).
func (s *session) Unselect() error {
	if s.view != nil {
		s.view.Close()
		s.view = nil
	}
	return nil
}

// Create makes a mailbox.
func (s *session) Create(name string, o *imap.CreateOptions) error {
	return s.do("CREATE", func(ctx context.Context) error { return s.account.Create(ctx, name, o) })
}

// Delete removes a mailbox.
func (s *session) Delete(name string) error {
	return s.do("DELETE", func(ctx context.Context) error { return s.account.Delete(ctx, name) })
}

// Rename gives a mailbox another name.
func (s *session) Rename(from, to string, _ *imap.RenameOptions) error {
	return s.do("RENAME", func(ctx context.Context) error { return s.account.Rename(ctx, from, to) })
}

// Subscribe adds a name to the subscriptions.
func (s *session) Subscribe(name string) error {
	return s.do("SUBSCRIBE", func(ctx context.Context) error { return s.account.Subscribe(ctx, name) })
}

// Unsubscribe removes a name from the subscriptions.
func (s *session) Unsubscribe(name string) error {
	return s.do("UNSUBSCRIBE", func(ctx context.Context) error { return s.account.Unsubscribe(ctx, name) })
}

// Namespace says that there are personal mailboxes only (RFC 2342).
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: mailbox.Delimiter}}}, nil
}

// Status gives the counters of a mailbox.
func (s *session) Status(name string, o *imap.StatusOptions) (data *imap.StatusData, err error) {
	err = s.do("STATUS", func(ctx context.Context) (err error) {
		data, err = s.account.Status(ctx, name, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.setAppendLimit(data, o)
	return data, nil
}

func (s *session) setAppendLimit(data *imap.StatusData, o *imap.StatusOptions) {
	if o.AppendLimit {
		limit := uint32(min(int64(s.conn.listener.MaxMessageSize), 1<<32-1))
		data.AppendLimit = &limit
	}
}

// List serves LIST and LSUB. LIST with an empty pattern asks for the delimiter
// (RFC 9051 section 6.3.9).
func (s *session) List(w *imapserver.ListWriter, reference string, patterns []string, o *imap.ListOptions) error {
	defer s.conn.fence.out.data()()
	if len(patterns) == 0 || len(patterns) == 1 && patterns[0] == "" {
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: mailbox.Delimiter})
	}
	lsub := s.conn.fence.out.command() == "LSUB"
	if lsub {
		// RFC 3501 section 6.3.9: with %, parents of what is subscribed are listed.
		o.SelectRecursiveMatch = slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "%") })
	}
	var list []imap.ListData
	err := s.do("LIST", func(ctx context.Context) (err error) {
		list, err = s.account.List(ctx, reference, patterns, o)
		return err
	})
	if err != nil {
		return err
	}
	for i := range list {
		data := &list[i]
		if lsub {
			data.Attrs = lsubAttrs(data.Attrs)
		}
		if data.Status != nil && o.ReturnStatus != nil {
			s.setAppendLimit(data.Status, o.ReturnStatus)
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// lsubAttrs gives what LSUB may say: \Noselect for a name that is not subscribed
// itself.
func lsubAttrs(attrs []imap.MailboxAttr) []imap.MailboxAttr {
	if slices.Contains(attrs, imap.MailboxAttrSubscribed) {
		return nil
	}
	return []imap.MailboxAttr{imap.MailboxAttrNoSelect}
}

// Poll tells what changed in the selected mailbox.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	if s.view == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.conn.ctx, s.conn.listener.Timeouts.Work)
	defer cancel()
	err := s.view.Poll(ctx, allowExpunge, func(c mailbox.Change) error {
		switch c.Kind {
		case mailbox.ChangeExpunge:
			return w.WriteExpunge(c.SeqNum)
		case mailbox.ChangeExists:
			return w.WriteNumMessages(c.SeqNum)
		case mailbox.ChangeFlags:
			return w.WriteMessageFlags(c.SeqNum, c.UID, c.Flags)
		case mailbox.ChangeKeywords:
			return w.WriteMailboxFlags(c.Flags)
		}
		return nil
	})
	if err == nil {
		return nil
	}
	gone := errors.Is(err, mailbox.ErrGone)
	// The client's numbers do not hold any more: it has to begin anew.
	err = s.fail(ctx, "poll", err)
	if gone {
		return nil // the command's own response still goes out, and then the BYE
	}
	s.conn.fence.hangUp("Mailbox cannot be followed, connect again")
	return err
}

// Idle tells what changes until stop is closed (RFC 2177).
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	var changed <-chan struct{}
	if s.view != nil {
		changed = s.view.Changed()
	}
	for {
		if err := s.Poll(w, true); err != nil {
			return err
		}
		if err := s.conn.fence.out.flush(); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-changed:
		}
	}
}

// Interface guards.
var (
	_ imapserver.SessionNamespace = (*session)(nil)
	_ imapserver.SessionMove      = (*session)(nil)
	_ imapserver.SessionSASL      = (*session)(nil)
)
