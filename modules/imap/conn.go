package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// conn is one connection, from the accept to its end.
type conn struct {
	listener *Listener
	raw      net.Conn
	fence    *fence
	session  *mail.Session
	log      *zap.Logger
	network  netip.Prefix // that it counts for, once admitted
	atEnd    func()       // records the session
	// ctx lives as long as the connection: imapserver's calls bring none.
	ctx    context.Context //nolint:containedctx // see above
	cancel context.CancelFunc
}

// newConn prepares a connection without waiting for anything.
func newConn(ctx context.Context, l *Listener, raw net.Conn) *conn {
	now := l.now()
	c := &conn{listener: l, raw: raw, session: &mail.Session{
		ID: mail.NewID(now), Protocol: mail.ProtocolIMAP, Listener: l.name, Started: now,
	}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.log = l.log.With(zap.String(logkey.Session, c.session.ID), zap.String(logkey.Listener, l.name))
	c.fence = newFence(raw, l.Timeouts, l.caps)
	c.fence.logins = l.Limits.AuthFailures
	return c
}

// abort cuts the connection off.
func (c *conn) abort() {
	c.cancel()
	_ = c.raw.Close()
}

// serve runs the connection to its end.
func (c *conn) serve() {
	defer c.cancel()
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("session panicked", zap.Any(logkey.Error, r), zap.ByteString(logkey.Stack, debug.Stack()))
		}
		_ = c.fence.Close()
	}()
	if err := c.identify(); err != nil {
		c.log.Info("connection refused", zap.Stringer(logkey.RemoteIP, addrPort(c.raw.RemoteAddr()).Addr()), zap.NamedError(logkey.Error, err))
		return
	}
	c.log = c.log.With(zap.String(logkey.RemoteIP, c.session.RemoteAddr.Addr().String()))
	if !c.listener.admit(c, c.session.RemoteAddr.Addr()) {
		c.log.Info("connection refused", zap.NamedError(logkey.Error, errNetworkFull))
		c.refuse("[UNAVAILABLE] Too many connections from your network")
		return
	}
	if c.listener.TLS == "implicit" && !c.handshake() {
		return
	}
	c.atEnd = func() {}
	if c.connect() {
		c.run()
	}
	c.atEnd()
	c.log.Debug("session ended", zap.String(logkey.User, c.session.User), zap.Duration(logkey.Duration, c.listener.now().Sub(c.session.Started)))
}

var (
	errNetworkFull = errors.New("too many connections from one network")
	errProxyHeader = errors.New("the proxy sent no PROXY header, or none that can be read")
)

// refuse tells a client that is turned away, where that costs no handshake.
func (c *conn) refuse(text string) {
	if c.listener.TLS != "implicit" {
		c.fence.bye(text)
	}
}

// identify finds out who the client is, behind a proxy if there is one.
func (c *conn) identify() error {
	remote, local := c.raw.RemoteAddr(), c.raw.LocalAddr()
	if c.fromProxy(remote) {
		proxied := proxyproto.NewConn(c.raw, proxyproto.WithPolicy(proxyproto.REQUIRE),
			proxyproto.SetReadHeaderTimeout(min(c.listener.Timeouts.Login, c.listener.Timeouts.Handshake)))
		if proxied.ProxyHeader() == nil {
			return errProxyHeader
		}
		remote, local = proxied.RemoteAddr(), proxied.LocalAddr()
		c.fence.replace(proxied)
	}
	c.session.RemoteAddr, c.session.LocalAddr = addrPort(remote), addrPort(local)
	return nil
}

