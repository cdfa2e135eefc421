package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// session is one connection of one client. It is what go-smtp calls for MAIL,
// RCPT, DATA, AUTH and RSET, and what its connection asks for the next command.
// All of that happens in one goroutine at a time.
type session struct {
	listener *Listener
	ctx      context.Context //nolint:containedctx // it is the session's own: go-smtp hands none on
	log      *zap.Logger
	wire     *wire
	front    *front

	mail    mail.Session
	whole   *mail.Transaction // connect and helo: the session itself
	ended   mail.Outcome      // why the server ended it, if it did
	network netip.Prefix      // what it counts for, if anything
	spoke   bool              // bytes came in before the greeting
	done    bool              // nothing more is read or answered
	upset   bool              // linger for the last reply
	told    bool              // a message's trace tells what was decided at connect and helo

	tx       *mail.Transaction // the open mail transaction
	refused  mail.Outcome      // of the last recipient that was refused in it
	chunks   *intake           // what BDAT has brought so far
	command  []byte            // the command line that go-smtp handles
	bare     bool              // it is RCPT TO:<postmaster>
	esmtp    bool              // greeted by EHLO
	sasl     bool              // the next line is a response of a SASL exchange
	starttls bool              // STARTTLS was answered

	commands, errors int       // since the last message that was accepted
	denied           bool      // the reply to come refuses a login
	useful           time.Time // of the last login, message or piece of one, or the beginning
	chunked          time.Time // when the last chunk was complete
	line             []byte
}

func (l *Listener) newSession(ctx context.Context, w *wire) *session {
	now := l.now()
	s := &session{listener: l, ctx: ctx, wire: w, useful: time.Now()}
	s.mail = mail.Session{
		ID: mail.NewID(now), Protocol: mail.ProtocolSMTP, Listener: l.name,
		RemoteAddr: addrPort(w.raw.RemoteAddr()), LocalAddr: addrPort(w.raw.LocalAddr()), Started: now,
	}
	s.whole = mail.NewTransaction(s.mail.ID, &s.mail, now)
	s.log = l.log.WithLazy(zap.String(logkey.Session, s.mail.ID))
	return s
}

// serve runs the session from the first byte to the last.
func (s *session) serve() {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("session panicked", zap.Any(logkey.Error, r), zap.ByteString("stack", debug.Stack()))
			s.wire.abort()
		}
	}()
	if s.open() {
		s.serveCommands()
	}
	s.closeTransaction()
	s.record()
	if s.upset {
		s.wire.linger()
	}
	if err := s.wire.close(); err != nil {
		s.log.Debug("connection closed with an error", zap.Error(err))
	}
}

// serveCommands has go-smtp serve the connection, once more after STARTTLS: it
// must forget all that it knew before (RFC 3207 section 4.2).
func (s *session) serveCommands() {
	for {
		s.runGoSMTP()
		if !s.starttls || s.done {
			return
		}
		s.starttls = false
		if !s.handshake() {
			return
		}
		s.front = newFront(s)
		s.front.hidden = 1 // the greeting
	}
}

// runGoSMTP returns when go-smtp has closed the front.
func (s *session) runGoSMTP() {
	l := s.listener
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return s, nil }))
	server.Domain = l.hostname
	server.MaxMessageBytes = int64(l.MaxMessageSize)
	server.MaxLineLength = 0
	server.AllowInsecureAuth = true // the session offers none without TLS
	server.EnableSMTPUTF8 = true
	server.ErrorLog = l.errorLog
	if s.mail.TLS == nil && l.TLS != tlsOff {
		server.TLSConfig = l.tls // for its EHLO only: STARTTLS never gets there
	}
	_ = server.Serve(&single{front: s.front}) // net.ErrClosed, by single
}

// handshake begins TLS.
func (s *session) handshake() bool {
	deadline := time.Now().Add(s.listener.Timeouts.Handshake)
	encrypted := tls.Server(s.wire.conn, s.listener.tls)
	err := s.wire.raw.SetDeadline(deadline)
	if err == nil {
		err = encrypted.Handshake()
	}
	if err != nil {
		s.done = true
		s.ended = mail.Outcome{Stage: s.whole.Stage, Verdict: mail.Reject(mail.Reply{}, "TLS handshake: "+err.Error())}
		return false
	}
	s.wire.upgrade(encrypted)
	state := encrypted.ConnectionState()
	s.mail.TLS, s.mail.Helo, s.esmtp = &state, "", false
	return true
}

// next gives the next command line for go-smtp, nil at the end of the session.
func (s *session) next() []byte {
	for !s.done && !s.starttls {
		if time.Since(s.useful) > maxUseless {
			s.end(mail.NewReply(421, 4, 2, "No message for too long, closing the connection"), "no message for "+maxUseless.String())
			return nil
		}
		s.wire.busy = s.tx != nil || s.sasl
		limit := maxCommandLine
		if s.sasl {
			limit = maxAuthLine
		}
		line, err := s.wire.line(limit, s.patience())
		switch {
		case errors.Is(err, errLineLong) && s.sasl:
			s.unreadable(err)
			s.front.hidden++
			return []byte("*\r\n") // ends the exchange for go-smtp
		case err != nil:
			s.unreadable(err)
		case s.sasl:
			s.sasl = false
			return line
		default:
			if line = s.screen(line); line != nil {
				s.command = line
				return line
			}
		}
	}
	return nil
}

