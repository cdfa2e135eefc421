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
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/sasl"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// Listener serves IMAP. Its methods are safe for concurrent use once it is
// provisioned.
type Listener struct {
	Settings

	name        string
	log         *zap.Logger
	now         func() time.Time
	spoolDir    string
	chains      *chain.Set
	traces      *trace.Log
	tls         *tls.Config
	mailboxes   mailboxes
	scram       scramKeys // nil where SCRAM is not offered
	caps        capabilities
	connections *connections.Counter
	spool       *mail.SpoolBudget

	mu       sync.Mutex
	conns    map[*conn]struct{} // guarded by mu
	draining bool               // guarded by mu
	running  sync.WaitGroup
}

// mailboxes opens the mailboxes of an account.
type mailboxes interface {
	Open(ctx context.Context, address string) (*mailbox.Account, error)
}

// scramKeys gives what SCRAM needs of an account.
type scramKeys interface {
	ScramKeys(ctx context.Context, username string) (mail.ScramKeys, error)
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
	shared, err := core.Shared(c, "imap.connections."+l.name, connections.New)
	if err != nil {
		return err
	}
	l.connections = shared
	if l.spool, err = core.Shared(c, "spool", mail.NewSpoolBudget); err != nil {
		return err
	}
	l.conns = make(map[*conn]struct{})
	config.WithDefaults(&l.Limits)
	config.WithDefaults(&l.Timeouts)
	return nil
}

func (l *Listener) startTLS() bool { return l.TLS == "required" || l.TLS == "starttls" }

// Validate checks the settings against each other.
func (l *Listener) Validate() core.Problems {
	var ps core.Problems
	if len(l.Address) == 0 {
		ps = append(ps, core.Problem{Attribute: "address", Message: "a listener needs an address", Detail: `Write address = ["0.0.0.0:993", "[::]:993"].`})
	}
	if l.Limits.Spool/2 < l.MaxMessageSize {
		ps.Warnf("limits.spool", "a message of max_message_size = %s does not fit: it may take half of limits.spool = %s", l.MaxMessageSize, l.Limits.Spool)
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
		case port == "993" && l.TLS != "implicit" && l.TLS != "off":
			ps.Warnf("address", "clients expect TLS from the first byte on port 993; use tls = \"implicit\" there, or port 143")
		case port == "143" && l.TLS == "implicit":
			ps.Warnf("address", "clients expect STARTTLS on port 143; use tls = \"starttls\" there, or port 993")
		}
	}
	if l.Limits.ConnectionsPerNetwork > l.Limits.Connections {
		ps.Warnf("limits.connections_per_network", "connections_per_network = %d has no effect, since connections = %d is less", l.Limits.ConnectionsPerNetwork, l.Limits.Connections)
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
			l.log.Warn("accept connection", zap.String(logkey.Listener, l.name), zap.NamedError(logkey.Error, err))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
		}
	}
}

var (
	errFull     = errors.New("limits.connections is reached")
	errDraining = errors.New("the listener drains")
)

// begin gives a connection a goroutine of its own, if there is room.
func (l *Listener) begin(ctx context.Context, raw net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var refused error
	switch {
	case l.draining:
		refused = errDraining
	case !l.connections.Enter(l.Limits.Connections):
		refused = errFull
	}
	if refused != nil {
		l.log.Debug("connection refused", zap.String(logkey.Listener, l.name), zap.Stringer(logkey.RemoteIP, addrPort(raw.RemoteAddr()).Addr()),
			zap.NamedError(logkey.Error, refused))
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

// end forgets a connection that has ended.
func (l *Listener) end(c *conn) {
	l.connections.Leave()
	if c.network.IsValid() {
		l.connections.LeaveNetwork(c.network)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// admit counts a connection for its client's network, unless that has too many
// already. A unix socket without the PROXY protocol has none.
func (l *Listener) admit(c *conn, ip netip.Addr) bool {
	network := connections.NetworkOf(ip)
	if !network.IsValid() {
		return true
	}
	if !l.connections.EnterNetwork(network, l.Limits.ConnectionsPerNetwork) {
		return false
	}
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
		l.log.Error("sessions do not end", zap.String(logkey.Listener, l.name))
	}
	return fmt.Errorf("drain: %d sessions were busy until the end: %w", cut, ctx.Err())
}

// Interface guards.
var (
	_ core.Provisioner = (*Listener)(nil)
	_ core.Validator   = (*Listener)(nil)
	_ core.Listener    = (*Listener)(nil)
)
