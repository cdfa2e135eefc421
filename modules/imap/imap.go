// Package imap is the IMAP server, listener.imap: IMAP4rev1 (RFC 3501) with the
// extensions that the capabilities in answer.go name, among them IDLE (RFC
// 2177), UIDPLUS (RFC 4315), MOVE (RFC 6851), SPECIAL-USE (RFC 6154) and
// NAMESPACE (RFC 2342).
//
// It consists of three layers. The fence frames commands, keeps deadlines and
// limits, and gathers responses; imapserver (of go-imap) parses the arguments
// and formats the responses; the session does what the commands say, with the
// mailbox store. The fence lets imapserver see nothing but what is well formed,
// and the session knows of imapserver only its writers, so that a protocol layer
// of our own can take the place of both.
//
// Logging in runs the auth stage of the listener's chain; nobody logs in without
// TLS. Mailboxes belong to modules/mailbox.
package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/sasl"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/modules/mailbox"
)

func init() { core.Register(new(Listener)) }

// Listener serves IMAP. Its methods are safe for concurrent use once it is
// provisioned.
type Listener struct {
	// Address is where to listen: "host:port" or "unix:path".
	Address []string `config:"address,required"`
	// TLS is when encryption begins: with the connection (implicit), or by
	// STARTTLS (required and starttls, which mean the same here, since nobody
	// logs in before). With off there is no TLS, so that nobody can log in.
	TLS string `config:"tls" default:"implicit" values:"implicit,required,starttls,off"`
	// MaxConnections is how many clients may be connected at once.
	MaxConnections int `config:"max_connections" default:"2000" min:"1"`
	// MaxConnectionsPerNetwork is how many of them may come from one IPv4 address
	// or one IPv6 network of 64 bits. Mail programs open several at once.
	MaxConnectionsPerNetwork int `config:"max_connections_per_network" default:"50" min:"1"`
	// MaxMessageSize is the size of the largest message that a client may store.
	MaxMessageSize config.Size `config:"max_message_size" default:"50MB" min:"64KB" max:"4GB"`
	// IdleTimeout is how long a client that has logged in may be silent. RFC 9051
	// asks for 30 minutes at least.
	IdleTimeout time.Duration `config:"idle_timeout" default:"30m" min:"30m" max:"24h"`
	// CommandTimeout is how long a client may take to send a command, or to read
	// or send the next piece of a message.
	CommandTimeout time.Duration `config:"command_timeout" default:"1m" min:"1s" max:"30m"`
	// LoginTimeout is how long a client may take to log in.
	LoginTimeout time.Duration `config:"login_timeout" default:"1m" min:"1s" max:"30m"`
	// MaxAuthFailures is how many logins may fail before the client is cut off.
	MaxAuthFailures int `config:"max_auth_failures" default:"3" min:"1" max:"100"`
	// ProxyProtocol names the proxies that tell who the client is.
	ProxyProtocol *ProxyProtocol `config:"proxy_protocol,block"`

	name      string
	log       *zap.Logger
	now       func() time.Time
	spoolDir  string
	chains    *chain.Set
	traces    *trace.Log
	tls       *tls.Config
	mailboxes mailboxes
	scram     scramKeys // nil where SCRAM is not offered
	caps      capabilities

	mu       sync.Mutex
	conns    map[*conn]struct{}
	networks map[netip.Prefix]int
	draining bool
	running  sync.WaitGroup
}

// ProxyProtocol is about proxies in front of the server that speak the PROXY
// protocol, version 1 or 2.
type ProxyProtocol struct {
	// From are the networks of the proxies. A connection from there must begin
	// with the PROXY header, one from elsewhere has none.
	From []netip.Prefix `config:"from,required"`
}

// mailboxes opens the mailboxes of an account.
type mailboxes interface {
	Open(ctx context.Context, address string) (*mailbox.Account, error)
}

// scramKeys gives what SCRAM needs of an account.
type scramKeys interface {
	ScramKeys(ctx context.Context, username string) (mail.ScramKeys, error)
}

// Module describes the listener.
func (*Listener) Module() core.Info {
	return core.Info{
		ID:     "listener.imap",
		Stages: mail.AtConnect | mail.AtAuth,
		New:    func() core.Module { return new(Listener) },
	}
}

// Provision takes the services.
func (l *Listener) Provision(c *core.Context) error {
	l.name, l.log, l.now, l.spoolDir = c.Name(), c.Logger(), c.Now(), c.DataDir()
	l.chains, l.traces, l.tls = c.Chains(), c.Traces(), c.Certificates()
	boxes, err := core.Service[mailboxes](c)
	if err != nil {
		return fmt.Errorf("find mailbox store: %w", err)
	}
	l.mailboxes = boxes
	if keys, err := core.Service[scramKeys](c); err == nil {
		l.scram = keys
	}
	l.caps = capabilities{
		mechanisms: sasl.Mechanisms(l.scram != nil), startTLS: l.startTLS(), appendLimit: int64(l.MaxMessageSize),
	}
	l.conns, l.networks = make(map[*conn]struct{}), make(map[netip.Prefix]int)
	return nil
}

