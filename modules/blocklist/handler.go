package blocklist

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// Blocklist refuses clients from networks that are blocked: by the command
// blocklist, by imported lists, by other handlers such as bruteforce, or by these
// settings.
type Blocklist struct {
	// Networks are blocked as long as they stand here.
	Networks []netip.Prefix `config:"networks" example:"192.0.2.0/24"`
	// File has a network a line, as the command blocklist import reads it; it is
	// read at the start and at every reload. A relative path stands beside the
	// configuration file.
	File string `config:"file,fileonly" example:"blocklist.txt"`
	// Allow lists networks that are never blocked, whatever else says so.
	Allow []netip.Prefix `config:"allow" example:"198.51.100.0/24"`
	// Sources are those whose blocks count, such as admin, bruteforce, or the name of
	// an imported list; without it all count. What these settings block counts
	// always.
	Sources []string `config:"sources"`
	// Action is reject, so that the client gives up, or defer, so that it comes back.
	Action string `config:"action" default:"reject" values:"reject,defer"`

	blocks   blocker
	users    []sparer
	now      func() time.Time
	user     *core.SystemUser
	hostname string
	place    string // where the settings stand
	trial    bool   // it refuses nobody, see core.Context
	started  time.Time
	networks list
	file     *listFile // nil without a file
	fileList list
	asked    string // what an address that is not blocked was held against
}

// blocker is the service that keeps the blocks.
type blocker interface {
	// BlockedBy gives a block of one of the sources that covers an address.
	BlockedBy(addr netip.Addr, now time.Time, sources []string) (control.Block, bool)
	// covering gives all blocks that cover an address.
	covering(addr netip.Addr, now time.Time) []control.Block
	// attach makes the handler's own tables known until detach.
	attach(b *Blocklist)
	detach(b *Blocklist)
}

// sparer is a service that blocks networks for what some of those who share them
// do, and itself tells the others apart.
type sparer interface {
	// Spares tells that the block of that source must not close the address
	// altogether.
	Spares(source string, addr netip.Addr, now time.Time) bool
}

// Module describes the handler.
func (*Blocklist) Module() core.Info {
	return core.Info{
		ID:             "handler.blocklist",
		Looks:          []string{"file"},
		Stages:         mail.AtConnect | mail.AtAuth,
		StageAttribute: true,
		DefaultStages:  mail.AtConnect,
		New:            func() core.Module { return new(Blocklist) },
	}
}

// Provision finds the blocks.
func (b *Blocklist) Provision(c *core.Context) error {
	blocks, err := core.Service[blocker](c)
	if err != nil {
		return fmt.Errorf("find the blocks of this server: %w", err)
	}
	b.blocks, b.users = blocks, core.Services[sparer](c)
	b.now, b.user, b.hostname = c.Now(), c.User(), c.Hostname()
	b.place, b.trial = c.Listener()+"/"+c.Name(), c.Trial()
	if b.File == "" {
		return nil
	}
	b.File = c.Path(b.File)
	if b.file, err = shareFile(c, b.File); err != nil {
		return fmt.Errorf("share %s: %w", b.File, err)
	}
	return nil
}

// Validate reads the file.
func (b *Blocklist) Validate() core.Problems {
	var problems core.Problems
	for _, n := range b.Networks {
		if n.Bits() == 0 {
			problems.Errorf("networks", "%s is the whole internet: nobody could connect any more", n)
		}
		b.networks.add(normal(n))
	}
	b.networks.finish()
	for _, source := range b.Sources {
		if err := checkSource(source); err != nil {
			problems.Errorf("sources", "%v", err)
		}
	}
	if b.file == nil {
		b.asked = b.describeAsked()
		return problems
	}
	networks, err := b.file.networks()
	if err != nil {
		problems.Errorf("file", "%v", err)
		return problems
	}
	b.fileList = networks
	b.asked = b.describeAsked()
	if err := b.user.CheckReadable(b.File); err != nil {
		problems.Warnf("file", "user %s, who the server becomes, cannot read %s at a reload: %v", b.user.Name, b.File, err)
	}
	return problems
}

// Start makes the tables of the settings known to those who ask why an address is
// blocked.
func (b *Blocklist) Start() error {
	b.started = b.now().UTC()
	if !b.trial {
		b.blocks.attach(b)
	}
	return nil
}