const (
	// maxUseless is how long a session may go on without a message or a login.
	maxUseless = 30 * time.Minute
	// crowdedTimeout is how long a client may take for a command when few
	// connections are left: so there is always one for those who have mail.
	crowdedTimeout = 10 * time.Second
)

// patience is how long the client may take for the next command.
func (s *session) patience() time.Duration {
	l := s.listener
	if s.tx == nil && l.connections.Crowded(l.Limits.Connections) {
		return min(l.Timeouts.Command, crowdedTimeout)
	}
	return l.Timeouts.Command
}

// unreadable ends the session, or answers a line that was too long.
func (s *session) unreadable(err error) {
	s.sasl = false
	switch {
	case s.wire.failed != nil:
		s.done = true
	case errors.Is(err, errLineLong):
		s.say(mail.NewReply(500, 5, 2, "Line too long"))
	case errors.Is(err, errLineEndless):
		s.end(mail.NewReply(500, 5, 2, "Line too long, closing the connection"), err.Error())
	case errors.Is(err, errBareNewline):
		s.end(mail.NewReply(500, 5, 2, "Lines end with CR LF, and hold neither of them alone nor NUL"), err.Error())
	case errors.Is(err, errLeaving):
		s.end(mail.NewReply(421, 3, 2, "Closing the connection, please connect again"), err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.end(timeout, "no command in time")
	default:
		s.done = true
	}
}

// end closes the session for the server's reasons, by which its identifier finds
// them.
func (s *session) end(r mail.Reply, reason string) {
	if s.done {
		return
	}
	s.say(withID(r, s.mail.ID))
	s.stop(r, reason)
}

// stop is end without a reply.
func (s *session) stop(r mail.Reply, reason string) {
	s.done, s.upset = true, true
	if !s.ended.Refused() {
		s.ended = mail.Outcome{Stage: s.whole.Stage, Verdict: mail.Defer(r, reason)}
		if r.Code >= 500 {
			s.ended.Action = mail.ActionReject
		}
	}
}

// answer gathers a line of a reply and counts the refusals.
func (s *session) answer(line []byte) {
	if s.done {
		return
	}
	if err := s.wire.send(line); err != nil {
		s.done = true
		return
	}
	if len(line) < 4 || line[3] != ' ' {
		return
	}
	s.sasl = hasPrefix(line, "334 ")
	if ce := s.log.Check(zap.DebugLevel, "replied"); ce != nil && !s.sasl {
		ce.Write(zap.String(logkey.Reply, mail.Printable(string(line[:len(line)-2]), maxLogReason)))
	}
	switch {
	case hasPrefix(line, "421 "): // a handler's too (RFC 5321 section 3.8)
		s.done, s.upset = true, true
	case line[0] == '5' || s.denied:
		s.denied = false
		s.errors++
		if s.errors > s.listener.Limits.Errors {
			s.end(mail.NewReply(421, 7, 0, "Too many errors, closing the connection"), "too many errors")
		}
	}
}

// run asks the chain, within the time for a stage.
func (s *session) run(stage mail.Stage, tx *mail.Transaction) mail.Outcome {
	ctx := s.ctx
	if s.listener.acts[stage] {
		limited, cancel := context.WithTimeout(ctx, s.listener.Timeouts.Stage)
		defer cancel()
		ctx = limited
	}
	return s.listener.chains.Run(ctx, stage, tx)
}

// Bounds of what a client says in a line of the log, in bytes.
const (
	maxLogName       = 256
	maxLogReason     = 1024 // of a handler, which may repeat what the client said
	maxLogRecipients = 20   // of those that were refused
)

// record leaves a trace of the session if the server ended it, or if the chain had
// a say in it that no message's trace tells.
func (s *session) record() {
	if s.ended.Refused() {
		s.log.Info("session ended", zap.String(logkey.Listener, s.mail.Listener), zap.Stringer(logkey.RemoteIP, s.mail.RemoteAddr.Addr()),
			zap.String(logkey.Helo, mail.Printable(s.mail.Helo, maxLogName)), zap.Int(logkey.ReplyCode, s.ended.Reply.Code), zap.String(logkey.Handler, s.ended.Handler),
			zap.String(logkey.Reason, mail.Printable(s.ended.Reason, maxLogReason)), zap.Duration(logkey.Duration, s.listener.now().Sub(s.mail.Started)))
	} else if s.told || len(s.whole.Entries) == 0 {
		return
	}
	s.listener.traces.Add(trace.NewRecord(trace.KindSession, s.whole, s.ended, s.listener.now()))
}

// Logout implements gosmtp.Session. The session is closed by serve.
func (s *session) Logout() error { return nil }

// Reset implements gosmtp.Session: RSET, a new EHLO, or the end of a message.
func (s *session) Reset() { s.closeTransaction() }

// addrPort gives the address of a TCP socket, the zero value for others.
func addrPort(a interface{ String() string }) netip.AddrPort {
	if tcp, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

var (
	_ gosmtp.Session     = (*session)(nil)
	_ gosmtp.AuthSession = (*session)(nil)
)