func (l *Listener) startTLS() bool { return l.TLS == "required" || l.TLS == "starttls" }

// Validate checks the settings against each other.
func (l *Listener) Validate() core.Problems {
	var ps core.Problems
	if len(l.Address) == 0 {
		ps.Errorf("address", "a listener needs an address, such as %q", "[::]:993")
	}
	switch {
	case l.TLS == "off":
		ps.Warnf("tls", "nobody can log in here: IMAP passwords are never taken without TLS; use \"implicit\" or \"starttls\"")
	case l.tls == nil:
		ps.Errorf("tls", "tls = %q needs a certificate: add a tls block, such as tls \"self_signed\" {}", l.TLS)
	}
	for _, a := range l.Address {
		port := a[strings.LastIndexByte(a, ':')+1:]
		switch {
		case port == "993" && l.TLS != "implicit":
			ps.Warnf("address", "clients expect TLS from the first byte on port 993; use tls = \"implicit\" there, or port 143")
		case port == "143" && l.TLS == "implicit":
			ps.Warnf("address", "clients expect STARTTLS on port 143; use tls = \"starttls\" there, or port 993")
		}
	}
	if l.MaxConnectionsPerNetwork > l.MaxConnections {
		ps.Errorf("max_connections_per_network", "is %d, more than max_connections (%d)", l.MaxConnectionsPerNetwork, l.MaxConnections)
	}
	if l.ProxyProtocol != nil && len(l.ProxyProtocol.From) == 0 {
		ps.Errorf("proxy_protocol.from", "no proxy is listed; list their networks or remove the block")
	}
	return ps
}

// Sockets gives the addresses.
func (l *Listener) Sockets() []string { return l.Address }

// acceptPause is how long accepting rests after an error, such as the lack of
// file descriptors.
const acceptPause = 100 * time.Millisecond

// Serve accepts connections until ln is closed. ctx ends the sessions' work.
func (l *Listener) Serve(ctx context.Context, ln net.Listener) error {
	for {
		raw, err := ln.Accept()
		switch {
		case err == nil:
			l.begin(ctx, raw)
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			l.log.Warn("accept connection", zap.String(keyListener, l.name), zap.NamedError(keyError, err))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
		}
	}
}

// errFull is logged when there is no room for a connection, or the server stops.
var errFull = errors.New("max_connections is reached, or the listener drains")

// begin gives a connection a goroutine of its own, if there is room.
func (l *Listener) begin(ctx context.Context, raw net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining || len(l.conns) >= l.MaxConnections {
		l.log.Debug("connection refused", zap.String(keyListener, l.name), zap.Stringer(keyRemoteIP, addrPort(raw.RemoteAddr()).Addr()),
			zap.NamedError(keyError, errFull))
		_ = raw.Close()
		return
	}
	c := newConn(ctx, l, raw)
	l.conns[c] = struct{}{}
	l.running.Go(func() {
		defer l.end(c)
		c.serve()
	})
}

func (l *Listener) end(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if c.network.IsValid() {
		if l.networks[c.network]--; l.networks[c.network] == 0 {
			delete(l.networks, c.network)
		}
	}
}

// admit counts a connection for its network, unless that has too many already.
func (l *Listener) admit(c *conn, ip netip.Addr) bool {
	if !ip.IsValid() {
		return true // a unix socket without PROXY protocol
	}
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	network := netip.PrefixFrom(ip.WithZone(""), bits).Masked()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.networks[network] >= l.MaxConnectionsPerNetwork {
		return false
	}
	l.networks[network]++
	c.network = network
	return true
}

// abortGrace is how long a session whose connection is closed may take to end.
const abortGrace = 5 * time.Second

// Drain asks the clients to leave as soon as they are idle, and cuts off those
// that remain when ctx ends.
func (l *Listener) Drain(ctx context.Context) error {
	l.mu.Lock()
	l.draining = true
	for c := range l.conns {
		c.fence.hangUp("Server is shutting down, connect again later")
	}
	l.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		l.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	cut := len(l.conns)
	for c := range l.conns {
		c.abort()
	}
	l.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(abortGrace):
		l.log.Error("sessions do not end", zap.String(keyListener, l.name))
	}
	return fmt.Errorf("drain: %d sessions were busy until the end: %w", cut, ctx.Err())
}

// Interface guards.
var (
	_ core.Provisioner = (*Listener)(nil)
	_ core.Validator   = (*Listener)(nil)
	_ core.Listener    = (*Listener)(nil)
)
