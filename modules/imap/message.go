package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// spoolMemory is how much of a message that a client stores is kept in memory;
// the rest of larger ones goes to a file.
const spoolMemory = 256 << 10

// maxFlags bounds the flags that one command may name.
const maxFlags = 100

// Append stores a message. It comes from the fence, not from imapserver, whose
// literal is empty: so the client is asked for it only if it can be stored.
func (s *session) Append(name string, _ imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	size, limit := s.conn.fence.message.size, int64(s.conn.listener.MaxMessageSize)
	if size > limit {
		return nil, no(imap.ResponseCodeTooBig, fmt.Sprintf("Message has %d bytes, at most %d are taken", size, limit))
	}
	flags, err := checkFlags(o.Flags)
	if err != nil {
		return nil, err
	}
	err = s.do("APPEND", func(ctx context.Context) error {
		_, err := s.account.Status(ctx, name, &imap.StatusOptions{UIDValidity: true})
		return tryCreate(err)
	})
	if err != nil {
		return nil, err
	}
	l := s.conn.listener
	spool := mail.NewSpool(l.spoolDir, spoolMemory).Within(l.spool, int64(l.Limits.Spool))
	defer func() { _ = spool.Close() }()
	message, err := s.receive(spool)
	if err != nil {
		return nil, err
	}
	var data *imap.AppendData
	err = s.do("APPEND", func(ctx context.Context) (err error) {
		data, err = s.account.Append(ctx, name, message.Open(), message.Size, &imap.AppendOptions{Flags: flags, Time: o.Time})
		return err
	})
	return data, err
}

// tryCreate marks the refusal of a mailbox that does not exist with TRYCREATE
// (RFC 9051 section 6.3.12).
func tryCreate(err error) error {
	if refused, ok := errors.AsType[*imap.Error](err); ok && refused.Code == imap.ResponseCodeNonExistent {
		return no(imap.ResponseCodeTryCreate, refused.Text)
	}
	return err
}

// receive takes in the message of an APPEND.
func (s *session) receive(spool *mail.Spool) (*mail.Message, error) {
	binary := s.conn.fence.message.binary
	taken := &nulFilter{w: freeing{spool}}
	err := s.conn.fence.receive(taken)
	if refused, ok := errors.AsType[*refusal](err); ok {
		s.conn.fence.out.override(refused.status)
		return nil, bad("refused")
	}
	if errors.Is(err, mail.ErrSpoolFull) {
		return nil, no(imap.ResponseCodeUnavailable, "Too many large messages at once, try again later")
	}
	if _, ok := errors.AsType[*writeError](err); ok {
		return nil, s.fail(s.conn.ctx, "APPEND", err)
	}
	if err != nil {
		// The connection is lost, or the client was too slow.
		return nil, s.conn.fence.fail(err)
	}
	if binary && taken.found {
		return nil, no(imap.ResponseCodeUnknownCTE, "Messages with NUL are not taken, encode them")
	}
	message, err := spool.Message()
	if errors.Is(err, mail.ErrHeaderTooLarge) {
		return nil, no(imap.ResponseCodeTooBig, "Header section is too large")
	}
	if err != nil {
		return nil, s.fail(s.conn.ctx, "APPEND", err)
	}
	return message, nil
}

// freeing is a spool that gives back what it holds at the first error: the rest
// of the message is read for nothing, and may take long.
type freeing struct{ spool *mail.Spool }

func (f freeing) Write(p []byte) (int, error) {
	n, err := f.spool.Write(p)
	if err != nil {
		_ = f.spool.Close()
	}
	return n, err
}

// nulFilter replaces NUL, which IMAP cannot transmit (RFC 9051 section 9, CHAR8),
// by 0x80, so that old archives can be brought here. It does as Dovecot does.
type nulFilter struct {
	w     io.Writer
	found bool
}