// Cleanup undoes Start. A handler that could not be provisioned has no service.
func (b *Blocklist) Cleanup() error {
	if b.blocks != nil {
		b.blocks.detach(b)
	}
	return nil
}

// Handle refuses a client that is blocked.
func (b *Blocklist) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return mail.Continue("the client has no address"), nil
	}
	if n, ok := b.allowed(addr); ok {
		return mail.Continue(fmt.Sprintf("%s is in %s, which the settings allow", addr, n)), nil
	}
	if n, ok := b.networks.find(addr); ok {
		return b.refuse(tx.Stage, fmt.Sprintf("%s is blocked by the settings", n)), nil
	}
	if n, ok := b.fileList.find(addr); ok {
		return b.refuse(tx.Stage, fmt.Sprintf("%s is blocked by the file %s", n, b.File)), nil
	}
	now := b.now()
	block, ok := b.blocks.BlockedBy(addr, now, b.Sources)
	if !ok {
		return mail.Continue(b.notBlocked(tx.Stage, addr)), nil
	}
	if b.spared(block.Source, addr, now) {
		spared := block
		if block, ok = b.other(addr, now); !ok {
			return mail.Continue(describe(spared) + "; not refused here, since users have logged in from this address lately"), nil
		}
	}
	return b.refuse(tx.Stage, fmt.Sprintf("%s; see: mox-like blocklist why %s", describe(block), addr)), nil
}

// notBlocked says what an address was held against. That is written once for
// clients that connect, whose addresses are in the trace anyway.
func (b *Blocklist) notBlocked(stage mail.Stage, addr netip.Addr) string {
	if stage == mail.StageConnect {
		return b.asked
	}
	return addr.String() + " is " + b.asked
}

// describeAsked says against what addresses are held, and how many networks that has
// where they are the handler's own.
func (b *Blocklist) describeAsked() string {
	text := "not blocked, by any source"
	if len(b.Sources) > 0 {
		text = "not blocked, by " + strings.Join(b.Sources, ", ")
	}
	if len(b.Networks) > 0 {
		text += fmt.Sprintf(", by the settings (%d)", len(b.Networks))
	}
	if b.File != "" {
		text += fmt.Sprintf(", by the file %s (%d)", b.File, b.fileList.len())
	}
	return mail.Printable(text, maxAsked)
}

// maxAsked leaves room for an address in a reason.
const maxAsked = 400

func (b *Blocklist) spared(source string, addr netip.Addr, now time.Time) bool {
	return slices.ContainsFunc(b.users, func(s sparer) bool { return s.Spares(source, addr, now) })
}

// other gives a block that counts and that nobody spares the address.
func (b *Blocklist) other(addr netip.Addr, now time.Time) (control.Block, bool) {
	all := b.blocks.covering(addr, now)
	i := slices.IndexFunc(all, func(o control.Block) bool { return heeded(o.Source, b.Sources) && !b.spared(o.Source, addr, now) })
	if i < 0 {
		return control.Block{}, false
	}
	return all[i], true
}

// describe says who blocks what, why, and for how long.
func describe(b control.Block) string {
	text := fmt.Sprintf("%s is blocked by %s", b.Network, b.Source)
	if !b.Expires.IsZero() {
		text += " until " + b.Expires.UTC().Format(time.RFC3339)
	}
	if b.Reason != "" {
		text += ": " + b.Reason
	}
	return text
}

// refuse answers by action. A refusal at the auth stage must not look like a
// wrong password, for which a client would ask its user.
func (b *Blocklist) refuse(stage mail.Stage, reason string) mail.Verdict {
	text := "Your network is blocked here; if this is a mistake, tell postmaster@" + b.hostname + " from elsewhere"
	if b.Action == "reject" {
		return mail.Reject(mail.NewReply(554, 7, 1, text), reason)
	}
	code := 421
	if stage == mail.StageAuth {
		code = 454
	}
	return mail.Defer(mail.NewReply(code, 7, 0, text), reason)
}

var (
	_ core.Provisioner = (*Blocklist)(nil)
	_ core.Validator   = (*Blocklist)(nil)
	_ core.Starter     = (*Blocklist)(nil)
	_ core.Cleaner     = (*Blocklist)(nil)
	_ core.Handler     = (*Blocklist)(nil)
)
