// Package blocklist keeps networks from which nobody may connect.
//
// service.blocklist holds the blocks: those that are added one by one, by the
// operator or by handlers such as bruteforce, and whole lists that are imported,
// with an end or without. Several sources may block the same network. All of
// them are in the database, a row for a single block and a row for each 8192
// networks of a list, and in memory, where a look-up takes well under a
// microsecond and no lock. A change is durable, then visible, before its call
// returns. A block that has ended counts at no time after; its row goes later.
//
// handler.blocklist refuses clients by these blocks and by those of its settings,
// which it makes known to the service while it is started. It knows nothing of why
// somebody is blocked.
package blocklist

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func init() {
	core.Register(new(Service))
	core.Register(new(Blocklist))
}

// Bounds of what a block says, in bytes.
const (
	maxSource = 64
	maxText   = 1024
)

// Service is service.blocklist. It is safe for concurrent use once started.
type Service struct {
	store *store.Store
	now   func() time.Time
	// importing is held by the one who imports, since a list takes much memory
	// meanwhile.
	importing chan struct{}
	// view is replaced by the writer of the store alone, after its commits and in
	// their order.
	view   atomic.Pointer[view]
	others []withholder

	mu       sync.Mutex
	handlers []*Blocklist // guarded by mu, those that are started
}

// Module describes the service.
func (*Service) Module() core.Info {
	return core.Info{ID: "service.blocklist", New: func() core.Module { return new(Service) }}
}

// Provision takes the store and the clock.
func (s *Service) Provision(c *core.Context) error {
	s.store, s.now, s.importing = c.Store(), c.Now(), make(chan struct{}, 1)
	s.others = core.Services[withholder](c)
	s.view.Store(newView())
	return nil
}

// Start reads all blocks.
func (s *Service) Start() error {
	v, err := load(context.Background(), s.store, s.now())
	if err != nil {
		return fmt.Errorf("read blocklist: %w", err)
	}
	s.view.Store(v)
	return nil
}

// Blocked gives a block that covers an address now, the most specific single one
// or else one of a list.
func (s *Service) Blocked(addr netip.Addr, now time.Time) (control.Block, bool) {
	return s.BlockedBy(addr, now, nil)
}

// BlockedBy is Blocked for the blocks of some sources; none stands for all.
func (s *Service) BlockedBy(addr netip.Addr, now time.Time, sources []string) (control.Block, bool) {
	return s.view.Load().find(addr.Unmap().WithZone(""), now, sources)
}

// AddBlock blocks a network, and replaces the block that it has from the same
// source. The source is admin if b has none; b.Created is not looked at.
func (s *Service) AddBlock(ctx context.Context, b control.Block) error {
	if b.Source == "" {
		b.Source = control.SourceAdmin
	}
	b.Created = s.now().UTC()
	if err := s.check(&b); err != nil {
		return control.Invalid(fmt.Errorf("block %s: %w", b.Network, err))
	}
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		tx.AfterCommit(func() { s.view.Store(s.view.Load().with(&b)) })
		return insert(tx, &b)
	})
	if err != nil {
		return fmt.Errorf("block %s: %w", b.Network, err)
	}
	return nil
}

// check brings a block into normal form.
func (s *Service) check(b *control.Block) error {
	if !b.Network.IsValid() {
		return errNoNetwork
	}
	b.Network = normal(b.Network)
	if b.Network.Bits() == 0 {
		return errEverything
	}
	if err := checkEnd(b.Expires, s.now()); err != nil {
		return err
	}
	b.Reason, b.Evidence = mail.Printable(b.Reason, maxText), mail.Printable(b.Evidence, maxText)
	return checkSource(b.Source)
}

func checkEnd(expires, now time.Time) error {
	if !live(expires, now) {
		return fmt.Errorf("it would have ended at %s already: give a time to come, or none", expires.UTC().Format(time.RFC3339))
	}
	return nil
}

func checkSource(source string) error {
	if source == "" || len(source) > maxSource || mail.Printable(source, maxSource) != source || strings.ContainsAny(source, " \t") {
		return fmt.Errorf("the source is %q: give a word of at most %d bytes", mail.Printable(source, maxSource), maxSource)
	}
	return nil
}

