package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// Listener serves SMTP on the addresses of one listener block.
type Listener struct {
	Settings

	name        string
	hostname    string
	log         *zap.Logger
	errorLog    errorLog
	now         func() time.Time
	chains      chains
	acts        [mail.NumStages]bool
	traces      traces
	store       *store.Store
	scram       scramKeys
	tls         *tls.Config
	connections *connections.Counter
	spoolDir    string
	spool       *mail.SpoolBudget

	mu       sync.Mutex
	ended    *sync.Cond            // on mu: a session has ended
	sessions map[*session]struct{} // guarded by mu
	leaving  bool                  // guarded by mu
	cancels  []context.CancelFunc  // guarded by mu
}

// chains is the listener's *chain.Set.
type chains interface {
	Run(ctx context.Context, stage mail.Stage, tx *mail.Transaction) mail.Outcome
	Acts(stage mail.Stage) bool
}

// traces is the server's *trace.Log.
type traces interface {
	Add(r *trace.Record)
	AddTx(tx *store.Tx, r *trace.Record) error
}

// scramKeys is the service that has SCRAM keys of the accounts.
type scramKeys interface {
	// ScramKeys gives a user's keys, and made-up ones that stay the same for a user
	// who is not there.
	ScramKeys(ctx context.Context, username string) (mail.ScramKeys, error)
}

// Provision takes what sessions need.
func (l *Listener) Provision(c *core.Context) error {
	l.name, l.hostname = c.Listener(), c.Hostname()
	l.log, l.now = c.Logger(), c.Now()
	l.store, l.traces, l.chains = c.Store(), c.Traces(), c.Chains()
	if l.TLS != tlsOff {
		l.tls = c.Certificates()
	}
	if keys, err := core.Service[scramKeys](c); err == nil {
		l.scram = keys // without it, SCRAM is not offered
	}
	shared, err := core.Shared(c, "smtp.connections."+l.name, connections.New)
	if err != nil {
		return err
	}
	l.connections = shared
	if l.spool, err = core.Shared(c, "spool", mail.NewSpoolBudget); err != nil {
		return err
	}
	if dir := c.DataDir(); dir != "" {
		l.spoolDir = filepath.Join(dir, "spool")
	}
	l.prepare()
	return nil
}

// prepare derives what sessions use from what Provision was given.
func (l *Listener) prepare() {
	config.WithDefaults(&l.Limits)
	config.WithDefaults(&l.Timeouts)
	for stage := range mail.Stage(mail.NumStages) {
		l.acts[stage] = l.chains.Acts(stage)
	}
	if l.tls != nil {
		l.tls = l.tls.Clone()
		l.tls.SessionTicketsDisabled = true // Exchange Online breaks off at one (golang/go#70232)
	}
	l.errorLog = errorLog{l.log}
	l.ended = sync.NewCond(&l.mu)
	l.sessions = make(map[*session]struct{})
}

// Validate checks the settings against each other.
func (l *Listener) Validate() core.Problems {
	var ps core.Problems
	if len(l.Address) == 0 {
		ps = append(ps, core.Problem{Attribute: "address", Message: "the listener has no address", Detail: `Write address = ["0.0.0.0:25", "[::]:25"].`})
	}
	ps = append(ps, l.validateTLS()...)
	if l.Limits.Commands < l.MaxRecipients+10 {
		ps.Warnf("limits.commands", "a message to max_recipients = %d takes more commands than limits.commands = %d allows", l.MaxRecipients, l.Limits.Commands)
	}
	if l.Limits.ConnectionsPerNetwork > l.Limits.Connections {
		ps.Warnf("limits.connections_per_network", "connections_per_network = %d has no effect, since connections = %d is less", l.Limits.ConnectionsPerNetwork, l.Limits.Connections)
	}
	if l.Limits.Spool/2 < l.MaxMessageSize {
		ps.Warnf("limits.spool", "a message of max_message_size = %s does not fit: it may take half of limits.spool = %s", l.MaxMessageSize, l.Limits.Spool)
	}
	if l.GreetDelay > 0 && !l.greetsLate() {
		ps.Warnf("greet_delay", `greet_delay has no effect where messages are submitted, nor with tls = "implicit"`)
	}
	return ps
}

