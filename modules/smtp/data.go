package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

var (
	// errSlow is returned when a message comes in below the data rate.
	errSlow = errors.New("message comes in too slowly")
	// errDrowned is returned when a message goes on and on after its fault.
	errDrowned = errors.New("message is far too large")
)

var (
	tooLarge = mail.NewReply(552, 3, 4, "Message is larger than this server takes")
	timeout  = mail.NewReply(421, 4, 2, "Timeout, closing the connection")
)

// endOfData is what go-smtp's own reader of the message is given: nothing.
var endOfData = []byte(".\r\n")

// Data implements gosmtp.Session: the message, after 354 or the last BDAT. It is
// read from the wire, past go-smtp's reader.
func (s *session) Data(io.Reader) error {
	in := s.chunks
	s.chunks = nil
	if in == nil {
		in = s.newIntake()
		if err := s.readData(in); err != nil {
			in.close()
			s.lost(err)
			return err
		}
	}
	defer in.close()
	if s.tx != nil {
		defer s.release(s.tx)
	}
	s.front.pending = endOfData
	return smtpError(s.deliver(in))
}

// release frees what handlers have put in the place of the message.
func (s *session) release(tx *mail.Transaction) {
	if err := tx.Release(); err != nil {
		s.log.Warn("close rewritten message", zap.String(logkey.Message, tx.ID), zap.Error(err))
	}
}

// lost ends a session within a message: the client broke off, or was too slow.
func (s *session) lost(err error) {
	outcome := mail.Outcome{Stage: mail.StageData, Verdict: mail.Defer(mail.Reply{}, "receive message: "+err.Error())}
	switch {
	case errors.Is(err, errDrowned):
		outcome.Action, outcome.Reply = mail.ActionReject, tooLarge
	case errors.Is(err, errSlow), errors.Is(err, os.ErrDeadlineExceeded):
		outcome.Reply = timeout
	}
	if outcome.Reply.Code != 0 {
		s.end(outcome.Reply, outcome.Reason)
	}
	s.done = true
	if s.tx != nil {
		s.finish(outcome)
	}
}

// readData takes a message in up to the line with a dot alone.
func (s *session) readData(in *intake) error {
	d := dots{bol: true}
	p := s.newPace()
	for {
		n, end := d.decode(s.wire.buffered(), in)
		s.wire.consume(n)
		if end {
			return nil
		}
		if err := s.moreData(in, &p); err != nil {
			return err
		}
	}
}

// moreData waits for more of a message, and ends it when it is too slow or far
// too large.
func (s *session) moreData(in *intake, p *pace) error {
	if in.drowned() {
		return errDrowned
	}
	if err := s.wire.more(s.listener.Timeouts.Data); err != nil {
		return err
	}
	return p.check(s.wire.received)
}

// dots undoes dot-stuffing and finds the end of the message (RFC 5321 section
// 4.5.2). Only CR LF ends a line: anything else would let one message be seen as
// two.
type dots struct {
	bol bool // at the beginning of a line, as at the beginning of a message
}

// decode passes what it can of p on, and gives how much of p it has used and
// whether the message is complete. What remains is at most two bytes.
func (d *dots) decode(p []byte, in *intake) (used int, end bool) {
	for used < len(p) {
		rest := p[used:]
		if d.bol && rest[0] == '.' {
			switch {
			case len(rest) >= 3 && rest[1] == '\r' && rest[2] == '\n':
				return used + 3, true
			case len(rest) == 1, len(rest) == 2 && rest[1] == '\r':
				return used, false
			}
			used++
			d.bol = false
			continue
		}
		i := bytes.Index(rest, []byte("\r\n."))
		if d.bol = i >= 0; d.bol {
			in.write(rest[:i+2])
			used += i + 2
			continue
		}
		n := len(rest)
		if d.bol = bytes.HasSuffix(rest, crlf); !d.bol && rest[n-1] == '\r' {
			n--
		}
		in.write(rest[:n])
		return used + n, false
	}
	return used, false
}

// pace sees to it that a message comes in at some rate: a client that gives one
// byte now and then would hold its session for ever.
type pace struct {
	window time.Duration
	least  int64
	since  time.Time
	from   int64
}

