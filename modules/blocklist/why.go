package blocklist

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/control"
)

// withholder is a service that keeps clients waiting by itself, without a block.
type withholder interface {
	// Withheld gives what keeps an address waiting now, in the form of blocks.
	Withheld(addr netip.Addr, now time.Time) []control.Block
	// ForgetNetwork forgets what is held against exactly that network, and tells
	// whether there was anything.
	ForgetNetwork(ctx context.Context, network netip.Prefix) (forgotten bool, err error)
}

// attach makes the tables of a handler known until detach is called.
func (s *Service) attach(b *Blocklist) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers = append(s.handlers, b)
}

// detach forgets a handler, also one that was never attached.
func (s *Service) detach(b *Blocklist) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers = slices.DeleteFunc(s.handlers, func(o *Blocklist) bool { return o == b })
}

func (s *Service) attached() []*Blocklist {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.handlers)
}

// WhyBlocked gives all that blocks an address, the most specific first: the blocks
// of the service, the tables in the settings of the handlers that are started, and
// what other services hold against it. Its evidence says which handlers have an
// exception for the address.
func (s *Service) WhyBlocked(_ context.Context, addr netip.Addr) ([]control.Block, error) {
	if !addr.IsValid() {
		return nil, control.Invalid(errors.New("find blocks: there is no address to look for"))
	}
	return s.why(addr.Unmap().WithZone("")), nil
}

func (s *Service) why(addr netip.Addr) []control.Block {
	now, handlers := s.now(), s.attached()
	found := s.view.Load().why(addr, now)
	for _, h := range handlers {
		for _, b := range h.tables(addr) {
			if !slices.ContainsFunc(found, func(o control.Block) bool { return o.Network == b.Network && o.Source == b.Source }) {
				found = append(found, b)
			}
		}
	}
	for i := range found {
		excepted(&found[i], handlers, addr)
	}
	for _, other := range s.others {
		found = append(found, other.Withheld(addr, now)...)
	}
	slices.SortStableFunc(found, func(a, b control.Block) int { return b.Network.Bits() - a.Network.Bits() })
	return found
}

// covering gives the blocks of the service that cover an address, without what
// stands in settings.
func (s *Service) covering(addr netip.Addr, now time.Time) []control.Block {
	return s.view.Load().why(addr, now)
}

// excepted notes which of the handlers that heed a block have an exception for the
// address.
func excepted(block *control.Block, handlers []*Blocklist, addr netip.Addr) {
	var told []string
	for _, h := range handlers {
		n, ok := h.allowed(addr)
		if !ok || !h.heeds(block.Source) || slices.Contains(told, h.place) {
			continue
		}
		told = append(told, h.place)
		if block.Evidence != "" {
			block.Evidence += "; "
		}
		block.Evidence += "not refused by " + h.place + ", whose allow has " + n.String()
	}
}

// sourceSettings and sourceFile begin the sources of what a handler blocks by its
// own settings. No other source has a space.
const (
	sourceSettings = "settings of "
	sourceFile     = "file "
)

// tables gives what the handler blocks of an address by its own settings.
func (b *Blocklist) tables(addr netip.Addr) (found []control.Block) {
	if n, ok := b.networks.find(addr); ok {
		found = append(found, control.Block{Network: n, Source: sourceSettings + b.place, Reason: "in networks of the configuration", Created: b.started})
	}
	if n, ok := b.fileList.find(addr); ok {
		found = append(found, control.Block{Network: n, Source: sourceFile + b.File, Reason: "in a file that the configuration names", Created: b.started})
	}
	return found
}

// heeds tells whether the handler refuses by what comes from a source.
func (b *Blocklist) heeds(source string) bool {
	switch {
	case source == sourceSettings+b.place, b.File != "" && source == sourceFile+b.File:
		return true
	case checkSource(source) != nil: // the settings of another
		return false
	default:
		return heeded(source, b.Sources)
	}
}

// allowed gives the exception that the settings have for an address.
func (b *Blocklist) allowed(addr netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(b.Allow, func(n netip.Prefix) bool { return n.Contains(addr) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return b.Allow[i], true
}