// fromProxy tells whether the peer is a proxy that we listen to. Those that can
// reach a unix socket are.
func (c *conn) fromProxy(peer net.Addr) bool {
	if c.listener.ProxyProtocol == nil {
		return false
	}
	if _, ok := peer.(*net.UnixAddr); ok {
		return true
	}
	ip := addrPort(peer).Addr()
	for _, p := range c.listener.ProxyProtocol.From {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// addrPort gives a TCP address, the zero value for others.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// handshake begins TLS.
func (c *conn) handshake() bool {
	raw, limit := c.fence.net(), c.fence.limit(c.listener.Timeouts.Handshake)
	ctx, cancel := context.WithDeadline(c.ctx, limit)
	defer cancel()
	secured := tls.Server(raw, c.listener.tls)
	err := raw.SetReadDeadline(limit) // in place of that of STARTTLS
	if err == nil {
		err = secured.HandshakeContext(ctx)
	}
	if err != nil {
		c.log.Debug("TLS handshake failed", zap.NamedError(logkey.Error, err))
		return false
	}
	state := secured.ConnectionState()
	c.session.TLS = &state
	c.fence.secure(secured)
	return true
}

// connect runs the connect stage.
func (c *conn) connect() bool {
	if !c.listener.chains.Acts(mail.StageConnect) {
		return true
	}
	tx := mail.NewTransaction(c.session.ID, c.session, c.listener.now())
	ctx, cancel := context.WithTimeout(c.ctx, c.listener.Timeouts.Stage)
	defer cancel()
	outcome := c.listener.chains.Run(ctx, mail.StageConnect, tx)
	if len(tx.Entries) > 0 || outcome.Refused() {
		c.atEnd = func() {
			c.listener.traces.Add(trace.NewRecord(trace.KindSession, tx, outcome, c.listener.now()))
		}
	}
	if outcome.Refused() {
		c.log.Info("connection refused", zap.String(logkey.Handler, outcome.Handler), zap.Stringer(logkey.Verdict, outcome.Action),
			zap.String(logkey.Reason, mail.Printable(outcome.Reason, maxLogText)))
		c.fence.bye("[UNAVAILABLE] " + oneLine(outcome.Reply.Text))
		return false
	}
	return true
}

// run greets the client and serves its commands.
func (c *conn) run() {
	c.fence.out.line("* OK [" + c.listener.caps.list(c.fence.secured, false) + "] IMAP server ready")
	if !c.fence.secured {
		if err := c.fence.untilTLS(); !errors.Is(err, errStartTLS) || !c.handshake() {
			return
		}
	}
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &session{conn: c}, nil, nil
		},
		Caps:         serverCaps,
		Logger:       printer{c.log},
		InsecureAuth: true, // the fence lets no login through without TLS
	})
	c.fence.out.skipGreeting()
	if err := server.Serve(&single{conn: c.fence}); err != nil {
		c.log.Error("session could not begin", zap.NamedError(logkey.Error, err))
		return
	}
	<-c.fence.closed
}

// serverCaps tell imapserver what the session can do. What clients get to see
// is in answer.go.
var serverCaps = imap.CapSet{
	imap.CapIMAP4rev1: {}, imap.CapNamespace: {}, imap.CapUIDPlus: {}, imap.CapESearch: {}, imap.CapSearchRes: {},
	imap.CapListExtended: {}, imap.CapListStatus: {}, imap.CapMove: {}, imap.CapStatusSize: {}, imap.CapBinary: {},
	imap.CapChildren: {}, imap.CapSpecialUse: {}, imap.CapCreateSpecialUse: {}, imap.CapAppendLimit: {},
}

// single is a net.Listener that gives one connection.
type single struct {
	conn net.Conn
}

// Accept gives the connection, and net.ErrClosed after that.
func (s *single) Accept() (net.Conn, error) {
	if s.conn == nil {
		return nil, net.ErrClosed
	}
	conn := s.conn
	s.conn = nil
	return conn, nil
}

// Close does nothing: there is nothing to close.
func (s *single) Close() error { return nil }

// Addr is unknown.
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

// printer takes imapserver's complaints, which are about clients mostly.
type printer struct{ log *zap.Logger }

// Printf logs a complaint.
func (p printer) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(format, "panic") {
		p.log.Error("imapserver complained", zap.String(logkey.Error, text))
		return
	}
	p.log.Debug("imapserver complained", zap.String(logkey.Error, mail.Printable(text, maxLogText)))
}