func (l *Listener) validateTLS() core.Problems {
	const add = `Add a tls block, such as tls "self_signed" {}.`
	var ps core.Problems
	switch {
	case l.Auth != authOff && l.TLS == tlsOff:
		ps = append(ps, core.Problem{
			Attribute: "auth", Message: fmt.Sprintf("auth = %q needs TLS, which is off: nobody logs in over a connection in the clear", l.Auth),
			Detail: `Set tls = "implicit" for port 465, or tls = "required" for port 587.`,
		})
	case l.TLS == tlsOff || l.tls != nil:
	case l.TLS == tlsStartTLS && l.Auth == authOff:
		ps = append(ps, core.Problem{
			Attribute: "tls", Severity: config.Warning, Message: "STARTTLS is not offered, since the file has no certificate",
			Detail: add + ` Or set tls = "off".`,
		})
	default:
		ps = append(ps, core.Problem{Attribute: "tls", Message: fmt.Sprintf("tls = %q needs a certificate, and the file has none", l.TLS), Detail: add})
	}
	return ps
}

// Start makes the folder for large messages that are being received.
func (l *Listener) Start() error {
	if l.spoolDir == "" {
		return nil
	}
	if err := os.MkdirAll(l.spoolDir, 0o700); err != nil {
		return fmt.Errorf("make spool folder: %w", err)
	}
	return nil
}

// Sockets gives the addresses to listen on.
func (l *Listener) Sockets() []string { return l.Address }

// Serve accepts sessions from socket until it is closed.
func (l *Listener) Serve(ctx context.Context, socket net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	l.cancels = append(l.cancels, cancel)
	l.mu.Unlock()
	for {
		conn, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept connection: %w", err)
		}
		if !l.connections.Enter(l.Limits.Connections) {
			l.full(conn)
			continue
		}
		l.begin(ctx, conn)
	}
}

// full turns a client away in the goroutine that accepts. A few bytes always fit
// into a new connection.
func (l *Listener) full(conn net.Conn) {
	l.log.Info("connection refused", zap.String(logkey.Listener, l.name), zap.Stringer(logkey.RemoteIP, addrPort(conn.RemoteAddr()).Addr()),
		zap.String(logkey.Reason, "too many connections"))
	if l.TLS != tlsImplicit && conn.SetWriteDeadline(time.Now().Add(10*time.Millisecond)) == nil {
		_, _ = conn.Write([]byte("421 4.7.0 Too many connections, try again later\r\n"))
	}
	_ = conn.Close()
}

// begin starts a session in a goroutine of its own.
func (l *Listener) begin(ctx context.Context, conn net.Conn) {
	s := l.newSession(ctx, newWire(conn, l.Timeouts.Write))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[s] = struct{}{}
	if l.leaving {
		s.wire.interrupt()
	}
	go func() {
		defer l.over(s)
		s.serve()
	}()
}

// over forgets a session that has ended.
func (l *Listener) over(s *session) {
	l.connections.Leave()
	if s.network.IsValid() {
		l.connections.LeaveNetwork(s.network)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s)
	l.ended.Broadcast()
}

// cutOff is how long sessions may take to end after their connections were
// closed: the chain is told by its context.
const cutOff = 5 * time.Second

// Drain asks sessions to leave, once they are done with the message at hand, and
// closes those that remain when ctx ends.
func (l *Listener) Drain(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = true
	for s := range l.sessions {
		s.wire.interrupt()
	}
	n := l.wait(ctx)
	for s := range l.sessions {
		s.wire.abort()
	}
	for _, cancel := range l.cancels {
		cancel()
	}
	if n == 0 {
		return nil
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutOff)
	defer cancel()
	if left := l.wait(limit); left > 0 {
		return fmt.Errorf("close %d sessions, of which %d go on: %w", n, left, ctx.Err())
	}
	return fmt.Errorf("close %d sessions: %w", n, ctx.Err())
}

// wait waits until no session is left or ctx ends, and gives how many are left.
// The caller holds mu.
func (l *Listener) wait(ctx context.Context) int {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended.Broadcast()
	})
	defer stop()
	for len(l.sessions) > 0 && ctx.Err() == nil {
		l.ended.Wait()
	}
	return len(l.sessions)
}

// errorLog takes what go-smtp logs: panics.
type errorLog struct{ log *zap.Logger }

// Printf implements gosmtp.Logger.
func (e errorLog) Printf(format string, v ...any) { e.log.Error(fmt.Sprintf(format, v...)) }

// Println implements gosmtp.Logger.
func (e errorLog) Println(v ...any) { e.log.Error(strings.TrimSuffix(fmt.Sprintln(v...), "\n")) }

var (
	_ core.Provisioner = (*Listener)(nil)
	_ core.Validator   = (*Listener)(nil)
	_ core.Starter     = (*Listener)(nil)
	_ core.Listener    = (*Listener)(nil)
)
