package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/logkey"
)

// Listener serves the API on the addresses of one listener block.
type Listener struct {
	Settings

	name        string
	log         *zap.Logger
	now         func() time.Time
	path        func(string) string
	user        *core.SystemUser
	tls         *tls.Config
	service     service
	tokens      []token
	connections *connections.Counter // on TCP
	locals      *connections.Counter // on Unix sockets, whose places strangers cannot take
	failures    *failures
	leaving     chan struct{} // closed by Drain

	mu      sync.Mutex
	servers []*http.Server // guarded by mu
}

// service has what the process that runs the server offers; nothing while it
// starts.
type service interface {
	Offered() (control.Operations, http.Handler)
}

// Provision takes what requests need.
func (l *Listener) Provision(c *core.Context) error {
	l.name, l.log, l.now, l.path, l.user = c.Listener(), c.Logger(), c.Now(), c.Path, c.User()
	l.tls = c.Certificates()
	l.leaving = make(chan struct{})
	config.WithDefaults(&l.Limits)
	found, err := core.Service[service](c)
	if err != nil {
		return err
	}
	l.service = found
	if l.connections, err = core.Shared(c, "admin.connections."+l.name, connections.New); err != nil {
		return err
	}
	if l.locals, err = core.Shared(c, "admin.connections."+l.name+"/unix", connections.New); err != nil {
		return err
	}
	if l.failures, err = core.Shared(c, "admin.failures", newFailures); err != nil {
		return err
	}
	for _, t := range l.Token {
		l.tokens = append(l.tokens, newToken(t))
	}
	return nil
}

// Start reads the issuers of client certificates.
func (l *Listener) Start() error {
	if l.tls == nil {
		return nil
	}
	l.tls = l.tls.Clone()
	l.tls.NextProtos = []string{"http/1.1"}
	if l.ClientCA == "" {
		return nil
	}
	pool, err := l.clientCAs()
	if err != nil {
		return err
	}
	l.tls.ClientCAs, l.tls.ClientAuth = pool, tls.RequireAndVerifyClientCert
	if len(l.tokens) > 0 {
		l.tls.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return nil
}

// Sockets gives the addresses to listen on.
func (l *Listener) Sockets() []string { return l.Address }

// Serve answers requests from socket until it is closed.
func (l *Listener) Serve(ctx context.Context, socket net.Listener) error {
	local, counter := socket.Addr().Network() == "unix", l.connections
	if local {
		counter = l.locals
		if err := l.share(socket.Addr().String()); err != nil {
			return err
		}
	}
	front := net.Listener(&counted{Listener: socket, counter: counter, limits: l.Limits})
	if !local {
		front = tls.NewListener(front, l.tls)
	}
	server := control.HTTPServer(ctx, l.handler(local), l.log)
	l.mu.Lock()
	l.servers = append(l.servers, server)
	l.mu.Unlock()
	if err := server.Serve(front); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("accept connection: %w", err)
	}
	return nil
}

// share lets the group use a Unix socket, which has been its owner's alone.
func (l *Listener) share(path string) error {
	if l.Group == "" {
		return nil
	}
	id, err := groupID(l.Group)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, id); err != nil {
		return fmt.Errorf("give socket to group %s: %w; the server's user must be a member", l.Group, err)
	}
	return os.Chmod(path, 0o660) //nolint:gosec // it is what the operator asks for
}

// Drain ends those who follow traces, waits for the other requests, and cuts off
// what remains when ctx ends.
func (l *Listener) Drain(ctx context.Context) error {
	close(l.leaving)
	l.mu.Lock()
	defer l.mu.Unlock()
	var all error
	for _, server := range l.servers {
		if err := server.Shutdown(ctx); err != nil {
			all = errors.Join(all, fmt.Errorf("drain: %w", err), server.Close())
		}
	}
	return all
}

// counted is a socket that has room for so many connections.
type counted struct {
	net.Listener
	counter *connections.Counter
	limits  *Limits
}

// Accept gives the next connection for which there is room, and closes the others.
func (c *counted) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !c.counter.Enter(c.limits.Connections) {
			_ = conn.Close()
			continue
		}
		network := connections.NetworkOf(remoteIP(conn.RemoteAddr().String()))
		leave := c.counter.Leave
		if network.IsValid() {
			if !c.counter.EnterNetwork(network, c.limits.ConnectionsPerNetwork) {
				c.counter.Leave()
				_ = conn.Close()
				continue
			}
			leave = func() {
				c.counter.LeaveNetwork(network)
				c.counter.Leave()
			}
		}
		return &countedConn{Conn: conn, leave: sync.OnceFunc(leave)}, nil
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// NetConn gives the connection beneath.
func (c *countedConn) NetConn() net.Conn { return c.Conn }

// handler answers requests: everything on a Unix socket, only those of known
// clients elsewhere.
func (l *Listener) handler(local bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", control.NewHandler(control.HandlerOptions{
		Operations: func() control.Operations { ops, _ := l.service.Offered(); return ops },
		Actor:      actorOf, ReadOnly: readOnly, Leaving: l.leaving, Logger: l.log,
	}))
	mux.HandleFunc("GET /metrics", l.metrics)
	protect := http.NewCrossOriginProtection() // for browsers that have a client certificate
	protect.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		l.refuse(w, http.StatusForbidden, "cross-origin", "the request comes from a page of another site")
	}))
	guarded := l.remote(protect.Handler(mux))
	if local {
		guarded = l.local(mux)
	}
	front := http.NewServeMux()
	front.Handle("/", guarded)
	front.HandleFunc("GET /healthz", l.healthz)
	return front
}

// leave ends the connection behind the answer: who shows nothing must not keep a
// place.
func leave(w http.ResponseWriter) { w.Header().Set("Connection", "close") }

// healthz tells whether the server serves.
func (l *Listener) healthz(w http.ResponseWriter, _ *http.Request) {
	if ops, _ := l.service.Offered(); ops == nil {
		l.refuse(w, http.StatusServiceUnavailable, "not-running", "the server starts")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	leave(w)
	l.sent(fmt.Fprintln(w, "ok"))
}

// metricsTimeout is how long the figures may take to be read.
const metricsTimeout = 30 * time.Second

// metrics gives the figures.
func (l *Listener) metrics(w http.ResponseWriter, r *http.Request) {
	_, figures := l.service.Offered()
	if figures == nil {
		l.refuse(w, http.StatusServiceUnavailable, "not-running", "the server starts")
		return
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(metricsTimeout)); err != nil {
		l.log.Warn("bound answer", zap.Error(err))
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	figures.ServeHTTP(w, r)
}

// refuse answers with a problem.
func (l *Listener) refuse(w http.ResponseWriter, status int, kind, detail string) {
	l.sent(0, control.NewProblem(status, kind, detail).Send(w))
}

// sent takes what sending an answer gives: a client that has left is no news.
func (l *Listener) sent(_ int, err error) {
	if err != nil {
		l.log.Debug("client left", zap.String(logkey.Listener, l.name), zap.NamedError(logkey.Error, err))
	}
}

// Interface guards.
var (
	_ core.Provisioner = (*Listener)(nil)
	_ core.Validator   = (*Listener)(nil)
	_ core.Starter     = (*Listener)(nil)
	_ core.Listener    = (*Listener)(nil)
)
