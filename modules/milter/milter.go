// Package milter holds the handler milter, which has any milter judge and change
// messages: a filter that speaks the protocol of Sendmail's libmilter, version 6, as
// Postfix speaks it too.
//
// At the data stage the milter is told the whole session again, on a connection of
// its own: connect, HELO, MAIL, each RCPT, DATA, the header fields one by one, the
// body in chunks. It sees the message as it is then, with what handlers in front have
// added, but without the server's own Received field, which Postfix and Sendmail do
// not show either. What it changes at the end is applied in one piece, or not at all:
// after an error the message is as it was. Only with a quarantine, which holds in any
// case, is what can be applied without the rest. At the rcpt stage it is told the session
// up to one recipient, whom it may refuse.
//
// The package speaks the protocol itself. Codes and flags are those of package
// github.com/emersion/go-milter; its client is not used, since it keeps all changes of
// a message in memory before the caller sees one, whatever they are, has no way to
// send DATA, takes SKIP for an error, and closes no connection on which the
// negotiation failed.
//
// What is not supported: a connection for several messages, commands that the server
// does not know (SMFIC_UNKNOWN), recipients that were refused, and parameters of
// added recipients, which are left out.
package milter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(Milter{}) }

// Milter has a milter judge and change messages: opendkim, opendmarc, clamav-milter,
// spamass-milter, rspamd and any other. All that milters do is done: they accept,
// refuse, discard, quarantine; add, change and delete header fields; replace the body,
// the reverse-path and recipients.
//
// A recipient that it adds is one more that this server delivers to, if a target of
// the chain takes it: it does not go elsewhere. If it deletes all recipients the
// message is discarded. If it refuses one of several at the data stage the whole
// message is refused, since the client was told already that all are good; with
// stage = ["rcpt", "data"] it refuses single ones in time.
//
// A message that would get more changes than there is room for is refused with 550,
// or quarantined if the milter wants that: what a sender can bring about is no error,
// for which on_error might let it pass. More than 1000 changes beside one for each
// header field are too many, and so are a header section over 512 KiB or a body over
// max_body.
//
// A message that on_error lets pass is not changed. In mode monitor nothing is
// changed but by fields that the milter puts on top.
type Milter struct {
	// Address is where the milter listens: "unix:path" or "tcp:host:port". Postfix
	// writes inet:host:port, and libmilter inet:port@host, for the latter.
	Address backend.Address `config:"address,required,fileonly" example:"unix:/run/opendkim/opendkim.sock"`
	// MaxConnections is how many messages the milter is told at once; others wait, for
	// a quarter of timeout, and are then deferred.
	MaxConnections int `config:"max_connections,fileonly" default:"20" min:"1" max:"1000"`
	// ConnectTimeout is how long the connection to the milter may take.
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"1ms" max:"5m"`
	// MaxBody is the size up to which a milter can replace the body of a message. A
	// message whose body it makes larger is refused, as one too complex; so leave room
	// for the largest message that the listener takes.
	MaxBody config.Size `config:"max_body,fileonly" default:"50MB" min:"1KB" max:"1GB"`
	// DaemonName is the macro {daemon_name}, by which some milters, such as opendkim,
	// choose what to do; where it is left out it is the listener's name.
	DaemonName string `config:"daemon_name,fileonly" example:"ORIGINATING"`

	host     host
	gate     *backend.Gate
	spoolDir string
	budget   *mail.SpoolBudget
	room     int64 // of the budget, in bytes
	now      func() time.Time
}

// host is what a milter is told about this server.
type host struct {
	name   string // its own
	daemon string // "" for the listener's name
	local  func(domain string) bool
	now    func() time.Time
}

// Module describes the handler.
func (Milter) Module() core.Info {
	return core.Info{
		ID:             "handler.milter",
		Edits:          true,
		Rewrites:       true,
		Stages:         mail.AtRcpt | mail.AtData,
		StageAttribute: true,
		DefaultStages:  mail.AtData,
		// From the wait for a free connection to the last answer.
		Timeout: time.Minute,
		New:     func() core.Module { return new(Milter) },
	}
}

// Provision prepares the handler. The number of messages at once is counted over all
// handlers that ask the same milter, and across changes of the configuration.
func (m *Milter) Provision(c *core.Context) error {
	m.now, m.room = c.Now(), spoolLimit
	m.Address.Resolve(c.Path)
	domains := c.Domains()
	m.host = host{name: c.Hostname(), daemon: m.DaemonName, now: m.now, local: func(domain string) bool {
		_, ok := domains.Find(domain)
		return ok
	}}
	name := fmt.Sprintf("milter/%s/%d", m.Address, m.MaxConnections)
	var err error
	m.gate, err = core.Shared(c, name, func() (*backend.Gate, error) { return backend.NewGate("the milter", m.MaxConnections), nil })
	if err != nil {
		return err
	}
	// What milters write counts together with what clients send.
	if m.budget, err = core.Shared(c, "spool", mail.NewSpoolBudget); err != nil {
		return err
	}
	if dir := c.DataDir(); dir != "" {
		m.spoolDir = filepath.Join(dir, "spool")
	}
	return nil
}

// Validate checks the settings.
func (m *Milter) Validate() core.Problems {
	var problems core.Problems
	if fault := m.Address.Fault(); fault != "" {
		problems.Errorf("address", "%s", fault)
	}
	if m.DaemonName != mail.Printable(m.DaemonName, maxDaemonName) {
		problems.Errorf("daemon_name", "the name is longer than %d bytes, or not printable", maxDaemonName)
	}
	return problems
}

// maxDaemonName bounds daemon_name.
const maxDaemonName = 100

// Start makes the folder for large bodies.
func (m *Milter) Start() error {
	if m.spoolDir == "" {
		return nil
	}
	if err := os.MkdirAll(m.spoolDir, 0o700); err != nil {
		return fmt.Errorf("make spool folder: %w", err)
	}
	return nil
}

// Handle has the milter judge the recipient, or the message.
func (m *Milter) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	var network netip.Prefix
	if addr := tx.Session.RemoteAddr.Addr(); addr.IsValid() {
		network = connections.NetworkOf(addr)
	}
	switch err := m.gate.Enter(ctx, network); {
	case errors.Is(err, backend.ErrBusy):
		// Many messages at once are no fault of the milter's, for which on_error might
		// let them pass.
		return mail.Defer(mail.NewReply(451, 3, 2, "Mail filter is busy, try again later"), err.Error()), nil
	case err != nil:
		return mail.Verdict{}, fmt.Errorf("wait for the milter at %s: %w", m.Address, err)
	}
	defer m.gate.Leave()
	began := m.now()
	verdict, err := m.ask(ctx, tx)
	switch {
	case errors.Is(err, mail.ErrSpoolFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		// Nor is a full disk, for which the message would pass as it came.
		return mail.Defer(mail.NewReply(452, 3, 1, "Insufficient system storage, try again later"), mail.Printable(err.Error(), maxReason)), nil
	case err != nil:
		return mail.Verdict{}, err
	}
	verdict.Reason = mail.Printable(verdict.Reason, maxReason) + ", in " + m.now().Sub(began).Round(time.Microsecond).String()
	return verdict, nil
}

// maxReason bounds what the trace says of a milter, in bytes.
const maxReason = 440

// ask has a conversation with the milter and does what it says.
func (m *Milter) ask(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	c, err := dial(ctx, m.Address, m.ConnectTimeout)
	if err != nil {
		return mail.Verdict{}, err
	}
	defer c.close()
	var verdict mail.Verdict
	if tx.Stage == mail.StageRcpt {
		verdict, err = m.recipient(c, tx)
	} else {
		verdict, err = m.message(c, tx)
	}
	if err != nil {
		return mail.Verdict{}, c.explain(ctx, err)
	}
	return verdict, nil
}

// recipient tells the session up to tx.Recipient.
func (m *Milter) recipient(c *client, tx *mail.Transaction) (mail.Verdict, error) {
	t := teller{client: c, host: &m.host, tx: tx}
	a, err := t.envelope()
	if err != nil || a.final() {
		return a.verdict(), err
	}
	if a, err = t.rcpt(tx.Recipient); err != nil {
		return mail.Verdict{}, err
	}
	if !a.final() {
		c.send(codeAbort)
	}
	return a.verdict(), nil
}

// message tells the session and the message, and applies what the milter changes.
func (m *Milter) message(c *client, tx *mail.Transaction) (mail.Verdict, error) {
	t := teller{client: c, host: &m.host, tx: tx}
	a, err := t.envelope()
	for _, r := range tx.Envelope.Recipients {
		if err != nil || a.final() {
			break
		}
		if a, err = t.rcpt(r); a.refuses() && len(tx.Envelope.Recipients) > 1 {
			a.what = fmt.Sprintf("%s, and so the message to all %d; with stage = [\"rcpt\", \"data\"] it can refuse single ones", a.words(), len(tx.Envelope.Recipients))
		}
	}
	if err != nil || a.final() {
		return a.verdict(), err
	}
	rendered, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, err
	}
	s := newSection(rendered.Head(), tx.ID)
	if a, err = t.content(s, tx.Message); err != nil || a.final() {
		return a.verdict(), err
	}
	changes := &changes{
		client: c, limit: int64(m.MaxBody), spool: m.newSpool,
		most: moreChanges + len(s.fields), mostSize: moreChangesSize + len(rendered.Head()),
	}
	defer changes.close()
	if a, err = t.end(changes); err != nil {
		return mail.Verdict{}, err
	}
	if a.refuses() || a.discards() {
		return a.verdict(), nil
	}
	done, err := changes.apply(tx, s, c.leading())
	if err != nil {
		return mail.Verdict{}, err
	}
	return done.verdict(a), nil
}

const (
	// spoolMemory is how much of a body stays in memory.
	spoolMemory = 256 << 10
	// spoolLimit is up to which size all messages that are on their way through the
	// server let a milter replace a body.
	spoolLimit = 1 << 30
)

func (m *Milter) newSpool() *mail.Spool {
	return mail.NewSpool(m.spoolDir, spoolMemory).Within(m.budget, m.room)
}

// Interface guards.
var (
	_ core.Provisioner = (*Milter)(nil)
	_ core.Validator   = (*Milter)(nil)
	_ core.Starter     = (*Milter)(nil)
	_ core.Handler     = (*Milter)(nil)
)
