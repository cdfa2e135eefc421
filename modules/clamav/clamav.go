// Package clamav holds the handler clamav, which has every message scanned by
// ClamAV's daemon, clamd, and decides by settings what happens to an infected
// one and to one that is too large to be scanned.
//
// The message is sent by clamd's INSTREAM command, in chunks, so that memory
// does not grow with it. What cannot be scanned because of a fault (no daemon, an
// answer that makes no sense) is an error, and the chain's on_error says what it
// means; on_timeout does so for a clamd that hangs. When too many messages wait for
// clamd, some are deferred.
// See clamd(8) for the protocol.
package clamav

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(ClamAV{}) }

// ClamAV has messages scanned for viruses by clamd. It marks each with the
// header fields X-Virus-Scanned and X-Virus-Status, and takes out those that it
// came with.
//
// What is infected, what is too large, a clamd that is broken (on_error) and one
// that hangs (on_timeout) have a setting each.
//
// A message that on_error or on_timeout lets pass has no mark. While the handler
// rests after repeated errors, when is false, or an earlier handler accepts, it is
// not asked at all, and such fields in a message are the sender's: who filters by
// them needs "defer" for both settings and no way past the handler.
type ClamAV struct {
	// Address is where clamd listens: "unix:path" (its LocalSocket) or
	// "tcp:host:port" (its TCPAddr and TCPSocket).
	Address backend.Address `config:"address,required,fileonly" example:"unix:/run/clamav/clamd.ctl"`
	// Infected is what happens to a message with a virus: reject refuses it with
	// 554, quarantine keeps it out of the inbox, tag lets it pass with the
	// signature's name in X-Virus-Status.
	Infected string `config:"infected" default:"reject" values:"reject,quarantine,tag"`
	// TooLarge is what happens to a message that is too large to be scanned: over
	// max_size, or over a limit of clamd's own. accept lets it pass unscanned,
	// with "Not scanned" in X-Virus-Status.
	TooLarge string `config:"too_large" default:"accept" values:"accept,quarantine,reject,defer"`
	// MaxSize is the size up to which messages are scanned. It should not exceed
	// StreamMaxLength and MaxFileSize in clamd.conf, and AlertExceedsMax should be
	// on there: without it clamd calls clean what it did not look at.
	MaxSize config.Size `config:"max_size" default:"25MiB" min:"1KiB"`
	// MaxConnections is how many messages clamd scans at once for this server;
	// others wait, for a quarter of timeout, and are then deferred. It should not
	// exceed MaxThreads in clamd.conf.
	MaxConnections int `config:"max_connections,fileonly" default:"10" min:"1" max:"1000"`
	// ConnectTimeout is how long the connection to clamd may take.
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"1ms" max:"5m"`

	client   *client
	hostname string
	now      func() time.Time
}

// Module describes the handler.
func (ClamAV) Module() core.Info {
	return core.Info{
		ID:     "handler.clamav",
		Edits:  true,
		Stages: mail.AtData,
		// From the wait for a free connection to the answer.
		Timeout: time.Minute,
		New:     func() core.Module { return new(ClamAV) },
	}
}

// Provision prepares the client. The number of scans at once is counted over
// all handlers that ask the same clamd, and across changes of the configuration.
func (c *ClamAV) Provision(ctx *core.Context) error {
	c.hostname, c.now = ctx.Hostname(), ctx.Now()
	c.Address.Resolve(ctx.Path)
	name := fmt.Sprintf("clamav/%s/%d", c.Address, c.MaxConnections)
	shared, err := core.Shared(ctx, name, func() (*backend.Gate, error) { return backend.NewGate("clamd", c.MaxConnections), nil })
	if err != nil {
		return err
	}
	asked, err := core.Shared(ctx, fmt.Sprintf("clamav/version/%s", c.Address), func() (*version, error) { return newVersion(c.Address), nil })
	if err != nil {
		return err
	}
	c.client = &client{address: c.Address, gate: shared, connectTimeout: c.ConnectTimeout, version: asked}
	return nil
}

// Validate checks the settings.
func (c *ClamAV) Validate() core.Problems {
	var problems core.Problems
	if fault := c.Address.Fault(); fault != "" {
		problems.Errorf("address", "%s", fault)
	}
	return problems
}

// The header fields that tell what the scan found; the names are those that
// ClamAV's own milter uses.
const (
	fieldScanned = "X-Virus-Scanned"
	fieldStatus  = "X-Virus-Status"
)

// Handle has the message scanned.
func (c *ClamAV) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	for _, name := range []string{fieldScanned, fieldStatus} {
		if tx.Message.Header.Count(name) > 0 {
			tx.RemoveHeaderFields(name)
		}
	}
	if size := tx.Message.Size; size > int64(c.MaxSize) {
		return c.tooLarge(tx, fmt.Sprintf("not scanned: %d bytes are more than max_size, %s", size, c.MaxSize)), nil
	}
	began := c.now()
	answer, err := c.client.scan(ctx, connections.NetworkOf(tx.Session.RemoteAddr.Addr()), tx.Message.Open())
	switch {
	case errors.Is(err, backend.ErrBusy):
		// Many messages at once are no fault of clamd's, for which on_error might
		// let them pass unscanned.
		return mail.Defer(mail.NewReply(451, 3, 2, "Virus scanner is busy, try again later"), err.Error()), nil
	case err != nil:
		return mail.Verdict{}, err
	}
	scanned := c.describe(tx.Message.Size, c.now().Sub(began))
	switch answer.status {
	case statusInfected:
		return c.infected(tx, answer.detail, scanned), nil
	case statusTooLarge:
		return c.tooLarge(tx, fmt.Sprintf("not scanned in whole: clamd says %s, %s", answer.detail, scanned)), nil
	default:
		c.mark(tx, "Clean")
		return mail.Continue("clean, " + scanned), nil
	}
}

// describe says what was scanned, by which version if that is known, and how long it
// took.
func (c *ClamAV) describe(size int64, took time.Duration) string {
	by := ""
	if version := c.client.version.get(c.now()); version != "" {
		by = ", by " + version
	}
	return fmt.Sprintf("%d bytes%s, in %s", size, by, took.Round(time.Microsecond))
}

// mark says in the message what was found.
func (c *ClamAV) mark(tx *mail.Transaction, status string) {
	tx.AddHeaderField(fieldScanned, "clamd at "+c.hostname)
	tx.AddHeaderField(fieldStatus, status)
}

func (c *ClamAV) infected(tx *mail.Transaction, signature, scanned string) mail.Verdict {
	c.mark(tx, "Infected ("+signature+")")
	reason := "infected with " + signature + ", " + scanned
	switch c.Infected {
	case "quarantine":
		return mail.Quarantine(reason)
	case "tag":
		return mail.Continue(reason)
	default:
		return mail.Reject(mail.NewReply(554, 7, 1, "Message contains a virus: "+signature), reason)
	}
}

func (c *ClamAV) tooLarge(tx *mail.Transaction, reason string) mail.Verdict {
	tx.AddHeaderField(fieldStatus, "Not scanned (too large)")
	switch c.TooLarge {
	case "quarantine":
		return mail.Quarantine(reason)
	case "reject":
		return mail.Reject(mail.NewReply(552, 3, 4, "Message is too large to be scanned for viruses"), reason)
	case "defer":
		return mail.Defer(mail.NewReply(452, 3, 4, "Message is too large to be scanned for viruses now"), reason)
	default:
		return mail.Continue(reason)
	}
}

// Interface guards.
var (
	_ core.Provisioner = (*ClamAV)(nil)
	_ core.Validator   = (*ClamAV)(nil)
	_ core.Handler     = (*ClamAV)(nil)
)