// Write passes p on.
func (n *nulFilter) Write(p []byte) (int, error) {
	if !slices.Contains(p, 0) {
		return n.w.Write(p)
	}
	n.found = true
	clean := slices.Clone(p)
	for i, c := range clean {
		if c == 0 {
			clean[i] = 0x80
		}
	}
	return n.w.Write(clean)
}

// systemFlags are those that a client may set (RFC 9051 section 2.3.2).
var systemFlags = []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}

// checkFlags gives the flags without \Recent, which only the server sets.
func checkFlags(flags []imap.Flag) ([]imap.Flag, error) {
	if len(flags) > maxFlags {
		return nil, no(imap.ResponseCodeLimit, fmt.Sprintf("At most %d flags in one command", maxFlags))
	}
	var clean []imap.Flag
	for _, f := range flags {
		switch {
		case f == "" || len(f) > 200:
			return nil, no(imap.ResponseCodeLimit, "A flag has 1 to 200 characters")
		case f == "\\Recent" || f == "\\recent" || f == "\\RECENT":
			continue
		case f[0] == '\\' && !slices.Contains(systemFlags, f):
			return nil, bad("There is no system flag " + oneLine(string(f)))
		case slices.ContainsFunc([]byte(f), func(c byte) bool { return c <= ' ' || c >= 0x7f }):
			return nil, bad("Flags are ASCII")
		}
		clean = append(clean, f)
	}
	return clean, nil
}

// errReadOnly is what EXAMINE leads to.
var errReadOnly = no("READ-ONLY", "Mailbox was opened by EXAMINE and cannot be changed")

// Store changes flags.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, change *imap.StoreFlags, o *imap.StoreOptions) error {
	if s.view.ReadOnly() {
		return errReadOnly
	}
	flags, err := checkFlags(change.Flags)
	if err != nil {
		return err
	}
	_, uids := set.(imap.UIDSet)
	each := func(c mailbox.Change) error {
		response := w.CreateMessage(c.SeqNum)
		if uids {
			response.WriteUID(c.UID)
		}
		response.WriteFlags(c.Flags)
		return response.Close()
	}
	if change.Silent {
		each = nil
	}
	defer s.conn.fence.out.data()()
	return s.do("STORE", func(ctx context.Context) error {
		_, err := s.view.Store(ctx, set, &imap.StoreFlags{Op: change.Op, Silent: change.Silent, Flags: flags}, o, each)
		return err
	})
}

// Copy copies messages (RFC 9051 section 6.4.7).
func (s *session) Copy(set imap.NumSet, destination string) (*imap.CopyData, error) {
	var data *imap.CopyData
	err := s.do("COPY", func(ctx context.Context) (err error) {
		data, err = s.view.Copy(ctx, set, destination)
		return err
	})
	return copied(data), err
}

// copied leaves out data about nothing: COPYUID has no form for that.
func copied(data *imap.CopyData) *imap.CopyData {
	if data == nil || len(data.SourceUIDs) == 0 || len(data.DestUIDs) == 0 {
		return nil
	}
	return data
}

// Move copies messages and expunges them here (RFC 6851). The expunges are told
// by the Poll that follows.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, destination string) error {
	if s.view.ReadOnly() {
		return errReadOnly
	}
	var data *imap.CopyData
	err := s.do("MOVE", func(ctx context.Context) (err error) {
		data, err = s.view.Move(ctx, set, destination)
		return err
	})
	if err != nil {
		return err
	}
	if data = copied(data); data == nil {
		return nil
	}
	return w.WriteCopyData(data)
}

// Expunge removes messages that are marked so (RFC 9051 section 6.4.3, RFC
// 4315). The expunges are told by the Poll that follows. CLOSE after EXAMINE
// removes nothing and is no error.
func (s *session) Expunge(_ *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	if s.view.ReadOnly() {
		if s.conn.fence.out.command() == "CLOSE" {
			return nil
		}
		return errReadOnly
	}
	return s.do("EXPUNGE", func(ctx context.Context) error { return s.view.Expunge(ctx, uids) })
}