// RemoveBlock ends the blocks of exactly that network, from all sources, and
// tells how many there were. What other services hold against the network is
// forgotten too, which does not count. store.ErrNotFound says that there was
// nothing of both; the error names a wider network if one is blocked.
func (s *Service) RemoveBlock(ctx context.Context, network netip.Prefix) (removed int, err error) {
	if !network.IsValid() {
		return 0, control.Invalid(fmt.Errorf("unblock network: %w", errNoNetwork))
	}
	network = normal(network)
	err = s.store.Write(ctx, func(tx *store.Tx) (err error) {
		if removed, err = remove(tx, network); err == nil && removed > 0 {
			tx.AfterCommit(func() { s.view.Store(s.view.Load().withoutNetwork(network)) })
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("unblock %s: %w", network, err)
	}
	forgotten := false
	for _, other := range s.others {
		found, err := other.ForgetNetwork(ctx, network)
		if err != nil {
			return removed, fmt.Errorf("unblock %s: %w", network, err)
		}
		forgotten = forgotten || found
	}
	if removed == 0 && !forgotten {
		return 0, fmt.Errorf("unblock %s: %s: %w", network, s.hint(network), store.ErrNotFound)
	}
	return removed, nil
}

// hint says what might have been meant by a network of which there is no block.
func (s *Service) hint(network netip.Prefix) string {
	for _, b := range s.why(network.Addr()) {
		switch {
		case b.Network == network:
			return fmt.Sprintf("it is blocked by the %s: take it out there", b.Source)
		case b.Network.Bits() < network.Bits():
			return fmt.Sprintf("it is blocked only as a part of %s, by %s", b.Network, b.Source)
		}
	}
	return "it is not blocked"
}

// Blocks lists the blocks by network, those of IPv4 first, and by source, and
// gives the After of the next page, "" at the end.
func (s *Service) Blocks(ctx context.Context, p control.Page) (found []control.Block, next string, err error) {
	from, behind, err := parseAfter(p.After)
	if err != nil {
		return nil, "", control.Invalid(fmt.Errorf("list blocks: %w", err))
	}
	limit := p.Limit
	if limit <= 0 || limit > control.MaxPage {
		limit = control.MaxPage
	}
	now := s.now()
	found, err = single(ctx, s.store, from, behind, now, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list blocks: %w", err)
	}
	for _, i := range s.view.Load().imports {
		if !live(i.expires, now) {
			continue
		}
		for _, n := range i.networks.behind(from, limit+2) { // one may be that before
			if n != from || i.source > behind {
				found = append(found, i.block(n))
			}
		}
	}
	slices.SortFunc(found, compare)
	if len(found) > limit {
		found = found[:limit]
		last := found[limit-1]
		next = last.Network.String() + " " + last.Source
	}
	return found, next, nil
}

// compare orders blocks by network and source.
func compare(a, b control.Block) int {
	if c := slices.Compare(key(a.Network), key(b.Network)); c != 0 {
		return c
	}
	return strings.Compare(a.Source, b.Source)
}

// parseAfter reads the network and the source with which a page ended.
func parseAfter(after string) (netip.Prefix, string, error) {
	if after == "" {
		return netip.Prefix{}, "", nil
	}
	network, source, _ := strings.Cut(after, " ")
	from, err := netip.ParsePrefix(network)
	if err != nil {
		return netip.Prefix{}, "", fmt.Errorf("%q is not where a page has ended", mail.Printable(after, maxText))
	}
	return normal(from), source, nil
}

// ImportBlocks reads a network a line, see parseList, and puts them in the place
// of all that the source had; the zero time means no end. It tells how many
// networks are blocked now: what another network of the list covers is not
// counted. An error names the line, and nothing has changed then. One import waits
// for another; see maxNetworks for what a long list costs.
func (s *Service) ImportBlocks(ctx context.Context, source string, r io.Reader, expires time.Time) (added int, err error) {
	if err := checkSource(source); err != nil {
		return 0, control.Invalid(fmt.Errorf("import blocks: %w", err))
	}
	now := s.now().UTC()
	if err := checkEnd(expires, now); err != nil {
		return 0, control.Invalid(fmt.Errorf("import blocks of %s: %w", source, err))
	}
	select {
	case s.importing <- struct{}{}:
		defer func() { <-s.importing }()
	case <-ctx.Done():
		return 0, fmt.Errorf("import blocks of %s: wait for another import to end: %w", source, ctx.Err())
	}
	networks, err := parseList(ctx, r)
	if err != nil {
		return 0, fmt.Errorf("import blocks of %s: %w", source, err)
	}
	list := &imported{source: source, created: now, expires: expires, networks: networks}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		tx.AfterCommit(func() { s.view.Store(s.view.Load().withImport(list)) })
		return replace(tx, list)
	})
	if err != nil {
		return 0, fmt.Errorf("import blocks of %s: %w", source, err)
	}
	return networks.len(), nil
}

// Measure gives how many networks are blocked.
func (s *Service) Measure() []core.Figure {
	single, lists := s.view.Load().count()
	return []core.Figure{
		{Name: "networks", Help: "Networks that are blocked one by one.", Value: float64(single)},
		{Name: "imported_networks", Help: "Networks that imported lists block.", Value: float64(lists)},
	}
}

var (
	_ core.Provisioner = (*Service)(nil)
	_ core.Migrator    = (*Service)(nil)
	_ core.Starter     = (*Service)(nil)
	_ core.Sweeper     = (*Service)(nil)
	_ core.Measurer    = (*Service)(nil)
)