func (s *session) newPace() pace {
	window := s.listener.Timeouts.Data
	least := int64(float64(s.listener.Limits.DataRate) * window.Seconds())
	return pace{window: window, least: least, from: s.wire.received}
}

// check is told how many bytes have come in on the connection.
func (p *pace) check(received int64) error {
	now := time.Now()
	switch {
	case p.since.IsZero():
		p.since = now
	case now.Sub(p.since) < p.window:
	case received-p.from < p.least:
		return errSlow
	default:
		p.since, p.from = now, received
	}
	return nil
}

// deliver runs the data stage on the whole message and gives the reply. It is
// positive only if the outcome is, and after what must be on disk is there.
func (s *session) deliver(in *intake) mail.Reply {
	tx := s.tx
	outcome := s.judge(in)
	if !outcome.Refused() && tx.Discarded() {
		outcome = s.keepDiscarded(outcome)
	}
	if outcome.Refused() {
		s.finish(outcome)
		return outcome.Refusal(tx.ID)
	}
	s.commands, s.errors, s.useful = 0, 0, time.Now()
	if tx.Discarded() {
		s.report(tx, outcome)
		s.forget()
	} else {
		s.finish(outcome)
	}
	return mail.Kept(tx.ID)
}

// judge gives the outcome of the message: the listener's own rules first.
func (s *session) judge(in *intake) mail.Outcome {
	if verdict := s.take(in); verdict.Action != mail.ActionContinue {
		return mail.Outcome{Stage: mail.StageData, Verdict: verdict}
	}
	return s.run(mail.StageData, s.tx)
}

// take makes what has come in the message of the transaction, with the listener's
// fields, unless its own rules are against it.
func (s *session) take(in *intake) mail.Verdict {
	message := in.message()
	if in.fault.Action != mail.ActionContinue {
		return in.fault
	}
	s.tx.Message = message
	if verdict := s.checkHeader(message); verdict.Action != mail.ActionContinue {
		return verdict
	}
	s.addFields(s.tx)
	return mail.Verdict{}
}

// checkHeader refuses messages that go in circles, those whose first line would
// belong to a field that this server adds and, at submission, those that do not
// say who wrote them.
func (s *session) checkHeader(m *mail.Message) mail.Verdict {
	if n := m.Header.Count("Received"); n > s.listener.MaxReceived {
		return mail.Reject(mail.NewReply(554, 4, 6, "Too many Received fields: the message goes in circles"), fmt.Sprintf("%d Received fields", n))
	}
	if fields := m.Header.Fields; len(fields) > 0 && (fields[0].Raw[0] == ' ' || fields[0].Raw[0] == '\t') {
		// It would become a part of the Received field above it.
		return mail.Reject(mail.NewReply(554, 6, 0, "The message begins with white space"), "first line begins with white space")
	}
	if !s.listener.submission() {
		return mail.Verdict{}
	}
	if n := m.Header.Count("From"); n != 1 {
		return mail.Reject(mail.NewReply(554, 6, 0, "The message needs one From field"), fmt.Sprintf("%d From fields", n))
	}
	return mail.Verdict{}
}

// keepDiscarded makes the trace durable that is all that remains of the message.
func (s *session) keepDiscarded(outcome mail.Outcome) mail.Outcome {
	l := s.listener
	r := trace.NewRecord(trace.KindMessage, s.tx, outcome, l.now())
	err := l.store.Write(context.WithoutCancel(s.ctx), func(tx *store.Tx) error { return l.traces.AddTx(tx, r) })
	if err == nil {
		s.told = true
		return outcome
	}
	s.log.Error("cannot keep the trace of a discarded message", zap.String(logkey.Message, s.tx.ID), zap.Error(err))
	reply := mail.ReplyOf(err)
	if errors.Is(err, store.ErrFull) {
		reply = mail.NewReply(452, 3, 1, "Insufficient system storage, try again later")
	}
	return mail.Outcome{Stage: mail.StageData, Verdict: mail.Defer(reply, "keep trace of discarded message: "+err.Error()), Handler: outcome.Handler}
}
