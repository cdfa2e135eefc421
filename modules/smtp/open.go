package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// open does what comes before the greeting: who is it, may it come in, has it
// kept silent. It says whether the session goes on.
func (s *session) open() bool {
	if err := s.readProxyHeader(); err != nil {
		s.log.Warn("balancer sent no header of the PROXY protocol", zap.Stringer(logkey.RemoteIP, s.mail.RemoteAddr.Addr()), zap.Error(err))
		return false
	}
	if s.done || !s.enterNetwork() || s.listener.TLS == tlsImplicit && !s.handshake() {
		return false
	}
	outcome := s.run(mail.StageConnect, s.whole)
	if !outcome.Refused() && s.early() {
		outcome.Verdict = mail.Reject(mail.NewReply(554, 5, 1, "You spoke before the greeting"), "client spoke before the greeting")
	}
	if outcome.Refused() {
		s.ended = outcome
		s.end(outcome.Reply, outcome.Reason)
		return false
	}
	s.front = newFront(s)
	return true
}

// enterNetwork counts the session for the client's network. A balancer's own
// connections, its health checks, do not count. In the clear, a client that is
// one too many is told so.
func (s *session) enterNetwork() bool {
	l := s.listener
	network := connections.NetworkOf(s.mail.RemoteAddr.Addr())
	if !network.IsValid() || s.proxied() && s.mail.RemoteAddr == addrPort(s.wire.raw.RemoteAddr()) {
		return true
	}
	if l.connections.EnterNetwork(network, l.Limits.ConnectionsPerNetwork) {
		s.network = network
		return true
	}
	reply, reason := mail.NewReply(421, 7, 0, "Too many connections from your network, try again later"), "too many connections from "+network.String()
	if l.TLS == tlsImplicit {
		s.stop(reply, reason)
	} else {
		s.end(reply, reason)
	}
	s.upset = false // lingering, it would take the room of others after all
	return false
}

// proxied tells whether the connection comes from a balancer.
func (s *session) proxied() bool {
	return s.listener.trusts(addrPort(s.wire.raw.RemoteAddr()).Addr())
}

// readProxyHeader takes the client's address from the header of the PROXY
// protocol, if the connection comes from a balancer.
func (s *session) readProxyHeader() error {
	if !s.proxied() {
		return nil
	}
	raw := s.wire.raw
	if err := raw.SetReadDeadline(time.Now().Add(s.listener.Timeouts.Handshake)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(raw, proxyHeaderSize)
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		s.done = true // a health check of the simplest kind
		return nil
	}
	header, err := proxyproto.Read(r)
	if err != nil {
		return fmt.Errorf("read PROXY header: %w", err)
	}
	if rest, _ := r.Peek(r.Buffered()); len(rest) > 0 {
		s.wire.conn = &prefixed{Conn: raw, prefix: rest}
		s.spoke = true
	}
	if header.Command.IsProxy() {
		remote, local := addrPort(header.SourceAddr), addrPort(header.DestinationAddr)
		if !remote.IsValid() {
			return errors.New("read PROXY header: it names no client address")
		}
		s.mail.RemoteAddr, s.mail.LocalAddr = remote, local
	}
	return nil
}

// proxyHeaderSize bounds a PROXY header with its extensions.
const proxyHeaderSize = 4 << 10

// prefixed is a connection of which some bytes have been read already.
type prefixed struct {
	net.Conn
	prefix []byte
}

// Read gives what was read already, then the rest.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.prefix)
	p.prefix = p.prefix[n:]
	return n, nil
}

// early tells whether a client spoke before it was greeted, which nothing does
// that reads replies.
func (s *session) early() bool {
	if !s.listener.greetsLate() {
		return false
	}
	if s.spoke {
		return true
	}
	if delay := s.listener.GreetDelay; delay > 0 {
		err := s.wire.more(delay)
		return err == nil
	}
	return s.waiting()
}

// waiting looks whether bytes have come in, without waiting for any.
func (s *session) waiting() bool {
	socket, ok := s.wire.raw.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	there := false
	err = control.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		there = err == nil && n > 0
		return true
	})
	return err == nil && there
}
